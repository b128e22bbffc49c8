//! Schema files against a registry: the in-process one over HTTP, and servers that are away, slow,
//! unwilling or no registry at all. What cannot be told is never compatible.

#[allow(dead_code, unreachable_pub, reason = "no binary uses all of it")]
mod support;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};
use support::{Ended, Folder};
use tokio::runtime::Runtime;
use walpost_schema::registry::{MemoryRegistry, Normalize, dev_server};

/// A server on a loopback port for as long as it lives.
struct Served {
    url: String,
    _runtime: Runtime,
}

fn serve(router: Router) -> Served {
    let runtime = Runtime::new().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    runtime.spawn(async move { axum::serve(listener, router).await });
    Served { url, _runtime: runtime }
}

fn registry() -> (Arc<MemoryRegistry>, Served) {
    let memory = Arc::new(MemoryRegistry::new());
    let served = serve(dev_server::router(Arc::clone(&memory)));
    (memory, served)
}

fn record(name: &str, fields: &str) -> String {
    format!("{{\"type\": \"record\", \"name\": \"{name}\", \"fields\": [{fields}]}}\n")
}

const ID: &str = r#"{"name": "id", "type": "string"}"#;
const NEW: &str = r#"{"name": "id", "type": "string"}, {"name": "new", "type": "int"}"#;

fn folder(url: &str) -> Folder {
    let folder = Folder::new();
    folder.write("walpost.toml", &format!("[registry]\nurl = \"{url}\"\n"));
    folder
}

fn steps(ended: &Ended) -> Vec<String> {
    let answer = ended.json();
    let plan = answer["plan"].as_array().unwrap_or_else(|| panic!("no plan in {answer}"));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let line = |step: &Value| {
        format!("{} {} {}", text(&step["action"]), text(&step["subject"]), step["version"])
    };
    plan.iter().map(line).collect()
}

