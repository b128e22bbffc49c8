//! Events that cannot be published, and registries and topics that are not there: the source stops
//! at the event by its id, or waits for who can mend it, and the slot never passes the event.

use walpost_tests::postgres::PayloadType;
use walpost_tests::{CANARY, World, wait_for};

use crate::faults::{assert_names, stops};

/// The event id that a stop names, and that nothing behind the event was confirmed.
#[track_caller]
fn stops_at_event(world: &World, code: &str) -> String {
    let start = world.database.confirmed();
    let text = stops(world, code);
    let truth = world.database.truth();
    let id = &truth.first().expect("an event").id;
    assert_names(&text, &[&format!("event {id} at ")]);
    assert!(world.database.confirmed() <= start.max(first_commit(&text)), "{text}");
    assert!(world.records().is_empty(), "the event is not in Kafka");
    text
}

/// The commit LSN that the text names.
fn first_commit(text: &str) -> u64 {
    let place = text.split(" at ").nth(1).and_then(|rest| rest.split(": ").next());
    let position: walpost_schema::envelope::EventPosition =
        place.unwrap_or_default().parse().expect("a position");
    position.commit_lsn
}

#[test]
fn a_payload_that_is_not_json() {
    let world = World::new("notjson", PayloadType::Text, "json");
    let body = format!("{{\"secret\": \"{CANARY}\", ");
    write_text(&world, &body);
    let text = stops_at_event(&world, "payload_not_json");
    assert_names(&text, &["not json"]);
}

#[test]
fn a_text_payload_that_is_not_json_for_an_avro_route() {
    let world = World::new("notavro", PayloadType::Text, "avro");
    let subject = world.subject("order", "test.Placed");
    world.registry.register(&subject, &crate::delivery::placed("Placed"));
    write_text(&world, &format!("{CANARY} is no json"));
    let text = stops_at_event(&world, "payload_unfit");
    assert_names(&text, &[&subject, "invalid_json"]);
}

fn write_text(world: &World, body: &str) {
    world.database.run(&format!(
        "INSERT INTO truth VALUES
           (gen_random_uuid(), 'order', '1', 1, 'test.Placed', $t${body}$t$, NULL);
         INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload)
           SELECT id, aggregate_type, aggregate_id, event_type, payload FROM truth"
    ));
}

#[test]
fn a_payload_that_does_not_fit_names_place_and_types_but_no_value() {
    let world = World::avro("unfit");
    let subject = world.subject("order", "test.Placed");
    world.registry.register(&subject, &crate::delivery::placed("Placed"));
    let body = format!("'{{\"note\": 1, \"cents\": \"{CANARY}\", \"writer\": 1}}'");
    world.write(("order", "1"), "test.Placed", &body);
    let text = stops_at_event(&world, "payload_unfit");
    assert_names(&text, &[&subject, "version 1", "cents", "note", "expected"]);
}

#[test]
fn an_event_type_without_a_schema() {
    let world = World::avro("noschema");
    let body = format!("'{{\"a\": \"{CANARY}\"}}'");
    world.write(("order", "1"), "test.Unknown", &body);
    let text = stops_at_event(&world, "schema_not_registered");
    assert_names(&text, &[&world.subject("order", "test.Unknown")]);
}

/// Registries answer such names with pages of their web servers; they must not be waited for.
#[test]
fn an_event_type_that_no_record_can_be_called() {
    for event_type in ["order placed", "shop/Order", "shop.\u{1b}[31mRed\n", "..", "%2F", "1st", ""]
    {
        let world = World::avro("noname");
        world.write(("order", "1"), event_type, "'{}'");
        let text = stops_at_event(&world, "schema_not_registered");
        assert!(!text.contains(char::is_control), "{text}");
        assert_names(&text, &["no name of an Avro record"]);
    }
}

#[test]
fn a_schema_that_is_registered_a_moment_later_is_waited_for() {
    let world = World::avro("soon");
    let relay = world.streaming();
    world.write(("order", "1"), "test.Soon", "'{}'");
    let schema = serde_json::json!({"type": "record", "name": "Soon", "namespace": "test",
        "fields": [{"name": "n", "type": "long"}]});
    relay.wait_state(&world.name, "waiting_registry");
    world.registry.register(&world.subject("order", "test.Soon"), &schema);
    world.drained(&relay);
    relay.wait_state(&world.name, "streaming");
    let log = relay.log();
    assert!(log.contains("\"message\":\"streaming again\""), "the end of the wait: {log}");
    drop(relay);
    world.judge(&walpost_tests::oracle::Form::Avro(&world.decoder())).assert_exact();
}

