//! Schemas that are made to be slow, deep or large: the checker ends in time and says so when it
//! could not tell.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use walpost_schema::avro::{Schema, SchemaFault};
use walpost_schema::compat::{FINDINGS_MAX, Report, Undecided, Verdict, check};

fn schema(text: &str) -> Schema {
    Schema::parse(text, &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn timed(name: &str, reader: &Schema, writer: &Schema) -> (Report, Duration) {
    let start = Instant::now();
    let report = check(reader, writer);
    let took = start.elapsed();
    println!("{name}: {took:?}");
    (report, took)
}

/// Unions of two records, each of which has a field with the next union; the innermost fields have
/// a type of their own.
fn nested_unions(depth: usize, leaf: &str) -> String {
    let mut text = format!("[\"null\",\"{leaf}\"]");
    for level in 0..depth {
        let a = format!(
            r#"{{"type":"record","name":"A{level}","fields":[{{"name":"f","type":{text}}}]}}"#
        );
        let uses = if level == 0 {
            format!("[\"null\",\"{leaf}\"]")
        } else {
            format!("[\"null\",\"A{}\",\"B{}\"]", level - 1, level - 1)
        };
        let b = format!(
            r#"{{"type":"record","name":"B{level}","fields":[{{"name":"f","type":{uses}}}]}}"#
        );
        text = format!("[\"null\",{a},{b}]");
    }
    text
}

#[test]
fn thirty_nested_unions_of_records_end_in_a_tenth_of_a_second() {
    let (int, string) = (nested_unions(30, "int"), nested_unions(30, "string"));
    let (int, string) = (schema(&int), schema(&string));
    // Others use the processor too: the best of three.
    let best = |name: &str, reader: &Schema, expected: Verdict| {
        let runs = (0..3).map(|_| {
            let (report, took) = timed(name, reader, &string);
            assert_eq!(report.verdict, expected);
            took
        });
        runs.min().unwrap()
    };
    let took = best("30 nested unions", &int, Verdict::Incompatible);
    assert!(took < Duration::from_millis(100), "{took:?}");
    let took = best("the same, equal", &string, Verdict::Compatible);
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[test]
fn findings_that_double_at_every_level_are_counted_and_not_copied() {
    let chain = |leaf: &str| {
        let mut text =
            format!(r#"{{"type":"record","name":"R0","fields":[{{"name":"a","type":"{leaf}"}}]}}"#);
        for level in 1..60 {
            let inner = level - 1;
            text = format!(
                r#"{{"type":"record","name":"R{level}","fields":[
                {{"name":"a","type":{text}}},{{"name":"b","type":"R{inner}"}}]}}"#
            );
        }
        text
    };
    let (report, took) = timed("2^59 findings", &schema(&chain("int")), &schema(&chain("string")));
    assert_eq!(report.findings.len(), FINDINGS_MAX);
    assert_eq!(report.omitted, (1 << 59) - FINDINGS_MAX as u64);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Types used before they are defined make chains that are longer than any text is deep.
fn long_chain(length: usize, leaf: &str) -> String {
    let mut text = String::from("{\"type\":\"record\",\"name\":\"Top\",\"fields\":[");
    for at in 0..length {
        let next = if at + 1 == length { leaf.to_owned() } else { format!("R{}", at + 1) };
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(
            text,
            r#"{comma}{{"name":"f{at}","type":{{"type":"record","name":"R{at}","fields":[
            {{"name":"n","type":"{next}"}}]}}}}"#
        );
    }
    text.push_str("]}");
    text
}

#[test]
fn a_chain_of_a_hundred_thousand_types_does_not_overflow_the_stack() {
    let (int, string) = (long_chain(100_000, "int"), long_chain(100_000, "string"));
    let (int, string) = (schema(&int), schema(&string));
    let (report, took) = timed("a chain of 100,000", &int, &string);
    assert_eq!(report.verdict, Verdict::Incompatible);
    // One finding, met again by each field of the top record, at half a megabyte of location each.
    let shown = report.findings.len() as u64;
    assert!((1..100).contains(&shown), "{shown}");
    assert_eq!(shown + report.omitted, 100_000);
    assert!(took < Duration::from_secs(20), "{took:?}");
    let (report, _) = timed("the same, equal", &int, &int);
    assert_eq!(report.verdict, Verdict::Compatible);
}

#[test]
fn two_thousand_levels_of_nesting_are_refused_and_nine_hundred_checked() {
    let nested = |levels: usize| {
        let open = "{\"type\":\"array\",\"items\":".repeat(levels);
        format!("{open}\"int\"{}", "}".repeat(levels))
    };
    let error = Schema::parse(&nested(2_000), &[]).unwrap_err();
    assert_eq!(error.fault(), &SchemaFault::TooDeep { limit: 1_000 });
    let deep = schema(&nested(900));
    assert_eq!(check(&deep, &deep).verdict, Verdict::Compatible);
}

#[test]
fn a_product_of_large_unions_is_undecided_and_never_compatible() {
    let union = |extra: &str| {
        let records = (0..600).map(|at| {
            format!(
                r#"{{"type":"record","name":"R{at}{extra}","fields":[
                {{"name":"a","type":"int"}}]}}"#
            )
        });
        format!("[{}]", records.collect::<Vec<_>>().join(","))
    };
    let (report, took) = timed("600 x 600 records", &schema(&union("x")), &schema(&union("")));
    assert_eq!(report.verdict, Verdict::Undecided(Undecided::TooManyPairs));
    assert!(!report.is_compatible());
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn ten_megabytes_of_schema_are_checked() {
    let fields = |kind: &str| {
        let field = |at: usize| {
            format!(r#"{{"name":"field_{at:06}","type":"{kind}","doc":"{}"}}"#, "x".repeat(170))
        };
        let fields: Vec<String> = (0..50_000).map(field).collect();
        format!(r#"{{"type":"record","name":"Wide","fields":[{}]}}"#, fields.join(","))
    };
    let (int, string) = (fields("int"), fields("string"));
    assert!(int.len() > 10_000_000, "{}", int.len());
    let (report, took) = timed("10 MB", &schema(&int), &schema(&string));
    assert_eq!((report.findings.len(), report.omitted), (FINDINGS_MAX, 40_000));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn fifty_thousand_fields_in_another_order_are_compared() {
    let record = |reverse: bool| {
        let field = |at: usize| format!(r#"{{"name":"field_{at:06}","type":"int","default":0}}"#);
        let mut fields: Vec<String> = (0..50_000).map(field).collect();
        if reverse {
            fields.reverse();
        }
        schema(&format!(r#"{{"type":"record","name":"Wide","fields":[{}]}}"#, fields.join(",")))
    };
    let (one, other) = (record(false), record(true));
    let (report, took) = timed("50,000 fields in another order", &one, &other);
    assert_eq!((report.verdict, report.findings.len()), (Verdict::Compatible, 0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(walpost_schema::compat::changes(&one, &other), []);
}
