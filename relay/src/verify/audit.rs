//! Rows and records in, what became of each row out, in bounded memory: ten million events are
//! compared as ten are.
//!
//! ```text
//!   rows, parked events --+                                  +-- lost, parked, duplicated
//!                         +-- by event id, one bucket at  ---+
//!   records --------------+   a time                         +-- first copies
//!                                                                  |
//!                                          by aggregate, one bucket at a time, in the order of
//!                                          their offsets: out of order, moved, split
//! ```
//!
//! The aggregate of a record is its row's: a relay that writes wrong keys must not be judged by
//! them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::entry::{Copy, Entries, First, Id, Known, Nature, Order, Spot};
use super::spool::{BUCKETS, Spool};
use crate::lsn::Lsn;

/// Offenders kept of each kind; all are counted.
const OFFENDERS_MAX: usize = 10;

/// States of parked events that are told apart.
const STATES_MAX: usize = 200;

/// The state of an event that has no record but a dead letter.
const DEAD_LETTERED: &str = "dead_lettered";

/// The same on both sides of a comparison.
#[derive(Debug, Clone, Default)]
pub(super) struct Hashes(RandomState, RandomState);

impl Hashes {
    fn id(&self, id: Id<'_>) -> u64 {
        self.0.hash_one(id)
    }

    /// Two hashes of 64 bits: that two of ten million aggregates meet has a chance of 10^-25.
    fn aggregate(&self, aggregate: (&str, &str)) -> u128 {
        u128::from(self.0.hash_one(aggregate)) << 64 | u128::from(self.1.hash_one(aggregate))
    }
}

/// The database's side.
#[derive(Debug)]
pub(super) struct Rows {
    known: Spool,
    hashes: Hashes,
    states: Vec<String>,
    unnamed: u64,
}

impl Rows {
    pub(super) fn new(hashes: Hashes, memory: usize) -> Self {
        Self { known: Spool::new(memory), hashes, states: Vec::new(), unnamed: 0 }
    }

    /// A row of the snapshot.
    pub(super) fn row(
        &mut self,
        id: &[u8],
        aggregate: (&str, &str),
        seq: Option<i64>,
    ) -> io::Result<()> {
        let aggregate = self.hashes.aggregate(aggregate);
        self.push(Id::of(id), Known::Row { aggregate, seq })
    }

    /// A row without event id: nothing can be said of it.
    pub(super) fn unnamed(&mut self) {
        self.unnamed += 1;
    }

    /// An event in the parking tables.
    pub(super) fn parked(&mut self, id: &[u8], state: &str) -> io::Result<()> {
        let at = self.states.iter().position(|known| known == state).unwrap_or_else(|| {
            if self.states.len() < STATES_MAX {
                self.states.push(state.to_owned());
            }
            self.states.len() - 1
        });
        let state = u8::try_from(at).unwrap_or(u8::MAX);
        self.push(Id::of(id), Known::Parked { state })
    }

    fn push(&mut self, id: Id<'_>, known: Known) -> io::Result<()> {
        self.known.push(self.hashes.id(id), |out| known.write(id, out))
    }
}

/// Kafka's side.
#[derive(Debug)]
pub(super) struct Copies {
    copies: Spool,
    hashes: Hashes,
    topics: Vec<String>,
    unreadable: u64,
    first_unreadable: Vec<Spot>,
}

impl Copies {
    pub(super) fn new(hashes: Hashes, memory: usize) -> Self {
        Self {
            copies: Spool::new(memory),
            hashes,
            topics: Vec::new(),
            unreadable: 0,
            first_unreadable: Vec::new(),
        }
    }

