//! A Kafka cluster in, its records, assignments and revocations out: one `BaseConsumer` on a thread
//! of its own.
//!
//! The thread always polls, however long a handler takes, so `max.poll.interval.ms` is never
//! exceeded. The rebalance callback only reports: it runs inside `poll`, and waiting in it would
//! be waiting for itself. A partition is given back when its batches have ended, or their time is
//! over; meanwhile the group waits and the thread polls.
//!
//! `split_partition_queue` is not used: its wake-ups get lost, and a partition then stands still
//! for ever. Everything comes through the one queue and is told apart here.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::base_consumer::BaseConsumer as Base;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::error::RunError;
use super::settings::{Kafka, Settings};
use super::source::{Command, Source, SourceEvent};
use crate::message::{Place, Record};

/// One wait for a record: also the longest that a command waits while nothing comes.
const POLL: Duration = Duration::from_millis(20);
/// Records in one event: a wake-up of the loop for several of them.
const RECORDS_MAX: usize = 500;
/// For a question to a broker, which keeps the thread from polling.
const ASK_MAX: Duration = Duration::from_secs(3);
/// How long the client may take to leave its group.
const LEAVE_MAX: Duration = Duration::from_secs(5);
const LEAVE_LOOK: Duration = Duration::from_millis(10);
/// Before a question without an answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// For questions in one turn.
const CHECK_MAX: Duration = Duration::from_millis(500);
/// For the answers to commits before partitions are given back.
const COMMIT_MAX: Duration = Duration::from_secs(2);

/// What the rebalance callback saw, in order.
#[derive(Debug)]
enum Rebalance {
    Assign(Vec<Place>),
    Revoke(Vec<Place>),
    Lost(Vec<Place>),
}

#[derive(Default)]
struct Context {
    rebalances: Mutex<Vec<Rebalance>>,
    /// Commits without an answer.
    commits: AtomicUsize,
    /// Leaving: nobody is there to give partitions back.
    is_closing: AtomicBool,
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn rebalance(&self, base: &Base<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_assign = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.is_closing.load(Ordering::Acquire) {
            // An error leaves the partitions to the session's timeout.
            let done = if is_assign { Ok(()) } else { take_away(base, list) };
            return if let Err(error) = done {
                debug!(%error, "partitions cannot be given back");
            };
        }
        let places = places(list);
        let seen = match kind {
            _ if is_assign => Rebalance::Assign(places),
            _ if base.assignment_lost() => Rebalance::Lost(places),
            _ => Rebalance::Revoke(places),
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        // A commit of offsets that were committed already is answered without being asked for.
        let _ = self
            .commits
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        if let Err(error) = result {
            // The same offsets, or later ones, are committed again.
            debug!(%error, "offsets are not committed");
        }
    }
}

fn places(list: &TopicPartitionList) -> Vec<Place> {
    let of = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| Place {
        topic: element.topic().into(),
        partition: element.partition(),
    };
    list.elements().into_iter().map(of).collect()
}

fn list(places: &[Place]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    list
}

fn is_cooperative(consumer: &Base<Context>) -> bool {
    matches!(consumer.rebalance_protocol(), rdkafka::consumer::RebalanceProtocol::Cooperative)
}

fn take_away(consumer: &Base<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    if is_cooperative(consumer) { consumer.incremental_unassign(list) } else { consumer.unassign() }
}

/// The loop's end of the thread.
pub(crate) struct KafkaSource {
    /// Bounded by bytes: the thread pauses while too many are handed out.
    events: mpsc::UnboundedReceiver<SourceEvent>,
    /// Drained at each turn of the thread, at least every [`POLL`].
    commands: mpsc::UnboundedSender<Order>,
    handed_out: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Subscribe(Vec<String>),
    Do(Command),
    Close(Vec<(Place, i64)>, oneshot::Sender<()>),
}

impl KafkaSource {
    /// Connects, and waits for as long as it takes until the cluster says its id. Dropped, it ends
    /// the thread.
    pub(crate) async fn open(
        kafka: &Kafka,
        settings: &Settings,
    ) -> Result<(Self, String), RunError> {
        let mut config = ClientConfig::new();
        for (name, value) in kafka.config()? {
            config.set(name, value);
        }
        let consumer: BaseConsumer<Context> =
            config.create_with_context(Context::default()).map_err(RunError::KafkaSettings)?;
        let (event_sender, events) = mpsc::unbounded_channel();
        let (commands, command_receiver) = mpsc::unbounded_channel();
        let (cluster_sender, cluster) = oneshot::channel();
        let handed_out = Arc::new(AtomicUsize::new(0));
        let thread = Thread {
            consumer,
            events: event_sender,
            commands: command_receiver,
            handed_out: Arc::clone(&handed_out),
            memory_bytes_max: settings.memory_bytes_max,
            window_days: settings.window_days,
            assignment: kafka.assignment.clone(),
            assigned: HashMap::new(),
            unchecked: Vec::new(),
            revoking: HashSet::new(),
            paused: HashSet::new(),
            is_full: false,
            topics: HashMap::new(),
        };
        let builder = std::thread::Builder::new().name("walpost-inbox".to_owned());
        let thread = builder.spawn(move || thread.run(cluster_sender)).map_err(|error| {
            RunError::KafkaFatal { reason: format!("thread cannot be started: {error}") }
        })?;
        let source = Self { events, commands, handed_out, thread: Some(thread) };
        let cluster = cluster.await.map_err(|_| RunError::ThreadEnded)?;
        Ok((source, cluster))
    }

