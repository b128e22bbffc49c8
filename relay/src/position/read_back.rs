//! Read-back: after a start, or after a producer was lost, exactly what Kafka holds beyond the
//! frontier is found, so that it is not sent again.
//!
//! ```text
//!   lowest offsets, high watermarks -> records with our `source` header -> positions beyond it
//! ```
//!
//! Nothing is inferred from the last record: partitions are acknowledged in any order, so there are
//! holes. What a broker still had in flight when the watermarks were taken, and what lay in
//! partitions whose offsets are gone, comes again as duplicates. A record whose timeline is not the
//! one whose WAL holds its commit is a phantom: the database that wrote it lost it in a failover.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use walpost_schema::envelope::{self, EventPosition, SourceId};

use super::offsets::LowestOffsets;
use super::record::Mark;
use crate::kafka::{BrokerError, KafkaSettings, is_passing};
use crate::limits;
use crate::lsn::Lsn;
use crate::park::Identity;
use crate::wal::History;
use crate::watermarks::{self, Edge, Isolation, Reader, open_reader};

/// Without a record for so long, what is missing of a partition is asked for by itself.
const QUIET: Duration = Duration::from_millis(500);
/// Without any progress for so long, the brokers count as away.
const STALLED: Duration = Duration::from_secs(20);

/// What is read, and for whom.
#[derive(Debug, Clone)]
pub struct ReadBack {
    /// The brokers.
    pub settings: KafkaSettings,
    /// The source's name.
    pub source: String,
    /// Everything at or below it is skipped anyway.
    pub mark: Mark,
    /// The present history.
    pub history: History,
    /// Where to start.
    pub lowest: LowestOffsets,
}

/// What Kafka holds beyond the mark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Each event with its last copy.
    pub events: HashMap<EventPosition, FoundAt>,
    /// Events that left the parking lot: their rows may still be in it.
    pub released: HashSet<Identity>,
    /// High watermarks by topic.
    pub ends: BTreeMap<Arc<str>, Vec<i64>>,
    /// Records of a history that the database no longer has, at most [`limits::PHANTOMS_SHOWN`].
    pub phantoms: Vec<Phantom>,
    /// Partitions that no longer have the offsets at which reading should have started: what lay
    /// there is sent again.
    pub offsets_gone: u64,
    /// Records beyond what is remembered: they are sent again.
    pub forgotten: u64,
}

/// Where a copy of an event lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundAt {
    /// The timeline whose WAL holds its commit.
    pub timeline: u32,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: i64,
}

/// A record whose commit is not in the present history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phantom {
    /// The event id.
    pub id: String,
    /// Its `source` header.
    pub source: String,
    /// Its position there.
    pub position: EventPosition,
    /// Topic, partition and offset.
    pub at: (String, i32, i64),
}

impl std::fmt::Display for Phantom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (topic, partition, offset) = &self.at;
        write!(
            f,
            "event {} of {} at {} (topic \"{topic}\" partition {partition} offset {offset})",
            self.id, self.source, self.position
        )
    }
}

impl ReadBack {
    /// Reads from the lowest offsets to the present ends.
    ///
    /// Cancellation-safe: reading changes nothing; its thread ends by itself.
    pub async fn run(self) -> Result<Found, BrokerError> {
        let at = self.settings.bootstrap_servers.clone();
        let lost = |error: tokio::task::JoinError| BrokerError::Unreachable {
            at,
            reason: error.to_string(),
        };
        tokio::task::spawn_blocking(move || self.read()).await.map_err(lost)?
    }

    fn read(&self) -> Result<Found, BrokerError> {
        let mut found = Found::default();
        if self.lowest.is_empty() {
            return Ok(found);
        }
        let at = &self.settings.bootstrap_servers;
        let reader = open_reader(&self.settings, Isolation::Uncommitted)?;
        let partitions = self.partitions(&reader, &mut found)?;
        let ends = watermarks::edges(&reader, at, &partitions, Edge::End)?;
        let begins = watermarks::edges(&reader, at, &partitions, Edge::Begin)?;
        let mut wanted = BTreeMap::new();
        for (topic, partition) in partitions {
            let place = (topic, partition);
            let edge = |edges: &BTreeMap<_, i64>| edges.get(&place).copied().unwrap_or_default();
            let (begin, end) = (edge(&begins), edge(&ends));
            let lowest = self.lowest_of(&place).unwrap_or(end);
            // Deleted by retention, or a topic made anew: what is not there cannot be looked at.
            found.offsets_gone += u64::from(lowest < begin || lowest > end);
            let from = if lowest > end { begin } else { lowest.max(begin) };
            if from < end {
                wanted.insert(place.clone(), Span { next: from, end });
            }
            set_end(&mut found.ends, &place, end);
        }
        self.read_spans(&reader, &mut wanted, &mut found)?;
        Ok(found)
    }

    /// The partitions that are still there. Of the others nothing can be found; a topic that is
    /// made anew begins at 0.
    fn partitions(
        &self,
        reader: &Reader,
        found: &mut Found,
    ) -> Result<Vec<(String, i32)>, BrokerError> {
        let mut there = Vec::new();
        for (topic, partitions) in &self.lowest {
            let known = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
            let count = watermarks::partitions(reader, &self.settings.bootstrap_servers, topic)?;
            for partition in 0..known {
                let place = (topic.to_string(), partition);
                if partition < count {
                    there.push(place);
                } else if self.lowest_of(&place).is_some() {
                    found.offsets_gone += 1;
                    set_end(&mut found.ends, &place, 0);
                }
            }
        }
        Ok(there)
    }

