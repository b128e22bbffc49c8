//! Prints nanoseconds per event of a six-field record: `cargo run --release -p walpost-schema
//! --example encode_speed`. Best of several rounds; a first look, not a benchmark.

use std::hint::black_box;
use std::time::Instant;

use walpost_schema::avro::Schema;
use walpost_schema::encode::{EncodeOptions, Plan};

const SCHEMA: &str = r#"{"type":"record","name":"OrderPlaced","namespace":"shop","fields":[
    {"name":"order_id","type":"string"},{"name":"customer","type":"string"},
    {"name":"total","type":"double"},{"name":"currency","type":"string"},
    {"name":"items","type":"int"},{"name":"note","type":["null","string"],"default":null}]}"#;

const IN_ORDER: &str = r#"{"order_id": "0193f3c2-7a51-7d3e-9c1f-2f6a7b8c9d0e",
"customer": "customer-000123456", "total": 1234.5, "currency": "EUR", "items": 3,
"note": "leave at the door, ring twice please, thanks"}"#;
const AS_JSONB: &str = r#"{"note": "leave at the door, ring twice please, thanks", "items": 3,
"total": 1234.5, "currency": "EUR", "customer": "customer-000123456",
"order_id": "0193f3c2-7a51-7d3e-9c1f-2f6a7b8c9d0e"}"#;
const SHUFFLED: &str = r#"{"items": 3, "currency": "EUR",
"order_id": "0193f3c2-7a51-7d3e-9c1f-2f6a7b8c9d0e",
"note": "leave at the door, ring twice please, thanks", "total": 1234.5,
"customer": "customer-000123456"}"#;
const DEFAULTED: &str = r#"{"order_id": "0193f3c2-7a51-7d3e-9c1f-2f6a7b8c9d0e",
"customer": "customer-000123456", "total": 1234.5, "currency": "EUR", "items": 3}"#;

fn main() {
    let schema = Schema::parse(SCHEMA, &[]).expect("schema parses");
    let plan = Plan::compile(&schema, &EncodeOptions::default()).expect("plan compiles");
    for (name, json) in [
        ("in order", IN_ORDER),
        ("as jsonb", AS_JSONB),
        ("shuffled", SHUFFLED),
        ("default", DEFAULTED),
    ] {
        let mut out = Vec::with_capacity(256);
        let encode = best(|| {
            out.clear();
            plan.encode(black_box(json), &mut out).expect("encodes");
        });
        let mut text = String::with_capacity(512);
        let decode = best(|| {
            text.clear();
            plan.decode(black_box(&out), &mut text).expect("decodes");
        });
        println!("{name}: {} B JSON, encode {encode:.0} ns, decode {decode:.0} ns", json.len());
    }
}

fn best(mut run: impl FnMut()) -> f64 {
    const EVENTS: u32 = 200_000;
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..EVENTS {
            run();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(EVENTS));
    }
    best
}
