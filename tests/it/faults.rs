//! Bad input and faults: each ends in one clear message that names the object, under a stable code.
//! What another party can mend is waited for; what a person must decide stops the source.
//!
//! [`Relay`](walpost_tests::Relay) checks of every log that it holds neither a payload nor a
//! password of these tests.

use walpost_tests::postgres::PayloadType;
use walpost_tests::{CANARY, Cluster, Database, Relay, World, stack, unique, wait_for};
use xtask::stack::{Postgres, PostgresOptions};

/// Expects a wait with this code; the text.
#[track_caller]
fn waits(world: &World, code: &str) -> (Relay, String) {
    let relay = world.start();
    let status = relay.wait_fault(World::SOURCE, code);
    assert_eq!(status["state"], "waiting_database");
    let text = status["fault"]["text"].as_str().expect("a text").to_owned();
    (relay, text)
}

#[track_caller]
fn stops(world: &World, code: &str) -> String {
    world.start().wait_stop(code)
}

#[track_caller]
fn assert_names(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no \"{part}\" in: {text}");
    }
}

#[test]
fn no_server_at_the_address() {
    let mut world = World::json("noserver");
    let port = xtask::machine::free_port().expect("a port");
    world.url = format!("postgres://someone:{CANARY}@127.0.0.1:{port}/shop");
    let (_relay, text) = waits(&world, "postgres_unreachable");
    assert_names(&text, &[&format!("127.0.0.1:{port}"), "refused"]);
}

#[test]
fn a_wrong_password_names_the_role_and_is_mended_without_a_restart() {
    let mut world = World::json("password");
    let role = unique("role");
    world.database.run(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'other'; \
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    ));
    world.url = world.database.url_as(Some((&role, CANARY)));
    let (relay, text) = waits(&world, "postgres_password");
    assert_names(&text, &[&role, "28P01"]);
    world.database.run(&format!("ALTER ROLE {role} PASSWORD '{CANARY}'"));
    relay.wait_state(World::SOURCE, "streaming");
    drop(relay);
    world.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_role_without_replication() {
    let mut world = World::json("rolerep");
    let role = unique("role");
    world.database.run(&format!("CREATE ROLE {role} LOGIN PASSWORD '{CANARY}'"));
    world.url = world.database.url_as(Some((&role, CANARY)));
    let (relay, text) = waits(&world, "role_no_replication");
    assert_names(&text, &[&role, "replication"]);
    drop(relay);
    world.database.run(&format!("DROP ROLE {role}"));
}

#[test]
fn a_database_that_does_not_exist() {
    let mut world = World::json("nodb");
    world.url = world.url.replace(&world.database.name, "nowhere_at_all");
    let (_relay, text) = waits(&world, "database_missing");
    assert_names(&text, &["nowhere_at_all"]);
}

#[test]
fn a_server_without_logical_wal() {
    let settings = vec![("wal_level".to_owned(), "replica".to_owned())];
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let postgres = Postgres::start(options).expect("a server");
    let database = Database::empty(&postgres.url(), "replica");
    database.run(
        "CREATE TABLE outbox (id uuid, aggregate_type text, aggregate_id text,
                  event_type text, payload jsonb)",
    );
    let publication = &database.publication;
    database.run(&format!("CREATE PUBLICATION {publication} FOR TABLE outbox"));
    let mut world = World::with(database, Cluster::new(&stack().kafka), "json");
    world.url = world.database.url();
    let relay = world.start();
    wait_for("a fault", || relay.status(World::SOURCE)?["fault"]["code"].as_str().map(drop));
    let status = relay.status(World::SOURCE).expect("a status");
    let code = status["fault"]["code"].as_str().expect("a code");
    assert_eq!(code, "wal_level_not_logical", "{status}");
    assert_names(status["fault"]["text"].as_str().expect("a text"), &["wal_level"]);
}

#[test]
fn a_slot_that_is_missing_is_not_made_anew() {
    let world = World::json("noslot");
    let slot = &world.database.slot;
    world.database.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    assert_names(&stops(&world, "slot_missing"), &[slot]);
    assert_eq!(
        world.database.ask(
            "SELECT count(*) FROM pg_replication_slots \
        WHERE database = current_database()"
        ),
        "0"
    );
}

