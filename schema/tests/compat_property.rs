//! What must hold for any two schemas, shown on random ones: the seed is fixed and printed.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[allow(dead_code, reason = "no binary uses all of it")]
mod support;

use std::collections::BTreeMap;

use apache_avro::reader::datum::GenericDatumReader;
use support::pairs::random_pair;
use support::random::Random;
use walpost_schema::avro::Schema;
use walpost_schema::compat::{
    Code, Direction, Level, Reader, Severity, Verdict, against, check, gate,
};
use walpost_schema::encode::{EncodeOptions, Plan};

const SEED: u64 = 20_261_121;
const PAIRS: u32 = 10_000;

/// What `apache-avro` 0.22 does otherwise than Java, by the text of its error. Anything else fails.
const KNOWN_ERRORS: &[(&str, &str)] = &[
    ("Missing field in record: \"renamed", "it does not look for a field by the reader's aliases"),
    ("too small to hold decimal values", "it compares the bytes of a decimal with the precision"),
    ("Could not find matching type in UnionSchema", "it looks for a branch by the value"),
    ("Expected Value::Bytes, got: Decimal", "the same: bytes stand before the decimal in a union"),
    ("got: Null", "it fits a default to the first branch of a union only"),
    ("Value::Bytes or Value::Fixed, got: Uuid", "the same: string stands before the uuid"),
];

/// The level engine by itself, for a history of one version.
fn meets(level: Level, new: &Schema, old: &Schema) -> bool {
    against(level, 1).iter().all(|pair| match pair.direction {
        Direction::NewReadsOld => gate(new, old).is_compatible(),
        Direction::OldReadsNew => gate(old, new).is_compatible(),
    })
}

#[test]
fn full_is_backward_and_forward_and_every_schema_reads_itself() {
    println!("seed {SEED}");
    let mut random = Random::new(SEED);
    let mut counts = BTreeMap::new();
    for _ in 0..PAIRS {
        let pair = random_pair(&mut random);
        let (Ok(old), Ok(new)) =
            (Schema::parse(&pair.writer_schema, &[]), Schema::parse(&pair.reader_schema, &[]))
        else {
            *counts.entry("no schema").or_insert(0u32) += 1;
            continue;
        };
        let (backward, forward) =
            (meets(Level::Backward, &new, &old), meets(Level::Forward, &new, &old));
        assert_eq!(meets(Level::Full, &new, &old), backward && forward);
        assert_eq!(meets(Level::FullTransitive, &new, &old), backward && forward);
        assert!(meets(Level::None, &new, &old));
        let word = match (backward, forward) {
            (true, true) => "full",
            (true, false) => "backward only",
            (false, true) => "forward only",
            (false, false) => "neither",
        };
        *counts.entry(word).or_insert(0) += 1;
        for schema in [&old, &new] {
            let report = check(schema, schema);
            assert_eq!(report.verdict, Verdict::Compatible, "{}", schema.text());
            assert_eq!(report.findings, [], "{}", schema.text());
        }
    }
    println!("{counts:?}");
    assert!(counts["full"] > 500 && counts["neither"] > 500, "{counts:?}");
}

#[test]
fn what_is_compatible_and_without_decode_finding_is_read_by_any_reader() {
    println!("seed {SEED}");
    let mut random = Random::new(SEED + 1);
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut known: BTreeMap<&str, u32> = BTreeMap::new();
    let mut unknown: BTreeMap<String, String> = BTreeMap::new();
    for run in 0..PAIRS {
        let pair = random_pair(&mut random);
        let (Ok(writer), Ok(reader)) =
            (Schema::parse(&pair.writer_schema, &[]), Schema::parse(&pair.reader_schema, &[]))
        else {
            *counts.entry("no schema").or_default() += 1;
            continue;
        };
        let mut json = String::new();
        if pair.writer.datum(&mut random, &mut json).is_none() {
            *counts.entry("no value").or_default() += 1;
            continue;
        }
        let plan = Plan::compile(&writer, &EncodeOptions::default()).unwrap();
        let mut bytes = Vec::new();
        plan.encode(&json, &mut bytes).unwrap();
        let report = check(&reader, &writer);
        let is_sure = report.is_compatible() && !report.has(Severity::Decode);
        let ours = Reader::new(&reader, &writer).read(&bytes);
        let shown = || {
            let (reader, writer) = (&pair.reader_schema, &pair.writer_schema);
            format!("run {run}\nreader {reader}\nwriter {writer}\ndatum {json}")
        };
        if !is_sure {
            let word = if ours.is_ok() { "refused, this value fits" } else { "refused" };
            *counts.entry(word).or_default() += 1;
            continue;
        }
        if let Err(error) = ours {
            panic!("ours: {error}\n{}", shown());
        }
        *counts.entry("read").or_default() += 1;
        if let Err(error) = theirs(&pair.reader_schema, &pair.writer_schema, &bytes) {
            match KNOWN_ERRORS.iter().find(|known| error.contains(known.0)) {
                Some((name, _)) => *known.entry(name).or_default() += 1,
                None => {
                    let kind: String = error.chars().take(40).collect();
                    unknown.entry(kind).or_insert_with(|| format!("{error}\n{}", shown()));
                }
            }
        }
    }
    println!("{counts:?}\nknown errors of apache-avro: {known:?}");
    let first: Vec<&String> = unknown.values().take(10).collect();
    assert!(unknown.is_empty(), "{} kinds of errors of apache-avro: {first:#?}", unknown.len());
    assert!(counts["read"] > 2_000, "{counts:?}");
}

fn theirs(reader: &str, writer: &str, bytes: &[u8]) -> Result<(), String> {
    let parse = |text| apache_avro::Schema::parse_str(text).map_err(|error| error.to_string());
    let (reader, writer) = (parse(reader)?, parse(writer)?);
    let datum = GenericDatumReader::builder(&writer).reader_schema(&reader).build();
    let mut rest = bytes;
    datum.map_err(|error| error.to_string())?.read_value(&mut rest).map_err(|e| e.to_string())?;
    Ok(())
}

#[test]
fn a_gate_finding_is_never_raised_for_a_pair_of_every_promotion_by_itself() {
    let names = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
    let promotes = [
        ("int", "long"),
        ("int", "float"),
        ("int", "double"),
        ("long", "float"),
        ("long", "double"),
        ("float", "double"),
        ("string", "bytes"),
        ("bytes", "string"),
    ];
    for writer in names {
        for reader in names {
            let parse = |name| Schema::parse(&format!("\"{name}\""), &[]).unwrap();
            let report = check(&parse(reader), &parse(writer));
            let expected = reader == writer || promotes.contains(&(writer, reader));
            assert_eq!(report.is_compatible(), expected, "{reader} reads {writer}");
            if !expected {
                assert_eq!(report.findings[0].code, Code::TypeMismatch);
            }
        }
    }
}
