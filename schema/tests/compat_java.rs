//! Random pairs with the answers of Java Avro 1.12.1, as `java/Judge.java` gave them: aliases and
//! namespaces in odd combinations, unions in any order, recursive types, defaults that do not fit,
//! types that are written out twice, names that are none.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use walpost_schema::avro::Schema;
use walpost_schema::compat::{Code, Reader, Severity, check};

fn rows() -> impl Iterator<Item = Value> {
    include_str!("java/pairs.jsonl").lines().map(|line| serde_json::from_str(line).unwrap())
}

fn schema(row: &Value, side: &str) -> Option<Schema> {
    Schema::parse(row[side].as_str().unwrap(), &[]).ok()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn random_pairs_have_javas_verdict_codes_locations_messages_and_order() {
    let (mut judged, mut refused, mut ambiguous) = (0, 0, 0);
    for row in rows() {
        let (reader, writer) = match (schema(&row, "reader"), schema(&row, "writer")) {
            (Some(reader), Some(writer)) if row["refused"].is_null() => (reader, writer),
            (Some(_), Some(_)) => panic!("Java refuses {row}"),
            _ => {
                assert!(row["refused"].is_string(), "we refuse {row}");
                refused += 1;
                continue;
            }
        };
        let report = check(&reader, &writer);
        if row["ambiguous"] == true {
            assert!(!report.is_compatible(), "{row}");
            assert_eq!(report.findings[0].code, Code::AmbiguousAlias, "{row}");
            ambiguous += 1;
            continue;
        }
        let gate = report.findings.iter().filter(|one| one.severity() == Severity::Gate);
        let found: Value =
            gate.map(|one| json!([one.code.as_str(), one.location, one.message])).collect();
        assert_eq!((&found, report.is_compatible()), (&row["findings"], row["compatible"] == true));
        judged += 1;
    }
    println!("{judged} pairs judged, {ambiguous} ambiguous, {refused} refused, as in Java");
    assert_eq!((judged, ambiguous, refused), (458, 6, 18));
}

#[test]
fn what_java_cannot_read_was_found_and_what_it_reads_was_not_called_unreadable() {
    let (mut failed, mut failed_in_both, mut read) = (0, 0, 0);
    for row in rows().filter(|row| row["compatible"] == true) {
        let (reader, writer) = (schema(&row, "reader").unwrap(), schema(&row, "writer").unwrap());
        let is_found = check(&reader, &writer).has(Severity::Decode);
        if let Some(hex) = row["fails"].as_str() {
            assert!(is_found, "{row}");
            // Java makes all defaults before it reads the first datum; ours those that it needs.
            let ours = Reader::new(&reader, &writer).read(&unhex(hex));
            failed_in_both += u32::from(ours.is_err());
            failed += 1;
        } else if row["reads"] == true {
            assert!(!is_found, "{row}");
            read += 1;
        }
    }
    println!("{failed} fail in Java and were found, {failed_in_both} of them in both; {read} read");
    assert_eq!((failed, read), (78, 120));
    assert!(failed_in_both > 60, "{failed_in_both}");
}
