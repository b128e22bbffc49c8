//! The position topic of a source: made, checked, read, and written to by `init`.
//!
//! One partition, compacted, and written to by nobody but this source. With another policy Kafka
//! would delete the position of a source that has been quiet for a while, so any other is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::record::{Birth, Position, PositionRecord, RecordError};
use crate::kafka::{BrokerError, KafkaSettings, TopicFinder, is_passing};
use crate::limits;
use crate::watermarks::{self, Edge, Isolation, Reader, open_reader};

/// How long the few records of a position topic may take to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Settings of a new position topic. Small segments, so that compaction keeps it small.
const TOPIC_SETTINGS: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("unclean.leader.election.enable", "false"),
    ("segment.ms", "600000"),
    ("segment.bytes", "8388608"),
    ("min.cleanable.dirty.ratio", "0.1"),
];

/// The position topic cannot be used, or could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No broker answered, or it refused.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// More partitions than one have no order.
    #[error("position topic \"{topic}\" has {found} partitions, it must have one")]
    Partitions {
        /// The topic.
        topic: String,
        /// How many it has.
        found: u32,
    },
    /// Records would be deleted by age or size.
    #[error("position topic \"{topic}\" has cleanup.policy \"{found}\", it must be \"compact\"")]
    CleanupPolicy {
        /// The topic.
        topic: String,
        /// Its policy.
        found: String,
    },
    /// A record of ours that cannot be read.
    #[error("position topic \"{topic}\": {error}")]
    Record {
        /// The topic.
        topic: String,
        /// Which, and why.
        error: RecordError,
    },
}

/// What a position topic holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The birth record.
    pub birth: Option<Birth>,
    /// The position of the instance that was furthest.
    pub position: Option<Position>,
    /// All instances that left a position.
    pub instances: Vec<String>,
}

/// The position topic of a source.
#[derive(Debug)]
pub struct PositionTopic {
    name: String,
    settings: KafkaSettings,
}

impl PositionTopic {
    /// The topic of a source.
    pub fn of(source: &str, settings: &KafkaSettings) -> Self {
        Self { name: Self::name_of(source), settings: settings.clone() }
    }

