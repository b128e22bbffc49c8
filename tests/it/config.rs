//! The configuration: what is wrong in it is named with its place, and no secret is ever printed.

use serde_json::Value;
use walpost_tests::CANARY;
use walpost_tests::relay::{Ended, verb, verb_with};

const GOOD: &str = "[kafka]
bootstrap_servers = \"127.0.0.1:9092\"
[[source]]
name = \"orders\"
url = \"postgres://walpost@127.0.0.1/shop\"
[[source.route]]
payload = \"json\"
";

#[track_caller]
fn refused(config: &str, parts: &[&str]) {
    for arguments in [&["config", "check"][..], &["run"], &["init"]] {
        let Ended { code, log, stdout, .. } = verb(arguments, Some(config), "");
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{log}");
        for part in parts {
            assert!(log.contains(part), "no \"{part}\" in: {log}");
        }
        assert!(!log.contains(CANARY), "a secret in: {log}");
    }
}

#[test]
fn a_good_configuration_is_fine_and_says_so_in_both_forms() {
    let ended = verb(&["config", "check"], Some(GOOD), "");
    assert_eq!((ended.code, ended.stdout.starts_with("ok: ")), (Some(0), true));
    let ended = verb(&["config", "check", "--output", "json"], Some(GOOD), "");
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).expect("json")["ok"], true);
}

#[test]
fn an_unknown_key_is_refused_with_place_and_nearest_name() {
    let bad = GOOD.replace("bootstrap_servers", "bootstrap_server");
    refused(&bad, &["walpost.toml:2:1", "bootstrap_server", "did you mean \"bootstrap_servers\"?"]);
    let bad = GOOD.replace("name =", "nmae =");
    refused(&bad, &["walpost.toml:4:1", "nmae", "did you mean \"name\"?"]);
}

#[test]
fn a_wrong_unit_is_refused_with_what_it_must_be() {
    let bad = format!("[registry]\nurl = \"http://r\"\nrefresh_interval = \"5 parsecs\"\n{GOOD}");
    refused(&bad, &["walpost.toml:3:1", "registry.refresh_interval must be"]);
    let bad = format!("[registry]\nurl = \"http://r\"\nrefresh_interval = 5\n{GOOD}");
    refused(&bad, &["walpost.toml:3:1", "registry.refresh_interval must be"]);
}

#[test]
fn what_is_documented_and_not_built_is_refused_by_name() {
    let exactly = format!("[delivery]\nmode = \"exactly-once\"\n{GOOD}");
    refused(&exactly, &["delivery.mode", "exactly-once", "not built yet"]);
    let limits = format!("[limits]\nmemory = \"64MiB\"\n{GOOD}");
    refused(&limits, &["limits.memory", "not built yet"]);
}

#[test]
fn settings_that_would_break_a_promise_are_refused() {
    for name in ["acks", "enable.idempotence", "message.timeout.ms", "transactional.id"] {
        let bad = GOOD.replace("[[source]]", &format!("properties.\"{name}\" = \"1\"\n[[source]]"));
        refused(&bad, &[name, "may not be set"]);
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named() {
    let ended = verb(&["config", "check", "--config", "/nowhere/walpost.toml"], None, "");
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("/nowhere/walpost.toml"), "{}", ended.log);
    refused(&format!("[kafka\npassword = \"{CANARY}\""), &["walpost.toml:1:"]);
}

#[test]
fn a_password_that_looks_like_a_number_stays_a_password_and_is_never_printed() {
    let number = "0012345678901234567890";
    let with = format!("{GOOD}\n").replace("url =", &format!("password = \"{number}\"\nurl ="));
    for (config, environment) in [
        (with.as_str(), vec![]),
        (GOOD, vec![("WALPOST_SOURCE__ORDERS__PASSWORD", number)]),
        (
            GOOD,
            vec![
                ("WALPOST_KAFKA__PASSWORD", number),
                ("WALPOST_KAFKA__USERNAME", "walpost"),
                ("WALPOST_KAFKA__SECURITY", "sasl_ssl"),
            ],
        ),
    ] {
        for output in ["text", "json"] {
            let arguments = ["config", "show", "--output", output];
            let ended = verb_with(&arguments, Some(config), "", &environment);
            assert_eq!(ended.code, Some(0), "{}", ended.log);
            let all = ended.stdout + &ended.log;
            assert!(all.contains("***") && !all.contains("12345678901"), "{all}");
        }
    }
    // A bare number in the file is a mistake that is named without its value.
    let bare = GOOD.replace("url =", "password = 987654321987\nurl =");
    let ended = verb(&["config", "show"], Some(&bare), "");
    assert_eq!(ended.code, Some(2), "{}", ended.stdout);
    assert!(ended.log.contains("password"), "{}", ended.log);
    assert!(!(ended.stdout + &ended.log).contains("987654321987"));
}

#[test]
fn a_url_with_a_password_shows_without_it() {
    let config = GOOD.replace("walpost@", &format!("walpost:{CANARY}@"));
    for output in ["text", "json"] {
        let ended = verb(&["config", "show", "--output", output], Some(&config), "");
        assert_eq!(ended.code, Some(0));
        assert!(!ended.stdout.contains(CANARY), "{}", ended.stdout);
    }
    let broken = config.replace("/shop", "/shop?sslmode=maybe");
    refused(&broken, &["orders", "maybe"]);
}

#[test]
fn the_environment_wins_over_the_file_and_says_so() {
    let environment =
        [("WALPOST_SOURCE__ORDERS__SLOT", "other_slot"), ("WALPOST_ADMIN__LISTEN", "127.0.0.1:1")];
    let ended = verb_with(&["config", "show", "--output", "json"], Some(GOOD), "", &environment);
    let shown: Vec<Value> = serde_json::from_str(&ended.stdout).expect("json");
    let find = |key: &str| {
        let found = shown.iter().find(|value| value["key"].as_str().unwrap_or("").ends_with(key));
        found.unwrap_or_else(|| panic!("no {key} in {}", ended.stdout)).clone()
    };
    assert_eq!(find(".slot")["value"], "other_slot");
    assert_eq!(find(".slot")["origin"], "WALPOST_SOURCE__ORDERS__SLOT");
    assert_eq!(find("admin.listen")["origin"], "WALPOST_ADMIN__LISTEN");
    let unknown = [("WALPOST_SOURCE__NOBODY__SLOT", "x")];
    let ended = verb_with(&["config", "check"], Some(GOOD), "", &unknown);
    assert_eq!(ended.code, Some(2), "{}", ended.stdout);
    assert!(ended.log.contains("WALPOST_SOURCE__NOBODY__SLOT"), "{}", ended.log);
}

#[test]
fn beyond_loopback_a_token_or_the_word_insecure_is_demanded() {
    let open = format!("[admin]\nlisten = \"0.0.0.0:9464\"\n{GOOD}");
    refused(&open, &["admin.listen", "admin.token_file", "admin.insecure"]);
}
