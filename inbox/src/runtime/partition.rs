//! One assigned partition: its records in lanes, its offsets, its floor. Pure: time is an argument.

use std::time::Instant;

use super::lanes::{Batch, Choice, Lanes, Work};
use super::offsets::Offsets;
use crate::store::floor::Floor;

/// What a partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its floor is being read; nothing is started.
    Checking,
    Running,
    /// It goes elsewhere, at the latest then: what is under way may end, nothing is started.
    Leaving(Instant),
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
        let batch = self.lanes.take(now, max, choice)?;
        self.running += 1;
        Some(batch)
    }

    /// The batch is committed.
    pub(crate) fn finished(&mut self, works: &[Work]) {
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
    pub(crate) fn floor_due(&mut self) -> Option<Floor> {
        let to = self.offsets.frontier();
        if to <= self.widened_to {
            return None;
        }
        self.widened_to = to;
        Some(Floor { from: self.floor_from, to })
    }
}
