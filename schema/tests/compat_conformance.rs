//! The checker against Java Avro 1.12.1: every row of `conformance/avro-compat`, with counts.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[allow(dead_code, reason = "no binary uses all of it")]
mod support;

use serde_json::{Value, json};
use support::{conformance, schema_text};
use walpost_schema::avro::Schema;
use walpost_schema::compat::{
    Code, Direction, Level, Report, Severity, Verdict, against, check, gate, messages,
};

fn schema(value: &Value) -> Schema {
    let text = schema_text(value);
    Schema::parse(&text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn as_in_java(report: &Report) -> Value {
    let gate = report.findings.iter().filter(|finding| finding.severity() == Severity::Gate);
    gate.map(|finding| {
        let code = finding.code.as_str();
        json!({"type": code, "location": finding.location, "message": finding.message})
    })
    .collect()
}

#[test]
fn every_pair_has_javas_verdict_codes_locations_messages_and_order() {
    let rows = conformance("avro-compat/pairs.jsonl");
    let mut same = 0;
    for row in &rows {
        let (reader, writer) = (schema(&row["reader"]), schema(&row["writer"]));
        let report = check(&reader, &writer);
        let id = row["id"].as_str().unwrap();
        assert_eq!(report.is_compatible(), row["compatible"] == true, "{id}");
        assert_eq!(as_in_java(&report), row["incompatibilities"], "{id}");
        same += 1;
        assert_eq!(gate(&reader, &writer).verdict, report.verdict, "{id}");
    }
    println!("{same} of {} pairs as in Java", rows.len());
    assert_eq!(same, 500);
}

/// Where Java throws, its message ends with the JSON of the whole schema, which is cut in ours.
const AMBIGUOUS: &str = "P0211";

#[test]
fn every_pair_has_the_texts_of_a_confluent_registry() {
    let rows = conformance("avro-compat/pairs.jsonl");
    for row in &rows {
        let report = check(&schema(&row["reader"]), &schema(&row["writer"]));
        let ours = messages(&report, Direction::NewReadsOld);
        let theirs: Vec<&str> =
            row["confluent_backward"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
        if row["id"] == AMBIGUOUS {
            let start = "Unexpected exception during compatibility check: Reader record field \
                         field1 type:STRING pos:0 matches multiple fields in writer record schema ";
            assert!(ours[0].starts_with(start) && theirs[0].starts_with(start), "{ours:?}");
            assert_eq!((ours.len(), report.findings[0].code), (1, Code::AmbiguousAlias));
            continue;
        }
        assert_eq!(ours, theirs, "{}", row["id"]);
    }
    println!("{} of {} texts as in Confluent, 1 begins as there", rows.len() - 1, rows.len());
}

/// What a registry would answer for one row of levels: findings of the first pair that fails, as
/// Confluent stops there.
fn level(row: &Value) -> (bool, Vec<String>) {
    let level: Level = row["level"].as_str().unwrap().parse().unwrap();
    let history: Vec<Schema> = row["history"].as_array().unwrap().iter().map(schema).collect();
    let new = schema(&row["new"]);
    let mut texts = Vec::new();
    for pair in against(level, history.len()) {
        let old = &history[pair.version];
        let report = match pair.direction {
            Direction::NewReadsOld => gate(&new, old),
            Direction::OldReadsNew => gate(old, &new),
        };
        texts.extend(messages(&report, pair.direction));
    }
    (texts.is_empty(), texts)
}

#[test]
fn every_level_has_the_registrys_verdict() {
    let rows = conformance("avro-compat/levels.jsonl");
    let mut same = 0;
    for row in &rows {
        let (is_compatible, texts) = level(row);
        assert_eq!(is_compatible, row["compatible"] == true, "{}: {texts:?}", row["id"]);
        same += 1;
        if let Some(errors) = row["confluent"]["errors"].as_array() {
            let theirs: Vec<&str> = errors.iter().filter_map(Value::as_str).collect();
            let theirs: Vec<&&str> =
                theirs.iter().filter(|text| text.starts_with("{errorType")).collect();
            let transitive = row["level"].as_str().unwrap().ends_with("TRANSITIVE");
            if !transitive {
                let ours: Vec<&String> = texts.iter().collect();
                assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{}", row["id"]);
            }
        }
    }
    println!("{same} of {} levels as in the registry", rows.len());
    assert_eq!(same, 189);
}

#[test]
fn every_schema_is_compatible_with_itself_at_every_severity() {
    for row in conformance("avro-compat/pairs.jsonl") {
        for side in ["reader", "writer"] {
            let schema = schema(&row[side]);
            let report = check(&schema, &schema);
            if row["id"] == AMBIGUOUS && side == "reader" {
                // Its fields have each other's names as aliases: it cannot even read itself.
                assert_eq!(report.verdict, Verdict::Incompatible);
                continue;
            }
            assert_eq!(report.verdict, Verdict::Compatible, "{} {side}", row["id"]);
            assert_eq!(report.findings, [], "{} {side}", row["id"]);
        }
    }
}

/// Rows that the gate passes and in which Java failed to decode random data nevertheless.
const FAILS_IN_JAVA: &[(&str, &str)] = &[(
    "P0159",
    "Java cannot encode the default [] of a union with an array of the very record; its own test \
     suite decodes the same pair, and so do others",
)];

#[test]
fn what_java_failed_to_decode_was_found_by_the_gate_or_as_a_decode_finding() {
    let mut decoded = 0;
    for row in conformance("avro-compat/pairs.jsonl") {
        let report = check(&schema(&row["reader"]), &schema(&row["writer"]));
        let failed = row["java_decode"]["failed"].as_u64().unwrap_or(0) > 0;
        let id = row["id"].as_str().unwrap();
        if failed && !FAILS_IN_JAVA.iter().any(|known| known.0 == id) {
            let is_found = !report.is_compatible() || report.has(Severity::Decode);
            assert!(is_found, "{id} {row}");
        }
        decoded += u32::from(row["java_decode"].is_object());
    }
    println!("{decoded} pairs with data that Java decoded or failed to");
}
