//! One test for each rule of JSON to Avro; the names are the rules. Each row is a type, a JSON text
//! and either the bytes in hex or the errors as `kind pointer`.

use std::fmt::Write as _;

use walpost_schema::avro::Schema;
use walpost_schema::encode::{BytesText, EncodeErrors, EncodeOptions, Plan, UnknownFields};

fn plan(schema: &str, options: &EncodeOptions) -> Plan {
    let schema = Schema::parse(schema, &[]).unwrap_or_else(|error| panic!("{schema}: {error}"));
    Plan::compile(&schema, options).unwrap()
}

fn encode(schema: &str, json: &str) -> Result<Vec<u8>, EncodeErrors> {
    let mut out = b"before".to_vec();
    let result = plan(schema, &EncodeOptions::default()).encode(json, &mut out);
    assert!(out.starts_with(b"before"));
    if result.is_err() {
        assert_eq!(out, b"before", "an error leaves the output as it was");
    }
    result.map(|()| out.split_off(6))
}

fn answer(result: Result<Vec<u8>, EncodeErrors>) -> String {
    let mut text = String::new();
    match result {
        Ok(bytes) => bytes.iter().for_each(|byte| _ = write!(text, "{byte:02x}")),
        Err(errors) => {
            let lines = errors
                .iter()
                .map(|error| format!("{} {}", error.kind, error.pointer));
            text = lines.collect::<Vec<_>>().join("; ");
        }
    }
    text
}

#[track_caller]
fn check(schema: &str, rows: &[(&str, &str)]) {
    for (json, expected) in rows {
        assert_eq!(
            answer(encode(schema, json)),
            *expected,
            "{json} as {schema}"
        );
    }
}

#[track_caller]
fn check_with(options: &EncodeOptions, schema: &str, rows: &[(&str, &str)]) {
    for (json, expected) in rows {
        let mut out = Vec::new();
        let result = plan(schema, options).encode(json, &mut out).map(|()| out);
        assert_eq!(answer(result), *expected, "{json} as {schema}");
    }
}

fn with(change: impl FnOnce(&mut EncodeOptions)) -> EncodeOptions {
    let mut options = EncodeOptions::default();
    change(&mut options);
    options
}

fn first_error(schema: &str, json: &str) -> String {
    encode(schema, json).unwrap_err().as_slice()[0].to_string()
}

const LINE: &str = r#"{"type":"record","name":"Line","namespace":"shop.v1","fields":[
    {"name":"sku","type":"string"},{"name":"qty","type":"int","aliases":["quantity"]}]}"#;
const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop.v1","fields":[
    {"name":"id","type":"string"},
    {"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[
        {"name":"sku","type":"string"},{"name":"qty","type":"int"}]}}},
    {"name":"note","type":["null","string"],"default":null},
    {"name":"tags","type":{"type":"map","values":"long"},"default":{}}]}"#;

#[test]
fn an_error_is_one_line_with_pointer_expected_place_and_actual() {
    let json = r#"{"id":"o","lines":[{"sku":"a","qty":1},{"sku":"b","qty":"3"}]}"#;
    let errors = encode(ORDER, json).unwrap_err();
    let error = &errors.as_slice()[0];
    assert_eq!(
        error.to_string(),
        "payload /lines/1/qty: expected int (field qty of shop.v1.Line), got string \"3\""
    );
    assert_eq!(
        error.redacted(),
        "type_mismatch: expected int (field qty of shop.v1.Line), got string"
    );
    assert_eq!(
        (error.actual_kind, error.actual.as_str()),
        ("string", "string \"3\"")
    );
    let long = format!("\"{}\"", "é".repeat(100));
    assert!(first_error("\"int\"", &long).ends_with(&format!("got string \"{}…", "é".repeat(39))));
}

