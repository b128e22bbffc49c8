//! Networks that break: cut at any byte, silent with open connections, in pieces of any size.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use walpost_tests::oracle::Form;
use walpost_tests::postgres::PayloadType;
use walpost_tests::wire::Wire;
use walpost_tests::workload::Random;
use walpost_tests::{Cluster, Database, Workload, World, stack, wait_for, wait_within};
use xtask::stack::{Kafka, KafkaOptions};

/// A world whose relay reaches PostgreSQL through a wire.
fn wired_to_postgres(label: &str) -> (Wire, World) {
    let mut world = World::json(label);
    let (wire, through) = Wire::before(&world.url);
    world.url = through;
    (wire, world)
}

/// A world with a broker of its own that is known by the wire's address alone.
fn wired_to_kafka(label: &str) -> (Wire, Kafka, World) {
    let wire = Wire::new("127.0.0.1:1");
    let advertised = format!("PLAINTEXT://{}", wire.address());
    let settings = vec![("advertised.listeners".to_owned(), advertised)];
    let kafka = Kafka::start(KafkaOptions { settings, ..Default::default() }).expect("a broker");
    wire.lead_to(&kafka.address());
    let database = Database::new(&stack().postgres, label, PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&wire.address()), "json");
    (wire, kafka, world)
}

/// Writes round after round while `disturb` is called again and again, until it has struck
/// `strikes` times: however fast the writers are, the wire is bad while they write.
fn disturbed(world: &World, strikes: usize, mut disturb: impl FnMut() -> bool) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for seed in 7.. {
                Workload { transactions: 100, seed, ..Workload::default() }.run(&world.database);
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut struck = 0;
        while struck < strikes && !writing.is_finished() {
            struck += usize::from(disturb());
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(writing.join().is_ok());
        assert_eq!(struck, strikes);
    });
}

#[test]
fn a_wire_to_postgresql_that_is_cut_at_any_byte_loses_nothing_and_doubles_nothing() {
    let (wire, world) = wired_to_postgres("cut");
    let relay = world.streaming();
    let mut random = Random::new(11);
    disturbed(&world, 5, || {
        let before = wire.connections();
        wire.cut_after(1 + random.below(30_000));
        wait_within(Duration::from_secs(30), "a new connection", || {
            (wire.connections() > before || !relay.is_running()).then_some(wire.connections())
        }) > before
    });
    wire.cut_after(u64::MAX);
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn single_bytes_are_as_good_as_large_pieces() {
    let (wire, world) = wired_to_postgres("bytes");
    wire.in_pieces_of(1);
    let relay = world.streaming();
    Workload { transactions: 40, ..Workload::default() }.run(&world.database);
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn a_silent_wire_to_postgresql_is_left_and_what_was_sent_is_not_sent_again() {
    let (wire, world) = wired_to_postgres("silent");
    let relay = world.streaming();
    Workload { transactions: 40, ..Workload::default() }.run(&world.database);
    world.drained(&relay);
    wire.be_silent(true);
    Workload { transactions: 40, seed: 8, ..Workload::default() }.run(&world.database);
    relay.wait_state(&world.name, "waiting_database");
    wire.be_silent(false);
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn a_wire_to_kafka_that_is_cut_again_and_again_loses_nothing_and_keeps_order() {
    let (wire, _kafka, world) = wired_to_kafka("kafkacut");
    let relay = world.streaming();
    let mut random = Random::new(12);
    disturbed(&world, 5, || {
        let before = wire.connections();
        wire.cut_after(1 + random.below(3_000));
        let again = xtask::wait::until(Duration::from_secs(5), || {
            (wire.connections() > before).then_some(())
        });
        again.is_some()
    });
    wire.cut_after(u64::MAX);
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    world.judge(&Form::Json).assert_kept();
}

#[test]
fn a_silent_wire_to_kafka_is_waited_for_and_nothing_is_lost() {
    let (wire, _kafka, world) = wired_to_kafka("kafkasilent");
    let relay = world.streaming();
    Workload { transactions: 40, ..Workload::default() }.run(&world.database);
    world.drained(&relay);
    wire.be_silent(true);
    let before = world.database.wal_end();
    Workload { transactions: 40, seed: 8, ..Workload::default() }.run(&world.database);
    let written = world.database.wal_end();
    wait_for("events in flight", || {
        (relay.metric(&world.series("walpost_pending_events{source=\"SOURCE\"}")) > 0.0)
            .then_some(())
    });
    wait_for("the slot to be looked at again", || {
        (relay.metric(&world.series("walpost_lag_seconds{source=\"SOURCE\"}")) > 5.0).then_some(())
    });
    let confirmed = world.database.confirmed();
    assert!(before < written && confirmed < written, "confirmed past what is not in Kafka");
    wire.be_silent(false);
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    world.judge(&Form::Json).assert_kept();
}
