//! Entry points for fuzzers: any bytes in, a panic out if a promise is broken.
//!
//! A pair of texts is split at its first zero byte: a schema, then what is encoded or decoded by
//! it, or another schema.

use crate::avro::Schema;
use crate::compat::{Reader, Report, Severity, Verdict, changes, check, gate, lint};
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

/// What is encoded is valid and has a JSON text; where that is encoded in turn (see
/// [`crate::decode`] for what is not), it reads the same again.
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

/// Any two schemas are judged, and what is said of them agrees with itself.
pub fn fuzz_pair(data: &[u8]) {
    let Some(at) = data.iter().position(|byte| *byte == 0) else {
        return;
    };
    let (first, second) = data.split_at(at);
    let parse = |bytes| Schema::parse(std::str::from_utf8(bytes).ok()?, &[]).ok();
    let (Some(a), Some(b)) = (parse(first), parse(second.get(1..).unwrap_or_default())) else {
        return;
    };
    for (reader, writer) in [(&a, &b), (&b, &a), (&a, &a), (&b, &b)] {
        let report = check(reader, writer);
        assert_eq!(gate(reader, writer).verdict, report.verdict);
        agrees_with_itself(&report);
        let _ = changes(writer, reader);
        let _ = lint(reader, Some(writer));
        // A datum that is made of nothing but zeros: often a value, never a panic.
        let _ = Reader::new(reader, writer).read(&[0; 64]);
    }
}

fn agrees_with_itself(report: &Report) {
    let gates = report.findings.iter().filter(|one| one.severity() == Severity::Gate).count();
    match report.verdict {
        Verdict::Compatible => assert_eq!(gates, 0),
        Verdict::Incompatible => assert!(!report.findings.is_empty()),
        Verdict::Undecided(_) => assert!(report.findings.is_empty()),
    }
    for finding in &report.findings {
        assert!(finding.location.starts_with('/') && !finding.message.is_empty());
        assert!(!finding.help.reader.is_empty() && !finding.help.writer.is_empty());
        assert!(finding.reader.line > 0 && finding.writer.line > 0);
    }
}

fn plan_and_rest(data: &[u8]) -> Option<(Plan, &[u8])> {
    let at = data.iter().position(|byte| *byte == 0)?;
    let (schema, rest) = data.split_at(at);
    let schema = Schema::parse(std::str::from_utf8(schema).ok()?, &[]).ok()?;
    let plan = Plan::compile(&schema, &EncodeOptions::default()).ok()?;
    Some((plan, rest.get(1..)?))
}
