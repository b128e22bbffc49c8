//! Told to end, a relay ends within a second, whoever else hangs.

use std::time::Duration;

use walpost_tests::postgres::PayloadType;
use walpost_tests::workload::backlog;
use walpost_tests::{Cluster, Database, Relay, World, stack, wait_for};
use xtask::stack::{Kafka, KafkaOptions, Postgres, PostgresOptions};

/// A second, and what a busy machine adds.
const END: Duration = Duration::from_millis(1_800);

/// As many events as may be in flight; bytes may be the narrower bound.
const FULL: f64 = walpost::limits::PENDING_EVENTS_MAX as f64;

#[track_caller]
fn ends_at_once(relay: Relay) {
    let ended = relay.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.took < END, "it took {:?}", ended.took);
}

#[test]
fn beside_a_frozen_broker_with_a_full_queue() {
    let kafka = Kafka::start(KafkaOptions::default()).expect("a broker");
    let database = Database::new(&stack().postgres, "endkafka", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&kafka.address()), "json");
    let relay = world.streaming();
    world.write(("bulk", "warm"), "test.Bulk", "'{}'");
    world.drained(&relay);
    kafka.freeze();
    backlog(&world.database, 2_000, 10, 500);
    wait_for("a full queue", || {
        (relay.metric(&world.series("walpost_pending_events{source=\"SOURCE\"}")) >= FULL * 0.6)
            .then_some(())
    });
    ends_at_once(relay);
    kafka.resume();
    let relay = world.start();
    world.drained(&relay);
    drop(relay);
    world.judge(&walpost_tests::oracle::Form::Json).assert_kept();
}

#[test]
fn beside_a_frozen_postgresql() {
    let postgres = Postgres::start(PostgresOptions::default()).expect("a server");
    let database = Database::new(&postgres.url(), "endpg", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    let relay = world.streaming();
    postgres.freeze();
    ends_at_once(relay);
    // Connecting hangs as well.
    let relay = world.start();
    relay.admin();
    ends_at_once(relay);
    postgres.resume();
}

/// Takes connections and never answers.
fn silent() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

#[test]
fn beside_a_silent_registry_and_the_stream_stays_alive_meanwhile() {
    let settings = vec![("wal_sender_timeout".to_owned(), "2s".to_owned())];
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let postgres = Postgres::start(options).expect("a server");
    let database = Database::new(&postgres.url(), "endreg", PayloadType::Jsonb);
    let mut world = World::with(database, Cluster::new(&stack().kafka), "avro");
    let (_kept, address) = silent();
    world.registry_url = Some(format!("http://{address}"));
    let relay = world.streaming();
    let pid = world.database.walsender();
    world.write(("o", "1"), "test.O", "'{}'");
    relay.wait_state(&world.name, "waiting_registry");
    assert_eq!(world.database.walsender(), pid, "feedback does not wait for the registry");
    ends_at_once(relay);
}

#[test]
fn beside_a_silent_broker_address() {
    let mut world = World::json("endsilent");
    let (_kept, address) = silent();
    world.cluster = Cluster::new(&address);
    let relay = world.start();
    relay.admin();
    ends_at_once(relay);
    world.cluster = Cluster::new(&stack().kafka);
}

#[test]
fn from_its_first_words_on() {
    let world = World::json("endfirst");
    for _ in 0..10 {
        let relay = world.start();
        relay.admin();
        ends_at_once(relay);
    }
}