    /// The number of a topic here.
    pub(super) fn topic(&mut self, name: &str) -> u16 {
        let at = self.topics.iter().position(|known| known == name).unwrap_or_else(|| {
            self.topics.push(name.to_owned());
            self.topics.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// A record of an event.
    pub(super) fn record(&mut self, id: &[u8], copy: Copy) -> io::Result<()> {
        let id = Id::of(id);
        self.copies.push(self.hashes.id(id), |out| copy.write(id, out))
    }

    /// A record that says no event id or no position.
    pub(super) fn unreadable(&mut self, spot: Spot) {
        self.unreadable += 1;
        if self.first_unreadable.len() < OFFENDERS_MAX {
            self.first_unreadable.push(spot);
        }
    }
}

/// How an event, or its record, breaks a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the glossary's")]
pub enum Offence {
    Lost,
    OutOfOrder,
    Split,
    Duplicated,
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
struct FirstFew<K>(BTreeMap<K, Named>);

impl<K: Ord> FirstFew<K> {
    fn add(&mut self, key: K, named: impl FnOnce() -> Named) {
        let is_early = self.0.last_key_value().is_none_or(|(last, _)| key < *last);
        if self.0.len() < OFFENDERS_MAX || is_early {
            self.0.insert(key, named());
        }
        while self.0.len() > OFFENDERS_MAX {
            self.0.pop_last();
        }
    }

    fn merge(&mut self, other: Self) {
        for (key, named) in other.0 {
            self.add(key, || named);
        }
    }
}

/// What is known of an event id.
#[derive(Debug, Default)]
struct Fate {
    rows: u64,
    aggregate: u128,
    seq: Option<i64>,
    parked: Option<u8>,
    first: Option<Copy>,
    copies: u64,
    replayed: u64,
    second: Option<Spot>,
    is_dead: bool,
}

pub(super) struct Audit {
    rows: Rows,
    copies: Copies,
    /// Commits that are judged; all by default.
    window: RangeInclusive<u64>,
    memory: usize,
}

/// Threads that compare, each a bucket at a time.
const THREADS_MAX: usize = 4;

impl Audit {
    pub(super) fn new(
        rows: Rows,
        copies: Copies,
        window: RangeInclusive<u64>,
        memory: usize,
    ) -> Self {
        Self { rows, copies, window, memory }
    }

    /// Compares everything, on as many threads as there are cores.
    pub(super) fn finish(self) -> io::Result<Audited> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.finish_on(cores.min(THREADS_MAX))
    }

    fn finish_on(self, threads: usize) -> io::Result<Audited> {
        let Self { rows, copies, window, memory } = self;
        let names = Names { topics: copies.topics, states: rows.states };
        let workers = (0..threads).map(|_| Worker::new(&names, window.clone(), memory / threads));
        let mut workers: Vec<Worker<'_>> = workers.collect();
        let (known, copied) = (Mutex::new(rows.known), Mutex::new(copies.copies));
        each_bucket(&mut workers, |worker, bucket| {
            let (known, copies) = (taken(&known, bucket)?, taken(&copied, bucket)?);
            worker.match_up(&known, &copies)
        })?;
        let firsts =
            workers.iter_mut().map(|worker| std::mem::replace(&mut worker.firsts, Spool::new(0)));
        let firsts: Vec<Mutex<Spool>> = firsts.map(Mutex::new).collect();
        each_bucket(&mut workers, |worker, bucket| {
            let mut bytes = Vec::new();
            for spool in &firsts {
                bytes.append(&mut taken(spool, bucket)?);
            }
            worker.order(&bytes)
        })?;
        let merged = workers.into_iter().reduce(Worker::merged);
        let Some(merged) = merged else { return Ok(Audited::default()) };
        let mut found = merged.finish();
        let spilled = |spool: &Mutex<Spool>| locked(spool).spilled();
        found.spilled = spilled(&known) + spilled(&copied);
        found.spilled += firsts.iter().map(spilled).sum::<u64>();
        found.unreadable = copies.unreadable;
        found.unnamed = rows.unnamed;
        let unreadable = copies.first_unreadable.iter().map(|spot| Named {
            offence: Offence::Unreadable,
            id: None,
            place: Some(names.place(*spot)),
            lsn: None,
            against: None,
        });
        found.offenders.extend(unreadable);
        Ok(found)
    }
}

/// Has each bucket done by one of the workers.
fn each_bucket<'n>(
    workers: &mut [Worker<'n>],
    work: impl Fn(&mut Worker<'n>, usize) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let (next, work) = (AtomicUsize::new(0), &work);
    std::thread::scope(|scope| {
        let spawned = workers.iter_mut().map(|worker| {
            let next = &next;
            scope.spawn(move || {
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        bucket if bucket < BUCKETS => work(worker, bucket)?,
                        _ => return Ok(()),
                    }
                }
            })
        });
        let spawned: Vec<_> = spawned.collect();
        let ended = spawned.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a comparing thread panicked")))
        });
        ended.collect()
    })
}

fn locked(spool: &Mutex<Spool>) -> std::sync::MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}

fn taken(spool: &Mutex<Spool>, bucket: usize) -> io::Result<Vec<u8>> {
    locked(spool).take(bucket)
}

/// What numbers stand for.
#[derive(Debug)]
struct Names {
    topics: Vec<String>,
    states: Vec<String>,
}

impl Names {
    fn place(&self, spot: Spot) -> String {
        let topic = self.topics.get(usize::from(spot.topic)).map_or("?", String::as_str);
        format!("{topic}[{}]@{}", spot.partition, spot.offset)
    }
}

