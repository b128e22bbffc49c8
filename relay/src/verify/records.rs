//! Topics in, what the audit needs of each record out: as fast as a client reads, nothing copied
//! but that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use walpost_schema::envelope::{
    EventPosition, HEADER_FAULT, HEADER_ID, HEADER_LSN, HEADER_RELEASED, HEADER_SOURCE,
    RELEASED_PARKED,
};

use super::audit::Copies;
use super::entry::{Copy, Nature, Order, Spot};
use super::live::{AuditError, Counters};
use crate::kafka::{BrokerError, KafkaSettings, is_passing};
use crate::reach;
use crate::watermarks::{self, Edge, Isolation, REQUEST_TIMEOUT, Reader, open_bulk_reader};

/// How long a look for the next record takes.
const POLL: Duration = Duration::from_millis(100);

/// Offsets of one partition: from the first to before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    from: i64,
    to: i64,
}

impl Range {
    pub(super) fn len(self) -> u64 {
        u64::try_from(self.to - self.from).unwrap_or_default()
    }
}

/// A range of offsets for each topic partition.
pub(super) type Ranges = BTreeMap<(String, i32), Range>;

/// What there is to read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) ranges: Ranges,
    /// Topics that do not exist.
    pub(super) missing: Vec<String>,
    /// Partitions that do not begin at offset 0.
    pub(super) cut: u64,
}

impl Found {
    /// What is here and was not there.
    pub(super) fn beyond(&self, before: &Found) -> Ranges {
        let rest = self.ranges.iter().map(|(place, range)| {
            let read = before.ranges.get(place).map_or(range.from, |before| before.to);
            (place.clone(), Range { from: range.from.max(read), to: range.to })
        });
        rest.filter(|(_, range)| range.len() > 0).collect()
    }

    /// Offsets of each topic.
    pub(super) fn by_topic(&self) -> BTreeMap<String, u64> {
        let mut topics = BTreeMap::new();
        for ((topic, _), range) in &self.ranges {
            *topics.entry(topic.clone()).or_default() += range.len();
        }
        topics
    }
}

/// The present offsets of topics; with `since_ms` from the first record of that time or later.
/// Blocks.
pub(super) fn find(
    kafka: &KafkaSettings,
    topics: &BTreeSet<String>,
    since_ms: Option<i64>,
) -> Result<Found, AuditError> {
    // Says why the cluster cannot be reached, which the questions below cannot.
    reach::knock(kafka, REQUEST_TIMEOUT)?;
    let at = &kafka.bootstrap_servers;
    let reader = open_bulk_reader(kafka, Isolation::Committed)?;
    let mut found = Found::default();
    let mut places = Vec::new();
    for topic in topics {
        let count = watermarks::partitions(&reader, at, topic)?;
        if count == 0 {
            found.missing.push(topic.clone());
        }
        places.extend((0..count).map(|partition| (topic.clone(), partition)));
    }
    let ends = watermarks::edges(&reader, at, &places, Edge::End)?;
    let begins = watermarks::edges(&reader, at, &places, Edge::Begin)?;
    let later = match since_ms {
        Some(since_ms) => offsets_at(&reader, &places, since_ms).map_err(|error| {
            BrokerError::Unreachable { at: at.clone(), reason: error.to_string() }
        })?,
        None => BTreeMap::new(),
    };
    for place in places {
        let edge = |edges: &BTreeMap<(String, i32), i64>| edges.get(&place).copied();
        let (begin, to) = (edge(&begins).unwrap_or_default(), edge(&ends).unwrap_or_default());
        let is_cut = begin > 0 && since_ms.is_none();
        found.cut += u64::from(is_cut);
        // Nothing of that time: everything is older.
        let from = if since_ms.is_some() { edge(&later).unwrap_or(to) } else { begin };
        found.ranges.insert(place, Range { from: from.max(begin).min(to), to });
    }
    Ok(found)
}

fn offsets_at(
    reader: &Reader,
    places: &[(String, i32)],
    since_ms: i64,
) -> Result<BTreeMap<(String, i32), i64>, KafkaError> {
    let mut wanted = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        wanted.add_partition_offset(topic, *partition, Offset::Offset(since_ms.max(0)))?;
    }
    let found = reader.offsets_for_times(wanted, REQUEST_TIMEOUT)?;
    let elements = found.elements();
    let offsets = elements.iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some(((element.topic().to_owned(), element.partition()), offset)),
        _ => None,
    });
    Ok(offsets.collect())
}

