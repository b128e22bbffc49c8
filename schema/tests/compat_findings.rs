//! What a finding says beside Java's triple: both places, the path, what Java throws away, the
//! mend; and the findings that Java does not have.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use walpost_schema::avro::Schema;
use walpost_schema::compat::{Code, Finding, Report, Severity, Side, Verdict, check, lint};

fn schema(text: &str) -> Schema {
    Schema::parse(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn pair(reader: &str, writer: &str) -> Report {
    check(&schema(reader), &schema(writer))
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"shop.Order","fields":[{fields}]}}"#)
}

/// `code path: message`, one a line.
fn told(findings: &[Finding]) -> Vec<String> {
    let told = |one: &Finding| format!("{} {}: {}", one.code, one.path, one.message);
    findings.iter().map(told).collect()
}

#[track_caller]
fn only(report: &Report) -> &Finding {
    assert_eq!(report.findings.len(), 1, "{:#?}", told(&report.findings));
    &report.findings[0]
}

#[test]
fn a_finding_names_both_places_by_pointer_line_and_column_and_the_path_by_names() {
    let writer = "{\"type\": \"record\", \"name\": \"shop.Order\", \"fields\": [\n  \
        {\"name\": \"id\", \"type\": \"string\"},\n  \
        {\"name\": \"lines\", \"type\": {\"type\": \"array\", \"items\":\n    \
        {\"type\": \"record\", \"name\": \"Line\", \"fields\": [\n      \
        {\"name\": \"qty\", \"type\": \"long\"}]}}}]}";
    let reader = "{\"type\": \"record\", \"name\": \"shop.Order\", \"fields\": [\n  \
        {\"name\": \"lines\", \"type\": {\"type\": \"array\", \"items\":\n    \
        {\"type\": \"record\", \"name\": \"Line\", \"fields\": [\n      \
        {\"name\": \"qty\", \"type\": \"int\"}]}}}]}";
    let report = pair(reader, writer);
    let finding = only(&report);
    assert_eq!(finding.path, "lines[].qty");
    assert_eq!(finding.location, "/fields/0/type/items/fields/0/type");
    let at = |side| {
        let place = finding.place(side);
        (place.pointer.to_string(), place.line, place.column)
    };
    assert_eq!(at(Side::Reader), ("/fields/0/type/items/fields/0/type".to_owned(), 4, 31));
    assert_eq!(at(Side::Writer), ("/fields/1/type/items/fields/0/type".to_owned(), 5, 31));
}

#[test]
fn what_java_throws_away_in_a_union_is_kept_as_the_reason() {
    let field = |symbols: &str| {
        record(&format!(
            r#"{{"name":"status","type":["null",
            {{"type":"enum","name":"Status","symbols":[{symbols}]}}]}}"#
        ))
    };
    let report = pair(&field("\"NEW\""), &field("\"NEW\",\"PAID\""));
    let finding = only(&report);
    assert_eq!(finding.message, "reader union lacking writer type: ENUM");
    assert_eq!(finding.location, "/fields/0/type/1");
    assert_eq!(finding.because.len(), 1, "{:?}", finding.because);
    let inner = &finding.because[0];
    assert_eq!((inner.code, inner.message.as_str()), (Code::MissingEnumSymbols, "[PAID]"));
    assert_eq!(inner.path, "status<shop.Status>");
    assert_eq!(&*inner.reader.pointer, "/fields/0/type/1/symbols");
    assert!(finding.help(Side::Reader).contains("symbols PAID"), "{:?}", finding.help);
}

