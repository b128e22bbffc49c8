//! A configuration is read as written, or refused with place, key and expectation.

use super::*;
use crate::route::{PayloadForm, Unpublishable};

const TEN_LINES: &str = r#"[kafka]
bootstrap_servers = "localhost:9092"
[registry]
url = "http://localhost:8081"
[[source]]
name = "shop"
url = "postgres://walpost:s3cret@localhost/shop"
[[source.route]]
match = { aggregate_type = "order" }
topic = "events.{aggregate_type}"
"#;

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::parse(text, "walpost.toml", &Environment::from_pairs(pairs))
}

fn refusal(text: &str, variables: &[(&str, &str)]) -> String {
    let error = parse(text, variables).expect_err("refused");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    error.to_string()
}

#[test]
fn ten_lines_suffice() {
    let settings = parse(TEN_LINES, &[]).expect("settings");
    let source = &settings.sources[0];
    assert_eq!((source.slot.as_str(), source.table.as_str()), ("walpost_shop", "public.outbox"));
    assert_eq!(source.address.to_string(), "localhost:5432/shop");
    assert_eq!(source.routes[0].payload, PayloadForm::Avro);
    assert!(settings.admin.listen.ip().is_loopback());
    assert!(!settings.kafka.create_topics);
}

#[test]
fn unknown_keys_are_refused_with_place_and_nearest_name() {
    let text = TEN_LINES.replace("bootstrap_servers", "bootstrap_server");
    assert_eq!(
        refusal(&text, &[]),
        "walpost.toml:2:1: unknown key \"kafka.bootstrap_server\", did you mean \
         \"bootstrap_servers\"?"
    );
    let text = TEN_LINES.replace("topic =", "topics =");
    assert_eq!(
        refusal(&text, &[]),
        "walpost.toml:10:1: unknown key \"source.0.route.0.topics\", did you mean \"topic\"?"
    );
}

#[test]
fn the_environment_wins_and_stays_text() {
    let variables = [
        ("WALPOST_SOURCE__SHOP__URL", "postgres://u@db1/shop"),
        ("WALPOST_SOURCE__SHOP__PASSWORD", "007"),
        ("WALPOST_KAFKA__PARTITIONS", "12"),
        ("WALPOST_KAFKA__CREATE_TOPICS", "true"),
        ("WALPOST_TEST_KAFKA", "not ours"),
    ];
    let settings = parse(TEN_LINES, &variables).expect("settings");
    assert_eq!(settings.kafka.partitions.get(), 12);
    assert!(settings.kafka.create_topics);
    assert_eq!(settings.sources[0].address.to_string(), "db1:5432/shop");
    let shown = show(settings.shown());
    assert!(shown.contains("WALPOST_SOURCE__SHOP__URL"), "{shown}");
    assert!(!shown.contains("007"), "{shown}");
}

#[test]
fn a_password_that_looks_like_a_number_is_refused_without_being_shown() {
    let text = format!("{TEN_LINES}\n[registry.auth]\nusername = \"u\"\npassword = 4711\n");
    let refusal = refusal(&text, &[]);
    assert!(refusal.starts_with("walpost.toml:14:1: registry.auth.password must be"), "{refusal}");
    assert!(!refusal.contains("4711"), "{refusal}");
}

