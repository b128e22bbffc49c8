//! What is legal and nobody expects: names, values, transactions and tables of unusual kinds.

use serde_json::Value;
use walpost_tests::oracle::Form;
use walpost_tests::postgres::PayloadType;
use walpost_tests::relay::verb;
use walpost_tests::{CANARY, World, unique};

#[test]
fn every_name_may_need_quotes() {
    let mut world = World::json("quotes");
    let slot = unique("quoted");
    world.database.run(
        "CREATE SCHEMA \"My \"\"Schema\"; ALTER TABLE outbox SET SCHEMA \"My \"\"Schema\";
         ALTER TABLE \"My \"\"Schema\".outbox RENAME TO \"Out'box ü\";
         ALTER TABLE \"My \"\"Schema\".\"Out'box ü\" RENAME COLUMN id TO \"Event Id\";
         ALTER TABLE \"My \"\"Schema\".\"Out'box ü\" RENAME COLUMN payload TO \"select\";
         CREATE PUBLICATION \"Pub,'lic\"\"ü\" FOR TABLE \"My \"\"Schema\".\"Out'box ü\"
           WITH (publish = 'insert')",
    );
    world.database.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let own = std::mem::replace(&mut world.database.slot, slot);
    world.database.run(&format!("SELECT pg_drop_replication_slot('{own}')"));
    world.database.publication = "Pub,'lic\\\"ü".to_owned();
    let table = r#"table = "\"My \"\"Schema\".\"Out'box ü\"""#;
    world.source = format!(
        "{}\n[source.outbox]\n{table}\n[source.outbox.columns]\nid = \"Event Id\"\npayload = \
         \"select\"\n",
        world.source
    );
    let relay = world.streaming();
    world.database.run(
        "INSERT INTO \"My \"\"Schema\".\"Out'box ü\"
           (\"Event Id\", aggregate_type, aggregate_id, event_type, \"select\")
         VALUES (gen_random_uuid(), 'order', '1', 'test.Placed', '{\"a\": 1}')",
    );
    world.drained(&relay);
    assert_eq!(world.records().len(), 1);
    let emit = ["emit", "order", "o'1\"\\", "test.Pl'aced\\", "{\"a\": \"'; DROP TABLE x; --\"}"];
    let emitted = verb(&emit, Some(&world.config_of_owner()), "");
    assert_eq!(emitted.code, Some(0), "{}", emitted.log);
    let again = verb(&["init"], Some(&world.config_of_owner()), "");
    assert_eq!(again.code, Some(0), "{}", again.log);
    world.drained(&relay);
    let records = world.records();
    assert_eq!(records.iter().filter(|record| record.key() == "o'1\"\\").count(), 1);
}

#[test]
fn times_that_are_no_dates_are_published_as_postgresql_prints_them() {
    let world = World::json("times");
    let relay = world.streaming();
    for created in ["infinity", "-infinity", "0044-03-15 12:00:00 BC", "294276-12-31 23:59:59"] {
        world.database.run(&format!(
            "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload, created_at)
             VALUES (gen_random_uuid(), 'order', '1', 'test.Placed', '{{}}', '{created}')"
        ));
    }
    world.drained(&relay);
    let records = world.records();
    let times: Vec<&str> = records.iter().map(|record| record.header("created_at")).collect();
    let bc = "0044-03-15T12:00:00+00 BC";
    assert_eq!(times, ["infinity", "-infinity", bc, "294276-12-31T23:59:59Z"]);
}

#[test]
fn empty_texts_are_values_like_others() {
    let mut world = World::json("empty");
    world.source = world.source.replace("{aggregate_type}", "all");
    let relay = world.streaming();
    world.write(("", ""), "", "'{}'");
    world.write(("", "a"), "", "'{}'");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn prepared_transactions_and_those_of_an_origin_arrive_at_their_commit() {
    let postgres = xtask::stack::Postgres::start(xtask::stack::PostgresOptions {
        settings: vec![("max_prepared_transactions".to_owned(), "5".to_owned())],
        ..Default::default()
    })
    .expect("a server");
    let database = walpost_tests::Database::new(&postgres.url(), "twophase", PayloadType::Jsonb);
    let world =
        World::with(database, walpost_tests::Cluster::new(&walpost_tests::stack().kafka), "json");
    let relay = world.streaming();
    let mut client = world.database.client();
    for sql in [
        "BEGIN",
        "SELECT write_event('order', '1', 'test.A', '{}')",
        "PREPARE TRANSACTION 'one'",
        "SELECT write_event('order', '2', 'test.B', '{}')",
        "BEGIN",
        "SELECT write_event('order', '3', 'test.C', '{}')",
        "PREPARE TRANSACTION 'two'",
        "ROLLBACK PREPARED 'two'",
    ] {
        client.batch_execute(sql).expect("sql");
    }
    world.drained(&relay);
    assert_eq!(world.records().len(), 1);
    let relay = {
        relay.kill9();
        world.streaming()
    };
    for sql in [
        "COMMIT PREPARED 'one'",
        "SELECT pg_replication_origin_create('elsewhere')",
        "SELECT pg_replication_origin_session_setup('elsewhere')",
        "BEGIN",
        "SELECT pg_replication_origin_xact_setup('0/1234', now())",
        "SELECT write_event('order', '1', 'test.D', '{}')",
        "COMMIT",
    ] {
        client.batch_execute(sql).expect("sql");
    }
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn a_publication_with_a_list_of_columns_is_not_taken_for_a_whole_one() {
    let world = World::json("columnlist");
    let publication = &world.database.publication;
    world.database.run(&format!(
        "DROP PUBLICATION {publication};
         CREATE PUBLICATION {publication}
           FOR TABLE outbox (seq, id, aggregate_type, aggregate_id, event_type, payload)"
    ));
    let relay = world.start();
    let text = relay.wait_stop("publication_unsuitable");
    assert!(text.contains("\"headers\""), "{text}");
}

#[test]
fn a_generated_column_that_is_not_published_is_named() {
    let world = World::json("generated");
    world.database.run(
        "ALTER TABLE outbox DROP COLUMN aggregate_type;
         ALTER TABLE outbox ADD COLUMN aggregate_type text
           GENERATED ALWAYS AS (split_part(event_type, '.', 1)) STORED",
    );
    let relay = world.start();
    let text = relay.wait_stop("publication_unsuitable");
    assert!(text.contains("\"aggregate_type\""), "{text}");
}

#[test]
fn deep_json_is_json() {
    let mut world = World::new("deep", PayloadType::Text, "json");
    world.source = world.source.replace("{aggregate_type}", "all");
    let relay = world.streaming();
    for depth in [100, 1_000, 100_000] {
        world.database.run(&format!(
            "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload)
             VALUES (gen_random_uuid(), 'order', '{depth}', 'test.Deep',
                     repeat('[', {depth}) || repeat(']', {depth}))"
        ));
    }
    world.drained(&relay);
    assert_eq!(world.records().len(), 3);
}

#[test]
fn names_from_outside_cannot_forge_metrics_or_log_lines() {
    let world = World::json("forge");
    let forged = format!("{}{}", world.general_toml(), world.source_toml("a\\\"} 1\\\\n{b"));
    let refused = verb(&["config", "check"], Some(&forged), "");
    assert_eq!(refused.code, Some(2), "a source's name names its position topic");
    let relay = world.streaming();
    world.write(("order\u{7f}", "1"), "te\u{1b}[2Jst\n{\"level\":\"ERROR\"}", "'{}'");
    let log = relay.wait_end().log;
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
        assert!(!line.contains(CANARY), "{line}");
    }
}

/// The first event of each topic waits for an answer, one after the other.
#[test]
fn hundreds_of_new_topics_are_made_one_by_one_in_bounded_memory() {
    let world = World::json("topics");
    let relay = world.streaming();
    let before = relay.peak_rss_kb();
    world.database.run(
        "SELECT count(write_event('t' || n, n::text, 'test.T', '{}'))
         FROM generate_series(1, 200) AS n",
    );
    let start = std::time::Instant::now();
    world.drained(&relay);
    let (took, after) = (start.elapsed(), relay.peak_rss_kb());
    println!("200 topics in {took:?}, {before} kB before and {after} kB after");
    assert!(after < before + 40_000, "{before} kB before and {after} kB after");
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}
