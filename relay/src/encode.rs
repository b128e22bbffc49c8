//! An [`OutboxEvent`] and its destination in, a [`Record`] out: value, headers, partition. Pure
//! given the schemas and topics that are known; what is not known becomes a question.
//!
//! The record borrows from the event and from buffers that are used again for the next one, so a
//! record costs no allocation here. Wire form: `docs/wire-format.md`.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use walpost_schema::envelope::SourceId;
use walpost_schema::wire::SchemaId;
use walpost_schema::{partition, wire};

use crate::event::{OutboxEvent, Payload};
use crate::headers::{Headers, HeadersError};
use crate::limits;
use crate::lookup::{Answer, Question, TopicFacts};
use crate::park::{ParkedEvent, RawPayload};
use crate::position::{Place, TopicId};
use crate::route::{Destination, PayloadForm};
use crate::schemas::{NEGATIVE_TTL, Obstacle as SchemaObstacle, SchemaError, Schemas};

/// A missing topic is waited for this long, once per topic: brokers take seconds to make one.
pub const TOPIC_GRACE: Duration = Duration::from_secs(30);

/// What Kafka adds to a record inside a batch, generously: lengths, offsets, the batch's header.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// A Kafka record, ready to be handed to the producer.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The topic's number, and the partition that Java's default partitioner would choose for the
    /// key.
    pub place: Place,
    /// The aggregate id.
    pub key: &'a [u8],
    /// Framed Avro, JSON or bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Ours first, then the row's own.
    pub headers: &'a Headers,
    /// The commit time.
    pub timestamp_ms: i64,
    /// Row headers with reserved names that are left out.
    pub dropped_headers: u64,
}

impl Record<'_> {
    /// What it weighs in the producer's queue.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.map_or(0, <[u8]>::len) + self.headers.bytes()
    }
}

/// Why an event cannot become a record. None of these ever holds a value of the payload (I12).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The schema is missing or the payload does not fit it.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The topic does not exist and may not be made here.
    #[error("topic \"{topic}\" does not exist")]
    TopicMissing {
        /// The topic.
        topic: String,
    },
    /// The row's headers are not usable.
    #[error(transparent)]
    Headers(#[from] HeadersError),
    /// A route with Avro or JSON over a bytea payload.
    #[error("payload is bytea, and the route wants {wanted}")]
    PayloadIsBytes {
        /// The route's form.
        wanted: &'static str,
    },
    /// A route with framed Avro over a text payload.
    #[error("payload is text, and the route wants framed avro in a bytea column")]
    PayloadIsText,
    /// A text column whose text is not JSON, on a route that promises JSON.
    #[error("payload is not json (line {line} column {column})")]
    NotJson {
        /// Where reading ended.
        line: usize,
        /// Where reading ended.
        column: usize,
    },
    /// A bytea that is not in hex form.
    #[error("payload is not a bytea in hex form")]
    NotHex,
    /// A framed payload without the frame.
    #[error("payload is not framed avro: {0}")]
    NotFramed(wire::WireError),
    /// A framed payload with an id that the subject does not have.
    #[error("schema id {id} does not belong to subject \"{subject}\"")]
    ForeignId {
        /// The id.
        id: u32,
        /// The subject.
        subject: String,
    },
    /// A framed payload whose body is not a whole datum of its schema.
    #[error("payload is not a datum of schema id {id}: {reason}")]
    BrokenBody {
        /// The id.
        id: u32,
        /// Why.
        reason: String,
    },
    /// The broker refused the record when it was alone in its batch.
    #[error("the broker refuses the record for topic \"{topic}\"")]
    RefusedByBroker {
        /// The topic.
        topic: String,
    },
    /// The record is larger than the topic takes.
    #[error("the record has {bytes} bytes, topic \"{topic}\" takes {limit} (max.message.bytes)")]
    TooLarge {
        /// The topic.
        topic: String,
        /// The record's size with its share of a batch.
        bytes: usize,
        /// The topic's limit.
        limit: usize,
    },
}

