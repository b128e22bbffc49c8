//! What a daemon tells: metrics under their promised names, health that follows the truth, and
//! nobody else at the door.

use serde_json::Value;
use walpost_tests::http::{self, get};
use walpost_tests::{CANARY, Relay, World, wait_for};

/// DESIGN 8.4 and the additions of anchor-ux 5.1, as far as what they measure exists.
const WITH_SOURCE: [&str; 15] = [
    "walpost_events_published_total{source=\"SOURCE\",topic=",
    "walpost_commit_to_ack_seconds_bucket{le=\"0.001\",source=\"SOURCE\"}",
    "walpost_commit_to_ack_seconds_bucket{le=\"60.0\",source=\"SOURCE\"}",
    "walpost_commit_to_ack_seconds_count{source=\"SOURCE\"}",
    "walpost_slot_lag_bytes{source=\"SOURCE\"}",
    "walpost_slot_retained_wal_bytes{source=\"SOURCE\"}",
    "walpost_confirmed_lsn_bytes{source=\"SOURCE\"}",
    "walpost_pending_events{source=\"SOURCE\"}",
    "walpost_resent_events_total{source=\"SOURCE\",reason=",
    "walpost_skipped_events_total{source=\"SOURCE\",reason=",
    "walpost_lag_seconds{source=\"SOURCE\"}",
    "walpost_slot_active{source=\"SOURCE\"} 1",
    "walpost_slot_wal_status{source=\"SOURCE\",status=\"reserved\"} 1",
    "walpost_progress_timestamp_seconds{source=\"SOURCE\"}",
    "walpost_server_sample_timestamp_seconds{source=\"SOURCE\"}",
];

const STATES: [&str; 9] = [
    "connecting",
    "streaming",
    "catching_up",
    "waiting_kafka",
    "waiting_registry",
    "waiting_database",
    "standby",
    "draining",
    "stopped",
];

#[test]
fn every_promised_metric_is_there_with_its_source() {
    let world = World::json("metrics");
    let relay = world.streaming();
    for _ in 0..5 {
        world.write(("m", "1"), "test.M", "'{}'");
    }
    world.drained(&relay);
    let published = world.series(&format!(
        "walpost_events_published_total{{source=\"SOURCE\",topic=\"{}\"}}",
        world.topic("m")
    ));
    wait_for("the counter", || (relay.metrics().get(&published) == Some(&5.0)).then_some(()));
    wait_for("a look at the slot", || {
        relay
            .metrics()
            .contains_key(&world.series("walpost_slot_active{source=\"SOURCE\"}"))
            .then_some(())
    });
    let answer = get(&relay.admin(), "/metrics").expect("metrics");
    assert!(answer.head.contains("application/openmetrics-text"), "{}", answer.head);
    for name in WITH_SOURCE {
        assert!(answer.body.contains(&world.series(name)), "no {name} in\n{}", answer.body);
    }
    for state in STATES {
        let value = u8::from(state == "streaming");
        let line = format!("walpost_state{{source=\"SOURCE\",state=\"{state}\"}} {value}");
        let line = world.series(&line);
        assert!(answer.body.contains(&line), "no {line}");
    }
    assert!(answer.body.contains("walpost_build_info{version="), "{}", answer.body);
    assert!(answer.body.ends_with("# EOF\n"), "a whole exposition");
    let confirmed = relay.metric(&world.series("walpost_confirmed_lsn_bytes{source=\"SOURCE\"}"));
    assert!(confirmed > 0.0);
    let declared = answer.body.lines().filter(|line| line.starts_with("# HELP ")).count();
    assert!(declared >= 15, "every family has a help text: {declared}");
    assert_eq!(relay.metric(&world.series("walpost_lag_seconds{source=\"SOURCE\"}")), 0.0, "idle");
}

#[test]
fn health_is_layered_and_follows_the_source() {
    let world = World::json("health");
    let relay = world.streaming();
    let status = |path: &str| get(&relay.admin(), path).expect("an answer").status;
    assert_eq!((status("/livez"), status("/readyz"), status("/healthz")), (200, 200, 200));
    assert_eq!(status("/nothing"), 404);
    let health: Value =
        serde_json::from_str(&get(&relay.admin(), "/healthz").expect("an answer").body)
            .expect("json");
    let source = &health["sources"][0];
    assert_eq!((&source["source"], &source["healthy"]), (&world.name.clone().into(), &true.into()));
    assert!(source["confirmed_lsn"].as_str().is_some_and(|lsn| lsn.contains('/')), "{source}");
    for text in [&health["at"], &source["since"]] {
        assert!(text.as_str().is_some_and(|time| time.ends_with('Z')), "RFC 3339: {text}");
    }
    drop(relay);
    walpost_tests::relay::wait_released(&world.database);

    let mut away = World::json("unhealthy");
    let port = xtask::machine::free_port().expect("a port");
    away.url = format!("postgres://nobody@127.0.0.1:{port}/nowhere");
    let relay = away.start();
    relay.wait_state(&away.name, "waiting_database");
    let status = |path: &str| get(&relay.admin(), path).expect("an answer").status;
    assert_eq!((status("/livez"), status("/readyz")), (200, 503), "it lives and is not ready");
}

#[test]
fn only_known_hosts_are_served() {
    let world = World::json("hosts");
    world.init();
    let config = world.config().replace(
        "listen = \"127.0.0.1:0\"",
        "listen = \"127.0.0.1:0\"\nhosts = [\"relay.internal\"]",
    );
    let relay = Relay::start(&config);
    let admin = relay.admin();
    let ask = |host: &str| {
        http::request("GET", &admin, "/metrics", &[("Host", host)], "").expect("an answer").status
    };
    for known in [admin.as_str(), "localhost", "localhost:80", "[::1]:80", "Relay.Internal"] {
        assert_eq!(ask(known), 200, "{known}");
    }
    for unknown in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
        assert_eq!(ask(unknown), 421, "{unknown}");
    }
}

#[test]
fn beyond_loopback_a_token_is_asked_for_by_everything_but_the_probes() {
    let world = World::json("token");
    world.init();
    world.init();
    let config = world.config().replace(
        "listen = \"127.0.0.1:0\"",
        &format!("listen = \"0.0.0.0:0\"\ntoken = \"{CANARY}\""),
    );
    let relay = Relay::start(&config);
    let admin = relay.admin().replace("0.0.0.0", "127.0.0.1");
    let ask = |path: &str, headers: &[(&str, &str)]| {
        http::request("GET", &admin, path, headers, "").expect("an answer").status
    };
    let right = format!("Bearer {CANARY}");
    for path in ["/metrics", "/healthz", "/api/v1/status"] {
        assert_eq!(ask(path, &[]), 401, "{path}");
        assert_eq!(ask(path, &[("Authorization", "Bearer wrong")]), 401, "{path}");
        assert_eq!(ask(path, &[("Authorization", "Bearer ")]), 401, "{path}");
        assert!(matches!(ask(path, &[("Authorization", &right)]), 200 | 503), "{path}");
    }
    assert_eq!(ask("/livez", &[]), 200, "probes need no token");
}

#[test]
fn two_daemons_on_one_admin_address_are_told_apart_at_start() {
    let (one, two) = (World::json("adminone"), World::json("admintwo"));
    let relay = one.streaming();
    let config = two.config().replace("127.0.0.1:0", &relay.admin());
    let ended = Relay::start(&config).wait_end();
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.log.contains(&relay.admin()) && ended.log.contains("admin.listen"),
        "{}",
        ended.log
    );
}
