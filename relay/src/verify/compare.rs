//! The comparison itself: pure.

use std::collections::{HashMap, HashSet};

use walpost_schema::envelope::{self, EventPosition};

use crate::consume::ReadRecord;

/// Offenders kept by kind; all are counted.
const OFFENDERS_MAX: usize = 10;

/// A committed outbox row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Committed {
    /// The event id.
    pub id: String,
    /// The aggregate: type and id.
    pub aggregate: (String, String),
}

/// An event that breaks a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offender {
    /// lost, duplicated, out_of_order, split or unreadable.
    pub kind: &'static str,
    /// The event, or the place of a record without one.
    pub what: String,
}

/// The verifier's table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Rows committed.
    pub committed: u64,
    /// Of these, how many are in the topics.
    pub delivered: u64,
    /// Of these, how many are not.
    pub lost: u64,
    /// Records beyond the first of their event.
    pub duplicated: u64,
    /// First copies that stand after a later one of their aggregate.
    pub out_of_order: u64,
    /// Aggregates found on more than one partition.
    pub split: u64,
    /// Records of events that are not among the committed rows.
    pub foreign: u64,
    /// Records without a readable id or position.
    pub unreadable: u64,
    /// The first few of each kind.
    pub offenders: Vec<Offender>,
}

impl Verdict {
    /// Nothing lost, nothing out of order, every aggregate in one place.
    pub fn is_kept(&self) -> bool {
        self.lost == 0 && self.out_of_order == 0 && self.split == 0 && self.unreadable == 0
    }
}

/// Takes records one by one, in the order of their partitions.
#[derive(Debug, Default)]
pub struct Judge {
    committed: HashMap<String, (String, String)>,
    seen: HashSet<String>,
    /// The last first copy of each aggregate in each partition. The aggregate is the row's: a relay
    /// that writes wrong keys must not be judged by them.
    last: HashMap<(String, i32, (String, String)), EventPosition>,
    /// The partition of each aggregate in each topic.
    partitions: HashMap<(String, (String, String)), i32>,
    verdict: Verdict,
}

impl Judge {
    /// Judges against these rows.
    pub fn new(committed: impl IntoIterator<Item = Committed>) -> Self {
        let committed: HashMap<_, _> =
            committed.into_iter().map(|row| (row.id, row.aggregate)).collect();
        let verdict = Verdict { committed: committed.len() as u64, ..Verdict::default() };
        Self { committed, verdict, ..Self::default() }
    }

    /// Looks at a record.
    pub fn look(&mut self, record: &ReadRecord) {
        let id = record.header(envelope::HEADER_ID).map(str::to_owned);
        let position = record.header(envelope::HEADER_LSN).and_then(|text| text.parse().ok());
        let (Some(id), Some(position)) = (id, position) else {
            self.verdict.unreadable += 1;
            let place = format!("{}[{}]@{}", record.topic, record.partition, record.offset);
            self.blame("unreadable", place);
            return;
        };
        let Some(aggregate) = self.committed.get(&id).cloned() else {
            self.verdict.foreign += 1;
            return;
        };
        if !self.seen.insert(id.clone()) {
            self.verdict.duplicated += 1;
            self.blame("duplicated", id);
            return;
        }
        self.verdict.delivered += 1;
        let place = (record.topic.clone(), aggregate.clone());
        if *self.partitions.entry(place).or_insert(record.partition) != record.partition {
            self.verdict.split += 1;
            self.blame("split", id.clone());
        }
        let chain = (record.topic.clone(), record.partition, aggregate);
        match self.last.insert(chain, position) {
            Some(last) if last > position => {
                self.verdict.out_of_order += 1;
                self.blame("out_of_order", id);
            }
            _ => {}
        }
    }

    /// Whether every committed row has been seen.
    pub fn is_complete(&self) -> bool {
        self.seen.len() == self.committed.len()
    }

