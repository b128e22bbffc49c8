//! Records of one partition in, batches out: different keys beside each other, one key in order.
//! Pure: time is an argument.
//!
//! ```text
//!   record --> lane of its key --> ready --> batch (its lanes are busy) --> finished
//!                   ^                                 |
//!                   +--- held until a moment <--------+ failed: it and the later ones of its key
//!                   +--- ready again         <--------+ the others of the batch
//! ```
//!
//! A lane that failed, or whose handler was slow, goes alone, so that it delays nobody else.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::suspects::{Care, Suspects};
use crate::message::{MessageRef, Record};

/// Keys that are remembered as slow; beyond it all are forgotten, and found slow again.
const SLOW_KEYS_MAX: usize = 10_000;

/// The name of a sequence.
pub(crate) type Key = Arc<[u8]>;

/// A record on its way through the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// As it was read.
    pub(crate) record: Arc<Record>,
    /// What the claim needs.
    pub(crate) message: MessageRef,
}

/// What is to be done with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Call the handlers.
    Handle,
    /// Put the one event aside, for this reason.
    Park(String),
    /// Send the one event away, for this reason.
    DeadLetter(String),
}

/// Records to be handled in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// In order.
    pub(crate) works: Vec<Work>,
    /// One event alone unless it is [`Fate::Handle`].
    pub(crate) fate: Fate,
    /// Failures of the one event so far; 0 for a batch of several.
    pub(crate) failures: u32,
    /// One event of a lane that met another transaction.
    pub(crate) is_met: bool,
    /// How it has to start.
    pub(crate) care: Care,
}

/// Which lanes a batch may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Any.
    All,
    /// Not those that met another transaction: enough workers wait on their behalf.
    Unmet,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    Busy,
    Held,
}

#[derive(Debug)]
struct Lane {
    waiting: VecDeque<Work>,
    state: State,
    blamed: Option<Blamed>,
    /// How often in a row its batch met another transaction. Such a lane goes alone: the others of
    /// the batch are not to wait for whatever holds its event.
    meetings: u32,
}

/// An event that failed. Those of its key that stood before it in its batch go first, as if
/// nothing had been: the fate is its own.
#[derive(Debug)]
struct Blamed {
    offset: i64,
    failures: u32,
    fate: Fate,
    due: Instant,
}

impl Lane {
    /// The failure of the first event in line.
    fn blame_of_first(&self) -> Option<&Blamed> {
        let first = self.waiting.front()?.record.offset;
        self.blamed.as_ref().filter(|blamed| blamed.offset == first)
    }

    /// How many events may go before the one that failed.
    fn before_blamed(&self) -> usize {
        let Some(blamed) = &self.blamed else { return self.waiting.len() };
        let offsets = self.waiting.iter().map(|work| work.record.offset);
        offsets.take_while(|offset| *offset != blamed.offset).count()
    }
}

/// The records of one partition that are not finished.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: HashMap<Key, Lane>,
    ready: VecDeque<Key>,
    /// Ready as well, after a meeting.
    met: VecDeque<Key>,
    /// Whose turn it is, if both have any.
    is_turn_of_met: bool,
    held: BTreeMap<(Instant, u64), Key>,
    held_count: u64,
    slow: HashSet<Key>,
    /// Each goes alone.
    suspects: Suspects,
    bytes: usize,
}

impl Lanes {
    /// Another record, behind those of its key.
    pub(crate) fn push(&mut self, work: Work) {
        self.bytes += work.record.bytes();
        let key = Arc::clone(&work.message.sequence);
        let lane = self.lanes.entry(Arc::clone(&key)).or_insert_with(|| {
            self.ready.push_back(key);
            Lane { waiting: VecDeque::new(), state: State::Ready, blamed: None, meetings: 0 }
        });
        lane.waiting.push_back(work);
    }

