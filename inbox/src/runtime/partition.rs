//! One assigned partition: its records in lanes, its offsets, its floor. Pure: time is an argument.

use std::time::{Duration, Instant};

use super::lanes::{Batch, Choice, Lanes, Work};
use super::offsets::Offsets;
use super::suspects::{Care, Suspects};
use crate::message::Record;
use crate::store::floor::{Floor, Landmark};

/// A partition's first batch.
const BATCH_FIRST: usize = 8;
/// As large as a batch grows by itself; the settings bound it further.
const BATCH_LAST: usize = 1 << 20;
/// A batch that takes longer is too large.
const BATCH_LONG: Duration = Duration::from_millis(200);

/// What a partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its floor is being read; nothing is started.
    Checking,
    Running,
    /// It goes elsewhere, at the latest then: what is under way may end, nothing is started.
    Leaving(Instant),
}

/// What the database knows of our hold of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tenure {
    Open,
    Closing,
    Closed,
}

#[derive(Debug)]
pub(crate) struct Partition {
    /// Tells this assignment from others of the same partition: reports of an older one are
    /// dropped (trap 23).
    pub(crate) generation: u64,
    pub(crate) phase: Phase,
    pub(crate) lanes: Lanes,
    pub(crate) offsets: Offsets,
    /// Batches under way.
    pub(crate) running: usize,
    pub(crate) is_paused: bool,
    pub(crate) tenure: Tenure,
    /// The last owner died: events before this offset may have been in its hands, and are noted
    /// before they start.
    careful_until: Option<i64>,
    /// By which the topic is known again.
    landmark: Option<Landmark>,
    /// Not in the database yet.
    is_landmark_new: bool,
    /// How many records the next batch has at most: grows while batches are quick.
    batch_max: usize,
    low: i64,
    /// Where the floor of this assignment starts.
    floor_from: i64,
    widened_to: i64,
}

impl Partition {
    pub(crate) fn new(generation: u64, low: i64, start: i64) -> Self {
        Self {
            generation,
            phase: Phase::Checking,
            lanes: Lanes::default(),
            offsets: Offsets::starting_at(start),
            running: 0,
            is_paused: false,
            tenure: Tenure::Open,
            careful_until: None,
            landmark: None,
            is_landmark_new: false,
            batch_max: BATCH_FIRST,
            low,
            floor_from: start,
            widened_to: start,
        }
    }

    /// The floor is known: offsets that Kafka deleted between it and our start are no hole.
    pub(crate) fn check(&mut self, floor: Option<Floor>) {
        if let Some(floor) = floor
            && self.floor_from == self.low
            && floor.to < self.low
        {
            self.floor_from = floor.to;
        }
        if self.phase == Phase::Checking {
            self.phase = Phase::Running;
        }
    }

    /// Somebody died who had this partition: what was there by then is handled with care.
    pub(crate) fn be_careful(&mut self, suspects: Suspects, until: i64) {
        self.lanes.suspect(suspects);
        self.careful_until = Some(until);
    }

    /// Whether everything is finished that a dead owner may have had in its hands; told once.
    pub(crate) fn is_settled(&mut self) -> bool {
        let frontier = self.offsets.frontier();
        let settled = self.careful_until.take_if(|until| frontier >= *until).is_some();
        if settled {
            self.lanes.suspect(Suspects::default());
        }
        settled
    }

    /// The landmark that the database knows; false when another record stands there now.
    pub(crate) fn know(&mut self, landmark: Option<Landmark>) -> bool {
        let Some(known) = landmark else { return true };
        if self.landmark.is_none_or(|first| known.offset <= first.offset) {
            self.landmark = Some(known);
            self.is_landmark_new = false;
        }
        let found = self.lanes.waiting_at(known.offset);
        found.is_none_or(|record| Landmark::of(record) == known)
    }

