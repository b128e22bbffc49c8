//! The path of an event as a pure state machine: everything that may happen to a source is an
//! [`Input`], everything to be done about it an [`Effect`]. All decisions about order are here.
//!
//! ```text
//!   Frame -> decode -> transaction -> event -> skip? -> route -> encode -> Effect::Publish
//!                                                                  |          |
//!                                      Effect::Ask  <- unknown  ---+          v
//!                                      Input::Answered                 Input::Enqueued -> ledger
//!                                                                      Input::Delivered -> ledger
//! ```
//!
//! A frame is *offered*. If its effect is [`Effect::Next`] it is done. If the effect is to publish
//! or to ask, the frame is offered again until the producer took the record ([`Input::Enqueued`]);
//! nothing behind it is looked at before, so nothing overtakes (I6), and there is no buffer.
//!
//! After an interruption the stream repeats. What is skipped then rests on positions in the order
//! (commit LSN, ordinal): after a lost stream everything that the producer already took, after a
//! lost producer everything up to the contiguous frontier of deliveries.

use std::sync::Arc;

use walpost_schema::envelope::EventPosition;

use crate::clock::Now;
use crate::confirm::{Acknowledged, ConfirmedLsn, Enqueued, EventSeq, Ledger};
use crate::decode::{self, Message, Oid, Tuple};
use crate::encode::{Encoder, Obstacle, Record};
use crate::error::{EventFault, SourceError};
use crate::event::{self, EventError, EventReader, MESSAGE_PREFIX, OutboxEvent, OutboxTable};
use crate::limits;
use crate::lookup::{Answer, Question};
use crate::route::Router;
use crate::transaction::Transactions;
use crate::wal::Frame;

/// Everything that may happen to a source.
#[derive(Debug)]
pub enum Input<'a> {
    /// A stream starts at the slot's confirmed position, with the table as the catalog shows it.
    StreamStarted(Box<OutboxTable>),
    /// The stream is lost; the producer keeps what it has.
    StreamLost,
    /// The producer is gone with everything in it; the stream is given up with it.
    ProducerLost,
    /// The reader offers a frame.
    Frame(Frame<'a>),
    /// The producer took the record of the last [`Effect::Publish`].
    Enqueued,
    /// Kafka acknowledged an event.
    Delivered(EventSeq),
    /// An answer to a question of the last [`Effect::Ask`] or of [`Pipeline::refresh_due`].
    Answered(&'a Question, Answer),
}

/// Everything to be done about an [`Input`].
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// The frame is done (or there was none): offer the next one.
    Next,
    /// Hand the record to the producer. If it takes it: [`Input::Enqueued`]. If it is full: offer
    /// the frame again later.
    Publish {
        /// The number to be given back with the delivery.
        seq: EventSeq,
        /// The record.
        record: Record<'a>,
    },
    /// Find the answer, then offer the same frame again.
    Ask(Question),
    /// The frame is done and the server waits for feedback.
    Feedback,
    /// Kafka acknowledged an event: count it.
    Acknowledged(Acknowledged),
    /// The server ended the stream in good order.
    StreamEnded,
}

/// What was seen and passed, or skipped after an interruption; only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes of other tables, and updates, deletes and truncates of the outbox table.
    pub ignored_changes: u64,
    /// Logical messages with other prefixes.
    pub foreign_messages: u64,
    /// Non-transactional logical messages with our prefix: they are not part of any commit, so
    /// there is no order to keep and nothing to roll back.
    pub refused_messages: u64,
    /// Events skipped because the producer has them already (the stream repeated them).
    pub skipped_enqueued: u64,
    /// Events skipped because Kafka acknowledged them before the producer was replaced.
    pub skipped_delivered: u64,
    /// Events that had been handed to a producer that was replaced, and are sent again.
    pub resent: u64,
}

/// Why events up to the resume position are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resume {
    AfterEnqueued(EventPosition),
    AfterDelivered(EventPosition),
}

/// One source's state between stream and producer.
#[derive(Debug)]
pub struct Pipeline {
    reader: Option<EventReader>,
    transactions: Transactions,
    router: Router,
    encoder: Encoder,
    ledger: Ledger,
    resume: Option<Resume>,
    /// The record of the last [`Effect::Publish`].
    offered: Option<Enqueued>,
    /// Everything up to here had been handed to a producer that was replaced.
    sent_before: Option<EventPosition>,
    counts: Counts,
    now: Now,
}

