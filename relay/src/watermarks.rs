//! Topic partitions in, the offsets at which they begin and end out.
//!
//! One request to each broker answers for all its partitions: `rd_kafka_offsets_for_times` passes
//! the logical times -1 (end) and -2 (begin) on as ListOffsets knows them
//! (<https://kafka.apache.org/protocol.html#The_Messages_ListOffsets>).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::kafka::{BrokerError, KafkaSettings};
use crate::reach::Reach;

/// How long a question about offsets may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the leaders of a new topic are waited for.
const LEADER_TIMEOUT: Duration = Duration::from_secs(5);
const LEADER_PAUSE: Duration = Duration::from_millis(20);

/// A consumer without a group.
pub(crate) type Reader = BaseConsumer<Reach>;

/// Whether a reader waits for other producers' open transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// It does, as a consumer of events should.
    Committed,
    /// It does not: what is looked for was written without a transaction, and must not be hidden.
    Uncommitted,
}

/// Makes a reader. Brokers need not be reachable yet.
pub(crate) fn open_reader(
    settings: &KafkaSettings,
    isolation: Isolation,
) -> Result<Reader, BrokerError> {
    // What has been fetched ahead stays within the memory mark.
    open(settings, isolation, ["4096", "262144"])
}

/// Makes a reader for whole topics: it fetches far ahead.
pub(crate) fn open_bulk_reader(
    settings: &KafkaSettings,
    isolation: Isolation,
) -> Result<Reader, BrokerError> {
    open(settings, isolation, ["32768", "2097152"])
}

fn open(
    settings: &KafkaSettings,
    isolation: Isolation,
    [queued_kbytes, fetch_bytes]: [&str; 2],
) -> Result<Reader, BrokerError> {
    let mut config = settings.client("walpost-reader");
    // Assigning by hand needs a group name, which nobody ever joins.
    config.set("group.id", format!("walpost-reader-{}", std::process::id()));
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "earliest");
    config.set("fetch.wait.max.ms", "10");
    let level = match isolation {
        Isolation::Committed => "read_committed",
        Isolation::Uncommitted => "read_uncommitted",
    };
    config.set("isolation.level", level);
    // Who reads to an end wants to be told of it.
    let wants_eof = isolation == Isolation::Uncommitted;
    config.set("enable.partition.eof", wants_eof.to_string());
    config.set("queued.max.messages.kbytes", queued_kbytes);
    // A full queue would else hold the next fetch back for a second: 100,000 records a second at
    // most, whatever the machine.
    config.set("fetch.queue.backoff.ms", "5");
    config.set("fetch.message.max.bytes", fetch_bytes);
    config
        .create_with_context(Reach::default())
        .map_err(|error| BrokerError::Configuration { reason: error.to_string() })
}

/// Which end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The lowest offset that is still there.
    Begin,
    /// One past the highest offset.
    End,
}

/// How many partitions a topic has; 0 for one that does not exist. Blocks.
pub(crate) fn partitions(reader: &Reader, at: &str, topic: &str) -> Result<i32, BrokerError> {
    let unreachable = |reason: String| BrokerError::Unreachable { at: at.to_owned(), reason };
    let metadata = reader
        .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
        .map_err(|error| unreachable(error.to_string()))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(0);
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX)),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(0),
        Some(code) => Err(unreachable(code.to_string())),
    }
}

/// The edge of each partition. Blocks while the cluster is asked, for some seconds also while a
/// topic that was just made has no leaders yet.
pub(crate) fn edges(
    reader: &Reader,
    at: &str,
    partitions: &[(String, i32)],
    edge: Edge,
) -> Result<BTreeMap<(String, i32), i64>, BrokerError> {
    let started = Instant::now();
    loop {
        match ask(reader, partitions, edge) {
            Err(error) if is_without_leader(&error) && started.elapsed() < LEADER_TIMEOUT => {
                // Nothing is assigned: this waits, and lets the client look at the cluster again.
                let _ = reader.poll(LEADER_PAUSE);
            }
            Err(error) => {
                let (at, reason) = (at.to_owned(), error.to_string());
                return Err(BrokerError::Unreachable { at, reason });
            }
            Ok(edges) => return Ok(edges),
        }
    }
}

fn ask(
    reader: &Reader,
    partitions: &[(String, i32)],
    edge: Edge,
) -> Result<BTreeMap<(String, i32), i64>, KafkaError> {
    let mut edges = BTreeMap::new();
    if partitions.is_empty() {
        return Ok(edges);
    }
    let time = match edge {
        Edge::Begin => Offset::Beginning,
        Edge::End => Offset::End,
    };
    let mut wanted = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        wanted.add_partition_offset(topic, *partition, time)?;
    }
    let found = reader.offsets_for_times(wanted, REQUEST_TIMEOUT)?;
    for element in found.elements() {
        element.error()?;
        let Offset::Offset(offset) = element.offset() else {
            return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition));
        };
        edges.insert((element.topic().to_owned(), element.partition()), offset);
    }
    Ok(edges)
}

fn is_without_leader(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}
