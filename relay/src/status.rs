//! What a source tells the outside: written by its loop, read by metrics, health and `status`.
//!
//! Readers take a snapshot; they hold no handle to the stream, the producer or the ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::unix_ms;
use crate::error::Peer;
use crate::lsn::Lsn;

/// A heartbeat is answered within a second or two; after this the source no longer counts as
/// caught up, whatever it last said.
const HEARTBEAT_GRACE_MS: i64 = 5_000;

/// What a source is doing. The list is closed: every state is always present in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// On its way to the server.
    Connecting,
    /// Reading, and nothing waits.
    Streaming,
    /// Reading a backlog.
    CatchingUp,
    /// No broker answers.
    WaitingKafka,
    /// The registry does not answer.
    WaitingRegistry,
    /// The database does not answer or does not let us in.
    WaitingDatabase,
    /// Another relay leads.
    Standby,
    /// Told to end: what is in flight is waited for.
    Draining,
    /// It will not go on by itself.
    Stopped,
}

impl State {
    /// All of them.
    pub const ALL: [State; 9] = [
        State::Connecting,
        State::Streaming,
        State::CatchingUp,
        State::WaitingKafka,
        State::WaitingRegistry,
        State::WaitingDatabase,
        State::Standby,
        State::Draining,
        State::Stopped,
    ];

    /// The name in metrics, JSON and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::CatchingUp => "catching_up",
            Self::WaitingKafka => "waiting_kafka",
            Self::WaitingRegistry => "waiting_registry",
            Self::WaitingDatabase => "waiting_database",
            Self::Standby => "standby",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }

    /// The state of waiting for a peer.
    pub fn waiting_for(peer: Peer) -> Self {
        match peer {
            Peer::Postgres => Self::WaitingDatabase,
            Peer::Kafka => Self::WaitingKafka,
            Peer::Registry => Self::WaitingRegistry,
        }
    }
}

/// The last fault, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFault {
    /// Its code, the name of its page.
    pub code: &'static str,
    /// Its text.
    pub text: String,
    /// When it happened.
    pub at_unix_ms: i64,
}

/// What the server says about the slot, asked from time to time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotSample {
    /// The end of WAL minus the confirmed position.
    pub lag_bytes: u64,
    /// The end of WAL minus the position from which WAL is kept.
    pub retained_bytes: u64,
    /// What may still be written before the slot is lost; `None` when unlimited.
    pub safe_bytes: Option<u64>,
    /// reserved, extended, unreserved or lost.
    pub wal_status: String,
    /// Whether somebody streams from it.
    pub is_active: bool,
    /// When this was asked.
    pub at_unix_ms: i64,
}

/// What is in the parking lot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LotSample {
    /// Events in it.
    pub events: u64,
    /// Closed sequences.
    pub keys: u64,
    /// As many of them as there may be.
    pub keys_max: u64,
    /// Bytes of all events in it.
    pub bytes: u64,
    /// Events put into it since the start.
    pub parked: u64,
    /// Events of it published since the start.
    pub released: u64,
    /// Events given to a dead letter topic since the start.
    pub dead_lettered: u64,
}

/// Everything about a source that the outside may know.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The source's name.
    pub source: String,
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since_unix_ms: i64,
    /// The last fault, while it is waited out or stopped at.
    pub fault: Option<LastFault>,
    /// Up to here the slot may be advanced.
    pub confirmed: Lsn,
    /// Events in flight.
    pub pending_events: u64,
    /// When the transaction of the oldest of them committed.
    pub oldest_commit_unix_ms: Option<i64>,
    /// When the server last said that it has nothing more and nothing was in flight.
    pub caught_up_unix_ms: i64,
    /// When the confirmed position moved, or there was nothing to do.
    pub progress_unix_ms: i64,
    /// When the loop last turned.
    pub turned_unix_ms: i64,
    /// Events acknowledged, by topic.
    pub published: BTreeMap<Arc<str>, u64>,
    /// Reconnects, by peer.
    pub reconnects: BTreeMap<&'static str, u64>,
    /// Faults of publishing, by code.
    pub publish_errors: BTreeMap<&'static str, u64>,
    /// Faults of schemas, by code.
    pub schema_errors: BTreeMap<&'static str, u64>,
    /// Events sent again, by reason.
    pub resent: BTreeMap<&'static str, u64>,
    /// Events and messages skipped, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// What the server says about the slot.
    pub slot: Option<SlotSample>,
    /// What is in the parking lot.
    pub lot: LotSample,
    /// When the transaction of the oldest event in it committed, as the database said last.
    pub lot_oldest_unix_ms: Option<i64>,
    /// Time from commit to acknowledgement.
    pub commit_to_ack: Histogram,
    /// Events acknowledged a second, lately.
    pub rate: Rate,
}

/// Events a second over the last full window.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    window_start_unix_ms: i64,
    in_window: u64,
    last: f64,
    last_end_unix_ms: i64,
}

impl Rate {
    /// Long enough to be steady, short enough to follow.
    const WINDOW_MS: i64 = 2_000;