impl Pipeline {
    /// A pipeline that has seen nothing.
    pub fn new(router: Router, encoder: Encoder, now: Now) -> Self {
        Self {
            reader: None,
            transactions: Transactions::new(),
            router,
            encoder,
            ledger: Ledger::new(),
            resume: None,
            offered: None,
            sent_before: None,
            counts: Counts::default(),
            now,
        }
    }

    /// Time passes.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// Takes an input; the effect may borrow from the pipeline's buffers.
    pub fn handle(&mut self, input: Input<'_>) -> Result<Effect<'_>, SourceError> {
        match input {
            Input::Frame(frame) => self.frame(frame),
            Input::Enqueued => self.enqueued(),
            Input::Delivered(seq) => Ok(Effect::Acknowledged(self.ledger.deliver(seq))),
            Input::Answered(question, answer) => {
                self.encoder.learn(question, answer, self.now.elapsed);
                Ok(Effect::Next)
            }
            Input::StreamStarted(table) => self.stream_started(*table),
            Input::StreamLost => {
                self.stream_lost();
                self.resume = self.ledger.enqueued().map(Resume::AfterEnqueued);
                Ok(Effect::Next)
            }
            Input::ProducerLost => {
                self.stream_lost();
                self.sent_before = self.sent_before.max(self.ledger.enqueued());
                self.ledger.forget_pending();
                self.encoder.forget_topics();
                self.resume = self.ledger.delivered().map(Resume::AfterDelivered);
                Ok(Effect::Next)
            }
        }
    }

    /// Whether the next frame can be taken: while too much is in flight, WAL waits on the server.
    pub fn has_room(&self) -> bool {
        self.ledger.held() < limits::PENDING_EVENTS_MAX
            && self.ledger.undelivered_bytes() < limits::PENDING_BYTES_MAX
    }

    /// Up to here the slot may be advanced.
    pub fn confirmed(&self) -> ConfirmedLsn {
        self.ledger.confirmed()
    }

    /// What is in flight.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What was seen and passed.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Row headers that were dropped for using our names.
    pub fn dropped_headers(&self) -> u64 {
        self.encoder.dropped_headers()
    }

    /// A question that nothing waits for: a schema in use that is due to be looked at again.
    pub fn refresh_due(&self) -> Option<Question> {
        self.encoder.refresh_due(self.now.elapsed)
    }

    /// The event whose frame is being offered, for the report of a fault.
    pub fn at(&self) -> Option<EventPosition> {
        self.transactions.open("").ok().map(|open| open.next_position())
    }

    fn stream_started(&mut self, table: OutboxTable) -> Result<Effect<'_>, SourceError> {
        if let Some(bound) = self.reader.as_ref().map(EventReader::oid)
            && bound != table.oid
        {
            return Err(SourceError::Table(EventError::Replaced {
                table: table.full_name(),
                bound: bound.0,
                found: table.oid.0,
            }));
        }
        self.transactions = Transactions::new();
        self.reader = Some(EventReader::new(table));
        Ok(Effect::Next)
    }

    fn stream_lost(&mut self) {
        self.transactions = Transactions::new();
        self.ledger.abandon_open();
        self.offered = None;
    }