/// One thread's part of the comparison.
struct Worker<'n> {
    names: &'n Names,
    window: RangeInclusive<u64>,
    firsts: Spool,
    found: Audited,
    lost: FirstFew<(i64, String)>,
    duplicated: FirstFew<(Order, Spot)>,
    out_of_order: FirstFew<(Order, Spot)>,
    split: FirstFew<(Order, Spot)>,
    moved: FirstFew<(Order, Spot)>,
}

impl<'n> Worker<'n> {
    fn new(names: &'n Names, window: RangeInclusive<u64>, memory: usize) -> Self {
        Self {
            names,
            window,
            firsts: Spool::new(memory),
            found: Audited::default(),
            lost: FirstFew(BTreeMap::new()),
            duplicated: FirstFew(BTreeMap::new()),
            out_of_order: FirstFew(BTreeMap::new()),
            split: FirstFew(BTreeMap::new()),
            moved: FirstFew(BTreeMap::new()),
        }
    }

    fn merged(mut self, other: Self) -> Self {
        let (found, more) = (&mut self.found, other.found);
        found.committed += more.committed;
        found.delivered += more.delivered;
        found.lost += more.lost;
        found.repeated += more.repeated;
        found.outside += more.outside;
        found.duplicated += more.duplicated;
        found.replayed += more.replayed;
        found.out_of_order += more.out_of_order;
        found.split += more.split;
        found.moved += more.moved;
        found.seq_inversions += more.seq_inversions;
        found.others += more.others;
        for (state, count) in more.parked {
            *found.parked.entry(state).or_default() += count;
        }
        self.lost.merge(other.lost);
        self.duplicated.merge(other.duplicated);
        self.out_of_order.merge(other.out_of_order);
        self.split.merge(other.split);
        self.moved.merge(other.moved);
        self
    }

    /// The counts, and the first of each kind, gravest kind first.
    fn finish(mut self) -> Audited {
        let kinds = [self.out_of_order, self.split, self.duplicated, self.moved];
        let named = kinds.into_iter().flat_map(|few| few.0.into_values());
        self.found.offenders = self.lost.0.into_values().chain(named).collect();
        self.found
    }

    /// One bucket of event ids.
    fn match_up(&mut self, known: &[u8], copies: &[u8]) -> io::Result<()> {
        let mut fates: HashMap<Id<'_>, Fate> = HashMap::new();
        let mut entries = Entries(known);
        while !entries.is_at_end() {
            let (id, known) = entries.known()?;
            let fate = fates.entry(id).or_default();
            match known {
                Known::Row { aggregate, seq } => {
                    fate.rows += 1;
                    (fate.aggregate, fate.seq) = (aggregate, seq);
                }
                Known::Parked { state } => fate.parked = Some(state),
            }
        }
        let mut entries = Entries(copies);
        while !entries.is_at_end() {
            let (id, copy) = entries.copy()?;
            match fates.get_mut(&id).filter(|fate| fate.rows > 0) {
                Some(fate) => fate.add(copy),
                None => self.found.others += 1,
            }
        }
        fates.into_iter().try_for_each(|(id, fate)| self.settle(id, &fate))
    }

    fn settle(&mut self, id: Id<'_>, fate: &Fate) -> io::Result<()> {
        let Some(rows) = fate.rows.checked_sub(1) else { return Ok(()) };
        self.found.repeated += rows;
        let Some(first) = fate.first else {
            self.found.committed += 1;
            self.without_record(id, fate);
            return Ok(());
        };
        if !self.window.contains(&first.order.commit_lsn) {
            self.found.outside += 1;
            return Ok(());
        }
        self.found.committed += 1;
        self.found.delivered += 1;
        let further = fate.copies - 1;
        // An id that two rows have is rightly there twice.
        let duplicated = further.saturating_sub(fate.replayed).saturating_sub(rows);
        self.found.replayed += further.min(fate.replayed);
        self.found.duplicated += duplicated;
        if duplicated > 0 {
            let named = || Named {
                offence: Offence::Duplicated,
                against: fate.second.map(|spot| self.names.place(spot)),
                ..named(self.names, Offence::Duplicated, id, first.spot, first.order)
            };
            self.duplicated.add((first.order, first.spot), named);
        }
        // A replayed event whose first copy retention has taken says nothing about order.
        if first.nature == Nature::Replayed {
            return Ok(());
        }
        let Copy { spot, order, .. } = first;
        let first = First { aggregate: fate.aggregate, spot, order, seq: fate.seq, id };
        self.firsts.push((fate.aggregate >> 64) as u64, |out| first.write(out))
    }

