//! What is committed arrives, whole and once, in every form a route can ask for.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use walpost_tests::avro::Decoder;
use walpost_tests::oracle::{Form, unhex};
use walpost_tests::postgres::PayloadType;
use walpost_tests::workload::{self, Random};
use walpost_tests::{CANARY, Workload, World};

/// The schema of what [`Workload`] writes.
pub(crate) fn placed(name: &str) -> Value {
    json!({"type": "record", "name": name, "namespace": "test", "fields": [
        {"name": "note", "type": "string"},
        {"name": "cents", "type": "long"},
        {"name": "writer", "type": "int"},
        {"name": "number", "type": ["null", "long"], "default": null},
        {"name": "n", "type": "long"},
    ]})
}

#[test]
fn ten_thousand_transactions_arrive_as_avro_that_the_reference_reader_reads_back() {
    let world = World::avro("tenk");
    world.registry.register(&world.subject("order", "test.Placed"), &placed("Placed"));
    let relay = world.streaming();
    Workload { transactions: 2_500, aggregates: 500, ..Workload::default() }.run(&world.database);
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    world.judge(&Form::Avro(&world.decoder())).assert_exact();
}

#[test]
fn json_routes_carry_the_text_of_json_and_text_columns_unchanged() {
    for payload in [PayloadType::Json, PayloadType::Text] {
        let world = World::new("jsontext", payload, "json");
        let relay = world.streaming();
        Workload { transactions: 50, ..Workload::default() }.run(&world.database);
        world.write(("exact", "1"), "test.Exact", "'{\"a\": 1.50, \"b\": \"\\u00e4\"}'");
        let sql = "SELECT payload FROM truth WHERE aggregate_type = 'exact'";
        let text = world.database.ask(sql);
        world.drained(&relay);
        assert_eq!(world.records_of("exact")[0].text(), text, "the text as it was written");
        drop(relay);
        world.judge(&Form::Json).assert_exact();
    }
}

#[test]
fn bytes_routes_carry_any_bytes_and_a_null_is_a_tombstone() {
    let world = World::new("bytes", PayloadType::Bytea, "bytes");
    let relay = world.streaming();
    let mut client = world.database.client();
    let all: Vec<u8> = (0..=255).collect();
    let mut random = Random::new(3);
    for number in 0..200_u32 {
        let length = usize::try_from(random.below(2_000)).expect("a small number");
        let body: Option<Vec<u8>> = match number {
            0 => Some(all.clone()),
            1 => Some(Vec::new()),
            2 => None,
            _ => Some((0..length).map(|_| random.number().to_le_bytes()[0]).collect()),
        };
        let sql = "SELECT write_bytes('file', $1, 'test.File', $2)";
        client.execute(sql, &[&(number % 7).to_string(), &body]).expect("an event");
    }
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Bytes).assert_exact();
    let tombstones = world.records().iter().filter(|record| record.value.is_none()).count();
    assert_eq!(tombstones, 1, "an empty value is no tombstone");
}

#[test]
fn framed_avro_in_a_bytea_column_passes_through_unchanged() {
    let world = World::new("through", PayloadType::Bytea, "avro-passthrough");
    let schema = json!({"type": "record", "name": "Raw", "namespace": "test", "fields": [
        {"name": "text", "type": "string"}]});
    let id = world.registry.register(&world.subject("raw", "test.Raw"), &schema);
    let relay = world.streaming();
    let framed = format!("00{id:08x}0a68656c6c6f");
    let sql = format!("SELECT write_bytes('raw', '1', 'test.Raw', decode('{framed}', 'hex'))");
    world.database.run(&sql);
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Bytes).assert_exact();
    let records = world.records();
    let value = records[0].value.as_deref().expect("a value");
    assert_eq!(value, unhex(&framed));
    let read = world.decoder().decode(value).expect("a datum");
    walpost_tests::avro::same(&read, &json!({"text": "hello"}), "").expect("hello");
}

/// The record of a row with everything in it.
#[test]
fn a_record_has_the_headers_of_the_wire_format_and_no_others() {
    let world = World::json("headers");
    let relay = world.streaming();
    let own = json!({"traceparent": "00-ab-cd-01", "id": "fake", "lsn": "0/0:0", "released": "no",
        "created_at": "fake", "source": "fake", "umlaut": "ä€", "none": null, "number": 7});
    let v7 = "01890a5d-ac96-774b-bcce-b302099a8057";
    let sql = format!("SELECT write_event('h', 'k1', 'test.H', '{{}}', '{own}', '{v7}')");
    world.database.run(&sql);
    world.write(("h", "k1"), "test.H", "'{}'");
    world.drained(&relay);
    let records = world.records();
    let [first, second] = records.as_slice() else { panic!("{records:#?}") };
    let mut names = first.header_names();
    assert_eq!(names[..5], ["id", "type", "aggregate_type", "source", "lsn"], "ours, in order");
    names.sort_unstable();
    let wanted = [
        "aggregate_type",
        "id",
        "lsn",
        "none",
        "number",
        "source",
        "traceparent",
        "type",
        "umlaut",
    ];
    assert_eq!(names, wanted, "reserved names of the row are dropped");
    assert_eq!(first.header("id"), v7);
    assert_eq!(first.header("source"), format!("{}/1", world.name));
    assert_eq!(first.header("traceparent"), "00-ab-cd-01", "plain text without quotes");
    assert_eq!(first.header("umlaut"), "ä€");
    assert_eq!(first.header("number"), "7");
    assert!(first.headers.contains(&("none".to_owned(), None)), "{:?}", first.headers);
    let of_second = ["id", "type", "aggregate_type", "source", "lsn", "created_at"];
    assert_eq!(second.header_names(), of_second, "an id without a time brings created_at");
    let created = second.header("created_at");
    assert!(created.ends_with('Z') && created.contains('T'), "RFC 3339 in UTC: {created}");
    let seconds = "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS') \
                   FROM outbox ORDER BY seq DESC LIMIT 1";
    assert!(created.starts_with(&world.database.ask(seconds)), "{created}");
    let skipped = relay.metric(
        &world.series("walpost_skipped_events_total{source=\"SOURCE\",reason=\"reserved_header\"}"),
    );
    assert_eq!(skipped, 5.0);
}