/// What stands between an event and its record.
#[derive(Debug, Clone, PartialEq)]
pub enum Obstacle {
    /// Something must be asked first; the same event is encoded again afterwards.
    Ask(Question),
    /// It can never be a record as things are.
    Refuse(EncodeError),
}

impl From<EncodeError> for Obstacle {
    fn from(error: EncodeError) -> Self {
        Self::Refuse(error)
    }
}

impl From<SchemaObstacle> for Obstacle {
    fn from(obstacle: SchemaObstacle) -> Self {
        match obstacle {
            SchemaObstacle::Ask(question) => Self::Ask(question),
            SchemaObstacle::Refuse(error) => Self::Refuse(EncodeError::Schema(error)),
        }
    }
}

/// How the subject of a schema is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubjectStrategy {
    /// `{topic}-{full name}`: a topic carries several event types.
    #[default]
    TopicRecord,
    /// `{full name}`.
    Record,
    /// `{topic}-value`.
    Topic,
}

impl SubjectStrategy {
    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TopicRecord => "topic-record",
            Self::Record => "record",
            Self::Topic => "topic",
        }
    }
}

/// How event types and schemas belong together (`[schemas]`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchemaNaming {
    /// Completes a short event type.
    pub namespace: Option<String>,
    /// Event types that are called differently than their records.
    pub types: HashMap<String, String>,
    /// Versions pinned by the file, by event type.
    pub versions: HashMap<String, u32>,
    /// How subjects are named.
    pub subject_strategy: SubjectStrategy,
}

/// Makes records: what is known of schemas and topics, and the buffers.
#[derive(Debug)]
pub struct Encoder {
    source: SourceId,
    /// The `source` header of the present transaction.
    source_text: String,
    naming: SchemaNaming,
    schemas: Schemas,
    topics: foldhash::HashMap<Arc<str>, TopicState>,
    subjects: foldhash::HashMap<Arc<str>, foldhash::HashMap<String, SubjectOf>>,
    subjects_count: usize,
    topic: Arc<str>,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Headers,
    built: Option<Built>,
}

/// What is known of the record in the buffers.
#[derive(Debug, Clone, Copy)]
struct Built {
    place: Place,
    has_value: bool,
    timestamp_ms: i64,
    dropped_headers: u64,
}

/// Which copy of an event a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// The first one, on its way from the stream.
    First,
    /// One that left the parking lot.
    Released,
}

#[derive(Debug, Clone)]
struct SubjectOf {
    subject: Arc<str>,
    full_name: Arc<str>,
    version: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum TopicState {
    Known { id: TopicId, facts: TopicFacts, checked: Duration },
    Missing { since: Duration, checked: Duration },
}

impl Encoder {
    /// An encoder for records of `source`.
    pub fn new(source: SourceId, naming: SchemaNaming, refresh_interval: Duration) -> Self {
        Self {
            source_text: source.to_string(),
            source,
            naming,
            schemas: Schemas::new(refresh_interval),
            topics: foldhash::HashMap::default(),
            subjects: foldhash::HashMap::default(),
            subjects_count: 0,
            topic: Arc::default(),
            key: Vec::new(),
            value: Vec::new(),
            headers: Headers::default(),
            built: None,
        }
    }

    /// The source as the `source` header names it.
    pub fn source(&self) -> &SourceId {
        &self.source
    }

    /// A transaction starts whose commit is in the WAL of this timeline.
    pub fn set_timeline(&mut self, timeline: u32) {
        if self.source.timeline() == timeline {
            return;
        }
        // A name that made one source makes another; timelines of the server count from 1.
        if let Ok(source) = SourceId::try_new(self.source.name(), timeline) {
            self.source_text = source.to_string();
            self.source = source;
        }
    }

    /// Makes the record of an event. It lives in this encoder's buffers until the next one.
    pub fn encode(
        &mut self,
        event: &OutboxEvent<'_>,
        destination: &Destination,
        now: Duration,
    ) -> Result<Record<'_>, Obstacle> {
        self.prepare(event, destination, Copy::First, now)?;
        Ok(self.record())
    }

