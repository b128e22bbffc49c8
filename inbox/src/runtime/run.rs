//! The loop of a consumer: what the source, the database and the clock say in; batches started,
//! offsets committed, partitions paused and given back, out.
//!
//! What a task came to is taken in `run/ended.rs`; what the clock brings is in `run/timed.rs`.
//!
//! One `select!`, biased, in this order: the end that was asked for; tasks that ended, because they
//! free lanes and connections; the source; time. Every task is in `tasks` and joined there; dropped
//! with the loop, their transactions are rolled back. Memory is bounded by the source, which pauses
//! while `memory_bytes_max` are handed out and not freed, and by each partition (I7).

mod ended;
mod timed;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::backoff::{Backoff, chance};
use super::batch::{self, End, Shared};
use super::breaker::{Admission, Breaker};
use super::chores::{self, Known, Widening};
use super::clock::Clock;
use super::error::RunError;
use super::gate;
use super::landfill::Landfill;
use super::lanes::{Batch, Choice, Work};
use super::partition::{Partition, Phase, Tenure};
use super::source::{Command, Source, SourceEvent};
use super::stats::add;
use crate::handler::chain;
use crate::message::{MessageRef, Place, Record};
use crate::store::StoreError;
use crate::store::parked::Lot;
use crate::store::release::SequenceName;
use crate::store::window::Upkeep;

/// Between two looks when nothing else is due: a bound, not a pace.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// After contention, a lost database or a lost registry.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(10), most: Duration::from_secs(2) };

/// What a task came to.
enum Ended {
    Batch { place: Place, generation: u64, batch: Batch, end: End, took: Duration },
    TakenOver { place: Place, generation: u64, known: Known },
    Closed(Vec<(Place, u64)>, Vec<Widening>),
    Widened(Result<Vec<Widening>, StoreError>),
    Due(Result<(Vec<SequenceName>, Lot), StoreError>),
    Released(SequenceName, Result<(), StoreError>),
    Window(Result<Upkeep, StoreError>),
}

/// When what happens by the clock is due.
struct Due {
    commit: Instant,
    release: Instant,
    window: Instant,
}

/// Each at most once at a time: a database that says nothing is not asked by ever more (I7).
#[derive(Default)]
struct UnderWay {
    widening: bool,
    looking: bool,
    keeping: bool,
}

impl UnderWay {
    fn ended(&mut self, ended: &Ended) {
        match ended {
            Ended::Widened(_) => self.widening = false,
            Ended::Due(_) => self.looking = false,
            Ended::Window(_) => self.keeping = false,
            Ended::Batch { .. }
            | Ended::TakenOver { .. }
            | Ended::Closed(..)
            | Ended::Released(..) => {}
        }
    }
}

pub(crate) struct Loop<S, K> {
    shared: Arc<Shared<S>>,
    source: K,
    clock: Clock,
    partitions: HashMap<Place, Partition>,
    /// Where partitions ended when they were assigned.
    highs: HashMap<Place, i64>,
    /// The order in which partitions get the next worker.
    turns: VecDeque<Place>,
    tasks: JoinSet<Ended>,
    /// Batches among the tasks.
    running: usize,
    /// Those of them that may wait for another transaction.
    running_met: usize,
    /// Sequences that are being released.
    releasing: Vec<SequenceName>,
    breaker: Breaker,
    landfill: Landfill,
    /// Failures in a row that no event is to blame for.
    unblamed: u32,
    due: Due,
    under_way: UnderWay,
    /// Set once the end was asked for: when it has to be over.
    drain_until: Option<Instant>,
}