    /// Whether a record stands where another one was read: the topic was made anew.
    pub(crate) fn is_other_topic(&mut self, record: &Record) -> bool {
        match self.landmark {
            None => {
                self.landmark = Some(Landmark::of(record));
                self.is_landmark_new = true;
                false
            }
            Some(known) if known.offset == record.offset => Landmark::of(record) != known,
            Some(_) => false,
        }
    }

    /// The landmark, if the database is to know it.
    pub(crate) fn landmark_due(&self) -> Option<Landmark> {
        self.landmark.filter(|_| self.is_landmark_new)
    }

    /// Another record; false for one that was received before.
    pub(crate) fn receive(&mut self, work: Work) -> bool {
        if !self.offsets.receive(work.record.offset) {
            return false;
        }
        self.lanes.push(work);
        true
    }

    pub(crate) fn take(&mut self, now: Instant, max: usize, choice: Choice) -> Option<Batch> {
        if self.phase != Phase::Running {
            return None;
        }
        let mut batch = self.lanes.take(now, max.min(self.batch_max), choice)?;
        let until = self.careful_until.unwrap_or(i64::MIN);
        if batch.care == Care::Quiet && batch.works.iter().any(|work| work.record.offset < until) {
            batch.care = Care::Noted;
        }
        self.running += 1;
        Some(batch)
    }

    /// The batch is committed, after so long: the next ones are larger or smaller. What slow
    /// handlers share a transaction is what waits for all of them.
    pub(crate) fn finished(&mut self, works: &[Work], took: Duration) {
        if took > BATCH_LONG {
            self.batch_max = (self.batch_max / 2).max(1);
        } else if took < BATCH_LONG / 2 && works.len() >= self.batch_max {
            self.batch_max = self.batch_max.saturating_mul(2).min(BATCH_LAST);
        }
        for work in works {
            self.offsets.finish(work.record.offset);
        }
        self.lanes.finished(works);
    }

    /// Whether it should be paused, with a distance between the two answers.
    pub(crate) fn wants_pause(&self, records_max: usize) -> bool {
        let bound = if self.is_paused { records_max / 2 } else { records_max };
        self.offsets.open() > bound
    }

    /// The range by which its floor is to be widened, if it moved.
    pub(crate) fn floor_due(&self) -> Option<Floor> {
        let to = self.offsets.frontier();
        if to <= self.widened_to {
            return None;
        }
        Some(Floor { from: self.floor_from, to })
    }

    /// The floor was widened to there, and the landmark is known.
    pub(crate) fn widened(&mut self, to: i64) {
        self.widened_to = self.widened_to.max(to);
        self.is_landmark_new = false;
    }