    /// The verdict over everything looked at.
    pub fn finish(mut self) -> Verdict {
        let mut lost: Vec<String> =
            self.committed.keys().filter(|id| !self.seen.contains(*id)).cloned().collect();
        lost.sort();
        self.verdict.lost = lost.len() as u64;
        for id in lost {
            self.blame("lost", id);
        }
        self.verdict
    }

    fn blame(&mut self, kind: &'static str, what: String) {
        let known = self.verdict.offenders.iter().filter(|offender| offender.kind == kind).count();
        if known < OFFENDERS_MAX {
            self.verdict.offenders.push(Offender { kind, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, aggregate: &str) -> Committed {
        Committed { id: id.to_owned(), aggregate: ("order".to_owned(), aggregate.to_owned()) }
    }

    fn record(id: &str, key: &str, lsn: &str, partition: i32) -> ReadRecord {
        let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        ReadRecord {
            topic: "t".to_owned(),
            partition,
            offset: 0,
            timestamp_ms: None,
            key: Some(key.as_bytes().to_vec()),
            value: None,
            headers: vec![header("id", id), header("lsn", lsn)],
        }
    }

    fn judge(records: &[ReadRecord]) -> Verdict {
        let mut judge = Judge::new([row("a", "1"), row("b", "1"), row("c", "2")]);
        records.iter().for_each(|record| judge.look(record));
        judge.finish()
    }

    #[test]
    fn a_sound_topic_is_found_sound() {
        let verdict = judge(&[
            record("a", "1", "0/10:0", 0),
            record("c", "2", "0/5:0", 1),
            record("b", "1", "0/10:1", 0),
            record("x", "9", "0/1:0", 0),
        ]);
        assert!(verdict.is_kept());
        assert_eq!((verdict.delivered, verdict.duplicated, verdict.foreign), (3, 0, 1));
    }

    #[test]
    fn every_way_of_breaking_a_topic_is_caught() {
        let lost = judge(&[record("a", "1", "0/10:0", 0), record("c", "2", "0/5:0", 1)]);
        assert_eq!((lost.lost, lost.is_kept()), (1, false));
        let reordered = judge(&[
            record("b", "1", "0/20:0", 0),
            record("a", "1", "0/10:0", 0),
            record("c", "2", "0/5:0", 1),
        ]);
        assert_eq!((reordered.out_of_order, reordered.is_kept()), (1, false));
        let split = judge(&[
            record("a", "1", "0/10:0", 0),
            record("b", "1", "0/20:0", 1),
            record("c", "2", "0/5:0", 1),
        ]);
        assert_eq!((split.split, split.is_kept()), (1, false));
        let unreadable = judge(&[record("a", "1", "10", 0)]);
        assert_eq!(unreadable.unreadable, 1);
    }

    #[test]
    fn an_aggregate_whose_records_have_wrong_keys_is_not_lost_from_sight() {
        let split = judge(&[
            record("a", "1", "0/10:0", 0),
            record("b", "x", "0/20:0", 1),
            record("c", "2", "0/5:0", 1),
        ]);
        assert_eq!((split.split, split.is_kept()), (1, false));
        let reordered = judge(&[
            record("b", "x", "0/20:0", 0),
            record("a", "1", "0/10:0", 0),
            record("c", "2", "0/5:0", 1),
        ]);
        assert_eq!((reordered.out_of_order, reordered.is_kept()), (1, false));
    }

    #[test]
    fn second_copies_are_counted_and_judged_for_nothing_else() {
        let verdict = judge(&[
            record("a", "1", "0/10:0", 0),
            record("b", "1", "0/20:0", 0),
            record("a", "1", "0/10:0", 0),
            record("b", "1", "0/20:0", 0),
            record("c", "2", "0/5:0", 1),
        ]);
        assert!(verdict.is_kept());
        assert_eq!(verdict.duplicated, 2);
    }
}