#[test]
fn a_slot_that_somebody_else_holds_is_waited_for_and_named() {
    let world = World::json("active");
    let first = world.streaming();
    let pid = world.database.walsender().expect("a walsender").to_string();
    let (second, text) = waits(&world, "slot_active");
    assert_names(&text, &[&world.database.slot, &pid, "walpost-shop"]);
    assert_eq!(first.terminate().code, Some(0));
    second.wait_state(World::SOURCE, "streaming");
}

#[test]
fn a_slot_of_another_plugin_or_database() {
    let mut world = World::json("foreign");
    let other = unique("other");
    world
        .database
        .run(&format!("SELECT pg_create_logical_replication_slot('{other}', 'test_decoding')"));
    let own = std::mem::replace(&mut world.database.slot, other.clone());
    assert_names(&stops(&world, "slot_foreign"), &[&other, "test_decoding", "pgoutput"]);

    let neighbour = World::json("neighbour");
    world.database.slot.clone_from(&neighbour.database.slot);
    let text = stops(&world, "slot_foreign");
    assert_names(&text, &[&neighbour.database.name, &world.database.name]);
    world.database.slot = own;
}

#[test]
fn a_publication_that_is_missing_or_lacks_the_table() {
    let world = World::json("publication");
    let name = &world.database.publication;
    world.database.run(&format!("ALTER PUBLICATION {name} DROP TABLE outbox"));
    let text = stops(&world, "publication_without_table");
    assert_names(&text, &[name, "outbox"]);
    world.database.run(&format!("DROP PUBLICATION {name}"));
    assert_names(&stops(&world, "publication_missing"), &[name]);
}

#[test]
fn a_publication_that_leaves_the_table_while_the_relay_runs() {
    let world = World::json("pubgone");
    let name = &world.database.publication;
    let relay = world.streaming();
    world.database.run(&format!("ALTER PUBLICATION {name} DROP TABLE outbox"));
    assert_names(&relay.wait_stop("publication_without_table"), &[name, "outbox"]);
}

#[test]
fn a_publication_that_filters_rows_or_leaves_inserts_out() {
    let world = World::json("filter");
    let name = &world.database.publication;
    world.database.run(&format!("ALTER PUBLICATION {name} SET TABLE outbox WHERE (seq > 5)"));
    assert_names(&stops(&world, "publication_unsuitable"), &[name, "filters"]);
    world.database.run(&format!(
        "ALTER PUBLICATION {name} SET TABLE outbox; \
         ALTER PUBLICATION {name} SET (publish = 'update')"
    ));
    assert_names(&stops(&world, "publication_unsuitable"), &[name, "insert"]);
}

#[test]
fn an_outbox_that_is_missing_or_is_a_view() {
    let mut world = World::json("notable");
    world.source.insert_str(0, "outbox.table = \"public.nothing\"\n");
    assert_names(&stops(&world, "outbox_table_missing"), &["public.nothing"]);
    world.database.run("CREATE VIEW nothing AS SELECT * FROM outbox");
    assert_names(&stops(&world, "outbox_not_a_table"), &["public.nothing", "a view"]);
}

#[test]
fn an_outbox_column_that_is_missing_or_of_another_type() {
    let world = World::json("column");
    world.database.run("ALTER TABLE outbox RENAME aggregate_id TO agg");
    let text = stops(&world, "outbox_column_missing");
    assert_names(&text, &["public.outbox", "aggregate_id"]);
    world.database.run("ALTER TABLE outbox DROP agg, ADD aggregate_id point");
    let text = stops(&world, "outbox_column_type");
    assert_names(&text, &["public.outbox", "aggregate_id", "point"]);
}

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

#[test]
fn a_schema_that_is_registered_a_moment_later_is_waited_for() {
    let world = World::avro("soon");
    let relay = world.streaming();
    world.write(("order", "1"), "test.Soon", "'{}'");
    let schema = serde_json::json!({"type": "record", "name": "Soon", "namespace": "test",
        "fields": [{"name": "n", "type": "long"}]});
    wait_for("the question", || {
        relay.metrics().keys().any(|k| k.contains("pending")).then_some(())
    });
    world.registry.register(&world.subject("order", "test.Soon"), &schema);
    world.drained(&relay);
    drop(relay);
    world.judge(&walpost_tests::oracle::Form::Avro(&world.decoder())).assert_exact();
}