    /// The same in two steps, for who decides in between: the record is in the buffers afterwards.
    pub fn prepare(
        &mut self,
        event: &OutboxEvent<'_>,
        destination: &Destination,
        copy: Copy,
        now: Duration,
    ) -> Result<Place, Obstacle> {
        self.built = None;
        let (id, facts, checked) = self.topic(&destination.topic, now)?;
        let has_value = self.encode_value(event, destination, now)?;
        let filled = self.headers.fill(event, &self.source_text, copy);
        let dropped_headers = filled.map_err(EncodeError::from)?;
        let timestamp_ms = event.commit_time.unix_ms();
        let partition = self.key_partition(&event.aggregate_id, facts);
        let place = Place { topic: id, partition };
        self.topic = Arc::clone(&destination.topic);
        self.built = Some(Built { place, has_value, timestamp_ms, dropped_headers });
        self.check_size(facts, checked, now)?;
        Ok(place)
    }

    /// The record of an event that is given up: its content as it came, and why.
    pub fn prepare_dead_letter(
        &mut self,
        parked: &ParkedEvent,
        topic: &Arc<str>,
        now: Duration,
    ) -> Result<Place, Obstacle> {
        self.built = None;
        let (id, facts, checked) = self.topic(topic, now)?;
        self.value.clear();
        let payload = &parked.row.payload;
        match payload {
            RawPayload::Hex(hex) => decode_hex(hex, &mut self.value)?,
            other => self.value.extend_from_slice(&other.bytes().unwrap_or_default()),
        }
        self.headers.fill_dead_letter(parked, &self.source_text);
        let key = parked.row.aggregate_id.as_deref().unwrap_or_default();
        let place = Place { topic: id, partition: self.key_partition(key, facts) };
        self.topic = Arc::clone(topic);
        self.built = Some(Built {
            place,
            has_value: *payload != RawPayload::Tombstone,
            timestamp_ms: parked.commit_time.unix_ms(),
            dropped_headers: 0,
        });
        self.check_size(facts, checked, now)?;
        Ok(place)
    }