    /// What the topic of a source is called.
    pub fn name_of(source: &str) -> String {
        format!("walpost.position.{source}")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads what it holds: nothing where it does not exist.
    ///
    /// Cancellation-safe: reading changes nothing.
    pub async fn read(&self, finder: &TopicFinder) -> Result<Option<Recorded>, TopicError> {
        if finder.partitions(&self.name).await?.is_some() {
            self.check_policy(finder).await?;
        }
        self.look(finder).await
    }

    /// As [`Self::read`], for those who rest nothing on it: its policy is not asked for.
    ///
    /// Cancellation-safe: reading changes nothing.
    pub async fn look(&self, finder: &TopicFinder) -> Result<Option<Recorded>, TopicError> {
        let Some(partitions) = finder.partitions(&self.name).await? else { return Ok(None) };
        if partitions.get() != 1 {
            let (topic, found) = (self.name.clone(), partitions.get());
            return Err(TopicError::Partitions { topic, found });
        }
        let (settings, topic) = (self.settings.clone(), self.name.clone());
        let read = tokio::task::spawn_blocking(move || read_all(&settings, &topic));
        let lost = |error: tokio::task::JoinError| self.unreachable(error.to_string());
        read.await.map_err(lost)?.map(Some)
    }

    async fn check_policy(&self, finder: &TopicFinder) -> Result<(), TopicError> {
        let policy = finder.topic_setting(&self.name, "cleanup.policy").await?;
        match policy {
            // A stand-in cannot tell; nor can a cluster to a user without the right to ask.
            None => Ok(()),
            Some(policy) if policy == "compact" => Ok(()),
            Some(found) => Err(TopicError::CleanupPolicy { topic: self.name.clone(), found }),
        }
    }

    /// Makes the topic; one that exists is left alone.
    pub async fn make(&self, finder: &TopicFinder) -> Result<(), TopicError> {
        let replication = TopicReplication::Fixed(self.settings.replication_factor.into());
        let mut new = NewTopic::new(&self.name, 1, replication);
        for (name, value) in TOPIC_SETTINGS {
            new = new.set(name, value);
        }
        if self.settings.replication_factor >= 3 {
            // One broker may be away, and what is acknowledged is still on two.
            new = new.set("min.insync.replicas", "2");
        }
        Ok(finder.make(&new).await?)
    }

    /// Writes records and waits until all in-sync replicas have them; for `init`, which is no
    /// source's producer. `None` is a tombstone.
    pub async fn write(&self, records: Vec<(String, Option<Vec<u8>>)>) -> Result<(), TopicError> {
        let mut config = self.settings.producer("init", limits::BATCH_BYTES).client;
        // A person waits for this one.
        config.set("message.timeout.ms", "20000").set("enable.gapless.guarantee", "false");
        let topic = self.name.clone();
        let written = tokio::task::spawn_blocking(move || write_all(&config, &topic, &records));
        Ok(written.await.map_err(|error| self.unreachable(error.to_string()))??)
    }

    fn unreachable(&self, reason: String) -> BrokerError {
        BrokerError::Unreachable { at: self.settings.bootstrap_servers.clone(), reason }
    }
}

/// Reads the whole topic. Blocks.
fn read_all(settings: &KafkaSettings, topic: &str) -> Result<Recorded, TopicError> {
    let at = &settings.bootstrap_servers;
    let reader = open_reader(settings, Isolation::Uncommitted)?;
    let place = (topic.to_owned(), 0);
    let ends = watermarks::edges(&reader, at, std::slice::from_ref(&place), Edge::End)?;
    let begins = watermarks::edges(&reader, at, std::slice::from_ref(&place), Edge::Begin)?;
    let (begin, end) = (edge_of(&begins, &place), edge_of(&ends, &place));
    let mut latest = BTreeMap::new();
    if begin < end {
        read_between(&reader, at, topic, (begin, end), &mut latest)?;
    }
    let mut recorded = Recorded::default();
    for record in latest.into_values() {
        let record =
            record.map_err(|error| TopicError::Record { topic: topic.to_owned(), error })?;
        match record {
            PositionRecord::Birth(birth) => recorded.birth = Some(birth),
            PositionRecord::Position { instance, position } => {
                recorded.instances.push(instance);
                if recorded.position.as_ref().is_none_or(|known| known.rank() < position.rank()) {
                    recorded.position = Some(position);
                }
            }
            PositionRecord::Gone { .. } | PositionRecord::Foreign => {}
        }
    }
    Ok(recorded)
}

fn edge_of(edges: &BTreeMap<(String, i32), i64>, place: &(String, i32)) -> i64 {
    edges.get(place).copied().unwrap_or_default()
}

type Latest = BTreeMap<Vec<u8>, Result<PositionRecord, RecordError>>;

/// The last record of each key.
fn read_between(
    reader: &Reader,
    at: &str,
    topic: &str,
    (begin, end): (i64, i64),
    latest: &mut Latest,
) -> Result<(), BrokerError> {
    let unreachable = |reason: String| BrokerError::Unreachable { at: at.to_owned(), reason };
    let failed = |error: KafkaError| unreachable(error.to_string());
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(begin)).map_err(failed)?;
    reader.assign(&list).map_err(failed)?;
    let deadline = Instant::now() + READ_TIMEOUT;
    loop {
        if Instant::now() > deadline {
            return Err(unreachable(format!("topic \"{topic}\" could not be read to its end")));
        }
        let message = match reader.poll(Duration::from_millis(100)) {
            None => continue,
            // The last offsets may be gone by compaction: the end is where the broker says it is.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error)) if is_passing(&error) => continue,
            Some(Err(error)) => return Err(failed(error)),
            Some(Ok(message)) => message,
        };
        let key = message.key().unwrap_or_default();
        latest.insert(key.to_vec(), PositionRecord::read(key, message.payload()));
        if message.offset() + 1 >= end {
            return Ok(());
        }
    }
}

/// Blocks until the records are acknowledged.
fn write_all(
    config: &ClientConfig,
    topic: &str,
    records: &[(String, Option<Vec<u8>>)],
) -> Result<(), BrokerError> {
    let context = FirstFailure::default();
    let producer: BaseProducer<FirstFailure> = config
        .create_with_context(context.clone())
        .map_err(|error| BrokerError::Configuration { reason: error.to_string() })?;
    for (key, value) in records {
        let mut record = BaseRecord::to(topic).partition(0).key(key.as_str());
        if let Some(value) = value {
            record = record.payload(value.as_slice());
        }
        let sent = producer.send(record);
        sent.map_err(|(error, _)| BrokerError::refused(topic, 0, &error))?;
    }
    let flushed = producer.flush(READ_TIMEOUT);
    flushed.map_err(|error| BrokerError::delivery(topic, 0, &error))?;
    match context.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(BrokerError::delivery(topic, 0, &error)),
        None => Ok(()),
    }
}

/// Keeps the first delivery that failed.
#[derive(Debug, Clone, Default)]
struct FirstFailure(Arc<Mutex<Option<KafkaError>>>);

impl ClientContext for FirstFailure {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::log(level, facility, message);
    }
}

impl ProducerContext for FirstFailure {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.clone());
        }
    }
}