    pub(crate) fn subscribe(&self, topics: Vec<String>) {
        self.order(Order::Subscribe(topics));
    }

    fn order(&self, order: Order) {
        // A thread that is gone has said so, or will by the end of its events.
        let _ = self.commands.send(order);
    }
}

impl Source for KafkaSource {
    async fn next(&mut self) -> SourceEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => SourceEvent::Failed(RunError::ThreadEnded),
        }
    }

    fn command(&mut self, command: Command) {
        if let Command::Free(bytes) = command {
            self.handed_out.fetch_sub(bytes, Ordering::AcqRel);
        } else {
            self.order(Order::Do(command));
        }
    }

    async fn close(mut self, offsets: Vec<(Place, i64)>) {
        let (done, closed) = oneshot::channel();
        self.order(Order::Close(offsets, done));
        if closed.await.is_err() {
            return;
        }
        // It has left its loop; leaving the group is its last act. The client may wait for its
        // coordinator for ever, which is no reason not to end: the group finds out by itself.
        let until = Instant::now() + LEAVE_MAX;
        let is_over = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        while !is_over() {
            if Instant::now() >= until {
                warn!("group cannot be left in time");
                return;
            }
            tokio::time::sleep(LEAVE_LOOK).await;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            warn!("the consumer's thread has panicked");
        }
    }
}

struct Thread {
    consumer: BaseConsumer<Context>,
    events: mpsc::UnboundedSender<SourceEvent>,
    commands: mpsc::UnboundedReceiver<Order>,
    handed_out: Arc<AtomicUsize>,
    memory_bytes_max: usize,
    window_days: u32,
    assignment: Option<Vec<(String, i32)>>,
    /// With the number of the assignment.
    assigned: HashMap<Place, u64>,
    /// Assigned, and their offsets are not known yet; when each is asked for.
    unchecked: Vec<(Place, Instant)>,
    /// Asked back by an eager rebalance, which ends them all at once: what is given back first
    /// waits for the rest.
    revoking: HashSet<Place>,
    /// By the loop's will.
    paused: HashSet<Place>,
    /// All are paused, because too many bytes are handed out.
    is_full: bool,
    /// One name in memory for all records of a topic.
    topics: HashMap<String, Arc<str>>,
}

