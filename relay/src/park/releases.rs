//! The way out of the lot: requests and rows in, orders and rows to publish out. Pure.
//!
//! ```text
//!   idle --request--> loading --rows--> sending --all acknowledged--> settling --+
//!     ^                  ^  |                                                    |
//!     +--- answered <-- none                     +--- more of the same request <-+
//! ```
//!
//! One batch at a time. Within it rows are published in commit order; when one fails again, the
//! rows of its sequence behind it stay. A batch is settled only when Kafka has acknowledged all of
//! it, and only the settled rows of a sequence are out of the lot: the sequence opens with the last
//! of them. A crash in between is mended by read-back, which finds what was released by its
//! identity and settles it before anything else is released.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::event::{Identity, ParkedEvent, Reason, SequenceId};
use super::orders::{LotReply, Moved, Order, Request, RequestId, Settlement};
use crate::position::{Mark, Place};

/// How often requests are looked for while events are parked: a person waits for the answer.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The same while the lot is empty: whoever asks then is told that there is nothing.
const POLL_INTERVAL_EMPTY: Duration = Duration::from_secs(5);
/// How often schemas, topics and routes that events wait for are tried again.
const WAITING_INTERVAL: Duration = Duration::from_secs(5);
/// How often released events are forgotten that the position is past.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// The number of a released event, counted in each run of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReleaseSeq(pub u64);

/// What an order depends on.
#[derive(Debug, Clone, Copy)]
pub struct LotView {
    /// Rows in the lot.
    pub rows: u64,
    /// The recorded position.
    pub recorded: Mark,
    /// Everything up to here is in Kafka or in the lot.
    pub dealt_with: Mark,
    /// Whether the stream has come past all that was in the lot when it was opened: before, events
    /// may come that belong before them.
    pub is_caught_up: bool,
}

/// What to do next about releases.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<'a> {
    /// Nothing now.
    Rest,
    /// Publish this row; then [`Releases::taken`] or [`Releases::refuse`].
    Publish(&'a ParkedEvent),
}

/// What a batch is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Job {
    /// Read-back found these in Kafka.
    Found(Vec<Identity>),
    Retry(RequestId),
    Discard(RequestId),
    /// What may have appeared by now.
    Waiting,
    /// A request that is carried out.
    Answer(RequestId, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No job, or one that has not begun.
    Idle,
    Loading,
    Sending,
    Settling,
    Discarding,
    Answering,
    /// Polling or pruning.
    Errand,
}

/// What came of a job so far.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    moved: u64,
    refused: u64,
}

/// Releases of a source.
#[derive(Debug)]
pub struct Releases {
    stage: Stage,
    job: Option<Job>,
    jobs: VecDeque<Job>,
    tally: Tally,
    rows: VecDeque<ParkedEvent>,
    sent: HashMap<ReleaseSeq, (Identity, Place)>,
    next_seq: u64,
    batch: Settlement,
    failed: HashSet<SequenceId>,
    /// Rows that were handed over in this batch, by sequence.
    leaving: HashMap<SequenceId, u64>,
    polled_at: Option<Duration>,
    waited_at: Duration,
    pruned_at: Option<Duration>,
}

impl Default for Releases {
    fn default() -> Self {
        Self {
            stage: Stage::Idle,
            job: None,
            jobs: VecDeque::new(),
            tally: Tally::default(),
            rows: VecDeque::new(),
            sent: HashMap::new(),
            next_seq: 0,
            batch: Settlement::default(),
            failed: HashSet::new(),
            leaving: HashMap::new(),
            polled_at: None,
            waited_at: Duration::ZERO,
            pruned_at: None,
        }
    }
}

impl Releases {
    /// The lot was opened. What read-back found in Kafka leaves it before anything is released.
    pub fn open(&mut self, found: Vec<Identity>) {
        self.lost();
        if !found.is_empty() {
            self.jobs.push_front(Job::Found(found));
        }
    }

    /// The producer was lost with everything in it. Requests are still open in the database.
    pub fn lost(&mut self) {
        *self = Self { next_seq: self.next_seq, ..Self::default() };
    }

    /// Whether read-back's findings have left the lot: nothing of it may be forgotten before.
    pub fn is_settling_found(&self) -> bool {
        matches!(self.job, Some(Job::Found(_)))
            || self.jobs.iter().any(|job| matches!(job, Job::Found(_)))
    }

