//! Faults of the relay itself: its process, its clock, its sessions and its slot.

use std::time::SystemTime;

use walpost_tests::{Relay, wait_for};
use xtask::process::{Identity, Signal};

use crate::arena::Arena;
use crate::case::{Case, KEPT, Lasts};
use crate::stage::Stage;

const HOUR_S: i64 = 3600;

#[test]
fn relay_is_killed_three_times() {
    let fault = |arena: &mut Arena| {
        for _ in 0..3 {
            arena.kill_relay();
            arena.start_relay();
            arena.wait_published(100);
        }
    };
    Case { name: "relay: kill -9, three times", fault, ..KEPT }.run();
}

#[test]
fn relay_is_frozen() {
    Case {
        name: "relay: SIGSTOP",
        fault: |arena| arena.relay().signal(Signal::STOP),
        lasts: Lasts::Long,
        mend: |arena| arena.relay().signal(Signal::CONT),
        ..KEPT
    }
    .run();
}

/// Sets the relay's clock, and waits until it is seen to have jumped and goes on publishing.
fn jump(arena: &Arena, offset_seconds: i64) {
    arena.clock().set(offset_seconds);
    let series = "walpost_progress_timestamp_seconds{source=\"SOURCE\"}";
    let series = arena.world.series(series);
    wait_for("the clock to jump", || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let off = arena.relay().metric(&series) - now.as_secs_f64() - offset_seconds as f64;
        (off.abs() < 60.0).then_some(())
    });
    arena.wait_published(200);
}

#[test]
fn clock_jumps_forward() {
    Case {
        name: "clock of the relay: an hour forward",
        stage: Stage::Clock,
        fault: |arena| jump(arena, HOUR_S),
        lasts: Lasts::Short,
        ..KEPT
    }
    .run();
}

/// Whoever waits until a time of day waits an hour longer then.
#[test]
fn clock_jumps_back_and_the_broker_is_killed() {
    Case {
        name: "clock of the relay: an hour back, broker: kill -9",
        stage: Stage::ClockAndKafka,
        fault: |arena| {
            jump(arena, -HOUR_S);
            arena.broker().kill9();
        },
        lasts: Lasts::Short,
        mend: |arena| arena.broker().start_again().expect("started"),
        ..KEPT
    }
    .run();
}

#[test]
fn clock_jumps_forward_and_back_across_a_kill() {
    let fault = |arena: &mut Arena| {
        jump(arena, HOUR_S);
        arena.kill_relay();
        arena.clock().set(-HOUR_S);
        arena.start_relay();
        arena.wait_published(200);
        jump(arena, 0);
    };
    Case {
        name: "clock of the relay: forward, relay: kill -9, back",
        stage: Stage::Clock,
        fault,
        ..KEPT
    }
    .run();
}

fn walsender(arena: &Arena) -> i32 {
    wait_for("a walsender", || arena.world.database.walsender())
}

fn terminate(arena: &Arena, walsender: i32) {
    arena.world.database.run(&format!("SELECT pg_terminate_backend({walsender})"));
}

#[test]
fn walsender_is_frozen() {
    let fault = |arena: &mut Arena| {
        let pid = u32::try_from(walsender(arena)).expect("a pid");
        arena.freeze(Identity::of(pid).expect("a process"));
    };
    let (lasts, mend) = (Lasts::Long, Arena::thaw);
    Case { name: "walsender: SIGSTOP", fault, lasts, mend, ..KEPT }.run();
}

#[test]
fn walsender_is_terminated_again_and_again() {
    let fault = |arena: &mut Arena| {
        for _ in 0..5 {
            let pid = walsender(arena);
            terminate(arena, pid);
            let database = &arena.world.database;
            wait_for("another one", || database.walsender().filter(|found| *found != pid));
        }
    };
    Case { name: "walsender: pg_terminate_backend, five times", fault, ..KEPT }.run();
}

#[test]
fn parker_is_terminated() {
    let fault = |arena: &mut Arena| {
        let name = format!("walpost-{}-lot", arena.world.name);
        for _ in 0..3 {
            arena.world.database.run(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = '{name}'"
            ));
            arena.world.write(("order", "large"), "test.Chaos", "'{}'");
            arena.wait_published(50);
        }
    };
    Case { name: "session of the parking lot: terminated", fault, ..KEPT }.run();
}

/// Freezes the relay, and lets a second one have its slot.
fn steal(arena: &Arena) -> Relay {
    let second = arena.world.start();
    arena.relay().signal(Signal::STOP);
    terminate(arena, walsender(arena));
    second.wait_state(&arena.world.name, "streaming");
    second
}

#[test]
fn slot_is_stolen_by_a_second_relay() {
    let fault = |arena: &mut Arena| {
        let second = steal(arena);
        arena.relay().signal(Signal::CONT);
        arena.wait_published(100);
        assert_eq!(second.terminate().code, Some(0));
    };
    Case { name: "slot: stolen by a second relay", fault, ..KEPT }.run();
}

#[test]
fn slot_is_stolen_and_both_relays_are_killed() {
    let fault = |arena: &mut Arena| {
        let second = steal(arena);
        arena.kill_relay();
        arena.wait_published(100);
        second.kill9();
        arena.start_relay();
    };
    Case { name: "slot: stolen, then both relays: kill -9", fault, ..KEPT }.run();
}
