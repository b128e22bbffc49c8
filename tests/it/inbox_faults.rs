//! A consumer whose database fails at awkward moments: nobody is charged, and the group is kept.

use walpost_inbox::Event;
use walpost_inbox::store::Database as Store;
use walpost_tests::service::{Counted, Service, Stage, count};
use xtask::stack::{Mode, Postgres, PostgresOptions};

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

/// A server that says everything in German. Debian's PostgreSQL brings the sources of locales.
fn german() -> (tempfile::TempDir, Postgres) {
    let locales = tempfile::tempdir().expect("a folder");
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(locales.path(), everyone).expect("it is open");
    let made = std::process::Command::new("localedef")
        .args(["-i", "de_DE", "-f", "UTF-8"])
        .arg(locales.path().join("de_DE.utf8"))
        .status();
    assert!(made.is_ok_and(|status| status.success()), "localedef makes de_DE");
    let path = locales.path().display().to_string();
    let postgres = Postgres::start(PostgresOptions {
        settings: vec![("lc_messages".to_owned(), "de_DE.utf8".to_owned())],
        environment: vec![("LOCPATH".to_owned(), path)],
        ..PostgresOptions::default()
    });
    (locales, postgres.expect("a server"))
}

/// Trap 6, with a server whose words nobody knows: contention and an ended session are no attempts,
/// the event's own fault is one.
#[test]
fn a_server_that_speaks_another_language_is_understood() {
    let (_locales, postgres) = german();
    let stage = Stage::on(&postgres.url(), "german", 1);
    // Event 1 loses its session twice, event 2 cannot get a lock twice, event 3 is refused.
    stage.database.run(
        "CREATE SEQUENCE ends; CREATE SEQUENCE locks;
         CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           IF NEW.value = 1 AND nextval('ends') <= 2 THEN
             PERFORM pg_terminate_backend(pg_backend_pid());
           ELSIF NEW.value = 2 AND nextval('locks') <= 2 THEN
             RAISE EXCEPTION SQLSTATE '55P03';
           ELSIF NEW.value = 3 THEN
             PERFORM 1 / (NEW.value - 3);
           END IF;
           RETURN NEW;
         END $$;
         CREATE TRIGGER trouble BEFORE INSERT ON effect
           FOR EACH ROW EXECUTE FUNCTION trouble()",
    );
    for n in 0..6 {
        stage.send(&format!("k{n}"), Counted::TYPE, n);
    }
    stage.flush();
    let inbox = stage.inbox(()).topic(&stage.topic, |t| t.on(count));
    let service = Service::start(inbox, stage.kafka());
    stage.wait_effects(5);
    service.wait_stats("parked", |stats| stats.parked == 1);
    let stats = service.stop();
    assert_eq!((stats.handled, stats.failures), (5, 4), "{stats:?}");
    assert!(stats.waits >= 2 && stats.contentions >= 2, "{stats:?}");
    let reason = stage.database.ask("SELECT reason FROM inbox_sequence");
    assert!(reason.contains("Division durch Null"), "{reason}");
    let twice = "SELECT count(*) - count(DISTINCT id) FROM effect";
    assert_eq!(stage.database.ask(twice), "0");
}

/// A server that is gone says nothing, and its connections stay open for hours.
#[test]
fn a_server_that_says_nothing_any_more_is_given_up_and_asked_on_few_connections() {
    let stage = Stage::new("silent", 1);
    stage.send("a", Counted::TYPE, 0);
    stage.flush();
    let (wire, through) = walpost_tests::wire::Wire::before(&stage.database.url());
    let store = Store::new(through.parse().expect("an address"), tokio_postgres::NoTls);
    let inbox = walpost_inbox::Inbox::new("c", store, ())
        .settings(|settings| {
            settings.answer_deadline = std::time::Duration::from_secs(1);
            // As often as it can: each look is a question.
            settings.release_interval = std::time::Duration::from_millis(1);
        })
        .topic(&stage.topic, |t| t.on(count));
    let service = Service::start(inbox, stage.kafka());
    stage.wait_effects(1);
    let before = wire.connections();
    wire.be_silent(true);
    for n in 1..20 {
        stage.send("a", Counted::TYPE, n);
    }
    stage.flush();
    let stats = service.wait_stats("the silence to be noticed", |stats| stats.waits >= 3);
    assert_eq!((stats.failures, stats.parked), (0, 0), "{stats:?}");
    let opened = wire.connections() - before;
    assert!(opened <= 20, "{opened} connections to a server that says nothing");
    wire.be_silent(false);
    stage.wait_effects(20);
    let stats = service.stop();
    assert_eq!((stats.failures, stats.parked, stats.handled), (0, 0, 20), "{stats:?}");
    stage.assert_once_and_in_order();
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
