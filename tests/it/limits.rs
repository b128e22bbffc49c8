//! Large things: a transaction of any size, payloads as large as a topic takes, a frame that
//! nothing takes, and a relay that stands still.

use std::time::Duration;

use walpost_tests::oracle::Form;
use walpost_tests::postgres::PayloadType;
use walpost_tests::{Cluster, Database, Relay, Workload, World, stack, wait_for};
use xtask::process::Signal;
use xtask::stack::{Postgres, PostgresOptions};

/// The relay of the tests is built without optimization, which costs memory too.
const PEAK_RSS_KB_MAX: u64 = 120_000;

#[test]
fn a_transaction_of_any_size_flows_through_bounded_memory() {
    let world = World::json("largetx");
    world.database.run(
        "BEGIN; INSERT INTO truth SELECT gen_random_uuid(), 'large', (k % 1000)::text,
           k / 1000 + 1, 'test.Large', jsonb_build_object('k', k, 'f', repeat('x', 300))::text,
           NULL FROM generate_series(0, 199999) k;
         INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload)
           SELECT id, aggregate_type, aggregate_id, event_type, payload::jsonb FROM truth
           ORDER BY n, aggregate_id; COMMIT",
    );
    let relay = world.start();
    world.drained(&relay);
    let peak = relay.peak_rss_kb();
    assert!(peak < PEAK_RSS_KB_MAX, "{peak} kB for 80 MB of events");
    assert_eq!(relay.terminate().code, Some(0));
    world.judge(&Form::Json).assert_exact();
    let records = world.records();
    let lsn = records[0].header("lsn").rsplit_once(':').expect("an lsn").0;
    assert!(records.iter().all(|record| record.header("lsn").starts_with(lsn)), "one commit");
}

#[test]
fn payloads_of_almost_a_megabyte_arrive() {
    let world = World::json("megabyte");
    let relay = world.streaming();
    let mut client = world.database.client();
    for number in 0..40 {
        let sql = format!(
            "SELECT write_event('big', '{}', 'test.Big', jsonb_build_object('text',
               repeat(chr(97 + {number} % 26), 1000000)))",
            number % 5
        );
        client.batch_execute(&sql).expect("an event");
    }
    world.drained(&relay);
    let peak = relay.peak_rss_kb();
    assert!(peak < PEAK_RSS_KB_MAX, "{peak} kB for 40 MB of events");
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

/// Sizes above the limit of 16 MiB; the last is beyond all the memory that the relay may take.
const GIANTS: [u32; 3] = [17_000_000, 40_000_000, 200_000_000];

fn giant(bytes: u32) -> String {
    format!("jsonb_build_object('text', repeat('x', {bytes}))")
}

#[test]
fn a_row_of_any_size_is_parked_by_its_names_and_the_rest_flows() {
    let world = World::json("giants").parking();
    let relay = world.streaming();
    world.write(("big", "1"), "test.Ok", "'{}'");
    for bytes in GIANTS {
        world.write(("big", &bytes.to_string()), "test.Big", &giant(bytes));
    }
    // Behind one of them, and beside them.
    world.write(("big", &GIANTS[0].to_string()), "test.Ok", "'{}'");
    world.write(("big", "1"), "test.Ok", "'{}'");
    world.drained(&relay);
    let peak = relay.peak_rss_kb();
    assert!(peak < PEAK_RSS_KB_MAX, "{peak} kB for rows of up to 200 MB");
    let parked = world.parked_events();
    let parked: Vec<(&str, &str)> =
        parked.iter().map(|(_, id, code)| (&id[..], &code[..])).collect();
    let [small, middle, large] = GIANTS.map(|bytes| bytes.to_string());
    let expected = [
        (&small[..], "row_too_large"),
        (&middle, "row_too_large"),
        (&large, "row_too_large"),
        (&small, "behind"),
    ];
    assert_eq!(parked, expected);
    assert_eq!(world.records().len(), 2);
    // It cannot be published, whoever asks; what waits behind it can once it is given up.
    world.parked(&["retry", "--all", "--yes"]);
    let discard = ["discard", "--code", "row_too_large", "--reason", "too large", "--yes"];
    assert_eq!(world.parked(&discard).code, Some(0));
    wait_for("the lot to be empty", || {
        world.parked(&["retry", "--all", "--yes"]);
        world.parked_events().is_empty().then_some(())
    });
    assert_eq!(world.records().len(), 3);
}

