//! Servers that are killed, frozen, shut down or run out of disk.

use std::time::Duration;

use walpost_tests::wait_within;
use xtask::stack::{Apicurio, Mode, Postgres};

use crate::arena::Arena;
use crate::case::{Case, KEPT, Lasts};
use crate::stage::Stage;

/// A broker without room notices at its next write, and then ends.
const HALT_MAX: Duration = Duration::from_secs(120);

fn start_broker_again(arena: &mut Arena) {
    arena.broker().start_again().expect("started");
}

#[test]
fn broker_is_killed() {
    Case {
        name: "broker: kill -9",
        stage: Stage::Kafka,
        fault: |arena| arena.broker().kill9(),
        lasts: Lasts::Short,
        mend: start_broker_again,
        ..KEPT
    }
    .run();
}

#[test]
fn broker_is_frozen() {
    Case {
        name: "broker: SIGSTOP",
        stage: Stage::Kafka,
        fault: |arena| arena.broker().freeze(),
        lasts: Lasts::Long,
        mend: |arena| arena.broker().resume(),
        ..KEPT
    }
    .run();
}

#[test]
fn disk_of_the_broker_is_full() {
    Case {
        name: "broker: disk full",
        stage: Stage::SmallDisk,
        fault: |arena| {
            arena.servers.disk.as_ref().expect("a disk").fill();
            let broker = arena.broker();
            wait_within(HALT_MAX, "the broker to halt", || (!broker.is_running()).then_some(()));
        },
        lasts: Lasts::Short,
        mend: |arena| {
            arena.servers.disk.as_ref().expect("a disk").free();
            start_broker_again(arena);
        },
        ..KEPT
    }
    .run();
}

fn postgres(arena: &mut Arena) -> &mut Postgres {
    arena.servers.postgres.as_mut().expect("a server of its own")
}

fn start_postgres_again(arena: &mut Arena) {
    postgres(arena).start_again().expect("started");
}

#[test]
fn postgres_is_killed() {
    Case {
        name: "postgresql: kill -9",
        stage: Stage::Postgres,
        fault: |arena| {
            postgres(arena).kill9();
            arena.wait_noticed();
        },
        mend: start_postgres_again,
        ..KEPT
    }
    .run();
}

#[test]
fn postgres_is_shut_down_fast() {
    Case {
        name: "postgresql: fast shutdown",
        stage: Stage::Postgres,
        fault: |arena| {
            let took = postgres(arena).stop(Mode::Fast).expect("stopped");
            assert!(took < Duration::from_secs(10), "the shutdown took {took:?}");
        },
        mend: start_postgres_again,
        ..KEPT
    }
    .run();
}

#[test]
fn postgres_is_shut_down_immediately() {
    Case {
        name: "postgresql: immediate shutdown",
        stage: Stage::Postgres,
        fault: |arena| {
            postgres(arena).stop(Mode::Immediate).expect("stopped");
        },
        mend: start_postgres_again,
        ..KEPT
    }
    .run();
}

fn registry(arena: &mut Arena) -> &mut Apicurio {
    arena.servers.registry.as_mut().expect("a registry of its own")
}

#[test]
fn registry_is_killed() {
    Case {
        name: "registry: kill -9, started without its schemas",
        stage: Stage::Registry,
        fault: |arena| {
            registry(arena).kill9();
            arena.wait_asking();
        },
        lasts: Lasts::Long,
        mend: |arena| {
            registry(arena).start_again().expect("started");
            arena.register_again();
        },
        ..KEPT
    }
    .run();
}

#[test]
fn registry_is_frozen() {
    Case {
        name: "registry: SIGSTOP",
        stage: Stage::Registry,
        fault: |arena| {
            registry(arena).freeze();
            arena.wait_asking();
        },
        lasts: Lasts::Long,
        mend: |arena| registry(arena).resume(),
        ..KEPT
    }
    .run();
}