    /// The next batch of at most `max` records; its lanes are busy until it is reported.
    pub(crate) fn take(&mut self, now: Instant, max: usize, choice: Choice) -> Option<Batch> {
        self.wake(now);
        let max = max.max(1);
        let mut batch = Batch {
            works: Vec::new(),
            fate: Fate::Handle,
            failures: 0,
            is_met: false,
            care: Care::Quiet,
        };
        while batch.works.len() < max {
            let choice = if batch.works.is_empty() { choice } else { Choice::Unmet };
            let Some(key) = self.next_ready(choice) else { break };
            let is_slow = self.slow.contains(&key);
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let blame = lane.blame_of_first();
            let deaths = self.suspects.deaths_of(lane.waiting.front());
            let is_alone = is_slow || lane.meetings > 0 || blame.is_some() || deaths.is_some();
            if is_alone && !batch.works.is_empty() {
                self.ready.push_front(key);
                break;
            }
            assert_eq!(lane.state, State::Ready, "a key is in one batch at a time");
            if let Some(blamed) = blame {
                if blamed.due > now {
                    let due = blamed.due;
                    lane.state = State::Held;
                    self.hold(key, due);
                    continue;
                }
                batch.fate.clone_from(&blamed.fate);
                batch.failures = blamed.failures;
            }
            if let Some(deaths) = deaths {
                batch.care = Care::Alone { deaths };
                if let (Fate::Handle, Some(reason)) = (&batch.fate, self.suspects.verdict(deaths)) {
                    batch.fate = Fate::Park(reason);
                }
            }
            lane.state = State::Busy;
            let room = if is_alone { 1 } else { max - batch.works.len() };
            let count = lane.before_blamed().min(self.suspects.before(&lane.waiting));
            let count = count.max(1).min(room);
            batch.works.extend(lane.waiting.drain(..count));
            if is_alone {
                batch.is_met = lane.meetings > 0;
                break;
            }
        }
        (!batch.works.is_empty()).then_some(batch)
    }

    fn next_ready(&mut self, choice: Choice) -> Option<Key> {
        if choice == Choice::All && !self.met.is_empty() {
            self.is_turn_of_met = !self.is_turn_of_met;
            if self.is_turn_of_met || self.ready.is_empty() {
                return self.met.pop_front();
            }
        }
        self.ready.pop_front()
    }

    /// When the first held lane may go on.
    #[must_use]
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.held.keys().next().map(|(due, _)| *due)
    }

    /// A record that waits, by its offset.
    pub(crate) fn waiting_at(&self, offset: i64) -> Option<&Record> {
        let waiting = self.lanes.values().flat_map(|lane| &lane.waiting);
        let mut records = waiting.map(|work| &*work.record);
        records.find(|record| record.offset == offset)
    }

    /// These may have ended a process.
    pub(crate) fn suspect(&mut self, suspects: Suspects) {
        self.suspects = suspects;
    }

    /// The whole batch is committed.
    pub(crate) fn finished(&mut self, works: &[Work]) {
        self.suspects.finished(works);
        for work in works {
            self.bytes -= work.record.bytes();
        }
        for key in keys(works) {
            if let Some(lane) = self.lanes.get_mut(&key) {
                let is_done =
                    |blamed: &Blamed| works.iter().any(|work| work.record.offset == blamed.offset);
                if lane.blamed.as_ref().is_some_and(is_done) {
                    lane.blamed = None;
                }
                lane.meetings = 0;
            }
            self.free(&key);
        }
    }

    /// One event of the batch is to blame. It and the later ones of its key wait until `due`; those
    /// before it and the others of the batch go on at once.
    pub(crate) fn failed(&mut self, works: Vec<Work>, at: usize, due: Instant, fate: Fate) {
        let all = keys(&works);
        if let Some(work) = works.get(at)
            && let Some(lane) = self.lanes.get_mut(&work.message.sequence)
        {
            let offset = work.record.offset;
            let before = lane.blamed.take().filter(|blamed| blamed.offset == offset);
            let failures = before.map_or(0, |blamed| blamed.failures).saturating_add(1);
            lane.blamed = Some(Blamed { offset, failures, fate, due });
        }
        self.put_back(works);
        all.iter().for_each(|key| self.free(key));
    }

    /// Nobody is to blame, or it cannot be said who: all of the batch goes again, when `due`.
    pub(crate) fn again(&mut self, works: Vec<Work>, due: Instant) {
        let all = keys(&works);
        self.put_back(works);
        all.into_iter().for_each(|key| self.hold_lane(key, due));
    }

    /// The batch met another transaction, or one of it is to blame and it cannot be said which. Its
    /// lanes go alone, each after a wait by how often it met.
    pub(crate) fn met(&mut self, works: Vec<Work>, due: impl Fn(u32) -> Instant) {
        let all = keys(&works);
        self.put_back(works);
        for key in all {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.meetings = lane.meetings.saturating_add(1);
            let due = due(lane.meetings);
            self.hold_lane(key, due);
        }
    }

    fn hold_lane(&mut self, key: Key, due: Instant) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.state = State::Held;
        }
        self.hold(key, due);
    }

    /// From now on this key goes alone.
    pub(crate) fn mark_slow(&mut self, key: &Key) {
        if self.slow.len() >= SLOW_KEYS_MAX {
            self.slow.clear();
        }
        self.slow.insert(Arc::clone(key));
    }

    /// Bytes of records that are not finished.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn hold(&mut self, key: Key, due: Instant) {
        self.held_count += 1;
        self.held.insert((due, self.held_count), key);
    }

    fn put_back(&mut self, works: Vec<Work>) {
        for work in works.into_iter().rev() {
            if let Some(lane) = self.lanes.get_mut(&work.message.sequence) {
                lane.waiting.push_front(work);
            }
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.held.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.state = State::Ready;
                let ready = if lane.meetings > 0 { &mut self.met } else { &mut self.ready };
                ready.push_back(key);
            }
        }
    }

    fn free(&mut self, key: &Key) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        assert_eq!(lane.state, State::Busy, "only a busy key comes back");
        if lane.waiting.is_empty() {
            self.lanes.remove(key);
        } else {
            lane.state = State::Ready;
            let ready = if lane.meetings > 0 { &mut self.met } else { &mut self.ready };
            ready.push_back(Arc::clone(key));
        }
    }
}

