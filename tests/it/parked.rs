//! Events that cannot be published as things are: they are parked, everything else flows, and what
//! leaves the lot leaves it once and in order.

use walpost_tests::oracle::Form;
use walpost_tests::workload::Random;
use walpost_tests::{CANARY, Relay, Workload, World, wait_for};

/// A world with Avro records whose `test.Placed` has a schema, and whose route parks.
fn world(label: &str) -> World {
    let world = World::avro(label).parking();
    world
        .registry
        .register(&world.subject("order", "test.Placed"), &crate::delivery::placed("Placed"));
    world
}

/// One event that fits the schema.
fn good(world: &World, key: &str) {
    let body = "'{\"note\": \"n\", \"cents\": 1, \"writer\": 1, \"number\": 1}'";
    world.write(("order", key), "test.Placed", body);
}

/// One event that does not.
fn bad(world: &World, key: &str) {
    world.write(("order", key), "test.Placed", &format!("'{{\"note\": \"{CANARY}\"}}'"));
}

#[track_caller]
fn wait_parked(relay: &Relay, world: &World, count: f64) {
    let series = world.series("walpost_parked_events{source=\"SOURCE\"}");
    wait_for(&format!("{count} parked events"), || (relay.metric(&series) == count).then_some(()));
}

/// The keys of an aggregate's records in the order of their commits, by the database's own count.
fn assert_kept_but(world: &World, missing: usize) {
    let decoder = world.decoder();
    let verdict = world.judge(&Form::Avro(&decoder));
    assert_eq!(verdict.lost.len(), missing, "{:?}", verdict.lost);
    assert!(verdict.out_of_order.is_empty() && verdict.foreign.is_empty(), "{verdict:?}");
    assert_eq!(verdict.duplicated, 0);
}

#[test]
fn a_poison_event_holds_its_aggregate_and_nothing_else() {
    let world = world("poison");
    let relay = world.streaming();
    good(&world, "1");
    bad(&world, "1");
    good(&world, "1");
    good(&world, "2");
    world.drained(&relay);
    let parked = world.parked_events();
    let codes: Vec<_> = parked.iter().map(|(_, key, code)| (key.as_str(), code.as_str())).collect();
    assert_eq!(codes, [("1", "payload_unfit"), ("1", "behind")]);
    assert_eq!(world.records().len(), 2, "the first of 1, and that of 2");
    wait_parked(&relay, &world, 2.0);
    assert_eq!(world.parked(&["list", "--exit-code"]).code, Some(1));
    let shown = world.parked(&["show", &parked[0].0]);
    assert!(shown.stdout.contains("payload_unfit") && !shown.stdout.contains(CANARY));
    assert!(world.parked(&["show", &parked[0].0, "--payload"]).stdout.contains(CANARY));
    assert_eq!(relay.terminate().code, Some(0));
    assert_kept_but(&world, 2);
}

#[test]
fn a_discarded_head_is_given_up_and_what_is_behind_it_waits_for_a_retry() {
    let world = world("discard");
    let relay = world.streaming();
    bad(&world, "1");
    good(&world, "1");
    good(&world, "1");
    world.drained(&relay);
    let head = world.parked_events()[0].0.clone();
    let refused = world.parked(&["discard", "--event", &head, "--yes"]);
    assert_eq!(refused.code, Some(2), "without a reason: {}", refused.log);
    let done = world.parked(&["discard", "--event", &head, "--reason", "a test", "--yes"]);
    assert!(done.stdout.contains("discarded 1"), "{}{}", done.stdout, done.log);
    wait_parked(&relay, &world, 2.0);
    good(&world, "1");
    world.drained(&relay);
    assert_eq!(world.parked_events().len(), 3, "the key is still closed");
    assert!(world.records().is_empty());
    let done = world.parked(&["retry", "--aggregate", "order/1", "--yes"]);
    assert!(done.stdout.contains("released 3"), "{}{}", done.stdout, done.log);
    wait_parked(&relay, &world, 0.0);
    good(&world, "1");
    world.drained(&relay);
    drop(relay);
    assert_kept_but(&world, 1);
    let kept = "SELECT state || ' ' || reason FROM walpost.parked_done WHERE state = 'discarded'";
    assert_eq!(world.database.ask(kept), "discarded a test");
    let released = |record: &&walpost_tests::Record| record.header_names().contains(&"released");
    assert_eq!(world.records().iter().filter(released).count(), 3);
}

