//! Several sources in one process: each by itself.

use walpost_tests::oracle::Form;
use walpost_tests::{Relay, World};

#[test]
fn a_source_that_stops_does_not_stop_another_and_the_last_one_ends_the_process() {
    let (good, bad, waiting) = (World::json("good"), World::json("bad"), World::json("waiting"));
    for world in [&good, &bad] {
        world.init();
    }
    let slot = &bad.database.slot;
    bad.database.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    let port = xtask::machine::free_port().expect("a port");
    let away = waiting
        .source_toml(&waiting.name)
        .replace(&waiting.url, &format!("postgres://nobody@127.0.0.1:{port}/nowhere"));
    let config =
        [good.general_toml(), good.source_toml(&good.name), bad.source_toml(&bad.name)].concat();
    let relay = Relay::start(&(config.clone() + &away));
    relay.wait_state(&bad.name, "stopped");
    relay.wait_state(&waiting.name, "waiting_database");
    relay.wait_state(&good.name, "streaming");
    good.write(("g", "1"), "test.G", "'{}'");
    good.drained(&relay);
    good.judge(&Form::Json).assert_exact();
    let ready = walpost_tests::http::get(&relay.admin(), "/readyz").expect("an answer");
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert_eq!(relay.terminate().code, Some(0), "it was told to end");

    let relay = Relay::start(&config);
    relay.wait_state(&good.name, "streaming");
    let name = &good.database.publication;
    good.database.run(&format!("DROP PUBLICATION {name}"));
    let ended = relay.wait_end();
    assert_eq!(ended.code, Some(4), "{}", ended.log);
    ended.error("slot_missing");
    assert!(ended.log.contains("no source is left running"), "{}", ended.log);
}

#[test]
fn two_databases_are_relayed_side_by_side_under_their_own_names() {
    let (one, two) = (World::json("one"), World::json("two"));
    for world in [&one, &two] {
        world.init();
    }
    let config =
        [one.general_toml(), one.source_toml(&one.name), two.source_toml(&two.name)].concat();
    let relay = Relay::start(&config);
    for world in [&one, &two] {
        walpost_tests::Workload { transactions: 50, ..Default::default() }.run(&world.database);
    }
    one.drained(&relay);
    two.drained(&relay);
    drop(relay);
    for world in [&one, &two] {
        world.judge(&Form::Json).assert_exact();
        let source = format!("{}/1", world.name);
        assert!(world.records().iter().all(|record| record.header("source") == source));
    }
}
