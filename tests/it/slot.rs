//! The slot never holds back more WAL than it must, and never lets go of an event that is not in
//! Kafka.

use std::time::{Duration, Instant};

use walpost_tests::oracle::Form;
use walpost_tests::postgres::PayloadType;
use walpost_tests::{Cluster, Database, World, is_long, stack, wait_for, wait_within};
use xtask::stack::{Kafka, KafkaOptions, Mode, Postgres, PostgresOptions};

/// Half a megabyte of WAL that is none of ours.
const NOISE: &str = "INSERT INTO noise SELECT g, repeat('x', 400) FROM generate_series(1, 1000) g";

#[test]
fn an_idle_outbox_beside_a_busy_table_holds_no_wal_back() {
    let postgres = Postgres::start(PostgresOptions::default()).expect("a server");
    let database = Database::new(&postgres.url(), "idle", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    let relay = world.streaming();
    let database = &world.database;
    database.run("CREATE TABLE noise (n int, filler text)");
    let limit = Duration::from_secs(if is_long() { 70 } else { 8 });
    let start = Instant::now();
    let mut most = 0;
    while start.elapsed() < limit {
        database.run(NOISE);
        let target = database.wal_end();
        wait_within(Duration::from_secs(5), "confirmed follows foreign WAL", || {
            (database.confirmed() >= target).then_some(())
        });
        database.run("CHECKPOINT");
        most = most.max(database.retained_bytes());
    }
    let written = database.wal_end();
    assert!(most < 4_000_000, "{most} bytes retained at {written}");
    wait_within(Duration::from_secs(10), "no lag while idle", || {
        (relay.metric(&world.series("walpost_lag_seconds{source=\"SOURCE\"}")) == 0.0).then_some(())
    });
}

#[test]
fn a_fast_shutdown_of_postgresql_is_not_held_up() {
    let mut postgres = Postgres::start(PostgresOptions::default()).expect("a server");
    let database = Database::new(&postgres.url(), "fast", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    let relay = world.streaming();
    world.database.run("CREATE TABLE noise (n int, filler text)");
    world.database.run(NOISE);
    world.write(("f", "1"), "test.F", "'{}'");
    let took = postgres.stop(Mode::Fast).expect("stopped");
    assert!(took < Duration::from_secs(5), "the shutdown took {took:?}");
    relay.wait_state(&world.name, "waiting_database");
    let ended = relay.terminate();
    assert_eq!((ended.code, ended.took < Duration::from_millis(1_500)), (Some(0), true));
}

/// A server keeps a stream in a shutdown until all of it is confirmed. With Kafka away it never
/// would be.
#[test]
fn a_fast_shutdown_is_not_held_up_while_kafka_is_away_and_nothing_is_lost() {
    let mut postgres = Postgres::start(PostgresOptions::default()).expect("a server");
    let mut kafka = Kafka::start(KafkaOptions::default()).expect("a broker");
    let database = Database::new(&postgres.url(), "fastaway", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&kafka.address()), "json");
    let relay = world.streaming();
    world.write(("f", "1"), "test.F", "'{}'");
    world.drained(&relay);
    kafka.kill9();
    for _ in 0..50 {
        world.write(("f", "1"), "test.F", "'{}'");
    }
    relay.wait_state(&world.name, "waiting_kafka");
    let took = postgres.stop(Mode::Fast).expect("stopped");
    assert!(took < Duration::from_secs(5), "the shutdown took {took:?}");
    postgres.start_again().expect("started");
    kafka.start_again().expect("started");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_kept();
}

#[test]
fn a_relay_that_commits_would_wait_for_stops() {
    let mut postgres = Postgres::start(PostgresOptions::default()).expect("a server");
    let database = Database::new(&postgres.url(), "sync", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    world.init();
    let mut wait_for_commits_of = |names: &str| {
        // Commits of the test itself do not wait.
        let settings = [("synchronous_standby_names", names), ("synchronous_commit", "local")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        postgres.set(settings).expect("set");
        postgres.reload();
    };
    let name = world.name.to_uppercase();
    for names in ["*".to_owned(), format!("FIRST 1 (other, \"walpost-{name}\")")] {
        wait_for_commits_of(&names);
        let text = world.start().wait_stop("synchronous_standby");
        assert!(text.contains("synchronous_standby_names"), "{text}");
    }
    wait_for_commits_of("ANY 1 (walpost, \"walpost-other\")");
    let relay = world.streaming();
    let series = world.series("walpost_server_sample_timestamp_seconds{source=\"SOURCE\"}");
    let look = || relay.metrics().get(&series).copied();
    let first = wait_for("a look", look);
    wait_for("another look", || look().filter(|at| *at > first));
    relay.wait_state(&world.name, "streaming");
}

#[test]
fn nothing_is_confirmed_past_an_event_that_is_not_in_kafka() {
    let world = World::json("held");
    let relay = world.streaming();
    world.write(("h", "1"), "test.H", "'{}'");
    world.drained(&relay);
    drop(relay);
    let mut client = world.database.client();
    client.batch_execute("SELECT write_event('h', '1', 'test.H', '{}')").expect("an event");
    let sql = "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload) VALUES \
               (gen_random_uuid(), 'no such/topic name', '1', 'test.H', '{}')";
    client.batch_execute(sql).expect("an event");
    let bad_end = world.database.wal_end();
    client.batch_execute("SELECT write_event('h', '1', 'test.H', '{}')").expect("an event");
    for _ in 0..2 {
        let text = world.start().wait_stop("topic_name_invalid");
        assert!(text.contains("no such/topic name"), "{text}");
        assert!(world.database.confirmed() < bad_end, "the bad event was passed");
        walpost_tests::relay::wait_released(&world.database);
    }
    assert!(world.records().iter().all(|record| record.topic == world.topic("h")));
    let ids = world.records().iter().map(|r| r.header("id").to_owned()).collect::<Vec<_>>();
    let last = &world.database.truth()[2].id;
    assert!(!ids.contains(last), "what stands behind the bad event waits");
}
