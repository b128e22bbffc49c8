//! The corpora of Java's behaviour, when they are there. The crate's own cases stand elsewhere and
//! do not need them.

mod support;

use walpost_schema::avro::Schema;

#[test]
fn canonical_forms_and_fingerprints_are_javas() {
    for row in support::conformance("avro-compat/canonical-form.jsonl") {
        let text = row["schema_text"].as_str().unwrap();
        let schema = Schema::parse(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            schema.canonical_form(),
            row["canonical"].as_str().unwrap(),
            "{text}"
        );
        if let Some(rabin) = row["java_rabin64_signed"].as_str() {
            assert_eq!(
                schema.fingerprint().cast_signed().to_string(),
                rabin,
                "{text}"
            );
        }
    }
}

#[test]
fn every_schema_of_the_compatibility_corpus_parses() {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) if text.starts_with(['{', '[', '"']) => text.clone(),
        other => other.to_string(),
    };
    for row in support::conformance("avro-compat/pairs.jsonl") {
        for side in ["reader", "writer"] {
            let text = text(&row[side]);
            if let Err(error) = Schema::parse(&text, &[]) {
                panic!("{}: {text}: {error}", row["id"]);
            }
        }
    }
}
