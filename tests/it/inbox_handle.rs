//! What becomes of an event by its handler's word, on a real cluster and a real database.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::types::Type;
use uuid::Uuid;
use walpost_inbox::store::parked;
use walpost_inbox::{Cx, Error, Event, NewEvent, Outcome, Received, RunError, Tombstone, Unknown};
use walpost_tests::service::{Counted, Sent, Service, Stage, count, effect};
use walpost_tests::wait_for;

const TYPE: &str = Counted::TYPE;

#[test]
fn a_poison_event_among_ten_thousand_parks_its_key_and_the_rest_flows() {
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        effect(cx, event.n).await?;
        if event.n == 5_000 {
            return Err(cx.error("it is poison"));
        }
        Ok(Outcome::Done)
    }
    let stage = Stage::new("poison", 1);
    for n in 0..10_000 {
        stage.send(&format!("k{}", n % 100), TYPE, n);
    }
    stage.flush();
    let service =
        Service::start(stage.inbox(()).topic(&stage.topic, |t| t.on(handle)), stage.kafka());
    // Of key k0 those before the poison are handled; it and the 49 behind it are parked.
    stage.wait_effects(9_950);
    let stats = service.wait_stats("parked", |stats| stats.parked + stats.appended == 50);
    assert_eq!((stats.parked, stats.handled), (1, 9_950), "{stats:?}");
    assert_eq!(stats.failures, 4, "four attempts, and nobody else was blamed: {stats:?}");
    service.stop();
    stage.assert_once_and_in_order();
    assert_eq!(stage.effects(), 9_950);
}

#[test]
fn a_parked_sequence_is_released_in_order_once_its_handler_can() {
    static IS_MENDED: AtomicBool = AtomicBool::new(false);
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        if event.n == 0 && !IS_MENDED.load(Ordering::Relaxed) {
            return Ok(Outcome::Park("not yet".into()));
        }
        effect(cx, event.n).await?;
        Ok(Outcome::Done)
    }
    let stage = Stage::new("release", 1);
    for n in 0..20 {
        stage.send("a", TYPE, n);
    }
    stage.flush();
    let service =
        Service::start(stage.inbox(()).topic(&stage.topic, |t| t.on(handle)), stage.kafka());
    service.wait_stats("all parked", |stats| stats.parked + stats.appended == 20);
    // Asked too early it stays, with one attempt more.
    let attempts = "SELECT coalesce(max(attempts), 0) FROM inbox_sequence";
    stage.database.run("UPDATE inbox_sequence SET release_at = now()");
    wait_for("a failed release", || (stage.database.ask(attempts) == "1").then_some(()));
    assert_eq!(stage.effects(), 0);
    IS_MENDED.store(true, Ordering::Relaxed);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = stage.store().link_bare().await.unwrap();
        assert_eq!(parked::retry(&client, "c", None).await.unwrap(), 1);
    });
    // New events of the key arrive meanwhile and stay behind.
    for n in 20..40 {
        stage.send("a", TYPE, n);
    }
    stage.flush();
    stage.wait_effects(40);
    service.stop();
    stage.assert_once_and_in_order();
    assert_eq!(stage.database.ask("SELECT count(*) FROM inbox_sequence"), "0");
}

#[test]
fn a_panic_parks_the_event_with_its_message_and_stops_nobody() {
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        assert!(event.n != 3, "three is too much");
        effect(cx, event.n).await?;
        Ok(Outcome::Done)
    }
    let stage = Stage::new("panic", 1);
    for n in 0..10 {
        stage.send(&format!("k{n}"), TYPE, n);
    }
    stage.flush();
    let service =
        Service::start(stage.inbox(()).topic(&stage.topic, |t| t.on(handle)), stage.kafka());
    service.wait_stats("parked", |stats| stats.parked == 1);
    stage.wait_effects(9);
    service.stop();
    let reason = stage.database.ask("SELECT reason FROM inbox_sequence");
    assert_eq!(reason, "handler panicked: three is too much");
}