    /// Released events that Kafka has not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.sent.len()
    }

    /// Whether a released event's record can lie beyond what the database knows.
    pub fn is_unsettled(&self) -> bool {
        !self.sent.is_empty() || !self.batch.released.is_empty() || self.stage == Stage::Settling
    }

    /// The one released event in flight, where there is exactly one.
    pub fn only_in_flight(&self) -> Option<Identity> {
        let mut sent = self.sent.values();
        let only = sent.next().map(|(identity, _)| *identity);
        only.filter(|_| sent.next().is_none())
    }

    /// The next order; `None` while one is under way or nothing is due.
    pub fn order(&mut self, view: &LotView, now: Duration) -> Option<Order> {
        match self.stage {
            Stage::Sending if self.rows.is_empty() && self.sent.is_empty() => {
                self.stage = Stage::Settling;
                Some(Order::Settle(std::mem::take(&mut self.batch)))
            }
            Stage::Idle => match self.next_job(view) {
                Some(job) => self.begin(job, view),
                None => self.errand(view, now),
            },
            Stage::Loading
            | Stage::Sending
            | Stage::Settling
            | Stage::Discarding
            | Stage::Answering
            | Stage::Errand => None,
        }
    }

    /// When [`Self::order`] has something by itself, at the latest.
    pub fn due_at(&self, rows: u64) -> Option<Duration> {
        match self.stage {
            Stage::Idle => Some(self.polled_at.map_or(Duration::ZERO, |at| at + interval(rows))),
            Stage::Sending if self.rows.is_empty() && self.sent.is_empty() => Some(Duration::ZERO),
            _ => None,
        }
    }

    /// A job that can begin. Releases wait until the stream is caught up.
    fn next_job(&mut self, view: &LotView) -> Option<Job> {
        let is_release = |job: &Job| matches!(job, Job::Retry(_) | Job::Waiting);
        let next = self.job.as_ref().or_else(|| self.jobs.front())?;
        if is_release(next) && !view.is_caught_up {
            return None;
        }
        self.job.take().or_else(|| self.jobs.pop_front())
    }

    fn begin(&mut self, job: Job, view: &LotView) -> Option<Order> {
        let until = view.dealt_with;
        let (stage, order) = match &job {
            Job::Found(found) => {
                let settlement = Settlement { released: found.clone(), refused: Vec::new() };
                (Stage::Settling, Order::Settle(settlement))
            }
            Job::Retry(request) => (Stage::Loading, Order::Load { request: *request, until }),
            Job::Waiting => (Stage::Loading, Order::LoadWaiting { until }),
            Job::Discard(request) => (Stage::Discarding, Order::Discard(*request)),
            Job::Answer(request, text) => {
                (Stage::Answering, Order::Answer { request: *request, text: text.clone() })
            }
        };
        self.stage = stage;
        self.job = Some(job);
        Some(order)
    }

    fn errand(&mut self, view: &LotView, now: Duration) -> Option<Order> {
        let LotView { rows, recorded, .. } = *view;
        if self.job.is_some() || !self.jobs.is_empty() {
            return None;
        }
        if self.polled_at.is_none_or(|at| now >= at + interval(rows)) {
            self.polled_at = Some(now);
            self.stage = Stage::Errand;
            return Some(Order::Poll);
        }
        if rows > 0 && view.is_caught_up && now >= self.waited_at + WAITING_INTERVAL {
            self.waited_at = now;
            return self.begin(Job::Waiting, view);
        }
        if self.pruned_at.is_none_or(|at| now >= at + PRUNE_INTERVAL) {
            self.pruned_at = Some(now);
            self.stage = Stage::Errand;
            return Some(Order::Prune(recorded));
        }
        None
    }

    /// How many rows of a sequence will have left the lot in a moment: all rows of the batch are
    /// handed over, and it will be settled when they are acknowledged. An event that comes
    /// meanwhile and would be the only one behind them waits for that: otherwise a busy aggregate
    /// would never open again.
    pub fn leaving(&self, sequence: &SequenceId) -> u64 {
        let is_on_its_way = match self.stage {
            Stage::Sending => self.rows.is_empty(),
            Stage::Settling => true,
            _ => false,
        };
        let rows = self.leaving.get(sequence).filter(|_| is_on_its_way);
        if self.failed.contains(sequence) { 0 } else { rows.copied().unwrap_or_default() }
    }

    /// Whether the rows that come next are those that a person asked for.
    pub fn is_asked_for(&self) -> bool {
        matches!(self.job, Some(Job::Retry(_)))
    }

    /// What came of the last order; rows that have left the lot are handed on.
    pub fn reply(&mut self, reply: LotReply) -> Vec<Moved> {
        match (self.stage, reply) {
            (Stage::Errand, LotReply::Requests(requests)) => {
                self.stage = Stage::Idle;
                self.jobs.extend(requests.into_iter().map(|request| match request {
                    Request::Retry(id) => Job::Retry(id),
                    Request::Discard(id) => Job::Discard(id),
                }));
                Vec::new()
            }
            (Stage::Loading, LotReply::Loaded(rows)) => {
                self.stage = if rows.is_empty() { self.finish() } else { Stage::Sending };
                self.rows = rows.into();
                self.failed.clear();
                self.leaving.clear();
                Vec::new()
            }
            (Stage::Settling | Stage::Discarding, LotReply::Moved { moved, .. }) => {
                let count: u64 = moved.iter().map(|of| of.rows).sum();
                self.tally.moved += count;
                self.stage = match (&self.job, self.stage) {
                    (Some(Job::Found(_)), _) | (_, Stage::Discarding) => self.finish(),
                    // Nothing that was waited for has appeared: tried again when it is time.
                    (Some(Job::Waiting), _) if count == 0 => self.finish(),
                    // There may be more of it.
                    _ => Stage::Idle,
                };
                moved
            }
            (Stage::Answering, _) => {
                self.stage = self.finish();
                Vec::new()
            }
            (Stage::Errand, _) => {
                self.stage = Stage::Idle;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The job is done; a request is answered before the next one.
    fn finish(&mut self) -> Stage {
        let tally = std::mem::take(&mut self.tally);
        match self.job.take() {
            Some(Job::Retry(id)) => {
                let text = format!("released {}, refused again {}", tally.moved, tally.refused);
                self.jobs.push_front(Job::Answer(id, text));
            }
            Some(Job::Discard(id)) => {
                self.jobs.push_front(Job::Answer(id, format!("discarded {}", tally.moved)));
            }
            Some(Job::Found(_) | Job::Waiting | Job::Answer(..)) | None => {}
        }
        Stage::Idle
    }

    /// What to publish next. Rows behind one that failed in this batch stay where they are.
    pub fn turn(&mut self) -> Turn<'_> {
        if self.stage != Stage::Sending {
            return Turn::Rest;
        }
        while self.rows.front().is_some_and(|row| self.failed.contains(&row.sequence())) {
            self.rows.pop_front();
        }
        self.rows.front().map_or(Turn::Rest, Turn::Publish)
    }

    /// The row of the last [`Turn::Publish`].
    pub fn offered(&self) -> Option<Identity> {
        self.rows.front().map(|row| row.identity)
    }

    /// Whether there is a row to publish.
    pub fn has_row(&self) -> bool {
        self.stage == Stage::Sending && !self.rows.is_empty()
    }

    /// The number that the next row gets.
    pub fn next_seq(&self) -> ReleaseSeq {
        ReleaseSeq(self.next_seq)
    }

    /// The producer took the row of the last [`Turn::Publish`], for this place.
    pub fn taken(&mut self, place: Place) {
        let row = self.rows.pop_front();
        assert!(row.is_some(), "I5: only an offered row is released");
        if let Some(row) = row {
            *self.leaving.entry(row.sequence()).or_default() += 1;
            self.sent.insert(ReleaseSeq(self.next_seq), (row.identity, place));
            self.next_seq += 1;
        }
    }

    /// The row of the last [`Turn::Publish`] failed again: it stays, with its new reason, and so
    /// does everything behind it.
    pub fn refuse(&mut self, reason: Reason) {
        if let Some(row) = self.rows.pop_front() {
            self.failed.insert(row.sequence());
            self.batch.refused.push((row.identity, reason));
            self.tally.refused += 1;
        }
    }

    /// Kafka acknowledged a released event: where it lies.
    pub fn delivered(&mut self, seq: ReleaseSeq) -> Option<Place> {
        let sent = self.sent.remove(&seq);
        assert!(sent.is_some(), "I5: an acknowledged release is in flight");
        let (identity, place) = sent?;
        self.batch.released.push(identity);
        Some(place)
    }
}

fn interval(rows: u64) -> Duration {
    if rows > 0 { POLL_INTERVAL } else { POLL_INTERVAL_EMPTY }
}

#[cfg(test)]
#[path = "releases_tests.rs"]
mod tests;
