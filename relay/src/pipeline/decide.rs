//! From the row to what becomes of it: skipped, published, parked, given to a dead letter topic, or
//! waited for. Each event is decided by itself, but for one rule: behind an event of its aggregate
//! that is in the parking lot, it is parked too.

use std::sync::Arc;

use super::{Content, Effect, Letter, Offered, Pipeline, Reason as Skipped, Resume};
use crate::confirm::{Enqueued, Target};
use crate::decode::{Oid, Tuple};
use crate::encode::{Copy, EncodeError, Obstacle};
use crate::error::{EventFault, Fault, SourceError, with_causes};
use crate::event::{self, EventError, EventReader, MESSAGE_PREFIX, OutboxEvent};
use crate::lookup::Question;
use crate::park::{Identity, ParkedEvent, RawPayload, RawRow, Reason, SequenceId};
use crate::position::Place;
use crate::route::{Destination, Unpublishable};
use crate::transaction::OpenTransaction;

/// What becomes of an event.
pub(super) enum Verdict {
    /// Its record is in the encoder's buffers, for this place.
    Publish(Place),
    /// Something must be asked first.
    Ask(Question),
    /// Its topic gets more partitions, or what is before it leaves the lot.
    AwaitDeliveries,
    /// It queues behind an event in the lot.
    Behind,
    /// It can never be published as things are.
    Refuse(Box<EventFault>),
}

