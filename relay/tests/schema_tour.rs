//! A tour: a repository with three schemas and two consumers, and one breaking change in a pull
//! request. What a person and a CI server get is kept in `tests/tour/`, byte for byte.

#[allow(dead_code, unreachable_pub, reason = "no binary uses all of it")]
mod support;

use expect_test::expect_file;
use serde_json::Value;
use support::{Ended, Folder};

const MONEY: &str = r#"{
  "type": "record",
  "name": "shop.Money",
  "doc": "An amount.",
  "fields": [
    {"name": "cents", "type": "long", "doc": "minor units"},
    {"name": "currency", "type": {"type": "enum", "name": "Currency", "symbols": ["EUR", "USD"]}}
  ]
}
"#;

const PLACED: &str = r#"{
  "type": "record",
  "name": "shop.OrderPlaced",
  "doc": "An order was placed.",
  "fields": [
    {"name": "id", "type": "string", "doc": "the order"},
    {"name": "total", "type": "shop.Money", "doc": "with tax"},
    {
      "name": "lines",
      "type": {
        "type": "array",
        "items": {
          "type": "record",
          "name": "Line",
          "fields": [
            {"name": "sku", "type": "string"},
            {"name": "qty", "type": "int"}
          ]
        }
      }
    }
  ]
}
"#;

const SHIPPED: &str = r#"{
  "type": "record",
  "name": "shop.OrderShipped",
  "doc": "An order left the house.",
  "fields": [
    {"name": "id", "type": "string", "doc": "the order"},
    {"name": "carrier", "type": ["null", "string"], "default": null}
  ]
}
"#;

/// What billing reads: it must have the total, and does without lines.
const BILLING: &str = r#"
name = "billing"
version = "1.4.2"

[[reads]]
type = "shop.OrderPlaced"
schema = "OrderPlaced.avsc"
fields = ["id", "total.cents"]
"#;

/// What the warehouse reads: every field.
const WAREHOUSE: &str = r#"
name = "warehouse"
version = "7"

[[reads]]
type = "shop.OrderPlaced"
schema = "OrderPlaced.avsc"

[[reads]]
type = "shop.OrderShipped"
schema = "OrderShipped.avsc"
"#;

/// main as it is, and a branch where `qty` became a string and `GBP` was added.
fn repository() -> Folder {
    let folder = Folder::new();
    let with_money = |text: &str| text.replace("\"shop.Money\"", MONEY.trim_end());
    for (name, text) in [
        ("schemas/Money.avsc", MONEY.to_owned()),
        ("schemas/orders/OrderPlaced.avsc", PLACED.to_owned()),
        ("schemas/orders/OrderShipped.avsc", SHIPPED.to_owned()),
        ("contracts/billing/walpost-consumer.toml", BILLING.to_owned()),
        ("contracts/billing/OrderPlaced.avsc", with_money(PLACED)),
        ("contracts/warehouse/walpost-consumer.toml", WAREHOUSE.to_owned()),
        ("contracts/warehouse/OrderPlaced.avsc", with_money(PLACED)),
        ("contracts/warehouse/OrderShipped.avsc", SHIPPED.to_owned()),
    ] {
        folder.write(name, &text);
    }
    folder.commit("as it is");
    let changed = PLACED
        .replace("\"name\": \"qty\", \"type\": \"int\"", "\"name\": \"qty\", \"type\": \"string\"");
    folder.write("schemas/orders/OrderPlaced.avsc", &changed);
    let changed = MONEY.replace("[\"EUR\", \"USD\"]", "[\"EUR\", \"USD\", \"GBP\"]");
    folder.write("schemas/Money.avsc", &changed);
    folder
}

fn check(folder: &Folder, form: &str) -> Ended {
    let words = ["schema", "check", "--against", "git:main", "--level", "FULL", "--output", form];
    let ended = folder.walpost(&words);
    assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.stderr, "");
    ended
}

/// Without what every release changes.
fn without_version(text: &str) -> String {
    text.replace(concat!("\"version\":\"", env!("CARGO_PKG_VERSION"), "\""), "\"version\":\"..\"")
}

#[test]
fn a_person_gets_lines_places_victims_and_mends() {
    let folder = repository();
    expect_file!["tour/check.txt"].assert_eq(&check(&folder, "text").stdout);
    let diff = folder.walpost(&["schema", "diff", "--against", "git:main"]);
    expect_file!["tour/diff.txt"].assert_eq(&diff.stdout);
}

#[test]
fn ci_gets_sarif_junit_annotations_and_json() {
    let folder = repository();
    let sarif = check(&folder, "sarif");
    expect_file!["tour/check.sarif.json"].assert_eq(&without_version(&pretty(&sarif.json())));
    expect_file!["tour/check.junit.xml"].assert_eq(&check(&folder, "junit").stdout);
    expect_file!["tour/check.github.txt"].assert_eq(&check(&folder, "github").stdout);
    expect_file!["tour/check.json"].assert_eq(&pretty(&check(&folder, "json").json()));
}

#[test]
fn consumers_are_named_with_version_and_field() {
    let folder = repository();
    let words = ["can-i-deploy", "--as", "producer"];
    let ended = folder.walpost(&words);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    expect_file!["tour/can-i-deploy.txt"].assert_eq(&ended.stdout);
    let json = folder.walpost(&[&words[..], &["--output", "json"]].concat()).json();
    let broken: Vec<String> = json["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .flat_map(|check| check["findings"].as_array().expect("findings"))
        .map(|finding| format!("{}: {}", finding["breaks"], finding["path"]))
        .collect();
    for (consumer, field) in [("billing 1.4.2", "lines[].qty"), ("warehouse 7", "lines[].qty")] {
        let is_named = |line: &String| line.contains(consumer) && line.contains(field);
        assert!(broken.iter().any(is_named), "{consumer} {field}: {broken:#?}");
    }
}

#[test]
fn every_finding_names_rule_victim_line_and_mend_in_every_form() {
    let folder = repository();
    let json = check(&folder, "json").json();
    let findings: Vec<&Value> = json["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .flat_map(|check| check["findings"].as_array().expect("findings"))
        .collect();
    assert!(!findings.is_empty());
    for form in ["text", "json", "junit", "github", "sarif"] {
        // Without line breaks, escapes and frames: the words must be there.
        let plain = |text: &str| -> String {
            let text = text.replace("%0A", " ").replace("%25", "%").replace("&quot;", "\"");
            let text = text
                .replace("\\\"", "\"")
                .replace("&gt;", ">")
                .replace("&apos;", "'")
                .replace("&lt;", "<");
            text.chars().filter(|c| c.is_alphanumeric()).collect()
        };
        let answer = plain(&check(&folder, form).stdout);
        for finding in &findings {
            for key in ["code", "breaks", "help", "line", "rule", "file"] {
                let wanted =
                    finding[key].as_str().map_or_else(|| finding[key].to_string(), str::to_owned);
                assert!(answer.contains(&plain(&wanted)), "{form}: no {key} {wanted}");
            }
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("json") + "\n"
}
