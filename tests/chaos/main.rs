//! Faults on real servers, each under load and each ended by the same judges: the oracle of the
//! tests, and `walpost verify`. Nothing is lost, nothing is out of order, and what was destroyed is
//! named exactly. `cargo x chaos` runs the long form and prints the table; the short one is part of
//! `cargo x test`.

mod arena;

use std::time::Duration;

use arena::{Arena, Expect, Own};
use walpost_tests::wire::Wire;
use walpost_tests::workload::Random;
use walpost_tests::{World, is_long, wait_for};
use xtask::process::{Identity, Signal};
use xtask::stack::Mode;

/// How long a party is frozen or silent.
fn long() -> Duration {
    Duration::from_secs(if is_long() { 90 } else { 6 })
}

/// Load goes on for so long while a fault lasts: until so many events are committed, or, where
/// nothing can be committed, for the time itself.
fn outlast(arena: &Arena, duration: Duration) {
    let database = &arena.world.database;
    let mut client = database.client();
    let sql = format!("SELECT pg_sleep({})", duration.as_secs_f64());
    client.batch_execute(&sql).expect("time passes in the database");
}

/// Time passes where no database can tell it.
fn pass(duration: Duration) {
    let _ = xtask::wait::until(duration, || None::<()>);
}

fn wired(
    case: &'static str,
    to: fn(&World) -> String,
    lead: fn(&mut World, &str),
) -> (Wire, Arena) {
    let wire = Wire::new("127.0.0.1:1");
    let of_arena = wire.clone();
    let arena = Arena::with(case, Own::Nothing, move |world| {
        of_arena.lead_to(&to(world));
        lead(world, &of_arena.address());
    });
    (wire, arena)
}

fn wired_to_postgres(case: &'static str) -> (Wire, Arena) {
    let host = |world: &World| {
        let (front, _) = world.url.rsplit_once('/').expect("a url with a database");
        front.rsplit_once('@').expect("a url with a user").1.to_owned()
    };
    wired(case, host, |world, address| {
        let (front, database) = world.url.rsplit_once('/').expect("a url with a database");
        let (user, _) = front.rsplit_once('@').expect("a url with a user");
        world.url = format!("{user}@{address}/{database}");
    })
}