#[test]
fn register_plans_first_takes_references_first_and_is_safe_to_repeat() {
    let (memory, served) = registry();
    let folder = folder(&served.url);
    // By name the order would be the other way round.
    folder.write("schemas/a.avsc", &record("s.Order", r#"{"name": "total", "type": "s.Money"}"#));
    folder.write("schemas/b.avsc", &record("s.Money", r#"{"name": "cents", "type": "long"}"#));
    let words = ["schema", "register", "--topic", "events.order", "--output", "json"];
    let dry = folder.walpost(&[&words[..], &["--dry-run"]].concat());
    assert_eq!(dry.code, 0, "{}{}", dry.stdout, dry.stderr);
    let planned = ["register events.order-s.Money null", "register events.order-s.Order null"];
    assert_eq!(steps(&dry), planned);
    assert!(memory.list(walpost_schema::registry::Deleted::Shown).is_empty(), "a dry run");
    let made = folder.walpost(&words);
    assert_eq!(made.code, 0, "{}{}", made.stdout, made.stderr);
    assert_eq!(
        steps(&made),
        ["registered events.order-s.Money 1", "registered events.order-s.Order 1"]
    );
    let again = folder.walpost(&words);
    assert_eq!(
        steps(&again),
        ["unchanged events.order-s.Money 1", "unchanged events.order-s.Order 1"]
    );
    // The subjects are known now: no topic is needed any more.
    let listed = folder.walpost(&["schema", "list", "--output", "json"]).json();
    assert_eq!(
        listed[0],
        json!({"subject": "events.order-s.Money", "versions": [1], "id": 1, "type": "s.Money",
            "level": "BACKWARD", "own_level": false})
    );
    let text = folder.walpost(&["schema", "list", "Order"]);
    assert!(text.stdout.contains("events.order-s.Order") && !text.stdout.contains("s.Money "));

    // A new version of what is referred to moves what refers to it.
    folder.write("schemas/b.avsc", &record("s.Money", r#"{"name": "cents", "type": "double"}"#));
    let moved = folder.walpost(&["schema", "register", "--output", "json"]);
    assert_eq!(
        steps(&moved),
        ["registered events.order-s.Money 2", "registered events.order-s.Order 2"],
        "{}",
        moved.stdout
    );
}

#[test]
fn nothing_is_registered_when_anything_is_refused() {
    let (memory, served) = registry();
    let text = record("s.A", ID);
    memory.put("events.a-s.A", &text, &[], Normalize::No).expect("registered");
    let folder = folder(&served.url);
    folder.write("schemas/a.avsc", &record("s.A", NEW));
    folder.write("schemas/b.avsc", &record("s.B", ID));
    let ended = folder.walpost(&["schema", "register", "--topic", "events.a"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    for part in ["READER_FIELD_MISSING_DEFAULT_VALUE", "refused", "schemas/a.avsc:1:"] {
        assert!(ended.stdout.contains(part), "no {part} in {}", ended.stdout);
    }
    let subjects = memory.list(walpost_schema::registry::Deleted::Shown);
    assert_eq!(subjects, ["events.a-s.A"]);
    let unknown = folder.walpost(&["schema", "register"]);
    assert_eq!(unknown.code, 2, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("--topic"), "{}", unknown.stderr);
}

#[test]
fn the_folder_is_checked_at_the_registrys_own_level() {
    let (memory, served) = registry();
    let folder = folder(&served.url);
    memory.put("events.a-s.A", &record("s.A", ID), &[], Normalize::No).expect("version 1");
    folder.write("schemas/a.avsc", &record("s.A", NEW));
    let check =
        |more: &[&str]| folder.walpost(&[&["schema", "check", "--output", "json"], more].concat());
    let refused = check(&[]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let check_of = &refused.json()["checks"][0];
    assert_eq!(
        (&check_of["subject"], &check_of["level"], &check_of["writer"]),
        (&json!("events.a-s.A"), &json!("BACKWARD"), &json!("events.a-s.A version 1"))
    );
    memory.set_level(Some("events.a-s.A"), "FORWARD").expect("a level");
    assert_eq!(check(&[]).code, 0);
    memory.set_level(None, "FULL").expect("a level");
    memory.delete_level("events.a-s.A").expect("no own level");
    assert_eq!(check(&[]).json()["checks"].as_array().map(Vec::len), Some(2));
    assert_eq!(check(&["--level", "FORWARD"]).code, 0);
}

#[test]
fn a_registry_that_judges_otherwise_is_heard_and_named() {
    let (memory, served) = registry();
    memory.put("events.a-s.A", &record("s.A", ID), &[], Normalize::No).expect("version 1");
    let refuse = || async { axum::Json(json!({"is_compatible": false, "messages": ["I say no"]})) };
    let inner = dev_server::router(memory);
    let router = Router::new()
        .route("/compatibility/subjects/{subject}/versions", axum::routing::post(refuse))
        .fallback_service(inner);
    let other = serve(router);
    drop(served);
    let folder = folder(&other.url);
    folder.write("schemas/a.avsc", &record("s.A", ID));
    let ended = folder.walpost(&["schema", "check"]);
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    for part in ["verdicts differ", "events.a-s.A", "I say no"] {
        assert!(ended.stderr.contains(part), "no {part} in {}", ended.stderr);
    }
}

/// Every verb that asks a registry, in every form.
#[track_caller]
fn cannot_tell(url: &str, parts: &[&str]) {
    let folder = folder(url);
    folder.write("schemas/a.avsc", &record("s.A", ID));
    folder.write(
        "walpost-consumer.toml",
        "name = \"c\"\nversion = \"1\"\n[[reads]]\ntype = \"s.A\"\nschema = \"schemas/a.avsc\"\n",
    );
    let mut verbs = vec![
        vec!["schema", "register", "--topic", "t"],
        vec!["schema", "list"],
        vec!["can-i-deploy", "--as", "consumer"],
    ];
    for form in ["text", "json", "junit", "github", "sarif"] {
        verbs.push(vec!["schema", "check", "--output", form]);
    }
    for words in verbs {
        let ended = folder.walpost(&words);
        assert_eq!(ended.code, 3, "{words:?}: {}{}", ended.stdout, ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "{words:?}: no {part} in {}", ended.stderr);
        }
        assert!(!ended.stdout.contains("\"compatible\":true"), "{words:?}: {}", ended.stdout);
    }
}

#[test]
fn a_registry_that_is_away_is_could_not_tell() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    cannot_tell(&format!("http://{address}"), &["cannot be reached"]);
}

#[test]
fn a_registry_that_refuses_us_fails_or_is_none_is_could_not_tell() {
    let answers = [
        (StatusCode::UNAUTHORIZED, "{\"error_code\":401,\"message\":\"no\"}", "401"),
        (StatusCode::FORBIDDEN, "<html>forbidden</html>", "403"),
        (StatusCode::INTERNAL_SERVER_ERROR, "{\"error_code\":50001,\"message\":\"broken\"}", "500"),
        (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>", "502"),
        (StatusCode::OK, "<html>a login page</html>", "JSON"),
        (StatusCode::OK, "[\"events.a-s.", "JSON"),
    ];
    for (status, body, part) in answers {
        let served = serve(Router::new().fallback(move || async move { (status, body) }));
        cannot_tell(&served.url, &[part]);
    }
}

#[test]
fn a_registry_that_never_answers_is_could_not_tell_after_the_timeout() {
    // Takes connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let folder = folder(&url);
    folder.write("schemas/a.avsc", &record("s.A", ID));
    let start = std::time::Instant::now();
    let ended = folder.walpost(&["schema", "check"]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("no answer within the timeout"), "{}", ended.stderr);
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_consumer_is_checked_against_every_version_of_its_subject() {
    let (memory, served) = registry();
    memory.set_level(None, "NONE").expect("a level");
    for fields in [ID, NEW] {
        memory.put("events.a-s.A", &record("s.A", fields), &[], Normalize::No).expect("a version");
    }
    let folder = folder(&served.url);
    folder.write("reader.avsc", &record("s.A", NEW));
    folder.write(
        "walpost-consumer.toml",
        "name = \"stock\"\nversion = \"2\"\n[[reads]]\ntype = \"s.A\"\nschema = \"reader.avsc\"\n",
    );
    let ended = folder.walpost(&["can-i-deploy", "--as", "consumer", "--output", "json"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let checks = ended.json()["checks"].clone();
    let verdicts: Vec<(&Value, &Value)> = checks
        .as_array()
        .expect("checks")
        .iter()
        .map(|check| (&check["writer"], &check["compatible"]))
        .collect();
    assert_eq!(
        verdicts,
        [
            (&json!("events.a-s.A version 1"), &json!(false)),
            (&json!("events.a-s.A version 2"), &json!(true))
        ]
    );
    let finding = &checks[0]["findings"][0];
    assert!(finding["breaks"].as_str().is_some_and(|who| who.contains("consumer stock 2")));
    assert_eq!(finding["message"], "new");
}
