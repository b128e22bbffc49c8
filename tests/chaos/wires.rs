//! Wires that are cut, slow, half-open or lose answers, between the relay and each of its peers.

use std::time::Duration;

use walpost_tests::wait_for;
use walpost_tests::workload::Random;

use crate::arena::{Arena, LATE_TYPES};
use crate::case::{Case, KEPT, Lasts};
use crate::stage::Stage;

/// Cuts five times, each after a number of bytes below `bound`.
fn cut(arena: &Arena, bound: u64, meanwhile: fn(&Arena, u32)) {
    let wire = arena.wire();
    let mut random = Random::new(bound);
    for number in 0..LATE_TYPES {
        let before = wire.connections();
        wire.cut_after(1 + random.below(bound));
        meanwhile(arena, number);
        wait_for("another connection", || (wire.connections() > before).then_some(()));
    }
    wire.cut_after(u64::MAX);
}

/// What makes a wire bad for a while, and what makes it good again.
struct Bad {
    fault: fn(&mut Arena),
    mend: fn(&mut Arena),
}

const SLOW: Bad = Bad {
    fault: |arena| arena.wire().delay(Duration::from_millis(100)),
    mend: |arena| arena.wire().delay(Duration::ZERO),
};

const HALF_OPEN: Bad = Bad {
    fault: |arena| arena.wire().be_silent(true),
    mend: |arena| arena.wire().be_silent(false),
};

const ANSWERLESS: Bad = Bad {
    fault: |arena| arena.wire().drop_answers(true),
    mend: |arena| arena.wire().drop_answers(false),
};

fn bad(name: &'static str, stage: Stage, Bad { fault, mend }: Bad) -> Case {
    Case { name, stage, fault, lasts: Lasts::Long, mend, ..KEPT }
}

#[test]
fn wire_to_postgres_is_cut() {
    let fault = |arena: &mut Arena| cut(arena, 20_000, |_, _| {});
    Case { name: "wire relay-postgresql: cut", stage: Stage::WireToPostgres, fault, ..KEPT }.run();
}

#[test]
fn wire_to_postgres_is_slow() {
    bad("wire relay-postgresql: delayed by 100 ms", Stage::WireToPostgres, SLOW).run();
}

#[test]
fn wire_to_postgres_is_half_open() {
    bad("wire relay-postgresql: half-open", Stage::WireToPostgres, HALF_OPEN).run();
}

#[test]
fn wire_to_postgres_loses_answers() {
    bad("wire relay-postgresql: answers dropped", Stage::WireToPostgres, ANSWERLESS).run();
}

#[test]
fn wire_to_kafka_is_cut() {
    let fault = |arena: &mut Arena| cut(arena, 3_000, |_, _| {});
    Case { name: "wire relay-kafka: cut", stage: Stage::WireToKafka, fault, ..KEPT }.run();
}

#[test]
fn wire_to_kafka_is_slow() {
    bad("wire relay-kafka: delayed by 100 ms", Stage::WireToKafka, SLOW).run();
}

#[test]
fn wire_to_kafka_is_half_open() {
    bad("wire relay-kafka: half-open", Stage::WireToKafka, HALF_OPEN).run();
}

#[test]
fn wire_to_kafka_loses_answers_and_the_relay_is_killed() {
    let name = "wire relay-kafka: answers dropped, then relay: kill -9";
    let mend = |arena: &mut Arena| {
        arena.kill_relay();
        (ANSWERLESS.mend)(arena);
        arena.start_relay();
    };
    Case { lasts: Lasts::Short, mend, ..bad(name, Stage::WireToKafka, ANSWERLESS) }.run();
}

#[test]
fn wire_to_the_registry_is_cut() {
    let fault = |arena: &mut Arena| cut(arena, 200, Arena::write_late);
    Case { name: "wire relay-registry: cut", stage: Stage::WireToRegistry, fault, ..KEPT }.run();
}

#[test]
fn wire_to_the_registry_is_slow() {
    let fault = |arena: &mut Arena| {
        (SLOW.fault)(arena);
        (0..LATE_TYPES).for_each(|number| arena.write_late(number));
    };
    let slow = bad("wire relay-registry: delayed by 100 ms", Stage::WireToRegistry, SLOW);
    Case { fault, ..slow }.run();
}

#[test]
fn wire_to_the_registry_is_half_open() {
    let fault = |arena: &mut Arena| {
        (HALF_OPEN.fault)(arena);
        arena.wait_asking();
    };
    Case { fault, ..bad("wire relay-registry: half-open", Stage::WireToRegistry, HALF_OPEN) }.run();
}

#[test]
fn wire_to_the_registry_loses_answers() {
    let fault = |arena: &mut Arena| {
        (ANSWERLESS.fault)(arena);
        arena.wait_asking();
    };
    let name = "wire relay-registry: answers dropped";
    Case { fault, ..bad(name, Stage::WireToRegistry, ANSWERLESS) }.run();
}
