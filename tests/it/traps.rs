//! Traps that other relays fell into, each as a claim about this one. The table of all of them is
//! in `tests/README.md`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use walpost_tests::oracle::Form;
use walpost_tests::relay::wait_records;
use walpost_tests::wire::Wire;
use walpost_tests::workload::backlog;
use walpost_tests::{World, wait_for};

/// Gives the walsender of this world's database a setting of its own.
fn set(world: &World, setting: &str) {
    world.database.run(&format!("ALTER DATABASE {} SET {setting}", world.database.name));
}

/// Rows of one COPY share the positions of their WAL records: whoever goes on behind a position of
/// one of them loses the rest.
#[test]
fn rows_of_one_copy_survive_kills_in_their_middle() {
    const ROWS: u32 = 20_000;
    let world = World::json("copy");
    let mut client = world.database.client();
    let mut transaction = client.transaction().expect("a transaction");
    // Without a volatile default PostgreSQL writes many rows into one record.
    let mut copy = transaction
        .copy_in(
            "COPY outbox (id, aggregate_type, aggregate_id, event_type, payload, created_at) \
             FROM STDIN",
        )
        .expect("a copy");
    for row in 0..ROWS {
        let (key, n) = (row % 100, row / 100 + 1);
        let id = uuid::Uuid::new_v4();
        writeln!(copy, "{id}\tcopied\t{key}\ttest.Copied\t{{\"n\": {n}}}\t2026-01-01")
            .expect("a row");
    }
    copy.finish().expect("copied");
    transaction
        .batch_execute(
            "INSERT INTO truth SELECT id, aggregate_type, aggregate_id, (payload->>'n')::int, \
             event_type, payload::text, NULL FROM outbox; COMMIT",
        )
        .expect("a commit");
    for goal in [1, 5_000, 12_000] {
        let relay = world.start();
        wait_records(&world.cluster, &world.topic("copied"), goal);
        relay.kill9();
    }
    let relay = world.start();
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_kept();
}

/// Such a transaction begins below what was confirmed and commits above it.
#[test]
fn a_transaction_that_is_open_across_a_kill_and_a_later_commit_is_published() {
    let world = World::json("open");
    let relay = world.streaming();
    let mut slow = world.database.client();
    slow.batch_execute("BEGIN; SELECT write_event('o', 'slow', 'test.O', '{\"who\": 1}')")
        .expect("an event");
    for _ in 0..20 {
        world.write(("o", "fast"), "test.O", "'{\"who\": 2}'");
    }
    world.drained(&relay);
    relay.kill9();
    let relay = world.streaming();
    world.write(("o", "fast"), "test.O", "'{\"who\": 2}'");
    world.drained(&relay);
    slow.batch_execute("SELECT write_event('o', 'slow', 'test.O', '{\"who\": 1}'); COMMIT")
        .expect("a commit");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn a_savepoint_rolled_back_in_a_transaction_beyond_the_servers_memory_leaves_no_event() {
    let world = World::json("spilled");
    set(&world, "logical_decoding_work_mem = '64kB'");
    let relay = world.streaming();
    let events = |count: u32| {
        format!(
            "SELECT write_event('s', (k % 7)::text, 'test.S', jsonb_build_object('k', k)) \
             FROM generate_series(1, {count}) AS k;"
        )
    };
    let (many, few) = (events(3_000), events(100));
    world.database.run(&format!(
        "BEGIN; {few} SAVEPOINT s; {many} ROLLBACK TO SAVEPOINT s; {few} SAVEPOINT t; {many} \
         RELEASE SAVEPOINT t; COMMIT"
    ));
    world.drained(&relay);
    let slot = &world.database.slot;
    wait_for("a spilled transaction in the statistics", || {
        let sql = format!(
            "SELECT spill_txns > 0 FROM pg_stat_replication_slots WHERE slot_name = '{slot}'"
        );
        (world.database.ask(&sql) == "t").then_some(())
    });
    drop(relay);
    let verdict = world.judge(&Form::Json);
    assert_eq!(verdict.committed, 3_200);
    verdict.assert_exact();
}

#[test]
fn a_transaction_that_takes_longer_than_the_sender_timeout_does_not_end_its_stream() {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let world = World::json("longer");
    set(&world, "wal_sender_timeout = '3s'");
    let relay = world.streaming();
    let walsender = world.database.walsender();
    backlog(&world.database, 1, 300_000, 300_000);
    wait_records(&world.cluster, &world.topic("bulk"), 1);
    let start = Instant::now();
    world.drained(&relay);
    assert!(start.elapsed() > TIMEOUT, "it took {:?}", start.elapsed());
    assert!(walsender.is_some(), "a relay streams");
    assert_eq!(world.database.walsender(), walsender, "the stream is the first one");
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

/// The machine of a relay is gone, and its connection to the server stays open.
#[test]
fn a_slot_held_by_a_dead_connection_is_waited_for_until_the_server_gives_it_up() {
    let mut world = World::json("dead");
    set(&world, "wal_sender_timeout = '3s'");
    let direct = world.url.clone();
    let (wire, through) = Wire::before(&direct);
    world.url = through;
    let relay = world.streaming();
    world.write(("d", "1"), "test.D", "'{}'");
    world.drained(&relay);
    wire.hold(true);
    relay.kill9();
    world.url = direct;
    let relay = world.start();
    relay.wait_fault(&world.name, "slot_active");
    world.write(("d", "1"), "test.D", "'{}'");
    relay.wait_state(&world.name, "streaming");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn json_with_nulls_empty_lists_odd_names_and_mixed_numbers_arrives_as_written() {
    let world = World::json("asis");
    let relay = world.streaming();
    for body in [
        r#"{"my-key": 7, "amount": null, "tags": [], "mixed": [1, 2.5], "deep": {"a": [{}, []]}}"#,
        r#"{"": "no name", "a b": {"$": 1}, "big": 12345678901234567890.5, "list": [null, 2]}"#,
    ] {
        world.write(("j", "1"), "test.J", &format!("'{body}'"));
    }
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}
