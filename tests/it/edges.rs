//! Databases, roles, keys and topics that are legal and unusual.

use walpost_tests::oracle::{Form, hex};
use walpost_tests::postgres::PayloadType;
use walpost_tests::{Relay, Workload, World, stack, unique, wait_for};

/// What the text of a value looks like depends on settings that any database or role may have.
#[test]
fn bytes_and_times_are_read_the_same_whatever_the_database_prints() {
    let world = World::new("printing", PayloadType::Bytea, "bytes");
    let name = &world.database.name;
    for setting in [
        "DateStyle = 'German'",
        "TimeZone = 'Asia/Kolkata'",
        "bytea_output = 'escape'",
        "client_encoding = 'LATIN1'",
        "search_path = pg_temp",
        "extra_float_digits = -10",
        "idle_session_timeout = '1s'",
        "statement_timeout = '5ms'",
    ] {
        world.database.run(&format!("ALTER DATABASE {name} SET {setting}"));
    }
    let relay = world.streaming();
    let mut client = world.database.client();
    client
        .batch_execute(
            "SET statement_timeout = 0; SET client_encoding = 'UTF8'; SET search_path = public;
             SET idle_session_timeout = 0",
        )
        .expect("set");
    client
        .batch_execute(
            "SELECT write_bytes('b', 'ä€', 'test.B', decode('00ff5c2741', 'hex'));
             UPDATE outbox SET created_at = '2026-01-02 03:04:05.678+00'",
        )
        .expect("an event");
    client
        .batch_execute(
            "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, created_at) VALUES
               (gen_random_uuid(), 'b', 'ä€', 'test.B', '2026-01-02 03:04:05.678+00')",
        )
        .expect("an event");
    world.drained(&relay);
    let records = world.records();
    assert_eq!(records[0].key(), "ä€");
    assert_eq!(hex(records[0].value.as_deref().expect("a value")), "00ff5c2741");
    let created = records[1].header("created_at");
    assert!(created.starts_with("2026-01-02T03:04:05.678"), "{created}");
    assert!(created.ends_with('Z'), "{created}");
    // The look at the slot goes on under a short statement_timeout, too.
    wait_for("a look at the slot", || {
        relay
            .metrics()
            .contains_key(&world.series("walpost_slot_active{source=\"SOURCE\"}"))
            .then_some(())
    });
}

