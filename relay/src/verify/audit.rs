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

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::audited::{Audited, Named, OFFENDERS_MAX, Offence};
use super::entry::{Copy, Id, Known, Spot};
use super::spool::{BUCKETS, Spool};
use super::worker::{Criteria, Names, Worker};

/// States of parked events that are told apart.
const STATES_MAX: usize = 200;

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
    /// The latest commit among the records of a partition so far, by topic and partition.
    latest_ms: Vec<Vec<i64>>,
    unreadable: u64,
    first_unreadable: Vec<Spot>,
}

impl Copies {
    pub(super) fn new(hashes: Hashes, memory: usize) -> Self {
        Self {
            copies: Spool::new(memory),
            hashes,
            topics: Vec::new(),
            latest_ms: Vec::new(),
            unreadable: 0,
            first_unreadable: Vec::new(),
        }
    }

    /// The number of a topic here.
    pub(super) fn topic(&mut self, name: &str) -> u16 {
        let at = self.topics.iter().position(|known| known == name).unwrap_or_else(|| {
            self.topics.push(name.to_owned());
            self.latest_ms.push(Vec::new());
            self.topics.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// A record of an event; those of a partition in their order.
    pub(super) fn record(&mut self, id: &[u8], mut copy: Copy) -> io::Result<()> {
        copy.behind_ms = self.behind_ms(copy.spot, copy.timestamp_ms);
        let id = Id::of(id);
        self.copies.push(self.hashes.id(id), |out| copy.write(id, out))
    }

    /// How much earlier a record was committed than some record before it in its partition.
    fn behind_ms(&mut self, spot: Spot, timestamp_ms: i64) -> u32 {
        let Some(latest) = self.latest_ms.get_mut(usize::from(spot.topic)) else { return 0 };
        let at = usize::try_from(spot.partition).unwrap_or_default();
        if latest.len() <= at {
            latest.resize(at + 1, i64::MIN);
        }
        let Some(latest) = latest.get_mut(at) else { return 0 };
        let behind = latest.saturating_sub(timestamp_ms).max(0);
        *latest = timestamp_ms.max(*latest);
        u32::try_from(behind).unwrap_or(u32::MAX)
    }

    /// A record that says no event id or no position.
    pub(super) fn unreadable(&mut self, spot: Spot) {
        self.unreadable += 1;
        if self.first_unreadable.len() < OFFENDERS_MAX {
            self.first_unreadable.push(spot);
        }
    }
}

pub(super) struct Audit {
    rows: Rows,
    copies: Copies,
    criteria: Criteria,
    memory: usize,
}

/// Threads that compare, each a bucket at a time.
const THREADS_MAX: usize = 4;

impl Audit {
    pub(super) fn new(rows: Rows, copies: Copies, criteria: Criteria, memory: usize) -> Self {
        Self { rows, copies, criteria, memory }
    }

    /// Compares everything, on as many threads as there are cores.
    pub(super) fn finish(self) -> io::Result<Audited> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.finish_on(cores.min(THREADS_MAX))
    }

    fn finish_on(self, threads: usize) -> io::Result<Audited> {
        let Self { rows, copies, criteria, memory } = self;
        let names = Names { topics: copies.topics, states: rows.states };
        let workers = (0..threads).map(|_| Worker::new(&names, criteria.clone(), memory / threads));
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

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
