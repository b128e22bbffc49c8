//! Rows of other implementations' suites with Java's answers (`conformance/README.md`).
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[allow(dead_code, reason = "no binary uses all of it")]
mod support;

use md5::{Digest, Md5};
use sha2::Sha256;
use walpost_schema::avro::Schema;
use walpost_schema::encode::{EncodeOptions, Plan, UnknownFields};

#[test]
fn canonical_forms_and_fingerprints_are_javas() {
    let rows = support::conformance("avro-compat/canonical-form.jsonl");
    assert_eq!(rows.len(), 34);
    for row in rows {
        let text = row["schema_text"].as_str().unwrap();
        let schema = Schema::parse(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(schema.canonical_form(), row["canonical"].as_str().unwrap(), "{text}");
        let rabin = row["java_rabin64_signed"].as_str().unwrap();
        assert_eq!(schema.fingerprint().cast_signed().to_string(), rabin, "{text}");
        // The specification's other two are common hashes of the same text.
        let canonical = schema.canonical_form();
        assert_eq!(hex(&Sha256::digest(&canonical)), row["sha256_hex"], "{text}");
        assert_eq!(hex(&Md5::digest(&canonical)), row["md5_hex"], "{text}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows where allegro's converter behaves otherwise than our rules say, and why ours do.
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("AL002", "bad_bytes_encoding /field_bytes", "bytes are base64, not the UTF-8 of the text"),
    ("AL020", "type_mismatch /field/stringValue", "errors inside a nullable type are its own"),
    ("AL027", "type_mismatch /byteDecimal", "bad_decimal is no kind of ours"),
    ("AL028", "type_mismatch /byteDecimal", "the same, and the error is the nullable type's own"),
    ("AL031", "type_mismatch /date", "bad_date is no kind of ours"),
    ("AL035", "type_mismatch /time", "bad_time is no kind of ours"),
    ("AL038", "out_of_range /time", "a time of day is within the day"),
    ("AL039", "type_mismatch /time", "bad_time is no kind of ours"),
    ("AL043", "type_mismatch /datetime", "bad_timestamp is no kind of ours"),
    ("AL048", "type_mismatch /datetime", "bad_timestamp is no kind of ours"),
    ("AL051", "type_mismatch /datetime", "the error is the nullable type's own"),
];

#[test]
fn json_is_encoded_as_by_allegro_except_where_listed() {
    for row in support::conformance("json-to-avro/cases.jsonl") {
        let id = row["id"].as_str().unwrap();
        let schema = Schema::parse(&row["schema"].to_string(), &[]).unwrap();
        let mut options = EncodeOptions::default();
        if row["unknown_fields"] == "ignore" {
            options.unknown_fields = UnknownFields::Ignore;
        }
        let plan = Plan::compile(&schema, &options).unwrap();
        let mut bytes = Vec::new();
        let result = plan.encode(row["json_text"].as_str().unwrap(), &mut bytes);
        if let Some((_, expected, _)) = OTHERWISE.iter().find(|other| other.0 == id) {
            let error = &result.unwrap_err().as_slice()[0].clone();
            assert_eq!(format!("{} {}", error.kind, error.pointer), *expected, "{id}");
        } else if let Some(hex) = row["expect"]["binary_hex"].as_str() {
            result.unwrap_or_else(|errors| panic!("{id}: {errors}"));
            assert_eq!(self::hex(&bytes), hex, "{id}");
        } else {
            let kind = result.unwrap_err().as_slice()[0].kind;
            assert_eq!(kind.as_str(), row["expect"]["error_kind"].as_str().unwrap(), "{id}");
        }
    }
}
