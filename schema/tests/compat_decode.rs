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
