//! Schema files against a revision: no clone, no network, renames followed, shallow clones named.

#[allow(dead_code, unreachable_pub, reason = "no binary uses all of it")]
mod support;

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::Value;
use support::{Ended, Folder};

fn record(name: &str, fields: &str) -> String {
    format!("{{\"type\": \"record\", \"name\": \"{name}\", \"fields\": [{fields}]}}\n")
}

const ID: &str = r#"{"name": "id", "type": "string"}"#;
const NEW: &str = r#"{"name": "id", "type": "string"}, {"name": "new", "type": "int"}"#;

fn check(folder: &Folder, more: &[&str]) -> Ended {
    let words = ["schema", "check", "--against", "git:main", "--output", "json"];
    folder.walpost(&[&words, more].concat())
}

/// `reader writer: codes`, one for each check.
fn told(ended: &Ended) -> Vec<String> {
    let answer = ended.json();
    let checks = answer["checks"].as_array().expect("checks").clone();
    checks
        .iter()
        .map(|check| {
            let codes: Vec<&str> = check["findings"]
                .as_array()
                .expect("findings")
                .iter()
                .filter_map(|finding| finding["code"].as_str())
                .collect();
            let name = |side: &str| check[side].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", name("reader"), name("writer"), codes.join(","))
        })
        .collect()
}

#[test]
fn a_folder_is_compared_with_a_branch_and_new_files_owe_nobody() {
    let folder = Folder::new();
    folder.write("schemas/a.avsc", &record("s.A", ID));
    folder.write("schemas/deep/b.avsc", &record("s.B", ID));
    folder.commit("first");
    folder.write("schemas/a.avsc", &record("s.A", NEW));
    folder.write("schemas/c.avsc", &record("s.C", NEW));
    let ended = check(&folder, &[]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let expected = [
        "schemas/a.avsc main:schemas/a.avsc: READER_FIELD_MISSING_DEFAULT_VALUE",
        "schemas/deep/b.avsc main:schemas/deep/b.avsc: ",
    ];
    assert_eq!(told(&ended), expected);
    assert_eq!(ended.json()["checks"][0]["subject"], "s.A");
}

#[test]
fn a_renamed_file_is_found_by_its_type_or_by_git() {
    let folder = Folder::new();
    // Git compares lines.
    let doc = "\"a long enough text for git to see what became of this file\"";
    let doc = format!("\n\"doc\": {doc},\n\"comment\": {doc},\n\"remark\": {doc},\n");
    let with_doc =
        |name: &str, fields: &str| record(name, fields).replacen('{', &format!("{{{doc}"), 1);
    folder.write("schemas/old.avsc", &record("s.A", ID));
    folder.write("schemas/both.avsc", &with_doc("s.B", ID));
    folder.commit("first");
    folder.git(&["mv", "schemas/old.avsc", "schemas/new.avsc"]);
    folder.git(&["mv", "schemas/both.avsc", "schemas/renamed.avsc"]);
    folder.write("schemas/new.avsc", &record("s.A", NEW));
    folder.write("schemas/renamed.avsc", &with_doc("s.Renamed", ID));
    let ended = check(&folder, &[]);
    let expected = [
        "schemas/new.avsc main:schemas/old.avsc: READER_FIELD_MISSING_DEFAULT_VALUE",
        "schemas/renamed.avsc main:schemas/both.avsc: NAME_MISMATCH",
    ];
    assert_eq!(told(&ended), expected, "{}", ended.stderr);
}

#[test]
fn a_transitive_level_looks_at_every_version_along_the_branch() {
    let folder = Folder::new();
    folder.write("schemas/a.avsc", &record("s.A", ""));
    folder.commit("first");
    folder.git(&["mv", "schemas/a.avsc", "schemas/b.avsc"]);
    folder.commit("moved");
    let with_default = r#"{"name": "id", "type": "string", "default": ""}"#;
    folder.write("schemas/b.avsc", &record("s.A", with_default));
    folder.commit("second");
    folder.write("schemas/b.avsc", &record("s.A", ID));
    let newest = check(&folder, &["--level", "BACKWARD"]);
    assert_eq!((newest.code, told(&newest).len()), (0, 1), "{}", newest.stderr);
    let all = check(&folder, &["--level", "BACKWARD_TRANSITIVE"]);
    assert_eq!(all.code, 1, "{}", all.stderr);
    let told = told(&all);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("READER_FIELD_MISSING_DEFAULT_VALUE"), "{told:?}");
}