    /// What may be committed to Kafka, if that is more than before. The floor first: what lies
    /// between it and the committed offset after a crash would be a hole in it for ever.
    pub(crate) fn next_commit(&mut self) -> Option<i64> {
        self.offsets.next_commit(self.widened_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MessageRef, Record};
    use std::sync::Arc;

    fn partition(records: i64) -> Partition {
        let mut partition = Partition::new(1, 0, 0);
        for offset in 0..records {
            let record = Record {
                topic: "t".into(),
                partition: 0,
                offset,
                time_ms: None,
                key: Some(offset.to_be_bytes().to_vec()),
                value: None,
                headers: Vec::new(),
            };
            let message = MessageRef::of(&record, "c");
            assert!(partition.receive(Work { record: Arc::new(record), message }));
        }
        partition
    }

    #[test]
    fn nothing_starts_before_the_floor_is_known_nor_after_the_partition_is_to_leave() {
        let now = Instant::now();
        let mut partition = partition(20);
        assert_eq!(partition.take(now, 9, Choice::All), None);
        partition.check(None);
        assert!(partition.take(now, 9, Choice::All).is_some());
        partition.phase = Phase::Leaving(now);
        assert_eq!(partition.take(now, 9, Choice::All), None);
    }

    #[test]
    fn batches_grow_while_they_are_quick_and_shrink_when_one_is_slow() {
        let now = Instant::now();
        let mut partition = partition(500);
        partition.check(None);
        let sizes: Vec<usize> = [1, 1, 1, 300, 1]
            .into_iter()
            .map(|ms| {
                let batch = partition.take(now, 40, Choice::All).unwrap();
                partition.finished(&batch.works, Duration::from_millis(ms));
                batch.works.len()
            })
            .collect();
        assert_eq!(sizes, [8, 16, 32, 40, 32]);
    }

    #[test]
    fn what_a_dead_owner_may_have_had_is_noted_and_what_came_later_is_not() {
        let now = Instant::now();
        let mut partition = partition(6);
        partition.check(None);
        partition.be_careful(Suspects::default(), 4);
        let mut cares = Vec::new();
        for _ in 0..3 {
            assert!(!partition.is_settled());
            let batch = partition.take(now, 2, Choice::All).unwrap();
            partition.finished(&batch.works, Duration::ZERO);
            cares.push(batch.care);
            if cares.len() == 2 {
                assert!(partition.is_settled());
            }
        }
        assert_eq!(cares, [Care::Noted, Care::Noted, Care::Quiet]);
        assert!(!partition.is_settled(), "told once");
    }

    #[test]
    fn a_topic_is_known_again_by_the_first_record_that_was_read_of_it() {
        let record = |offset: i64, time_ms: i64| Record {
            topic: "t".into(),
            partition: 0,
            offset,
            time_ms: Some(time_ms),
            key: None,
            value: Some(b"v".to_vec()),
            headers: Vec::new(),
        };
        let landmark = Landmark::of(&record(5, 100));
        let mut first = Partition::new(1, 0, 5);
        assert!(!first.is_other_topic(&record(5, 100)));
        assert!(!first.is_other_topic(&record(6, 100)));
        assert_eq!(first.landmark_due(), Some(landmark));
        first.widened(6);
        assert_eq!(first.landmark_due(), None);
        assert!(!first.is_other_topic(&record(5, 100)), "handed out again");
        assert!(first.is_other_topic(&record(5, 101)));
        // The next one knows it from the database, before or after the record comes.
        let mut next = Partition::new(2, 0, 4);
        assert!(next.know(Some(landmark)));
        assert!(!next.is_other_topic(&record(4, 7)));
        assert!(next.is_other_topic(&record(5, 101)));
        for (time_ms, is_known) in [(100, true), (101, false)] {
            let mut late = Partition::new(3, 0, 4);
            for record in [record(4, 7), record(5, time_ms)] {
                let message = MessageRef::of(&record, "c");
                assert!(!late.is_other_topic(&record));
                assert!(late.receive(Work { record: Arc::new(record), message }));
            }
            assert_eq!(late.know(Some(landmark)), is_known);
        }
    }

    #[test]
    fn the_floor_starts_at_the_assignment_and_reaches_over_what_kafka_deleted() {
        let floor = |low, start, known: Option<(i64, i64)>| {
            let mut partition = Partition::new(1, low, start);
            partition.check(known.map(|(from, to)| Floor { from, to }));
            partition.floor_from
        };
        assert_eq!(floor(0, 50, None), 50);
        assert_eq!(floor(0, 50, Some((0, 40))), 50);
        // 40 to 59 are gone from the topic: they are no hole.
        assert_eq!(floor(60, 60, Some((0, 40))), 40);
        assert_eq!(floor(60, 70, Some((0, 40))), 70);
    }

    #[test]
    fn a_full_partition_is_paused_until_half_of_it_is_done() {
        let now = Instant::now();
        let mut partition = partition(10);
        partition.check(None);
        assert!(partition.wants_pause(9) && !partition.wants_pause(10));
        partition.is_paused = true;
        let batch = partition.take(now, 4, Choice::All).unwrap();
        partition.finished(&batch.works, Duration::ZERO);
        assert!(partition.wants_pause(10));
        let batch = partition.take(now, 4, Choice::All).unwrap();
        partition.finished(&batch.works, Duration::ZERO);
        assert!(!partition.wants_pause(10));
    }
}
