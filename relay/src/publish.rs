//! Records in, deliveries out: one idempotent producer of a source.
//!
//! ```text
//!   send(record, seq) -> librdkafka -> broker
//!   take_deliveries() <- inbox <- delivery callback on the producer's own thread
//! ```
//!
//! The settings that the promises rest on are forced (`kafka.rs`). A full queue hands the record
//! back; the caller offers the same record first again, so order is kept. After a failed delivery
//! the producer is never flushed, because it might send later records past the failed one: it is
//! purged and replaced, and its late callbacks go to a box that nobody reads any more.

mod polled;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use self::polled::Polled;
use crate::confirm::EventSeq;
use crate::encode::Record;
use crate::kafka::{BrokerError, ProducerConfig};
use crate::park::ReleaseSeq;
use crate::reach::{Trouble, TroubleKind};

/// What became of a record.
#[derive(Debug)]
pub enum Delivery {
    /// The brokers have the event, on all in-sync replicas.
    Acknowledged {
        /// Its number.
        seq: EventSeq,
        /// Where it lies in its partition.
        offset: i64,
    },
    /// The brokers have an event that leaves the parking lot.
    Released(ReleaseSeq),
    /// The brokers have the position record.
    PositionAcknowledged,
    /// They do not have it, or nobody knows: the producer must be replaced.
    Failed {
        /// Why.
        error: BrokerError,
    },
}

/// What a delivery is about, as the number that travels with the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ticket {
    Event(EventSeq),
    Release(ReleaseSeq),
    Position,
    /// A record that nobody waits for.
    Aside,
}

impl Ticket {
    const POSITION: usize = usize::MAX;
    const ASIDE: usize = usize::MAX - 1;
    /// Numbers of releases begin here: half of all numbers, more than any run counts to.
    const RELEASES: usize = 1 << (usize::BITS - 1);

    fn number(self) -> Option<usize> {
        match self {
            Self::Event(seq) => usize::try_from(seq.0).ok(),
            Self::Release(seq) => Some(usize::try_from(seq.0).ok()? + Self::RELEASES),
            Self::Position => Some(Self::POSITION),
            Self::Aside => Some(Self::ASIDE),
        }
    }

    fn of(number: usize) -> Self {
        match number {
            Self::POSITION => Self::Position,
            Self::ASIDE => Self::Aside,
            Self::RELEASES.. => Self::Release(ReleaseSeq((number - Self::RELEASES) as u64)),
            seq => Self::Event(EventSeq(seq as u64)),
        }
    }
}

/// Whether the producer took a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It will be delivered or reported as failed.
    Taken,
    /// The queue is full: offer the same record again, before any other.
    QueueFull,
}