    fn frame(&mut self, frame: Frame<'_>) -> Result<Effect<'_>, SourceError> {
        let body = match frame {
            Frame::Message { body, .. } => body,
            Frame::End => return Ok(Effect::StreamEnded),
            Frame::Keepalive { wal_end, reply_requested } => {
                self.ledger.keepalive(wal_end);
                return Ok(if reply_requested { Effect::Feedback } else { Effect::Next });
            }
        };
        match decode::decode(body)? {
            Message::Begin { commit, time, xid: _ } => {
                self.transactions.begin(commit, time)?;
                self.ledger.begin();
                Ok(Effect::Next)
            }
            Message::Commit { commit, end, time: _ } => {
                self.transactions.commit(commit)?;
                self.ledger.commit(end);
                Ok(Effect::Next)
            }
            Message::Relation(relation) => {
                self.reader("relation")?.describe(&relation).map_err(SourceError::Table)?;
                Ok(Effect::Next)
            }
            Message::Insert { relation, row } => self.insert(relation, row),
            Message::Logical { is_transactional, prefix, content, at: _ } => {
                self.logical(is_transactional, prefix, content)
            }
            Message::Update { .. } | Message::Delete { .. } | Message::Truncate { .. } => {
                self.counts.ignored_changes += 1;
                Ok(Effect::Next)
            }
            Message::Origin { .. } | Message::Type { .. } => Ok(Effect::Next),
        }
    }

    fn reader(&mut self, message: &'static str) -> Result<&mut EventReader, SourceError> {
        self.reader.as_mut().ok_or(SourceError::NotStarted { message })
    }

    fn insert(&mut self, relation: Oid, row: Tuple<'_>) -> Result<Effect<'_>, SourceError> {
        let transaction = self.transactions.open("insert")?;
        let reader = self.reader("insert")?;
        if relation != reader.oid() {
            reader.pass_row(relation).map_err(SourceError::Table)?;
            self.counts.ignored_changes += 1;
            return Ok(Effect::Next);
        }
        if self.skip(transaction.next_position())? {
            return Ok(Effect::Next);
        }
        let position = transaction.next_position();
        let event = self.reader("insert")?.read_row(row, transaction);
        self.publish(&event.map_err(|error| SourceError::row(position, error))?)
    }

    fn logical(
        &mut self,
        is_transactional: bool,
        prefix: &str,
        content: &[u8],
    ) -> Result<Effect<'_>, SourceError> {
        if prefix != MESSAGE_PREFIX {
            self.counts.foreign_messages += 1;
            return Ok(Effect::Next);
        }
        if !is_transactional {
            self.counts.refused_messages += 1;
            return Ok(Effect::Next);
        }
        let transaction = self.transactions.open("logical")?;
        if self.skip(transaction.next_position())? {
            return Ok(Effect::Next);
        }
        let position = transaction.next_position();
        let event = event::read_message(content, transaction);
        self.publish(&event.map_err(|error| SourceError::row(position, error))?)
    }

    /// Whether the event at `position` was dealt with before the interruption. It still counts as
    /// an event of its transaction.
    fn skip(&mut self, position: EventPosition) -> Result<bool, SourceError> {
        let (until, counter) = match self.resume {
            None => return Ok(false),
            Some(Resume::AfterEnqueued(until)) => (until, &mut self.counts.skipped_enqueued),
            Some(Resume::AfterDelivered(until)) => (until, &mut self.counts.skipped_delivered),
        };
        if position > until {
            self.resume = None;
            return Ok(false);
        }
        *counter += 1;
        self.transactions.next_event()?;
        Ok(true)
    }

    fn publish(&mut self, event: &OutboxEvent<'_>) -> Result<Effect<'_>, SourceError> {
        let fault = |error: EventFault| SourceError::Event {
            id: Some(event.id.as_ref().into()),
            position: event.position,
            error: Box::new(error),
        };
        let destination = self.router.route(&event.aggregate_type, &event.event_type);
        let destination = destination.map_err(|error| fault(EventFault::Route(error)))?;
        let seq = self.ledger.next_seq();
        match self.encoder.encode(event, &destination, self.now.elapsed) {
            Ok(record) => {
                self.offered = Some(Enqueued {
                    position: event.position,
                    commit_unix_ms: record.timestamp_ms,
                    topic: Arc::clone(&destination.topic),
                    bytes: record.bytes(),
                });
                Ok(Effect::Publish { seq, record })
            }
            Err(Obstacle::Ask(question)) => Ok(Effect::Ask(question)),
            Err(Obstacle::Refuse(error)) => Err(fault(EventFault::Encode(error))),
        }
    }

    fn enqueued(&mut self) -> Result<Effect<'_>, SourceError> {
        let offered = self.offered.take();
        assert!(offered.is_some(), "I5: only an offered record is enqueued");
        let Some(event) = offered else { return Ok(Effect::Next) };
        let position = event.position;
        self.ledger.enqueue(event);
        if self.sent_before.is_some_and(|until| position <= until) {
            self.counts.resent += 1;
        }
        self.transactions.next_event()?;
        Ok(Effect::Next)
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