#[test]
fn branches_of_other_names_are_no_reason_when_one_of_the_name_is_there() {
    let union = |fields: &str| {
        format!(
            r#"["null",{{"type":"record","name":"A","fields":[{{"name":"x","type":"string"}}]}},
            {{"type":"record","name":"B","fields":[{fields}]}}]"#
        )
    };
    let two = r#"{"name":"x","type":"int"},{"name":"y","type":"int"}"#;
    let report = pair(&union(two), &union(r#"{"name":"x","type":"int"}"#));
    let because = &only(&report).because;
    assert_eq!(because.len(), 1, "{because:?}");
    assert_eq!((because[0].path.as_str(), because[0].message.as_str()), ("<B>.y", "y"));
}

#[test]
fn every_gate_finding_says_the_edit_on_either_side() {
    let union = |inner: &str| record(&format!(r#"{{"name":"f","type":{inner}}}"#));
    let rows = [
        // reader, writer, code, part of the reader's help, part of the writer's
        (union("\"int\""), union("\"string\""), Code::TypeMismatch, "keep string", "keep int"),
        (
            union("\"int\""),
            union("[\"null\",\"int\"]"),
            Code::TypeMismatch,
            "[\"null\", \"int\"]",
            "do not write null",
        ),
        (
            union(r#"{"type":"fixed","name":"F","size":8}"#),
            union(r#"{"type":"fixed","name":"F","size":4}"#),
            Code::FixedSizeMismatch,
            "\"size\": 4",
            "\"size\": 8",
        ),
        (
            union(r#"{"type":"enum","name":"E","symbols":["A"]}"#),
            union(r#"{"type":"enum","name":"E","symbols":["A","B"]}"#),
            Code::MissingEnumSymbols,
            "\"default\": \"A\"",
            "know B",
        ),
        (
            union(r#"{"type":"enum","name":"New","symbols":["A"]}"#),
            union(r#"{"type":"enum","name":"Old","symbols":["A"]}"#),
            Code::NameMismatch,
            "\"aliases\": [\"shop.Old\"]",
            "keep the name shop.New",
        ),
        (
            union("[\"null\",\"int\"]"),
            union("[\"null\",\"string\"]"),
            Code::MissingUnionBranch,
            "keep string",
            "write string only after",
        ),
        (
            record(r#"{"name":"new","type":"int"}"#),
            record(""),
            Code::ReaderFieldMissingDefaultValue,
            "add \"default\": 0 to field new",
            "keep field new",
        ),
        (
            record(r#"{"name":"new","type":["null","int"]}"#),
            record(""),
            Code::ReaderFieldMissingDefaultValue,
            "add \"default\": null to field new",
            "keep field new",
        ),
    ];
    for (reader, writer, code, for_reader, for_writer) in rows {
        let report = pair(&reader, &writer);
        let finding = only(&report);
        assert_eq!((finding.code, report.verdict), (code, Verdict::Incompatible));
        let helps = (finding.help(Side::Reader), finding.help(Side::Writer));
        assert!(helps.0.contains(for_reader), "{code}: {helps:?}");
        assert!(helps.1.contains(for_writer), "{code}: {helps:?}");
    }
}

/// What the gate passes: `code path` of the one finding that is left.
#[track_caller]
fn beyond(reader: &str, writer: &str, expected: &str) -> Report {
    let report = pair(reader, writer);
    assert!(report.is_compatible(), "{:?}", told(&report.findings));
    let found: Vec<String> = report
        .findings
        .iter()
        .map(|one| format!("{} {}", one.code, one.path).trim_end().to_owned())
        .collect();
    assert_eq!(found.join("; "), expected, "{:#?}", told(&report.findings));
    for finding in &report.findings {
        assert!(!finding.help.reader.is_empty() && !finding.help.writer.is_empty());
        assert_ne!(finding.severity(), Severity::Gate);
    }
    report
}

#[test]
fn values_that_fail_behind_the_gate_are_decode_findings() {
    let field = |inner: &str| record(&format!(r#"{{"name":"f",{inner}}}"#));
    let default = |inner: &str, expected: &str| {
        let report = beyond(&field(inner), &record(""), expected);
        assert!(report.findings.iter().all(|one| one.severity() == Severity::Decode));
    };
    default(r#""type":"int","default":5000000000"#, "DEFAULT_INVALID f");
    default(r#""type":"int","default":"x""#, "DEFAULT_INVALID f");
    default(r#""type":["null","string"],"default":1"#, "DEFAULT_INVALID f");
    default(r#""type":"boolean","default":"true""#, "DEFAULT_INVALID f");
    default(r#""type":{"type":"array","items":"int"},"default":{}"#, "DEFAULT_INVALID f");
    default(r#""type":["null","string"],"default":null"#, "");
    // The writer's own value is read: its default is not needed.
    beyond(&field(r#""type":"int","default":"x""#), &field(r#""type":"int""#), "");

    let one = |symbols: &str, name: &str| {
        format!(r#"{{"type":"enum","name":"{name}","symbols":[{symbols}]}}"#)
    };
    let both = "\"A\",\"B\"";
    // Java looks for the full name of a type in a union, not for the short one.
    let reader = field(&format!(r#""type":["null",{}]"#, one(both, "b.E")));
    beyond(
        &reader,
        &field(&format!(r#""type":{}"#, one(both, "a.E"))),
        "UNION_BRANCH_UNRESOLVED f",
    );
    // Between unions that are the same but for the namespace, it goes by position.
    beyond(&reader, &field(&format!(r#""type":["null",{}]"#, one(both, "a.E"))), "");
    let alias = r#"{"type":"enum","name":"b.E","aliases":["a.E"],"symbols":["A","B"]}"#;
    beyond(
        &field(&format!(r#""type":["null",{alias}]"#)),
        &field(&format!(r#""type":{}"#, one(both, "a.E"))),
        "",
    );
    // It takes the branch of the name and does not look for one that fits.
    beyond(
        &field(&format!(r#""type":["null",{},{}]"#, one("\"A\"", "a.E"), one(both, "b.E"))),
        &field(&format!(r#""type":["null",{}]"#, one(both, "a.E"))),
        "UNION_BRANCH_UNRESOLVED f<a.E>",
    );
    beyond(&field(r#""type":"string""#), &field(r#""type":"bytes""#), "BYTES_NOT_UTF8 f");
    beyond(&field(r#""type":"bytes""#), &field(r#""type":"string""#), "");

    let crossed = field(r#""aliases":["g"],"type":"int""#);
    let report = pair(&crossed, &record(r#"{"name":"f","type":"int"},{"name":"g","type":"int"}"#));
    let finding = only(&report);
    assert_eq!((report.verdict, finding.code), (Verdict::Incompatible, Code::AmbiguousAlias));
    assert_eq!(finding.severity(), Severity::Decode);
}

#[test]
fn an_alias_without_namespace_is_never_found_by_a_type_that_has_one() {
    let fixed = |name: &str, aliases: &str| {
        format!(r#"{{"type":"fixed","name":"{name}","aliases":[{aliases}],"size":1}}"#)
    };
    for (reader, writer, is_read) in [
        (fixed("n.New", r#"".Old""#), "Old", false),
        (fixed("n.New", r#"".Old""#), "n.Old", false),
        (fixed("n.New", r#""Old""#), "n.Old", true),
        (fixed("New", r#"".Old""#), "Old", true),
        (fixed("n.New", r#""m.Old""#), "m.Old", true),
    ] {
        let report = pair(&reader, &fixed(writer, ""));
        assert_eq!(report.is_compatible(), is_read, "{reader} {writer}");
    }
}

#[test]
fn values_that_become_others_are_meaning_findings() {
    let field = |inner: &str| record(&format!(r#"{{"name":"f","type":{inner}}}"#));
    let meaning = |reader: &str, writer: &str, expected: &str| {
        let report = beyond(&field(reader), &field(writer), expected);
        assert!(report.findings.iter().all(|one| one.severity() == Severity::Meaning));
    };
    let long = |word: &str| format!(r#"{{"type":"long","logicalType":"{word}"}}"#);
    let decimal = |precision: u32, scale: u32| {
        format!(
            r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#
        )
    };
    meaning(&long("timestamp-micros"), &long("timestamp-millis"), "LOGICAL_TYPE_CHANGED f");
    meaning("\"long\"", &long("timestamp-millis"), "LOGICAL_TYPE_CHANGED f");
    meaning(&long("money"), &long("cash"), "LOGICAL_TYPE_CHANGED f");
    meaning(&decimal(10, 3), &decimal(10, 2), "DECIMAL_SCALE_CHANGED f");
    meaning(&decimal(9, 2), &decimal(10, 2), "DECIMAL_PRECISION_NARROWED f");
    meaning(&decimal(11, 2), &decimal(10, 2), "");
    meaning(
        r#"{"type":"long","unit":"cents"}"#,
        r#"{"type":"long","unit":"euros"}"#,
        "UNIT_CHANGED f",
    );
    meaning("\"double\"", "\"long\"", "LOSSY_PROMOTION f");
    meaning("\"float\"", "\"int\"", "LOSSY_PROMOTION f");
    meaning("[\"null\",\"float\",\"long\"]", "\"int\"", "LOSSY_PROMOTION f");
    meaning("\"double\"", "\"float\"", "");
    meaning(
        r#"{"type":"enum","name":"E","symbols":["A"],"default":"A"}"#,
        r#"{"type":"enum","name":"E","symbols":["A","B"]}"#,
        "ENUM_DEFAULT_HIDES_SYMBOLS f",
    );

    let unit = |unit: &str| record(&format!(r#"{{"name":"f","type":"int","unit":"{unit}"}}"#));
    beyond(&unit("g"), &unit("kg"), "UNIT_CHANGED f");
    let one =
        |name: &str, more: &str| record(&format!(r#"{{"name":"{name}","type":"int"{more}}}"#));
    beyond(
        &one("amount_total", r#","default":0"#),
        &one("total", ""),
        "FIELD_RENAMED amount_total",
    );
    beyond(&one("a", r#","default":0,"aliases":["total"]"#), &one("total", ""), "");
}

#[test]
fn only_what_is_new_is_linted() {
    let told = |new: &str, old: Option<&str>| {
        let old = old.map(schema);
        let found = lint(&schema(new), old.as_ref());
        assert!(found.iter().all(|one| one.severity() == Severity::Hygiene));
        found.iter().map(|one| format!("{} {}", one.code, one.path)).collect::<Vec<_>>()
    };
    let old = record(r#"{"name":"order_id","type":"int"},{"name":"x","type":"int"}"#);
    let new = record(
        r#"{"name":"order_id","type":"int"},{"name":"x","type":"int"},
        {"name":"totalAmount","type":"int"},{"name":"y","type":"int","default":0,"doc":"d"}"#,
    );
    assert_eq!(
        told(&new, Some(&old)),
        ["DOC_MISSING totalAmount", "DEFAULT_MISSING totalAmount", "NAME_STYLE totalAmount"]
    );
    assert_eq!(
        told(&old, None),
        ["DOC_MISSING shop.Order", "DOC_MISSING order_id", "DOC_MISSING x"]
    );
    assert_eq!(told(&old, Some(&old)), Vec::<String>::new());
}