/// Reads each range to its end. Blocks.
pub(super) fn read(
    kafka: &KafkaSettings,
    ranges: &Ranges,
    patience: Duration,
    copies: &mut Copies,
    counters: &Counters,
) -> Result<(), AuditError> {
    let at = &kafka.bootstrap_servers;
    let unreachable = |reason: String| BrokerError::Unreachable { at: at.clone(), reason };
    let mut reading = Reading::new(ranges, copies);
    let reader = open_bulk_reader(kafka, Isolation::Committed)?;
    assign(&reader, ranges).map_err(|error| unreachable(error.to_string()))?;
    // Looked at when nothing comes: a look for each record would cost as much as its hash.
    let mut silent_since: Option<Instant> = None;
    while reading.open > 0 {
        match reader.poll(POLL) {
            Some(Ok(message)) => {
                silent_since = None;
                reading.look(&message, copies)?;
                counters.add_record();
            }
            // A broker that is away is waited for by the client itself.
            Some(Err(error)) if !is_passing(&error) => {
                return Err(unreachable(error.to_string()).into());
            }
            Some(Err(_)) | None => {
                if silent_since.get_or_insert_with(Instant::now).elapsed() > patience {
                    let reason =
                        format!("no record for {} s, and some are left", patience.as_secs());
                    return Err(unreachable(reason).into());
                }
            }
        }
    }
    Ok(())
}

fn assign(reader: &Reader, ranges: &Ranges) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), range) in ranges.iter().filter(|(_, range)| range.len() > 0) {
        list.add_partition_offset(topic, *partition, Offset::Offset(range.from))?;
    }
    reader.assign(&list)
}

/// How far each partition is.
struct Reading {
    topics: Vec<Topic>,
    /// Partitions that are not at their end.
    open: usize,
}

struct Topic {
    name: String,
    number: u16,
    /// By partition: where the range ends; 0 once it is read.
    ends: Vec<i64>,
}

impl Reading {
    fn new(ranges: &Ranges, copies: &mut Copies) -> Self {
        let mut topics: Vec<Topic> = Vec::new();
        let mut open = 0;
        for ((name, partition), range) in ranges {
            if topics.last().is_none_or(|topic| topic.name != *name) {
                let number = copies.topic(name);
                topics.push(Topic { name: name.clone(), number, ends: Vec::new() });
            }
            let Some(topic) = topics.last_mut() else { continue };
            let at = usize::try_from(*partition).unwrap_or_default();
            topic.ends.resize(topic.ends.len().max(at + 1), 0);
            if let Some(end) = topic.ends.get_mut(at).filter(|_| range.len() > 0) {
                *end = range.to;
                open += 1;
            }
        }
        Self { topics, open }
    }

    fn look(
        &mut self,
        message: &BorrowedMessage<'_>,
        copies: &mut Copies,
    ) -> Result<(), AuditError> {
        let (partition, offset) = (message.partition(), message.offset());
        let name = message.topic();
        let Some(topic) = self.topics.iter_mut().find(|topic| topic.name == name) else {
            return Ok(());
        };
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        let Some(end) = topic.ends.get_mut(at) else { return Ok(()) };
        // What came after the range was known is of events that are not judged.
        let is_within = offset < *end;
        if *end > 0 && offset + 1 >= *end {
            *end = 0;
            self.open -= 1;
        }
        if !is_within {
            return Ok(());
        }
        let spot = Spot { topic: topic.number, partition, offset };
        match parse(message, spot) {
            Some((id, copy)) => copies.record(id, copy)?,
            None => copies.unreadable(spot),
        }
        Ok(())
    }
}

/// The event id and the rest of what is needed; None for a record that does not say.
fn parse<'m>(message: &'m BorrowedMessage<'_>, spot: Spot) -> Option<(&'m [u8], Copy)> {
    let headers = message.headers()?;
    let (mut id, mut position, mut timeline) = (None, None, 0);
    let mut nature = Nature::Event;
    let last = headers.count().saturating_sub(1);
    for index in 0..headers.count() {
        let header = headers.get(index);
        let text = || std::str::from_utf8(header.value.unwrap_or_default()).ok();
        match header.key {
            HEADER_ID if id.is_none() => id = header.value,
            HEADER_LSN if position.is_none() => {
                position = text().and_then(|text| text.parse::<EventPosition>().ok());
            }
            HEADER_SOURCE => {
                let digits = text().and_then(|text| Some(text.rsplit_once('/')?.1));
                timeline = digits.and_then(|digits| digits.parse().ok()).unwrap_or_default();
            }
            HEADER_RELEASED if header.value != Some(RELEASED_PARKED.as_bytes()) => {
                nature = Nature::Replayed;
            }
            // A dead letter carries none of the row's own headers, and this one behind ours.
            HEADER_FAULT if index == last && text().is_some_and(is_code) => {
                nature = Nature::DeadLetter;
            }
            _ => {}
        }
    }
    let EventPosition { commit_lsn, ordinal } = position?;
    let order = Order { timeline, commit_lsn, ordinal };
    let timestamp_ms = message.timestamp().to_millis().unwrap_or_default();
    Some((id?, Copy { spot, order, timestamp_ms, behind_ms: 0, nature }))
}

/// Whether a text is spelled as the codes of faults are.
fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
