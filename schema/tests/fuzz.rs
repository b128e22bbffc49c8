//! The fuzz entry points over a kept corpus and a few seconds of mutations of it. The seed is fixed
//! and printed; a case that fails goes into the corpus.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[allow(dead_code, reason = "no binary uses all of it")]
mod support;

use std::time::{Duration, Instant};

use apache_avro::reader::datum::GenericDatumReader;
use support::random::Random;
use walpost_schema::avro::Schema;
use walpost_schema::encode::{EncodeOptions, Plan};
use walpost_schema::fuzz;

fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// What the library accepts, the reference implementation reads.
fn reference_reads(data: &[u8]) {
    let Some(at) = data.iter().position(|byte| *byte == 0) else {
        return;
    };
    let (Ok(text), Ok(json)) =
        (std::str::from_utf8(&data[..at]), std::str::from_utf8(&data[at + 1..]))
    else {
        return;
    };
    // It refuses some schemas that Java reads.
    let (Ok(schema), Ok(theirs)) = (Schema::parse(text, &[]), apache_avro::Schema::parse_str(text))
    else {
        return;
    };
    let plan = Plan::compile(&schema, &EncodeOptions::default()).unwrap();
    let mut bytes = Vec::new();
    if plan.encode(json, &mut bytes).is_ok() {
        let reader = GenericDatumReader::builder(&theirs).build().unwrap();
        let mut rest = bytes.as_slice();
        let read = reader.read_value(&mut rest);
        assert!(read.is_ok(), "{text}\n{json}\n{read:?}");
        assert!(rest.is_empty(), "{text}\n{json}");
    }
}

fn run(data: &[u8]) {
    fuzz::fuzz_schema_parse(data);
    fuzz::fuzz_encode(data);
    fuzz::fuzz_decode(data);
    fuzz::fuzz_pair(data);
    reference_reads(data);
}

fn mutate(data: &mut Vec<u8>, random: &mut Random, corpus: &[Vec<u8>]) {
    const PIECES: [&[u8]; 20] = [
        b"\0",
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"1e999",
        b"-0.0",
        b"\\u0000",
        b"\\",
        b"\xff\xff\xff\xff\xff\x7f",
        b"\"a\":",
        b"2147483648",
        b"{\"A\":",
        b"0.5",
        b"\xc3\xa9",
        b"1970-01-01",
    ];
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        match random.below(6) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 if at < data.len() => {
                data.remove(at);
            }
            2 => {
                let piece = PIECES[random.below(PIECES.len())];
                data.splice(at..at, piece.iter().copied());
            }
            3 => {
                let end = (at + random.below(30)).min(data.len());
                let copy = data[at..end].to_vec();
                let to = random.below(data.len() + 1);
                data.splice(to..to, copy);
            }
            4 => {
                let end = (at + random.below(12)).min(data.len());
                data.drain(at..end);
            }
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                let end = (from + random.below(40)).min(other.len());
                data.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
}

#[test]
fn the_kept_corpus_breaks_no_promise() {
    let corpus = corpus();
    assert!(corpus.len() >= 10);
    corpus.iter().for_each(|data| run(data));
}

#[test]
fn mutations_of_the_corpus_break_no_promise() {
    const SEED: u64 = 20_261_121;
    let seconds = std::env::var("WALPOST_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let limit = Duration::from_secs(seconds.unwrap_or(4));
    let corpus = corpus();
    let mut random = Random::new(SEED);
    let start = Instant::now();
    let mut runs = 0u32;
    while start.elapsed() < limit {
        let mut data = corpus[random.below(corpus.len())].clone();
        mutate(&mut data, &mut random, &corpus);
        let result = std::panic::catch_unwind(|| run(&data));
        assert!(result.is_ok(), "seed {SEED}, run {runs}: {:?}", String::from_utf8_lossy(&data));
        runs += 1;
    }
    println!("{runs} runs from seed {SEED}");
}
