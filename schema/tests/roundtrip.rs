//! Random schemas and data: `apache-avro` reads from our bytes what was meant, and our decoder's
//! text makes the same bytes again.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[allow(dead_code, reason = "no binary uses all of it")]
mod support;

use apache_avro::reader::datum::GenericDatumReader;
use proptest::prelude::*;
use support::random::{Random, random_type, same};
use walpost_schema::avro::Schema;
use walpost_schema::encode::{EncodeOptions, Plan};

fn round_trip(seed: u64) {
    let mut random = Random::new(seed);
    let kind = random_type(&mut random, 4, &mut 0);
    let text = kind.schema();
    let schema = Schema::parse(&text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
    let theirs = apache_avro::Schema::parse_str(&text).unwrap();
    let reader = GenericDatumReader::builder(&theirs).build().unwrap();
    let plan = Plan::compile(&schema, &EncodeOptions::default()).unwrap();
    for _ in 0..4 {
        let mut json = String::new();
        let Some(datum) = kind.datum(&mut random, &mut json) else {
            continue;
        };
        let mut bytes = Vec::new();
        plan.encode(&json, &mut bytes).unwrap_or_else(|errors| panic!("{text}\n{json}\n{errors}"));
        let value = reader.read_value(&mut bytes.as_slice()).unwrap();
        assert!(same(&datum, &value), "{text}\n{json}\n{datum:?}\n{value:?}");
        plan.validate(&bytes).unwrap_or_else(|error| panic!("{text}\n{json}\n{error}"));
        let mut again = String::new();
        plan.decode(&bytes, &mut again).unwrap();
        let mut bytes_again = Vec::new();
        let encoded = plan.encode(&again, &mut bytes_again);
        encoded.unwrap_or_else(|errors| panic!("{text}\n{json}\n{again}\n{errors}"));
        assert_eq!(bytes_again, bytes, "{text}\n{json}\n{again}");
        for len in 0..bytes.len() {
            assert!(plan.validate(&bytes[..len]).is_err(), "{text}\n{json}: cut at {len}");
        }
        bytes.push(0);
        assert!(plan.validate(&bytes).is_err(), "{text}\n{json}: with a byte more");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn apache_avro_reads_what_was_meant_and_our_text_makes_the_same_bytes(seed in any::<u64>()) {
        round_trip(seed);
    }
}
