//! One test for each rule of JSON to Avro; the names are the rules. Each row is a type, a JSON text
//! and either the bytes in hex or the errors as `kind pointer`.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[allow(dead_code, reason = "no binary uses all of it")]
mod support;

use support::rules::{answer, check, check_with, encode, first_error, plan, with};
use walpost_schema::encode::{EncodeOptions, UnknownFields};

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
    assert_eq!((error.actual_kind, error.actual.as_str()), ("string", "string \"3\""));
    let long = format!("\"{}\"", "é".repeat(100));
    let shown = format!("got string \"{}…", "é".repeat(39));
    assert!(first_error("\"int\"", &long).ends_with(&shown));
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
    check_with(&options, "\"long\"", &[("\"9007199254740993\"", "8280808080808020")]);
    check_with(&options, "\"int\"", &[("\"x\"", "type_mismatch "), ("\"5.5\"", "not_integral ")]);
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
    check("\"float\"", &[("1e39", "out_of_range "), ("3.4028235e38", "ffff7f7f")]);
    let options = with(|options| options.special_floats = true);
    check_with(
        &options,
        "\"double\"",
        &[("\"-Infinity\"", "000000000000f0ff"), ("\"inf\"", "type_mismatch ")],
    );
    check_with(&options, "\"float\"", &[("\"NaN\"", "0000c07f")]);
}

#[test]
fn negative_zero_keeps_its_sign_in_a_double() {
    check(
        "\"double\"",
        &[("-0.0", "0000000000000080"), ("-0", "0000000000000080"), ("0", "0000000000000000")],
    );
    check("\"float\"", &[("1.1", "cdcc8c3f"), ("-0.0", "00000080")]);
}

#[test]
fn an_absent_field_takes_its_default() {
    let schema = r#"{"type":"record","name":"R","fields":[
        {"name":"a","type":"int","default":7},{"name":"b","type":"bytes","default":"\u00ff"},
        {"name":"c","type":{"type":"enum","name":"E","symbols":["X","Y"]},"default":"Y"},
        {"name":"d","type":{"type":"record","name":"I","fields":[
            {"name":"x","type":"long","default":1},{"name":"y","type":["null","int"],
        "default":null}]},
         "default":{"x":2}},
        {"name":"e","type":{"type":"array","items":"string"},"default":["q"]},
        {"name":"f","type":["int","null"],"default":3},
        {"name":"g","type":"double","default":1}]}"#;
    check(
        schema,
        &[
            ("{}", "0e02ff020400020271000006000000000000f03f"),
            (r#"{"g":0,"a":1}"#, "0202ff0204000202710000060000000000000000"),
        ],
    );
}

#[test]
fn an_absent_field_without_a_default_is_missing_even_when_nullable() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"]}]}"#;
    check(schema, &[("{}", "missing_field /a"), (r#"{"a":null}"#, "00")]);
    check_with(&with(|options| options.absent_as_null = true), schema, &[("{}", "00")]);
    let bad = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"],
        "default":"null"}]}"#;
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
    check(LINE, &[(json, "unknown_field /quantity; missing_field /qty")]);
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
    assert_eq!(encode(map, &format!("{{{}}}", keys.join(","))).unwrap_err().total(), 40);
}

#[test]
fn an_unknown_symbol_is_an_error_that_lists_the_symbols() {
    let schema = r#"{"type":"enum","name":"Status","namespace":"s","symbols":["OPEN","DONE"],
        "default":"OPEN"}"#;
    check(schema, &[("\"DONE\"", "02"), ("\"done\"", "unknown_symbol "), ("1", "type_mismatch ")]);
    let text = first_error(schema, "\"x\"");
    assert_eq!(text, "payload /: expected enum s.Status, one of OPEN, DONE, got string \"x\"");
    check_with(&with(|options| options.enum_default_on_write = true), schema, &[("\"x\"", "00")]);
}

