//! The comparison's outcome, for people and for programs.

use std::collections::BTreeMap;

/// Offenders kept of each kind; all are counted.
pub(super) const OFFENDERS_MAX: usize = 10;

/// How an event, or its record, breaks a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the glossary's")]
pub enum Offence {
    Lost,
    OutOfOrder,
    Split,
    Duplicated,
    Late,
    Moved,
    Unreadable,
}

impl Offence {
    /// As it stands in every output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::OutOfOrder => "out_of_order",
            Self::Split => "split",
            Self::Duplicated => "duplicated",
            Self::Late => "late",
            Self::Moved => "moved",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One of the first events of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The kind.
    pub offence: Offence,
    /// The event id; none where the record says none.
    pub id: Option<String>,
    /// `topic[partition]@offset`, where there is a record.
    pub place: Option<String>,
    /// Commit LSN and ordinal, where there is a record.
    pub lsn: Option<String>,
    /// What it stands behind, or where else its aggregate is.
    pub against: Option<String>,
}

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audited {
    /// Rows that were judged.
    pub committed: u64,
    /// Of these, with a record.
    pub delivered: u64,
    /// Of these, without a record and put aside: in the parking tables, by their state there, or
    /// in a dead letter topic.
    pub parked: BTreeMap<String, u64>,
    /// Of these, neither.
    pub lost: u64,
    /// Rows whose event id another row has already.
    pub repeated: u64,
    /// Rows without event id: not judged.
    pub unnamed: u64,
    /// Rows whose first copy lies outside the LSN window: not judged.
    pub outside: u64,
    /// Records beyond the first of their event.
    pub duplicated: u64,
    /// First copies that stand in their partition behind a record of a commit that came later than
    /// their own by more than the limit.
    pub late: u64,
    /// The longest such distance, in milliseconds; also of those within the limit.
    pub latest_ms: u32,
    /// Records that say that they were replayed, beyond the first.
    pub replayed: u64,
    /// First copies that stand behind a later one of their aggregate.
    pub out_of_order: u64,
    /// Aggregates on several partitions at the same time.
    pub split: u64,
    /// Aggregates that went from one partition to another and stayed there: partitions were added.
    pub moved: u64,
    /// First copies with a smaller `seq` than an earlier one of their aggregate: the order of
    /// commits is another than that of numbers, which is no fault.
    pub seq_inversions: u64,
    /// Records of events that no judged row has.
    pub others: u64,
    /// Records without a readable event id or position.
    pub unreadable: u64,
    /// The first of each kind.
    pub offenders: Vec<Named>,
    /// Bytes that the comparison put on disk.
    pub spilled: u64,
}

impl Audited {
    /// Nothing lost, nothing out of order.
    pub fn is_kept(&self) -> bool {
        self.lost == 0 && self.out_of_order == 0 && self.split == 0
    }
}

/// The first few by a key.
#[derive(Debug)]
pub(super) struct FirstFew<K>(pub(super) BTreeMap<K, Named>);

impl<K: Ord> FirstFew<K> {
    pub(super) fn add(&mut self, key: K, named: impl FnOnce() -> Named) {
        let is_early = self.0.last_key_value().is_none_or(|(last, _)| key < *last);
        if self.0.len() < OFFENDERS_MAX || is_early {
            self.0.insert(key, named());
        }
        while self.0.len() > OFFENDERS_MAX {
            self.0.pop_last();
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (key, named) in other.0 {
            self.add(key, || named);
        }
    }
}
