//! Brokers with TLS and SASL: who is let in, what a refusal says, and that no password is told. One
//! private broker has a listener for each, beside the plain one that the harness reads.

use std::path::Path;

use walpost_tests::certificates::{Authority, authority};
use walpost_tests::oracle::Form;
use walpost_tests::postgres::PayloadType;
use walpost_tests::relay::{verb, verb_with};
use walpost_tests::{CANARY, Cluster, Database, Relay, World, stack, wait_for};
use xtask::stack::{Kafka, KafkaOptions, Secure};

const USER: &str = "walpost";

struct Secured {
    authority: Authority,
    kafka: Kafka,
    world: World,
}

/// A broker whose one user has [`CANARY`] as password. Where `wants_client` is set, the listener
/// without SASL asks for a client's certificate.
fn secured(label: &str, wants_client: bool) -> Secured {
    let authority = authority("IP:127.0.0.1");
    let mut tls = authority.tls.clone();
    tls.client_authority =
        wants_client.then(|| std::fs::read_to_string(&authority.file).expect("the authority"));
    let user = (USER.to_owned(), CANARY.to_owned());
    let secure = Some(Secure { tls, user });
    let kafka = Kafka::start(KafkaOptions { secure, ..KafkaOptions::default() }).expect("a broker");
    let database = Database::new(&stack().postgres, label, PayloadType::Jsonb);
    let mut world = World::with(database, Cluster::new(&kafka.address()), "json");
    world.brokers = kafka.sasl_ssl_address();
    Secured { authority, kafka, world }
}

/// `[kafka]` of a client with SASL over TLS.
fn sasl(mechanism: &str, password_file: &Path, ca_file: &Path) -> String {
    format!(
        "security = \"sasl_ssl\"\nmechanism = \"{mechanism}\"\nusername = \"{USER}\"\n\
         password_file = {password_file:?}\ntls_ca_file = {ca_file:?}\n"
    )
}

fn password_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{text}\n")).expect("written");
    file
}

/// Waits for this fault; its text, which names the brokers.
#[track_caller]
fn waits(world: &World, relay: &Relay, code: &str) -> String {
    let status = relay.wait_fault(&world.name, code);
    assert_eq!(status["state"], "waiting_kafka");
    let text = status["fault"]["text"].as_str().expect("a text").to_owned();
    assert!(text.contains(&world.brokers), "whom it waits for: {text}");
    text
}

#[test]
fn every_mechanism_over_tls_publishes_and_tells_no_password_at_any_level() {
    let Secured { authority, kafka: _kafka, mut world } = secured("sasl", false);
    let file = password_file(CANARY);
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] {
        world.general = sasl(mechanism, file.path(), &authority.file);
        let relay = world.start_with(&[("WALPOST_LOG", "trace")]);
        relay.wait_state(&world.name, "streaming");
        world.write(("order", mechanism), "test.Placed", "'{}'");
        world.drained(&relay);
        assert_eq!(relay.terminate().code, Some(0));
    }
    world.judge(&Form::Json).assert_exact();
    let shown = verb(&["config", "show"], Some(&world.config()), "");
    assert!(shown.stdout.contains("kafka.password = ***"), "{}", shown.stdout);
    assert!(!format!("{}{}", shown.stdout, shown.log).contains(CANARY));
}

#[test]
fn init_and_tail_use_the_same_credentials_as_run() {
    let Secured { authority, kafka: _kafka, mut world } = secured("verbs", false);
    let (right, wrong) = (password_file(CANARY), password_file("wrong"));
    let topic = world.topic("fixed");
    world.source = format!("[[source.route]]\ntopic = \"{topic}\"\npayload = \"json\"\n");
    world.general = sasl("SCRAM-SHA-512", right.path(), &authority.file);
    let config = world.config_of_owner();
    let made = verb(&["init"], Some(&config), "");
    assert_eq!(made.code, Some(0), "{}", made.log);
    assert!(made.stdout.contains(&format!("topic {topic} (3 partitions)")), "{}", made.stdout);
    let relay = world.streaming();
    world.write(("order", "1"), "test.Placed", "'{\"a\": 1}'");
    world.drained(&relay);
    let tail = ["tail", &topic, "--from", "beginning", "--no-follow", "--output", "json"];
    let shown = verb(&tail, Some(&config), "");
    assert_eq!((shown.code, shown.stdout.lines().count()), (Some(0), 1), "{}", shown.log);
    let path = wrong.path().to_str().expect("a path");
    for arguments in [&["init"][..], &tail] {
        let variables = [("WALPOST_KAFKA__PASSWORD_FILE", path)];
        let refused = verb_with(arguments, Some(&config), "", &variables);
        assert_eq!(refused.code, Some(3), "{}", refused.log);
        // What `init` found in the database before it came to Kafka is told.
        assert!(refused.stdout.lines().all(|line| line.starts_with("ok ")), "{}", refused.stdout);
        assert!(refused.log.contains("does not let user walpost in"), "{}", refused.log);
        assert!(refused.log.contains(&world.brokers), "{}", refused.log);
    }
}