impl Thread {
    fn run(mut self, cluster: oneshot::Sender<String>) {
        let id = loop {
            if cluster.is_closed() {
                return self.leave();
            }
            if let Some(id) = self.consumer.client().fetch_cluster_id(ASK_MAX) {
                break id;
            }
        };
        if cluster.send(id).is_err() {
            return self.leave();
        }
        loop {
            match self.turn() {
                Ok(Some(closed)) => {
                    let _ = closed.send(());
                    return self.leave();
                }
                Ok(None) => {}
                Err(error) => {
                    let _ = self.events.send(SourceEvent::Failed(error));
                    return self.leave();
                }
            }
        }
    }

    /// Leaves the group: the client gives its partitions back when it is dropped.
    fn leave(self) {
        self.consumer.context().is_closing.store(true, Ordering::Release);
    }

    fn turn(&mut self) -> Result<Option<oneshot::Sender<()>>, RunError> {
        loop {
            match self.commands.try_recv() {
                Ok(Order::Subscribe(topics)) => self.subscribe(&topics)?,
                Ok(Order::Do(command)) => self.act(command),
                Ok(Order::Close(offsets, closed)) => {
                    self.commit_and_wait(&offsets);
                    return Ok(Some(closed));
                }
                Err(mpsc::error::TryRecvError::Empty) => break,
                // The loop is gone: as after a crash.
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    return Ok(Some(oneshot::channel().0));
                }
            }
        }
        self.poll()?;
        self.rebalance();
        self.check();
        self.bound_memory();
        Ok(None)
    }

    fn subscribe(&mut self, topics: &[String]) -> Result<(), RunError> {
        let refused = |error: KafkaError| RunError::KafkaFatal { reason: error.to_string() };
        if let Some(assignment) = &self.assignment {
            let place = |(topic, partition): &(String, i32)| Place {
                topic: topic.as_str().into(),
                partition: *partition,
            };
            let places: Vec<Place> = assignment.iter().map(place).collect();
            self.assign(places);
            return Ok(());
        }
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(refused)
    }

    /// Hands on what is there, up to a number, waiting for the first only.
    fn poll(&mut self) -> Result<(), RunError> {
        let mut records = Vec::new();
        let mut wait = POLL;
        while records.len() < RECORDS_MAX {
            let Some(polled) = self.consumer.poll(wait) else { break };
            wait = Duration::ZERO;
            match polled {
                Ok(message) => {
                    let topic = self
                        .topics
                        .entry(message.topic().to_owned())
                        .or_insert_with(|| message.topic().into());
                    let record = record(&message, Arc::clone(topic));
                    self.handed_out.fetch_add(record.bytes(), Ordering::AcqRel);
                    records.push(record);
                    if self.handed_out.load(Ordering::Acquire) > self.memory_bytes_max {
                        break;
                    }
                }
                Err(KafkaError::MessageConsumptionFatal(code)) => {
                    return Err(RunError::KafkaFatal { reason: code.to_string() });
                }
                // A topic that is missing, or closed to us, is waited for; a person may not know.
                Err(KafkaError::MessageConsumption(code)) if is_for_a_person(code) => {
                    warn!(error = %code, "topics cannot be read");
                    break;
                }
                // Brokers that are away are waited for by the client itself.
                Err(error) => {
                    debug!(%error, "poll");
                    break;
                }
            }
        }
        if !records.is_empty() {
            self.tell(SourceEvent::Records(records));
        }
        Ok(())
    }

    fn tell(&self, event: SourceEvent) {
        // A loop that is gone is noticed at the commands.
        let _ = self.events.send(event);
    }

    /// Does what the callback saw, in order.
    fn rebalance(&mut self) {
        let context = self.consumer.context();
        let seen =
            std::mem::take(&mut *context.rebalances.lock().unwrap_or_else(PoisonError::into_inner));
        for rebalance in seen {
            match rebalance {
                Rebalance::Assign(places) => self.assign(places),
                Rebalance::Revoke(places) => {
                    self.unchecked.retain(|(place, _)| !places.contains(place));
                    if !is_cooperative(&self.consumer) {
                        self.revoking.extend(places.iter().cloned());
                    }
                    // Nothing more of them is started.
                    self.set_paused(&places, Flow::Pause);
                    self.tell(SourceEvent::Revoked(places));
                }
                Rebalance::Lost(places) => {
                    warn!(partitions = places.len(), "partitions are lost");
                    self.tell(SourceEvent::Lost(places.clone()));
                    self.revoking.clear();
                    self.unassign(&places);
                }
            }
        }
    }

    /// Takes partitions over, paused until their offsets are known.
    fn assign(&mut self, places: Vec<Place>) {
        let list = list(&places);
        let done = if self.assignment.is_none() && is_cooperative(&self.consumer) {
            self.consumer.incremental_assign(&list)
        } else {
            self.consumer.assign(&list)
        };
        if let Err(error) = done.and_then(|()| self.consumer.pause(&list)) {
            warn!(%error, "assignment is refused");
        }
        let now = Instant::now();
        self.unchecked.extend(places.into_iter().map(|place| (place, now)));
    }

    /// Asks where new partitions start and end, for so long that polling goes on.
    fn check(&mut self) {
        let until = Instant::now() + CHECK_MAX;
        // Each once: one that has no answer does not keep the others waiting.
        for _ in 0..self.unchecked.len() {
            let now = Instant::now();
            if now >= until {
                return;
            }
            let (place, due) = self.unchecked.remove(0);
            if due > now {
                self.unchecked.push((place, due));
            } else if !self.check_one(&place) {
                self.unchecked.push((place, now + ASK_AGAIN));
            }
        }
    }

    /// Whether its offsets are known now.
    fn check_one(&mut self, place: &Place) -> bool {
        let marks = self.consumer.fetch_watermarks(&place.topic, place.partition, ASK_MAX);
        let asked = list(std::slice::from_ref(place));
        let committed = self.consumer.committed_offsets(asked, ASK_MAX);
        let (Ok((low, high)), Ok(committed)) = (marks, committed) else {
            debug!(%place, "offsets are not known yet");
            return false;
        };
        let committed = committed.find_partition(&place.topic, place.partition);
        let start = match committed.map(|element| element.offset()) {
            // Out of range: the client starts at the beginning of what is there.
            Some(Offset::Offset(offset)) if (low..=high).contains(&offset) => offset,
            _ => low,
        };
        static GENERATIONS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        self.assigned.insert(place.clone(), generation);
        let beyond_window = self.first_inside_window(place).map_or(0, |first| first - low).max(0);
        let place_told = place.clone();
        self.tell(SourceEvent::Assigned {
            place: place_told,
            generation,
            low,
            high,
            start,
            beyond_window,
        });
        if !self.is_full && !self.paused.contains(place) {
            self.set_paused(std::slice::from_ref(place), Flow::Resume);
        }
        true
    }

    /// Where the records that are inside the window begin. `None`: not known, or none is inside.
    fn first_inside_window(&self, place: &Place) -> Option<i64> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        let since = now.saturating_sub(Duration::from_secs(u64::from(self.window_days) * 86_400));
        let mut asked = TopicPartitionList::new();
        let since = Offset::Offset(i64::try_from(since.as_millis()).ok()?);
        asked.add_partition_offset(&place.topic, place.partition, since).ok()?;
        let found = self.consumer.offsets_for_times(asked, ASK_MAX).ok()?;
        match found.find_partition(&place.topic, place.partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Commit(offsets) => {
                self.commit(&offsets);
            }
            Command::Pause(place) => {
                if self.paused.insert(place.clone()) && self.assigned.contains_key(&place) {
                    self.set_paused(&[place], Flow::Pause);
                }
            }
            Command::Resume(place) => {
                let is_ours = self.paused.remove(&place) && self.assigned.contains_key(&place);
                if is_ours && !self.is_full {
                    self.set_paused(&[place], Flow::Resume);
                }
            }
            Command::Release(places, offsets) => {
                self.commit_and_wait(&offsets);
                self.unassign(&places);
            }
            // Counted where it is said.
            Command::Free(_) => {}
        }
    }

    fn unassign(&mut self, places: &[Place]) {
        for place in places {
            self.assigned.remove(place);
            self.paused.remove(place);
        }
        self.unchecked.retain(|(place, _)| !places.contains(place));
        self.revoking.retain(|place| !places.contains(place));
        if !self.revoking.is_empty() {
            return;
        }
        if let Err(error) = take_away(&self.consumer, &list(places)) {
            debug!(%error, "partitions cannot be given back");
        }
    }

    /// Whether anything was sent.
    fn commit(&self, offsets: &[(Place, i64)]) -> bool {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (place, offset) in offsets {
            let offset = Offset::Offset(*offset);
            if let Err(error) = list.add_partition_offset(&place.topic, place.partition, offset) {
                warn!(%place, %error, "offset cannot be committed");
            }
        }
        if list.count() == 0 {
            return false;
        }
        self.consumer.context().commits.fetch_add(1, Ordering::AcqRel);
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            debug!(%error, "offsets are not committed");
            return false;
        }
        true
    }

    /// Polls on until the broker has answered, for a while: what is not committed is read again and
    /// told by its claims.
    fn commit_and_wait(&mut self, offsets: &[(Place, i64)]) {
        self.consumer.context().commits.store(0, Ordering::Release);
        if !self.commit(offsets) {
            return;
        }
        let until = Instant::now() + COMMIT_MAX;
        while self.consumer.context().commits.load(Ordering::Acquire) > 0 && Instant::now() < until
        {
            if self.poll().is_err() {
                return;
            }
        }
    }

    /// Pauses everything above the bound, resumes below half of it: a pause throws away what the
    /// client has fetched.
    fn bound_memory(&mut self) {
        let bytes = self.handed_out.load(Ordering::Acquire);
        let is_full = if self.is_full {
            bytes > self.memory_bytes_max / 2
        } else {
            bytes > self.memory_bytes_max
        };
        if is_full == self.is_full {
            return;
        }
        self.is_full = is_full;
        let free = self.assigned.keys().filter(|place| !self.paused.contains(*place));
        let free: Vec<Place> = free.cloned().collect();
        self.set_paused(&free, if is_full { Flow::Pause } else { Flow::Resume });
    }

    fn set_paused(&self, places: &[Place], flow: Flow) {
        let list = list(places);
        let done = match flow {
            Flow::Pause => self.consumer.pause(&list),
            Flow::Resume => self.consumer.resume(&list),
        };
        if let Err(error) = done {
            debug!(%error, ?flow, "partitions are not ours");
        }
    }
}

