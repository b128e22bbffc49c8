//! Ends in the middle of a drain, ours and other people's. Whatever ends how: nothing is lost,
//! order is kept, and duplicates are counted.

use std::time::Duration;

use walpost_tests::oracle::Form;
use walpost_tests::postgres::PayloadType;
use walpost_tests::relay::wait_records;
use walpost_tests::workload::backlog;
use walpost_tests::{Cluster, Database, Workload, World, stack, wait_for, wait_within};
use xtask::stack::{Kafka, KafkaOptions, Mode, Postgres, PostgresOptions};

#[test]
fn sigterm_in_a_drain_ends_within_a_second_and_loses_nothing() {
    let world = World::json("sigterm");
    backlog(&world.database, 5_000, 10, 500);
    let relay = world.start();
    wait_records(&world.cluster, &world.topic("bulk"), 3_000);
    let ended = relay.terminate();
    assert_eq!(ended.code, Some(0));
    assert!(ended.took < Duration::from_millis(1_500), "it took {:?}", ended.took);
    let relay = world.start();
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    world.judge(&Form::Json).assert_kept();
}

#[test]
fn kill_relay_at_many_points_of_a_drain() {
    let world = World::json("kill9");
    backlog(&world.database, 5_000, 10, 500);
    for goal in [1, 4_000, 15_000, 30_000, 45_000] {
        let relay = world.start();
        wait_records(&world.cluster, &world.topic("bulk"), goal);
        assert_eq!(relay.kill9().code, None);
    }
    let relay = world.start();
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_kept();
}

#[test]
fn a_terminated_walsender_keeps_the_ledger_and_makes_no_duplicate() {
    let world = World::json("walsender");
    let relay = world.streaming();
    let mut ended = 0;
    std::thread::scope(|scope| {
        let writers = Workload { transactions: 1_000, aggregates: 50, ..Workload::default() };
        let database = &world.database;
        let writing = scope.spawn(move || writers.run(database));
        while !writing.is_finished() {
            if let Some(pid) = world.database.walsender() {
                world.database.run(&format!("SELECT pg_terminate_backend({pid})"));
                ended += 1;
                wait_for("another walsender", || {
                    world.database.walsender().filter(|found| *found != pid)
                });
            }
        }
    });
    assert!(ended >= 2, "the walsender was ended {ended} times");
    world.drained(&relay);
    assert!(
        relay
            .metric(&world.series("walpost_reconnects_total{source=\"SOURCE\",peer=\"postgres\"}"))
            >= 2.0
    );
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

fn private_kafka(label: &str) -> (Kafka, World) {
    let kafka = Kafka::start(KafkaOptions::default()).expect("a broker");
    let database = Database::new(&stack().postgres, label, PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&kafka.address()), "json");
    (kafka, world)
}

#[test]
fn a_broker_that_is_away_at_start_is_waited_for_and_a_restart_and_a_kill_lose_nothing() {
    let (mut kafka, world) = private_kafka("broker");
    world.init();
    kafka.stop().expect("stopped");
    backlog(&world.database, 2_000, 10, 500);
    let relay = world.start();
    let status = relay.wait_state(&world.name, "waiting_kafka");
    let text = status["fault"]["text"].as_str().expect("a text");
    assert!(text.contains(&world.cluster.bootstrap), "whom it waits for: {text}");
    assert_eq!(status["fault"]["code"], "kafka_unreachable");
    kafka.start_again().expect("started");
    wait_records(&world.cluster, &world.topic("bulk"), 1_000);
    std::thread::scope(|scope| {
        let writers = Workload { transactions: 3_000, aggregates: 200, ..Workload::default() };
        let database = &world.database;
        let writing = scope.spawn(move || writers.run(database));
        kafka.stop().expect("stopped");
        kafka.start_again().expect("started");
        wait_records(&world.cluster, &world.topic("order"), 1);
        kafka.kill9();
        wait_for("the relay to notice", || {
            let status = relay.status(&world.name)?;
            (status["state"] != "streaming").then_some(())
        });
        assert!(relay.is_running(), "{}", relay.log());
        kafka.start_again().expect("started");
        assert!(writing.join().is_ok());
    });
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    world.judge(&Form::Json).assert_kept();
}

/// One transaction of 150,000 events.
fn one_large_transaction(world: &World) {
    world.database.run(
        "BEGIN; INSERT INTO truth SELECT gen_random_uuid(), 'large', (k % 500)::text, k / 500 + 1,
           'test.Large', jsonb_build_object('k', k)::text, NULL FROM generate_series(0, 149999) k;
         INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload)
           SELECT id, aggregate_type, aggregate_id, event_type, payload::jsonb FROM truth
           ORDER BY n, aggregate_id::int; COMMIT",
    );
}

