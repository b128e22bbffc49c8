//! Events and handlers that nobody expects: they stop nobody, and no innocent event is charged.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::time::Duration;

use uuid::Uuid;
use walpost_inbox::{Cx, Error, Event, Outcome};
use walpost_tests::service::{Counted, Sent, Service, Stage, count};

const TYPE: &str = Counted::TYPE;

/// PostgreSQL's text and jsonb hold no zero character; keys and header values of others may.
#[test]
fn a_dead_letter_with_zero_characters_leaves_and_stops_nobody() {
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        match event.n {
            0 => Ok(Outcome::DeadLetter("it is\0odd".into())),
            _ => count(event, cx).await,
        }
    }
    let stage = Stage::new("zero", 1);
    stage.send_as(Sent {
        id: Uuid::now_v7(),
        partition: 0,
        key: Some("a\0b"),
        event_type: TYPE,
        value: Some(br#"{"n": 0}"#),
        headers: &[("traceparent", "\0"), ("binary", "\u{1}\0\u{2}")],
    });
    stage.send("c", TYPE, 1);
    stage.flush();
    let service =
        Service::start(stage.inbox(()).topic(&stage.topic, |t| t.on(handle)), stage.kafka());
    service.wait_stats("it is sent away", |stats| stats.dead_lettered == 1);
    stage.wait_effects(1);
    let stats = service.stop();
    assert_eq!((stats.handled, stats.waits), (1, 0), "{stats:?}");
    let letter = "SELECT aggregate_id || ' ' || (payload->'headers'->>'binary') FROM outbox";
    assert_eq!(stage.database.ask(letter), "a\u{FFFD}b \u{1}\u{FFFD}\u{2}");
}

/// Event 0 of whatever key hides that its statement failed: the next one's statement is refused.
async fn hide(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    match event.n {
        0 => {
            let _ = cx.tx().batch_execute("SELECT 1/0").await;
            Ok(Outcome::Done)
        }
        100 => Ok(Outcome::Park("a hundred".into())),
        _ => count(event, cx).await,
    }
}

#[test]
fn a_failure_that_a_handler_hides_is_charged_to_no_other_event_of_its_batch() {
    let stage = Stage::new("hidden", 1);
    for n in 0..6 {
        stage.send(&format!("k{n}"), TYPE, n);
    }
    stage.flush();
    let inbox = stage
        .inbox(())
        .settings(|settings| settings.attempts = 1)
        .topic(&stage.topic, |t| t.on(hide));
    let service = Service::start(inbox, stage.kafka());
    stage.wait_effects(5);
    service.wait_stats("the one to blame", |stats| stats.parked == 1);
    let stats = service.stop();
    assert_eq!((stats.handled, stats.failures), (5, 1), "{stats:?}");
    let key = "SELECT convert_from(key, 'UTF8') FROM inbox_parked";
    assert_eq!(stage.database.ask(key), "k0");
}

#[test]
fn a_failure_that_a_handler_hides_does_not_stop_those_behind_a_parked_event() {
    let stage = Stage::new("hiddenlot", 1);
    stage.send("p", TYPE, 100);
    stage.flush();
    let start = || {
        let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(hide));
        Service::start(inbox, stage.kafka())
    };
    let service = start();
    service.wait_stats("parked", |stats| stats.parked == 1);
    service.stop();
    stage.send("k", TYPE, 0);
    stage.send("p", TYPE, 1);
    stage.send("q", TYPE, 2);
    stage.flush();
    let service = start();
    stage.wait_effects(1);
    let stats = service.wait_stats("both put aside", |s| (s.parked, s.appended) == (1, 1));
    assert_eq!((stats.handled, stats.waits), (1, 0), "{stats:?}");
    service.stop();
}

#[test]
fn a_partition_that_nobody_knows_does_not_keep_the_others_from_being_read() {
    let stage = Stage::new("unknownplace", 1);
    stage.send("a", TYPE, 1);
    stage.flush();
    let topic = stage.topic.as_str();
    let kafka = stage.kafka().assigned([(topic, 7), (topic, 0)]);
    let service = Service::start(stage.inbox(()).topic(topic, |t| t.on(count)), kafka);
    stage.wait_effects(1);
    service.stop();
}

#[test]
fn a_wait_without_end_ends_no_consumer() {
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        match event.n {
            0 => Ok(Outcome::Retry(Duration::MAX)),
            _ => count(event, cx).await,
        }
    }
    let stage = Stage::new("endless", 1);
    for n in 0..4 {
        stage.send(&format!("k{n}"), TYPE, n);
    }
    stage.flush();
    let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(handle));
    let service = Service::start(inbox, stage.kafka());
    stage.wait_effects(3);
    let stats = service.wait_stats("an attempt", |stats| stats.failures == 1);
    assert_eq!(stats.parked, 0, "{stats:?}");
    service.stop();
}

#[test]
fn a_consumer_without_workers_has_one() {
    let stage = Stage::new("noworkers", 1);
    stage.send("a", TYPE, 1);
    stage.flush();
    let inbox = stage
        .inbox(())
        .settings(|settings| settings.workers = 0)
        .topic(&stage.topic, |t| t.on(count));
    let service = Service::start(inbox, stage.kafka());
    stage.wait_effects(1);
    service.stop();
}

/// With an eager strategy everything is revoked at once: what is ready first waits for the rest, or
/// the rest would take the next assignment away.
#[test]
fn an_eager_rebalance_with_batches_under_way_leaves_no_partition_unread() {
    async fn handle(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
        if event.n == 1 {
            std::future::pending::<()>().await;
        }
        count(event, cx).await
    }
    let stage = Stage::new("eager", 4);
    let send = |partition: i32, n: i64| {
        let (key, value) = (format!("k{partition}"), format!("{{\"n\": {n}}}"));
        stage.send_as(Sent {
            id: Uuid::now_v7(),
            partition,
            key: Some(&key),
            event_type: TYPE,
            value: Some(value.as_bytes()),
            headers: &[],
        });
        stage.flush();
    };
    let start = || {
        let inbox = stage
            .inbox(())
            .settings(|settings| settings.drain_deadline = Duration::from_secs(5))
            .topic(&stage.topic, |t| t.on(handle));
        Service::start(inbox, stage.kafka().with("partition.assignment.strategy", "range"))
    };
    for partition in 0..4 {
        send(partition, 0);
    }
    let first = start();
    stage.wait_effects(4);
    // One of these goes to the second instance, whichever half that gets.
    send(1, 1);
    send(2, 1);
    first.wait_stats("both to be under way", |stats| stats.memory_bytes > 0);
    let second = start();
    let is_shared = |stats: &walpost_inbox::Stats| stats.partitions == 2;
    second.wait_stats("its half", is_shared);
    first.wait_stats("its half", |stats| stats.assignments >= 6 && is_shared(stats));
    send(0, 2);
    send(3, 2);
    stage.wait_effects(6);
    first.stop();
    second.stop();
}
