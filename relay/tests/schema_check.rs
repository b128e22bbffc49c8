//! `walpost schema check` as scripts use it: answers, exit codes, bad input.

#[allow(dead_code, unreachable_pub, reason = "no binary uses all of it")]
mod support;

use serde_json::{Value, json};
use support::Folder;

const V1: &str = r#"{
  "type": "record",
  "name": "shop.Order",
  "fields": [
    {"name": "id", "type": "string"},
    {"name": "qty", "type": ["null", "int"], "default": null}
  ]
}
"#;

/// `qty` is mandatory, `note` is new and has no default.
const V2: &str = r#"{
  "type": "record",
  "name": "shop.Order",
  "fields": [
    {"name": "id", "type": "string"},
    {"name": "qty", "type": "int"},
    {
      "name": "note",
      "type": "string"
    }
  ]
}
"#;

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("v1.avsc", V1);
    folder.write("v2.avsc", V2);
    folder
}

#[test]
fn a_pair_is_answered_in_the_promised_shape() {
    let pair =
        ["schema", "check", "--reader", "v2.avsc", "--writer", "v1.avsc", "--output", "json"];
    let ended = folder().walpost(&pair);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let answer = ended.json();
    assert_eq!(answer["compatible"], false);
    let check = &answer["checks"][0];
    assert_eq!(
        (
            &check["subject"],
            &check["level"],
            &check["reader"],
            &check["writer"],
            &check["compatible"]
        ),
        (&Value::Null, &Value::Null, &json!("v2.avsc"), &json!("v1.avsc"), &json!(false))
    );
    let finding = &check["findings"][0];
    let expected = json!({
        "code": "TYPE_MISMATCH",
        "location": "/fields/1/type/0",
        "message": "reader type: INT not compatible with writer type: NULL",
        "severity": "gate",
        "file": "v2.avsc",
        "line": 6,
        "column": 29,
        "path": "qty",
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&finding[key], value, "{key} of {finding}");
    }
    assert!(finding["help"].as_str().is_some_and(|help| help.contains("[\"null\", \"int\"]")));
    assert_eq!(finding["writer"]["file"], "v1.avsc");
    let second = &check["findings"][1];
    assert_eq!((&second["message"], &second["line"]), (&json!("note"), &json!(8)));
}

#[test]
fn the_exit_code_follows_the_severity_asked_for() {
    let folder = folder();
    let millis = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    let micros = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
    folder.write("millis.avsc", millis);
    folder.write("micros.avsc", micros);
    folder.write("bytes.avsc", "\"bytes\"");
    folder.write("string.avsc", "\"string\"");
    let check = |reader: &str, writer: &str, fail_on: &str| {
        let words =
            ["schema", "check", "--reader", reader, "--writer", writer, "--fail-on", fail_on];
        folder.walpost(&words).code
    };
    assert_eq!(check("v1.avsc", "v1.avsc", "hygiene"), 0);
    assert_eq!(check("v1.avsc", "v2.avsc", "gate"), 0);
    assert_eq!(check("v2.avsc", "v1.avsc", "gate"), 1);
    assert_eq!(check("micros.avsc", "millis.avsc", "decode"), 0);
    assert_eq!(check("micros.avsc", "millis.avsc", "meaning"), 1);
    assert_eq!(check("string.avsc", "bytes.avsc", "gate"), 0);
    assert_eq!(check("string.avsc", "bytes.avsc", "decode"), 1);
}