/// What was handed on of an open transaction is known by its ordinals, not by a confirmed position.
#[test]
fn a_walsender_that_ends_inside_a_large_transaction_makes_no_duplicate() {
    let world = World::json("largews");
    let relay = world.streaming();
    one_large_transaction(&world);
    for goal in [5_000, 60_000, 110_000] {
        wait_records(&world.cluster, &world.topic("large"), goal);
        if let Some(pid) = world.database.walsender() {
            world.database.run(&format!("SELECT pg_terminate_backend({pid})"));
        }
    }
    world.drained(&relay);
    assert!(
        relay
            .metric(&world.series("walpost_reconnects_total{source=\"SOURCE\",peer=\"postgres\"}"))
            >= 1.0
    );
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn a_relay_that_is_killed_inside_a_large_transaction_loses_nothing() {
    let world = World::json("largekill");
    one_large_transaction(&world);
    let end = world.database.wal_end();
    let mut sent = 0;
    for _ in 0..3 {
        let relay = world.start();
        wait_records(&world.cluster, &world.topic("large"), sent + 1_000);
        relay.kill9();
        sent = world.cluster.count(&world.topic("large"));
        assert!(world.database.confirmed() < end, "an open transaction is not confirmed");
    }
    let relay = world.start();
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_kept();
}

#[test]
fn a_broker_that_is_killed_inside_a_large_transaction_loses_nothing() {
    let (mut kafka, world) = private_kafka("largebroker");
    let relay = world.streaming();
    one_large_transaction(&world);
    wait_records(&world.cluster, &world.topic("large"), 10_000);
    kafka.kill9();
    kafka.start_again().expect("started");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_kept();
}

/// Another 20,000 events, of type `again`.
fn backlog_again(world: &World) {
    world.database.run(
        "INSERT INTO truth SELECT gen_random_uuid(), 'again', (k % 500)::text, k / 500 + 1,
           'test.Again', jsonb_build_object('k', k)::text, NULL FROM generate_series(0, 19999) k;
         INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload)
           SELECT id, aggregate_type, aggregate_id, event_type, payload::jsonb FROM truth
           WHERE aggregate_type = 'again' ORDER BY n",
    );
}

/// As many events as may be in flight; bytes may be the narrower bound.
const FULL: f64 = walpost::limits::PENDING_EVENTS_MAX as f64;

#[test]
fn a_frozen_broker_is_sat_out_with_bounded_memory() {
    let (kafka, world) = private_kafka("frozen");
    let relay = world.streaming();
    world.write(("bulk", "warm"), "test.Bulk", "'{}'");
    world.drained(&relay);
    kafka.freeze();
    world.write(("bulk", "first"), "test.Bulk", "'{}'");
    let first_end = world.database.wal_end();
    backlog(&world.database, 5_000, 10, 500);
    let pending = world.series("walpost_pending_events{source=\"SOURCE\"}");
    wait_for("a full queue", || (relay.metric(&pending) >= FULL * 0.6).then_some(()));
    assert!(relay.metric(&pending) <= FULL);
    assert!(world.database.confirmed() < first_end, "confirmed past what is not in Kafka");
    assert!(relay.metric(&world.series("walpost_lag_seconds{source=\"SOURCE\"}")) > 0.0);
    kafka.resume();
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_kept();
}

#[test]
fn a_postgresql_that_restarts_or_is_killed_is_waited_for_and_nothing_is_lost() {
    let mut postgres = Postgres::start(PostgresOptions::default()).expect("a server");
    let database = Database::new(&postgres.url(), "pgrestart", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    let relay = world.streaming();
    backlog(&world.database, 500, 10, 500);
    postgres.stop(Mode::Fast).expect("stopped");
    let status = relay.wait_state(&world.name, "waiting_database");
    let lag = || relay.metric(&world.series("walpost_lag_seconds{source=\"SOURCE\"}"));
    wait_within(Duration::from_secs(30), "lag grows while the server is away", || {
        (lag() > 5.0).then_some(())
    });
    assert!(status["fault"]["text"].as_str().is_some(), "{status}");
    postgres.start_again().expect("started");
    relay.wait_state(&world.name, "streaming");
    backlog_again(&world);
    wait_records(&world.cluster, &world.topic("again"), 1_000);
    postgres.kill9();
    relay.wait_state(&world.name, "waiting_database");
    postgres.start_again().expect("started");
    relay.wait_state(&world.name, "streaming");
    world.write(("after", "1"), "test.After", "'{}'");
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    world.judge(&Form::Json).assert_exact();
}
