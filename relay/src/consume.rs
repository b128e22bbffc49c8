//! Topics in, records out: a reader without a group, for `tail`, the verifier and the demo. It
//! commits nothing and disturbs nobody.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::kafka::{BrokerError, KafkaSettings, is_passing};
use crate::reach;
use crate::watermarks::{Isolation, REQUEST_TIMEOUT, Reader, open_reader};

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At what is still there.
    Beginning,
    /// At what comes from now on.
    End,
    /// At the first record at or after this time.
    Time {
        /// Milliseconds since the Unix epoch.
        unix_ms: i64,
    },
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl ReadRecord {
    /// The first header of this name as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }
}

/// Reads several topics from a start to their present end and, if wanted, on.
pub struct TopicReader {
    consumer: Reader,
    /// The next offset of each partition and the end when reading started.
    positions: HashMap<(String, i32), (i64, i64)>,
    at: String,
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicReader").field("positions", &self.positions).finish_non_exhaustive()
    }
}

impl TopicReader {
    /// Starts reading. Blocks while the cluster is asked for partitions and offsets.
    pub fn open(
        settings: &KafkaSettings,
        topics: &[String],
        from: From,
    ) -> Result<Self, BrokerError> {
        // Says why the cluster cannot be reached, which the questions below cannot.
        reach::knock(settings, REQUEST_TIMEOUT)?;
        let consumer = open_reader(settings, Isolation::Committed)?;
        let at = settings.bootstrap_servers.clone();
        let mut reader = Self { consumer, positions: HashMap::new(), at };
        for topic in topics {
            reader.add_topic(topic, from)?;
        }
        reader.assign()?;
        Ok(reader)
    }

    /// The next record, or `None` when nothing came within `wait`.
    pub fn next(&mut self, wait: Duration) -> Result<Option<ReadRecord>, BrokerError> {
        let Some(polled) = self.consumer.poll(wait) else { return Ok(None) };
        let message = match polled {
            Ok(message) => message,
            // A broker that is away is waited for by the client itself.
            Err(error) if is_passing(&error) => return Ok(None),
            Err(error) => return Err(self.unreachable(&error)),
        };
        let record = ReadRecord {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map_or_else(Vec::new, |headers| {
                let owned = |index| {
                    let header = headers.get(index);
                    (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
                };
                (0..headers.count()).map(owned).collect()
            }),
        };
        let place = (record.topic.clone(), record.partition);
        if let Some((next, _)) = self.positions.get_mut(&place) {
            *next = record.offset + 1;
        }
        Ok(Some(record))
    }

    /// Whether everything that was there when reading started has been read.
    pub fn is_at_end(&self) -> bool {
        self.positions.values().all(|(next, end)| next >= end)
    }

    fn add_topic(&mut self, topic: &str, from: From) -> Result<(), BrokerError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
        let metadata = metadata.map_err(|error| self.unreachable(&error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.filter(|found| found.error().is_none()).map(|f| f.partitions());
        let partitions =
            partitions.filter(|partitions| !partitions.is_empty()).ok_or_else(|| {
                let (what, reason) = (format!("topic \"{topic}\""), "it does not exist".to_owned());
                BrokerError::Refused { what, reason }
            })?;
        for partition in partitions {
            let id = partition.id();
            let marks = self.consumer.fetch_watermarks(topic, id, REQUEST_TIMEOUT);
            let (low, high) = marks.map_err(|error| self.unreachable(&error))?;
            let start = match from {
                // From the low mark: a stand-in drops old data, and so does retention.
                From::Beginning => low,
                From::End => high,
                From::Time { unix_ms } => self.offset_at(topic, id, unix_ms)?.unwrap_or(high),
            };
            self.positions.insert((topic.to_owned(), id), (start, high));
        }
        Ok(())
    }

    fn offset_at(
        &self,
        topic: &str,
        partition: i32,
        unix_ms: i64,
    ) -> Result<Option<i64>, BrokerError> {
        let mut times = TopicPartitionList::new();
        let wanted = times.add_partition_offset(topic, partition, Offset::Offset(unix_ms));
        wanted.map_err(|error| self.unreachable(&error))?;
        let found = self.consumer.offsets_for_times(times, REQUEST_TIMEOUT);
        let found = found.map_err(|error| self.unreachable(&error))?;
        let offset = found.find_partition(topic, partition).map(|element| element.offset());
        Ok(match offset {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        })
    }

    fn assign(&self) -> Result<(), BrokerError> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), (start, _)) in &self.positions {
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*start));
            added.map_err(|error| self.unreachable(&error))?;
        }
        self.consumer.assign(&list).map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &KafkaError) -> BrokerError {
        BrokerError::Unreachable { at: self.at.clone(), reason: error.to_string() }
    }
}
