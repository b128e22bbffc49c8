//! Order per aggregate, whoever writes and however, and what must leave no trace.

use serde_json::json;
use walpost_tests::oracle::Form;
use walpost_tests::{Workload, World};

#[test]
fn writers_that_meet_on_few_aggregates_are_published_in_commit_order() {
    let world = World::json("order");
    let relay = world.streaming();
    let workload = Workload { writers: 8, transactions: 150, aggregates: 5, ..Workload::default() };
    workload.run(&world.database);
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn a_long_transaction_that_commits_late_stands_where_it_committed() {
    let world = World::json("late");
    let relay = world.streaming();
    let mut slow = world.database.client();
    slow.batch_execute("BEGIN; SELECT write_event('o', 'slow', 'test.O', '{\"who\": 1}')")
        .expect("an event");
    world.write(("o", "fast"), "test.O", "'{\"who\": 2}'");
    // What committed is not held back by what has not.
    walpost_tests::relay::wait_records(&world.cluster, &world.topic("o"), 1);
    slow.batch_execute("SELECT write_event('o', 'fast', 'test.O', '{\"who\": 1}'); COMMIT")
        .expect("a commit");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
    assert_eq!(world.records().len(), 3);
}

#[test]
fn rows_deleted_by_their_own_transaction_arrive_and_rolled_back_ones_do_not() {
    let world = World::json("deleted");
    let relay = world.streaming();
    let workload = Workload { transactions: 100, deletes_rows: true, ..Workload::default() };
    workload.run(&world.database);
    world.drained(&relay);
    assert_eq!(world.database.ask("SELECT count(*) FROM outbox"), "0");
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn logical_messages_and_rows_of_one_transaction_keep_their_order() {
    let world = World::json("message");
    let relay = world.streaming();
    let message = |id: u32, number: u32| {
        let text = json!({"id": format!("m{id}"), "aggregate_type": "m", "aggregate_id": "1",
            "event_type": "test.M", "payload": {"number": number},
            "headers": {"traceparent": "t"}});
        format!("SELECT pg_logical_emit_message(true, 'walpost', '{text}');")
    };
    let row = |number: u32| {
        format!(
            "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload) VALUES \
             (gen_random_uuid(), 'm', '1', 'test.M', '{{\"number\": {number}}}');"
        )
    };
    let sql = [message(1, 0), row(1), message(2, 2), row(3)].concat();
    world.database.run(&format!("BEGIN; {sql} COMMIT"));
    world.database.run(&format!("BEGIN; {} ROLLBACK", message(9, 9)));
    world.drained(&relay);
    drop(relay);
    let records = world.records();
    let numbers: Vec<String> =
        records.iter().map(|record| record.text().replace(' ', "")).collect();
    let wanted: Vec<String> = (0..4).map(|number| format!("{{\"number\":{number}}}")).collect();
    assert_eq!(numbers, wanted);
    let places: Vec<&str> =
        records.iter().filter_map(|r| r.header("lsn").rsplit_once(':')).map(|(_, n)| n).collect();
    assert_eq!(places, ["0", "1", "2", "3"]);
    assert_eq!(records[0].header("id"), "m1");
    assert_eq!(records[0].header("traceparent"), "t");
}

#[test]
fn what_is_not_an_event_is_counted_and_passed() {
    let world = World::json("passed");
    world.database.run("CREATE TABLE other (id int PRIMARY KEY, note text)");
    let publication = &world.database.publication;
    world.database.run(&format!(
        "ALTER PUBLICATION {publication} ADD TABLE other; \
         ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate')"
    ));
    let relay = world.streaming();
    world.database.run(
        "SELECT pg_logical_emit_message(false, 'walpost', 'not in a transaction');
         SELECT pg_logical_emit_message(true, 'another', 'of another program');
         INSERT INTO other VALUES (1, 'a'); UPDATE other SET note = 'b'; DELETE FROM other;
         INSERT INTO other VALUES (2, 'a'); TRUNCATE other;",
    );
    world.write(("p", "1"), "test.P", "'{}'");
    world.database.run("UPDATE outbox SET event_type = 'test.Q'; DELETE FROM outbox");
    world.write(("p", "1"), "test.P", "'{}'");
    world.database.run("TRUNCATE outbox");
    world.drained(&relay);
    let skipped = |reason: &str| {
        let name = "walpost_skipped_events_total";
        relay.metric(&world.series(&format!("{name}{{source=\"SOURCE\",reason=\"{reason}\"}}")))
    };
    walpost_tests::wait_for("the counters", || {
        (skipped("not_an_insert_of_ours") >= 8.0).then_some(())
    });
    assert_eq!(skipped("non_transactional_message"), 1.0);
    assert_eq!(skipped("foreign_message"), 1.0);
    assert_eq!(skipped("not_an_insert_of_ours"), 8.0);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}
