//! The checker: one pair, and lines as `walpost schema check --batch` reads them.
//!
//! Bounds: a pair of 50-field records under 20 us; 20,000 lines a second on one core, which is
//! 50 us for a line with two small schemas, its answer included.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use walpost::cli::batch_answer;
use walpost_schema::avro::Schema;
use walpost_schema::compat::{check, gate};

/// A record whose last field is of this type; the others are of five kinds.
fn record(fields: usize, last: &str) -> String {
    let kinds = [
        "\"string\"",
        "[\"null\",\"long\"]",
        "{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}",
        "{\"type\":\"array\",\"items\":\"int\"}",
        "\"double\"",
    ];
    let mut text = String::from(r#"{"type":"record","name":"shop.Wide","fields":["#);
    for at in 0..fields - 1 {
        let _ = write!(text, r#"{{"name":"field_{at}","type":{}}},"#, kinds[at % kinds.len()]);
    }
    let _ = write!(text, r#"{{"name":"last","type":{last}}}]}}"#);
    text
}

fn pair(criterion: &mut Criterion) {
    let parse = |last| Schema::parse(&record(50, last), &[]).expect("schema");
    let (writer, reader, broken) = (parse("\"int\""), parse("\"long\""), parse("\"boolean\""));
    assert!(check(&reader, &writer).is_compatible() && !check(&broken, &writer).is_compatible());
    let mut group = criterion.benchmark_group("compat");
    group.throughput(Throughput::Elements(1));
    group.bench_function("gate, a pair of 50-field records", |bencher| {
        bencher.iter(|| black_box(gate(black_box(&reader), black_box(&writer))));
    });
    group.bench_function("check, a pair of 50-field records", |bencher| {
        bencher.iter(|| black_box(check(black_box(&reader), black_box(&writer))));
    });
    group.bench_function("check, the same with a finding", |bencher| {
        bencher.iter(|| black_box(check(black_box(&broken), black_box(&writer))));
    });
    group.finish();
}

fn batch(criterion: &mut Criterion) {
    let line = |fields: usize| {
        let (reader, writer) = (record(fields, "\"boolean\""), record(fields, "\"int\""));
        format!(r#"{{"id":1,"reader":{reader},"writer":{writer}}}"#)
    };
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(1));
    for fields in [2, 5, 50] {
        let line = line(fields);
        group.bench_function(format!("a line of two {fields}-field records"), |bencher| {
            bencher.iter(|| black_box(batch_answer(black_box(line.as_bytes()))));
        });
    }
    group.finish();
}

criterion_group!(compat, pair, batch);
criterion_main!(compat);
