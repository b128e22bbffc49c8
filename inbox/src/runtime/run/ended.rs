//! What tasks came to in; partitions, counters and the breaker changed, and what must end the loop,
//! out.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinError;
use tracing::{debug, info, warn};

use super::{AGAIN, Ended, Loop, to_commit};
use crate::handler::chain;
use crate::message::Place;
use crate::runtime::backoff::chance;
use crate::runtime::batch::End;
use crate::runtime::chores::Known;
use crate::runtime::error::RunError;
use crate::runtime::fate::next_fate;
use crate::runtime::lanes::Batch;
use crate::runtime::partition::Tenure;
use crate::runtime::source::{Command, Source};
use crate::runtime::stats::add;
use crate::runtime::suspects::Suspects;
use crate::store::StoreError;
use crate::store::floor::Landmark;
use crate::store::window;

impl<S: Send + Sync + 'static, K: Source> Loop<S, K> {
    pub(super) fn on_ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), RunError> {
        let ended = match ended {
            Ok(ended) => ended,
            // A broken invariant: nothing that rests on it goes on.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Ok(()),
        };
        self.under_way.ended(&ended);
        match ended {
            Ended::Batch { place, generation, batch, end, took } => {
                self.running -= 1;
                self.running_met -= usize::from(batch.is_met);
                return self.on_batch((&place, generation), batch, end, took);
            }
            Ended::TakenOver { place, generation, known } => {
                return self.on_taken_over(place, generation, known);
            }
            Ended::Closed(places, widened) => {
                self.on_widened(&widened);
                for (place, generation) in places {
                    let found = self.partitions.get_mut(&place);
                    if let Some(found) = found.filter(|found| found.generation == generation) {
                        found.tenure = Tenure::Closed;
                    }
                }
                self.give_back(self.clock.now());
            }
            Ended::Widened(Ok(widened)) => {
                self.on_widened(&widened);
                let offsets = to_commit(self.partitions.iter_mut());
                if !offsets.is_empty() {
                    self.source.command(Command::Commit(offsets));
                }
            }
            Ended::Widened(Err(error)) => unblamed("floors cannot be widened", Err(error)),
            Ended::Due(Ok((names, lot))) => {
                let counters = &self.shared.counters;
                counters.parked_sequences.store(lot.sequences, Ordering::Relaxed);
                counters.parked_seconds.store(lot.oldest_seconds, Ordering::Relaxed);
                counters.parked_bytes.store(lot.bytes, Ordering::Relaxed);
                self.start_releases(names);
            }
            Ended::Due(Err(error)) => unblamed("parked sequences cannot be read", Err(error)),
            Ended::Released(name, result) => {
                self.releasing.retain(|other| *other != name);
                unblamed("a parked sequence cannot be released", result);
            }
            Ended::Window(Ok(upkeep)) => {
                debug!(?upkeep, "window kept");
                self.due.window = self.clock.now() + window::pause(upkeep);
            }
            Ended::Window(Err(error)) => unblamed("window cannot be kept", Err(error)),
        }
        Ok(())
    }

    /// What is known of a partition is known; from now on it may start.
    fn on_taken_over(
        &mut self,
        place: Place,
        generation: u64,
        Known { floor, landmark, left }: Known,
    ) -> Result<(), RunError> {
        let high = self.highs.get(&place).copied().unwrap_or(i64::MAX);
        let partition = self.partitions.get_mut(&place);
        let Some(partition) = partition.filter(|p| p.generation == generation) else {
            return Ok(());
        };
        if let Some(floor) = floor.filter(|floor| floor.to > high) {
            return Err(RunError::TopicRecreated { place, floor: floor.to, high });
        }
        if let Some(Landmark { offset, .. }) = landmark.filter(|_| !partition.know(landmark)) {
            return Err(RunError::TopicReplaced { place, offset });
        }
        if left.is_dead || !left.suspects.is_empty() {
            let suspects = left.suspects.len();
            warn!(%place, suspects, "last owner ended with work under way");
            let deaths_max = self.shared.settings.deaths_max;
            partition.be_careful(Suspects::new(&left.suspects, deaths_max), high);
        }
        partition.check(floor);
        Ok(())
    }

    fn on_batch(
        &mut self,
        (place, generation): (&Place, u64),
        batch: Batch,
        end: End,
        took: Duration,
    ) -> Result<(), RunError> {
        let now = self.clock.now();
        self.note_database(&end, now);
        let partition = self.partitions.get_mut(place);
        // Of an assignment that is over: what it committed is committed, and its offsets are the
        // new owner's (trap 23).
        let Some(partition) = partition.filter(|found| found.generation == generation) else {
            return Ok(());
        };
        partition.running -= 1;
        let counters = &self.shared.counters;
        match end {
            End::Committed { slow } => {
                self.landfill.look(counters.snapshot())?;
                slow.iter().for_each(|key| partition.lanes.mark_slow(key));
                partition.finished(&batch.works, took);
                let bytes = batch.works.iter().map(|work| work.record.bytes()).sum();
                self.source.command(Command::Free(bytes));
            }
            End::Failed { at, verdict } => {
                add(&counters.failures, 1);
                let (due, fate) = next_fate(&self.shared.settings, &batch, at, verdict, now);
                partition.lanes.failed(batch.works, at, due, fate);
            }
            End::Narrow => partition.lanes.met(batch.works, |_| now),
            End::Contention(reason) => {
                add(&counters.contentions, 1);
                debug!(%place, reason, "batch met another transaction");
                partition.lanes.met(batch.works, |meetings| now + AGAIN.wait(meetings, chance()));
            }
            End::Database(reason) | End::Registry(reason) => {
                add(&counters.waits, 1);
                warn!(%place, reason, "batch waits");
                let due = now + AGAIN.wait(self.unblamed, chance());
                partition.lanes.again(batch.works, due);
            }
            End::Stop(error) => return Err(error),
        }
        self.give_back(now);
        Ok(())
    }

    /// What a batch's end says about the database.
    fn note_database(&mut self, end: &End, now: Instant) {
        match end {
            End::Committed { .. } | End::Failed { .. } | End::Narrow => {
                self.unblamed = 0;
                if self.breaker.is_open() {
                    info!("database answers again");
                    self.breaker.succeeded();
                    self.pause_and_resume();
                }
                self.breaker.succeeded();
            }
            End::Contention(_) | End::Registry(_) | End::Stop(_) => {
                self.unblamed = self.unblamed.saturating_add(1);
                // It answered.
                self.breaker.succeeded();
            }
            End::Database(reason) => {
                self.unblamed = self.unblamed.saturating_add(1);
                let was_open = self.breaker.is_open();
                self.breaker.failed(now, chance());
                self.shared.database.forget_idle();
                if self.breaker.is_open() && !was_open {
                    warn!(reason, "database is away: paused");
                    self.pause_and_resume();
                }
            }
        }
    }
}

fn unblamed(what: &str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        warn!(error = chain(&error), "{what}");
    }
}
