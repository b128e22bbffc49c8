//! The schema model accepts what Java Avro 1.12 accepts, refuses what it refuses, and knows where
//! everything stands.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use walpost_schema::avro::{FieldOrder, Kind, Logical, Schema, SchemaFault, TimeUnit};

fn parse(text: &str) -> Schema {
    Schema::parse(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn fault(text: &str) -> SchemaFault {
    match Schema::parse(text, &[]) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.fault().clone(),
    }
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","namespace":"a.b","fields":[{fields}]}}"#)
}

#[test]
fn names_inherit_the_namespace_and_aliases_are_qualified() {
    let schema = parse(
        r#"{"type":"record","name":"Outer","namespace":"a.b","aliases":["Old","x.Older"],"fields":[
            {"name":"one","type":{"type":"enum","name":"E","symbols":["A"]}},
            {"name":"two","type":{"type":"fixed","name":"c.F","size":2}},
            {"name":"three","type":{"type":"record","name":"N","namespace":"","fields":[
                {"name":"self","type":["null","N"]}, {"name":"up","type":"a.b.Outer"}]}},
            {"name":"four","type":"E"}, {"name":"five","type":"a.b.E"}, {"name":"six","type":"N"}
        ]}"#,
    );
    let names = schema.nodes().filter_map(|(_, node)| node.kind.name());
    let mut names: Vec<&str> = names.map(|name| name.full()).collect();
    names.sort_unstable();
    assert_eq!(names, ["N", "a.b.E", "a.b.Outer", "c.F"]);
    let Kind::Record(outer) = &schema.node(schema.root().node).kind else { panic!() };
    let aliases: Vec<&str> = outer.aliases.iter().map(|alias| alias.full()).collect();
    assert_eq!(aliases, ["a.b.Old", "x.Older"]);
    assert_eq!(outer.fields[0].schema.node, outer.fields[3].schema.node);
    assert_eq!(outer.fields[3].schema.node, outer.fields[4].schema.node);
    assert_eq!(schema.named("N"), Some(outer.fields[5].schema.node));
    assert_eq!((outer.name.simple(), outer.name.namespace()), ("Outer", "a.b"));
}

#[test]
fn every_use_and_definition_knows_its_pointer_line_and_column() {
    let schema = parse(concat!(
        "{\"type\": \"record\", \"name\": \"R\",\n \"fields\": [\n  ",
        "{\"name\": \"ü\", \"type\": {\"type\": \"array\", \"items\": [\"null\", \"R\"]}, ",
        "\"default\": 1}]}",
    ));
    let Kind::Record(root) = &schema.node(schema.root().node).kind else { panic!() };
    let field = &root.fields[0];
    let at = |id| {
        let place = schema.place(id);
        (place.pointer.to_string(), place.line, place.column)
    };
    assert_eq!(at(schema.root().place), (String::new(), 1, 1));
    assert_eq!(at(field.place), ("/fields/0".to_owned(), 3, 3));
    assert_eq!(at(field.schema.place), ("/fields/0/type".to_owned(), 3, 25));
    let Kind::Array(items) = &schema.node(field.schema.node).kind else { panic!() };
    assert_eq!(at(items.place), ("/fields/0/type/items".to_owned(), 3, 52));
    let Kind::Union(branches) = &schema.node(items.node).kind else { panic!() };
    assert_eq!(at(branches[1].place), ("/fields/0/type/items/1".to_owned(), 3, 61));
    assert_eq!(branches[1].node, schema.root().node);
    assert_eq!(at(schema.node(branches[1].node).place), (String::new(), 1, 1));
    assert_eq!(at(field.default_place.unwrap()), ("/fields/0/default".to_owned(), 3, 79));
}

