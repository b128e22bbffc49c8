//! How long checking takes: `cargo run --release -p walpost-schema --example compat_speed`.
//!
//! Estimate: a field of the same primitive is two look-ups and a comparison, 50 ns; 50 fields with
//! some unions and records 5 us. Parsing reads 2 to 5 KB of JSON at some 100 MB/s and makes places
//! and names, 20 us a schema.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use walpost_schema::avro::Schema;
use walpost_schema::compat::{check, gate};

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
        let kind = kinds.get(at % kinds.len()).copied().unwrap_or_default();
        let _ = write!(text, r#"{{"name":"field_{at}","type":{kind}}},"#);
    }
    let _ = write!(text, r#"{{"name":"last","type":{last}}}]}}"#);
    text
}

fn measure(name: &str, mut work: impl FnMut()) {
    let mut runs = 0u32;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        for _ in 0..20 {
            work();
        }
        runs += 20;
    }
    let each = start.elapsed() / runs;
    println!(
        "{name}: {:.2} us, {:.0} a second",
        each.as_secs_f64() * 1e6,
        1.0 / each.as_secs_f64()
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (old, new) = (record(50, "\"int\""), record(50, "\"long\""));
    let (writer, reader) = (Schema::parse(&old, &[])?, Schema::parse(&new, &[])?);
    let broken = Schema::parse(&record(50, "\"boolean\""), &[])?;
    println!("a pair of 50-field records, {} bytes each", old.len());
    measure("gate", || _ = black_box(gate(black_box(&reader), black_box(&writer))));
    measure("check, all severities", || {
        _ = black_box(check(black_box(&reader), black_box(&writer)));
    });
    measure("check with one finding", || {
        _ = black_box(check(black_box(&broken), black_box(&writer)));
    });
    measure("parse one", || _ = black_box(Schema::parse(black_box(&old), &[])));
    let small = record(5, "\"int\"");
    measure("parse two of 5 fields and check", || {
        if let (Ok(a), Ok(b)) = (Schema::parse(&small, &[]), Schema::parse(&small, &[])) {
            black_box(check(&a, &b));
        }
    });
    Ok(())
}