    /// Adds events that were acknowledged by `now`.
    pub fn add(&mut self, events: u64, now_unix_ms: i64) {
        self.in_window += events;
        let elapsed = now_unix_ms - self.window_start_unix_ms;
        if elapsed >= Self::WINDOW_MS {
            self.last = self.in_window as f64 * 1000.0 / elapsed as f64;
            self.last_end_unix_ms = now_unix_ms;
            self.window_start_unix_ms = now_unix_ms;
            self.in_window = 0;
        }
    }

    /// 0 when the last window is long over: nobody added anything since.
    pub fn per_second(&self, now_unix_ms: i64) -> f64 {
        if now_unix_ms - self.last_end_unix_ms > 3 * Self::WINDOW_MS { 0.0 } else { self.last }
    }
}

/// Counts of durations by upper bound, as Prometheus wants them.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: [u64; Histogram::BOUNDS_MS.len() + 1],
    sum_ms: i64,
}

impl Histogram {
    /// Upper bounds in milliseconds: from a broker on the same host to a minute.
    pub const BOUNDS_MS: [i64; 16] =
        [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];

    /// Adds durations in milliseconds; a writer's clock ahead of ours counts as 0.
    pub fn observe_all(&mut self, durations_ms: impl Iterator<Item = i64>) {
        for duration in durations_ms {
            let duration = duration.max(0);
            let index = Self::BOUNDS_MS.partition_point(|bound| *bound < duration);
            if let Some(count) = self.counts.get_mut(index) {
                *count += 1;
            }
            self.sum_ms += duration;
        }
    }

    /// (upper bound in seconds, count in that bucket alone), the last one unbounded.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = Self::BOUNDS_MS.iter().map(|bound| *bound as f64 / 1000.0);
        bounds.chain([f64::INFINITY]).zip(self.counts)
    }

    /// The sum of all durations in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ms as f64 / 1000.0
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Snapshot {
    /// Seconds behind: the age of the oldest commit in flight; without one 0, as long as the
    /// server keeps saying that there is nothing more; otherwise the time since it last said so.
    /// Computed when asked, so that it grows while the loop hangs or the server is away.
    pub fn lag_seconds(&self, now_unix_ms: i64) -> f64 {
        let since = match self.oldest_commit_unix_ms {
            Some(commit) => commit,
            None if now_unix_ms - self.caught_up_unix_ms <= HEARTBEAT_GRACE_MS => return 0.0,
            None => self.caught_up_unix_ms,
        };
        (now_unix_ms - since).max(0) as f64 / 1000.0
    }
}

/// A source's status, shared between its loop (which writes) and the outside (which reads).
#[derive(Debug, Clone)]
pub struct Status {
    inner: Arc<Mutex<Snapshot>>,
}

impl Status {
    /// The status of a source that is about to start.
    pub fn new(source: &str) -> Self {
        let now = unix_ms();
        let snapshot = Snapshot {
            source: source.to_owned(),
            state: State::Connecting,
            since_unix_ms: now,
            fault: None,
            confirmed: Lsn::ZERO,
            pending_events: 0,
            oldest_commit_unix_ms: None,
            caught_up_unix_ms: now,
            progress_unix_ms: now,
            turned_unix_ms: now,
            published: BTreeMap::new(),
            reconnects: BTreeMap::new(),
            publish_errors: BTreeMap::new(),
            schema_errors: BTreeMap::new(),
            resent: BTreeMap::new(),
            skipped: BTreeMap::new(),
            slot: None,
            lot: LotSample::default(),
            lot_oldest_unix_ms: None,
            commit_to_ack: Histogram::default(),
            rate: Rate::default(),
        };
        Self { inner: Arc::new(Mutex::new(snapshot)) }
    }

    /// A copy for a reader.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Changes several values at once.
    pub fn update<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        change(&mut self.lock())
    }

    /// Enters a state; says whether it is another one than before.
    pub fn enter(&self, state: State) -> bool {
        self.update(|snapshot| {
            if snapshot.state == state {
                return false;
            }
            snapshot.state = state;
            snapshot.since_unix_ms = unix_ms();
            if matches!(state, State::Streaming | State::CatchingUp) {
                snapshot.fault = None;
            }
            true
        })
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // Changes are plain assignments; a panic elsewhere leaves whole values behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_zero_while_idle_and_grows_when_nobody_answers() {
        let status = Status::new("shop");
        status.update(|snapshot| snapshot.caught_up_unix_ms = 10_000);
        let idle = status.snapshot();
        assert_eq!(idle.lag_seconds(11_500), 0.0);
        assert_eq!(idle.lag_seconds(40_000), 30.0);
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_commit_in_flight() {
        let status = Status::new("shop");
        status.update(|snapshot| {
            snapshot.caught_up_unix_ms = 10_000;
            snapshot.oldest_commit_unix_ms = Some(9_000);
        });
        assert_eq!(status.snapshot().lag_seconds(10_500), 1.5);
        // A writer's clock ahead of ours is no negative lag.
        assert_eq!(status.snapshot().lag_seconds(8_000), 0.0);
    }
}
