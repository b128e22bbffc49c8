//! A registry behind a proxy that asks who is there: basic and bearer, over plain text and TLS;
//! what a refusal says, and that no secret is told.

use serde_json::{Value, json};
use walpost_tests::certificates::authority;
use walpost_tests::oracle::Form;
use walpost_tests::proxy::Proxy;
use walpost_tests::relay::verb;
use walpost_tests::{CANARY, Relay, World, stack, wait_for};
use xtask::stack::Tls;

/// `walpost:c4n4ry` in base64.
const BASIC: &str = "Basic d2FscG9zdDpjNG40cnk=";
const BASIC_AUTH: &str = "auth = { username = \"walpost\", password_file = \"FILE\" }\n";
const BEARER: &str = "Bearer c4n4ry";
const BEARER_AUTH: &str = "auth = { token_file = \"FILE\" }\n";

fn cents(name: &str) -> Value {
    let fields = json!([{"name": "cents", "type": "long"}, {"name": "n", "type": "long"}]);
    json!({"type": "record", "name": name, "namespace": "test", "fields": fields})
}

/// A world whose registry is behind a proxy, with the secret in a file.
struct Guarded {
    proxy: Proxy,
    file: tempfile::NamedTempFile,
    world: World,
}

impl Guarded {
    fn new(label: &str, wanted: &str, auth: &str, tls: Option<&Tls>, secret: &str) -> Self {
        let mut world = World::avro(label);
        let proxy = Proxy::start(&stack().registry, wanted, tls);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("{secret}\n")).expect("written");
        world.registry_url = Some(proxy.url());
        let path = file.path().to_str().expect("a path");
        world.registry_more = auth.replace("FILE", path);
        let subject = world.subject("order", "test.Placed");
        world.registry.register(&subject, &cents("Placed"));
        world.write(("order", "1"), "test.Placed", "'{\"cents\": 1}'");
        Self { proxy, file, world }
    }

    /// Waits for the fault; its text, which names the registry.
    #[track_caller]
    fn waits(&self, relay: &Relay) -> String {
        let status = relay.wait_fault(&self.world.name, "registry_unavailable");
        assert_eq!(status["state"], "waiting_registry");
        let text = status["fault"]["text"].as_str().expect("a text").to_owned();
        assert!(text.contains(self.proxy.url().trim_end_matches('/')), "who: {text}");
        text
    }

    #[track_caller]
    fn is_relayed(&self, relay: &Relay) {
        self.world.drained(relay);
        let decoder = self.world.decoder();
        self.world.judge(&Form::Avro(&decoder)).assert_exact();
    }
}

#[test]
fn basic_and_bearer_credentials_are_sent_and_told_at_no_level() {
    for (wanted, auth) in [(BASIC, BASIC_AUTH), (BEARER, BEARER_AUTH)] {
        let guarded = Guarded::new("auth", wanted, auth, None, CANARY);
        let config = guarded.world.config();
        let relay = guarded.world.start_with(&[("WALPOST_LOG", "trace")]);
        guarded.is_relayed(&relay);
        assert_eq!(guarded.proxy.refused(), 0);
        let shown = verb(&["config", "show"], Some(&config), "");
        assert!(shown.stdout.contains("registry.auth = b"), "{}", shown.stdout);
        assert!(!format!("{}{}", shown.stdout, shown.log).contains(CANARY));
        let topic = guarded.world.topic("order");
        let tail = ["tail", &topic, "--from", "beginning", "--no-follow", "--output", "json"];
        let tail = verb(&tail, Some(&config), "");
        assert!(tail.stdout.contains("\"cents\":1"), "{}{}", tail.stdout, tail.log);
        assert_eq!(relay.terminate().code, Some(0));
    }
}

#[test]
fn refused_credentials_are_waited_for_until_their_file_is_mended() {
    for (wanted, auth, status) in
        [(BASIC, BASIC_AUTH, "401 Unauthorized"), (BEARER, BEARER_AUTH, "403 Forbidden")]
    {
        let wrong = format!("{CANARY}wrong");
        let guarded = Guarded::new("refused", wanted, auth, None, &wrong);
        guarded.proxy.refuse_with(status);
        let relay = guarded.world.start();
        let text = guarded.waits(&relay);
        let code = &status[..3];
        assert!(text.contains(&format!("refuses our credentials (HTTP {code})")), "{text}");
        std::fs::write(guarded.file.path(), format!("{CANARY}\n")).expect("written");
        guarded.is_relayed(&relay);
    }
}

#[test]
fn credentials_that_are_rotated_while_it_runs_need_no_restart() {
    let guarded = Guarded::new("rotated", BEARER, BEARER_AUTH, None, CANARY);
    let relay = guarded.world.start();
    guarded.is_relayed(&relay);
    guarded.proxy.want(&format!("{BEARER}new"));
    let subject = guarded.world.subject("order", "test.Paid");
    guarded.world.registry.register(&subject, &cents("Paid"));
    guarded.world.write(("order", "1"), "test.Paid", "'{\"cents\": 2}'");
    wait_for("a refusal", || (guarded.proxy.refused() > 0).then_some(()));
    std::fs::write(guarded.file.path(), format!("{CANARY}new\n")).expect("written");
    guarded.is_relayed(&relay);
}

#[test]
fn a_registry_over_tls_is_verified_by_the_named_authority() {
    let authority = authority("IP:127.0.0.1");
    let auth = format!("{BASIC_AUTH}tls_ca_file = {:?}\n", authority.file);
    let guarded = Guarded::new("tls", BASIC, &auth, Some(&authority.tls), CANARY);
    let relay = guarded.world.start();
    guarded.is_relayed(&relay);
    drop(relay);
    let other = format!("{BASIC_AUTH}tls_ca_file = {:?}\n", authority.other);
    for auth in [other.as_str(), BASIC_AUTH] {
        let guarded = Guarded::new("unknown", BASIC, auth, Some(&authority.tls), CANARY);
        let relay = guarded.world.start();
        let text = guarded.waits(&relay);
        assert!(text.to_lowercase().contains("certificate"), "{text}");
    }
}

#[test]
fn a_certificate_of_another_host_is_refused() {
    let authority = authority("DNS:elsewhere.example");
    let auth = format!("{BASIC_AUTH}tls_ca_file = {:?}\n", authority.file);
    let guarded = Guarded::new("host", BASIC, &auth, Some(&authority.tls), CANARY);
    let relay = guarded.world.start();
    let text = guarded.waits(&relay);
    assert!(text.to_lowercase().contains("certificate"), "{text}");
}
