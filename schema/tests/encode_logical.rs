//! The rules of JSON to Avro for bytes, decimals, dates, times, uuids and durations. Each row is a
//! type, a JSON text and either the bytes in hex or the errors as `kind pointer`.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[allow(dead_code, reason = "no binary uses all of it")]
mod support;

use support::rules::{check, check_with, first_error, with};
use walpost_schema::encode::BytesText;

#[test]
fn bytes_are_base64_unless_the_subject_says_otherwise() {
    check(
        "\"bytes\"",
        &[
            ("\"AAEC\"", "06000102"),
            ("\"\"", "00"),
            ("\"AAE\"", "bad_bytes_encoding "),
            ("\"é\"", "bad_bytes_encoding "),
            ("[1]", "type_mismatch "),
        ],
    );
    check_with(
        &with(|o| o.bytes = BytesText::Hex),
        "\"bytes\"",
        &[("\"00ff\"", "0400ff"), ("\"0\"", "bad_bytes_encoding ")],
    );
    check_with(
        &with(|o| o.bytes = BytesText::PostgresHex),
        "\"bytes\"",
        &[(r#""\\x00FF""#, "0400ff"), ("\"00ff\"", "bad_bytes_encoding ")],
    );
    check_with(
        &with(|o| o.bytes = BytesText::Latin1),
        "\"bytes\"",
        &[("\"aÿ\"", "0461ff"), ("\"€\"", "bad_bytes_encoding ")],
    );
}

#[test]
fn fixed_has_its_length() {
    let schema = r#"{"type":"fixed","name":"F","size":3}"#;
    check(
        schema,
        &[
            ("\"AAEC\"", "000102"),
            ("\"AAECAw==\"", "fixed_length "),
            ("\"\"", "fixed_length "),
            ("\"?\"", "bad_bytes_encoding "),
        ],
    );
    assert!(first_error(schema, "\"AAECAw==\"").contains("fixed F of 3 bytes"));
    assert!(first_error(schema, "\"AAECAw==\"").contains("4 bytes"));
}

#[test]
fn a_decimal_is_its_digits() {
    let schema = r#"{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}"#;
    check(
        schema,
        &[
            ("12.5", "0404e2"),
            ("\"12.50\"", "0404e2"),
            ("12.5000", "0404e2"),
            ("0", "0200"),
            ("-0.0", "0200"),
            ("-1.28", "0280"),
            ("1.28", "040080"),
            ("1e2", "042710"),
            ("1234.56", "0601e240"),
            ("12.345", "decimal_scale "),
            ("\"0.001\"", "decimal_scale "),
            ("12345.67", "decimal_precision "),
            ("1e999999999999", "decimal_precision "),
            ("1e-999999999999", "decimal_scale "),
            ("\"12,50\"", "type_mismatch "),
            ("\"NaN\"", "type_mismatch "),
            ("true", "type_mismatch "),
        ],
    );
    let wide = r#"{"type":"bytes","logicalType":"decimal","precision":60,"scale":0}"#;
    check(
        wide,
        &[(
            "123456789012345678901234567890123456789012345678901234567890",
            "3213aaf504e4bc1e62173f87a4378c37b49c8ccff196ce3f0ad2",
        )],
    );
    let fixed =
        r#"{"type":"fixed","name":"F","size":4,"logicalType":"decimal","precision":9,"scale":2}"#;
    check(
        fixed,
        &[
            ("-0.01", "ffffffff"),
            ("1", "00000064"),
            ("9999999.99", "3b9ac9ff"),
            ("10000000", "decimal_precision "),
        ],
    );
}

#[test]
fn a_date_is_a_date_or_epoch_days() {
    check(
        r#"{"type":"int","logicalType":"date"}"#,
        &[
            ("\"1970-01-02\"", "02"),
            ("\"1969-12-31\"", "01"),
            ("123", "f601"),
            ("1.0", "02"),
            ("\"2022-02-05T16:20:29Z\"", "type_mismatch "),
            ("\"infinity\"", "type_mismatch "),
            ("\"2022-02-29\"", "type_mismatch "),
            ("3000000000", "out_of_range "),
        ],
    );
}

#[test]
fn a_timestamp_has_a_zone_and_loses_no_digits() {
    let millis = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    check(
        millis,
        &[
            ("\"2022-02-05T16:20:29.234Z\"", "e4e6feaad95f"),
            ("\"2022-02-05 16:20:29.1+00\"", "d8e4feaad95f"),
            ("\"2022-02-05T17:20:29.234+01:00\"", "e4e6feaad95f"),
            ("1644078029000", "90e3feaad95f"),
            ("\"2022-02-05T16:20:29\"", "type_mismatch "),
            ("\"2022-02-05T16:20:29.2345Z\"", "precision_loss "),
            ("\"2022-02-05T16:20:29.234000Z\"", "e4e6feaad95f"),
            ("\"infinity\"", "type_mismatch "),
            ("\"2022-02-05T16:20:60Z\"", "type_mismatch "),
            ("\"1644078029000\"", "type_mismatch "),
        ],
    );
    let nanos = r#"{"type":"long","logicalType":"timestamp-nanos"}"#;
    check(
        nanos,
        &[
            ("\"1970-01-01T00:00:00.000000001Z\"", "02"),
            ("\"2300-01-01T00:00:00Z\"", "out_of_range "),
        ],
    );
    check_with(&with(|o| o.assume_utc = true), millis, &[("\"1970-01-01T00:00:00.001\"", "02")]);
    check_with(
        &with(|o| o.truncate_times = true),
        millis,
        &[("\"1970-01-01T00:00:00.0019Z\"", "02")],
    );
    let local = r#"{"type":"long","logicalType":"local-timestamp-micros"}"#;
    check(
        local,
        &[
            ("\"1970-01-01T00:00:00.000001\"", "02"),
            ("\"1970-01-01 00:00:00\"", "00"),
            ("5", "0a"),
            ("\"1970-01-01T00:00:00Z\"", "type_mismatch "),
        ],
    );
}

#[test]
fn a_time_is_within_the_day() {
    check(
        r#"{"type":"int","logicalType":"time-millis"}"#,
        &[
            ("\"16:20:29.123\"", "86a58d38"),
            ("123", "f601"),
            ("0", "00"),
            ("86399999", "feefb252"),
            ("86400000", "out_of_range "),
            ("-1", "out_of_range "),
            ("\"24:00:00\"", "type_mismatch "),
            ("\"16:20:29.1234\"", "precision_loss "),
        ],
    );
    check(
        r#"{"type":"long","logicalType":"time-micros"}"#,
        &[("\"16:20:29.123456\"", "80bee9a7b603"), ("86400000000", "out_of_range ")],
    );
}

#[test]
fn a_uuid_keeps_its_text_or_its_bytes_in_order() {
    check(
        r#"{"type":"string","logicalType":"uuid"}"#,
        &[
            (
                "\"00112233-4455-6677-8899-AABBccddeeff\"",
                "4830303131323233332d343435352d363637372d383839392d414142426363646465656666",
            ),
            ("\"x\"", "type_mismatch "),
        ],
    );
    check(
        r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#,
        &[
            ("\"00112233-4455-6677-8899-AABBccddeeff\"", "00112233445566778899aabbccddeeff"),
            ("\"00\"", "type_mismatch "),
        ],
    );
}

#[test]
fn a_duration_is_iso_8601_or_its_three_numbers() {
    let schema = r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#;
    check(
        schema,
        &[
            ("\"P1M2DT0.003S\"", "010000000200000003000000"),
            (r#"{"millis":3,"days":2,"months":1}"#, "010000000200000003000000"),
            (r#"{"days":2,"months":1}"#, "missing_field /millis"),
            (
                r#"{"millis":-3,"days":2.5,"months":null,"x":1}"#,
                "out_of_range /millis; not_integral /days; null_not_allowed /months; \
                 unknown_field /x",
            ),
            ("5", "type_mismatch "),
            ("\"1 day\"", "type_mismatch "),
            ("\"PT0.0001S\"", "precision_loss "),
        ],
    );
    check(&format!("[\"null\",{schema}]"), &[(r#"{"D":"PT0S"}"#, "02000000000000000000000000")]);
}