impl<S: Send + Sync + 'static, K: Source> Loop<S, K> {
    pub(crate) fn new(shared: Arc<Shared<S>>, source: K, clock: Clock) -> Self {
        let now = clock.now();
        let aside_ratio_max = shared.settings.aside_ratio_max;
        let backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(10) };
        Self {
            shared,
            source,
            clock,
            partitions: HashMap::new(),
            highs: HashMap::new(),
            turns: VecDeque::new(),
            tasks: JoinSet::new(),
            running: 0,
            running_met: 0,
            releasing: Vec::new(),
            breaker: Breaker::new(backoff),
            landfill: Landfill::new(aside_ratio_max),
            unblamed: 0,
            due: Due { commit: now, release: now, window: now },
            under_way: UnderWay::default(),
            drain_until: None,
        }
    }

    /// Runs until the end is asked for and what is under way has ended, or a person has to look.
    ///
    /// Dropped, it leaves what a crash leaves: nothing half done in the database.
    pub(crate) async fn run(
        mut self,
        end: impl Future<Output = ()> + Send,
    ) -> Result<(), RunError> {
        let mut end = pin!(end);
        let result = loop {
            let now = self.clock.now();
            self.on_time(now);
            self.start_batches(now);
            if self.is_drained(now) {
                break Ok(());
            }
            let wake = self.next_wake(now);
            let is_idle = self.tasks.is_empty() && self.source.is_idle();
            let clock = self.clock.clone();
            let stepped = tokio::select! {
                biased;
                () = &mut end, if self.drain_until.is_none() => {
                    info!("draining");
                    self.drain_until = Some(now + self.shared.settings.drain_deadline);
                    Ok(())
                }
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    self.on_ended(ended)
                }
                event = self.source.next() => self.on_event(event),
                () = clock.sleep_until(wake, is_idle) => Ok(()),
            };
            if let Err(error) = stepped {
                break Err(error);
            }
        };
        self.leave().await;
        result
    }

    /// Starts as many batches as workers and the database allow, partitions in turn.
    fn start_batches(&mut self, now: Instant) {
        if self.drain_until.is_some() {
            return;
        }
        let mut without = 0;
        while self.running < self.shared.settings.workers && without < self.turns.len() {
            let is_probe = match self.breaker.admit(now) {
                Admission::Free => false,
                Admission::Probe if self.running == 0 => true,
                _ => return,
            };
            let Some(place) = self.turns.pop_front() else { return };
            self.turns.push_back(place.clone());
            let max = if is_probe { 1 } else { self.shared.settings.batch_max };
            let Some(partition) = self.partitions.get_mut(&place) else { continue };
            // Half of the workers are kept for lanes that wait for nobody.
            let met_max = (self.shared.settings.workers / 2).max(1);
            let choice = if self.running_met < met_max { Choice::All } else { Choice::Unmet };
            let Some(batch) = partition.take(now, max, choice) else {
                without += 1;
                continue;
            };
            without = 0;
            let (shared, generation) = (Arc::clone(&self.shared), partition.generation);
            self.running += 1;
            self.running_met += usize::from(batch.is_met);
            self.breaker.started();
            self.tasks.spawn(async move {
                let _pass = gate::pass(batch.care).await;
                let begun = Instant::now();
                let end = batch::run(&shared, &batch).await;
                Ended::Batch { place, generation, batch, end, took: begun.elapsed() }
            });
        }
    }

    fn on_event(&mut self, event: SourceEvent) -> Result<(), RunError> {
        match event {
            SourceEvent::Assigned { place, generation, low, high, start, beyond_window } => {
                if beyond_window > 0 {
                    add(&self.shared.counters.beyond_window, 1);
                    let days = self.shared.settings.window_days;
                    warn!(
                        %place, records = beyond_window, days,
                        "topic keeps records from before the window"
                    );
                }
                self.assign(place, Partition::new(generation, low, start), high);
            }
            SourceEvent::Records(records) => return self.receive(records),
            SourceEvent::Revoked(places) => {
                let until = self.clock.now() + self.shared.settings.drain_deadline;
                for place in &places {
                    if let Some(partition) = self.partitions.get_mut(place) {
                        partition.phase = Phase::Leaving(until);
                    }
                }
                // Those that we never had are given back too.
                let unknown = places.into_iter().filter(|p| !self.partitions.contains_key(p));
                let unknown: Vec<Place> = unknown.collect();
                if !unknown.is_empty() {
                    self.source.command(Command::Release(unknown, Vec::new()));
                }
                self.give_back(self.clock.now());
            }
            SourceEvent::Lost(places) => {
                places.iter().for_each(|place| self.forget(place));
                self.close_late(places);
            }
            SourceEvent::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads what is known of a new partition before anything of it is started.
    fn assign(&mut self, place: Place, partition: Partition, high: i64) {
        info!(%place, "assigned");
        add(&self.shared.counters.assignments, 1);
        let (shared, generation) = (Arc::clone(&self.shared), partition.generation);
        self.forget(&place);
        self.partitions.insert(place.clone(), partition);
        self.turns.push_back(place.clone());
        self.shared.counters.partitions.store(self.partitions.len() as u64, Ordering::Relaxed);
        self.highs.insert(place.clone(), high);
        self.tasks.spawn(async move {
            let mut failures = 0;
            loop {
                match shared.answer(chores::take_over(&shared, &place)).await {
                    Ok(known) => return Ended::TakenOver { place, generation, known },
                    Err(error) => {
                        failures += 1;
                        warn!(%place, error = chain(&error), "partition cannot be taken over");
                        tokio::time::sleep(AGAIN.wait(failures, chance())).await;
                    }
                }
            }
        });
    }

    fn receive(&mut self, records: Vec<Record>) -> Result<(), RunError> {
        let mut dropped = 0;
        for record in records {
            let message = MessageRef::of(&record, self.shared.consumer.cluster());
            let bytes = record.bytes();
            let mut partition = self.partitions.get_mut(&message.place);
            if partition.as_mut().is_some_and(|found| found.is_other_topic(&record)) {
                let (place, offset) = (message.place, message.offset);
                return Err(RunError::TopicReplaced { place, offset });
            }
            let work = Work { record: Arc::new(record), message };
            if !partition.is_some_and(|partition| partition.receive(work)) {
                dropped += bytes;
            }
        }
        if dropped > 0 {
            self.source.command(Command::Free(dropped));
        }
        Ok(())
    }

    fn on_widened(&mut self, widened: &[Widening]) {
        for Widening { place, generation, floor, .. } in widened {
            let found = self.partitions.get_mut(place);
            if let Some(found) = found.filter(|found| found.generation == *generation) {
                found.widened(floor.to);
            }
        }
    }

    /// Gives partitions back that are to leave and have nothing under way, or no time left.
    fn give_back(&mut self, now: Instant) {
        self.close_tenures();
        let is_ready = |partition: &Partition| match partition.phase {
            Phase::Leaving(until) => partition.tenure == Tenure::Closed || now >= until,
            _ => false,
        };
        let ready = self.partitions.iter().filter(|(_, partition)| is_ready(partition));
        let ready: Vec<Place> = ready.map(|(place, _)| place.clone()).collect();
        if ready.is_empty() {
            return;
        }
        let leaving = self.partitions.iter_mut().filter(|(place, _)| ready.contains(place));
        let offsets = to_commit(leaving);
        info!(partitions = ready.len(), "given back");
        let open: Vec<Place> = leaving_open(&self.partitions, &ready);
        self.close_late(open);
        ready.iter().for_each(|place| self.forget(place));
        self.source.command(Command::Release(ready, offsets));
    }

    /// Closes the tenures of partitions that are to leave and have nothing under way.
    fn close_tenures(&mut self) {
        let mut places = Vec::new();
        for (place, partition) in &mut self.partitions {
            let is_leaving = matches!(partition.phase, Phase::Leaving(_));
            if is_leaving && partition.running == 0 && partition.tenure == Tenure::Open {
                partition.tenure = Tenure::Closing;
                places.push((place.clone(), partition.generation));
            }
        }
        if places.is_empty() {
            return;
        }
        let is_leaving = |place: &Place| places.iter().any(|(leaving, _)| leaving == place);
        let floors = floors_due(self.partitions.iter().filter(|(place, _)| is_leaving(place)));
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            let all: Vec<Place> = places.iter().map(|(place, _)| place.clone()).collect();
            let widened = chores::close_tenures(&shared, &all, floors).await;
            Ended::Closed(places, widened)
        });
    }

    /// Closes tenures of partitions that are gone already: we live, so nobody died of their events.
    fn close_late(&mut self, places: Vec<Place>) {
        if places.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            let widened = chores::close_tenures(&shared, &places, Vec::new()).await;
            Ended::Closed(Vec::new(), widened)
        });
    }

    /// Drops what is known of a partition. Its batches under way may end; nobody waits for them.
    fn forget(&mut self, place: &Place) {
        if let Some(partition) = self.partitions.remove(place) {
            self.source.command(Command::Free(partition.lanes.bytes()));
        }
        self.highs.remove(place);
        self.turns.retain(|other| other != place);
        self.shared.counters.partitions.store(self.partitions.len() as u64, Ordering::Relaxed);
    }

    fn is_drained(&self, now: Instant) -> bool {
        let is_over = self.running == 0 && self.releasing.is_empty();
        self.drain_until.is_some_and(|until| is_over || now >= until)
    }

    fn next_wake(&self, now: Instant) -> Instant {
        // A lane that waits for a worker or for the database is not waited for by the clock.
        let has_room = self.running < self.shared.settings.workers
            && self.breaker.admit(now) == Admission::Free;
        let running = self.partitions.values().filter(|found| found.phase == Phase::Running);
        let held = running.filter(|_| has_room).filter_map(|found| found.lanes.next_due());
        let leaving = self.partitions.values().filter_map(|partition| match partition.phase {
            Phase::Leaving(until) => Some(until),
            _ => None,
        });
        let probe = match self.breaker.admit(now) {
            Admission::Wait(until) => Some(until),
            _ => None,
        };
        let due = &self.due;
        let timers = [due.commit, due.release, due.window, now + IDLE_MAX];
        let all = held.chain(leaving).chain(probe).chain(self.drain_until).chain(timers);
        all.min().unwrap_or(now + IDLE_MAX)
    }

    /// The end: what did not finish in time is dropped, which rolls it back; floors and offsets are
    /// those of what is committed.
    async fn leave(mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let floors = floors_due(self.partitions.iter());
        let places: Vec<Place> = self.partitions.keys().cloned().collect();
        let widened = chores::close_tenures(&self.shared, &places, floors).await;
        self.on_widened(&widened);
        let offsets = to_commit(self.partitions.iter_mut());
        self.source.close(offsets).await;
    }
}

fn to_commit<'a>(
    partitions: impl Iterator<Item = (&'a Place, &'a mut Partition)>,
) -> Vec<(Place, i64)> {
    let of = |(place, partition): (&Place, &mut Partition)| {
        Some((place.clone(), partition.next_commit()?))
    };
    partitions.filter_map(of).collect()
}

/// The floors that have moved, with the landmarks that are new.
fn floors_due<'a>(partitions: impl Iterator<Item = (&'a Place, &'a Partition)>) -> Vec<Widening> {
    let due = partitions.filter_map(|(place, partition)| {
        let (floor, landmark) = (partition.floor_due()?, partition.landmark_due());
        Some(Widening { place: place.clone(), generation: partition.generation, floor, landmark })
    });
    due.collect()
}

/// Those of these places whose tenure nobody has closed.
fn leaving_open(partitions: &HashMap<Place, Partition>, places: &[Place]) -> Vec<Place> {
    let is_open = |place: &&Place| {
        partitions.get(*place).is_some_and(|partition| partition.tenure == Tenure::Open)
    };
    places.iter().filter(is_open).cloned().collect()
}
