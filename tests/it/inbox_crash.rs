//! Consumers that are killed, frozen and doubled, and servers that go away, ended by the same
//! judge: every movement is in the balances once and in order.

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

/// Ten kills at any moment of 100,000 movements (`--long`), or of 20,000.
#[test]
fn ten_kills_in_the_middle_leave_the_balances_exact() {
    let count = if walpost_tests::is_long() { 100_000 } else { 20_000 };
    let mut bank = Bank::new("killten", 4);
    bank.write(count, 200);
    for kill in 1..=10 {
        let consumer = bank.consumer(LEDGER);
        bank.wait_applied(count * kill / 12);
        consumer.kill9();
    }
    assert!(bank.applied() < i64::try_from(count).unwrap(), "all kills were in the middle");
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(count);
    consumer.terminate();
    bank.judge();
}

#[test]
fn a_topic_in_which_half_of_the_records_are_copies_has_each_effect_once() {
    let mut bank = Bank::new("copies", 3);
    for _ in 0..10 {
        let from = bank.written.len();
        bank.write(500, 40);
        // At once, as a producer that sends again, and out of the order of the whole.
        bank.write_again(&bank.written[from..]);
    }
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(5_000);
    consumer.terminate();
    bank.judge();
    assert_eq!(bank.cluster.count(&bank.topic), 10_000);
}

/// The group is reset by being another one: everything is read from the beginning.
#[test]
fn reading_everything_again_has_no_effect_twice() {
    let mut bank = Bank::new("replay", 3);
    bank.write(4_000, 40);
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(4_000);
    consumer.terminate();
    bank.judge();
    bank.group = format!("{}-again", bank.group);
    let consumer = bank.consumer(LEDGER);
    bank.write(1, 1);
    bank.wait_applied(4_001);
    consumer.terminate();
    bank.judge();
    // The same when the claims are gone and the ids count as old: the floor decides.
    bank.database.run("TRUNCATE inbox_claim; UPDATE inbox_window SET oldest = 'infinity'");
    bank.group = format!("{}-old", bank.group);
    let consumer = bank.consumer(LEDGER);
    // One more in each partition, so that the end of reading can be told.
    for partition in 0..3 {
        bank.write_to(partition);
    }
    bank.wait_applied(4_004);
    consumer.terminate();
    bank.judge();
}

/// The floor is never behind what is committed to Kafka: a hole in it would stay for ever.
#[test]
fn after_a_kill_the_floor_has_no_hole_and_reading_again_outside_the_window_has_no_effect() {
    let mut bank = Bank::new("floorkill", 1);
    bank.write(1_000, 10);
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(1_000);
    // Once more after the first widening, and killed as soon as Kafka knows.
    bank.write(500, 10);
    wait_for("all to be committed", || (bank.committed(0) >= 1_500).then_some(()));
    consumer.kill9();
    bank.write(100, 10);
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(1_600);
    consumer.terminate();
    let floor = "SELECT from_offset || '..' || to_offset FROM inbox_floor";
    assert_eq!(bank.database.ask(floor), "0..1600");
    bank.database.run("TRUNCATE inbox_claim; UPDATE inbox_window SET oldest = 'infinity'");
    bank.group = format!("{}-again", bank.group);
    bank.write(1, 1);
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(1_601);
    consumer.terminate();
    bank.judge();
}

#[test]
fn two_instances_share_a_topic_and_a_rebalance_in_the_middle_doubles_nothing() {
    let mut bank = Bank::new("rebalance", 6);
    bank.write(20_000, 100);
    let first = bank.consumer(LEDGER);
    bank.wait_applied(2_000);
    let second = bank.consumer(LEDGER);
    bank.wait_applied(6_000);
    let third = bank.consumer(LEDGER);
    bank.wait_applied(8_000);
    first.terminate();
    bank.wait_applied(10_000);
    second.kill9();
    bank.wait_applied(20_000);
    third.terminate();
    bank.judge();
}

fn private_database(label: &str) -> (Postgres, Database) {
    let postgres = Postgres::start(PostgresOptions::default()).expect("a server");
    let database = Database::empty(&postgres.url(), label);
    (postgres, database)
}

#[test]
fn a_database_that_restarts_or_is_killed_is_waited_for_and_nothing_is_doubled() {
    let (mut postgres, database) = private_database("restart");
    let mut bank = Bank::with(database, Cluster::new(&stack().kafka), 3);
    bank.write(12_000, 60);
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(1_000);
    postgres.stop(Mode::Fast).expect("stopped");
    postgres.start_again().expect("started");
    let before = bank.applied();
    bank.wait_applied(usize::try_from(before).unwrap() + 1_000);
    postgres.kill9();
    postgres.start_again().expect("started");
    bank.wait_applied(12_000);
    assert!(consumer.is_running());
    consumer.terminate();
    bank.judge();
}

