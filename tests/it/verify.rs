//! `walpost verify` finds a sound topic sound, while the relay runs, and a topic that was broken on
//! purpose broken, naming the events.

use serde_json::{Value, json};
use walpost_tests::relay::{Ended, verb, wait_records};
use walpost_tests::workload::Workload;
use walpost_tests::{Record, World, wait_for};

/// The answer of the one source, with its exit code.
#[track_caller]
fn verify(world: &World, more: &[&str]) -> (Option<i32>, Value) {
    let words = [&["verify", "--output", "json", "--timeout", "30"], more].concat();
    let ended = verb(&words, Some(&world.config()), "");
    let answer: Value = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.log));
    assert_eq!(ended.log, "", "nothing but JSON, on no stream");
    assert_eq!(answer["kept"] == true, ended.code == Some(0), "{answer}");
    (ended.code, answer["sources"][0].clone())
}

/// `committed delivered lost out_of_order split duplicated`
fn counts(answer: &Value) -> Vec<u64> {
    ["committed", "delivered", "lost", "out_of_order", "split", "duplicated"]
        .map(|name| answer[name].as_u64().unwrap_or_else(|| panic!("no {name} in {answer}")))
        .to_vec()
}

#[test]
fn rows_are_judged_while_the_relay_runs_and_writers_write() {
    let world = World::json("online");
    let relay = world.streaming();
    let work = Workload { transactions: 100, ..Workload::default() };
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| work.run(&world.database));
        while !writing.is_finished() {
            let (code, answer) = verify(&world, &[]);
            assert_eq!(code, Some(0), "{answer}");
            assert_eq!(answer["committed"], answer["delivered"], "{answer}");
        }
    });
    let (code, answer) = verify(&world, &["--memory", "1"]);
    let rows: u64 = world.database.ask("SELECT count(*) FROM outbox").parse().expect("a number");
    assert_eq!((code, counts(&answer)), (Some(0), vec![rows, rows, 0, 0, 0, 0]), "{answer}");
    assert_eq!((&answer["others"], &answer["unreadable"]), (&json!(0), &json!(0)), "{answer}");
    // What left no row is said and not judged.
    world.database.run("DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox LIMIT 10)");
    let (code, answer) = verify(&world, &[]);
    assert_eq!((code, &answer["others"]), (Some(0), &json!(10)), "{answer}");
    let notes = answer["notes"].to_string();
    assert!(notes.contains("cannot be known"), "{notes}");
    drop(relay);
}

/// A world whose relay has published `count` events of few aggregates and is gone, its position
/// moved past everything, so that the topic can be broken at leisure.
fn published(label: &str, count: u32) -> (World, Vec<Record>) {
    let world = World::json(label);
    let relay = world.streaming();
    let sql = format!(
        "SELECT write_event('v', (n % 7)::text, 'test.V', '{{}}')
         FROM generate_series(1, {count}) n"
    );
    world.database.run(&sql);
    wait_records(&world.cluster, &format!("{}.", world.prefix), count.into());
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    let topic = format!("walpost.position.{}", world.name);
    let positions = world.cluster.read(&topic);
    let last =
        positions.iter().rfind(|one| one.key().starts_with("position/") && one.value.is_some());
    let mut position: Value = serde_json::from_str(last.expect("a position").text()).expect("json");
    position["commit_lsn"] = json!("FFFFFF/0");
    position["end_lsn"] = json!("FFFFFF/0");
    world.cluster.write(&topic, "position/later", Some(&position.to_string()));
    let records = world.records_of("v");
    assert_eq!(records.len(), count as usize);
    (world, records)
}

/// The topic made anew with these records.
fn remake(world: &World, records: &[Record]) {
    let topic = world.topic("v");
    world.cluster.delete(std::slice::from_ref(&topic));
    wait_for("the topic to be gone", || world.cluster.topics(&topic).is_empty().then_some(()));
    world.cluster.create(&topic, 3, &[]);
    world.cluster.write_all(records);
}

