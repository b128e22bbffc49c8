//! Consumers that are killed, frozen and doubled, and servers that go away, ended by the same judge:
//! every movement is in the balances once and in order.

use std::time::Duration;

use walpost_tests::ledger::Bank;
use walpost_tests::{Cluster, Database, stack, wait_for};
use xtask::process::Signal;
use xtask::stack::{Kafka, KafkaOptions, Mode, Postgres, PostgresOptions};

const LEDGER: &str = env!("CARGO_BIN_EXE_ledger");

#[test]
fn a_consumer_that_ends_applies_everything_once_and_leaves_its_offsets_at_the_end() {
    let mut bank = Bank::new("ledger", 3);
    bank.write(5_000, 50);
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(5_000);
    consumer.terminate();
    bank.judge();
    // The next one has nothing to do: a movement written now is applied alone.
    bank.write(1, 1);
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(5_001);
    consumer.terminate();
    bank.judge();
    assert_eq!(bank.database.ask("SELECT count(*) FROM inbox_claim"), "5001");
    let floors = "SELECT sum(to_offset - from_offset) FROM inbox_floor";
    assert_eq!(bank.database.ask(floors), "5001", "floors follow the frontier");
}

#[test]
fn a_consumer_that_is_killed_at_each_point_of_a_batch_applies_everything_once() {
    let mut bank = Bank::new("crashpoint", 3);
    bank.write(6_000, 60);
    for point in ["before_begin", "after_claim", "after_handler", "after_commit"] {
        for count in [1, 7] {
            let crash = format!("{point}:{count}");
            let consumer = bank.consumer_with(LEDGER, &[("WALPOST_INBOX_CRASH", &crash)]);
            consumer.wait_crash();
        }
    }
    assert!(bank.applied() < 6_000, "all crashes were in the middle");
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(6_000);
    consumer.terminate();
    bank.judge();
}