/// A producer and the box its deliveries arrive in.
pub struct Publisher {
    producer: Polled<DeliveryContext>,
    inbox: Arc<Inbox>,
    config: ProducerConfig,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

/// Deliveries and the brokers' state, filled on librdkafka's threads.
#[derive(Debug, Default)]
struct Inbox {
    arrived: Mutex<Arrived>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Arrived {
    deliveries: Vec<Delivery>,
    fatal: Option<String>,
    /// Why no broker can be reached, while none can.
    away: Option<Trouble>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        // The critical sections below cannot panic; a poisoned lock would still hold whole values.
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct DeliveryContext {
    inbox: Arc<Inbox>,
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        crate::kafka::log(level, fac, log_message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut arrived = self.inbox.lock();
        match (error.rdkafka_error_code(), Trouble::of(&error, reason)) {
            (Some(RDKafkaErrorCode::Fatal), _) => arrived.fatal = Some(reason.to_owned()),
            (_, Some(trouble)) => arrived.away = Some(trouble),
            _ => return,
        }
        drop(arrived);
        self.inbox.notify.notify_one();
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let delivery = match (result, Ticket::of(number)) {
            (Ok(message), Ticket::Event(seq)) => {
                Delivery::Acknowledged { seq, offset: message.offset() }
            }
            (Ok(_), Ticket::Release(seq)) => Delivery::Released(seq),
            (Ok(_), Ticket::Position) => Delivery::PositionAcknowledged,
            (_, Ticket::Aside) => return,
            (Err((error, message)), Ticket::Event(_) | Ticket::Release(_)) => Delivery::Failed {
                error: BrokerError::delivery(message.topic(), message.partition(), error),
            },
            // No event is at fault.
            (Err((error, message)), Ticket::Position) => Delivery::Failed {
                error: BrokerError::not_delivered(message.topic(), message.partition(), error),
            },
        };
        let mut arrived = self.inbox.lock();
        let was_empty = arrived.deliveries.is_empty();
        if !matches!(delivery, Delivery::Failed { .. }) {
            arrived.away = None;
        }
        arrived.deliveries.push(delivery);
        drop(arrived);
        // One wake-up a batch: the loop takes all that has arrived by then.
        if was_empty {
            self.inbox.notify.notify_one();
        }
    }
}

impl Publisher {
    /// Makes a producer. Brokers need not be reachable yet.
    pub fn open(config: &ProducerConfig) -> Result<Self, BrokerError> {
        let inbox = Arc::new(Inbox::default());
        let context = DeliveryContext { inbox: Arc::clone(&inbox) };
        let producer = Polled::open(&config.client, context)
            .map_err(|error| BrokerError::Configuration { reason: error.to_string() })?;
        Ok(Self { producer, inbox, config: config.clone() })
    }

    /// Hands a record over. It is copied; nothing of it is needed after the call.
    pub fn send(&self, seq: EventSeq, record: &Record<'_>) -> Result<Sent, BrokerError> {
        self.send_as(Ticket::Event(seq), record)
    }

    /// The same with the record of an event that leaves the parking lot.
    pub fn release(&self, seq: ReleaseSeq, record: &Record<'_>) -> Result<Sent, BrokerError> {
        self.send_as(Ticket::Release(seq), record)
    }

    fn send_as(&self, ticket: Ticket, record: &Record<'_>) -> Result<Sent, BrokerError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers.iter() {
            headers = headers.insert(Header { key, value });
        }
        let mut out = BaseRecord::with_opaque_to(record.topic, number_of(ticket)?)
            .partition(record.place.partition.cast_signed())
            .key(record.key)
            .timestamp(record.timestamp_ms)
            .headers(headers);
        if let Some(value) = record.value {
            out = out.payload(value);
        }
        self.hand_over(out)
    }

    /// Hands a position record over: what was sent before is in Kafka before it, or not at all.
    pub fn send_position(&self, topic: &str, key: &str, value: &[u8]) -> Result<Sent, BrokerError> {
        let out = BaseRecord::with_opaque_to(topic, number_of(Ticket::Position)?)
            .partition(0)
            .key(key.as_bytes())
            .payload(value);
        self.hand_over(out)
    }

    /// Hands a record of the position topic over that nobody waits for; `None` is a tombstone.
    pub fn send_aside(
        &self,
        topic: &str,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<Sent, BrokerError> {
        let mut out = BaseRecord::with_opaque_to(topic, number_of(Ticket::Aside)?)
            .partition(0)
            .key(key.as_bytes());
        if let Some(value) = value {
            out = out.payload(value);
        }
        self.hand_over(out)
    }

    fn hand_over(&self, record: BaseRecord<'_, [u8], [u8], usize>) -> Result<Sent, BrokerError> {
        let (topic, partition) = (record.topic, record.partition.unwrap_or(-1));
        match self.producer.producer().send(record) {
            Ok(()) => Ok(Sent::Taken),
            Err((error, _record)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => Ok(Sent::QueueFull),
                _ => Err(BrokerError::refused(topic, partition, &error)),
            },
        }
    }

    /// Moves what has arrived to the end of `into`.
    pub fn take_deliveries(&self, into: &mut Vec<Delivery>) {
        into.append(&mut self.inbox.lock().deliveries);
    }

    /// Waits until something arrives: a delivery or news of the brokers.
    ///
    /// Cancellation-safe: what arrived stays in the box.
    pub fn arrival(&self) -> Notified<'_> {
        self.inbox.notify.notified()
    }

    /// A state of the producer that it cannot leave.
    pub fn fatal(&self) -> Option<BrokerError> {
        let reason = self.inbox.lock().fatal.clone()?;
        Some(BrokerError::Fatal { reason })
    }

    /// Why no broker can be reached, while none can.
    ///
    /// A producer keeps its password for life: one that is refused, and whose password was rotated
    /// in its file, cannot go on and must be replaced. The file is read only then.
    pub fn away(&self) -> Option<String> {
        let trouble = self.inbox.lock().away.clone()?;
        if trouble.kind == TroubleKind::Refused && self.config.is_outdated() {
            let reason = "its password was rotated and the old one is refused";
            self.inbox.lock().fatal.get_or_insert_with(|| reason.to_owned());
        }
        Some(trouble.text)
    }

    /// Drops everything that is queued or in flight and ends the producer. What a broker has
    /// already received may still be appended.
    ///
    /// Blocks for up to a second: call it where blocking is allowed.
    pub fn purge(self) {
        self.producer.producer().purge(PurgeConfig::default().queue().inflight());
    }
}

fn number_of(ticket: Ticket) -> Result<usize, BrokerError> {
    let reason = || BrokerError::Configuration { reason: "32-bit machine".to_owned() };
    ticket.number().ok_or_else(reason)
}
