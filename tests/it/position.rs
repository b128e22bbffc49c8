//! A source goes on from its recorded position and from nothing else: whatever does not fit it is
//! refused by name, and what is in Kafka is not sent again.

use std::path::Path;
use std::process::Command;

use walpost_tests::oracle::Form;
use walpost_tests::postgres::PayloadType;
use walpost_tests::relay::{verb, wait_records};
use walpost_tests::workload::backlog;
use walpost_tests::{Cluster, Database, World, stack, wait_for};
use xtask::stack::{Mode, Postgres, PostgresOptions};

fn position_topic(world: &World) -> String {
    format!("walpost.position.{}", world.name)
}

/// A world whose relay has published one event and ended in order.
fn after_a_first_run(label: &str) -> World {
    let world = World::json(label);
    let relay = world.streaming();
    world.write(("p", "1"), "test.P", "'{}'");
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    world
}

/// Starts the relay, which must stop with `code`; its text.
#[track_caller]
fn stops(world: &World, code: &str) -> String {
    world.start().wait_stop(code)
}

/// `init` refuses with `code`; with the gap accepted the relay goes on.
#[track_caller]
fn goes_on_after_the_gap_is_accepted(world: &World) {
    let ended = verb(&["init", "--accept-gap"], Some(&world.config_of_owner()), "");
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.log);
    let relay = world.streaming();
    world.write(("p", "after"), "test.P", "'{}'");
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    assert!(world.records_of("p").iter().any(|record| record.key() == "after"));
}

#[test]
fn a_source_that_was_not_prepared_says_what_to_run() {
    let world = World::json("unprepared");
    let text = walpost_tests::Relay::start(&world.config()).wait_stop("position_missing");
    assert!(text.contains("walpost init") && text.contains(&position_topic(&world)), "{text}");
    assert!(world.cluster.topics(&position_topic(&world)).is_empty(), "run makes no position");
}

#[test]
fn a_slot_that_was_made_anew_or_advanced_is_noticed() {
    for how in ["anew", "advanced"] {
        let world = after_a_first_run(how);
        world.write(("p", "gap"), "test.P", "'{}'");
        let slot = &world.database.slot;
        world.database.run(&match how {
            "anew" => format!(
                "SELECT pg_drop_replication_slot('{slot}');
                 SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
            ),
            _ => format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"),
        });
        let text = stops(&world, "slot_ahead");
        assert!(text.contains(slot.as_str()), "{text}");
        let refused = verb(&["init"], Some(&world.config_of_owner()), "");
        assert_eq!(refused.code, Some(0), "init has nothing to complete: {}", refused.log);
        stops(&world, "slot_ahead");
        goes_on_after_the_gap_is_accepted(&world);
    }
}

#[test]
fn a_position_that_is_gone_is_not_replaced_in_silence() {
    let world = after_a_first_run("lost");
    world.cluster.delete(&[position_topic(&world)]);
    let text = stops(&world, "position_lost");
    assert!(text.contains(&position_topic(&world)), "{text}");
    let refused = verb(&["init"], Some(&world.config_of_owner()), "");
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(refused.log.contains("position_lost"), "{}", refused.log);
    goes_on_after_the_gap_is_accepted(&world);
}

#[test]
fn a_publication_that_was_made_anew_is_noticed() {
    let world = after_a_first_run("pubanew");
    let name = &world.database.publication;
    world.database.run(&format!("DROP PUBLICATION {name}"));
    world.write(("p", "gap"), "test.P", "'{}'");
    world.database.run(&format!(
        "CREATE PUBLICATION {name} FOR TABLE outbox
           WITH (publish = 'insert', publish_via_partition_root = true)"
    ));
    let text = stops(&world, "publication_changed");
    assert!(text.starts_with("stopped: the publication was made anew since "), "{text}");
    goes_on_after_the_gap_is_accepted(&world);
}

#[test]
fn a_table_that_left_its_publication_and_came_back_is_noticed() {
    let world = after_a_first_run("tableback");
    let name = &world.database.publication;
    world.database.run(&format!("ALTER PUBLICATION {name} DROP TABLE outbox"));
    world.write(("p", "gap"), "test.P", "'{}'");
    world.database.run(&format!("ALTER PUBLICATION {name} ADD TABLE outbox"));
    let text = stops(&world, "publication_changed");
    assert!(text.contains("entry in the publication"), "{text}");
}

#[test]
fn a_table_that_leaves_and_returns_while_the_relay_streams_is_noticed() {
    let world = World::json("flicker");
    let relay = world.streaming();
    // The survey looks when the stream starts and every 5 s: between two looks all is as before.
    let looked = world.series("walpost_slot_active{source=\"SOURCE\"}");
    wait_for("a look", || relay.metrics().contains_key(&looked).then_some(()));
    let name = &world.database.publication;
    world.database.run_each(&format!(
        "ALTER PUBLICATION {name} DROP TABLE outbox;
         SELECT write_event('p', 'gap', 'test.P', '{{}}');
         ALTER PUBLICATION {name} ADD TABLE outbox"
    ));
    let ended = relay.wait_end();
    assert_eq!(ended.code, Some(4), "{}", ended.log);
    let codes = ["publication_changed", "publication_without_table"];
    assert!(codes.iter().any(|code| ended.log.contains(code)), "{}", ended.log);
    stops(&world, "publication_changed");
}