/// Each key of a batch once.
fn keys(works: &[Work]) -> Vec<Key> {
    let mut seen = HashSet::new();
    let all = works.iter().map(|work| &work.message.sequence);
    all.filter(|key| seen.insert(Arc::clone(key))).map(Arc::clone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn work(offset: i64, key: u8) -> Work {
        let record = Record {
            topic: "t".into(),
            partition: 0,
            offset,
            time_ms: None,
            key: Some(vec![key]),
            value: None,
            headers: Vec::new(),
        };
        let message = MessageRef::of(&record, "c");
        Work { record: Arc::new(record), message }
    }

    fn offsets(batch: Option<&Batch>) -> Vec<i64> {
        batch.map_or_else(Vec::new, |batch| batch.works.iter().map(|w| w.record.offset).collect())
    }

    fn lanes(keys: &[u8]) -> Lanes {
        let mut lanes = Lanes::default();
        (0..).zip(keys).for_each(|(offset, key)| lanes.push(work(offset, *key)));
        lanes
    }

    #[test]
    fn a_key_is_in_one_batch_at_a_time_and_others_go_beside_it() {
        let now = Instant::now();
        let mut lanes = lanes(&[1, 2, 1, 3]);
        let first = lanes.take(now, 2, Choice::All);
        assert_eq!(offsets(first.as_ref()), [0, 2]);
        assert_eq!(offsets(lanes.take(now, 9, Choice::All).as_ref()), [1, 3]);
        lanes.push(work(4, 1));
        assert_eq!(lanes.take(now, 9, Choice::All), None);
        lanes.finished(&first.unwrap().works);
        assert_eq!(offsets(lanes.take(now, 9, Choice::All).as_ref()), [4]);
    }

    #[test]
    fn what_fails_waits_with_the_later_ones_of_its_key_and_the_rest_goes_on() {
        let now = Instant::now();
        let due = now + Duration::from_secs(1);
        let mut lanes = lanes(&[1, 2, 1, 3]);
        let batch = lanes.take(now, 9, Choice::All).unwrap();
        assert_eq!(offsets(Some(&batch)), [0, 2, 1, 3]);
        lanes.failed(batch.works, 0, due, Fate::Handle);
        let rest = lanes.take(now, 9, Choice::All).unwrap();
        assert_eq!(offsets(Some(&rest)), [1, 3]);
        lanes.finished(&rest.works);
        assert_eq!((lanes.take(now, 9, Choice::All), lanes.next_due()), (None, Some(due)));
        let again = lanes.take(due, 9, Choice::All).unwrap();
        assert_eq!((offsets(Some(&again)), again.failures), (vec![0], 1));
        lanes.failed(again.works, 0, due, Fate::Park("no".into()));
        let parking = lanes.take(due, 9, Choice::All).unwrap();
        assert_eq!((parking.fate.clone(), parking.failures), (Fate::Park("no".into()), 2));
        lanes.finished(&parking.works);
        let next = lanes.take(due, 9, Choice::All).unwrap();
        assert_eq!((offsets(Some(&next)), next.fate, next.failures), (vec![2], Fate::Handle, 0));
    }

    /// The fate of an event never falls on those of its key that stood before it in its batch.
    #[test]
    fn those_before_the_one_to_blame_go_first_and_are_not_blamed() {
        let now = Instant::now();
        let due = now + Duration::from_secs(1);
        let mut lanes = lanes(&[1, 1, 1, 1]);
        let batch = lanes.take(now, 9, Choice::All).unwrap();
        lanes.failed(batch.works, 2, due, Fate::Park("no".into()));
        let before = lanes.take(now, 9, Choice::All).unwrap();
        assert_eq!((offsets(Some(&before)), &before.fate), (vec![0, 1], &Fate::Handle));
        lanes.finished(&before.works);
        assert_eq!(lanes.take(now, 9, Choice::All), None);
        let blamed = lanes.take(due, 9, Choice::All).unwrap();
        assert_eq!((offsets(Some(&blamed)), &blamed.fate), (vec![2], &Fate::Park("no".into())));
        lanes.finished(&blamed.works);
        let behind = lanes.take(due, 9, Choice::All).unwrap();
        assert_eq!((offsets(Some(&behind)), &behind.fate), (vec![3], &Fate::Handle));
    }

    #[test]
    fn lanes_that_met_go_alone_and_only_as_many_as_are_asked_for() {
        let now = Instant::now();
        let mut lanes = lanes(&[1, 2, 3]);
        let batch = lanes.take(now, 9, Choice::All).unwrap();
        lanes.met(batch.works, |_| now);
        lanes.push(work(3, 4));
        lanes.push(work(4, 5));
        let others = lanes.take(now, 9, Choice::Unmet).unwrap();
        assert_eq!((offsets(Some(&others)), others.is_met), (vec![3, 4], false));
        assert_eq!(lanes.take(now, 9, Choice::Unmet), None);
        for offset in 0..3 {
            let alone = lanes.take(now, 9, Choice::All).unwrap();
            assert_eq!((offsets(Some(&alone)), alone.is_met), (vec![offset], true));
        }
    }

    #[test]
    fn those_that_met_and_the_others_take_turns() {
        let now = Instant::now();
        let mut lanes = lanes(&[1]);
        let batch = lanes.take(now, 9, Choice::All).unwrap();
        lanes.met(batch.works, |meetings| {
            assert_eq!(meetings, 1);
            now
        });
        lanes.push(work(1, 1));
        lanes.push(work(2, 2));
        let kinds: Vec<bool> =
            (0..2).map(|_| lanes.take(now, 1, Choice::All).unwrap().is_met).collect();
        assert!(kinds.contains(&true) && kinds.contains(&false), "{kinds:?}");
    }

    #[test]
    fn a_slow_key_goes_alone() {
        let now = Instant::now();
        let mut lanes = lanes(&[1, 2, 2, 3]);
        lanes.mark_slow(&work(0, 2).message.sequence);
        assert_eq!(offsets(lanes.take(now, 9, Choice::All).as_ref()), [0]);
        assert_eq!(offsets(lanes.take(now, 9, Choice::All).as_ref()), [1]);
        assert_eq!(offsets(lanes.take(now, 9, Choice::All).as_ref()), [3]);
    }

    fn suspects(list: &[(i64, u32)]) -> Suspects {
        let suspect = |(offset, deaths): &(i64, u32)| crate::store::tenure::Suspect {
            id: work(*offset, 1).message.id,
            deaths: *deaths,
        };
        Suspects::new(&list.iter().map(suspect).collect::<Vec<_>>(), 3)
    }

    #[test]
    fn a_suspect_goes_alone_behind_those_of_its_key_and_before_the_others() {
        let now = Instant::now();
        let mut lanes = lanes(&[1, 1, 1, 1, 2]);
        lanes.suspect(suspects(&[(1, 2), (2, 0)]));
        let expected = [
            (vec![0, 4], Care::Quiet),
            (vec![1], Care::Alone { deaths: 2 }),
            (vec![2], Care::Alone { deaths: 0 }),
            (vec![3], Care::Quiet),
        ];
        for (offsets_expected, care) in expected {
            let batch = lanes.take(now, 9, Choice::All).unwrap();
            assert_eq!((offsets(Some(&batch)), batch.care), (offsets_expected, care));
            assert_eq!(batch.fate, Fate::Handle);
            lanes.finished(&batch.works);
        }
    }

    #[test]
    fn a_suspect_that_enough_died_of_is_parked_without_another_start() {
        let now = Instant::now();
        let mut lanes = lanes(&[1, 1]);
        lanes.suspect(suspects(&[(0, 3)]));
        let batch = lanes.take(now, 9, Choice::All).unwrap();
        let reason = "the process ended 3 times while this event alone was handled";
        assert_eq!((offsets(Some(&batch)), &batch.fate), (vec![0], &Fate::Park(reason.into())));
        lanes.finished(&batch.works);
        // Read again, it is no suspect any more.
        lanes.push(work(0, 1));
        let behind = lanes.take(now, 9, Choice::All).unwrap();
        assert_eq!((offsets(Some(&behind)), behind.care), (vec![1, 0], Care::Quiet));
    }

    #[test]
    fn a_suspect_that_failed_keeps_its_fate() {
        let now = Instant::now();
        let mut lanes = lanes(&[1]);
        lanes.suspect(suspects(&[(0, 3)]));
        let batch = lanes.take(now, 9, Choice::All).unwrap();
        lanes.failed(batch.works, 0, now, Fate::DeadLetter("no".into()));
        let batch = lanes.take(now, 9, Choice::All).unwrap();
        assert_eq!(batch.fate, Fate::DeadLetter("no".into()));
        assert_eq!(batch.care, Care::Alone { deaths: 3 });
    }

    #[test]
    fn with_no_deaths_allowed_a_suspect_is_still_started_once() {
        let suspects = Suspects::new(&[], 0);
        assert_eq!(suspects.verdict(0), None);
        assert!(suspects.verdict(1).is_some());
    }

    /// One step of a schedule.
    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Take(usize),
        Finish(usize),
        Fail(usize, usize),
        Again(usize, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_u8..5).prop_map(Step::Push),
            3 => (1_usize..5).prop_map(Step::Take),
            2 => (0_usize..4).prop_map(Step::Finish),
            1 => (0_usize..4, 0_usize..5).prop_map(|(batch, at)| Step::Fail(batch, at)),
            1 => (0_usize..4, any::<bool>()).prop_map(|(batch, narrow)| Step::Again(batch, narrow)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2_000, failure_persistence: None, ..Default::default()
        })]
        /// Thousands of schedules: every record is finished once, each key in order, and memory is
        /// accounted to the byte.
        #[test]
        fn every_schedule_finishes_every_record_once_and_each_key_in_order(
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let now = Instant::now();
            let mut lanes = Lanes::default();
            lanes.suspect(suspects(&[(3, 0), (4, 2), (20, 1)]));
            let mut open: Vec<Batch> = Vec::new();
            let mut pushed = 0;
            let mut done: HashMap<Key, Vec<i64>> = HashMap::new();
            let mut note = |batch: &Batch| for work in &batch.works {
                let list = done.entry(Arc::clone(&work.message.sequence)).or_default();
                list.push(work.record.offset);
            };
            for step in steps {
                match step {
                    Step::Push(key) => { lanes.push(work(pushed, key)); pushed += 1; }
                    Step::Take(max) => {
                        let batch = lanes.take(now, max, Choice::All);
                        // A suspect is alone in its batch.
                        let is_suspect = |work: &Work| [3, 4, 20].contains(&work.record.offset);
                        if let Some(Batch { works, care, .. }) = &batch {
                            let has = works.iter().any(is_suspect);
                            prop_assert_eq!(has, *care != Care::Quiet);
                            prop_assert!(!has || works.len() == 1);
                        }
                        // A fate falls on the event that it was meant for, alone.
                        if let Some(Batch { works, fate: Fate::Park(meant), .. }) = &batch {
                            prop_assert_eq!(works.len(), 1);
                            prop_assert_eq!(&works[0].record.offset.to_string(), meant);
                        }
                        open.extend(batch);
                    }
                    Step::Finish(at) if at < open.len() => {
                        let batch = open.remove(at);
                        lanes.finished(&batch.works);
                        note(&batch);
                    }
                    Step::Fail(at, blamed) if at < open.len() => {
                        let batch = open.remove(at);
                        let blamed = blamed % batch.works.len();
                        let fate = Fate::Park(batch.works[blamed].record.offset.to_string());
                        lanes.failed(batch.works, blamed, now, fate);
                    }
                    Step::Again(at, false) if at < open.len() => {
                        lanes.again(open.remove(at).works, now);
                    }
                    Step::Again(at, true) if at < open.len() => {
                        lanes.met(open.remove(at).works, |_| now);
                    }
                    _ => {}
                }
            }
            loop {
                open.extend(lanes.take(now, 3, Choice::All));
                let Some(batch) = open.pop() else { break };
                lanes.finished(&batch.works);
                note(&batch);
            }
            let count: usize = done.values().map(Vec::len).sum();
            prop_assert_eq!(count, usize::try_from(pushed).unwrap());
            prop_assert!(done.values().all(|list| list.is_sorted_by(|a, b| a < b)));
            prop_assert_eq!((lanes.bytes(), lanes.lanes.len()), (0, 0));
        }
    }
}