    /// The record that was prepared last.
    pub fn record(&self) -> Record<'_> {
        assert!(self.built.is_some(), "I5: only a record that was prepared is sent");
        let nowhere = Place { topic: TopicId::NONE, partition: 0 };
        let nothing =
            Built { place: nowhere, has_value: false, timestamp_ms: 0, dropped_headers: 0 };
        let Built { place, has_value, timestamp_ms, dropped_headers } =
            self.built.unwrap_or(nothing);
        Record {
            topic: &self.topic,
            place,
            key: &self.key,
            value: has_value.then_some(self.value.as_slice()),
            headers: &self.headers,
            timestamp_ms,
            dropped_headers,
        }
    }

    /// Where Java's default partitioner puts the key, which is in its buffer afterwards.
    fn key_partition(&mut self, key: &str, facts: TopicFacts) -> u32 {
        self.key.clear();
        self.key.extend_from_slice(key.as_bytes());
        partition::partition_for(&self.key, facts.partitions)
    }

    fn check_size(
        &self,
        facts: TopicFacts,
        checked: Duration,
        now: Duration,
    ) -> Result<(), Obstacle> {
        let bytes = self.record().bytes() + RECORD_OVERHEAD_BYTES;
        if bytes <= facts.message_bytes_max {
            return Ok(());
        }
        if now >= checked + NEGATIVE_TTL {
            // The limit may have been raised since it was asked for.
            return Err(Obstacle::Ask(Question::Topic { topic: Arc::clone(&self.topic) }));
        }
        let (topic, limit) = (self.topic.to_string(), facts.message_bytes_max);
        Err(EncodeError::TooLarge { topic, bytes, limit }.into())
    }

    /// A subject in use that is due to be asked for again.
    pub fn refresh_due(&self, now: Duration) -> Option<Question> {
        self.schemas.refresh_due(now)
    }

    /// A person asks for another try: what did not exist or did not fit may have been mended a
    /// moment ago, and is asked for again.
    pub fn doubt(&mut self) {
        for state in self.topics.values_mut() {
            let (TopicState::Known { checked, .. } | TopicState::Missing { checked, .. }) = state;
            *checked = Duration::ZERO;
        }
        self.schemas.doubt();
    }

    /// The producer was replaced: topics are looked at again before their next record.
    pub fn forget_topics(&mut self) {
        self.topics.clear();
    }

    /// Takes an answer about schemas.
    pub fn learn(&mut self, question: &Question, answer: Answer, now: Duration) {
        self.schemas.learn(question, answer, now);
    }

    /// Takes the facts of a topic, or that it does not exist.
    pub fn learn_topic(
        &mut self,
        topic: &Arc<str>,
        found: Option<(TopicId, TopicFacts)>,
        now: Duration,
    ) {
        if self.topics.len() >= limits::DESTINATIONS_MAX && !self.topics.contains_key(topic) {
            self.topics.clear();
        }
        let state = match (self.topics.get(topic), found) {
            (Some(TopicState::Known { facts: known, .. }), Some((id, mut facts))) => {
                // With records in flight a key must not move to another partition.
                facts.partitions = known.partitions;
                TopicState::Known { id, facts, checked: now }
            }
            (_, Some((id, facts))) => TopicState::Known { id, facts, checked: now },
            (Some(TopicState::Missing { since, .. }), None) => {
                TopicState::Missing { since: *since, checked: now }
            }
            (_, None) => TopicState::Missing { since: now, checked: now },
        };
        self.topics.insert(Arc::clone(topic), state);
    }

    /// The number of partitions that a topic's records are spread over, where it is known.
    pub fn partitions_of(&self, topic: &str) -> Option<NonZeroU32> {
        match self.topics.get(topic)? {
            TopicState::Known { facts, .. } => Some(facts.partitions),
            TopicState::Missing { .. } => None,
        }
    }

    /// Spreads a topic's records over more partitions from now on.
    pub fn raise_partitions(&mut self, topic: &str, partitions: NonZeroU32) {
        if let Some(TopicState::Known { facts, .. }) = self.topics.get_mut(topic) {
            facts.partitions = partitions.max(facts.partitions);
        }
    }

    /// The topic's number and facts, and when they were asked for.
    fn topic(
        &self,
        topic: &Arc<str>,
        now: Duration,
    ) -> Result<(TopicId, TopicFacts, Duration), Obstacle> {
        match self.topics.get(topic) {
            Some(TopicState::Known { id, facts, checked }) => Ok((*id, *facts, *checked)),
            Some(TopicState::Missing { since, checked })
                if now >= *since + TOPIC_GRACE && now < *checked + NEGATIVE_TTL =>
            {
                Err(EncodeError::TopicMissing { topic: topic.to_string() }.into())
            }
            _ => Err(Obstacle::Ask(Question::Topic { topic: Arc::clone(topic) })),
        }
    }

    /// Fills the value buffer; says whether there is a value at all.
    fn encode_value(
        &mut self,
        event: &OutboxEvent<'_>,
        destination: &Destination,
        now: Duration,
    ) -> Result<bool, Obstacle> {
        self.value.clear();
        match (&event.payload, destination.payload) {
            (Payload::Tombstone, _) => return Ok(false),
            (Payload::Json(json) | Payload::Text(json), PayloadForm::Avro) => {
                self.encode_avro(event, &destination.topic, json, now)?;
            }
            (Payload::Hex(hex), PayloadForm::AvroPassthrough) => {
                decode_hex(hex, &mut self.value)?;
                self.check_framed(event, &destination.topic, now)?;
            }
            (Payload::Text(text), PayloadForm::Json) => {
                check_json(text)?;
                self.value.extend_from_slice(text.as_bytes());
            }
            (Payload::Json(text), PayloadForm::Json | PayloadForm::Bytes)
            | (Payload::Text(text), PayloadForm::Bytes) => {
                self.value.extend_from_slice(text.as_bytes());
            }
            (Payload::Hex(hex), PayloadForm::Bytes) => decode_hex(hex, &mut self.value)?,
            (Payload::Hex(_), PayloadForm::Avro) => {
                return Err(EncodeError::PayloadIsBytes { wanted: "json for avro" }.into());
            }
            (Payload::Hex(_), PayloadForm::Json) => {
                return Err(EncodeError::PayloadIsBytes { wanted: "json" }.into());
            }
            (Payload::Json(_) | Payload::Text(_), PayloadForm::AvroPassthrough) => {
                return Err(EncodeError::PayloadIsText.into());
            }
        }
        Ok(true)
    }

    fn encode_avro(
        &mut self,
        event: &OutboxEvent<'_>,
        topic: &Arc<str>,
        json: &str,
        now: Duration,
    ) -> Result<(), Obstacle> {
        let of = self.subject_of(topic, &event.event_type);
        // The id is known only after the encoding: its place is kept free.
        self.value.extend_from_slice(&wire::frame_header(SchemaId(0)));
        let version = event.schema_version.or(of.version);
        let (subject, full_name) = (&of.subject, &of.full_name);
        let id = self.schemas.encode(subject, full_name, version, json, now, &mut self.value)?;
        let header = wire::frame_header(id);
        if let Some(place) = self.value.first_chunk_mut() {
            *place = header;
        }
        Ok(())
    }

    fn check_framed(
        &mut self,
        event: &OutboxEvent<'_>,
        topic: &Arc<str>,
        now: Duration,
    ) -> Result<(), Obstacle> {
        let of = self.subject_of(topic, &event.event_type);
        let (id, body) = wire::decode(&self.value).map_err(EncodeError::NotFramed)?;
        let writer = self
            .schemas
            .by_id(&of.subject, id, now)?
            .ok_or_else(|| EncodeError::ForeignId { id: id.0, subject: of.subject.to_string() })?;
        writer
            .plan
            .validate(body)
            .map_err(|error| EncodeError::BrokenBody { id: id.0, reason: error.to_string() }.into())
    }

    fn subject_of(&mut self, topic: &Arc<str>, event_type: &str) -> SubjectOf {
        if let Some(of) = self.subjects.get(topic).and_then(|types| types.get(event_type)) {
            return of.clone();
        }
        let of = self.naming.subject_of(topic, event_type);
        if self.subjects_count >= limits::DESTINATIONS_MAX {
            self.subjects.clear();
            self.subjects_count = 0;
        }
        self.subjects_count += 1;
        let types = self.subjects.entry(Arc::clone(topic)).or_default();
        types.insert(event_type.to_owned(), of.clone());
        of
    }
}