#[test]
fn a_topic_that_is_missing_and_may_not_be_made() {
    let mut world = World::json("notopic");
    world.creates_topics = false;
    world.write(("lost", "1"), "test.L", "'{}'");
    world.init();
    let text = world.start().wait_stop("topic_missing");
    assert_names(&text, &[&world.topic("lost")]);
    assert!(world.cluster.topics(&world.topic("lost")).is_empty(), "no broker made it in silence");
}

#[test]
fn a_record_larger_than_its_topic_takes_names_both_sizes() {
    let world = World::json("large");
    world.cluster.create(&world.topic("big"), 3, &[("max.message.bytes", "10000")]);
    let body = format!("jsonb_build_object('text', repeat('{CANARY}', 3000))");
    world.write(("big", "1"), "test.Big", &body);
    let text = stops_at_event(&world, "record_too_large");
    assert_names(&text, &[&world.topic("big"), "10000", "max.message.bytes"]);
}

#[test]
fn a_null_key_and_headers_that_are_no_object() {
    let world = World::json("nullkey");
    world.database.run("ALTER TABLE outbox ALTER aggregate_id DROP NOT NULL");
    world.database.run(
        "INSERT INTO outbox (id, aggregate_type, event_type, payload)
         VALUES (gen_random_uuid(), 'a', 'test.A', '{}')",
    );
    assert_names(&stops(&world, "column_null"), &["aggregate_id"]);

    let world = World::json("badheaders");
    let sql = format!("SELECT write_event('h', '1', 'test.H', '{{}}', '[\"{CANARY}\"]')");
    world.database.run(&sql);
    assert_names(&stops_at_event(&world, "headers_invalid"), &["not a json object"]);
}

#[test]
fn a_logical_message_that_is_no_event() {
    let world = World::json("badmessage");
    world.database.run(&format!(
        "SELECT pg_logical_emit_message(true, 'walpost',
           '{{\"id\": \"1\", \"payload\": \"{CANARY}\"}}')"
    ));
    assert_names(&stops(&world, "message_not_an_event"), &["missing field"]);
}

#[test]
fn passthrough_values_must_name_an_id_of_their_subject_and_decode_whole() {
    let schema = serde_json::json!({"type": "record", "name": "Raw", "namespace": "test",
        "fields": [{"name": "text", "type": "string"}]});
    for (label, value) in
        [("noframe", "ff00"), ("foreign", "00000000630a68656c6c6f"), ("rest", "0a68656c6c6f00")]
    {
        let world = World::new(label, PayloadType::Bytea, "avro-passthrough");
        let id = world.registry.register(&world.subject("raw", "test.Raw"), &schema);
        let value = if label == "rest" { format!("00{id:08x}{value}") } else { value.to_owned() };
        world
            .database
            .run(&format!("SELECT write_bytes('raw', '1', 'test.Raw', decode('{value}', 'hex'))"));
        stops_at_event(&world, "passthrough_invalid");
    }
}

#[test]
fn a_registry_that_is_away_is_waited_for() {
    let mut world = World::avro("noregistry");
    let port = xtask::machine::free_port().expect("a port");
    world.registry_url = Some(format!("http://127.0.0.1:{port}"));
    let relay = world.streaming();
    world.write(("order", "1"), "test.Placed", "'{}'");
    let written = world.database.wal_end();
    let status = relay.wait_state(&world.name, "waiting_registry");
    assert_eq!(status["fault"]["code"], "registry_unavailable");
    assert_names(status["fault"]["text"].as_str().expect("a text"), &["127.0.0.1"]);
    assert!(world.database.confirmed() < written);
}

#[test]
fn a_registry_that_answers_rubbish_is_waited_for_and_its_words_are_not_repeated() {
    let mut world = World::avro("rubbish");
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    world.registry_url = Some(format!("http://{}", server.local_addr().expect("an address")));
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in server.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let body = format!("<html>{CANARY}</html>");
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            );
        }
    });
    let relay = world.streaming();
    world.write(("order", "1"), "test.Placed", "'{}'");
    let written = world.database.wal_end();
    let status = relay.wait_state(&world.name, "waiting_registry");
    assert_eq!(status["fault"]["code"], "registry_unavailable");
    assert!(world.database.confirmed() < written);
}

#[test]
fn a_topic_that_appears_within_its_grace_is_waited_for() {
    let mut world = World::json("latetopic");
    world.creates_topics = false;
    world.init();
    let relay = world.start();
    relay.wait_state(&world.name, "streaming");
    world.write(("late", "1"), "test.L", "'{}'");
    let written = world.database.wal_end();
    let pause = std::time::Instant::now();
    wait_for("two seconds", || (pause.elapsed().as_secs() >= 2).then_some(()));
    assert!(relay.is_running() && world.database.confirmed() < written, "{}", relay.log());
    world.cluster.create(&world.topic("late"), 2, &[]);
    world.drained(&relay);
    assert_eq!(world.records().len(), 1);
}