#[test]
fn all_errors_are_reported_up_to_twenty() {
    let json = r#"{"lines":[{"sku":1,"qty":5.5},{"sku":null}],"tags":{"a/b~c":"x"},"nope":[]}"#;
    check(
        ORDER,
        &[(
            json,
            "type_mismatch /lines/0/sku; not_integral /lines/0/qty; null_not_allowed /lines/1/sku; \
             missing_field /lines/1/qty; type_mismatch /tags/a~1b~0c; unknown_field /nope; \
             missing_field /id",
        )],
    );
    let many = format!("[{}]", vec!["null"; 50].join(","));
    let errors = encode(r#"{"type":"array","items":"int"}"#, &many).unwrap_err();
    assert_eq!((errors.as_slice().len(), errors.total()), (20, 50));
    assert!(errors.to_string().ends_with("\nand 30 more"));
}

#[test]
fn int_and_long_out_of_range_are_errors_with_the_limits() {
    check(
        "\"int\"",
        &[
            ("2147483647", "feffffff0f"),
            ("-2147483648", "ffffffff0f"),
            ("2147483648", "out_of_range "),
            ("-2147483649", "out_of_range "),
            ("1e99", "out_of_range "),
        ],
    );
    check(
        "\"long\"",
        &[
            ("9223372036854775807", "feffffffffffffffff01"),
            ("-9223372036854775808", "ffffffffffffffffff01"),
            ("9223372036854775808", "out_of_range "),
            ("123456789012345678901234567890", "out_of_range "),
        ],
    );
    let text = first_error("\"int\"", "5000000000");
    assert_eq!(
        text,
        "payload /: expected int from -2147483648 to 2147483647, got number 5000000000"
    );
}

#[test]
fn integral_numbers_are_accepted_in_every_spelling() {
    let rows = [
        ("5.0", "0a"),
        ("1e3", "d00f"),
        ("-0", "00"),
        ("-0.0", "00"),
        ("1.50e1", "1e"),
        ("10e-1", "02"),
    ];
    check("\"int\"", &rows);
    check("\"long\"", &rows);
}

#[test]
fn a_fraction_is_no_integer() {
    let rows = [("5.5", "not_integral "), ("1e-1", "not_integral ")];
    check("\"int\"", &rows);
    check("\"long\"", &rows);
}

#[test]
fn a_long_above_2_to_53_is_exact_and_a_double_is_rounded() {
    check("\"long\"", &[("9007199254740993", "8280808080808020")]);
    check("\"double\"", &[("9007199254740993", "0000000000004043")]);
}

#[test]
fn a_string_is_no_number_unless_asked() {
    for schema in ["\"int\"", "\"long\"", "\"float\"", "\"double\""] {
        check(schema, &[("\"5\"", "type_mismatch ")]);
    }
    let options = with(|options| options.numeric_strings = true);
    check_with(
        &options,
        "\"long\"",
        &[("\"9007199254740993\"", "8280808080808020")],
    );
    check_with(
        &options,
        "\"int\"",
        &[("\"x\"", "type_mismatch "), ("\"5.5\"", "not_integral ")],
    );
}

#[test]
fn special_floats_are_invalid_json_or_strings_that_must_be_asked_for() {
    check(
        "\"double\"",
        &[
            ("NaN", "invalid_json "),
            ("Infinity", "invalid_json "),
            ("\"NaN\"", "type_mismatch "),
            ("1e400", "out_of_range "),
            ("-1e400", "out_of_range "),
        ],
    );
    check(
        "\"float\"",
        &[("1e39", "out_of_range "), ("3.4028235e38", "ffff7f7f")],
    );
    let options = with(|options| options.special_floats = true);
    check_with(
        &options,
        "\"double\"",
        &[
            ("\"-Infinity\"", "000000000000f0ff"),
            ("\"inf\"", "type_mismatch "),
        ],
    );
    check_with(&options, "\"float\"", &[("\"NaN\"", "0000c07f")]);
}

#[test]
fn negative_zero_keeps_its_sign_in_a_double() {
    check(
        "\"double\"",
        &[
            ("-0.0", "0000000000000080"),
            ("-0", "0000000000000080"),
            ("0", "0000000000000000"),
        ],
    );
    check("\"float\"", &[("1.1", "cdcc8c3f"), ("-0.0", "00000080")]);
}

#[test]
fn an_absent_field_takes_its_default() {
    let schema = r#"{"type":"record","name":"R","fields":[
        {"name":"a","type":"int","default":7},{"name":"b","type":"bytes","default":"\u00ff"},
        {"name":"c","type":{"type":"enum","name":"E","symbols":["X","Y"]},"default":"Y"},
        {"name":"d","type":{"type":"record","name":"I","fields":[
            {"name":"x","type":"long","default":1},{"name":"y","type":["null","int"],"default":null}]},
         "default":{"x":2}},
        {"name":"e","type":{"type":"array","items":"string"},"default":["q"]},
        {"name":"f","type":["int","null"],"default":3},
        {"name":"g","type":"double","default":1}]}"#;
    check(
        schema,
        &[
            ("{}", "0e02ff020400020271000006000000000000f03f"),
            (
                r#"{"g":0,"a":1}"#,
                "0202ff0204000202710000060000000000000000",
            ),
        ],
    );
}