#[test]
fn the_default_symbol_on_write_takes_no_string_from_other_branches() {
    let options = with(|options| options.enum_default_on_write = true);
    let one = r#"{"type":"enum","name":"E","symbols":["A"],"default":"A"}"#;
    check_with(&options, &format!("[\"string\",{one}]"), &[("\"x\"", "000278"), ("\"A\"", "0200")]);
    check_with(&options, &format!("[\"null\",{one}]"), &[("\"x\"", "0200")]);
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
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null",
        {"type":"record",
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
    check(date, &[("null", "02"), ("\"1970-01-02\"", "0002"), ("\"soon\"", "type_mismatch ")]);
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
    check(r#"["float","double"]"#, &[("1.5", "02000000000000f83f"), ("1", "02000000000000f03f")]);
    check(r#"["int","string"]"#, &[("5.5", "not_integral "), ("\"5\"", "020235")]);
    check(r#"["null","string"]"#, &[("5", "type_mismatch ")]);
    let times = r#"[{"type":"int","logicalType":"time-millis"},"long"]"#;
    check(times, &[("5", "000a"), ("86400000", "0280f0b252")]);
}

#[test]
fn a_string_goes_by_form_and_not_by_schema_order() {
    let schema = r#"["null","string",{"type":"enum","name":"E","symbols":["A"]},
        {"type":"int","logicalType":"date"},{"type":"long","logicalType":"timestamp-millis"},
        "bytes"]"#;
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
    let twice = r#"[{"type":"enum","name":"E","symbols":["A","B"]},{"type":"enum","name":"F",
        "symbols":["B"]}]"#;
    check(twice, &[("\"A\"", "0000"), ("\"B\"", "ambiguous_union ")]);
    let text_first =
        r#"["string",{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}]"#;
    check(text_first, &[("\"12.50\"", "000a31322e3530"), ("12.50", "020404e2")]);
}

const SHAPES: &str = r#"["null",
    {"type":"record","name":"s.Card","fields":[{"name":"no","type":"string"},{"name":"cvc",
        "type":"int","default":0}]},
    {"type":"record","name":"s.Bank","fields":[{"name":"no","type":"string"},{"name":"bic",
        "type":"string"}]},
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
    let map = r#"[{"type":"map","values":"string"},{"type":"record","name":"R",
        "fields":[{"name":"a","type":"string"}]}]"#;
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
            (r#"{"no":1,"bic":2}"#, "type_mismatch /no; type_mismatch /bic"),
            (r#"{"no":"1","bic":"b","x":1}"#, "unknown_field /x"),
        ],
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
        &[("[]", "00"), ("[1,2]", "04020400"), ("1", "type_mismatch "), ("{}", "type_mismatch ")],
    );
    let hundred = format!("[{}]", vec!["0"; 100].join(","));
    assert_eq!(answer(encode(array, &hundred)), format!("c801{}00", "00".repeat(100)));
}

#[test]
fn depth_is_limited_and_never_overflows() {
    let list = r#"{"type":"record","name":"L","fields":[{"name":"n","type":["null","L"],
        "default":null}]}"#;
    let nested = |levels: usize| {
        format!("{}{}{}", "{\"n\":".repeat(levels - 1), "{}", "}".repeat(levels - 1))
    };
    assert_eq!(answer(encode(list, &nested(128))), format!("{}00", "02".repeat(127)));
    assert!(answer(encode(list, &nested(129))).starts_with("depth_exceeded /n/n"));
    assert!(answer(encode(list, &nested(5_000))).starts_with("depth_exceeded /n/n"));
    assert_eq!(answer(encode(list, &"{\"n\":".repeat(5_000))), "invalid_json ");
    check(
        "\"int\"",
        &[(&format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000)), "type_mismatch ")],
    );
    let array = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(300), "}".repeat(300));
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    assert!(answer(encode(&array, &deep)).starts_with("depth_exceeded /0/0"));
}

#[test]
fn nested_unions_take_no_exponential_time() {
    let schema = r#"{"type":"record","name":"A","fields":[{"name":"x","type":["null","A",
        {"type":"record","name":"B","fields":[{"name":"x","type":["null","A","B",{"type":"map",
        "values":["null","A","B"]}]}]}]}]}"#;
    for end in ["null", "1", "{\"y\":1}"] {
        let json = format!("{}{end}{}", "{\"x\":".repeat(100), "}".repeat(100));
        let start = std::time::Instant::now();
        let errors = encode(schema, &json).unwrap_err();
        assert!(start.elapsed().as_secs() < 5, "{end}: {:?}", start.elapsed());
        assert!(errors.total() >= 1);
    }
    let tagged = (0..60).fold("null".to_owned(), |inner, n| {
        format!("{{\"{}\":{{\"x\":{inner}}}}}", if n % 2 == 0 { "A" } else { "B" })
    });
    let union = format!("[\"null\",{schema},\"B\"]");
    let start = std::time::Instant::now();
    let bytes = encode(&union, &tagged).unwrap();
    let mut text = String::new();
    plan(&union, &EncodeOptions::default()).decode(&bytes, &mut text).unwrap();
    assert_eq!(encode(&union, &text).unwrap(), bytes);
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
    let schema = format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.join(","));
    let value = |n: &str| format!("\"{n}\":\"{n}\"");
    let in_order: Vec<String> = names.iter().map(|n| value(n)).collect();
    let expected = answer(encode(&schema, &format!("{{{}}}", in_order.join(","))));
    for turn in 0..names.len() {
        let mut shuffled = in_order.clone();
        shuffled.rotate_left(turn);
        shuffled.swap(0, 5);
        assert_eq!(answer(encode(&schema, &format!("{{{}}}", shuffled.join(" , ")))), expected);
    }
    check(
        &schema,
        &[(r#"{"e":"e","c":"c"}"#, &format!("0000{}00{}0000000000", "020263", "020265"))],
    );
}