#[test]
fn a_dead_letter_leaves_through_the_outbox_with_its_claim_and_its_key_goes_on() {
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        effect(cx, event.n).await?;
        if event.n == 1 {
            return Ok(Outcome::DeadLetter("not for us".into()));
        }
        Ok(Outcome::Done)
    }
    let stage = Stage::new("deadletter", 1);
    let ids: Vec<Uuid> = (0..3).map(|n| stage.send("a", TYPE, n)).collect();
    stage.flush();
    let service =
        Service::start(stage.inbox(()).topic(&stage.topic, |t| t.on(handle)), stage.kafka());
    stage.wait_effects(2);
    let stats = service.stop();
    assert_eq!((stats.handled, stats.dead_lettered), (2, 1), "{stats:?}");
    stage.assert_once_and_in_order();
    let row = stage.database.ask("SELECT aggregate_type || ' ' || payload::text FROM outbox");
    let (aggregate_type, payload) = row.split_once(' ').unwrap();
    assert_eq!(aggregate_type, "dead_letter");
    let letter: Value = serde_json::from_str(payload).unwrap();
    assert_eq!(letter["consumer"], "c");
    assert_eq!(letter["topic"], stage.topic.as_str());
    assert_eq!((&letter["partition"], &letter["offset"]), (&Value::from(0), &Value::from(1)));
    assert_eq!(letter["key"], "a");
    assert_eq!(letter["headers"]["id"], ids[1].to_string());
    assert_eq!(letter["value_base64"], "eyJuIjogMX0=");
    assert_eq!(letter["reason"], "not for us");
    assert_eq!(stage.database.ask("SELECT count(*) FROM inbox_claim"), "3");
}

#[test]
fn emitted_events_commit_with_the_effect_and_carry_the_handlers_trace() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        effect(cx, event.n).await?;
        for step in ["first", "second"] {
            cx.emit(NewEvent::new("step", "1", "test.Step", serde_json::json!({"step": step})));
        }
        // The first attempt leaves nothing behind.
        if CALLS.fetch_add(1, Ordering::Relaxed) == 0 {
            return Ok(Outcome::Retry(Duration::from_millis(1)));
        }
        Ok(Outcome::Done)
    }
    let stage = Stage::new("emit", 1);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    stage.send_as(Sent {
        id: Uuid::now_v7(),
        partition: 0,
        key: Some("a"),
        event_type: TYPE,
        value: Some(b"{\"n\": 1}"),
        headers: &[("traceparent", trace), ("tracestate", "a=b")],
    });
    stage.flush();
    let service =
        Service::start(stage.inbox(()).topic(&stage.topic, |t| t.on(handle)), stage.kafka());
    stage.wait_effects(1);
    service.stop();
    let steps = "SELECT string_agg(payload->>'step', ' ' ORDER BY seq) FROM outbox";
    assert_eq!(stage.database.ask(steps), "first second");
    let parent = stage.database.ask("SELECT headers->>'traceparent' FROM outbox LIMIT 1");
    assert_eq!(parent[..36], trace[..36], "the same trace");
    assert_ne!(parent, trace, "the handler's span");
    assert_eq!(stage.database.ask("SELECT headers->>'tracestate' FROM outbox LIMIT 1"), "a=b");
}

#[test]
fn a_batch_handler_gets_neighbours_at_once_and_only_the_one_to_blame_is_parked() {
    async fn handle(events: Vec<Received<Counted>>, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        if events.iter().any(|received| received.event.n == 77) {
            return Err(cx.error("one of us"));
        }
        let ids: Vec<Uuid> = events.iter().map(|received| received.id).collect();
        let keys: Vec<&str> = events.iter().map(|received| received.key.as_str()).collect();
        let values: Vec<i64> = events.iter().map(|received| received.event.n).collect();
        let sql = "INSERT INTO effect (id, key, value)
                   SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[])";
        cx.tx().execute(sql, &[&ids, &keys, &values]).await?;
        cx.tx().execute("INSERT INTO call DEFAULT VALUES", &[]).await?;
        Ok(Outcome::Done)
    }
    let stage = Stage::new("batch", 1);
    stage.database.run("CREATE TABLE call (n bigserial)");
    for n in 0..1_000 {
        stage.send(&format!("k{}", n % 200), TYPE, n);
    }
    stage.flush();
    let service =
        Service::start(stage.inbox(()).topic(&stage.topic, |t| t.on_batch(handle)), stage.kafka());
    // Of key k77 nothing comes behind 77: 277, 477, 677, 877 wait with it.
    stage.wait_effects(995);
    let stats = service.wait_stats("parked", |stats| stats.parked + stats.appended == 5);
    service.stop();
    assert_eq!(stats.parked, 1);
    stage.assert_once_and_in_order();
    let calls: i64 = stage.database.ask("SELECT count(*) FROM call").parse().unwrap();
    assert!(calls < 500, "{calls} calls for 995 events");
}