#[test]
fn relay_is_killed_three_times() {
    let mut arena = Arena::new("relay: kill -9, three times", Own::Nothing);
    for _ in 0..3 {
        arena.kill_relay();
        arena.start_relay();
        arena.wait_published(100);
    }
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn relay_is_frozen() {
    let mut arena = Arena::new("relay: SIGSTOP", Own::Nothing);
    arena.relay().signal(Signal::STOP);
    outlast(&arena, long());
    arena.relay().signal(Signal::CONT);
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn broker_is_killed() {
    let mut arena = Arena::new("broker: kill -9", Own::Kafka);
    arena.kafka.as_mut().expect("own").kill9();
    outlast(&arena, Duration::from_secs(2));
    arena.kafka.as_mut().expect("own").start_again().expect("started");
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn broker_is_frozen() {
    let mut arena = Arena::new("broker: SIGSTOP", Own::Kafka);
    arena.kafka.as_ref().expect("own").freeze();
    outlast(&arena, long());
    arena.kafka.as_ref().expect("own").resume();
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn postgres_is_killed() {
    let mut arena = Arena::new("postgresql: kill -9", Own::Postgres);
    arena.postgres.as_mut().expect("own").kill9();
    arena.wait_noticed();
    arena.postgres.as_mut().expect("own").start_again().expect("started");
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn postgres_is_shut_down_fast() {
    let mut arena = Arena::new("postgresql: fast shutdown", Own::Postgres);
    let took = arena.postgres.as_mut().expect("own").stop(Mode::Fast).expect("stopped");
    assert!(took < Duration::from_secs(10), "the shutdown took {took:?}");
    arena.postgres.as_mut().expect("own").start_again().expect("started");
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn postgres_is_shut_down_immediately() {
    let mut arena = Arena::new("postgresql: immediate shutdown", Own::Postgres);
    arena.postgres.as_mut().expect("own").stop(Mode::Immediate).expect("stopped");
    arena.postgres.as_mut().expect("own").start_again().expect("started");
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn walsender_is_frozen() {
    let mut arena = Arena::new("walsender: SIGSTOP", Own::Nothing);
    let pid = wait_for("a walsender", || arena.world.database.walsender());
    let walsender = Identity::of(u32::try_from(pid).expect("a pid")).expect("a process");
    walsender.signal(Signal::STOP);
    outlast(&arena, long());
    walsender.signal(Signal::CONT);
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn walsender_is_terminated_again_and_again() {
    let mut arena = Arena::new("walsender: pg_terminate_backend, five times", Own::Nothing);
    for _ in 0..5 {
        let pid = wait_for("a walsender", || arena.world.database.walsender());
        arena.world.database.run(&format!("SELECT pg_terminate_backend({pid})"));
        wait_for("another one", || arena.world.database.walsender().filter(|found| *found != pid));
    }
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn parker_is_terminated() {
    let mut arena = Arena::new("session of the parking lot: terminated", Own::Nothing);
    let name = format!("walpost-{}-lot", arena.world.name);
    for _ in 0..3 {
        arena.world.database.run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = '{name}'"
        ));
        arena.world.write(("order", "large"), "test.Chaos", "'{}'");
        arena.wait_published(50);
    }
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn slot_is_stolen_by_a_second_relay() {
    let mut arena = Arena::new("slot: stolen by a second relay", Own::Nothing);
    let second = arena.world.start();
    arena.relay().signal(Signal::STOP);
    let pid = wait_for("a walsender", || arena.world.database.walsender());
    arena.world.database.run(&format!("SELECT pg_terminate_backend({pid})"));
    second.wait_state(&arena.world.name, "streaming");
    arena.relay().signal(Signal::CONT);
    arena.wait_published(100);
    assert_eq!(second.terminate().code, Some(0));
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn wire_to_postgres_is_cut() {
    let (wire, mut arena) = wired_to_postgres("wire relay-postgresql: cut");
    let mut random = Random::new(5);
    for _ in 0..5 {
        let before = wire.connections();
        wire.cut_after(1 + random.below(20_000));
        wait_for("another connection", || (wire.connections() > before).then_some(()));
    }
    wire.cut_after(u64::MAX);
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn wire_to_postgres_is_slow() {
    let (wire, mut arena) = wired_to_postgres("wire relay-postgresql: delayed by 100 ms");
    wire.delay(Duration::from_millis(100));
    outlast(&arena, long());
    wire.delay(Duration::ZERO);
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn wire_to_postgres_is_half_open() {
    let (wire, mut arena) = wired_to_postgres("wire relay-postgresql: half-open");
    wire.be_silent(true);
    outlast(&arena, long());
    wire.be_silent(false);
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn wire_to_postgres_loses_answers() {
    let (wire, mut arena) = wired_to_postgres("wire relay-postgresql: answers dropped");
    wire.drop_answers(true);
    outlast(&arena, long());
    wire.drop_answers(false);
    arena.mended();
    arena.judge(Expect::Kept);
}

/// A broker that is known by the wire's address alone.
fn wired_to_kafka(case: &'static str) -> (Wire, Arena, xtask::stack::Kafka) {
    let wire = Wire::new("127.0.0.1:1");
    let advertised = format!("PLAINTEXT://{}", wire.address());
    let settings = vec![("advertised.listeners".to_owned(), advertised)];
    let options = xtask::stack::KafkaOptions { settings, ..Default::default() };
    let kafka = xtask::stack::Kafka::start(options).expect("a broker");
    wire.lead_to(&kafka.address());
    let brokers = wire.address();
    let arena = Arena::with(case, Own::Nothing, move |world| {
        world.brokers.clone_from(&brokers);
        world.cluster = walpost_tests::Cluster::new(&brokers);
    });
    (wire, arena, kafka)
}

#[test]
fn wire_to_kafka_is_cut() {
    let (wire, mut arena, _kafka) = wired_to_kafka("wire relay-kafka: cut");
    let mut random = Random::new(6);
    for _ in 0..5 {
        let before = wire.connections();
        wire.cut_after(1 + random.below(3_000));
        wait_for("another connection", || (wire.connections() > before).then_some(()));
    }
    wire.cut_after(u64::MAX);
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn wire_to_kafka_is_slow() {
    let (wire, mut arena, _kafka) = wired_to_kafka("wire relay-kafka: delayed by 100 ms");
    wire.delay(Duration::from_millis(100));
    outlast(&arena, long());
    wire.delay(Duration::ZERO);
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn wire_to_kafka_is_half_open() {
    let (wire, mut arena, _kafka) = wired_to_kafka("wire relay-kafka: half-open");
    wire.be_silent(true);
    outlast(&arena, long());
    wire.be_silent(false);
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn wire_to_kafka_loses_answers_and_the_relay_is_killed() {
    let (wire, mut arena, _kafka) =
        wired_to_kafka("wire relay-kafka: answers dropped, then relay: kill -9");
    wire.drop_answers(true);
    outlast(&arena, Duration::from_secs(3));
    arena.kill_relay();
    wire.drop_answers(false);
    arena.start_relay();
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn limit_of_the_topic_is_lowered() {
    let mut arena = Arena::new("topic: max.message.bytes lowered", Own::Nothing);
    let topic = arena.world.topic("order");
    arena.world.cluster.set(&topic, "max.message.bytes", "700");
    let database = &arena.world.database;
    database.run(
        "SELECT write_event('order', '3', 'test.Chaos', \
         jsonb_build_object('t', repeat('x', 2000)))",
    );
    wait_for("the event to be parked", || {
        let parked = arena.world.parked_events();
        parked.iter().any(|(_, key, code)| key == "3" && code != "behind").then_some(())
    });
    arena.wait_published(100);
    arena.world.cluster.set(&topic, "max.message.bytes", "1048588");
    // A broker may be told a moment later than its controller.
    wait_for("the event to be published", || {
        let asked = ["retry", "--aggregate", "order/3", "--yes", "--wait", "60"];
        arena.world.parked(&asked).stdout.contains("refused again 0").then_some(())
    });
    arena.mended();
    arena.judge(Expect::Kept);
}

#[test]
fn topic_is_deleted() {
    let mut arena = Arena::new("topic: deleted", Own::Nothing);
    let topic = arena.world.topic("order");
    arena.world.cluster.delete(std::slice::from_ref(&topic));
    wait_for("the topic to come back", || {
        pass(Duration::from_millis(200));
        (arena.world.cluster.count(&topic) > 50).then_some(())
    });
    arena.mended();
    arena.judge(Expect::Destroyed);
}

#[test]
fn partitions_are_added() {
    let mut arena = Arena::new("topic: partitions raised", Own::Nothing);
    arena.world.cluster.grow(&arena.world.topic("order"), 7);
    // The relay looks once a minute; a new producer looks at once.
    arena.kill_relay();
    arena.start_relay();
    arena.wait_published(300);
    arena.mended();
    arena.judge(Expect::Moved);
}
