//! The loop of a consumer: what the source, the database and the clock say in; batches started,
//! offsets committed, partitions paused and given back, out.
//!
//! One `select!`, biased, in this order: the end that was asked for; tasks that ended, because they
//! free lanes and connections; the source; time. Every task is in `tasks` and joined there; dropped
//! with the loop, their transactions are rolled back. Memory is bounded by the source, which pauses
//! while `memory_bytes_max` are handed out and not freed, and by each partition (I7).

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};
use tracing::{debug, info, warn};

use super::backoff::{Backoff, chance};
use super::batch::{self, End, Shared};
use super::breaker::{Admission, Breaker};
use super::chores::{self, Known, Widening};
use super::clock::Clock;
use super::error::RunError;
use super::fate::next_fate;
use super::gate;
use super::landfill::Landfill;
use super::lanes::{Batch, Choice, Work};
use super::lot;
use super::partition::{Partition, Phase, Tenure};
use super::source::{Command, Source, SourceEvent};
use super::stats::add;
use super::suspects::Suspects;
use crate::handler::chain;
use crate::message::{MessageRef, Place, Record};
use crate::store::StoreError;
use crate::store::floor::Landmark;
use crate::store::parked::Lot;
use crate::store::release::SequenceName;
use crate::store::window::{self, Upkeep};

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

    fn on_ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), RunError> {
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

    /// What is due by the clock.
    fn on_time(&mut self, now: Instant) {
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

    fn start_releases(&mut self, names: Vec<SequenceName>) {
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

    fn pause_and_resume(&mut self) {
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

fn unblamed(what: &str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        warn!(error = chain(&error), "{what}");
    }
}