#[test]
fn a_latin_1_database_is_published_as_utf_8() {
    let mut world = World::json("latin");
    let name = unique("latin");
    let sql = format!(
        "CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    );
    walpost_tests::postgres::connect(&stack().postgres).batch_execute(&sql).expect("a database");
    world.database = walpost_tests::Database::in_existing(&stack().postgres, &name);
    world.database.prepare(PayloadType::Text);
    world.url = world.database.relay_url();
    let relay = world.streaming();
    world.write(("l", "Köln"), "test.L", "'{\"text\": \"größer\"}'");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
    assert_eq!(world.records()[0].key(), "Köln");
}

#[test]
fn a_role_with_replication_and_a_look_at_its_own_row_is_enough() {
    let mut world = World::json("least");
    let role = unique("role");
    world.database.run(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'least';
         REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC"
    ));
    world.url = world.database.url_as(Some((&role, "least")));
    world.init();
    world.database.run(&format!(
        "GRANT USAGE ON SCHEMA walpost TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE \
         ON ALL TABLES IN SCHEMA walpost TO {role}"
    ));
    let relay = world.streaming();
    Workload { transactions: 20, ..Workload::default() }.run(&world.database);
    world.drained(&relay);
    wait_for("a look at the slot", || {
        relay
            .metrics()
            .contains_key(&world.series("walpost_slot_active{source=\"SOURCE\"}"))
            .then_some(())
    });
    drop(relay);
    world.judge(&Form::Json).assert_exact();
    world.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_topic_that_is_deleted_is_made_again_or_named() {
    let world = World::json("deltopic");
    let relay = world.streaming();
    world.write(("d", "1"), "test.D", "'{}'");
    world.drained(&relay);
    world.cluster.delete(&[world.topic("d")]);
    wait_for("the topic to go", || {
        world.cluster.topics(&world.topic("d")).is_empty().then_some(())
    });
    world.write(("d", "1"), "test.D", "'{}'");
    world.drained(&relay);
    let records = world.records();
    let last = world.database.truth().pop().expect("an event");
    assert!(records.iter().any(|record| record.header("id") == last.id), "{records:?}");
}

#[test]
fn a_topic_that_grows_keeps_its_keys_in_order() {
    let world = World::json("grows");
    let relay = world.streaming();
    for _ in 0..5 {
        world.write(("g", "1"), "test.G", "'{}'");
    }
    world.drained(&relay);
    world.cluster.grow(&world.topic("g"), 6);
    for _ in 0..5 {
        world.write(("g", "1"), "test.G", "'{}'");
    }
    world.drained(&relay);
    drop(relay);
    let verdict = world.judge(&Form::Json);
    assert_eq!((verdict.lost.len(), verdict.duplicated, verdict.foreign.len()), (0, 0, 0));
    assert!(verdict.out_of_order.is_empty(), "{:?}", verdict.out_of_order);
}

#[test]
fn a_limit_that_a_topic_got_later_is_named() {
    let world = World::json("shrinks");
    let relay = world.streaming();
    world.write(("s", "1"), "test.S", "'{}'");
    world.drained(&relay);
    world.cluster.set(&world.topic("s"), "max.message.bytes", "2000");
    world.write(("s", "1"), "test.S", "jsonb_build_object('t', repeat(md5(random()::text), 200))");
    let end = world.database.wal_end();
    let ended = relay.wait_end();
    assert_eq!(ended.code, Some(4), "{}", ended.log);
    assert!(ended.log.contains(&world.topic("s")), "{}", ended.log);
    assert!(world.database.confirmed() < end);
}

#[test]
fn a_slot_that_lost_its_wal_stops_by_name() {
    use xtask::stack::{Postgres, PostgresOptions};
    let settings =
        [("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "32MB"), ("min_wal_size", "32MB")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let postgres = Postgres::start(options).expect("a server");
    let database = walpost_tests::Database::new(&postgres.url(), "lostslot", PayloadType::Jsonb);
    let world = World::with(database, walpost_tests::Cluster::new(&stack().kafka), "json");
    world.write(("l", "1"), "test.L", "'{}'");
    world.database.run("CREATE TABLE noise (t text)");
    wait_for("the slot to be lost", || {
        world.database.run(
            "INSERT INTO noise SELECT repeat(md5(g::text), 100) FROM generate_series(1, 20000) g",
        );
        world.database.run("SELECT pg_switch_wal()");
        world.database.run("CHECKPOINT");
        let sql = "SELECT wal_status FROM pg_replication_slots";
        (world.database.ask(sql) == "lost").then_some(())
    });
    let text = world.start().wait_stop("slot_lost");
    assert!(text.contains(&world.database.slot), "{text}");
}

const JSON_SCHEMA: &str =
    "{\"$schema\": \"http://json-schema.org/draft-07/schema#\", \"type\": \"object\"}";

#[test]
fn a_schema_of_another_kind_is_not_taken_for_avro() {
    let world = World::avro("jsonschema");
    let subject = world.subject("o", "test.O");
    world.registry.register_kind(&subject, "JSON", JSON_SCHEMA);
    let relay: Relay = world.start();
    world.write(("o", "1"), "test.O", "'{}'");
    let text = relay.wait_stop("schema_unusable");
    assert!(text.contains(&subject), "{text}");
}

#[test]
fn a_limit_that_was_raised_is_believed() {
    let world = World::json("raised");
    let topic = world.topic("s");
    world.cluster.create(&topic, 3, &[("max.message.bytes", "2000")]);
    let relay = world.streaming();
    world.write(("s", "1"), "test.S", "'{}'");
    world.drained(&relay);
    world.cluster.set(&topic, "max.message.bytes", "1000000");
    let raised = std::time::Instant::now();
    // For five seconds an answer is believed.
    wait_for("six seconds", || (raised.elapsed().as_secs() >= 6).then_some(()));
    world.write(("s", "1"), "test.S", "jsonb_build_object('t', repeat(md5(random()::text), 200))");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn a_topic_that_is_made_again_smaller_is_followed() {
    let world = World::json("smaller");
    let topic = world.topic("s");
    world.cluster.create(&topic, 12, &[]);
    let relay = world.streaming();
    let write_all = || (0..20).for_each(|id| world.write(("s", &id.to_string()), "test.S", "'{}'"));
    write_all();
    world.drained(&relay);
    world.cluster.delete(std::slice::from_ref(&topic));
    wait_for("the topic to go", || world.cluster.topics(&topic).is_empty().then_some(()));
    world.cluster.create(&topic, 1, &[]);
    write_all();
    world.drained(&relay);
    assert_eq!(world.records().len(), 20);
}