#[test]
fn a_history_is_judged_at_its_level_and_every_failing_version_is_named() {
    let folder = folder();
    folder.write("v0.avsc", &V1.replace("\"string\"", "\"bytes\""));
    let check = |level: &str| {
        let words = [
            "schema",
            "check",
            "--level",
            level,
            "--history",
            "v0.avsc",
            "--history",
            "v1.avsc",
            "v2.avsc",
            "--output",
            "json",
        ];
        let ended = folder.walpost(&words);
        let answer = ended.json();
        let checks = answer["checks"].as_array().expect("checks").clone();
        let pairs = checks.iter().map(|check| {
            assert_eq!(check["level"], level);
            let name = |side: &str| check[side].as_str().unwrap_or_default().replace(".avsc", "");
            format!("{} reads {}: {}", name("reader"), name("writer"), check["compatible"])
        });
        (ended.code, pairs.collect::<Vec<_>>())
    };
    assert_eq!(check("NONE"), (0, Vec::new()));
    assert_eq!(check("BACKWARD"), (1, vec!["v2 reads v1: false".to_owned()]));
    assert_eq!(check("FORWARD"), (0, vec!["v1 reads v2: true".to_owned()]));
    let both = ["v1 reads v2: true", "v2 reads v1: false"].map(str::to_owned).to_vec();
    assert_eq!(check("FULL"), (1, both));
    let all = ["v2 reads v1: false", "v2 reads v0: false"].map(str::to_owned).to_vec();
    assert_eq!(check("BACKWARD_TRANSITIVE"), (1, all));
    let wrong =
        folder.walpost(&["schema", "check", "--level", "BACK", "--history", "v1.avsc", "v2.avsc"]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (2, ""));
}

#[test]
fn a_batch_answers_every_line_and_could_not_tell_is_null() {
    let v2: Value = serde_json::from_str(V2).expect("json");
    let lines = [
        json!({"id": 1, "reader": "int", "writer": "int"}).to_string(),
        json!({"id": "two", "reader": v2, "writer": V1}).to_string(),
        json!({"id": 3, "reader": "no such type", "writer": "int"}).to_string(),
        "not json".to_owned(),
        json!({"id": 5, "reader": "int"}).to_string(),
    ];
    let folder = Folder::new();
    let ended = folder.walpost_with(&["schema", "check", "--batch"], &lines.join("\n"));
    let answers: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    let verdicts: Vec<(&Value, &Value)> =
        answers.iter().map(|answer| (&answer["id"], &answer["compatible"])).collect();
    let expected = [
        (&json!(1), &json!(true)),
        (&json!("two"), &json!(false)),
        (&json!(3), &Value::Null),
        (&Value::Null, &Value::Null),
        (&json!(5), &Value::Null),
    ];
    assert_eq!(verdicts, expected);
    assert_eq!(ended.code, 3, "what could not be told is not fine");
    assert_eq!(answers[1]["checks"][0]["findings"].as_array().map(Vec::len), Some(2));
    assert!(answers[2]["error"].as_str().is_some_and(|error| error.contains("no such type")));
    let fine = folder.walpost_with(&["schema", "check", "--batch"], &lines[0]);
    assert_eq!(fine.code, 0);
    let refused = folder.walpost_with(&["schema", "check", "--batch"], &lines[1]);
    assert_eq!(refused.code, 1);
}

