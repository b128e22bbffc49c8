//! Records in, the same records in the order of their partitions out; committed offsets are kept.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;
use walpost_schema::partition::partition_for;

use crate::message::{Place, Record};
use crate::runtime::memory::{Command, Source, SourceEvent};

pub(super) const CLUSTER: &str = "testkit";
/// Records in one event.
const RECORDS_MAX: usize = 50;

/// A broker in memory: a handle, shared by all its clones.
///
/// Every consumer that runs on it is given every partition: two at once are what an instance and
/// its frozen predecessor are.
#[derive(Clone, Debug)]
pub struct Broker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
    generations: AtomicU64,
}

#[derive(Debug)]
struct State {
    partitions: BTreeMap<Place, Vec<Record>>,
    committed: BTreeMap<Place, i64>,
}

impl Broker {
    /// With topics and their numbers of partitions.
    ///
    /// ```
    /// let broker = walpost_inbox::testkit::Broker::new(&[("events.order", 3)]);
    /// ```
    #[must_use]
    pub fn new(topics: &[(&str, i32)]) -> Self {
        let mut partitions = BTreeMap::new();
        for (topic, count) in topics {
            let topic: Arc<str> = Arc::from(*topic);
            for partition in 0..*count {
                let place = Place { topic: Arc::clone(&topic), partition };
                partitions.insert(place, Vec::new());
            }
        }
        let state = Mutex::new(State { partitions, committed: BTreeMap::new() });
        let (changed, generations) = (Notify::new(), AtomicU64::new(1));
        Self { inner: Arc::new(Inner { state, changed, generations }) }
    }

    /// Puts an event with a fresh id, as JSON, on the partition of its key; the id.
    ///
    /// ```
    /// # let broker = walpost_inbox::testkit::Broker::new(&[("events.order", 3)]);
    /// let id = broker.produce("events.order", "42", "shop.OrderPlaced", &serde_json::json!({}));
    /// assert_eq!(id.get_version_num(), 7);
    /// ```
    pub fn produce(&self, topic: &str, key: &str, event_type: &str, payload: &Value) -> Uuid {
        let id = Uuid::now_v7();
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let headers =
            vec![("id".to_owned(), text(&id.to_string())), ("type".to_owned(), text(event_type))];
        self.append(Record {
            topic: topic.into(),
            partition: self.partition_for(topic, key),
            offset: 0,
            time_ms: None,
            key: text(key),
            value: text(&payload.to_string()),
            headers,
        });
        id
    }

    /// Puts a record behind the others of its partition, whatever its offset says. A partition that
    /// is not there is made.
    ///
    /// ```
    /// use walpost_inbox::Record;
    /// let broker = walpost_inbox::testkit::Broker::new(&[("events.order", 1)]);
    /// broker.append(Record {
    ///     topic: "events.order".into(), partition: 0, offset: 0, time_ms: None,
    ///     key: Some(b"42".to_vec()), value: None, headers: Vec::new(),
    /// });
    /// ```
    pub fn append(&self, mut record: Record) {
        let mut state = self.state();
        let place = Place { topic: Arc::clone(&record.topic), partition: record.partition };
        let partition = state.partitions.entry(place).or_default();
        record.offset = partition.len() as i64;
        partition.push(record);
        drop(state);
        self.inner.changed.notify_waiters();
    }

    /// Everything once more behind itself: copies of all events, at new offsets.
    ///
    /// ```
    /// # let broker = walpost_inbox::testkit::Broker::new(&[("events.order", 3)]);
    /// broker.repeat();
    /// ```
    pub fn repeat(&self) {
        let all: Vec<Record> = self.state().partitions.values().flatten().cloned().collect();
        all.into_iter().for_each(|record| self.append(record));
    }

    /// Forgets the committed offsets: the next consumer reads from the beginning.
    ///
    /// ```
    /// # let broker = walpost_inbox::testkit::Broker::new(&[("events.order", 3)]);
    /// broker.rewind();
    /// ```
    pub fn rewind(&self) {
        self.state().committed.clear();
    }

    fn partition_for(&self, topic: &str, key: &str) -> i32 {
        let count = self.state().partitions.keys().filter(|place| &*place.topic == topic).count();
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
        let partition = count.map_or(0, |count| partition_for(key.as_bytes(), count));
        i32::try_from(partition).unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes when everything is committed.
    pub(super) async fn finished(self) {
        loop {
            let changed = self.inner.changed.notified();
            let is_finished = {
                let state = self.state();
                state.partitions.iter().all(|(place, records)| {
                    let committed = state.committed.get(place).copied().unwrap_or(0);
                    committed >= records.len() as i64
                })
            };
            if is_finished {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn source(&self, topics: Vec<&str>) -> MemorySource {
        let state = self.state();
        let ours = state.partitions.iter().filter(|(place, _)| topics.contains(&&*place.topic));
        let assigned = ours.map(|(place, records)| {
            let start = state.committed.get(place).copied().unwrap_or(0);
            let generation = self.inner.generations.fetch_add(1, Ordering::Relaxed);
            let (low, high) = (0, records.len() as i64);
            let (place, beyond_window) = (place.clone(), 0);
            SourceEvent::Assigned { place, generation, low, high, start, beyond_window }
        });
        let waiting: VecDeque<SourceEvent> = assigned.collect();
        let start = |event: &SourceEvent| match event {
            SourceEvent::Assigned { place, start, .. } => Some((place.clone(), *start)),
            _ => None,
        };
        let next = waiting.iter().filter_map(start).collect();
        drop(state);
        MemorySource { broker: self.clone(), waiting, next, paused: HashSet::new() }
    }
}

/// One consumer's view of a broker.
pub(crate) struct MemorySource {
    broker: Broker,
    waiting: VecDeque<SourceEvent>,
    /// The next offset of each partition.
    next: BTreeMap<Place, i64>,
    paused: HashSet<Place>,
}

impl MemorySource {
    fn read(&mut self) -> Option<SourceEvent> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(event);
        }
        let state = self.broker.state();
        let mut records = Vec::new();
        for (place, next) in &mut self.next {
            if self.paused.contains(place) {
                continue;
            }
            let from = usize::try_from(*next).unwrap_or(0);
            let found = state.partitions.get(place).and_then(|records| records.get(from..));
            let found = found.unwrap_or_default().iter().take(RECORDS_MAX).cloned();
            records.extend(found.inspect(|record| *next = record.offset + 1));
        }
        (!records.is_empty()).then_some(SourceEvent::Records(records))
    }

    fn commit(&self, offsets: Vec<(Place, i64)>) {
        self.broker.state().committed.extend(offsets);
        self.broker.inner.changed.notify_waiters();
    }
}

impl Source for MemorySource {
    async fn next(&mut self) -> SourceEvent {
        let broker = self.broker.clone();
        loop {
            let changed = broker.inner.changed.notified();
            if let Some(event) = self.read() {
                return event;
            }
            changed.await;
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Commit(offsets) | Command::Release(_, offsets) => self.commit(offsets),
            Command::Pause(place) => drop(self.paused.insert(place)),
            Command::Resume(place) => drop(self.paused.remove(&place)),
            Command::Free(_) => {}
        }
    }

    async fn close(self, offsets: Vec<(Place, i64)>) {
        self.commit(offsets);
    }

    fn is_idle(&self) -> bool {
        let state = self.broker.state();
        let is_read = |(place, next): (&Place, &i64)| {
            let end = state.partitions.get(place).map_or(0, |records| records.len() as i64);
            self.paused.contains(place) || *next >= end
        };
        self.waiting.is_empty() && self.next.iter().all(is_read)
    }
}
