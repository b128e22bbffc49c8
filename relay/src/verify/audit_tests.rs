//! The audit against a plain comparison in memory, on random topics that are broken in every way,
//! with and without room.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::super::entry::{Nature, Order};
use super::*;

/// Numbers that are always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

struct Row {
    id: String,
    aggregate: String,
    seq: i64,
}

struct Placed {
    id: String,
    copy: Copy,
}

#[derive(Default)]
struct Case {
    rows: Vec<Row>,
    records: Vec<Placed>,
    parked: Vec<String>,
}

impl Case {
    fn new(aggregates: &[&str]) -> Self {
        let row = |(at, aggregate): (usize, &&str)| Row {
            id: format!("event-{at}"),
            aggregate: (*aggregate).to_owned(),
            seq: at as i64,
        };
        Case { rows: aggregates.iter().enumerate().map(row).collect(), ..Case::default() }
    }

    /// Appends a record of an event to a partition.
    fn put(&mut self, event: &str, partition: i32, commit_lsn: u64) -> &mut Copy {
        let in_partition = self.records.iter().filter(|one| one.copy.spot.partition == partition);
        let offset = in_partition.count() as i64;
        let copy = Copy {
            spot: Spot { topic: 0, partition, offset },
            order: Order { timeline: 1, commit_lsn, ordinal: 0 },
            timestamp_ms: self.records.len() as i64,
            behind_ms: 0,
            nature: Nature::Event,
        };
        self.records.push(Placed { id: event.to_owned(), copy });
        &mut self.records.last_mut().expect("the record").copy
    }

    fn audit(&self, memory: usize) -> Audited {
        self.audit_within(memory, 0..=u64::MAX)
    }

    fn audit_within(&self, memory: usize, window: RangeInclusive<u64>) -> Audited {
        self.audit_on(1, memory, window)
    }

    fn audit_on(&self, threads: usize, memory: usize, window: RangeInclusive<u64>) -> Audited {
        let hashes = Hashes::default();
        let mut rows = Rows::new(hashes.clone(), memory);
        let mut copies = Copies::new(hashes, memory);
        copies.topic("t");
        for id in &self.parked {
            rows.parked(id.as_bytes(), "parked").expect("a disk");
        }
        for row in &self.rows {
            let aggregate = ("order", row.aggregate.as_str());
            rows.row(row.id.as_bytes(), aggregate, Some(row.seq)).expect("a disk");
        }
        for one in &self.records {
            copies.record(one.id.as_bytes(), one.copy).expect("a disk");
        }
        let criteria = Criteria { window, late_ms: 1_000 };
        Audit::new(rows, copies, criteria, memory).finish_on(threads).expect("a disk")
    }
}

fn named(audited: &Audited, offence: Offence) -> Vec<&str> {
    let of_kind = audited.offenders.iter().filter(|one| one.offence == offence);
    of_kind.filter_map(|one| one.id.as_deref()).collect()
}

#[test]
fn a_sound_topic_is_kept() {
    let mut case = Case::new(&["1", "1", "2"]);
    case.put("event-0", 0, 10);
    case.put("event-2", 1, 5);
    case.put("event-1", 0, 20);
    case.put("stranger", 0, 1);
    let audited = case.audit(usize::MAX);
    assert!(audited.is_kept());
    assert_eq!((audited.committed, audited.delivered, audited.others), (3, 3, 1));
    assert_eq!((audited.offenders.len(), audited.spilled), (0, 0));
}

#[test]
fn what_is_lost_parked_doubled_or_overtaken_is_counted_and_named() {
    let mut case = Case::new(&["1", "1", "1", "2", "2"]);
    case.parked.push("event-4".to_owned());
    case.put("event-2", 0, 30);
    case.put("event-0", 0, 10);
    case.put("event-1", 0, 20);
    case.put("event-1", 0, 20);
    let audited = case.audit(usize::MAX);
    assert_eq!((audited.lost, audited.out_of_order, audited.duplicated), (1, 2, 1));
    assert_eq!(audited.parked, BTreeMap::from([("parked".to_owned(), 1)]));
    assert_eq!(named(&audited, Offence::Lost), ["event-3"]);
    assert_eq!(named(&audited, Offence::OutOfOrder), ["event-0", "event-1"]);
    assert_eq!(named(&audited, Offence::Duplicated), ["event-1"]);
    assert!(!audited.is_kept());
}