impl SchemaNaming {
    /// The record's full name of an event type (DESIGN 3.3).
    pub fn full_name(&self, event_type: &str) -> String {
        match (self.types.get(event_type), &self.namespace) {
            (Some(mapped), _) => mapped.clone(),
            (None, Some(namespace)) if !event_type.contains('.') => {
                format!("{namespace}.{event_type}")
            }
            (None, _) => event_type.to_owned(),
        }
    }

    /// The subject of a record name in a topic.
    pub fn subject(&self, topic: &str, full_name: &str) -> String {
        match self.subject_strategy {
            SubjectStrategy::TopicRecord => format!("{topic}-{full_name}"),
            SubjectStrategy::Record => full_name.to_owned(),
            SubjectStrategy::Topic => format!("{topic}-value"),
        }
    }

    fn subject_of(&self, topic: &str, event_type: &str) -> SubjectOf {
        let full_name = self.full_name(event_type);
        SubjectOf {
            subject: self.subject(topic, &full_name).into(),
            full_name: full_name.into(),
            version: self.versions.get(event_type).copied(),
        }
    }
}

fn check_json(text: &str) -> Result<(), EncodeError> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| ()).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        EncodeError::NotJson { line, column }
    })
}

fn decode_hex(text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let digits = text.strip_prefix("\\x").ok_or(EncodeError::NotHex)?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err(EncodeError::NotHex);
    }
    let value =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    for pair in digits.chunks_exact(2) {
        let (Some(high), Some(low)) = (value(pair[0]), value(pair[1])) else {
            return Err(EncodeError::NotHex);
        };
        out.push(high << 4 | low);
    }
    Ok(())
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
