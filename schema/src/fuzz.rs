//! Entry points for fuzzers: any bytes in, a panic out if a promise is broken.
//!
//! A pair of texts is split at its first zero byte: a schema, then what is encoded or decoded by
//! it.

use crate::avro::Schema;
use crate::encode::{EncodeOptions, Plan};

/// No schema text panics, and a parsed schema parses again from its canonical form.
pub fn fuzz_schema_parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(schema) = Schema::parse(text, &[]) else {
        return;
    };
    let _ = schema.default_faults();
    let canonical = schema.canonical_form();
    // A namespace may hold what a JSON string cannot hold unescaped; the canonical form escapes
    // nothing.
    if let Ok(again) = Schema::parse(&canonical, &[]) {
        assert_eq!(again.canonical_form(), canonical);
    }
}

/// What is encoded is valid, and its JSON text is encoded to the same bytes.
pub fn fuzz_encode(data: &[u8]) {
    let Some((plan, json)) = plan_and_rest(data) else {
        return;
    };
    let Ok(json) = std::str::from_utf8(json) else {
        return;
    };
    let mut bytes = vec![0xAA];
    match plan.encode(json, &mut bytes) {
        Ok(()) => {}
        Err(errors) => {
            assert_eq!(bytes, [0xAA], "an error leaves the output as it was");
            assert!(!errors.as_slice().is_empty() && !errors.to_string().is_empty());
            assert!(!errors.redacted().is_empty());
            return;
        }
    }
    let bytes = bytes.get(1..).unwrap_or_default();
    assert_eq!(plan.validate(bytes), Ok(()));
    let mut text = String::new();
    assert_eq!(plan.decode(bytes, &mut text), Ok(()));
    let mut again = Vec::new();
    if plan.encode(&text, &mut again).is_ok() {
        let mut text_again = String::new();
        assert_eq!(plan.decode(&again, &mut text_again), Ok(()));
        assert_eq!(text_again, text);
    }
}

/// No bytes panic, and decoding and validating agree.
pub fn fuzz_decode(data: &[u8]) {
    let Some((plan, avro)) = plan_and_rest(data) else {
        return;
    };
    let mut text = String::new();
    let decoded = plan.decode(avro, &mut text);
    assert_eq!(decoded, plan.validate(avro));
    if decoded.is_ok() {
        let mut bytes = Vec::new();
        let _ = plan.encode(&text, &mut bytes);
    } else {
        assert!(text.is_empty());
    }
}

fn plan_and_rest(data: &[u8]) -> Option<(Plan, &[u8])> {
    let at = data.iter().position(|byte| *byte == 0)?;
    let (schema, rest) = data.split_at(at);
    let schema = Schema::parse(std::str::from_utf8(schema).ok()?, &[]).ok()?;
    let plan = Plan::compile(&schema, &EncodeOptions::default()).ok()?;
    Some((plan, rest.get(1..)?))
}
