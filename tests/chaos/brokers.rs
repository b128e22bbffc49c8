//! Three brokers whose leaders change and whose in-sync replicas shrink. Only in the long form.

use walpost_tests::{is_long, wait_for};

use crate::arena::Arena;
use crate::case::{Case, KEPT, Lasts};
use crate::stage::Stage;

/// Where the leader of the first partition is among the case's brokers.
fn leader(arena: &Arena) -> usize {
    let topic = arena.world.topic("order");
    let id = arena.world.cluster.partition(&topic, 0).leader;
    usize::try_from(id).expect("an id").checked_sub(1).expect("ids begin with one")
}

/// Waits until the first partition has so many replicas in sync.
fn wait_in_sync(arena: &Arena, count: usize) {
    let topic = arena.world.topic("order");
    wait_for("replicas in sync", || {
        (arena.world.cluster.partition(&topic, 0).in_sync == count).then_some(())
    });
}

fn run_if_long(case: Case) {
    if is_long() {
        case.run();
    } else {
        println!("{}: a case of the long form", case.name);
    }
}

fn start_all_again(arena: &mut Arena) {
    for broker in &mut arena.servers.brokers {
        if !broker.is_running() {
            broker.start_again().expect("started");
        }
    }
    wait_in_sync(arena, 3);
}

#[test]
fn leader_of_three_brokers_is_killed() {
    run_if_long(Case {
        name: "three brokers: leader: kill -9",
        stage: Stage::Brokers,
        fault: |arena| {
            wait_in_sync(arena, 3);
            let leader = leader(arena);
            arena.servers.brokers[leader].kill9();
            // Two replicas are enough.
            wait_in_sync(arena, 2);
            arena.wait_published(300);
        },
        lasts: Lasts::Long,
        mend: start_all_again,
        ..KEPT
    });
}

#[test]
fn leader_of_three_brokers_is_frozen() {
    run_if_long(Case {
        name: "three brokers: leader: SIGSTOP",
        stage: Stage::Brokers,
        fault: |arena| {
            wait_in_sync(arena, 3);
            let leader = leader(arena);
            let identity = arena.servers.brokers[leader].identity();
            arena.freeze(identity);
            wait_in_sync(arena, 2);
            arena.wait_published(300);
        },
        lasts: Lasts::Long,
        mend: |arena| {
            arena.thaw();
            wait_in_sync(arena, 3);
        },
        ..KEPT
    });
}

#[test]
fn in_sync_replicas_shrink_below_the_minimum() {
    run_if_long(Case {
        name: "three brokers: one in sync, min.insync.replicas 2",
        stage: Stage::BrokersOfOneVoter,
        fault: |arena| {
            wait_in_sync(arena, 3);
            for broker in &mut arena.servers.brokers[1..] {
                broker.kill9();
            }
            wait_in_sync(arena, 1);
        },
        lasts: Lasts::Long,
        mend: start_all_again,
        ..KEPT
    });
}