impl Pipeline {
    pub(super) fn insert(
        &mut self,
        relation: Oid,
        row: Tuple<'_>,
    ) -> Result<Effect<'_>, SourceError> {
        let transaction = self.transactions.open("insert")?;
        let reader = self.reader("insert")?;
        if relation != reader.oid() {
            reader.pass_row(relation).map_err(SourceError::Table)?;
            self.counts.ignored_changes += 1;
            return Ok(Effect::Next);
        }
        if self.skip(&transaction)? {
            return Ok(Effect::Next);
        }
        let verdict = match self.reader("insert")?.read_row(row, transaction) {
            Ok(event) => self.decide(&event),
            Err(error) => Verdict::Refuse(Box::new(EventFault::Row(error))),
        };
        let raw = |reader: Option<&EventReader>| {
            let nothing = || RawRow::only(RawPayload::Tombstone);
            reader.map_or_else(nothing, |reader| reader.raw_row(row))
        };
        self.carry_out(verdict, &transaction, raw)
    }

    pub(super) fn logical(
        &mut self,
        is_transactional: bool,
        prefix: &str,
        content: Content<'_>,
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
        if self.skip(&transaction)? {
            return Ok(Effect::Next);
        }
        let (position, time) = (transaction.next_position(), transaction.time);
        let event = match content {
            Content::Whole(content) => event::read_message(content, position, time),
            Content::LeftOut(bytes) => Err(EventError::TooLarge { bytes }),
        };
        let verdict = match event {
            Ok(event) => self.decide(&event),
            Err(error) => Verdict::Refuse(Box::new(EventFault::Row(error))),
        };
        self.carry_out(verdict, &transaction, |_| match content {
            Content::Whole(content) => event::raw_message(content),
            Content::LeftOut(bytes) => RawRow::only(RawPayload::Absent { bytes }),
        })
    }

    /// Whether the event was dealt with before the interruption. It still counts as an event of its
    /// transaction, and one beyond the frontier that is in Kafka or in the lot as delivered.
    fn skip(&mut self, transaction: &OpenTransaction) -> Result<bool, SourceError> {
        let position = transaction.next_position();
        if let Some(Resume { until, reason }) = self.resume {
            if until.covers(position) {
                match reason {
                    Skipped::Recorded => self.counts.skipped_recorded += 1,
                    Skipped::Enqueued => self.counts.skipped_enqueued += 1,
                    Skipped::Delivered => self.counts.skipped_delivered += 1,
                }
                self.transactions.next_event()?;
                return Ok(true);
            }
            self.resume = None;
        }
        let commit_unix_ms = transaction.time.unix_ms();
        let dealt_with = |target| Enqueued { position, commit_unix_ms, target, bytes: 0 };
        let found = if self.found.is_empty() { None } else { self.found.remove(&position) };
        if let Some((place, offset)) = found {
            // One that is in the lot as well leaves it by what read-back found.
            self.lot.take_known(position);
            self.ledger.enqueue_found(dealt_with(Target::Kafka(place)), place, offset);
            self.counts.skipped_found += 1;
        } else if self.lot.take_known(position) {
            self.ledger.enqueue_parked(dealt_with(Target::Lot), self.lot_as_of);
            self.counts.skipped_parked += 1;
        } else {
            return Ok(false);
        }
        self.transactions.next_event()?;
        Ok(true)
    }

    fn decide(&mut self, event: &OutboxEvent<'_>) -> Verdict {
        if self.lot.is_closed(&event.aggregate_type, &event.aggregate_id) {
            return self.queue_behind(event);
        }
        let destination = match self.router.route(&event.aggregate_type, &event.event_type) {
            Ok(destination) => destination,
            Err(error) => return Verdict::Refuse(Box::new(EventFault::Route(error))),
        };
        if self.condemned.is_some_and(|(position, _)| position == event.position) {
            let topic = destination.topic.to_string();
            let fault = Box::new(EventFault::Encode(EncodeError::RefusedByBroker { topic }));
            return Verdict::Refuse(fault);
        }
        self.encoder.set_timeline(self.timeline);
        self.prepare(event, destination, Copy::First)
    }

    /// Makes the record of an event, for the stream or for the way out of the lot.
    pub(super) fn prepare(
        &mut self,
        event: &OutboxEvent<'_>,
        destination: Destination,
        copy: Copy,
    ) -> Verdict {
        if !self.raises.is_empty() && !self.raise_partitions(&destination.topic) {
            return Verdict::AwaitDeliveries;
        }
        match self.encoder.prepare(event, &destination, copy, self.now.elapsed) {
            Ok(place) => Verdict::Publish(place),
            Err(Obstacle::Ask(question)) => Verdict::Ask(question),
            Err(Obstacle::Refuse(error)) => Verdict::Refuse(Box::new(EventFault::Encode(error))),
        }
    }

    /// An event of a closed sequence. If all that is before it is just leaving the lot, it waits
    /// for that, so that a busy aggregate opens again.
    fn queue_behind(&mut self, event: &OutboxEvent<'_>) -> Verdict {
        let mut name = String::new();
        SequenceId::write(&mut name, &event.aggregate_type, &event.aggregate_id);
        let sequence = SequenceId::from_text(&name);
        let leaving = self.releases.leaving(&sequence);
        if leaving > 0 && leaving == self.lot.rows_of(&sequence) {
            return Verdict::AwaitDeliveries;
        }
        Verdict::Behind
    }

    fn carry_out(
        &mut self,
        verdict: Verdict,
        transaction: &OpenTransaction,
        raw: impl FnOnce(Option<&EventReader>) -> RawRow,
    ) -> Result<Effect<'_>, SourceError> {
        match verdict {
            Verdict::Publish(place) => Ok(self.offer(place, transaction, Letter::Alive)),
            Verdict::Ask(question) => Ok(Effect::Ask(question)),
            Verdict::AwaitDeliveries => Ok(Effect::AwaitDeliveries),
            Verdict::Behind => {
                let raw = raw(self.reader.as_ref());
                self.park(self.parked(raw, transaction, Reason::behind()))
            }
            Verdict::Refuse(fault) => {
                let raw = raw(self.reader.as_ref());
                self.refuse(fault, raw, transaction)
            }
        }
    }

    fn refuse(
        &mut self,
        fault: Box<EventFault>,
        raw: RawRow,
        transaction: &OpenTransaction,
    ) -> Result<Effect<'_>, SourceError> {
        let detail = with_causes(&*fault);
        let (id, position) = (raw.id.as_deref().map(Arc::from), transaction.next_position());
        let error = SourceError::Event { id, position, error: fault };
        let types = (raw.aggregate_type.as_deref(), raw.event_type.as_deref());
        let policy = self.router.policy(types.0, types.1);
        if error.fault() != Fault::Park || policy == Unpublishable::Stop {
            return Err(error);
        }
        let code = error.code();
        let reason = Reason { code: code.into(), detail };
        let parked = self.parked(raw, transaction, reason);
        if self.refused_at != Some(parked.identity) {
            // A dead letter may be offered more than once.
            self.refused_at = Some(parked.identity);
            let refusals = self.refusals.entry(code).or_default();
            *refusals = (refusals.0 + 1, error.to_string());
        }
        match policy {
            Unpublishable::DeadLetter(topic) => self.dead_letter(parked, &topic, transaction),
            Unpublishable::Park | Unpublishable::Stop => self.park(parked),
        }
    }

    fn parked(&self, row: RawRow, transaction: &OpenTransaction, reason: Reason) -> ParkedEvent {
        let (timeline, position) = (self.timeline, transaction.next_position());
        let identity = Identity { timeline, position };
        ParkedEvent { identity, commit_time: transaction.time, row, reason }
    }

    fn park(&mut self, event: ParkedEvent) -> Result<Effect<'_>, SourceError> {
        self.lot.admit(&event)?;
        self.offered = Some(Offered {
            event: Enqueued {
                position: event.identity.position,
                commit_unix_ms: event.commit_time.unix_ms(),
                target: Target::Lot,
                bytes: u32::try_from(event.bytes()).unwrap_or(u32::MAX),
            },
            dropped_headers: 0,
            sequence: Some(event.sequence()),
            letter: Letter::Alive,
        });
        Ok(Effect::Park { seq: self.ledger.next_seq(), event: Box::new(event) })
    }

    /// A dead letter that cannot be published either is parked, for the reason that made it one.
    fn dead_letter(
        &mut self,
        event: ParkedEvent,
        topic: &Arc<str>,
        transaction: &OpenTransaction,
    ) -> Result<Effect<'_>, SourceError> {
        let is_refused = self.condemned == Some((event.identity.position, Letter::Dead));
        if !self.raises.is_empty() && !self.raise_partitions(topic) {
            return Ok(Effect::AwaitDeliveries);
        }
        self.encoder.set_timeline(self.timeline);
        match self.encoder.prepare_dead_letter(&event, topic, self.now.elapsed) {
            Ok(place) if !is_refused => Ok(self.offer(place, transaction, Letter::Dead)),
            Err(Obstacle::Ask(question)) => Ok(Effect::Ask(question)),
            Ok(_) | Err(Obstacle::Refuse(_)) => self.park(event),
        }
    }

    fn offer(&mut self, place: Place, transaction: &OpenTransaction, letter: Letter) -> Effect<'_> {
        if !self.ledger.offsets().is_secured(place) {
            self.recorder.demand();
            return Effect::AwaitPosition;
        }
        let record = self.encoder.record();
        let event = Enqueued {
            position: transaction.next_position(),
            commit_unix_ms: record.timestamp_ms,
            target: Target::Kafka(place),
            bytes: u32::try_from(record.bytes()).unwrap_or(u32::MAX),
        };
        let dropped_headers = record.dropped_headers;
        self.offered = Some(Offered { event, dropped_headers, sequence: None, letter });
        Effect::Publish { seq: self.ledger.next_seq(), record }
    }
}