#[test]
fn a_discarded_event_is_forgotten_when_a_month_has_passed_its_row_is_gone_and_none_waits_behind() {
    let world = world("aged");
    let relay = world.streaming();
    for key in ["gone", "with row", "waited for", "young"] {
        bad(&world, key);
    }
    good(&world, "waited for");
    world.drained(&relay);
    let done = world.parked(&["discard", "--code", "payload_unfit", "--reason", "a test", "--yes"]);
    assert!(done.stdout.contains("discarded 4"), "{}{}", done.stdout, done.log);
    assert_eq!(relay.terminate().code, Some(0));
    world.database.run(
        "DELETE FROM outbox WHERE aggregate_id <> 'with row';
         UPDATE walpost.parked_done SET done_at = done_at - interval '31 days'
         WHERE aggregate_id <> 'young';
         UPDATE walpost.requests SET answered_at = answered_at - interval '31 days'",
    );
    let _relay = world.streaming();
    let kept = "SELECT string_agg(aggregate_id, ', ' ORDER BY aggregate_id) \
                FROM walpost.parked_done WHERE state = 'discarded'";
    wait_for("one to be forgotten", || {
        (world.database.ask(kept) == "waited for, with row, young").then_some(())
    });
    assert_eq!(world.database.ask("SELECT count(*)::text FROM walpost.requests"), "0");
}

#[test]
fn a_retry_that_fails_again_keeps_the_order_and_counts_the_attempt() {
    let world = world("again");
    let relay = world.streaming();
    bad(&world, "1");
    good(&world, "1");
    world.drained(&relay);
    let done = world.parked(&["retry", "--all", "--yes"]);
    assert!(done.stdout.contains("released 0, refused again 1"), "{}{}", done.stdout, done.log);
    assert!(world.records().is_empty());
    let attempts = "SELECT max(attempts)::text FROM walpost.parked";
    assert_eq!(world.database.ask(attempts), "1");
    let nothing = world.parked(&["retry", "--code", "no_such_code", "--yes"]);
    assert!(nothing.stdout.contains("0 events selected"), "{}", nothing.stdout);
    let unasked = world.parked(&["retry", "--yes"]);
    assert_eq!(unasked.code, Some(2), "nothing is selected");
}

