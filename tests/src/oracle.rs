//! The judge: what was committed and what stands in Kafka in, a verdict out.
//!
//! Order is judged by `n`, which counts the commits of each aggregate while its row was locked; the
//! `lsn` header is only checked to say the same.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use walpost_schema::envelope::EventPosition;

use crate::Record;
use crate::avro::Decoder;

/// A committed event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    pub id: String,
    /// Type and id.
    pub aggregate: (String, String),
    pub n: i64,
    pub event_type: String,
    /// JSON, or hex for bytes; `None` is a tombstone.
    pub payload: Option<String>,
    pub headers: Option<String>,
}

/// How a record's value is compared with what was written.
#[derive(Debug)]
pub enum Form<'a> {
    /// Not at all: for faults, where the bytes are judged by other tests.
    Unread,
    Json,
    /// The truth holds hex.
    Bytes,
    Avro(&'a Decoder),
}

/// What the comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub committed: usize,
    pub delivered: usize,
    pub lost: Vec<String>,
    /// Records beyond the first of their event.
    pub duplicated: usize,
    pub out_of_order: Vec<String>,
    /// Keys found on more than one partition.
    pub split: Vec<String>,
    /// Records of events that were never committed.
    pub foreign: Vec<String>,
    /// Records that do not say what was written.
    pub differing: Vec<String>,
}

impl Verdict {
    /// Nothing lost, added, changed or overtaken; duplicates are allowed and returned.
    #[track_caller]
    pub fn assert_kept(&self) -> usize {
        for (what, list) in [
            ("lost", &self.lost),
            ("out of order", &self.out_of_order),
            ("split over partitions", &self.split),
            ("never committed", &self.foreign),
            ("different from what was written", &self.differing),
        ] {
            let first: Vec<&String> = list.iter().take(5).collect();
            assert!(list.is_empty(), "{} of {} {what}: {first:#?}", list.len(), self.committed);
        }
        assert_eq!(self.delivered, self.committed);
        println!("{} events, {} duplicates", self.committed, self.duplicated);
        self.duplicated
    }

    /// As [`Self::assert_kept`], and nothing twice.
    #[track_caller]
    pub fn assert_exact(&self) {
        assert_eq!(self.assert_kept(), 0, "duplicates");
    }
}

/// Compares. `records` stand in the order of their partitions.
pub fn judge(truth: &[Truth], records: &[Record], form: &Form<'_>) -> Verdict {
    let by_id: HashMap<&str, &Truth> =
        truth.iter().map(|event| (event.id.as_str(), event)).collect();
    let mut verdict = Verdict { committed: truth.len(), ..Verdict::default() };
    let mut seen = HashSet::new();
    let mut last: HashMap<&(String, String), (i64, EventPosition)> = HashMap::new();
    let mut places: HashMap<(&str, &[u8]), i32> = HashMap::new();
    for record in records {
        let place = format!("{}[{}]@{}", record.topic, record.partition, record.offset);
        let Some(event) = by_id.get(record.header("id")) else {
            verdict.foreign.push(format!("{place} with id {}", record.header("id")));
            continue;
        };
        if let Err(why) = compare(event, record, form) {
            verdict.differing.push(format!("{place}: {why}"));
        }
        let partition = places.entry((&record.topic, &record.key)).or_insert(record.partition);
        if *partition != record.partition {
            verdict.split.push(format!("{place}: key {}", record.key()));
        }
        if !seen.insert(record.header("id")) {
            verdict.duplicated += 1;
            continue;
        }
        verdict.delivered += 1;
        let Ok(position) = record.header("lsn").parse::<EventPosition>() else {
            verdict.differing.push(format!("{place}: lsn \"{}\"", record.header("lsn")));
            continue;
        };
        let before = last.insert(&event.aggregate, (event.n, position));
        if let Some((n, at)) = before.filter(|before| before.0 >= event.n || before.1 >= position) {
            let (now, id) = (event.n, &event.aggregate.1);
            verdict.out_of_order.push(format!("{place}: {id} #{now} {position} after #{n} {at}"));
        }
    }
    let lost = truth.iter().filter(|event| !seen.contains(event.id.as_str()));
    verdict.lost = lost.map(|event| format!("{:?} #{}", event.aggregate, event.n)).collect();
    verdict
}

fn compare(event: &Truth, record: &Record, form: &Form<'_>) -> Result<(), String> {
    let same = |what: &str, wanted: &str, found: &str| {
        if wanted == found { Ok(()) } else { Err(format!("{what} {found:?}, not {wanted:?}")) }
    };
    same("key", &event.aggregate.1, record.key())?;
    same("type", &event.event_type, record.header("type"))?;
    same("aggregate_type", &event.aggregate.0, record.header("aggregate_type"))?;
    match (&event.payload, &record.value, form) {
        (_, _, Form::Unread) | (None, None, _) => Ok(()),
        (None, Some(_), _) => Err("a value instead of a tombstone".to_owned()),
        (Some(_), None, _) => Err("a tombstone instead of a value".to_owned()),
        (Some(wanted), Some(found), Form::Bytes) => same("value", wanted, &hex(found)),
        (Some(wanted), Some(found), Form::Json) => {
            let found = serde_json::from_slice::<Value>(found).map_err(|e| e.to_string())?;
            same_json(&json(wanted), &found)
        }
        (Some(wanted), Some(found), Form::Avro(decoder)) => {
            let found = decoder.decode(found)?;
            crate::avro::same(&found, &json(wanted), "")
        }
    }
}

fn same_json(wanted: &Value, found: &Value) -> Result<(), String> {
    if wanted == found { Ok(()) } else { Err(format!("{found}, not {wanted}")) }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("the truth is json")
}

/// Lower case hex, as PostgreSQL's `encode` prints it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The inverse of [`hex`].
pub fn unhex(text: &str) -> Vec<u8> {
    let digit = |letter: u8| char::from(letter).to_digit(16).expect("hex") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
