//! When the position is recorded: the frontier in, position records out, one at a time. Pure.
//!
//! ```text
//!   frontier moves ----> due? ----> write ----> acknowledged ----> the slot may be confirmed
//!                         ^                          |
//!                         +--------------------------+
//! ```
//!
//! The record always goes first: a slot is confirmed only up to a position that Kafka holds (I4).
//! So a slot behind the position is normal, and a slot ahead of it is damage.

use std::time::Duration;

use super::offsets::Generation;
use super::record::Frontier;

/// While events move the frontier, this bounds what read-back must look at after a crash.
const EVENTS_INTERVAL: Duration = Duration::from_millis(250);
/// The same bound as a count of events.
const EVENTS_MAX: u64 = 25_000;
/// While only foreign WAL moves the frontier, nothing depends on it but the server's disk.
const QUIET_INTERVAL: Duration = Duration::from_secs(1);
/// A server that asks is told soon, and not more often than this.
const ASKED_INTERVAL: Duration = Duration::from_millis(100);

/// What is in a position record that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UnderWay {
    frontier: Frontier,
    generation: Generation,
    events: u64,
}

/// What was recorded, and when the next record is due.
#[derive(Debug)]
pub struct Recorder {
    recorded: Frontier,
    /// Events that the frontier had passed in the last record.
    recorded_events: u64,
    under_way: Option<UnderWay>,
    written_at: Duration,
    urgency: Urgency,
}

/// Whether somebody waits for the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Nobody.
    None,
    /// The server asked how far we are.
    Asked,
    /// An event waits for its place, or the source ends.
    Now,
}

impl Recorder {
    /// The position of an earlier run, or of `init`, is what Kafka holds.
    pub fn new(recorded: Frontier) -> Self {
        Self {
            recorded,
            recorded_events: 0,
            under_way: None,
            written_at: Duration::ZERO,
            urgency: Urgency::None,
        }
    }

    /// What Kafka holds.
    pub fn recorded(&self) -> Frontier {
        self.recorded
    }

    /// Whether a record is written and not acknowledged.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The server asked how far we are.
    pub fn ask(&mut self) {
        self.urgency = self.urgency.max(Urgency::Asked);
    }

    /// An event waits until its place is secured, or the source ends: the next record is due at
    /// once, whether the frontier moved or not.
    pub fn demand(&mut self) {
        self.urgency = Urgency::Now;
    }

    /// When the next record is due: `None` while one is under way or nothing is new.
    pub fn due_at(&self, frontier: Frontier, events: u64) -> Option<Duration> {
        if self.under_way.is_some() {
            return None;
        }
        if self.urgency == Urgency::Now {
            return Some(Duration::ZERO);
        }
        if frontier == self.recorded {
            return None;
        }
        let events = events - self.recorded_events;
        let interval = match (events, self.urgency) {
            (EVENTS_MAX.., _) => return Some(Duration::ZERO),
            (_, Urgency::Asked | Urgency::Now) => ASKED_INTERVAL,
            (0, Urgency::None) => QUIET_INTERVAL,
            (_, Urgency::None) => EVENTS_INTERVAL,
        };
        Some(self.written_at + interval)
    }

    /// The producer took the record.
    pub fn written(
        &mut self,
        frontier: Frontier,
        generation: Generation,
        events: u64,
        now: Duration,
    ) {
        assert!(self.under_way.is_none(), "I4: one position record at a time is under way");
        self.under_way = Some(UnderWay { frontier, generation, events });
        self.written_at = now;
        self.urgency = Urgency::None;
    }

    /// Kafka has the record: what it holds now, and the snapshot of offsets in it.
    pub fn acknowledged(&mut self) -> Option<(Frontier, Generation)> {
        let done = self.under_way.take()?;
        self.recorded = done.frontier;
        self.recorded_events = done.events;
        Some((done.frontier, done.generation))
    }

    /// The producer was lost; whether the record under way was written is not known, and the next
    /// one says more.
    pub fn lost(&mut self) {
        self.under_way = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;
    use crate::position::{Mark, Offsets};

    fn at(end: u64) -> Frontier {
        Frontier { mark: Mark::before(Lsn(end)), end: Lsn(end) }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn write(recorder: &mut Recorder, frontier: Frontier, events: u64, now: Duration) {
        let (generation, _) = Offsets::default().snapshot();
        recorder.written(frontier, generation, events, now);
        recorder.acknowledged().expect("under way");
    }

    #[test]
    fn cadence_depends_on_what_moved() {
        let mut recorder = Recorder::new(at(10));
        write(&mut recorder, at(20), 0, ms(5_000));
        assert_eq!(recorder.due_at(at(20), 0), None, "nothing is new");
        assert_eq!(recorder.due_at(at(30), 0), Some(ms(6_000)), "only foreign wal");
        assert_eq!(recorder.due_at(at(30), 1), Some(ms(5_250)), "an event");
        assert_eq!(recorder.due_at(at(30), EVENTS_MAX), Some(ms(0)), "many events");
        recorder.ask();
        assert_eq!(recorder.due_at(at(30), 0), Some(ms(5_100)), "the server asked");
        assert_eq!(recorder.due_at(at(20), 0), None, "and nothing is new");
    }

    #[test]
    fn one_record_is_under_way_and_what_it_held_is_what_is_recorded() {
        let mut recorder = Recorder::new(at(10));
        let (generation, _) = Offsets::default().snapshot();
        recorder.written(at(20), generation, 7, ms(1_000));
        recorder.demand();
        assert_eq!(recorder.due_at(at(40), EVENTS_MAX * 2), None);
        assert_eq!(recorder.acknowledged(), Some((at(20), generation)));
        assert_eq!(recorder.recorded(), at(20));
        assert_eq!(recorder.due_at(at(20), 7), Some(ms(0)), "the demand came after it");
    }

    #[test]
    fn a_lost_record_is_followed_by_another() {
        let mut recorder = Recorder::new(at(10));
        let (generation, _) = Offsets::default().snapshot();
        recorder.written(at(20), generation, 1, ms(1_000));
        recorder.lost();
        assert_eq!(recorder.acknowledged(), None);
        assert_eq!(recorder.recorded(), at(10));
        assert_eq!(recorder.due_at(at(20), 1), Some(ms(1_250)));
    }
}
