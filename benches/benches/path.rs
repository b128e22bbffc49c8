//! The pure steps of the path, each by itself, on a row of about 190 B of JSON.

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use walpost::confirm::{Enqueued, Ledger, Target};
use walpost::decode::{Message, Oid, decode};
use walpost::event::{ColumnNames, EventReader, OutboxTable};
use walpost::lsn::{CommitEnd, CommitLsn, Lsn};
use walpost::position::{Frontier, Offsets, Place};
use walpost::transaction::Transactions;
use walpost_schema::avro::Schema;
use walpost_schema::encode::{EncodeOptions, Plan};
use walpost_schema::envelope::EventPosition;

const JSON: &str = concat!(
    r#"{"seq": 17, "note": "c4ca4238a0b923820dcc509a6f75849bc81e728d9d4c2f636f067f89cc14862c","#,
    r#" "amount": 123.45, "status": "placed", "currency": "EUR", "customer": "customer-17","#,
    r#" "order_id": "agg-00000017"}"#
);

const SCHEMA: &str = r#"{"type": "record", "name": "OrderPlaced", "fields": [
    {"name": "seq", "type": "long"}, {"name": "order_id", "type": "string"},
    {"name": "customer", "type": "string"},
    {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal",
        "precision": 12, "scale": 2}},
    {"name": "currency", "type": "string"}, {"name": "status", "type": "string"},
    {"name": "note", "type": ["null", "string"], "default": null}]}"#;

/// An insert as pgoutput writes it.
fn insert() -> Vec<u8> {
    let cells =
        ["1", "018f3e2a-7b4c-7d1e-8a2b-3c4d5e6f7a8b", "order", "agg-00000017", "OrderPlaced", JSON];
    let mut bytes = b"I\0\0\0\x0AN\0\x06".to_vec();
    for cell in cells {
        bytes.push(b't');
        bytes.extend(u32::try_from(cell.len()).expect("short").to_be_bytes());
        bytes.extend(cell.as_bytes());
    }
    bytes
}

fn relation() -> Vec<u8> {
    let columns = [
        ("seq", 20u32),
        ("id", 2950),
        ("aggregate_type", 25),
        ("aggregate_id", 25),
        ("event_type", 25),
        ("payload", 3802),
    ];
    let mut bytes = b"R\0\0\0\x0Apublic\0outbox\0d\0\x06".to_vec();
    for (name, oid) in columns {
        bytes.push(0);
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.extend(oid.to_be_bytes());
        bytes.extend((-1i32).to_be_bytes());
    }
    bytes
}

fn reader() -> EventReader {
    let mut reader = EventReader::new(OutboxTable {
        oid: Oid(10),
        namespace: "public".to_owned(),
        name: "outbox".to_owned(),
        partitions: HashSet::new(),
        is_partitioned: false,
        columns: ColumnNames::default(),
    });
    let bytes = relation();
    match decode(&bytes).expect("relation") {
        Message::Relation(relation) => reader.describe(&relation).expect("table"),
        other => panic!("not a relation: {other:?}"),
    };
    reader
}

fn decoding(criterion: &mut Criterion) {
    let (bytes, reader) = (insert(), reader());
    let mut transactions = Transactions::new();
    let time = walpost::decode::PostgresMicros(0);
    transactions.begin(CommitLsn(Lsn(1)), time).expect("begin");
    let open = transactions.open("insert").expect("open");
    let mut group = criterion.benchmark_group("path");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode an insert into an event", |bencher| {
        bencher.iter(|| match decode(black_box(&bytes)) {
            Ok(Message::Insert { row, .. }) => {
                black_box(reader.read_row(row, open).expect("event").id.len())
            }
            other => panic!("not an insert: {other:?}"),
        });
    });
    let schema = Schema::parse(SCHEMA, &[]).expect("schema");
    let plan = Plan::compile(&schema, &EncodeOptions::default()).expect("plan");
    let mut out = Vec::new();
    group.bench_function("encode 190 B of JSON as Avro", |bencher| {
        bencher.iter(|| {
            out.clear();
            plan.encode(black_box(JSON), &mut out).expect("fits");
            black_box(out.len())
        });
    });
    group.finish();
}

/// A transaction of ten events through the ledger: enqueued, delivered, confirmed.
fn confirming(criterion: &mut Criterion) {
    let mut offsets = Offsets::default();
    let topic = offsets.enter(&Arc::from("events.order"), &[0]);
    let (generation, _) = offsets.snapshot();
    offsets.secure(generation);
    let place = Place { topic, partition: 0 };
    let mut ledger = Ledger::new(Frontier::default(), offsets);
    let mut commit = 0u64;
    let mut group = criterion.benchmark_group("path");
    group.throughput(Throughput::Elements(10));
    group.bench_function("confirm ten events of a transaction", |bencher| {
        bencher.iter(|| {
            commit += 100;
            let first = ledger.next_seq().0;
            ledger.begin();
            for ordinal in 0..10 {
                let position = EventPosition { commit_lsn: commit, ordinal };
                let target = Target::Kafka(place);
                ledger.enqueue(Enqueued { position, commit_unix_ms: 0, target, bytes: 300 });
            }
            ledger.commit(CommitEnd(Lsn(commit + 8)));
            for seq in (first..first + 10).rev() {
                ledger.deliver(walpost::confirm::EventSeq(seq), seq.cast_signed());
            }
            ledger.record(ledger.frontier());
            black_box(ledger.confirmed())
        });
    });
    group.finish();
}

criterion_group!(benches, decoding, confirming);
criterion_main!(benches);
