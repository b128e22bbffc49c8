//! The library's own test kit on a real database: killed at every await, doubled, and read again,
//! a consumer has each effect once and each key in order.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio_postgres::types::Type;
use walpost_inbox::testkit::{Broker, CrashPoint, Ended, run, run_killed, run_killed_at};
use walpost_inbox::{Cx, Error, Event, Inbox, NewEvent, Outcome};
use walpost_tests::inbox::Inbox as Rig;

const TOPIC: &str = "events.count";

#[derive(Deserialize)]
struct Counted {
    key: String,
    n: i64,
}

impl Event for Counted {
    const TYPE: &'static str = "test.Counted";
}

async fn count(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    let insert = "INSERT INTO effect (id, key, value) VALUES ($1, $2, $3)";
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&cx.id(), Type::UUID), (&event.key, Type::TEXT), (&event.n, Type::INT8)];
    cx.tx().execute_typed(insert, &values).await?;
    cx.emit(NewEvent::new("count", event.key, "test.Emitted", json!({"n": event.n})));
    Ok(Outcome::Done)
}

/// A database with an outbox and a table of effects.
fn rig(label: &str) -> Rig {
    let rig = Rig::new(label);
    rig.sql(walpost_outbox::OUTBOX_SQL);
    rig.sql("CREATE TABLE effect (n bigserial, id uuid, key text, value bigint)");
    rig
}

fn inbox(rig: &Rig) -> Inbox<()> {
    let config = rig.database.url().parse().expect("an address");
    let database = walpost_inbox::store::Database::new(config, tokio_postgres::NoTls);
    Inbox::new("c", database, ())
        .settings(|settings| settings.batch_max = 7)
        .topic(TOPIC, |topic| topic.on(count))
}

/// A broker with `count` events over five keys.
fn broker(count: i64) -> Broker {
    let broker = Broker::new(&[(TOPIC, 2)]);
    for n in 0..count {
        let key = format!("k{}", n % 5);
        broker.produce(TOPIC, &key, Counted::TYPE, &json!({"key": key, "n": n}));
    }
    broker
}

/// Each event once, in the table and in the outbox, and each key in order.
#[track_caller]
fn judge(rig: &Rig, count: i64) {
    let count = count.to_string();
    assert_eq!(rig.ask("SELECT count(*) FROM effect"), count);
    assert_eq!(rig.ask("SELECT count(DISTINCT id) FROM effect"), count);
    assert_eq!(rig.ask("SELECT count(*) FROM outbox"), count);
    let overtaken = "SELECT count(*) FROM (SELECT value,
        lag(value) OVER (PARTITION BY key ORDER BY n) AS before FROM effect) o
        WHERE value <= before";
    assert_eq!(rig.ask(overtaken), "0");
}

#[test]
fn killed_at_every_await_a_consumer_has_each_effect_once() {
    let rig = rig("kitawait");
    let broker = broker(40);
    let mut kills = 0;
    rig.run(async {
        while run_killed(inbox(&rig), &broker, kills).await.unwrap() == Ended::Killed {
            kills += 1;
        }
    });
    // Each kill is one await further into a run: more than one batch's worth of them.
    assert!(kills > 10, "{kills} kills");
    judge(&rig, 40);
}

#[test]
fn killed_at_each_point_a_consumer_has_each_effect_once() {
    let rig = rig("kitpoint");
    let broker = broker(60);
    rig.run(async {
        for point in CrashPoint::ALL {
            let ended = run_killed_at(inbox(&rig), &broker, point, 2).await.unwrap();
            assert_eq!(ended, Ended::Killed, "{point:?}");
        }
        run(inbox(&rig), &broker).await.unwrap();
    });
    judge(&rig, 60);
}

#[test]
fn copies_at_new_offsets_and_reading_again_have_no_effect() {
    let rig = rig("kitagain");
    let broker = broker(30);
    rig.run(async {
        run(inbox(&rig), &broker).await.unwrap();
        broker.repeat();
        run(inbox(&rig), &broker).await.unwrap();
        broker.rewind();
        run(inbox(&rig), &broker).await.unwrap();
    });
    judge(&rig, 30);
}

#[test]
fn two_that_own_everything_at_once_neither_double_nor_overtake() {
    let rig = rig("kittwo");
    let broker = broker(300);
    rig.run(async {
        let one = run(inbox(&rig), &broker);
        let other = run(inbox(&rig), &broker);
        let (one, other) = tokio::join!(one, other);
        one.unwrap();
        other.unwrap();
    });
    judge(&rig, 300);
}

/// The waits are minutes by the kit's clock.
#[test]
fn waits_between_attempts_take_no_time() {
    async fn refuse(_: Counted, _: &mut Cx<()>) -> Result<Outcome, Error> {
        Ok(Outcome::Retry(Duration::from_secs(600)))
    }
    let rig = rig("kitclock");
    let broker = broker(1);
    let begun = Instant::now();
    rig.run(async {
        let config = rig.database.url().parse().expect("an address");
        let database = walpost_inbox::store::Database::new(config, tokio_postgres::NoTls);
        let inbox = Inbox::new("c", database, ()).topic(TOPIC, |topic| topic.on(refuse));
        run(inbox, &broker).await.unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let reason = rig.ask("SELECT reason FROM inbox_sequence");
    assert_eq!(reason, "after 4 attempts: handler asks to be called again");
}