#[test]
fn two_sources_of_one_name_are_told_apart() {
    let (one, mut two) = (after_a_first_run("onename"), World::json("twoname"));
    two.name.clone_from(&one.name);
    let refused = verb(&["init"], Some(&two.config_of_owner()), "");
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(refused.log.contains("other_birth"), "{}", refused.log);
    two.database.grant_to_relays();
    let text = walpost_tests::Relay::start(&two.config()).wait_stop("other_birth");
    assert!(text.contains(&position_topic(&one)), "{text}");
    let relay = one.streaming();
    assert_eq!(relay.terminate().code, Some(0), "the first one goes on");
}

#[test]
fn a_position_topic_that_forgets_is_refused() {
    let world = after_a_first_run("policy");
    world.cluster.set(&position_topic(&world), "cleanup.policy", "delete");
    let text = stops(&world, "position_topic_unsuitable");
    assert!(text.contains("cleanup.policy \"delete\""), "{text}");
    world.cluster.set(&position_topic(&world), "cleanup.policy", "compact");
    world.streaming();
}

#[test]
fn a_position_that_cannot_be_read_is_not_passed_over() {
    let world = after_a_first_run("unreadable");
    world.cluster.write(&position_topic(&world), "position/other", Some("{}"));
    let text = stops(&world, "position_unreadable");
    assert!(text.contains("position/other"), "{text}");
    world.cluster.write(&position_topic(&world), "position/other", None);
    world.streaming();
}

#[test]
fn each_run_leaves_one_position_and_the_first_run_releases_that_of_init() {
    let world = after_a_first_run("instances");
    let relay = world.streaming();
    world.write(("p", "2"), "test.P", "'{}'");
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    let mut latest = std::collections::BTreeMap::new();
    for record in world.cluster.read(&position_topic(&world)) {
        latest.insert(record.key().to_owned(), record.value.is_some());
    }
    let left: Vec<_> = latest.iter().filter(|(_, is_there)| **is_there).collect();
    assert_eq!(left.len(), 2, "birth and one instance: {latest:?}");
    assert!(latest.contains_key("birth") && latest.get("position/init") == Some(&false));
}

#[test]
fn a_relay_that_is_killed_sends_nothing_again_that_is_in_kafka() {
    let world = World::json("readback");
    let mut relay = world.streaming();
    backlog(&world.database, 6_000, 10, 500);
    for goal in [5_000, 15_000, 30_000, 45_000] {
        wait_records(&world.cluster, &world.topic("bulk"), goal);
        relay.kill9();
        relay = world.start();
    }
    world.drained(&relay);
    let found =
        world.series("walpost_skipped_events_total{source=\"SOURCE\",reason=\"found_in_kafka\"}");
    println!("found in Kafka after the last kill: {}", relay.metric(&found));
    assert_eq!(relay.terminate().code, Some(0));
    let duplicates = world.judge(&Form::Json).assert_kept();
    println!("duplicates after four kills in a drain of 60,000: {duplicates}");
    // What a broker still had in its hands when a kill came may follow after the look: some
    // batches at most, where a relay without read-back repeats thousands at each kill.
    assert!(duplicates < 2_000, "{duplicates} duplicates");
}

/// A server of its own, whose data can be put aside and brought back.
fn private_postgres(label: &str) -> (Postgres, World) {
    let postgres = Postgres::start(PostgresOptions::default()).expect("a server");
    let database = Database::new(&postgres.url(), label, PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    (postgres, world)
}

fn publish_one(world: &World, key: &str) {
    let relay = world.streaming();
    world.write(("p", key), "test.P", "'{}'");
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
}

/// The stopped server on a new timeline, as after a failover to a copy of its data.
fn promote(postgres: &mut Postgres) {
    std::fs::write(postgres.data().join("standby.signal"), "").expect("a file");
    postgres.start_again().expect("started as a standby");
    let promoted = walpost_tests::postgres::connect(&postgres.url())
        .query_one("SELECT pg_promote()", &[])
        .expect("promoted");
    assert!(promoted.get::<_, bool>(0));
}

fn copy_data(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(copied.success());
}

#[test]
fn a_promoted_server_that_has_everything_goes_on_and_headers_name_each_timeline() {
    let (mut postgres, world) = private_postgres("promoted");
    publish_one(&world, "before");
    postgres.stop(Mode::Fast).expect("stopped");
    promote(&mut postgres);
    publish_one(&world, "after");
    let records = world.records_of("p");
    let source = |key: &str| {
        let record = records.iter().find(|record| record.key() == key).expect("a record");
        record.header("source").to_owned()
    };
    assert_eq!(source("before"), format!("{}/1", world.name));
    assert_eq!(source("after"), format!("{}/2", world.name));
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn a_failover_that_lost_published_events_and_a_copy_from_before_are_refused() {
    let (mut postgres, world) = private_postgres("failover");
    publish_one(&world, "common");
    postgres.stop(Mode::Fast).expect("stopped");
    let data = postgres.data();
    let copy = data.with_file_name("copy");
    copy_data(&data, &copy);
    postgres.start_again().expect("started");
    publish_one(&world, "lost");
    postgres.stop(Mode::Fast).expect("stopped");
    std::fs::rename(&data, data.with_file_name("original")).expect("moved away");
    copy_data(&copy, &data);
    postgres.start_again().expect("the copy starts");
    let text = stops(&world, "database_behind_position");
    assert!(text.contains("before the position"), "{text}");
    postgres.stop(Mode::Fast).expect("stopped");
    promote(&mut postgres);
    let text = stops(&world, "published_ahead_of_failover");
    assert!(text.contains("timeline 1") && text.contains("timeline 2"), "{text}");
    goes_on_after_the_gap_is_accepted(&world);
}
