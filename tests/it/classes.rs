//! What an operator sees of each class of fault, as the table in `docs/operations.md` says it: log,
//! state, metrics, health.

use walpost_tests::http::get;
use walpost_tests::{Relay, World, wait_for};

/// The answers of `/livez`, `/readyz` and `/healthz`.
fn health(relay: &Relay) -> [u16; 3] {
    let status = |path: &str| get(&relay.admin(), path).expect("an answer").status;
    ["/livez", "/readyz", "/healthz"].map(status)
}

/// How many lines of this level and code begin like this.
fn lines(relay: &Relay, level: &str, code: &str, beginning: &str) -> usize {
    let events = relay.events().into_iter();
    let events = events.filter(|event| event["level"] == level && event["code"] == code);
    let text = |event: serde_json::Value| event["message"].as_str().unwrap_or_default().to_owned();
    events.map(text).filter(|text| text.starts_with(beginning)).count()
}

fn metric(relay: &Relay, world: &World, series: &str) -> f64 {
    relay.metrics().get(&world.series(series)).copied().unwrap_or(0.0)
}

#[test]
fn a_retry_shows_as_the_page_of_faults_says() {
    let mut world = World::json("classretry");
    world.init();
    world.url = world.url.replace(&world.database.name, "nowhere_at_all");
    let relay = world.start();
    let status = relay.wait_fault(&world.name, "database_missing");
    assert_eq!(status["state"], "waiting_database");
    wait_for("three tries", || {
        let series = "walpost_reconnects_total{source=\"SOURCE\",peer=\"postgres\"}";
        (metric(&relay, &world, series) >= 3.0).then_some(())
    });
    assert_eq!(lines(&relay, "WARN", "database_missing", "waiting for postgres: "), 1);
    assert_eq!(health(&relay), [200, 503, 200]);
    assert!(relay.is_running());
}

#[test]
fn a_parked_event_shows_as_the_page_of_faults_says() {
    let world = World::json("classpark").parking();
    let relay = world.streaming();
    for _ in 0..3 {
        let sql = "SELECT write_event('p', '1', 'test.P', '{}', '[1]')";
        world.database.run(sql);
    }
    world.drained(&relay);
    wait_for("the parked events to be counted", || {
        let parked = metric(&relay, &world, "walpost_parked_events{source=\"SOURCE\"}");
        (parked == 3.0).then_some(())
    });
    let series = "walpost_schema_errors_total{source=\"SOURCE\",kind=\"headers_invalid\"}";
    assert!(metric(&relay, &world, series) >= 1.0);
    assert_eq!(lines(&relay, "WARN", "headers_invalid", "an event cannot be published: "), 1);
    relay.wait_state(&world.name, "streaming");
    assert_eq!(health(&relay), [200, 200, 200]);
}

#[test]
fn a_stop_shows_as_the_page_of_faults_says() {
    let (stopped, other) = (World::json("classstop"), World::json("classother"));
    stopped.init();
    other.init();
    let slot = &stopped.database.slot;
    stopped.database.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    let relay = Relay::start(&format!("{}{}", other.config(), stopped.source_toml(&stopped.name)));
    let status = relay.wait_fault(&stopped.name, "slot_missing");
    assert_eq!(status["state"], "stopped");
    relay.wait_state(&other.name, "streaming");
    assert_eq!(lines(&relay, "ERROR", "slot_missing", "stopped: "), 1);
    assert!(relay.log().contains("docs/errors/slot_missing.md"), "the page is named");
    let series = "walpost_state{source=\"SOURCE\",state=\"stopped\"}";
    assert!((metric(&relay, &stopped, series) - 1.0).abs() < f64::EPSILON);
    assert_eq!(health(&relay), [200, 503, 503]);
    drop(relay);
    let error = stopped.start().wait_stop("slot_missing");
    assert!(error.starts_with("stopped: "), "{error}");
}