#[test]
fn the_timestamp_is_the_commit_time_and_the_lsn_header_counts_within_the_commit() {
    let world = World::json("stamp");
    let relay = world.streaming();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_millis();
    world.database.run(
        "BEGIN; SELECT write_event('s', '1', 'test.S', '{}'); SELECT pg_sleep(0.4);
         SELECT write_event('s', '1', 'test.S', '{}'); COMMIT;",
    );
    let after = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_millis();
    world.drained(&relay);
    drop(relay);
    let records = world.records();
    assert_eq!(records[0].timestamp_ms, records[1].timestamp_ms, "one commit, one time");
    let stamp = u128::try_from(records[0].timestamp_ms).expect("a time");
    assert!(stamp >= before + 400 && stamp <= after, "{before} {stamp} {after}");
    let (lsn, ordinal) = records[0].header("lsn").rsplit_once(':').expect("an lsn");
    assert_eq!(ordinal, "0");
    assert_eq!(records[1].header("lsn"), format!("{lsn}:1"));
}

#[test]
fn kcat_reads_the_same_keys_and_headers() {
    let world = World::json("kcat");
    let relay = world.streaming();
    for key in ["plain", "ä€🦀", "with space"] {
        world.write(("k", key), "test.K", "'{\"a\": 1}'");
    }
    world.drained(&relay);
    drop(relay);
    let kcat = std::process::Command::new("kcat")
        .args(["-C", "-e", "-q", "-J", "-b", &world.cluster.bootstrap, "-t", &world.topic("k")])
        .output()
        .expect("kcat runs");
    let text = String::from_utf8(kcat.stdout).expect("utf-8");
    let mut keys = Vec::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).expect("json");
        keys.push(record["key"].as_str().expect("a key").to_owned());
        let headers = record["headers"].as_array().expect("headers");
        assert_eq!(headers[0], "id");
        assert_eq!(
            headers[2..8],
            [
                json!("type"),
                json!("test.K"),
                json!("aggregate_type"),
                json!("k"),
                json!("source"),
                json!(format!("{}/1", world.name))
            ]
        );
        assert_eq!(record["payload"], "{\"a\": 1, \"n\": 1}");
    }
    keys.sort();
    assert_eq!(keys, ["plain", "with space", "ä€🦀"]);
}

#[test]
fn a_backlog_from_before_the_start_arrives_too() {
    let world = World::json("backlog");
    workload::backlog(&world.database, 500, 20, 100);
    let relay = world.start();
    world.drained(&relay);
    assert_eq!(relay.terminate().code, Some(0));
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn every_shape_of_schema_arrives_field_by_field() {
    let world = World::avro("shapes");
    let schema = json!({"type": "record", "name": "Shapes", "namespace": "test", "fields": [
        {"name": "n", "type": "long"},
        {"name": "flag", "type": "boolean"},
        {"name": "ratio", "type": "double"},
        {"name": "small", "type": "float"},
        {"name": "words", "type": {"type": "array", "items": "string"}},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "color", "type": {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}},
        {"name": "raw", "type": "bytes"},
        {"name": "pair", "type": {"type": "fixed", "name": "Pair", "size": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "maybe", "type": ["null", "string"], "default": null},
        {"name": "next", "type": ["null", {"type": "record", "name": "Node", "fields": [
            {"name": "value", "type": "string"},
            {"name": "next", "type": ["null", "Node"], "default": null}]}], "default": null}
    ]});
    world.registry.register(&world.subject("shape", "test.Shapes"), &schema);
    let relay = world.streaming();
    let body = json!({"flag": true, "ratio": -0.1, "small": 0.5, "words": ["", CANARY, "ä"],
        "counts": {"a": 1, "b": -2}, "color": "BLUE", "raw": "Af8=", "pair": "YWI=",
        "at": 1_700_000_000_123_i64, "day": 19_000, "maybe": "x",
        "next": {"value": "1", "next": {"value": "2"}}});
    let body = body.to_string().replace("'", "''");
    world.write(("shape", "1"), "test.Shapes", &format!("'{body}'"));
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Avro(&world.decoder())).assert_exact();
    let records = world.records();
    assert!(Decoder::id(records[0].value.as_deref().expect("a value")).is_some());
}