fn is_for_a_person(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
    )
}

#[derive(Clone, Copy, Debug)]
enum Flow {
    Pause,
    Resume,
}

fn record(message: &rdkafka::message::BorrowedMessage<'_>, topic: Arc<str>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        (0..headers.count()).filter_map(|index| header_at(headers, index)).collect()
    });
    Record {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        time_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}

/// A header; `None` for one whose name is no UTF-8, for which the client panics. None of ours is.
fn header_at(headers: &impl Headers, index: usize) -> Option<(String, Option<Vec<u8>>)> {
    let read = std::panic::AssertUnwindSafe(|| headers.try_get(index));
    let header = std::panic::catch_unwind(read).ok().flatten()?;
    Some((header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Header;

    use super::*;

    /// As the client's own: it panics where a name is no UTF-8.
    struct Odd([&'static [u8]; 3]);

    impl Headers for Odd {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
            let key = self.0.get(index)?;
            let key = std::str::from_utf8(key).map_err(|_| "no UTF-8").unwrap();
            Some(Header { key, value: Some(b"v") })
        }
    }

    #[test]
    fn a_header_whose_name_is_no_text_is_left_out_and_ends_nobody() {
        let odd = Odd([b"a", &[0xFF], b"b"]);
        let found: Vec<_> = (0..4).filter_map(|index| header_at(&odd, index)).collect();
        let value = || Some(b"v".to_vec());
        assert_eq!(found, [("a".to_owned(), value()), ("b".to_owned(), value())]);
    }
}