#[test]
fn an_earlier_version_uses_the_types_of_its_own_commit() {
    let folder = Folder::new();
    let money = |fields: &str| record("s.Money", fields);
    let order =
        |more: &str| record("s.Order", &format!(r#"{{"name": "total", "type": "s.Money"}}{more}"#));
    let note = r#", {"name": "note", "type": "string", "default": ""}"#;
    folder.write("schemas/money.avsc", &money(r#"{"name": "cents", "type": "string"}"#));
    folder.write("schemas/order.avsc", &order(""));
    folder.commit("first");
    folder.write("schemas/money.avsc", &money(r#"{"name": "cents", "type": "long"}"#));
    folder.write("schemas/order.avsc", &order(note));
    folder.commit("second");
    let ended = check(&folder, &["--level", "BACKWARD_TRANSITIVE"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let of_order: Vec<String> =
        told(&ended).into_iter().filter(|one| one.contains("order.avsc")).collect();
    assert_eq!(of_order.len(), 2, "{of_order:?}");
    assert!(of_order[0].ends_with("main:schemas/order.avsc: "), "{of_order:?}");
    assert!(of_order[1].ends_with("TYPE_MISMATCH"), "{of_order:?}");
    let checks = ended.json()["checks"].as_array().expect("checks").clone();
    let old = checks.iter().find(|one| one["compatible"] == false && one["subject"] == "s.Order");
    assert_eq!(old.expect("the first version")["findings"][0]["path"], "total.cents");
}

#[test]
fn a_schema_that_is_gone_is_said_and_stops_nobody_unless_asked() {
    let folder = Folder::new();
    folder.write("schemas/a.avsc", &record("s.A", ID));
    folder.write("schemas/gone.avsc", &record("s.Gone", ID));
    folder.write("schemas/old.avsc", &record("s.Moved", ID));
    folder.commit("first");
    folder.git(&["rm", "--quiet", "schemas/gone.avsc"]);
    folder.git(&["mv", "schemas/old.avsc", "schemas/new.avsc"]);
    let ended = check(&folder, &[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let expected = [
        "schemas/a.avsc main:schemas/a.avsc: ",
        "schemas/new.avsc main:schemas/old.avsc: ",
        "main:schemas/gone.avsc main:schemas/gone.avsc: SCHEMA_REMOVED",
    ];
    assert_eq!(told(&ended), expected);
    let finding = &ended.json()["checks"][2]["findings"][0];
    assert_eq!((&finding["severity"], &finding["line"]), (&"meaning".into(), &1.into()));
    assert_eq!(check(&folder, &["--fail-on", "meaning"]).code, 1);
}

#[test]
fn references_are_resolved_within_the_same_tree() {
    let folder = Folder::new();
    folder.write("schemas/money.avsc", &record("s.Money", r#"{"name": "cents", "type": "int"}"#));
    folder
        .write("schemas/order.avsc", &record("s.Order", r#"{"name": "total", "type": "s.Money"}"#));
    folder.commit("first");
    folder
        .write("schemas/money.avsc", &record("s.Money", r#"{"name": "cents", "type": "string"}"#));
    let ended = check(&folder, &[]);
    let expected = [
        "schemas/money.avsc main:schemas/money.avsc: TYPE_MISMATCH",
        "schemas/order.avsc main:schemas/order.avsc: TYPE_MISMATCH",
    ];
    assert_eq!(told(&ended), expected);
    let finding = &ended.json()["checks"][1]["findings"][0];
    assert_eq!(
        (&finding["path"], &finding["file"]),
        (&"total.cents".into(), &"schemas/money.avsc".into())
    );
}

#[test]
fn a_revision_that_is_not_there_and_a_folder_without_repository_are_usage() {
    let folder = Folder::new();
    folder.write("schemas/a.avsc", &record("s.A", ID));
    let nowhere = check(&folder, &[]);
    assert_eq!((nowhere.code, nowhere.json()["compatible"].clone()), (2, Value::Null));
    assert!(nowhere.stderr.contains("git repository"), "{}", nowhere.stderr);
    folder.commit("first");
    for (against, part) in [
        ("git:nothing", "no revision \"nothing\""),
        ("git:--output=x", "no revision"),
        ("git:", "git:REF"),
        ("main", "git:REF"),
    ] {
        let ended = folder.walpost(&["schema", "check", "--against", against]);
        assert_eq!(ended.code, 2, "{against}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{against}: {}", ended.stderr);
    }
    let empty = folder.walpost(&["schema", "check", "--against", "git:main", "--dir", "nowhere"]);
    assert_eq!(empty.code, 2);
    assert!(empty.stderr.contains("no such folder"), "{}", empty.stderr);
}

#[test]
fn a_shallow_clone_is_named_with_its_mend() {
    let origin = Folder::new();
    origin.write("schemas/a.avsc", &record("s.A", ID));
    origin.commit("first");
    origin.write("schemas/a.avsc", &record("s.A", NEW));
    origin.commit("second");
    let first = origin.git(&["rev-parse", "HEAD~1"]);
    let clone = Folder::new();
    let url = format!("file://{}", origin.path().display());
    clone.git(&["clone", "--quiet", "--depth", "1", &url, "."]);
    let missing = format!("git:{}", first.trim());
    let ended = clone.walpost(&["schema", "check", "--against", &missing]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    for part in ["shallow", "git fetch --unshallow", "fetch-depth: 0", "GIT_DEPTH"] {
        assert!(ended.stderr.contains(part), "no {part} in {}", ended.stderr);
    }
    let transitive =
        clone.walpost(&["schema", "check", "--against", "git:HEAD", "--level", "FULL_TRANSITIVE"]);
    assert_eq!(transitive.code, 3, "{}", transitive.stderr);
    assert!(transitive.stderr.contains("shallow"), "{}", transitive.stderr);
}

#[test]
fn a_thousand_schemas_are_checked_against_git() {
    let folder = Folder::new();
    for at in 0..1_000 {
        let mut fields = String::from(ID);
        for field in 0..20 {
            let _ = write!(
                fields,
                ",\n {{\"name\": \"field_{field}\", \"type\": [\"null\", \"long\"], \
                 \"default\": null}}"
            );
        }
        folder.write(
            &format!("schemas/{}/s{at}.avsc", at % 10),
            &record(&format!("s.R{at}"), &fields),
        );
    }
    folder.commit("first");
    let start = Instant::now();
    let ended = check(&folder, &["--level", "FULL"]);
    let took = start.elapsed();
    println!("1,000 schemas of 21 fields, FULL, against git: {took:?}");
    assert_eq!((ended.code, told(&ended).len()), (0, 2_000), "{}", ended.stderr);
}
