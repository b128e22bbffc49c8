//! What a consumer says before it goes wrong: numbers of the lot, records from before the window,
//! and an end where most events are put aside.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};
use walpost_inbox::{Cx, Error, Event, Outcome, RunError};
use walpost_tests::ledger::Bank;
use walpost_tests::service::{Counted, Service, Stage};

const TYPE: &str = Counted::TYPE;

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

/// One key is parked, and events of it keep coming.
#[test]
fn too_many_bytes_behind_a_parked_key_end_the_consumer_before_they_are_parked() {
    let stage = Stage::new("lotbytes", 1);
    stage.send("a", TYPE, 20);
    for n in 0..200 {
        stage.send("b", TYPE, n % 10);
        stage.send("a", TYPE, n);
    }
    stage.flush();
    let inbox = |max: u64| {
        stage
            .inbox(())
            .settings(|settings| {
                settings.parked_bytes_max = max;
                settings.aside_ratio_max = 1.0;
            })
            .topic(&stage.topic, |t| t.on(small))
    };
    let error = Service::start(inbox(20_000), stage.kafka()).wait_error();
    let RunError::ParkedTooLarge { bytes, max: 20_000 } = error else { panic!("{error}") };
    assert!(bytes > 20_000, "{bytes}");
    let bytes = "SELECT coalesce(sum(bytes), 0) FROM inbox_sequence";
    let parked: u64 = stage.database.ask(bytes).parse().unwrap();
    assert!(parked <= 20_000, "{parked}");
    // With room for them they come in.
    let service = Service::start(inbox(1 << 20), stage.kafka());
    service.wait_stats("all of the key", |_| {
        stage.database.ask("SELECT count(*) FROM inbox_parked") == "201"
    });
    let all: u64 = stage.database.ask("SELECT sum(bytes) FROM inbox_parked").parse().unwrap();
    service.wait_stats("the bytes", |stats| stats.parked_bytes == all);
    service.stop();
    assert!(all > 20_000, "{all}");
    assert_eq!(stage.database.ask(bytes), all.to_string());
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