#[test]
fn a_parked_event_that_was_delivered_after_all_counts_as_delivered() {
    let mut case = Case::new(&["1", "1"]);
    case.parked.push("event-0".to_owned());
    case.put("event-0", 0, 10);
    case.put("event-1", 0, 20);
    let audited = case.audit(usize::MAX);
    assert_eq!((audited.delivered, audited.parked.len(), audited.is_kept()), (2, 0, true));
    // Its order is judged as any other's.
    case.records.swap(0, 1);
    case.records[0].copy.spot.offset = 0;
    case.records[1].copy.spot.offset = 1;
    assert_eq!(case.audit(usize::MAX).out_of_order, 1);
}

#[test]
fn a_first_copy_far_behind_younger_commits_is_late_and_a_duplicate_is_not() {
    let mut case = Case::new(&["1", "2", "3"]);
    // Of another partition, which says nothing about the clock of this one.
    case.put("stranger", 1, 50).timestamp_ms = 99_000;
    case.put("event-2", 0, 30).timestamp_ms = 11_001;
    case.put("event-0", 0, 10).timestamp_ms = 10_000;
    case.put("event-1", 0, 20).timestamp_ms = 10_001;
    case.put("event-2", 0, 30).timestamp_ms = 0;
    case.put("stranger", 0, 40).timestamp_ms = i64::MIN;
    let audited = case.audit(usize::MAX);
    assert_eq!((audited.late, audited.latest_ms, audited.is_kept()), (1, 1_001, true));
    assert_eq!(named(&audited, Offence::Late), ["event-0"]);
}

#[test]
fn replayed_copies_are_counted_apart_and_say_nothing_about_order() {
    let mut case = Case::new(&["1", "1"]);
    case.put("event-0", 0, 10);
    case.put("event-1", 0, 20);
    case.put("event-0", 0, 10).nature = Nature::Replayed;
    let audited = case.audit(usize::MAX);
    assert_eq!((audited.replayed, audited.duplicated, audited.out_of_order), (1, 0, 0));
    // Also when retention has taken the first copy.
    case.records.remove(0);
    let audited = case.audit(usize::MAX);
    assert_eq!((audited.delivered, audited.out_of_order, audited.is_kept()), (2, 0, true));
}

#[test]
fn a_dead_letter_is_no_delivery_and_no_loss_however_often_it_is_there() {
    let mut case = Case::new(&["1", "1", "1"]);
    case.put("event-0", 1, 10).nature = Nature::DeadLetter;
    case.put("event-0", 1, 10).nature = Nature::DeadLetter;
    case.put("event-1", 0, 20);
    let audited = case.audit(usize::MAX);
    assert_eq!(audited.parked, BTreeMap::from([("dead_lettered".to_owned(), 1)]));
    assert_eq!((audited.delivered, audited.duplicated, audited.split), (1, 0, 0));
    assert_eq!(named(&audited, Offence::Lost), ["event-2"]);
}

#[test]
fn an_aggregate_may_move_to_another_partition_and_not_be_on_two() {
    let mut case = Case::new(&["1", "1", "1", "1"]);
    case.put("event-0", 0, 10);
    case.put("event-1", 0, 20);
    case.put("event-2", 1, 30);
    case.put("event-3", 1, 40);
    let audited = case.audit(usize::MAX);
    assert_eq!((audited.moved, audited.split, audited.is_kept()), (1, 0, true));
    case.records[3].copy.spot.partition = 0;
    case.records[3].copy.spot.offset = 2;
    let audited = case.audit(usize::MAX);
    assert_eq!((audited.moved, audited.split, audited.is_kept()), (0, 1, false));
}

