//! A consumer whose database fails at awkward moments: nobody is charged, and the group is kept.

use serde::Deserialize;
use tokio_postgres::types::Type;
use walpost_inbox::{Cx, Error, Event, Outcome};
use walpost_tests::service::{Service, Stage};
use xtask::stack::{Mode, Postgres, PostgresOptions};

#[derive(Deserialize)]
struct Counted {
    n: i64,
}

impl Event for Counted {
    const TYPE: &'static str = "test.Counted";
}

async fn count(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&cx.id(), Type::UUID), (&event.n, Type::INT8)];
    let sql = "INSERT INTO effect (id, key, value) VALUES ($1, 'a', $2)";
    cx.tx().execute_typed(sql, &values).await?;
    Ok(Outcome::Done)
}

/// Trap 32: whether it committed is unknown to the client; the next claim tells.
#[test]
fn a_connection_that_dies_in_its_commit_is_no_attempt_and_no_second_effect() {
    let stage = Stage::new("commit", 1);
    // The first two commits end their own session; the numbers survive the rollback.
    stage.database.run(
        "CREATE SEQUENCE commits;
         CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           IF nextval('commits') <= 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
           RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON effect
           DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()",
    );
    for n in 0..5 {
        stage.send("a", Counted::TYPE, n);
    }
    stage.flush();
    let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(count));
    let service = Service::start(inbox, stage.kafka());
    stage.wait_effects(5);
    let stats = service.stop();
    assert!(stats.waits >= 2, "two sessions were ended: {stats:?}");
    assert_eq!((stats.failures, stats.parked, stats.handled), (0, 0, 5), "{stats:?}");
    stage.assert_once_and_in_order();
}

/// A statement that only COMMIT refuses is the event's own fault.
#[test]
fn a_constraint_that_fails_at_commit_parks_the_event_to_blame_and_no_other() {
    let stage = Stage::new("deferred", 1);
    stage.database.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           IF NEW.value = 3 THEN RAISE EXCEPTION 'three is refused'; END IF;
           RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON effect
           DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    for n in 0..8 {
        stage.send(&format!("k{n}"), Counted::TYPE, n);
    }
    stage.flush();
    let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(count));
    let service = Service::start(inbox, stage.kafka());
    stage.wait_effects(7);
    service.wait_stats("parked", |stats| stats.parked == 1);
    let stats = service.stop();
    assert_eq!((stats.handled, stats.failures), (7, 4), "{stats:?}");
    let reason = stage.database.ask("SELECT reason FROM inbox_sequence");
    assert!(reason.contains("three is refused"), "{reason}");
}

#[test]
fn while_the_database_is_away_partitions_are_paused_and_the_group_is_not_left() {
    let mut postgres = Postgres::start(PostgresOptions::default()).expect("a server");
    let stage = Stage::on(&postgres.url(), "breaker", 2);
    stage.send("a", Counted::TYPE, 0);
    stage.flush();
    let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(count));
    let kafka = stage.kafka().with("max.poll.interval.ms", "6000");
    let service = Service::start(inbox, kafka);
    stage.wait_effects(1);
    postgres.stop(Mode::Fast).expect("stopped");
    for n in 1..50 {
        stage.send("a", Counted::TYPE, n);
    }
    stage.flush();
    // Three failures open the breaker, then one batch at a time probes; each is a wait, not an
    // attempt.
    let stats = service.wait_stats("the breaker probes", |stats| stats.waits >= 6);
    assert_eq!((stats.partitions, stats.failures), (2, 0), "{stats:?}");
    postgres.start_again().expect("started");
    stage.wait_effects(50);
    let stats = service.stop();
    assert_eq!((stats.assignments, stats.failures, stats.parked), (2, 0, 0), "{stats:?}");
    stage.assert_once_and_in_order();
}