#[test]
fn a_tombstone_goes_to_its_handler_and_an_empty_value_is_none() {
    async fn gone(tombstone: Tombstone, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        assert_eq!(tombstone.key, "a");
        effect(cx, -1).await?;
        Ok(Outcome::Done)
    }
    let stage = Stage::new("tombstone", 1);
    for value in [None, Some(&b""[..])] {
        let id = Uuid::now_v7();
        let key = if value.is_none() { "a" } else { "b" };
        let headers = &[];
        stage.send_as(Sent { id, partition: 0, key: Some(key), event_type: TYPE, value, headers });
    }
    stage.flush();
    let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(count).on_tombstone(gone));
    let service = Service::start(inbox, stage.kafka());
    stage.wait_effects(1);
    service.wait_stats("the empty value is parked", |stats| stats.parked == 1);
    service.stop();
    assert_eq!(
        stage.database.ask("SELECT reason FROM inbox_sequence"),
        "cannot be read: value is not JSON (line 1, column 0)"
    );
}

#[test]
fn unknown_types_are_ignored_with_a_count_parked_or_stop_the_consumer_as_told() {
    for unknown in [Unknown::Ignore, Unknown::Park, Unknown::Stop] {
        let stage = Stage::new("unknown", 1);
        stage.send("a", "test.Other", 0);
        stage.send("a", TYPE, 1);
        stage.flush();
        let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(count).unknown(unknown));
        let service = Service::start(inbox, stage.kafka());
        match unknown {
            Unknown::Ignore => {
                stage.wait_effects(1);
                let stats = service.stop();
                assert_eq!((stats.ignored, stats.handled), (1, 1), "{stats:?}");
                assert_eq!(stage.database.ask("SELECT count(*) FROM inbox_claim"), "2");
            }
            Unknown::Park => {
                service.wait_stats("both", |stats| stats.parked == 1 && stats.appended == 1);
                service.stop();
            }
            Unknown::Stop => {
                let error = service.wait_error();
                assert!(matches!(error, RunError::Unknown { offset: 0, .. }), "{error}");
                assert_eq!(stage.database.ask("SELECT count(*) FROM inbox_claim"), "0");
            }
        }
    }
}

#[test]
fn too_many_parked_sequences_end_the_consumer_instead_of_emptying_the_topic() {
    async fn handle(_: Counted, _: &mut Cx<()>) -> Result<Outcome, Error> {
        Ok(Outcome::Park("everything is wrong".into()))
    }
    let stage = Stage::new("landfill", 1);
    for n in 0..50 {
        stage.send(&format!("k{n}"), TYPE, n);
    }
    stage.flush();
    let inbox = stage
        .inbox(())
        .settings(|settings| settings.parked_sequences_max = 10)
        .topic(&stage.topic, |t| t.on(handle));
    let error = Service::start(inbox, stage.kafka()).wait_error();
    assert!(matches!(error, RunError::ParkedTooMany { max: 10, .. }), "{error}");
    let parked: i64 = stage.database.ask("SELECT count(*) FROM inbox_sequence").parse().unwrap();
    // Those that were under way at the same time may have come through too.
    assert!((10..=18).contains(&parked), "{parked}");
}