#[test]
fn a_broker_that_restarts_or_is_killed_is_waited_for_and_nothing_is_doubled() {
    let mut kafka = Kafka::start(KafkaOptions::default()).expect("a broker");
    let database = Database::empty(&stack().postgres, "broker");
    let mut bank = Bank::with(database, Cluster::new(&kafka.address()), 3);
    bank.write(6_000, 60);
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(500);
    kafka.stop().expect("stopped");
    kafka.start_again().expect("started");
    bank.write(3_000, 60);
    bank.wait_applied(6_500);
    kafka.kill9();
    kafka.start_again().expect("started");
    bank.write(1_000, 60);
    bank.wait_applied(10_000);
    consumer.terminate();
    bank.judge();
}

/// An instance that stops in the middle of a transaction for longer than its session, and comes
/// back while its partitions are somebody else's: with everything in one key's order.
fn frozen(point: &str) {
    let mut bank = Bank::new("frozen", 2);
    // A handler may take 1 s; the server ends an idle transaction after 11 s.
    bank.environment.push(("DEADLINE".into(), "1".into()));
    bank.write(3_000, 20);
    let freeze = format!("{point}:6");
    let zombie = bank.consumer_with(LEDGER, &[("WALPOST_INBOX_FREEZE", &freeze)]);
    zombie.wait_frozen();
    let frozen_at = bank.applied();
    let successor = bank.consumer(LEDGER);
    // Keys that the frozen one does not hold go on at once, the others when the server ended it.
    wait_for("the successor to apply something", || (bank.applied() > frozen_at).then_some(()));
    zombie.signal(Signal::CONT);
    bank.write(1_000, 20);
    bank.wait_applied(4_000);
    assert!(zombie.is_running(), "it came back");
    zombie.terminate();
    successor.terminate();
    bank.judge();
}

#[test]
fn an_instance_frozen_before_its_claim_neither_doubles_nor_overtakes_when_it_comes_back() {
    frozen("before_begin");
}

#[test]
fn an_instance_frozen_after_its_claim_neither_doubles_nor_overtakes_when_it_comes_back() {
    frozen("after_claim");
}

#[test]
fn an_instance_frozen_before_its_commit_neither_doubles_nor_overtakes_when_it_comes_back() {
    frozen("after_handler");
}

/// The successor parks a key of which the frozen one has events in its hands.
#[test]
fn a_key_that_the_successor_parked_is_not_overtaken_by_the_frozen_one() {
    let mut bank = Bank::new("frozenpark", 1);
    bank.environment.push(("DEADLINE".into(), "1".into()));
    bank.write(400, 10);
    // Movement 41 of account-3 is missing: 42 and those behind it cannot be applied.
    let poisoned = "account-3".to_owned();
    bank.written.push(walpost_tests::ledger::Movement {
        id: uuid::Uuid::now_v7(),
        account: poisoned.clone(),
        amount: 0,
        seq: 41,
    });
    bank.write(400, 10);
    let zombie = bank.consumer_with(LEDGER, &[("WALPOST_INBOX_FREEZE", "before_begin:2")]);
    zombie.wait_frozen();
    let successor = bank.consumer(LEDGER);
    let parked = "SELECT count(*) FROM inbox_parked";
    wait_for("the successor to park", || {
        let count = bank.database.try_ask(parked).ok()?;
        (count != "0").then_some(())
    });
    zombie.signal(Signal::CONT);
    // All but those of the poisoned account behind the missing one.
    bank.wait_applied(760);
    wait_for("all of the key to be parked", || (bank.database.ask(parked) == "40").then_some(()));
    zombie.terminate();
    successor.terminate();
    let order = "SELECT bool_and(record_offset > before) FROM (
        SELECT record_offset, lag(record_offset, 1, -1::bigint) OVER (ORDER BY n) AS before
        FROM inbox_parked) o";
    assert_eq!(bank.database.ask(order), "t", "parked in the order of the topic");
    bank.judge_without(&std::collections::HashSet::from([poisoned.clone()]));
    // With the missing movement in place, the whole sequence is released in order.
    let missing = bank.written.iter().find(|m| m.account == poisoned && m.seq == 41).cloned();
    bank.database.run(&format!(
        "UPDATE balance SET last_seq = 41, applied = 41 WHERE account = '{poisoned}';
         INSERT INTO ledger VALUES ('{}', '{poisoned}', 0, 41);
         UPDATE inbox_sequence SET release_at = now()",
        missing.expect("it was written down").id
    ));
    let consumer = bank.consumer(LEDGER);
    wait_for("the release", || (bank.database.ask(parked) == "0").then_some(()));
    consumer.terminate();
    bank.judge();
}

#[test]
fn a_consumer_ends_in_time_while_broker_and_database_are_away() {
    let mut kafka = Kafka::start(KafkaOptions::default()).expect("a broker");
    let (mut postgres, database) = private_database("ends");
    let mut bank = Bank::with(database, Cluster::new(&kafka.address()), 2);
    bank.write(500, 20);
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(500);
    kafka.stop().expect("stopped");
    postgres.stop(Mode::Fast).expect("stopped");
    let begun = std::time::Instant::now();
    consumer.terminate();
    let took = begun.elapsed();
    assert!(took < std::time::Duration::from_secs(30), "{took:?}");
    kafka.start_again().expect("started");
    postgres.start_again().expect("started");
    let consumer = bank.consumer(LEDGER);
    bank.write(10, 20);
    bank.wait_applied(510);
    consumer.terminate();
    bank.judge();
}