#[test]
fn a_topic_that_is_missing_and_may_not_be_made() {
    let mut world = World::json("notopic");
    world.general = "create_topics = false".to_owned();
    let config = world.config().replacen("create_topics = true\n", "", 1);
    world.write(("lost", "1"), "test.L", "'{}'");
    let text = Relay::start(&config).wait_stop("topic_missing");
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
    let status = relay.wait_state(World::SOURCE, "waiting_registry");
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
    let status = relay.wait_state(World::SOURCE, "waiting_registry");
    assert_eq!(status["fault"]["code"], "registry_unavailable");
    assert!(world.database.confirmed() < written);
}

#[test]
fn a_topic_that_appears_within_its_grace_is_waited_for() {
    let world = World::json("latetopic");
    let config = world.config().replacen("create_topics = true\n", "", 1);
    let relay = Relay::start(&config);
    relay.wait_state(World::SOURCE, "streaming");
    world.write(("late", "1"), "test.L", "'{}'");
    let written = world.database.wal_end();
    let pause = std::time::Instant::now();
    wait_for("two seconds", || (pause.elapsed().as_secs() >= 2).then_some(()));
    assert!(relay.is_running() && world.database.confirmed() < written, "{}", relay.log());
    world.cluster.create(&world.topic("late"), 2, &[]);
    world.drained(&relay);
    assert_eq!(world.records().len(), 1);
}

#[test]
fn an_unlogged_outbox_is_refused() {
    let world = World::json("unlogged");
    let name = &world.database.publication;
    world.database.run(&format!(
        "ALTER PUBLICATION {name} DROP TABLE outbox;
        ALTER TABLE outbox SET UNLOGGED"
    ));
    assert_names(&stops(&world, "outbox_not_a_table"), &["outbox", "unlogged"]);
}

#[test]
fn a_publication_of_all_tables_works() {
    let world = World::json("alltables");
    let name = &world.database.publication;
    let slot = &world.database.slot;
    world.database.run(&format!(
        "SELECT pg_drop_replication_slot('{slot}');
        DROP PUBLICATION {name}; CREATE PUBLICATION {name} FOR ALL TABLES"
    ));
    world.database.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let relay = world.streaming();
    world.write(("a", "1"), "test.A", "'{}'");
    world.drained(&relay);
    drop(relay);
    world.judge(&walpost_tests::oracle::Form::Json).assert_exact();
}

#[test]
fn a_password_that_is_rotated_in_its_file_is_read_again() {
    let mut world = World::json("rotated");
    let role = unique("role");
    world.database.run(&format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{CANARY}new'"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{CANARY}old\n")).expect("written");
    world.url = world.database.url_as(Some((&role, ""))).replace(":@", "@");
    world.source.insert_str(0, &format!("password_file = {:?}\n", file.path()));
    let (relay, _) = waits(&world, "postgres_password");
    std::fs::write(file.path(), format!("{CANARY}new\n")).expect("written");
    relay.wait_state(World::SOURCE, "streaming");
    drop(relay);
    world.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn the_most_talkative_log_holds_no_payload_and_no_password() {
    let mut world = World::avro("trace");
    let role = unique("role");
    world.database.run(&format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{CANARY}'"));
    world.url = world.database.url_as(Some((&role, CANARY)));
    let subject = world.subject("order", "test.Placed");
    world.registry.register(&subject, &crate::delivery::placed("Placed"));
    let relay = Relay::start_with(&world.config(), &[("WALPOST_LOG", "trace")]);
    relay.wait_state(World::SOURCE, "streaming");
    walpost_tests::Workload { transactions: 20, ..Default::default() }.run(&world.database);
    world.drained(&relay);
    world.write(("order", "1"), "test.Placed", &format!("'{{\"cents\": \"{CANARY}\"}}'"));
    relay.wait_stop("payload_unfit");
    world.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