#[test]
fn columns_are_found_in_a_megabyte_on_one_line() {
    let field = r#"{"name":"field_N","type":["null","string"],"default":null}"#;
    let fields: Vec<String> = (0..20_000).map(|n| field.replace('N', &n.to_string())).collect();
    let schema = parse(&record(&fields.join(",")));
    let Kind::Record(root) = &schema.node(schema.root().node).kind else { panic!() };
    let from = schema.place(root.fields[19_999].place).column as usize - 1;
    assert!(schema.text()[from..].starts_with(r#"{"name":"field_19999""#));
}

#[test]
fn types_may_be_used_before_they_are_defined() {
    let schema = parse(&record(
        r#"{"name":"first","type":["null","Later"]},
           {"name":"second","type":{"type":"record","name":"Later","fields":[]}}"#,
    ));
    let canonical = concat!(
        r#"{"name":"a.b.R","type":"record","fields":[{"name":"first","type":["null","#,
        r#"{"name":"a.b.Later","type":"record","fields":[]}]},"#,
        r#"{"name":"second","type":"a.b.Later"}]}"#,
    );
    assert_eq!(schema.canonical_form(), canonical);
}

#[test]
fn references_bring_their_types_and_their_places() {
    let money =
        parse(r#"{"type":"record","name":"m.Money","fields":[{"name":"cents","type":"long"}]}"#);
    let line = r#"{"type":"record","name":"s.Line","fields":[{"name":"price","type":"m.Money"}]}"#;
    let line = Schema::parse(line, &[&money]).unwrap();
    let order = r#"{"type":"record","name":"Order","namespace":"s","fields":[
        {"name":"lines","type":{"type":"array","items":"Line"}},
        {"name":"total","type":"m.Money"}]}"#;
    let order = Schema::parse(order, &[&money, &line]).unwrap();
    assert!(order.canonical_form().contains(r#"{"name":"s.Line","type":"record""#));
    assert_eq!(order.canonical_form().matches("cents").count(), 1);
    let line_node = order.node(order.named("s.Line").unwrap());
    assert_eq!(order.place(line_node.place).document, 2);
    assert_eq!(order.place(order.root().place).document, 0);
    let error = Schema::parse(r#"{"type":"fixed","name":"m.Money","size":1}"#, &[&money]);
    let redefined = SchemaFault::Redefined { name: "m.Money".into() };
    assert_eq!(*error.unwrap_err().fault(), redefined);
}

#[test]
fn references_that_share_references_do_not_double_at_every_level() {
    let record = |name: &str, fields: &str| {
        format!(r#"{{"type":"record","name":"{name}","fields":[{fields}]}}"#)
    };
    let mut pair = [parse(&record("A0", "")), parse(&record("B0", ""))];
    for n in 1..40 {
        let below = n - 1;
        let fields = format!(
            r#"{{"name":"a","type":["null","A{below}"]}},{{"name":"b","type":"B{below}"}}"#
        );
        let [a, b] = &pair;
        let parse = |name: &str| Schema::parse(&record(name, &fields), &[a, b]).unwrap();
        pair = [parse(&format!("A{n}")), parse(&format!("B{n}"))];
    }
    assert!(pair[0].node_count() < 500, "{}", pair[0].node_count());
    assert_eq!(pair[0].canonical_form().matches("\"record\"").count(), 2 * 39 + 1);
}

#[test]
fn structure_faults_are_named() {
    use SchemaFault as F;
    let name = || "E".to_owned();
    let two = r#"{"name":"x","type":"int"},{"name":"x","type":"int"}"#;
    let duplicate = F::DuplicateField { record: "a.b.R".into(), field: "x".into() };
    assert_eq!(fault(&record(two)), duplicate);
    let twice = F::DuplicateSymbol { name: name(), symbol: "A".into() };
    assert_eq!(fault(r#"{"type":"enum","name":"E","symbols":["A","B","A"]}"#), twice);
    let absent = F::BadEnumDefault { name: name(), symbol: "Z".into() };
    assert_eq!(fault(r#"{"type":"enum","name":"E","symbols":["A"],"default":"Z"}"#), absent);
    assert_eq!(fault(r#"["int",["null"]]"#), F::NestedUnion);
    for (union, branch) in [
        (r#"["int","int"]"#, "int"),
        (r#"[{"type":"int","logicalType":"date"},"int"]"#, "int"),
        (r#"[{"type":"array","items":"int"},{"type":"array","items":"long"}]"#, "array"),
        (r#"[{"type":"fixed","name":"F","size":1},"F"]"#, "F"),
    ] {
        assert_eq!(fault(union), F::DuplicateBranch { branch: branch.into() });
    }
    assert_eq!(fault(r#"["E","int"]"#), F::UnknownType { name: name() });
    assert_eq!(fault(r#"{"type":"E"}"#), F::UnknownType { name: name() });
    let primitive = F::PrimitiveName { name: "int".into() };
    assert_eq!(fault(r#"{"type":"fixed","name":"int","size":1}"#), primitive);
}

#[test]
fn bad_names_sizes_and_shapes_are_refused() {
    use SchemaFault as F;
    for name in ["", "1a", "a-b", "a b", "a.1b", "a."] {
        let text = format!(r#"{{"type":"fixed","name":"{name}","size":1}}"#);
        assert!(matches!(fault(&text), F::BadName { .. }), "{name}");
    }
    for name in ["my-shop.F", "a..F", "..F", "1a.F", "a\u{b2}", "\u{2167}", "\u{1d4b3}"] {
        let text = format!(r#"{{"type":"fixed","name":"{name}","size":1}}"#);
        assert!(matches!(fault(&text), F::BadName { .. }), "{name}");
    }
    for name in ["_", ".F", "a.b.F", "\u{dc}bung", "\u{540d}", "a\u{663}", "n.int"] {
        let text = format!(r#"{{"type":"fixed","name":"{name}","size":1}}"#);
        assert!(Schema::parse(&text, &[]).is_ok(), "{name}");
    }
    for size in ["-1", "1.5", "\"1\"", "2147483648", "null"] {
        let text = format!(r#"{{"type":"fixed","name":"F","size":{size}}}"#);
        assert!(matches!(fault(&text), F::BadFixedSize { .. }), "{size}");
    }
    let redefined =
        r#"[{"type":"fixed","name":"E","size":1},{"type":"enum","name":"E","symbols":[]}]"#;
    assert_eq!(fault(redefined), F::Redefined { name: "E".into() });
    for text in [
        "",
        "nope",
        "1",
        "{}",
        "[",
        "{\"type\":1}",
        "{\"type\":[\"int\"]}",
        "\"int\" x",
        "{\"type\":\"record\",\"name\":\"R\"}",
        "{\"type\":\"array\"}",
        "{\"type\":\"map\"}",
        "{\"type\":\"enum\",\"name\":\"E\"}",
        "{\"type\":\"record\",\"fields\":[]}",
    ] {
        assert!(Schema::parse(text, &[]).is_err(), "{text}");
    }
}

#[test]
fn one_type_may_be_written_out_twice_if_it_is_the_same() {
    let twice = |first: &str, second: &str| {
        record(&format!(r#"{{"name":"a","type":{first}}},{{"name":"b","type":{second}}}"#))
    };
    let fixed = r#"{"type":"fixed","name":"F","size":1}"#;
    let canonical = concat!(
        r#"{"name":"a.b.R","type":"record","fields":[{"name":"a","type":"#,
        r#"{"name":"a.b.F","type":"fixed","size":1}},{"name":"b","type":"a.b.F"}]}"#,
    );
    assert_eq!(parse(&twice(fixed, fixed)).canonical_form(), canonical);
    let documented = r#"{"type":"fixed","name":"F","size":1,"doc":"x","aliases":["G"]}"#;
    assert_eq!(parse(&twice(documented, fixed)).canonical_form(), canonical);
    let redefined = SchemaFault::Redefined { name: "a.b.F".into() };
    for other in [
        r#"{"type":"fixed","name":"F","size":2}"#,
        r#"{"type":"fixed","name":"F","size":1,"unit":"m"}"#,
        r#"{"type":"record","name":"F","fields":[]}"#,
    ] {
        assert_eq!(fault(&twice(fixed, other)), redefined, "{other}");
    }
    // What stands for itself is another type each time to Java.
    let itself = r#"{"type":"record","name":"F","fields":[{"name":"f","type":["null","F"]}]}"#;
    assert_eq!(fault(&twice(itself, itself)), redefined);
}

#[test]
fn a_name_is_looked_for_in_its_namespace_and_then_among_what_is_read_to_its_end() {
    let inner = |name: &str| {
        record(&format!(
            r#"{{"name":"e","type":{{"type":"enum","name":"Top","namespace":"","symbols":[]}}}},
               {{"name":"a","type":{{"type":"record","name":"n.S","fields":[
                   {{"name":"r","type":["null","{name}"]}}]}}}}"#
        ))
    };
    for name in ["Top", "a.b.R", "S"] {
        assert!(Schema::parse(&inner(name), &[]).is_ok(), "{name}");
    }
    for (name, unknown) in [("R", "n.R"), (".Top", ".Top")] {
        let expected = SchemaFault::UnknownType { name: unknown.into() };
        assert_eq!(fault(&inner(name)), expected, "{name}");
    }
}

#[test]
fn what_javas_parser_refuses_in_a_field_is_refused() {
    use SchemaFault as F;
    let field = |rest: &str| record(&format!(r#"{{"name":"x","type":"double",{rest}}}"#));
    for text in ["", "nan", "1,5", "\u{fc}"] {
        let expected = F::BadNumber { field: "x".into(), text: text.into() };
        assert_eq!(fault(&field(&format!(r#""default":"{text}""#))), expected, "{text}");
    }
    for text in ["1.5", " NaN ", "-Infinity", "1e400", "2d"] {
        assert!(Schema::parse(&field(&format!(r#""default":"{text}""#)), &[]).is_ok(), "{text}");
    }
    assert!(matches!(fault(&field(r#""order":1"#)), F::WrongKind { key: "order", .. }));
    assert!(Schema::parse("/* before */ \"int\"", &[]).is_ok());
    let error = Schema::parse("\"int\"\n // behind", &[]).unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 2: not JSON: text behind the schema");
}

#[test]
fn an_error_says_line_and_column() {
    let text = "{\n \"type\": \"array\",\n  \"items\": \"nope\"}";
    let error = Schema::parse(text, &[]).unwrap_err();
    assert_eq!(error.to_string(), "line 3, column 12: unknown type \"nope\"");
    assert_eq!(&*error.place().pointer, "/items");
    let error = Schema::parse("{\n  \"type\" \"x\"}", &[]).unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 10: not JSON: expected :");
}

#[test]
fn leniency_is_javas() {
    parse("[]");
    parse("/* why */ {\"type\": \"string\" // trailing\n}");
    parse(r#"{"type":"enum","name":"Größe","symbols":["Ä","_1"]}"#);
    parse(r#"{"type":"fixed","name":"F","namespace":"a.valid_namespace","size":0}"#);
    parse(r#"{"type":"error","name":"Failed","fields":[]}"#);
    parse(&record(r#"{"name":"x","type":["null","string"],"default":"null"}"#));
    parse(&record(r#"{"name":"x","type":"int","default":"seven","order":"DESCENDING","doc":7}"#));
    let last_wins = parse(r#"{"type":"fixed","name":"F","size":1,"size":2}"#);
    assert!(last_wins.canonical_form().ends_with("\"size\":2}"));
    let other_order = parse(&record(r#"{"name":"x","type":"int","order":"ignore"}"#));
    let Kind::Record(root) = &other_order.node(other_order.root().node).kind else { panic!() };
    assert_eq!(root.fields[0].order, FieldOrder::Ignore);
}

#[track_caller]
fn has_logical(text: &str, logical: Option<Logical>) {
    let schema = parse(&format!("{{\"type\":{text}}}"));
    let node = schema.node(schema.root().node);
    assert_eq!(node.logical, logical, "{text}");
    assert!(node.properties.iter().any(|(key, _)| key == "logicalType"), "{text}");
}

#[test]
fn a_decimal_that_does_not_fit_is_only_a_property() {
    let decimal = |precision, scale| Some(Logical::Decimal { precision, scale });
    for (text, logical) in [
        (r#""bytes","logicalType":"decimal","precision":10,"scale":2"#, decimal(10, 2)),
        (r#""bytes","logicalType":"decimal","precision":10"#, decimal(10, 0)),
        (r#""bytes","logicalType":"decimal""#, None),
        (r#""bytes","logicalType":"decimal","precision":0"#, None),
        (r#""bytes","logicalType":"decimal","precision":"10""#, None),
        (r#""bytes","logicalType":"decimal","precision":2,"scale":3"#, None),
        (r#""bytes","logicalType":"decimal","precision":2,"scale":-1"#, None),
        (r#""string","logicalType":"decimal","precision":2"#, None),
        (r#""fixed","name":"F","size":2,"logicalType":"decimal","precision":4"#, decimal(4, 0)),
        (r#""fixed","name":"F","size":2,"logicalType":"decimal","precision":5"#, None),
    ] {
        has_logical(text, logical);
    }
}

#[test]
fn a_logical_type_that_does_not_fit_is_only_a_property() {
    use TimeUnit::{Micros, Millis, Nanos};
    for (text, logical) in [
        (r#""string","logicalType":"uuid""#, Some(Logical::Uuid)),
        (r#""fixed","name":"F","size":16,"logicalType":"uuid""#, Some(Logical::Uuid)),
        (r#""fixed","name":"F","size":15,"logicalType":"uuid""#, None),
        (r#""int","logicalType":"date""#, Some(Logical::Date)),
        (r#""long","logicalType":"date""#, None),
        (r#""int","logicalType":"time-millis""#, Some(Logical::Time(Millis))),
        (r#""long","logicalType":"time-micros""#, Some(Logical::Time(Micros))),
        (r#""int","logicalType":"time-micros""#, None),
        (r#""long","logicalType":"timestamp-nanos""#, Some(Logical::Timestamp(Nanos))),
        (r#""int","logicalType":"timestamp-millis""#, None),
        (r#""long","logicalType":"local-timestamp-micros""#, Some(Logical::LocalTimestamp(Micros))),
        (r#""fixed","name":"F","size":12,"logicalType":"duration""#, Some(Logical::Duration)),
        (r#""fixed","name":"F","size":11,"logicalType":"duration""#, None),
        (r#""string","logicalType":"colour""#, None),
    ] {
        has_logical(text, logical);
    }
}

#[test]
fn defaults_and_properties_keep_their_digits() {
    let schema = parse(&record(
        r#"{"name":"x","type":"double","default": 1.0000000000000000000000000000000001e0 /* c */ ,
            "owner": {"team" : "billing", "n": 12345678901234567890.10}}"#,
    ));
    let Kind::Record(root) = &schema.node(schema.root().node).kind else { panic!() };
    let default = root.fields[0].default.as_deref();
    assert_eq!(default, Some("1.0000000000000000000000000000000001e0"));
    let owner = r#"{"team":"billing","n":12345678901234567890.10}"#;
    assert_eq!(root.fields[0].properties, [("owner".to_owned(), owner.to_owned())]);
}

#[test]
fn faulty_defaults_are_reported_and_fitting_ones_are_not() {
    let inner = |field| format!(r#"{{"type":"record","name":"I","fields":[{field}]}}"#);
    let with_default = inner(r#"{"name":"a","type":"int","default":1}"#);
    let without = inner(r#"{"name":"a","type":"int"}"#);
    for (kind, default, good) in [
        (r#""int""#, "1", true),
        (r#""int""#, "2147483648", false),
        (r#""int""#, "1.0", false),
        (r#""long""#, "2147483648", true),
        (r#""double""#, "\"NaN\"", true),
        (r#""float""#, "1e39", false),
        (r#""boolean""#, "0", false),
        (r#""bytes""#, r#""\u0000\u00ff""#, true),
        (r#""bytes""#, r#""\u0100""#, false),
        (r#"["null","string"]"#, "null", true),
        (r#"["null","string"]"#, "\"a\"", true),
        (r#"["string","int"]"#, "null", false),
        (r#"{"type":"fixed","name":"F","size":2}"#, "\"ab\"", true),
        (r#"{"type":"fixed","name":"F","size":2}"#, "\"abc\"", false),
        (r#"{"type":"enum","name":"E","symbols":["A"]}"#, "\"B\"", false),
        (r#"{"type":"array","items":"int"}"#, "[1,2]", true),
        (r#"{"type":"array","items":"int"}"#, "[1,\"2\"]", false),
        (r#"{"type":"map","values":"int"}"#, "{\"a\":1}", true),
        (&with_default, "{}", true),
        (&without, "{}", false),
        ("\"R\"", "{}", false),
    ] {
        let schema =
            parse(&record(&format!(r#"{{"name":"x","type":{kind},"default":{default}}}"#)));
        let faults = schema.default_faults();
        assert_eq!(faults.is_empty(), good, "{kind} {default}: {faults:?}");
        if let Some(fault) = faults.first() {
            assert_eq!(&*schema.place(fault.place.unwrap()).pointer, "/fields/0/default");
        }
    }
}

#[test]
fn defaults_that_multiply_end_with_a_fault() {
    let mut inner = r#""string","default":"text""#.to_owned();
    for n in 0..60 {
        inner = format!(
            r#"{{"type":"record","name":"D{n}","fields":[{{"name":"a","type":{inner}}},
                {{"name":"b","type":"{}","default":{}}}]}},"default":{{}}"#,
            if n == 0 { "string".to_owned() } else { format!("D{}", n - 1) },
            if n == 0 { "\"text\"" } else { "{}" },
        );
    }
    let schema = parse(&record(&format!("{{\"name\":\"x\",\"type\":{inner}}}")));
    assert!(!schema.default_faults().is_empty());
}

#[test]
fn deep_and_long_texts_are_parsed_or_refused_but_never_overflow() {
    let nested = |levels: usize| {
        let open = r#"{"type":"array","items":"#.repeat(levels);
        format!("{open}\"int\"{}", "}".repeat(levels))
    };
    assert!(parse(&nested(999)).canonical_form().starts_with("{\"type\":\"array\""));
    assert_eq!(fault(&nested(2_000)), SchemaFault::TooDeep { limit: 1_000 });
    assert_eq!(fault(&"[".repeat(100_000)), SchemaFault::TooDeep { limit: 1_000 });
    let mut records = "\"int\"".to_owned();
    for n in 0..330 {
        let field = format!(r#"{{"name":"x","type":{records}}}"#);
        records = format!(r#"{{"type":"record","name":"R{n}","fields":[{field}]}}"#);
    }
    parse(&records);
    // A chain of forward references is deep in types though flat in text.
    let link = |n| {
        let next = n + 1;
        let field = format!(r#"{{"name":"n","type":"L{next}"}}"#);
        format!(r#"{{"type":"record","name":"L{n}","fields":[{field}]}}"#)
    };
    let mut links: Vec<String> = (0..50_000).map(link).collect();
    links.push(r#"{"type":"record","name":"L50000","fields":[]}"#.to_owned());
    let chain = parse(&format!("[{}]", links.join(",")));
    assert!(chain.canonical_form().len() > 1_000_000);
    let long = format!("{}\"int\"", " ".repeat(17 << 20));
    assert_eq!(fault(&long), SchemaFault::TooLarge { bytes: long.len() });
}

#[test]
fn canonical_form_and_fingerprint_are_the_specifications() {
    for (text, canonical, fingerprint) in [
        ("\"int\"", "\"int\"", 0x7275_d51a_3f39_5c8f_u64),
        (r#"{"type":"string","doc":"x"}"#, "\"string\"", 0x8f01_4872_6345_03c7),
    ] {
        let schema = parse(text);
        assert_eq!(schema.canonical_form(), canonical);
        assert_eq!(schema.fingerprint(), fingerprint, "{text}");
    }
    let full = parse(
        r#"{"fields":[{"order":"ignore","default":1,"name":"h",
                "type":{"size":16,"type":"fixed","name":"Md5","aliases":["M"]}},
            {"name":"again","type":["null","Md5",{"type":"map","values":"long"}]},
            {"name":"e","type":{"type":"enum","symbols":["B","A"],"name":"x.E","default":"A"}}],
            "namespace":"n","doc":"d","name":"R","type":"record"}"#,
    );
    let canonical = concat!(
        r#"{"name":"n.R","type":"record","fields":[{"name":"h","type":"#,
        r#"{"name":"n.Md5","type":"fixed","size":16}},"#,
        r#"{"name":"again","type":["null","n.Md5",{"type":"map","values":"long"}]},"#,
        r#"{"name":"e","type":{"name":"x.E","type":"enum","symbols":["B","A"]}}]}"#,
    );
    assert_eq!(full.canonical_form(), canonical);
}
