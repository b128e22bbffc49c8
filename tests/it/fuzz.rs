//! Plain `fn(&[u8])` targets, driven on stable: seconds over the kept transcripts and mutations of
//! them, minutes with `cargo x fuzz`. A failure prints seed and input.

use std::time::{Duration, Instant};

use walpost::decode::{Message, decode};
use walpost_tests::is_long;
use walpost_tests::oracle::{hex, unhex};
use walpost_tests::workload::Random;

/// No input makes the decoder panic, and what it takes for whole is self-consistent.
fn decode_target(input: &[u8]) {
    let Ok(message) = decode(input) else { return };
    match message {
        Message::Insert { row, .. } => assert_eq!(row.cells().count(), row.width()),
        Message::Relation(relation) => assert!(relation.columns.len() <= input.len()),
        Message::Logical { content, prefix, .. } => {
            assert!(content.len() + prefix.len() <= input.len());
        }
        _ => {}
    }
}

/// A kept message with a few bytes changed, cut, inserted or taken from another one.
fn mutate(random: &mut Random, from: &[Vec<u8>]) -> Vec<u8> {
    let pick = |random: &mut Random| {
        let index = usize::try_from(random.below(from.len() as u64)).unwrap_or(0);
        from[index].clone()
    };
    let mut input = pick(random);
    for _ in 0..=random.below(4) {
        let at = usize::try_from(random.below(input.len().max(1) as u64)).unwrap_or(0);
        match random.below(6) {
            0 => input.truncate(at),
            1 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            2 if !input.is_empty() => input[at] = random.number().to_le_bytes()[0],
            3 => input.insert(at, random.number().to_le_bytes()[0]),
            4 => {
                let other = pick(random);
                let start = usize::try_from(random.below(other.len().max(1) as u64)).unwrap_or(0);
                input.truncate(at);
                input.extend_from_slice(&other[start.min(other.len())..]);
            }
            _ if input.len() >= at + 4 => {
                let large = [0xFF_u8, 0xFF, 0xFF, random.number().to_le_bytes()[0]];
                input[at..at + 4].copy_from_slice(&large);
            }
            _ => {}
        }
    }
    input
}

fn corpus() -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let files = std::fs::read_dir(folder).expect("the kept transcripts");
    let texts = files.filter_map(|file| {
        let path = file.ok()?.path();
        (path.extension()? == "hex").then(|| std::fs::read_to_string(path).ok())?
    });
    texts.flat_map(|text| text.lines().map(unhex).collect::<Vec<_>>()).collect()
}

#[test]
fn fuzz_decode_never_panics() {
    let corpus = corpus();
    assert!(corpus.len() > 100, "{} messages", corpus.len());
    for input in &corpus {
        decode_target(input);
    }
    let limit = Duration::from_secs(if is_long() { 180 } else { 3 });
    let start = Instant::now();
    let mut seed = 0;
    while start.elapsed() < limit {
        for _ in 0..1_000 {
            seed += 1;
            let input = mutate(&mut Random::new(seed), &corpus);
            let caught = std::panic::catch_unwind(|| decode_target(&input));
            assert!(caught.is_ok(), "seed {seed}: {}", hex(&input));
        }
    }
    println!("{seed} inputs");
}