#[test]
fn secrets_are_never_shown() {
    let shown = show(parse(TEN_LINES, &[]).expect("settings").shown());
    assert!(shown.contains("source.0.password = ***"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_registry_is_shown_without_its_secret_and_with_its_origin() {
    assert_eq!(without_password("http://u:a@b@host/x,http://h"), "http://u:***@host/x,http://h");
    let variables = [("WALPOST_REGISTRY__AUTH__TOKEN", "s3cret")];
    let settings = parse(TEN_LINES, &variables).expect("settings");
    let auth = settings.shown().iter().find(|shown| shown.key == "registry.auth").expect("auth");
    assert_eq!(auth.value, "bearer ***");
    assert_eq!(auth.origin.to_string(), "WALPOST_REGISTRY__AUTH__TOKEN");
}

#[test]
fn a_secret_file_is_read_and_named_when_missing() {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), "12345\n").expect("write");
    let path = file.path().to_str().expect("path");
    let variables =
        [("WALPOST_KAFKA__SECURITY", "sasl_ssl"), ("WALPOST_KAFKA__PASSWORD_FILE", path)];
    let settings = parse(TEN_LINES, &variables).expect("settings");
    let password = settings.kafka.password.expect("password");
    assert_eq!(secrecy::ExposeSecret::expose_secret(&password.now()), "12345");
    let missing = refusal(TEN_LINES, &[("WALPOST_SOURCE__SHOP__URL_FILE", "/nowhere")]);
    assert!(missing.contains("/nowhere"), "{missing}");
}

#[test]
fn wrong_units_and_kinds_are_named() {
    let text = TEN_LINES.replace("[[source]]", "refresh_interval = \"5 seconds\"\n[[source]]");
    assert_eq!(
        refusal(&text, &[]),
        "walpost.toml:5:1: registry.refresh_interval must be a time such as \"5s\" (ms, s, m, h)"
    );
    let refused = refusal(TEN_LINES, &[("WALPOST_KAFKA__PARTITIONS", "many")]);
    assert_eq!(refused, "WALPOST_KAFKA__PARTITIONS: kafka.partitions must be a whole number");
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let text = format!("{TEN_LINES}[delivery]\nmode = \"exactly-once\"\n");
    assert_eq!(
        refusal(&text, &[]),
        "walpost.toml:12:1: delivery.mode = \"exactly-once\" is not built yet"
    );
    let text = format!("{TEN_LINES}[limits]\nmemory = \"64MiB\"\n");
    assert!(refusal(&text, &[]).contains("limits.memory = 64MiB is not built yet"));
}

#[test]
fn policies_and_the_bounds_of_the_parking_lot_are_read_and_checked() {
    let policy = |lines: &str| {
        parse(&format!("{TEN_LINES}{lines}"), &[]).map(|settings| {
            let source = settings.sources.into_iter().next().expect("a source");
            (source.routes[0].on_unpublishable.clone(), source.lot)
        })
    };
    let (default, lot) = policy("").expect("settings");
    assert_eq!((default, lot), (Unpublishable::Park, LotLimits::default()));
    let letters = "on_unpublishable = \"dead-letter\"\ndead_letter_topic = \"dead\"\n";
    let (dead, _) = policy(letters).expect("settings");
    assert!(matches!(dead, Unpublishable::DeadLetter(topic) if topic.to_string() == "dead"));
    let bounds = "[limits]\nparked_keys = 7\nparked_bytes = \"2MiB\"\nparked_ratio = \"5%\"\n";
    let (_, lot) = policy(bounds).expect("settings");
    assert_eq!((lot.keys, lot.bytes, lot.ratio_percent), (7, 2 << 20, 5));
    let refuse = |lines: &str| policy(lines).expect_err("refused").to_string();
    assert!(refuse("on_unpublishable = \"dead-letter\"\n").contains("dead_letter_topic"));
    assert!(refuse("dead_letter_topic = \"dead\"\n").contains("dead_letter_topic is used with"));
    assert!(refuse("on_unpublishable = \"drop\"\n").contains("must be \"park\", \"stop\""));
    assert!(refuse("[limits]\nparked_ratio = \"500%\"\n").contains("limits.parked_ratio must be"));
}

#[test]
fn settings_that_would_break_a_promise_are_refused() {
    let text = format!("{TEN_LINES}[kafka.properties]\nacks = \"1\"\n")
        .replace("[kafka]\nbootstrap_servers = \"localhost:9092\"\n", "");
    let refused = refusal(&text, &[("WALPOST_KAFKA__BOOTSTRAP_SERVERS", "b:1")]);
    assert!(refused.contains("kafka property \"acks\" may not be set"), "{refused}");
}

#[test]
fn the_world_is_not_served_without_a_token() {
    let text = format!("{TEN_LINES}[admin]\nlisten = \"0.0.0.0:9464\"\n");
    assert!(refusal(&text, &[]).contains("admin.token_file"));
    let allowed = format!("{text}insecure = true\n");
    assert!(parse(&allowed, &[]).is_ok());
}

#[test]
fn an_unknown_source_in_the_environment_is_refused() {
    let refused = refusal(TEN_LINES, &[("WALPOST_SOURCE__SHOPS__URL", "postgres://u:s3cret@a/b")]);
    assert!(refused.starts_with("WALPOST_SOURCE__SHOPS__URL: unknown key"), "{refused}");
}

#[test]
fn the_debezium_preset_maps_its_columns() {
    let text = TEN_LINES.replace(
        "[[source.route]]",
        "outbox = { table = \"s.outboxevent\", preset = \"debezium\" }\n[[source.route]]",
    );
    let settings = parse(&text, &[]).expect("settings");
    let columns = &settings.sources[0].columns;
    assert_eq!(columns.aggregate_type, "aggregatetype");
    assert_eq!(
        (columns.aggregate_id.as_str(), columns.event_type.as_str()),
        ("aggregateid", "type")
    );
}

#[test]
fn credentials_that_would_not_be_used_are_refused() {
    for (key, value, security) in [
        ("USERNAME", "u", "plaintext"),
        ("PASSWORD", "s3cret", "ssl"),
        ("MECHANISM", "PLAIN", "ssl"),
        ("TLS_CA_FILE", "/ca.pem", "sasl_plaintext"),
    ] {
        let variable = format!("WALPOST_KAFKA__{key}");
        let refused =
            refusal(TEN_LINES, &[(&variable, value), ("WALPOST_KAFKA__SECURITY", security)]);
        let wanted = format!(
            "{variable}: kafka.{} is set, and kafka.security = \"{security}\" uses none",
            key.to_lowercase()
        );
        assert_eq!(refused, wanted);
    }
}

#[test]
fn two_sources_cannot_share_a_slot() {
    let second = |name: &str, database: &str| {
        let url = format!("postgres://walpost@localhost/{database}");
        format!("{TEN_LINES}[[source]]\nname = \"{name}\"\nurl = \"{url}\"\n")
    };
    let text = refusal(&second("Shop", "shop"), &[]);
    for part in ["\"shop\"", "\"Shop\"", "\"walpost_shop\"", "source.slot"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    parse(&second("Shop", "other"), &[]).expect("another database has other slots");
    let own_slot = second("Shop", "shop") + "slot = \"mine\"\n";
    parse(&own_slot, &[]).expect("another slot");
}