#[test]
fn giants_that_are_no_events_are_passed() {
    let world = World::json("passed").parking();
    world.database.run("ALTER TABLE outbox ADD remark text");
    let relay = world.streaming();
    // A value of no concern in an outbox row, which is published as it is.
    world.write(("ok", "1"), "test.Ok", "'{}'");
    world.database.run(
        "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload, remark)
         SELECT gen_random_uuid(), 'ok', '2', 'test.Ok', '{}', repeat('x', 20000000)",
    );
    // An update, and a message of another program.
    world.database.run("UPDATE outbox SET remark = repeat('y', 20000000) WHERE aggregate_id = '2'");
    world.database.run("SELECT pg_logical_emit_message(true, 'another', repeat('x', 20000000))");
    world.write(("ok", "1"), "test.Ok", "'{}'");
    world.drained(&relay);
    assert_eq!((world.records().len(), world.parked_events()), (3, Vec::new()));
    // A message with our prefix has no names outside of what is too large.
    world.database.run("SELECT pg_logical_emit_message(true, 'walpost', repeat('x', 20000000))");
    world.drained(&relay);
    let parked = world.parked_events();
    assert_eq!((parked.len(), parked[0].2.as_str()), (1, "row_too_large"));
}

#[test]
fn a_row_above_the_limit_stops_where_that_is_the_policy() {
    let world = World::json("frame");
    let relay = world.streaming();
    world.write(("ok", "1"), "test.Ok", "'{}'");
    world.drained(&relay);
    world.write(("big", "1"), "test.Big", &giant(GIANTS[0]));
    let end = world.database.wal_end();
    let text = relay.wait_stop("row_too_large");
    assert!(text.contains("17000"), "{text}");
    assert!(world.database.confirmed() < end);
}

/// A relay that stood still comes back to a connection that the server gave up.
#[test]
fn a_frozen_relay_goes_on_where_it_was_without_duplicates() {
    let settings = vec![("wal_sender_timeout".to_owned(), "2s".to_owned())];
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let postgres = Postgres::start(options).expect("a server");
    let database = Database::new(&postgres.url(), "sigstop", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    let relay = world.streaming();
    Workload { transactions: 100, ..Workload::default() }.run(&world.database);
    relay.signal(Signal::STOP);
    Workload { transactions: 100, seed: 8, ..Workload::default() }.run(&world.database);
    wait_for("the server to give up", || world.database.walsender().is_none().then_some(()));
    relay.signal(Signal::CONT);
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn an_idle_relay_outlives_a_short_sender_timeout() {
    let settings = vec![("wal_sender_timeout".to_owned(), "1s".to_owned())];
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let postgres = Postgres::start(options).expect("a server");
    let database = Database::new(&postgres.url(), "timeout", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    let relay = world.streaming();
    let pid = world.database.walsender().expect("a walsender");
    let start = std::time::Instant::now();
    wait_for("five idle seconds", || (start.elapsed() > Duration::from_secs(5)).then_some(()));
    assert_eq!(world.database.walsender(), Some(pid), "the same connection");
    drop(relay);
}

#[test]
fn every_major_that_is_up_is_relayed_from() {
    let mut majors = 0;
    for major in [14, 15, 16, 17, 18] {
        let Ok(url) = std::env::var(format!("WALPOST_TEST_POSTGRES_{major}_URL")) else { continue };
        majors += 1;
        let database = Database::new(&url, "major", PayloadType::Jsonb);
        let world = World::with(database, Cluster::new(&stack().kafka), "json");
        let relay = world.streaming();
        Workload { transactions: 50, ..Workload::default() }.run(&world.database);
        world.drained(&relay);
        assert_eq!(relay.terminate().code, Some(0), "{major}");
        world.judge(&Form::Json).assert_exact();
    }
    assert!(majors >= 1, "no PostgreSQL is up");
}

/// The place of the database is taken by another cluster with the same names.
#[test]
fn another_cluster_at_the_same_address_is_refused() {
    let mut first = Postgres::start(PostgresOptions::default()).expect("a server");
    let database = Database::new(&first.url(), "swapped", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    let relay: Relay = world.streaming();
    world.write(("s", "1"), "test.S", "'{}'");
    world.drained(&relay);
    let port = first.port();
    first.kill9();
    let options = PostgresOptions { port: Some(port), ..PostgresOptions::default() };
    let second = Postgres::start(options).expect("another server");
    world.database.make_again(PayloadType::Jsonb);
    let text = relay.wait_stop("other_database");
    assert!(text.contains("system id"), "{text}");
    drop(second);
}

/// A copy of a database that only replays, as a failover leaves behind on the wrong side.
#[test]
fn a_standby_is_refused_by_name() {
    let mut primary = Postgres::start(PostgresOptions::default()).expect("a server");
    let database = Database::new(&primary.url(), "standby", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    primary.stop(xtask::stack::Mode::Fast).expect("stopped");
    let signal = primary.data().join("standby.signal");
    std::fs::write(&signal, "").expect("a file");
    primary.start_again().expect("started as a standby");
    let relay = world.start();
    let fault = wait_for("a fault", || {
        let told = relay.events().into_iter().find(|event| event["code"].is_string())?;
        Some((told["code"].as_str()?.to_owned(), told["message"].as_str()?.to_owned()))
    });
    assert_eq!(fault.0, "database_is_a_standby", "{}", fault.1);
    assert!(fault.1.contains(&world.database.name) && fault.1.contains("primary"), "{}", fault.1);
}