#[test]
fn bad_schemas_are_named_with_file_line_and_column_and_never_compatible() {
    let folder = folder();
    let field =
        |inner: &str| format!("{{\"type\":\"record\",\"name\":\"R\",\"fields\":[\n {inner}]}}");
    let nested =
        format!("{}\"int\"{}", "{\"type\":\"array\",\"items\":".repeat(2_000), "}".repeat(2_000));
    let rows = [
        ("notjson.avsc", "{\"type\": \"int\"".to_owned(), "notjson.avsc:1:15: not JSON"),
        ("list.avsc", "{\"type\": 3}".to_owned(), "list.avsc:1:10:"),
        (
            "unknown.avsc",
            field(r#"{"name":"a","type":"shop.Nothing"}"#),
            "unknown.avsc:2:21: unknown type \"shop.Nothing\"",
        ),
        (
            "twice.avsc",
            field(r#"{"name":"a","type":"int"}, {"name":"a","type":"int"}"#),
            "twice.avsc:2:29: record R has two fields named \"a\"",
        ),
        ("deep.avsc", nested, "deep.avsc:1:"),
        ("empty.avsc", String::new(), "empty.avsc:1:1: not JSON"),
    ];
    for (name, text, expected) in rows {
        folder.write(name, &text);
        for (reader, writer) in [(name, "v1.avsc"), ("v1.avsc", name)] {
            for form in ["text", "json", "junit", "github", "sarif"] {
                let words =
                    ["schema", "check", "--reader", reader, "--writer", writer, "--output", form];
                let ended = folder.walpost(&words);
                assert_eq!(ended.code, 2, "{name} {form}: {}{}", ended.stdout, ended.stderr);
                assert!(ended.stderr.contains(expected), "{name}: {}", ended.stderr);
                if form == "json" {
                    assert_eq!(ended.json()["compatible"], Value::Null);
                }
            }
        }
    }
    std::fs::write(folder.path().join("latin1.avsc"), b"{\"type\": \"int\",\n \"doc\": \"\xFC\"}")
        .expect("file");
    let ended =
        folder.walpost(&["schema", "check", "--reader", "latin1.avsc", "--writer", "v1.avsc"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("latin1.avsc:2:10: not UTF-8"), "{}", ended.stderr);
    let absent = folder.walpost(&["schema", "check", "--reader", "x.avsc", "--writer", "v1.avsc"]);
    assert_eq!(absent.code, 2);
    assert!(absent.stderr.contains("x.avsc"), "{}", absent.stderr);
}

#[test]
fn a_wrong_default_is_a_finding_where_it_is_needed() {
    let folder = folder();
    let id = r#"{"name": "id", "type": "string"}"#;
    let both = format!("{id},\n {}", r#"{"name": "n", "type": "int", "default": "x"}"#);
    let wrong = V1.replace(id, &both);
    folder.write("wrong.avsc", &wrong);
    let ended = folder.walpost(&[
        "schema",
        "check",
        "--reader",
        "wrong.avsc",
        "--writer",
        "v1.avsc",
        "--output",
        "json",
    ]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let finding = &ended.json()["checks"][0]["findings"][0];
    assert_eq!(
        (&finding["code"], &finding["severity"], &finding["line"]),
        (&json!("DEFAULT_INVALID"), &json!("decode"), &json!(6))
    );
}

#[test]
fn text_shows_the_schemas_own_lines_with_the_place_underlined() {
    let ended =
        folder().walpost(&["schema", "check", "--reader", "v2.avsc", "--writer", "v1.avsc"]);
    for part in [
        "TYPE_MISMATCH (gate)",
        "{\"name\": \"qty\", \"type\": \"int\"},",
        "v2.avsc:6:29",
        "breaks: whoever reads with v2.avsc what was written with v1.avsc",
        "mend: keep null in the type: [\"null\", \"int\"]",
        "other side: v1.avsc:6:30",
        "incompatible: 1 check, 2 gate",
    ] {
        assert!(ended.stdout.contains(part), "no {part:?} in\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains('\u{1b}'), "no colour in an answer");
}

#[test]
fn ten_megabytes_with_ten_thousand_findings_end_in_every_form() {
    let folder = Folder::new();
    let wide = |kind: &str| {
        let doc = "x".repeat(170);
        let field = |at: usize| {
            format!("{{\"name\": \"field_{at:06}\", \"type\": \"{kind}\", \"doc\": \"{doc}\"}}")
        };
        let fields: Vec<String> = (0..50_000).map(field).collect();
        // On one line, as generators write it.
        format!("{{\"type\": \"record\", \"name\": \"W\", \"fields\": [{}]}}", fields.join(","))
    };
    folder.write("new.avsc", &wide("int"));
    folder.write("old.avsc", &wide("string"));
    for form in ["text", "json", "junit", "github", "sarif"] {
        let words = ["schema", "check", "--reader", "new.avsc", "--writer", "old.avsc"];
        let start = std::time::Instant::now();
        let ended = folder.walpost(&[&words[..], &["--output", form]].concat());
        println!("{form}: {:?}, {} bytes", start.elapsed(), ended.stdout.len());
        assert_eq!(ended.code, 1, "{form}: {}", ended.stderr);
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
    }
}