fn offenders(answer: &Value, kind: &str) -> Vec<String> {
    let all = answer["offenders"].as_array().expect("offenders");
    let of_kind = all.iter().filter(|one| one["kind"] == kind);
    of_kind.map(|one| one["id"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_topic_that_was_broken_on_purpose_is_caught_and_the_event_is_named() {
    let (world, records) = published("broken", 40);
    let id = |record: &Record| record.header("id").to_owned();
    let intact = vec![40, 40, 0, 0, 0, 0];
    remake(&world, &records);
    let (code, answer) = verify(&world, &[]);
    assert_eq!((code, counts(&answer)), (Some(0), intact), "{answer}");

    let mut dropped = records.clone();
    let gone = dropped.remove(17);
    remake(&world, &dropped);
    let (code, answer) = verify(&world, &[]);
    assert_eq!((code, counts(&answer)), (Some(1), vec![40, 39, 1, 0, 0, 0]), "{answer}");
    assert_eq!(offenders(&answer, "lost"), [id(&gone)]);

    let mut doubled = records.clone();
    doubled.insert(20, records[5].clone());
    remake(&world, &doubled);
    let (code, answer) = verify(&world, &[]);
    assert_eq!((code, counts(&answer)), (Some(0), vec![40, 40, 0, 0, 0, 1]), "{answer}");
    assert_eq!(offenders(&answer, "duplicated"), [id(&records[5])]);

    // Two events of one aggregate, the later one first.
    let mut swapped = records.clone();
    let second = (1..records.len())
        .find(|at| records[*at].key == records[0].key && *at > 0)
        .expect("a second event of the aggregate");
    swapped.swap(0, second);
    remake(&world, &swapped);
    let (code, answer) = verify(&world, &[]);
    assert_eq!((code, counts(&answer)), (Some(1), vec![40, 40, 0, 1, 0, 0]), "{answer}");
    assert_eq!(offenders(&answer, "out_of_order"), [id(&records[0])]);

    let mut strayed = records.clone();
    strayed[second].partition = (strayed[second].partition + 1) % 3;
    remake(&world, &strayed);
    let (code, answer) = verify(&world, &[]);
    assert_eq!((code, counts(&answer)[4]), (Some(1), 1), "{answer}");

    // Without the topic everything is lost, and the topic is named.
    world.cluster.delete(&[world.topic("v")]);
    let (code, answer) = verify(&world, &[]);
    assert_eq!((code, counts(&answer)[2]), (Some(1), 40), "{answer}");
    assert_eq!(offenders(&answer, "lost").len(), 10, "the first ten: {answer}");
    assert_eq!(answer["missing_topics"], json!([world.topic("v")]));
    let text = verb(&["verify"], Some(&world.config()), "");
    assert_eq!(text.code, Some(1), "{}{}", text.stdout, text.log);
    assert!(text.stdout.contains("does not exist") && text.stdout.contains("broken"), "{text:?}");
}

#[test]
fn added_partitions_move_an_aggregate_and_break_nothing() {
    let (world, mut records) = published("moved", 40);
    let key = records[0].key.clone();
    let of_key: Vec<usize> = (0..records.len()).filter(|at| records[*at].key == key).collect();
    for at in of_key.iter().skip(of_key.len() / 2) {
        records[*at].partition = (records[*at].partition + 1) % 3;
    }
    remake(&world, &records);
    let (code, answer) = verify(&world, &[]);
    assert_eq!((code, counts(&answer)), (Some(0), vec![40, 40, 0, 0, 0, 0]), "{answer}");
    assert_eq!(answer["moved"], 1);
    assert_eq!(offenders(&answer, "moved").len(), 1);
}

#[test]
fn windows_leave_the_rest_out_and_parked_events_are_not_lost() {
    let (world, mut records) = published("window", 40);
    let seq_of = |record: &Record| -> u32 {
        let sql = format!("SELECT seq FROM outbox WHERE id = '{}'", record.header("id"));
        world.database.ask(&sql).parse().expect("a number")
    };
    let at = records.iter().position(|record| seq_of(record) == 30).expect("row 30");
    let gone = records.remove(at);
    remake(&world, &records);
    let committed = |more: &[&str]| {
        let (code, answer) = verify(&world, more);
        (code, counts(&answer)[0], counts(&answer)[2])
    };
    assert_eq!(committed(&["--from-seq", "11", "--to-seq", "29"]), (Some(0), 19, 0));
    assert_eq!(committed(&["--from-seq", "30"]), (Some(1), 11, 1));
    assert_eq!(committed(&["--since", "1h"]), (Some(1), 40, 1));
    assert_eq!(committed(&["--until", "1h"]), (Some(0), 0, 0));
    // A row without a record has no LSN, and is judged whatever the window is.
    assert_eq!(committed(&["--to-lsn", "0/1"]), (Some(1), 1, 1));
    let park = |table: &str, source: &str, state: &str| {
        let (column, value) = match state {
            "parked" => (String::new(), String::new()),
            state => (", state".to_owned(), format!(", '{state}'")),
        };
        world.database.run(&format!(
            "DELETE FROM walpost.parked; DELETE FROM walpost.parked_done;
             INSERT INTO {table} (source, timeline, commit_lsn, ordinal, sequence, event_id,
                 payload_kind, committed_at, bytes, code, detail, attempts, parked_at, tried_at
                 {column})
             VALUES ('{source}', 1, '0/1', 0, 's', '{}', 'json', now(), 1, 'c', 'd', 0, now(),
                 now() {value})",
            gone.header("id")
        ));
        verify(&world, &[])
    };
    let (code, answer) = park("walpost.parked", &world.name, "parked");
    assert_eq!((code, counts(&answer)), (Some(0), vec![40, 39, 0, 0, 0, 0]), "{answer}");
    assert_eq!(answer["parked"], json!({"parked": 1}));
    let (code, answer) = park("walpost.parked_done", &world.name, "discarded");
    assert_eq!((code, &answer["parked"]), (Some(0), &json!({"discarded": 1})), "{answer}");
    // What was released should be there, and another source's events are not this one's.
    let (code, _) = park("walpost.parked_done", &world.name, "released");
    assert_eq!(code, Some(1));
    let (code, _) = park("walpost.parked", "another", "parked");
    assert_eq!(code, Some(1));
}

#[test]
fn what_cannot_be_told_is_exit_three_and_what_cannot_be_asked_is_two() {
    let world = World::json("untold");
    let run = |world: &World, more: &[&str]| -> Ended {
        let words = [&["verify", "--timeout", "1"], more].concat();
        verb(&words, Some(&world.config()), "")
    };
    let told = |ended: &Ended, code: i32, part: &str| {
        assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.log);
        assert!(ended.log.contains(part), "no {part:?} in {}", ended.log);
    };
    told(&run(&world, &[]), 3, "never ran");
    world.init();
    world.write(("v", "1"), "test.V", "'{}'");
    told(&run(&world, &[]), 3, "did not pass");
    told(&run(&world, &["--source", "nobody"]), 2, "nobody");
    told(&run(&world, &["--since", "yesterday"]), 2, "--since");
    let mut away = World::json("away");
    away.brokers = "127.0.0.1:1".to_owned();
    told(&run(&away, &[]), 3, "127.0.0.1:1");
    away.url = "postgres://postgres@127.0.0.1:1/postgres".to_owned();
    told(&run(&away, &[]), 3, "127.0.0.1:1");
    world.database.run("ALTER TABLE outbox DROP COLUMN seq CASCADE");
    told(&run(&world, &["--from-seq", "1"]), 2, "no column seq");
}

#[test]
fn parked_released_discarded_and_dead_lettered_events_are_counted_as_such() {
    let mut world = World::avro("aside").parking();
    let schema = crate::delivery::placed("Placed");
    world.registry.register(&world.subject("order", "test.Placed"), &schema);
    let event = |world: &World, key: &str, body: &str| {
        world.write(("order", key), "test.Placed", &format!("'{body}'"));
    };
    let (good, bad) = (r#"{"note": "n", "cents": 1, "writer": 1, "number": 1}"#, "{}");
    let relay = world.streaming();
    event(&world, "1", bad);
    event(&world, "1", good);
    // As many as it takes to have one in each partition.
    (2..10).for_each(|key| event(&world, &key.to_string(), good));
    world.drained(&relay);
    let (code, answer) = verify(&world, &["--late", "0"]);
    assert_eq!((code, counts(&answer)), (Some(0), vec![10, 8, 0, 0, 0, 0]), "{answer}");
    assert_eq!(answer["late"], json!(0), "{answer}");
    assert_eq!(answer["parked"], json!({"parked": 2}));
    // The head is given up, and what waited behind it is released.
    let head = world.parked_events()[0].0.clone();
    let done = world.parked(&["discard", "--event", &head, "--reason", "a test", "--yes"]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.log);
    world.parked(&["retry", "--all", "--yes"]);
    wait_for("the lot to be empty", || world.parked_events().is_empty().then_some(()));
    // What was released stands behind younger commits, by less than a minute.
    let (code, answer) = verify(&world, &["--late", "0"]);
    assert_eq!((code, counts(&answer)), (Some(0), vec![10, 9, 0, 0, 0, 0]), "{answer}");
    assert_eq!((&answer["late"], &answer["offenders"][0]["kind"]), (&json!(1), &json!("late")));
    assert_eq!(verify(&world, &[]).1["late"], json!(0));
    assert_eq!(answer["parked"], json!({"discarded": 1}));
    assert_eq!(relay.terminate().code, Some(0));
    // From now on what does not fit is given up at once.
    let letters = world.topic("dead");
    let dead = format!("on_unpublishable = \"dead-letter\"\ndead_letter_topic = \"{letters}\"\n");
    world.source.push_str(&dead);
    let relay = world.streaming();
    event(&world, "3", bad);
    event(&world, "3", good);
    world.drained(&relay);
    let (code, answer) = verify(&world, &[]);
    assert_eq!((code, counts(&answer)), (Some(0), vec![12, 10, 0, 0, 0, 0]), "{answer}");
    assert_eq!(answer["parked"], json!({"dead_lettered": 1, "discarded": 1}));
    drop(relay);
}