#[test]
fn a_wrong_password_is_waited_for_until_its_file_is_mended() {
    let Secured { authority, kafka: _kafka, mut world } = secured("mended", false);
    for mechanism in ["SCRAM-SHA-256", "PLAIN"] {
        let file = password_file(&format!("{CANARY}wrong"));
        world.general = sasl(mechanism, file.path(), &authority.file);
        let relay = world.start();
        let text = waits(&world, &relay, "kafka_not_let_in");
        assert!(text.contains("user walpost"), "{text}");
        assert!(text.contains("Authentication failed"), "{text}");
        std::fs::write(file.path(), format!("{CANARY}\n")).expect("written");
        relay.wait_state(&world.name, "streaming");
        world.write(("order", mechanism), "test.Placed", "'{}'");
        world.drained(&relay);
    }
    world.judge(&Form::Json).assert_exact();
}

/// The broker is started again with another password for PLAIN, which a producer with the old one
/// meets in the middle of its life.
#[test]
fn a_password_that_is_rotated_while_it_runs_needs_no_restart_and_loses_nothing() {
    let Secured { authority, mut kafka, mut world } = secured("rotated", false);
    let file = password_file(CANARY);
    world.general = sasl("PLAIN", file.path(), &authority.file);
    let relay = world.streaming();
    world.write(("order", "1"), "test.Placed", "'{}'");
    world.drained(&relay);
    kafka.stop().expect("stopped");
    kafka.set_password(&format!("{CANARY}new")).expect("the settings are written");
    kafka.start_again().expect("started");
    world.write(("order", "1"), "test.Paid", "'{}'");
    relay.wait_state(&world.name, "waiting_kafka");
    std::fs::write(file.path(), format!("{CANARY}new\n")).expect("written");
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    world.judge(&Form::Json).assert_kept();
}

#[test]
fn a_broker_of_an_unknown_authority_is_refused_and_says_so() {
    let Secured { authority, kafka: _kafka, mut world } = secured("unknown", false);
    let file = password_file(CANARY);
    world.general = sasl("SCRAM-SHA-256", file.path(), &authority.other);
    let relay = world.start();
    let text = waits(&world, &relay, "kafka_tls");
    assert!(text.contains("certificate verify failed"), "{text}");
    drop(relay);
    // Without a file the system's authorities count, and ours is none of them.
    let known = format!("tls_ca_file = {:?}\n", authority.other);
    world.general = world.general.replace(&known, "");
    let relay = world.start();
    let text = waits(&world, &relay, "kafka_tls");
    assert!(text.contains("certificate verify failed"), "{text}");
}

#[test]
fn a_certificate_of_another_host_is_refused() {
    let others = authority("DNS:elsewhere.example");
    let secure = Secure { tls: others.tls.clone(), user: (USER.to_owned(), CANARY.to_owned()) };
    let options = KafkaOptions { secure: Some(secure), ..KafkaOptions::default() };
    let kafka = Kafka::start(options).expect("a broker");
    let database = Database::new(&stack().postgres, "host", PayloadType::Jsonb);
    let mut world = World::with(database, Cluster::new(&kafka.address()), "json");
    world.brokers = kafka.ssl_address();
    world.general = format!("security = \"ssl\"\ntls_ca_file = {:?}\n", others.file);
    let relay = world.start();
    let text = waits(&world, &relay, "kafka_tls");
    assert!(text.contains("certificate verify failed"), "{text}");
}

#[test]
fn a_client_certificate_opens_a_listener_that_asks_for_one() {
    let Secured { authority, kafka, mut world } = secured("client", true);
    let (certificate, key) = authority.client();
    world.brokers = kafka.ssl_address();
    world.general = format!("security = \"ssl\"\ntls_ca_file = {:?}\n", authority.file);
    let relay = world.start();
    // The broker ends the connection; what OpenSSL makes of that is its own.
    relay.wait_state(&world.name, "waiting_kafka");
    drop(relay);
    world.general.push_str(&format!(
        "[kafka.properties]\n\"ssl.certificate.location\" = {certificate:?}\n\
         \"ssl.key.location\" = {key:?}\n"
    ));
    let relay = world.streaming();
    world.write(("order", "1"), "test.Placed", "'{}'");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn plain_text_to_a_listener_with_tls_is_told_as_what_it_may_be() {
    let Secured { kafka: _kafka, mut world, .. } = secured("plain", false);
    world.general = String::new();
    let relay = world.start();
    let text = waits(&world, &relay, "kafka_unreachable");
    assert!(text.contains("security"), "what to look at: {text}");
}

/// A client that looks at a topic is in the middle of its handshake when the process ends.
#[test]
fn an_order_to_end_during_a_look_at_a_topic_ends_with_zero_over_tls() {
    let Secured { authority, kafka: _kafka, mut world } = secured("ends", false);
    let file = password_file(CANARY);
    world.general = sasl("SCRAM-SHA-256", file.path(), &authority.file);
    let rounds = if walpost_tests::is_long() { 200 } else { 20 };
    for round in 0..rounds {
        let relay = world.streaming();
        wait_for("the producer alone", || (relay.kafka_clients() == 1).then_some(()));
        world.write((&format!("order{round}"), "1"), "test.Placed", "'{}'");
        // Asked without a pause: it is over within some milliseconds.
        let start = std::time::Instant::now();
        while relay.kafka_clients() < 2 {
            assert!(start.elapsed() < walpost_tests::PATIENCE, "nobody looks at the topic");
        }
        assert_eq!(relay.terminate().code, Some(0), "round {round}");
    }
    let relay = world.streaming();
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_kept();
}