/// Deadlocks that are real: two shared rows, locked in opposite order.
#[test]
fn transactions_that_deadlock_go_again_and_nothing_is_charged() {
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        let order = if event.n % 2 == 0 { [1_i32, 2] } else { [2, 1] };
        for row in order {
            let sql = "UPDATE shared SET total = total + 1 WHERE id = $1";
            cx.tx().execute_typed(sql, &[(&row, Type::INT4)]).await?;
        }
        effect(cx, event.n).await?;
        Ok(Outcome::Done)
    }
    let stage = Stage::new("deadlock", 4);
    stage.database.run(&format!(
        "CREATE TABLE shared (id int PRIMARY KEY, total bigint NOT NULL);
         INSERT INTO shared VALUES (1, 0), (2, 0);
         ALTER DATABASE {} SET deadlock_timeout = '20ms'",
        stage.database.name
    ));
    for n in 0..400 {
        let value = format!("{{\"n\": {n}}}");
        stage.send_as(Sent {
            id: Uuid::now_v7(),
            partition: n % 4,
            key: Some(&format!("k{}", n % 40)),
            event_type: TYPE,
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    stage.flush();
    let inbox = stage
        .inbox(())
        .settings(|settings| settings.batch_max = 4)
        .topic(&stage.topic, |t| t.on(handle));
    let service = Service::start(inbox, stage.kafka());
    stage.wait_effects(400);
    let stats = service.stop();
    assert!(stats.contentions > 0, "nothing met: {stats:?}");
    assert_eq!((stats.failures, stats.parked, stats.handled), (0, 0, 400), "{stats:?}");
    stage.assert_once_and_in_order();
    assert_eq!(stage.database.ask("SELECT min(total) || ' ' || max(total) FROM shared"), "400 400");
}

#[test]
fn a_handler_slower_than_the_poll_interval_keeps_its_partitions_and_is_called_once() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        cx.tx().execute("SELECT pg_sleep(10)", &[]).await?;
        effect(cx, event.n).await?;
        Ok(Outcome::Done)
    }
    let stage = Stage::new("slow", 1);
    stage.send("a", TYPE, 0);
    stage.flush();
    let kafka = stage.kafka().with("max.poll.interval.ms", "6000");
    let service = Service::start(stage.inbox(()).topic(&stage.topic, |t| t.on(handle)), kafka);
    stage.wait_effects(1);
    // Had it left the group, the event would be under way again.
    let stats = service.stop();
    assert_eq!((CALLS.load(Ordering::Relaxed), stats.handled, stats.partitions), (1, 1, 1));
}

#[test]
fn a_thousand_keys_flow_past_one_slow_key() {
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        if cx.record().key.as_deref() == Some(b"slow") {
            cx.tx().execute("SELECT pg_sleep(0.5)", &[]).await?;
        }
        effect(cx, event.n).await?;
        Ok(Outcome::Done)
    }
    let stage = Stage::new("slowkey", 1);
    for n in 0..5_000 {
        let is_slow = n % 250 == 0;
        let key = if is_slow { "slow".to_owned() } else { format!("k{}", n % 1_000) };
        stage.send(&key, TYPE, n);
    }
    stage.flush();
    let service =
        Service::start(stage.inbox(()).topic(&stage.topic, |t| t.on(handle)), stage.kafka());
    let others = "SELECT count(*) FROM effect WHERE key <> 'slow'";
    wait_for("the other keys", || (stage.database.ask(others) == "4980").then_some(()));
    let slow: i64 =
        stage.database.ask("SELECT count(*) FROM effect WHERE key = 'slow'").parse().unwrap();
    assert!(slow < 20, "the slow key was done before the others");
    stage.wait_effects(5_000);
    service.stop();
    stage.assert_once_and_in_order();
}

#[test]
fn a_missed_deadline_is_an_attempt_and_its_statement_writes_nothing() {
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        let sql = "INSERT INTO effect (value) SELECT $1 FROM pg_sleep(60)";
        cx.tx().execute_typed(sql, &[(&event.n, Type::INT8)]).await?;
        Ok(Outcome::Done)
    }
    let stage = Stage::new("deadline", 1);
    stage.send("a", TYPE, 0);
    stage.flush();
    let inbox = stage
        .inbox(())
        .settings(|settings| {
            settings.handler_deadline = Duration::from_millis(200);
            settings.attempts = 2;
        })
        .topic(&stage.topic, |t| t.on(handle));
    let service = Service::start(inbox, stage.kafka());
    service.wait_stats("parked", |stats| stats.parked == 1);
    service.stop();
    assert_eq!(stage.effects(), 0);
    let reason = stage.database.ask("SELECT reason FROM inbox_sequence");
    assert_eq!(reason, "after 2 attempts: handler missed its deadline of 200ms");
    // Cancelled at the server, not left to run for a minute.
    let sleeping = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%pg_sleep%' AND state = 'active'
          AND pid <> pg_backend_pid()";
    assert_eq!(stage.database.ask(sleeping), "0");
}