    fn lowest_of(&self, (topic, partition): &(String, i32)) -> Option<i64> {
        let partition = usize::try_from(*partition).ok()?;
        *self.lowest.get(topic.as_str())?.get(partition)?
    }

    fn read_spans(
        &self,
        reader: &Reader,
        wanted: &mut BTreeMap<(String, i32), Span>,
        found: &mut Found,
    ) -> Result<(), BrokerError> {
        self.assign(reader, wanted.iter())?;
        let mut last_record = Instant::now();
        let mut alone: Option<(String, i32)> = None;
        while !wanted.is_empty() {
            let polled = reader.poll(Duration::from_millis(50));
            match polled {
                Some(Ok(message)) => {
                    last_record = Instant::now();
                    let place = (message.topic().to_owned(), message.partition());
                    let Some(span) = wanted.get_mut(&place) else { continue };
                    span.next = message.offset() + 1;
                    if message.offset() < span.end {
                        self.take(&message, found);
                    }
                    if span.next >= span.end {
                        wanted.remove(&place);
                    }
                }
                // With one partition assigned it is known which one ended: its last offsets hold
                // no records (markers of transactions, or compacted away).
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    if let Some(place) = alone.take() {
                        wanted.remove(&place);
                        last_record = Instant::now();
                    }
                }
                Some(Err(error)) if !is_passing(&error) => {
                    return Err(self.unreachable(error.to_string()));
                }
                Some(Err(_)) | None => {}
            }
            if alone.is_none() && last_record.elapsed() > QUIET {
                let next = wanted.iter().next();
                self.assign(reader, next.into_iter())?;
                alone = wanted.keys().next().cloned();
            }
            if last_record.elapsed() > STALLED {
                return Err(self.unreachable("topics could not be read back".to_owned()));
            }
        }
        Ok(())
    }

    fn assign<'a>(
        &self,
        reader: &Reader,
        spans: impl Iterator<Item = (&'a (String, i32), &'a Span)>,
    ) -> Result<(), BrokerError> {
        let failed = |error: KafkaError| self.unreachable(error.to_string());
        let mut list = TopicPartitionList::new();
        for ((topic, partition), span) in spans {
            let from = Offset::Offset(span.next);
            list.add_partition_offset(topic, *partition, from).map_err(failed)?;
        }
        reader.assign(&list).map_err(failed)
    }

    fn take(&self, message: &BorrowedMessage<'_>, found: &mut Found) {
        let Some((source, position)) = ours(message, &self.source) else { return };
        let is_released = header(message, envelope::HEADER_RELEASED).is_some();
        if self.mark.covers(position) && !is_released {
            return;
        }
        if self.history.timeline_at(Lsn(position.commit_lsn)) != source.timeline() {
            if found.phantoms.len() < limits::PHANTOMS_SHOWN {
                found.phantoms.push(Phantom {
                    id: header(message, envelope::HEADER_ID).unwrap_or_default().to_owned(),
                    source: source.to_string(),
                    position,
                    at: (message.topic().to_owned(), message.partition(), message.offset()),
                });
            }
            return;
        }
        if is_released {
            // One that is not remembered leaves the lot a second time.
            if found.released.len() < limits::FOUND_EVENTS_MAX {
                found.released.insert(Identity { timeline: source.timeline(), position });
            }
            return;
        }
        if found.events.len() >= limits::FOUND_EVENTS_MAX {
            found.forgotten += 1;
            return;
        }
        // One name for each topic: it is in `ends` already.
        let topic = found.ends.get_key_value(message.topic()).map(|(name, _)| Arc::clone(name));
        let topic = topic.unwrap_or_else(|| Arc::from(message.topic()));
        let partition = u32::try_from(message.partition()).unwrap_or_default();
        let (timeline, offset) = (source.timeline(), message.offset());
        found.events.insert(position, FoundAt { timeline, topic, partition, offset });
    }

    fn unreachable(&self, reason: String) -> BrokerError {
        BrokerError::Unreachable { at: self.settings.bootstrap_servers.clone(), reason }
    }
}

/// What is left of a partition.
#[derive(Debug, Clone, Copy)]
struct Span {
    next: i64,
    end: i64,
}

fn set_end(ends: &mut BTreeMap<Arc<str>, Vec<i64>>, (topic, partition): &(String, i32), end: i64) {
    let of = match ends.get_mut(topic.as_str()) {
        Some(of) => of,
        None => ends.entry(Arc::from(topic.as_str())).or_default(),
    };
    let index = usize::try_from(*partition).unwrap_or_default();
    if of.len() <= index {
        of.resize(index + 1, 0);
    }
    if let Some(slot) = of.get_mut(index) {
        *slot = end;
    }
}

/// Source and position of a record that this source wrote.
fn ours(message: &BorrowedMessage<'_>, source: &str) -> Option<(SourceId, EventPosition)> {
    let written: SourceId = header(message, envelope::HEADER_SOURCE)?.parse().ok()?;
    if written.name() != source {
        return None;
    }
    Some((written, header(message, envelope::HEADER_LSN)?.parse().ok()?))
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a str> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}