#[test]
fn numbers_in_another_order_than_commits_are_told_and_no_fault() {
    let mut case = Case::new(&["1", "1", "1"]);
    case.put("event-1", 0, 10);
    case.put("event-0", 0, 20);
    case.put("event-2", 0, 30);
    let audited = case.audit(usize::MAX);
    assert_eq!((audited.seq_inversions, audited.out_of_order, audited.is_kept()), (1, 0, true));
}

#[test]
fn a_window_of_commits_leaves_out_what_was_delivered_before_and_after_it() {
    let mut case = Case::new(&["1", "1", "1", "2"]);
    case.put("event-1", 0, 20);
    case.put("event-0", 0, 10);
    case.put("event-2", 0, 30);
    let audited = case.audit_within(usize::MAX, 20..=30);
    assert_eq!((audited.committed, audited.outside, audited.out_of_order), (3, 1, 0));
    assert_eq!(audited.lost, 1, "a row without a record has no position");
}

/// What the audit must find, computed in the plainest way.
fn expected(case: &Case) -> (u64, u64, u64, u64) {
    let aggregates: BTreeMap<&str, &str> =
        case.rows.iter().map(|row| (row.id.as_str(), row.aggregate.as_str())).collect();
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<(&str, i32), Order> = BTreeMap::new();
    let (mut duplicated, mut out_of_order, mut others) = (0, 0, 0);
    let mut records: Vec<&Placed> = case.records.iter().collect();
    records.sort_by_key(|one| one.copy.timestamp_ms);
    for one in records {
        let Some(aggregate) = aggregates.get(one.id.as_str()) else {
            others += 1;
            continue;
        };
        if !seen.insert(&one.id) {
            duplicated += 1;
            continue;
        }
        let highest = last.entry((aggregate, one.copy.spot.partition)).or_insert(one.copy.order);
        out_of_order += u64::from(one.copy.order < *highest);
        *highest = one.copy.order.max(*highest);
    }
    ((case.rows.len() - seen.len()) as u64, duplicated, out_of_order, others)
}

#[test]
fn random_topics_are_judged_as_by_a_plain_comparison_with_and_without_room() {
    let mut random = Random(20_261_126);
    let mut spilled = 0;
    for _ in 0..300 {
        let count = 1 + random.below(80);
        let names: Vec<String> = (0..count).map(|_| random.below(6).to_string()).collect();
        let mut case = Case::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for at in 0..count {
            if random.below(12) == 0 {
                continue;
            }
            let partition: i32 = names[at].parse().expect("a number");
            case.put(&format!("event-{at}"), partition % 3, 100 + at as u64);
            if random.below(10) == 0 {
                let again = random.below(at + 1);
                let partition: i32 = names[again].parse().expect("a number");
                case.put(&format!("event-{again}"), partition % 3, 100 + again as u64);
            }
        }
        // Two records change their events: each then stands where the other stood.
        for _ in 0..random.below(3) {
            let (a, b) = (random.below(case.records.len()), random.below(case.records.len()));
            let same = case.records[a].copy.spot.partition == case.records[b].copy.spot.partition;
            if same && a != b {
                let (first, second) = (a.min(b), a.max(b));
                let (left, right) = case.records.split_at_mut(second);
                std::mem::swap(&mut left[first].id, &mut right[0].id);
                std::mem::swap(&mut left[first].copy.order, &mut right[0].copy.order);
            }
        }
        let (lost, duplicated, out_of_order, others) = expected(&case);
        for memory in [0, usize::MAX] {
            let audited = case.audit(memory);
            let found = (audited.lost, audited.duplicated, audited.out_of_order, audited.others);
            assert_eq!(found, (lost, duplicated, out_of_order, others), "memory {memory}");
            assert_eq!(audited.delivered + audited.lost, audited.committed);
            spilled += audited.spilled;
            let together = case.audit_on(3, memory, 0..=u64::MAX);
            assert_eq!(Audited { spilled: audited.spilled, ..together }, audited);
        }
    }
    assert!(spilled > 100_000, "the file was used: {spilled}");
}
