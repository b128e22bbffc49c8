//! Reading with another schema: the rows of Java's own tests, and random pairs against
//! `apache-avro`.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[allow(dead_code, reason = "no binary uses all of it")]
mod support;

use serde_json::{Map, Value, json};
use support::{conformance, schema_text};
use walpost_schema::avro::Schema;
use walpost_schema::compat::{Datum, Reader, Severity, check};
use walpost_schema::encode::{BytesText, EncodeOptions, Plan};

fn schema(value: &Value) -> Schema {
    let text = schema_text(value);
    Schema::parse(&text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Avro's JSON encoding: branches tagged, bytes as Latin-1.
fn avro_json(datum: &Datum) -> Value {
    let latin1 = |bytes: &[u8]| -> String { bytes.iter().map(|byte| char::from(*byte)).collect() };
    match datum {
        Datum::Null => Value::Null,
        Datum::Boolean(value) => json!(value),
        Datum::Int(value) => json!(value),
        Datum::Long(value) => json!(value),
        Datum::Float(value) => json!(value),
        Datum::Double(value) => json!(value),
        Datum::Bytes(bytes) | Datum::Fixed(bytes) => json!(latin1(bytes)),
        Datum::String(text) | Datum::Enum(text) => json!(text),
        Datum::Array(items) => items.iter().map(avro_json).collect(),
        Datum::Map(members) | Datum::Record(members) => {
            let one = |(key, value): &(String, Datum)| (key.clone(), avro_json(value));
            Value::Object(members.iter().map(one).collect::<Map<_, _>>())
        }
        Datum::Union(branch, inner) => json!({branch: avro_json(inner)}),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The writer's bytes: as Java wrote them, else by our encoder.
fn bytes_of(row: &Value, writer: &Schema) -> Vec<u8> {
    if let Some(hex) = row["writer_binary_hex"].as_str() {
        return unhex(hex);
    }
    let datum = match row["datum"].as_str() {
        Some(text) => text.to_owned(),
        None => row["datum_avro_json"].to_string(),
    };
    let mut options = EncodeOptions::default();
    options.bytes = BytesText::Latin1;
    let plan = Plan::compile(writer, &options).unwrap();
    let mut bytes = Vec::new();
    plan.encode(&datum, &mut bytes).unwrap_or_else(|errors| panic!("{row}: {errors}"));
    bytes
}

/// As `toString` prints numbers and texts of the first suite.
fn expected(row: &Value) -> Option<Value> {
    if let Some(text) = row["decoded"].as_str() {
        return Some(serde_json::from_str(text).unwrap());
    }
    row.get("decoded_avro_json").filter(|value| !value.is_null()).cloned()
}

#[test]
fn every_datum_is_read_as_java_reads_it_or_fails_as_there() {
    let rows = conformance("avro-compat/decode.jsonl");
    let mut same = 0;
    for row in &rows {
        let (reader, writer) = (schema(&row["reader"]), schema(&row["writer"]));
        let bytes = bytes_of(row, &writer);
        let read = Reader::new(&reader, &writer).read(&bytes);
        let report = check(&reader, &writer);
        match expected(row) {
            Some(expected) => {
                let datum = read.unwrap_or_else(|error| panic!("{row}: {error}"));
                let ours = avro_json(&datum);
                let is_same = ours == expected
                    || ours.as_f64().is_some() && ours.as_f64() == expected.as_f64();
                // The first suite prints what is inside a branch, without its tag.
                let inner = ours.as_object().and_then(|tagged| tagged.values().next());
                assert!(is_same || inner == Some(&expected), "{row}\nours: {ours}");
            }
            None => {
                let error = read.err().unwrap_or_else(|| panic!("{row} was read"));
                assert!(row["decode_error"].is_string(), "{row}: {error}");
                let is_foreseen = !report.is_compatible() || report.has(Severity::Decode);
                assert!(is_foreseen, "{row}: nothing was said before");
            }
        }
        same += 1;
    }
    println!("{same} of {} data as in Java", rows.len());
    assert_eq!(same, 45);
}

/// What Java Avro 1.12.1 (`GenericDatumReader`) made of the same schemas and bytes: the reader's
/// branch or value, or that it throws.
#[test]
fn a_record_without_a_branch_of_its_name_is_read_by_the_structure_that_java_finds() {
    let record = |name: &str, field: &str, kind: &str| {
        format!(
            r#"{{"type":"record","name":"{name}","fields":[{{"name":"{field}","type":{kind}}}]}}"#
        )
    };
    let int = |name: &str| record(name, "x", "\"int\"");
    let ints = |name: &str| record(name, "x", r#"{"type":"array","items":"int"}"#);
    let texts = |name: &str| record(name, "x", r#"{"type":"array","items":"string"}"#);
    let default = r#"["E","null"],"default":null"#.replace("\"E\"", ENUM);
    let late = record("n.B", "z", &default);
    for (branches, writer, hex, expected) in [
        // The first that fits at first sight,
        (vec![record("n.A", "y", "\"int\""), int("m.A")], int("k.A"), "0e", Some("m.A")),
        (vec![record("n.A", "x", "\"string\""), int("m.A")], int("k.A"), "0e", Some("m.A")),
        // but of its short name the last.
        (vec![int("m.B"), int("m.A")], int("k.A"), "0e", Some("m.A")),
        (vec![int("n.A"), int("m.A"), int("m.B")], int("k.A"), "0e", Some("m.A")),
        // What lies deeper is not seen.
        (vec![texts("n.A"), ints("m.B"), ints("m.A")], ints("k.A"), "020e00", Some("m.A")),
        (vec![ints("m.A"), texts("n.A")], ints("k.A"), "020e00", None),
        // A default that Java cannot make ends it, if it comes to it.
        (vec![late.clone(), int("k.A")], int("k.A"), "0e", None),
        (vec![int("k.A"), late], int("k.A"), "0e", Some("k.A")),
    ] {
        let union = format!("[{}]", branches.join(","));
        let (reader, writer) =
            (Schema::parse(&union, &[]).unwrap(), Schema::parse(&writer, &[]).unwrap());
        let report = check(&reader, &writer);
        assert!(report.is_compatible(), "{union}");
        assert_eq!(report.has(Severity::Decode), expected.is_none(), "{union}");
        let branch = match Reader::new(&reader, &writer).read(&unhex(hex)) {
            Ok(Datum::Union(branch, _)) => Some(branch),
            Ok(other) => panic!("{union}: {other:?}"),
            Err(_) => None,
        };
        assert_eq!(branch.as_deref(), expected, "{union}");
    }
}

const ENUM: &str = r#"{"type":"enum","name":"E","symbols":["A"]}"#;

fn fixed(name: &str, more: &str) -> String {
    format!(r#"{{"type":"fixed","name":"{name}","size":1{more}}}"#)
}

fn record(name: &str, more: &str, fields: &[&str]) -> String {
    let fields = fields.join(",");
    format!(r#"{{"type":"record","name":"{name}"{more},"fields":[{fields}]}}"#)
}

fn field(name: &str, kind: &str) -> String {
    format!(r#"{{"name":"{name}","type":{kind}}}"#)
}

/// The first field that the reader then has, None where Java throws, and the decode finding.
#[track_caller]
fn first_field(reader: &str, writer: &str, hex: &str, first: Option<i32>, code: Option<&str>) {
    let (reader, writer) =
        (Schema::parse(reader, &[]).unwrap(), Schema::parse(writer, &[]).unwrap());
    let report = check(&reader, &writer);
    let decode = report.findings.iter().find(|one| one.severity() == Severity::Decode);
    assert_eq!(decode.map(|one| one.code.as_str()), code, "{}", reader.text());
    let read = match Reader::new(&reader, &writer).read(&unhex(hex)) {
        Ok(Datum::Record(fields)) => match fields.first() {
            Some((_, Datum::Int(value))) => Some(*value),
            other => panic!("{other:?}"),
        },
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    };
    assert_eq!(read, first, "{}", reader.text());
}

#[test]
fn aliases_of_fields_count_in_records_of_the_readers_full_name() {
    let x = record("k.A", "", &[&field("x", "\"int\"")]);
    let y = |more: &str| field("y", &format!(r#""int","aliases":["x"]{more}"#));
    let missed = Some("ALIAS_NOT_APPLIED");
    first_field(&record("n.A", "", &[&y("")]), &x, "0e", None, missed);
    first_field(&record("n.A", "", &[&y(r#","default":1"#)]), &x, "0e", Some(1), missed);
    let renamed = record("n.A", r#","aliases":["k.A"]"#, &[&y("")]);
    first_field(&renamed, &x, "0e", Some(7), None);
}

#[test]
fn aliases_rename_whatever_has_the_name_and_twice_unless_all_is_equal() {
    let clash = Some("ALIAS_CLASH");
    let (int, plain) = ("\"int\"", fixed("F", ""));
    let (old, new) = (fixed("G", ""), fixed("F", r#","aliases":["G"]"#));
    let union = |a: &str, b: &str| format!("[{a},{b}]");
    first_field(&union(&new, &old), &union(&old, &plain), "0007", None, clash);
    let both = |one: (&str, &str), other: (&str, &str)| {
        record("R", "", &[&field(one.0, one.1), &field(other.0, other.1)])
    };
    let (reader, writer) = (both(("a", &new), ("b", &old)), both(("b", &old), ("a", &plain)));
    first_field(&reader, &writer, "0708", None, clash);
    // Equal but for the aliases: to Java there is nothing to rename.
    let (reader, writer) = (both(("x", int), ("a", &new)), both(("x", int), ("a", &plain)));
    first_field(&reader, &writer, "0e08", Some(7), None);
    let chained = [
        field("c", r#""int","aliases":["b"]"#),
        field("b", r#""int","default":0,"aliases":["a"]"#),
    ];
    let chained = record("R", "", &[&chained[0], &chained[1]]);
    first_field(&chained, &record("R", "", &[&field("a", int)]), "0e", Some(7), None);
    // Renamed to U, and U is an alias of E: but only where the schemas are not equal by then.
    let (n, z) = (field("n", int), field("z", int));
    let h = field("h", &fixed("U", r#","aliases":["x.Y"]"#));
    let old_h = field("h", &fixed("x.Y", ""));
    let reader = record("E", r#","aliases":["U"]"#, &[&n, &h]);
    first_field(&reader, &record("E", "", &[&n, &old_h]), "0e07", Some(7), None);
    first_field(&reader, &record("E", "", &[&n, &old_h, &z]), "0e0702", None, clash);
}