#[test]
fn a_dry_run_of_a_retry_says_what_would_be_published_now_and_does_nothing() {
    let world = world("rehearsal");
    let relay = world.streaming();
    bad(&world, "1");
    good(&world, "1");
    let body = "'{\"note\": \"n\", \"cents\": 1, \"writer\": 1, \"number\": 1}'";
    world.write(("order", "2"), "test.Later", body);
    good(&world, "2");
    wait_parked(&relay, &world, 4.0);
    assert_eq!(relay.terminate().code, Some(0));
    let rehearse = |selection: &[&str]| {
        let ended = world.parked(&[&["retry", "--dry-run"], selection].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        ended.stdout
    };
    assert_eq!(
        rehearse(&["--all"]),
        "4 events selected, 4 in their aggregates: 0 would be published\n  \
         2 would stay: behind\n  1 would stay: payload_unfit\n  \
         1 would stay: schema_not_registered\nnothing was done\n"
    );
    world
        .registry
        .register(&world.subject("order", "test.Later"), &crate::delivery::placed("Later"));
    assert_eq!(
        rehearse(&["--code", "behind"]),
        "2 events selected, 4 in their aggregates: 2 would be published\n  \
         1 would stay: behind\n  1 would stay: payload_unfit\nnothing was done\n"
    );
    let told = rehearse(&["--aggregate", "order/2", "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("json");
    assert_eq!((&told["would_pass"], &told["would_stay"]), (&2.into(), &serde_json::json!({})));
    assert_eq!(world.database.ask("SELECT count(*)::text FROM walpost.requests"), "0");
    assert!(world.records().is_empty());
    assert_eq!(world.parked_events().len(), 4);
}

#[test]
fn what_waits_for_a_schema_leaves_by_itself_when_it_appears_and_keeps_its_order() {
    let world = world("appears");
    let relay = world.streaming();
    let body = "'{\"note\": \"n\", \"cents\": 1, \"writer\": 1, \"number\": 1}'";
    world.write(("order", "1"), "test.Later", body);
    good(&world, "1");
    good(&world, "2");
    wait_parked(&relay, &world, 2.0);
    world
        .registry
        .register(&world.subject("order", "test.Later"), &crate::delivery::placed("Later"));
    wait_parked(&relay, &world, 0.0);
    good(&world, "1");
    world.drained(&relay);
    drop(relay);
    assert_kept_but(&world, 0);
}

#[test]
fn a_restart_knows_what_is_parked_and_carries_out_what_was_asked_meanwhile() {
    let world = world("restart");
    let relay = world.streaming();
    bad(&world, "1");
    good(&world, "1");
    world.drained(&relay);
    assert_eq!(relay.kill9().code, None);
    good(&world, "1");
    let head = world.parked_events()[0].0.clone();
    let asked =
        world.parked(&["discard", "--event", &head, "--reason", "a test", "--yes", "--wait", "0"]);
    assert_eq!(asked.code, Some(3), "nobody answers: {}", asked.log);
    let relay = world.streaming();
    wait_parked(&relay, &world, 2.0);
    let done = world.parked(&["retry", "--all", "--yes"]);
    assert!(done.stdout.contains("released 2"), "{}{}", done.stdout, done.log);
    world.drained(&relay);
    drop(relay);
    assert_kept_but(&world, 1);
}

/// Some aggregates wait for a topic that is missing; it is made, and while they leave the lot the
/// relay is killed again and again.
#[test]
fn kills_while_events_leave_the_lot_lose_nothing_and_release_nothing_twice() {
    let mut world = World::json("killlot").parking();
    world.source = world.source.replace(
        "[[source.route]]\n",
        &format!(
            "[[source.route]]\nmatch = {{ aggregate_type = \"late\" }}\n\
             topic = \"{}.late\"\npayload = \"json\"\n[[source.route]]\n",
            world.prefix
        ),
    );
    world.creates_topics = false;
    world.general = "[limits]\nparked_ratio = \"100%\"\n".to_owned();
    world.cluster.create(&world.topic("order"), 3, &[]);
    world.init();
    let late = Workload {
        transactions: 400,
        aggregates: 40,
        aggregate_type: "late",
        ..Workload::default()
    };
    let relay = world.start();
    late.run(&world.database);
    Workload { transactions: 50, seed: 9, ..Workload::default() }.run(&world.database);
    world.drained(&relay);
    let parked = world.parked_events().len();
    assert!(parked > 500, "{parked} events are parked");
    relay.kill9();
    world.cluster.create(&world.topic("late"), 3, &[]);
    let mut random = Random::new(3);
    let left = || world.database.ask("SELECT count(*)::text FROM walpost.parked");
    for _ in 0..6 {
        let before = left();
        let relay = world.start();
        let goal = random.below(200);
        wait_for("events to leave the lot", || {
            let count = |text: &str| text.parse::<u64>().expect("a count");
            let (before, now) = (count(&before), count(&left()));
            assert!(now <= before, "{now} of {before} are left");
            let gone = before - now;
            (gone >= goal || left() == "0").then_some(())
        });
        relay.kill9();
    }
    let relay = world.start();
    wait_for("an empty lot", || (left() == "0").then_some(()));
    Workload {
        transactions: 50,
        seed: 10,
        aggregate_type: "late",
        aggregates: 40,
        ..Workload::default()
    }
    .run(&world.database);
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_kept();
}

#[test]
fn a_row_of_three_megabytes_and_one_without_aggregate_stop_nothing() {
    let world = World::json("large").parking();
    world.database.run("ALTER TABLE outbox ALTER COLUMN aggregate_id DROP NOT NULL");
    let relay = world.streaming();
    Workload { transactions: 50, ..Workload::default() }.run(&world.database);
    world.write(("order", "1"), "test.Placed", "jsonb_build_object('t', repeat('x', 3000000))");
    world.database.run(
        "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload) \
         VALUES (gen_random_uuid(), 'order', NULL, 'test.Placed', '{}')",
    );
    Workload { transactions: 50, seed: 8, ..Workload::default() }.run(&world.database);
    world.drained(&relay);
    let parked = world.parked_events();
    let codes: Vec<&str> =
        parked.iter().map(|(_, _, code)| code.as_str()).filter(|code| *code != "behind").collect();
    assert_eq!(codes, ["record_too_large", "column_null"]);
    assert!(parked.iter().all(|(_, key, code)| key == "1" || code == "column_null"), "{parked:?}");
    assert_eq!(relay.terminate().code, Some(0));
    let verdict = world.judge(&Form::Unread);
    assert!(verdict.out_of_order.is_empty() && verdict.duplicated == 0, "{verdict:?}");
    assert_eq!(verdict.lost.len(), parked.len() - 1, "what is parked, and no more");
}

/// The broker refuses batches by the age of their records and does not say which record it means.
#[test]
fn records_that_the_broker_refuses_are_found_one_by_one_and_parked() {
    let world = World::json("refused").parking();
    world.cluster.create(&world.topic("old"), 1, &[("message.timestamp.before.max.ms", "1")]);
    world.init();
    for key in ["1", "2", "1"] {
        world.write(("old", key), "test.Old", "'{}'");
    }
    Workload { transactions: 100, ..Workload::default() }.run(&world.database);
    let relay = world.streaming();
    world.drained(&relay);
    let codes: Vec<_> =
        world.parked_events().into_iter().map(|(_, key, code)| (key, code)).collect();
    let refused = |key: &str, code: &str| (key.to_owned(), code.to_owned());
    let expected = [
        refused("1", "kafka_batch_refused"),
        refused("2", "kafka_batch_refused"),
        refused("1", "behind"),
    ];
    assert_eq!(codes, expected);
    world.cluster.set(
        &world.topic("old"),
        "message.timestamp.before.max.ms",
        "9223372036854775807",
    );
    let done = world.parked(&["retry", "--all", "--yes"]);
    assert!(done.stdout.contains("released 3"), "{}{}", done.stdout, done.log);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn a_dead_letter_says_why_and_its_aggregate_goes_on() {
    let mut world = world("letter");
    let letters = world.topic("dead");
    world.source.push_str(&format!(
        "on_unpublishable = \"dead-letter\"\ndead_letter_topic = \"{letters}\"\n"
    ));
    let relay = world.streaming();
    bad(&world, "1");
    good(&world, "1");
    world.drained(&relay);
    assert!(world.parked_events().is_empty());
    let dead = world.records_of("dead");
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].key(), dead[0].header("fault")), ("1", "payload_unfit"));
    assert!(dead[0].text().contains(CANARY), "the content as it came");
    assert_eq!(world.records_of("order").len(), 1);
    // After a kill it is found like any other record.
    relay.kill9();
    let relay = world.streaming();
    world.drained(&relay);
    drop(relay);
    assert_eq!(world.records_of("dead").len(), 1);
}

#[test]
fn a_full_lot_stops_the_source_and_a_larger_one_goes_on() {
    let mut world = world("full");
    world.general = "[limits]\nparked_rows = 3\n".to_owned();
    let relay = world.streaming();
    for _ in 0..4 {
        bad(&world, "1");
    }
    let text = relay.wait_stop("parking_lot_full");
    assert!(text.contains("limits.parked_rows = 3"), "{text}");
    world.general = "[limits]\nparked_rows = 30\n".to_owned();
    let relay = world.streaming();
    world.drained(&relay);
    assert_eq!(world.parked_events().len(), 4);
}

#[test]
fn parking_tables_that_are_missing_are_waited_for_by_name() {
    let world = world("notables");
    world.init();
    world.database.run("DROP TABLE walpost.parked");
    let relay = world.start();
    relay.wait_fault(&world.name, "parking_tables_missing");
    world.init();
    relay.wait_state(&world.name, "streaming");
    good(&world, "1");
    world.drained(&relay);
    drop(relay);
    assert_kept_but(&world, 0);
}
