//! What a consumer says before it goes wrong: numbers of the lot, records from before the window,
//! and an end where most events are put aside.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};
use serde::Deserialize;
use walpost_inbox::{Cx, Error, Event, Outcome, RunError};
use walpost_tests::ledger::Bank;
use walpost_tests::service::{Service, Stage};

const TYPE: &str = "shop.Counted";

#[derive(Deserialize)]
struct Counted {
    n: i64,
}

impl Event for Counted {
    const TYPE: &'static str = TYPE;
}

/// Those below 10 are handled.
async fn small(event: Counted, _: &mut Cx<()>) -> Result<Outcome, Error> {
    Ok(if event.n < 10 { Outcome::Done } else { Outcome::Park("too large".into()) })
}

/// Trap 25: far below the bound on the lot's size.
#[test]
fn a_consumer_that_puts_most_of_its_events_aside_ends() {
    let stage = Stage::new("aside", 1);
    for n in 0..400 {
        stage.send(&format!("k{}", n % 300), TYPE, n);
    }
    stage.flush();
    let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(small));
    let error = Service::start(inbox, stage.kafka()).wait_error();
    let RunError::AsideTooMany { aside, of } = error else { panic!("{error}") };
    assert!(aside >= 100 && aside * 2 > of, "{aside} of {of}");
}

#[test]
fn the_stats_tell_how_much_is_parked_and_for_how_long() {
    let stage = Stage::new("lotstats", 1);
    for n in [1, 20, 21, 20] {
        stage.send(&format!("k{n}"), TYPE, n);
    }
    stage.flush();
    let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(small));
    let service = Service::start(inbox, stage.kafka());
    service.wait_stats("two sequences", |stats| stats.parked_sequences == 2);
    stage.database.run("UPDATE inbox_sequence SET parked_at = now() - interval '1 hour'");
    service.wait_stats("their age", |stats| (3_600..4_000).contains(&stats.parked_seconds));
    stage.database.run("DELETE FROM inbox_parked");
    stage.database.run("DELETE FROM inbox_sequence");
    let is_empty = |stats: &walpost_inbox::Stats| (stats.parked_sequences, stats.parked_seconds);
    service.wait_stats("an empty lot", |stats| is_empty(stats) == (0, 0));
    service.stop();
}

/// Trap 14: a topic that keeps its records longer than the window can be read again from before it.
#[test]
fn a_topic_with_records_from_before_the_window_is_told() {
    let day_ms = 86_400_000;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    for (label, days, told) in [("longago", 9, 1), ("lately", 2, 0)] {
        let stage = Stage::new(label, 1);
        let producer = Bank::new(label, 1).producer();
        for at in [now - days * day_ms, now] {
            let value = format!("{{\"n\": {days}}}");
            let record = BaseRecord::to(&stage.topic).key("k").payload(&value).timestamp(at);
            producer.send(record).map_err(|(error, _)| error).unwrap();
            producer.flush(Duration::from_secs(30)).unwrap();
        }
        let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on_any(small));
        let service = Service::start(inbox, stage.kafka());
        service.wait_stats("both", |stats| stats.handled == 2);
        assert_eq!(service.stop().beyond_window, told, "{label}");
    }
}