#[test]
fn fixed_partitions_are_read_without_a_group_and_their_offsets_are_kept() {
    let stage = Stage::new("assigned", 2);
    stage.send("a", TYPE, 0);
    stage.flush();
    for expected in [1, 2] {
        let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(count));
        let kafka = stage.kafka().assigned([(stage.topic.clone(), 0), (stage.topic.clone(), 1)]);
        let service = Service::start(inbox, kafka);
        stage.wait_effects(expected);
        let stats = service.stop();
        assert_eq!((stats.handled, stats.duplicates), (1, 0), "{stats:?}");
        stage.send("a", TYPE, expected);
        stage.flush();
    }
    stage.assert_once_and_in_order();
}

/// The floor says that offsets were handled which the topic has not had yet.
#[test]
fn a_topic_that_was_made_anew_halts_with_its_name() {
    let stage = Stage::new("recreated", 1);
    for n in 0..10 {
        stage.send("a", TYPE, n);
    }
    stage.flush();
    let start = || {
        let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(count));
        Service::start(inbox, stage.kafka())
    };
    let service = start();
    stage.wait_effects(10);
    service.stop();
    stage.make_anew();
    stage.send("a", TYPE, 10);
    stage.flush();
    let error = start().wait_error();
    assert!(matches!(error, RunError::TopicRecreated { floor: 10, high: 1, .. }), "{error}");
    assert!(error.to_string().contains(&stage.topic), "{error}");
    assert_eq!(stage.effects(), 10);
}

/// A topic that was made anew and has grown past what was handled of the old one.
#[test]
fn a_topic_that_was_made_anew_and_grew_past_its_floor_halts_with_its_name() {
    let stage = Stage::new("regrown", 1);
    stage.send("a", TYPE, 0);
    stage.flush();
    let start = || {
        let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(count));
        Service::start(inbox, stage.kafka())
    };
    let service = start();
    stage.wait_effects(1);
    service.stop();
    stage.make_anew();
    for n in 1..10 {
        stage.send("a", TYPE, n);
    }
    stage.flush();
    let error = start().wait_error();
    assert!(matches!(error, RunError::TopicReplaced { offset: 0, .. }), "{error}");
    assert!(error.to_string().contains(&stage.topic), "{error}");
    assert_eq!(stage.effects(), 1);
    // A person knows better.
    stage.database.run("DELETE FROM inbox_floor");
    let service = start();
    stage.wait_effects(10);
    service.stop();
    stage.assert_once_and_in_order();
}

/// Its first offsets were read from the old one: they are not handed out a second time.
#[test]
fn a_topic_that_is_made_anew_while_it_is_read_halts_with_its_name() {
    let stage = Stage::new("underfoot", 1);
    for n in 0..10 {
        stage.send("a", TYPE, n);
    }
    stage.flush();
    let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(count));
    let service = Service::start(inbox, stage.kafka());
    stage.wait_effects(10);
    stage.make_anew();
    stage.send("a", TYPE, 10);
    stage.flush();
    let error = service.wait_error();
    assert!(matches!(error, RunError::TopicReplaced { offset: 0, .. }), "{error}");
    assert_eq!(stage.effects(), 10);
}

#[test]
fn a_record_without_an_id_is_handled_once_as_long_as_it_stays_where_it_is() {
    let stage = Stage::new("noid", 1);
    stage.cluster.write(&stage.topic, "a", Some("{\"n\": 5}"));
    async fn any(event: Untyped, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        effect(cx, event.n).await?;
        Ok(Outcome::Done)
    }
    for group in ["one", "two"] {
        let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(any));
        let kafka =
            walpost_inbox::Kafka::new(&stage.cluster.bootstrap, format!("{}-{group}", stage.topic));
        let service = Service::start(inbox, kafka);
        service.wait_stats("one", |stats| stats.handled + stats.duplicates == 1);
        service.stop();
    }
    assert_eq!(stage.effects(), 1);
}

/// Of a producer that writes no header `type`.
#[derive(Deserialize)]
struct Untyped {
    n: i64,
}

impl Event for Untyped {
    const TYPE: &'static str = "";
}