    fn without_record(&mut self, id: Id<'_>, fate: &Fate) {
        let parked = fate.parked.and_then(|state| self.names.states.get(usize::from(state)));
        let dead = || fate.is_dead.then(|| DEAD_LETTERED.to_owned());
        if let Some(state) = parked.cloned().or_else(dead) {
            *self.found.parked.entry(state).or_default() += 1;
            return;
        }
        self.found.lost += 1;
        let text = id.text();
        let named = || Named {
            offence: Offence::Lost,
            id: Some(text.clone()),
            place: None,
            lsn: None,
            against: fate.seq.map(|seq| format!("seq {seq}")),
        };
        self.lost.add((fate.seq.unwrap_or_default(), text.clone()), named);
    }

    /// One bucket of aggregates.
    fn order(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut firsts = Vec::new();
        let mut entries = Entries(bytes);
        while !entries.is_at_end() {
            firsts.push(entries.first()?);
        }
        firsts.sort_unstable_by_key(|first| (first.aggregate, first.spot));
        let of_topic = |a: &First<'_>, b: &First<'_>| {
            (a.aggregate, a.spot.topic) == (b.aggregate, b.spot.topic)
        };
        for chain in firsts.chunk_by(of_topic) {
            self.chain(chain);
        }
        Ok(())
    }

    /// The first copies of one aggregate in one topic.
    fn chain(&mut self, chain: &[First<'_>]) {
        let mut spans: Vec<(Order, Order, &First<'_>)> = Vec::new();
        for part in chain.chunk_by(|a, b| a.spot.partition == b.spot.partition) {
            let (mut latest, mut seq): (Option<&First<'_>>, Option<i64>) = (None, None);
            for first in part {
                if first.seq < seq {
                    self.found.seq_inversions += 1;
                }
                seq = seq.max(first.seq);
                match latest {
                    Some(before) if first.order < before.order => self.overtaken(first, before),
                    _ => latest = Some(first),
                }
            }
            let orders = || part.iter().map(|first| first.order);
            if let (Some(low), Some(high), Some(first)) =
                (orders().min(), orders().max(), part.first())
            {
                spans.push((low, high, first));
            }
        }
        self.partitions(spans);
    }

    fn overtaken(&mut self, first: &First<'_>, before: &First<'_>) {
        self.found.out_of_order += 1;
        let names = self.names;
        let named = || Named {
            against: Some(format!("{} {}", lsn(before.order), names.place(before.spot))),
            ..named(names, Offence::OutOfOrder, first.id, first.spot, first.order)
        };
        self.out_of_order.add((first.order, first.spot), named);
    }

    /// An aggregate on several partitions: one after the other, or at the same time.
    fn partitions(&mut self, mut spans: Vec<(Order, Order, &First<'_>)>) {
        spans.sort_unstable_by_key(|(low, ..)| *low);
        let is_mixed = spans.windows(2).any(|two| match two {
            [(_, high, _), (low, ..)] => low < high,
            _ => false,
        });
        let [(_, _, home), (_, _, away), ..] = spans.as_slice() else { return };
        let offence = if is_mixed { Offence::Split } else { Offence::Moved };
        let names = self.names;
        let named = || Named {
            against: Some(names.place(home.spot)),
            ..named(names, offence, away.id, away.spot, away.order)
        };
        let key = (away.order, away.spot);
        match offence {
            Offence::Split => {
                self.found.split += 1;
                self.split.add(key, named);
            }
            _ => {
                self.found.moved += 1;
                self.moved.add(key, named);
            }
        }
    }
}

impl Fate {
    fn add(&mut self, copy: Copy) {
        if copy.nature == Nature::DeadLetter {
            self.is_dead = true;
            return;
        }
        self.copies += 1;
        let Some(first) = self.first else {
            self.first = Some(copy);
            return;
        };
        let place = |spot: Spot| (spot.topic, spot.partition);
        // Offsets of different partitions say nothing about each other.
        let is_earlier = match place(copy.spot) == place(first.spot) {
            true => copy.spot.offset < first.spot.offset,
            false => (copy.timestamp_ms, copy.spot) < (first.timestamp_ms, first.spot),
        };
        let (first, further) = if is_earlier { (copy, first) } else { (first, copy) };
        self.first = Some(first);
        self.replayed += u64::from(further.nature == Nature::Replayed);
        self.second.get_or_insert(further.spot);
    }
}

fn named(names: &Names, offence: Offence, id: Id<'_>, spot: Spot, order: Order) -> Named {
    let (id, place) = (Some(id.text()), Some(names.place(spot)));
    Named { offence, id, place, lsn: Some(lsn(order)), against: None }
}

fn lsn(order: Order) -> String {
    format!("{}:{}", Lsn(order.commit_lsn), order.ordinal)
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
