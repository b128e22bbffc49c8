//! The clock in; floors widened, offsets behind them, parked sequences looked for and released, the
//! window kept, partitions paused, out. Each is a task of its own, at most one of a kind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Ended, Loop, floors_due};
use crate::message::Place;
use crate::runtime::chores;
use crate::runtime::lot;
use crate::runtime::partition::{Partition, Phase};
use crate::runtime::source::{Command, Source};
use crate::store::release::SequenceName;

impl<S: Send + Sync + 'static, K: Source> Loop<S, K> {
    /// What is due by the clock.
    pub(super) fn on_time(&mut self, now: Instant) {
        let settings = &self.shared.settings;
        if now >= self.due.commit {
            self.due.commit = now + settings.commit_interval;
            self.widen_floors();
        }
        if now >= self.due.release {
            self.due.release = now + self.shared.settings.release_interval;
            self.look_for_releases();
        }
        if now >= self.due.window && !self.under_way.keeping {
            // Moved on by its own answer.
            self.due.window = now + Duration::from_secs(60);
            let shared = Arc::clone(&self.shared);
            self.under_way.keeping = true;
            self.tasks.spawn(async move {
                Ended::Window(shared.answer(chores::keep_window(&shared)).await)
            });
        }
        self.pause_and_resume();
        self.give_back(now);
    }

    /// The floors first, then the offsets (I10).
    fn widen_floors(&mut self) {
        if self.breaker.is_open() || self.under_way.widening {
            return;
        }
        let due = floors_due(self.partitions.iter());
        let settled: Vec<Place> = self
            .partitions
            .iter_mut()
            .filter_map(|(place, partition)| partition.is_settled().then(|| place.clone()))
            .collect();
        if due.is_empty() && settled.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.under_way.widening = true;
        self.tasks.spawn(async move {
            Ended::Widened(shared.answer(chores::widen(&shared, due, settled)).await)
        });
    }

    fn look_for_releases(&mut self) {
        let running = |(place, partition): (&Place, &Partition)| {
            (partition.phase == Phase::Running).then(|| place.clone())
        };
        let owned: Vec<Place> = self.partitions.iter().filter_map(running).collect();
        let is_looking = self.under_way.looking;
        if owned.is_empty() || is_looking || self.breaker.is_open() || self.drain_until.is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.under_way.looking = true;
        self.tasks.spawn(async move {
            Ended::Due(shared.answer(chores::find_due(&shared, &owned)).await)
        });
    }

    pub(super) fn start_releases(&mut self, names: Vec<SequenceName>) {
        for name in names {
            let room = self.releasing.len() < self.shared.settings.workers;
            if self.drain_until.is_some() || !room || self.releasing.contains(&name) {
                continue;
            }
            self.releasing.push(name.clone());
            let shared = Arc::clone(&self.shared);
            self.tasks.spawn(async move {
                let result = lot::release(&shared, &name).await;
                Ended::Released(name, result)
            });
        }
    }

    pub(super) fn pause_and_resume(&mut self) {
        let (is_open, is_draining) = (self.breaker.is_open(), self.drain_until.is_some());
        let max = self.shared.settings.partition_records_max;
        let mut bytes = 0;
        for (place, partition) in &mut self.partitions {
            bytes += partition.lanes.bytes();
            let wants = is_open || is_draining || partition.wants_pause(max);
            if wants != partition.is_paused {
                partition.is_paused = wants;
                let place = place.clone();
                let command = if wants { Command::Pause(place) } else { Command::Resume(place) };
                self.source.command(command);
            }
        }
        self.shared.counters.memory_bytes.store(bytes as u64, Ordering::Relaxed);
    }
}