#[test]
fn an_absent_field_without_a_default_is_missing_even_when_nullable() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"]}]}"#;
    check(
        schema,
        &[("{}", "missing_field /a"), (r#"{"a":null}"#, "00")],
    );
    check_with(
        &with(|options| options.absent_as_null = true),
        schema,
        &[("{}", "00")],
    );
    let bad = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"],"default":"null"}]}"#;
    check(bad, &[("{}", "missing_field /a")]);
    assert!(first_error(bad, "{}").contains("does not fit its type"));
}

#[test]
fn null_is_not_absence() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":1}]}"#;
    check(schema, &[(r#"{"a":null}"#, "null_not_allowed /a")]);
    check(r#"["int","string"]"#, &[("null", "null_not_allowed ")]);
}

#[test]
fn an_unknown_field_is_an_error_with_the_name_that_was_meant() {
    let json = |key| format!(r#"{{"sku":"a","qty":1,"{key}":2}}"#);
    check(LINE, &[(&json("other"), "unknown_field /other")]);
    assert!(first_error(LINE, &json("Qty")).ends_with("(did you mean qty?)"));
    assert!(first_error(LINE, &json("skus")).ends_with("(did you mean sku?)"));
    assert!(!first_error(LINE, &json("zz")).contains("did you mean"));
    let options = with(|options| options.unknown_fields = UnknownFields::Ignore);
    check_with(&options, LINE, &[(&json("other"), "026102")]);
}

#[test]
fn an_alias_is_refused_with_the_name_to_write() {
    let json = r#"{"sku":"a","quantity":1}"#;
    check(
        LINE,
        &[(json, "unknown_field /quantity; missing_field /qty")],
    );
    assert!(first_error(LINE, json).contains("write qty: its aliases are for readers"));
}

#[test]
fn a_key_twice_is_an_error_in_records_and_maps() {
    check(
        LINE,
        &[
            (r#"{"sku":"a","qty":1,"sku":"b"}"#, "duplicate_key /sku"),
            (r#"{"sku":"a","qty":1,"q\u0074y":1}"#, "duplicate_key /qty"),
            (r#"{"sku":"a","sku":"b","qty":1}"#, "duplicate_key /sku"),
        ],
    );
    let map = r#"{"type":"map","values":"int"}"#;
    check(map, &[(r#"{"a":1,"\u0061":2}"#, "duplicate_key /a")]);
    let keys: Vec<String> = (0..100).map(|n| format!("\"k{}\":{n}", n % 60)).collect();
    assert_eq!(
        encode(map, &format!("{{{}}}", keys.join(",")))
            .unwrap_err()
            .total(),
        40
    );
}

#[test]
fn an_unknown_symbol_is_an_error_that_lists_the_symbols() {
    let schema = r#"{"type":"enum","name":"Status","namespace":"s","symbols":["OPEN","DONE"],"default":"OPEN"}"#;
    check(
        schema,
        &[
            ("\"DONE\"", "02"),
            ("\"done\"", "unknown_symbol "),
            ("1", "type_mismatch "),
        ],
    );
    let text = first_error(schema, "\"x\"");
    assert_eq!(
        text,
        "payload /: expected enum s.Status, one of OPEN, DONE, got string \"x\""
    );
    check_with(
        &with(|options| options.enum_default_on_write = true),
        schema,
        &[("\"x\"", "00")],
    );
}

#[test]
fn a_boolean_is_true_or_false() {
    check(
        "\"boolean\"",
        &[
            ("true", "01"),
            ("false", "00"),
            ("1", "type_mismatch "),
            ("\"true\"", "type_mismatch "),
            ("null", "null_not_allowed "),
            ("truE", "invalid_json "),
        ],
    );
}

#[test]
fn a_nullable_type_is_null_or_the_type_and_errors_are_its_own() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null",{"type":"record",
        "name":"I","fields":[{"name":"x","type":"int"}]}]}]}"#;
    check(
        schema,
        &[
            (r#"{"a":null}"#, "00"),
            (r#"{"a":{"x":1}}"#, "0202"),
            (r#"{"a":{"x":"1"}}"#, "type_mismatch /a/x"),
            (r#"{"a":{}}"#, "missing_field /a/x"),
            (r#"{"a":5}"#, "type_mismatch /a"),
        ],
    );
    let date = r#"[{"type":"int","logicalType":"date"},"null"]"#;
    check(
        date,
        &[
            ("null", "02"),
            ("\"1970-01-02\"", "0002"),
            ("\"soon\"", "type_mismatch "),
        ],
    );
}

#[test]
fn a_tag_is_accepted_when_no_untagged_reading_is_complete() {
    check(
        r#"["null","string"]"#,
        &[
            (r#"{"string":"a"}"#, "020261"),
            (r#"{"null":null}"#, "00"),
            (r#"{"string":"a","x":1}"#, "type_mismatch "),
            (r#"{"bytes":"a"}"#, "type_mismatch "),
            (r#"{"string":5}"#, "type_mismatch /string"),
            ("{}", "type_mismatch "),
        ],
    );
    let record = r#"["null",{"type":"record","name":"s.A","fields":[{"name":"x","type":"int"}]}]"#;
    check(
        record,
        &[
            (r#"{"s.A":{"x":1}}"#, "0202"),
            (r#"{"x":1}"#, "0202"),
            (r#"{"s.A":{"x":"1"}}"#, "type_mismatch /s.A/x"),
            (r#"{"A":{"x":1}}"#, "unknown_field /A; missing_field /x"),
        ],
    );
    let map = r#"["null",{"type":"map","values":["int",{"type":"map","values":"int"}]}]"#;
    check(
        map,
        &[
            (r#"{"map":{"a":1}}"#, "0202066d617002020261020000"),
            (r#"{"map":{"a":{"b":1}}}"#, "0202026102020262020000"),
        ],
    );
}

#[test]
fn a_number_goes_to_the_narrowest_branch_that_holds_it() {
    check(
        r#"["long","int"]"#,
        &[
            ("5", "020a"),
            ("3000000000", "0080f882ad16"),
            ("5.0", "020a"),
            ("5.5", "not_integral "),
            ("9223372036854775808", "out_of_range "),
        ],
    );
    check(
        r#"["long","double"]"#,
        &[
            ("5", "000a"),
            ("5.0", "020000000000001440"),
            ("5e0", "020000000000001440"),
            ("9223372036854775808", "02000000000000e043"),
        ],
    );
    check(
        r#"["float","double"]"#,
        &[("1.5", "02000000000000f83f"), ("1", "02000000000000f03f")],
    );
    check(
        r#"["int","string"]"#,
        &[("5.5", "not_integral "), ("\"5\"", "020235")],
    );
    check(r#"["null","string"]"#, &[("5", "type_mismatch ")]);
    let times = r#"[{"type":"int","logicalType":"time-millis"},"long"]"#;
    check(times, &[("5", "000a"), ("86400000", "0280f0b252")]);
}

#[test]
fn a_string_goes_by_form_and_not_by_schema_order() {
    let schema = r#"["null","string",{"type":"enum","name":"E","symbols":["A"]},
        {"type":"int","logicalType":"date"},{"type":"long","logicalType":"timestamp-millis"},"bytes"]"#;
    check(
        schema,
        &[
            ("\"A\"", "0400"),
            ("\"B\"", "020242"),
            ("\"1970-01-02\"", "0602"),
            ("\"1970-01-01T00:00:01Z\"", "08d00f"),
            ("\"AA==\"", "020841413d3d"),
        ],
    );
    let uuid = r#"["bytes",{"type":"string","logicalType":"uuid"}]"#;
    check(uuid, &[("\"AAAA\"", "0006000000")]);
    let none =
        r#"[{"type":"enum","name":"E","symbols":["A"]},{"type":"int","logicalType":"date"}]"#;
    check(none, &[("\"x\"", "type_mismatch ")]);
    let twice = r#"[{"type":"enum","name":"E","symbols":["A","B"]},{"type":"enum","name":"F","symbols":["B"]}]"#;
    check(twice, &[("\"A\"", "0000"), ("\"B\"", "ambiguous_union ")]);
    let text_first =
        r#"["string",{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}]"#;
    check(
        text_first,
        &[("\"12.50\"", "000a31322e3530"), ("12.50", "020404e2")],
    );
}

const SHAPES: &str = r#"["null",
    {"type":"record","name":"s.Card","fields":[{"name":"no","type":"string"},{"name":"cvc","type":"int","default":0}]},
    {"type":"record","name":"s.Bank","fields":[{"name":"no","type":"string"},{"name":"bic","type":"string"}]},
    {"type":"record","name":"s.Gift","fields":[{"name":"no","type":"string"}]}]"#;

#[test]
fn two_records_that_fit_are_ambiguous_and_never_the_first() {
    check(
        SHAPES,
        &[
            (r#"{"no":"1","bic":"b"}"#, "0402310262"),
            (r#"{"no":"1","cvc":3}"#, "02023106"),
            (r#"{"no":"1"}"#, "ambiguous_union "),
            (r#"{"s.Gift":{"no":"1"}}"#, "060231"),
        ],
    );
    let text = first_error(SHAPES, r#"{"no":"1"}"#);
    assert_eq!(
        text,
        concat!(
            "payload /: expected only one of s.Card, s.Gift, got object {\"no\":\"1\"} ",
            "(it fits each; tag it: {\"s.Card\": ..})"
        )
    );
    let map = r#"[{"type":"map","values":"string"},{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}]"#;
    check(
        map,
        &[
            (r#"{"a":"x"}"#, "ambiguous_union "),
            (r#"{"b":"x"}"#, "00020262027800"),
            (r#"{"R":{"a":"x"}}"#, "020278"),
        ],
    );
}

#[test]
fn no_record_that_fits_reports_the_nearest() {
    check(
        SHAPES,
        &[
            (r#"{"no":"1","cvc":"3"}"#, "type_mismatch /cvc"),
            (
                r#"{"no":1,"bic":2}"#,
                "type_mismatch /no; type_mismatch /bic",
            ),
            (r#"{"no":"1","bic":"b","x":1}"#, "unknown_field /x"),
        ],
    );
}

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
        &[
            (r#""\\x00FF""#, "0400ff"),
            ("\"00ff\"", "bad_bytes_encoding "),
        ],
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
    check_with(
        &with(|o| o.assume_utc = true),
        millis,
        &[("\"1970-01-01T00:00:00.001\"", "02")],
    );
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
        &[
            ("\"16:20:29.123456\"", "80bee9a7b603"),
            ("86400000000", "out_of_range "),
        ],
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
            (
                "\"00112233-4455-6677-8899-AABBccddeeff\"",
                "00112233445566778899aabbccddeeff",
            ),
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
            (
                r#"{"millis":3,"days":2,"months":1}"#,
                "010000000200000003000000",
            ),
            (r#"{"days":2,"months":1}"#, "missing_field /millis"),
            (
                r#"{"millis":-3,"days":2.5,"months":null,"x":1}"#,
                "out_of_range /millis; not_integral /days; null_not_allowed /months; unknown_field /x",
            ),
            ("5", "type_mismatch "),
            ("\"1 day\"", "type_mismatch "),
            ("\"PT0.0001S\"", "precision_loss "),
        ],
    );
    check(
        &format!("[\"null\",{schema}]"),
        &[(r#"{"D":"PT0S"}"#, "02000000000000000000000000")],
    );
}

#[test]
fn maps_are_objects_and_arrays_are_arrays() {
    let map = r#"{"type":"map","values":"int"}"#;
    check(
        map,
        &[
            ("{}", "00"),
            (r#"{"b":1,"a\n":2}"#, "0402620204610a0400"),
            (r#"[["a",1]]"#, "type_mismatch "),
        ],
    );
    let array = r#"{"type":"array","items":"int"}"#;
    check(
        array,
        &[
            ("[]", "00"),
            ("[1,2]", "04020400"),
            ("1", "type_mismatch "),
            ("{}", "type_mismatch "),
        ],
    );
    let hundred = format!("[{}]", vec!["0"; 100].join(","));
    assert_eq!(
        answer(encode(array, &hundred)),
        format!("c801{}00", "00".repeat(100))
    );
}

#[test]
fn depth_is_limited_and_never_overflows() {
    let list = r#"{"type":"record","name":"L","fields":[{"name":"n","type":["null","L"],"default":null}]}"#;
    let nested = |levels: usize| {
        format!(
            "{}{}{}",
            "{\"n\":".repeat(levels - 1),
            "{}",
            "}".repeat(levels - 1)
        )
    };
    assert_eq!(
        answer(encode(list, &nested(128))),
        format!("{}00", "02".repeat(127))
    );
    assert!(answer(encode(list, &nested(129))).starts_with("depth_exceeded /n/n"));
    assert!(answer(encode(list, &nested(5_000))).starts_with("depth_exceeded /n/n"));
    assert_eq!(
        answer(encode(list, &"{\"n\":".repeat(5_000))),
        "invalid_json "
    );
    check(
        "\"int\"",
        &[(
            &format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000)),
            "type_mismatch ",
        )],
    );
    let array = format!(
        "{}\"int\"{}",
        r#"{"type":"array","items":"#.repeat(300),
        "}".repeat(300)
    );
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    assert!(answer(encode(&array, &deep)).starts_with("depth_exceeded /0/0"));
}

#[test]
fn nested_unions_take_no_exponential_time() {
    let schema = r#"{"type":"record","name":"A","fields":[{"name":"x","type":["null","A",
        {"type":"record","name":"B","fields":[{"name":"x","type":["null","A","B",{"type":"map","values":["null","A","B"]}]}]}]}]}"#;
    for end in ["null", "1", "{\"y\":1}"] {
        let json = format!("{}{end}{}", "{\"x\":".repeat(100), "}".repeat(100));
        let start = std::time::Instant::now();
        let errors = encode(schema, &json).unwrap_err();
        assert!(
            start.elapsed().as_secs() < 5,
            "{end}: {:?}",
            start.elapsed()
        );
        assert!(errors.total() >= 1);
    }
    let tagged = (0..60).fold("null".to_owned(), |inner, n| {
        format!(
            "{{\"x\":{{\"{}\":{inner}}}}}",
            if n % 2 == 0 { "A" } else { "B" }
        )
    });
    let start = std::time::Instant::now();
    let _ = encode(schema, &tagged);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

#[test]
fn text_that_is_not_json_is_that_and_nothing_else() {
    for json in [
        "",
        "{",
        "{\"id\":1}x",
        "{\"id\":1,}",
        "{id:1}",
        "\u{feff}{}",
        "{\"id\":\"\\ud800\"}",
        "{\"id\":\"\\u0000\"}",
        "{\"id\":01}",
    ] {
        check(ORDER, &[(json, "invalid_json ")]);
    }
    assert_eq!(
        first_error("\"int\"", "[1"),
        "payload /: expected JSON, got text ends early at byte 2"
    );
}

#[test]
fn fields_come_in_any_order_and_leave_in_the_schemas() {
    let names = ["a", "bb", "c", "ddd", "e", "f", "g", "h", "i", "j"];
    let fields: Vec<String> = names
        .iter()
        .map(|n| format!(r#"{{"name":"{n}","type":["null","string"],"default":null}}"#))
        .collect();
    let schema = format!(
        r#"{{"type":"record","name":"R","fields":[{}]}}"#,
        fields.join(",")
    );
    let value = |n: &str| format!("\"{n}\":\"{n}\"");
    let in_order: Vec<String> = names.iter().map(|n| value(n)).collect();
    let expected = answer(encode(&schema, &format!("{{{}}}", in_order.join(","))));
    for turn in 0..names.len() {
        let mut shuffled = in_order.clone();
        shuffled.rotate_left(turn);
        shuffled.swap(0, 5);
        assert_eq!(
            answer(encode(&schema, &format!("{{{}}}", shuffled.join(" , ")))),
            expected
        );
    }
    check(
        &schema,
        &[(
            r#"{"e":"e","c":"c"}"#,
            &format!("0000{}00{}0000000000", "020263", "020265"),
        )],
    );
}
