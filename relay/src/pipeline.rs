//! The path of an event as a pure state machine: everything that may happen to a source is an
//! [`Input`], everything to be done about it an [`Effect`]. All decisions about order are here.
//!
//! ```text
//!   Frame -> decode -> transaction -> event -> skip? -> route -> encode -> Effect::Publish
//!                                               |          |       |          |
//!                                   Effect::Park <- refused, or    |          v
//!                                   Input::Reply    behind one     |   Input::Enqueued  -> ledger
//!                                      Effect::Ask  <- unknown  ---+   Input::Delivered -> ledger
//!                                      Input::Answered
//! ```
//!
//! `decide.rs` is the part from the skipped to the published or parked event, `lot.rs` what comes
//! back from the parking lot and the way out of it.
//!
//! A frame is *offered*. If its effect is [`Effect::Next`] it is done. If the effect is to publish
//! or to ask, the frame is offered again until the producer took the record ([`Input::Enqueued`]);
//! nothing behind it is looked at before, so nothing overtakes (I6), and there is no buffer.
//!
//! After an interruption the stream repeats. What is skipped then rests on positions in the order
//! (commit LSN, ordinal): after a start everything up to the recorded frontier, after a lost stream
//! everything that the producer already took, after a lost producer everything up to the frontier;
//! and beyond it exactly what read-back found in Kafka.
//!
//! The frontier is recorded in Kafka before the slot is confirmed ([`Pipeline::position_due`]), and
//! a topic partition is recorded before its first record.

mod decide;
mod lot;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use walpost_schema::envelope::EventPosition;

use crate::clock::Now;
use crate::confirm::{Acknowledged, ConfirmedLsn, Enqueued, EventSeq, Ledger};
use crate::decode::{self, Message};
use crate::encode::{Encoder, Record};
use crate::error::SourceError;
use crate::event::{EventError, EventReader, OutboxTable};
use crate::limits;
use crate::lookup::{Answer, Question};
use crate::lsn::Lsn;
use crate::park::{
    Identity, Lot, LotContents, LotLimits, LotReply, ParkedEvent, ReleaseSeq, Releases, SequenceId,
};
use crate::position::{
    Found, Frontier, Generation, LowestOffsets, Mark, Offsets, Place, Position, Recorder,
    SourceOids, write_position,
};
use crate::route::Router;
use crate::transaction::Transactions;
use crate::wal::{Frame, History};

/// How often the topics are looked at again: for partitions that were added, and for where a quiet
/// one ends by now.
const TOPICS_INTERVAL: Duration = Duration::from_secs(60);

/// Everything that may happen to a source.
#[derive(Debug)]
pub enum Input<'a> {
    /// A stream starts at the slot's confirmed position.
    StreamStarted(Box<StreamStart>),
    /// The stream is lost; the producer keeps what it has.
    StreamLost,
    /// The producer is gone with everything in it; the stream is given up with it.
    ProducerLost,
    /// The reader offers a frame.
    Frame(Frame<'a>),
    /// The event of the last [`Effect::Publish`] or [`Effect::Park`] was handed over.
    Enqueued,
    /// Kafka acknowledged an event and keeps it at this offset.
    Delivered(EventSeq, i64),
    /// The producer took the record of the last [`Effect::Release`].
    ReleaseTaken,
    /// Kafka acknowledged an event that leaves the parking lot.
    ReleaseDelivered(ReleaseSeq),
    /// An order to the parking lot is carried out.
    Reply(LotReply),
    /// The producer does not take the record of the last [`Effect::Publish`] or
    /// [`Effect::Release`], ever.
    RecordRefused,
    /// A broker refused a batch and did not say for which record; the producer is lost next.
    BatchRefused,
    /// The parking lot was opened, and this is in it. Before [`Self::ReadBack`].
    LotOpened(LotContents),
    /// A new producer starts, and this is what Kafka holds beyond the frontier.
    ReadBack(Found),
    /// The producer took a position record.
    PositionTaken(PositionStamp),
    /// Kafka acknowledged the position record.
    PositionAcknowledged,
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
    /// Hand the event to the parking lot. If it takes it: [`Input::Enqueued`]. If it is full: offer
    /// the frame again later.
    Park {
        /// The number to be given back when it is in the lot.
        seq: EventSeq,
        /// The event.
        event: Box<ParkedEvent>,
    },
    /// Hand the record of an event that leaves the parking lot to the producer. If it takes it:
    /// [`Input::ReleaseTaken`].
    Release {
        /// The number to be given back with the delivery.
        seq: ReleaseSeq,
        /// The record.
        record: Record<'a>,
    },
    /// Find the answer, then offer the same frame again.
    Ask(Question),
    /// The event goes to a place that no position record names yet: record the position, then
    /// offer the same frame again.
    AwaitPosition,
    /// Offer the same frame again when what is in flight is delivered: the event's topic has more
    /// partitions now, and until then a key would stand in two of them at once; or the events
    /// before it are just leaving the parking lot.
    AwaitDeliveries,
    /// The frame is done and the server waits for feedback.
    Feedback,
    /// Kafka acknowledged an event: count it.
    Acknowledged(Acknowledged),
    /// The server ended the stream in good order.
    StreamEnded,
}

/// What is known when a stream starts.
#[derive(Debug)]
pub struct StreamStart {
    /// The table as the catalog shows it.
    pub table: OutboxTable,
    /// The server's history.
    pub history: History,
    /// The cluster.
    pub system_id: String,
    /// The slot.
    pub slot: String,
    /// What the stream reads from.
    pub oids: SourceOids,
}

/// The content of a logical message.
#[derive(Debug, Clone, Copy)]
enum Content<'a> {
    Whole(&'a [u8]),
    /// The message had so many bytes.
    LeftOut(u64),
}

/// A position record to be handed to the producer.
#[derive(Debug, PartialEq, Eq)]
pub struct PositionWrite {
    /// The record's value.
    pub value: Vec<u8>,
    /// To be given back with [`Input::PositionTaken`].
    pub stamp: PositionStamp,
}

/// What a position record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionStamp {
    frontier: Frontier,
    generation: Generation,
    events: u64,
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
    /// Row headers that were left out for using our names.
    pub dropped_headers: u64,
    /// Events skipped because the position of an earlier run says that they are done.
    pub skipped_recorded: u64,
    /// Events skipped because read-back found them in Kafka.
    pub skipped_found: u64,
    /// Events skipped because the producer has them already (the stream repeated them).
    pub skipped_enqueued: u64,
    /// Events skipped because Kafka acknowledged them before the producer was replaced.
    pub skipped_delivered: u64,
    /// Events that had been handed to a producer that was replaced, and are sent again.
    pub resent: u64,
    /// Events that read-back saw and had no room to remember, and are sent again.
    pub resent_forgotten: u64,
    /// Events skipped because they are in the parking lot, or have left it.
    pub skipped_parked: u64,
    /// Events put into the parking lot.
    pub parked: u64,
    /// Events of the parking lot that were published.
    pub released: u64,
    /// Events given to a dead letter topic.
    pub dead_lettered: u64,
}

/// Up to where events are skipped, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Resume {
    until: Mark,
    reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Recorded,
    Enqueued,
    Delivered,
}

/// One source's state between stream and producer.
#[derive(Debug)]
pub struct Pipeline {
    reader: Option<EventReader>,
    started: Option<Standing>,
    transactions: Transactions,
    router: Router,
    encoder: Encoder,
    ledger: Ledger,
    recorder: Recorder,
    resume: Option<Resume>,
    /// What Kafka holds beyond the frontier from before the producer.
    found: HashMap<EventPosition, (Place, i64)>,
    /// Topics that have more partitions now than their records are spread over, with where those
    /// end.
    raises: HashMap<Arc<str>, Vec<i64>>,
    topics_asked_at: Duration,
    lot: Lot,
    releases: Releases,
    /// The end of WAL when the lot was opened.
    lot_as_of: Lsn,
    /// The last event that was in the lot then, or had left it. Until the stream is past it,
    /// earlier events may come that were lost on their way to Kafka.
    lot_horizon: Mark,
    /// A broker refused a batch: until the frontier is here, one record at a time is in flight.
    alone_until: Option<Mark>,
    /// What a broker refused when it was alone.
    condemned: Option<(EventPosition, Letter)>,
    /// The same for events that leave the lot.
    are_releases_alone: bool,
    condemned_release: Option<Identity>,
    /// Where the record of the last [`Effect::Release`] goes.
    release_place: Option<Place>,
    /// Events that were refused, by code: how many, and the last one in words.
    refusals: BTreeMap<&'static str, (u64, String)>,
    refused_at: Option<Identity>,
    /// The timeline whose WAL holds the open transaction's commit.
    timeline: u32,
    /// The event of the last [`Effect::Publish`] or [`Effect::Park`].
    offered: Option<Offered>,
    /// Everything up to here had been handed to a producer that was replaced.
    sent_before: Mark,
    counts: Counts,
    now: Now,
}

/// What was offered and is not handed over yet.
#[derive(Debug)]
struct Offered {
    event: Enqueued,
    /// How many of the row's headers were left out.
    dropped_headers: u64,
    /// Its sequence, where it goes to the lot.
    sequence: Option<SequenceId>,
    letter: Letter,
}

/// Whether a record is an event or what is left of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letter {
    Alive,
    Dead,
}

/// What a position record says besides the frontier.
#[derive(Debug)]
struct Standing {
    history: History,
    system_id: String,
    slot: String,
    oids: SourceOids,
}

impl Standing {
    fn position(&self) -> Position {
        Position {
            system_id: self.system_id.clone(),
            timeline: self.history.timeline(),
            slot: self.slot.clone(),
            frontier: Frontier::default(),
            park_lsn: Lsn::ZERO,
            oids: self.oids,
            offsets: LowestOffsets::new(),
        }
    }
}

impl Pipeline {
    /// A pipeline that goes on from what an earlier run, or `init`, recorded.
    pub fn new(
        router: Router,
        encoder: Encoder,
        recorded: (Frontier, &LowestOffsets),
        limits: LotLimits,
        now: Now,
    ) -> Self {
        let (frontier, lowest) = recorded;
        let mut offsets = Offsets::default();
        offsets.restore(lowest);
        Self {
            reader: None,
            started: None,
            transactions: Transactions::new(),
            router,
            encoder,
            ledger: Ledger::new(frontier, offsets),
            recorder: Recorder::new(frontier),
            resume: Some(Resume { until: frontier.mark, reason: Reason::Recorded }),
            found: HashMap::new(),
            raises: HashMap::new(),
            topics_asked_at: now.elapsed,
            lot: Lot::new(limits),
            releases: Releases::default(),
            lot_as_of: Lsn::ZERO,
            lot_horizon: Mark::default(),
            alone_until: None,
            condemned: None,
            are_releases_alone: false,
            condemned_release: None,
            release_place: None,
            refusals: BTreeMap::new(),
            refused_at: None,
            timeline: 0,
            offered: None,
            sent_before: Mark::default(),
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
            Input::Delivered(seq, offset) => {
                let delivered = self.ledger.deliver(seq, offset);
                self.leave_alone_mode();
                Ok(delivered.map_or(Effect::Next, Effect::Acknowledged))
            }
            Input::ReleaseTaken => self.release_taken(),
            Input::ReleaseDelivered(seq) => self.release_delivered(seq),
            Input::Reply(reply) => {
                self.reply(reply);
                Ok(Effect::Next)
            }
            Input::RecordRefused => {
                self.record_refused();
                Ok(Effect::Next)
            }
            Input::BatchRefused => {
                self.batch_refused();
                Ok(Effect::Next)
            }
            Input::LotOpened(contents) => {
                self.lot_as_of = contents.as_of;
                self.lot_horizon =
                    contents.known.iter().max().map_or(Mark::default(), |last| Mark::after(*last));
                self.lot.open(contents);
                Ok(Effect::Next)
            }
            Input::Answered(question, answer) => {
                self.learn(question, answer);
                Ok(Effect::Next)
            }
            Input::StreamStarted(start) => self.stream_started(*start),
            Input::StreamLost => {
                self.stream_lost();
                let until = self.ledger.enqueued();
                self.resume = Some(Resume { until, reason: Reason::Enqueued });
                Ok(Effect::Next)
            }
            Input::ProducerLost => {
                self.producer_lost();
                Ok(Effect::Next)
            }
            Input::ReadBack(found) => {
                self.read_back(found);
                Ok(Effect::Next)
            }
            Input::PositionTaken(stamp) => {
                let PositionStamp { frontier, generation, events } = stamp;
                self.recorder.written(frontier, generation, events, self.now.elapsed);
                Ok(Effect::Next)
            }
            Input::PositionAcknowledged => {
                if let Some((frontier, generation)) = self.recorder.acknowledged() {
                    self.ledger.record(frontier);
                    self.ledger.offsets_mut().secure(generation);
                }
                Ok(Effect::Next)
            }
        }
    }

    /// Whether the next frame can be taken: while too much is in flight, WAL waits on the server.
    pub fn has_room(&self) -> bool {
        let is_alone = self.alone_until.is_some() || self.are_releases_alone;
        if is_alone && self.has_events_in_flight() {
            return false;
        }
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

    /// Events that cannot be published as things are, by code: how many were met, and the last one.
    pub fn refusals(&self) -> &BTreeMap<&'static str, (u64, String)> {
        &self.refusals
    }

    /// When the next position record is due; `None` while one is under way or nothing is new.
    pub fn position_due_at(&self) -> Option<Duration> {
        self.recorder.due_at(self.ledger.frontier(), self.ledger.passed())
    }

    /// The position record that is due now. If the producer takes it: [`Input::PositionTaken`].
    pub fn position_due(&mut self) -> Option<PositionWrite> {
        if self.position_due_at()? > self.now.elapsed {
            return None;
        }
        let started = self.started.as_ref()?;
        let (generation, offsets) = self.ledger.offsets_mut().snapshot();
        let (frontier, events) = (self.ledger.frontier(), self.ledger.passed());
        let park_lsn = self.ledger.park_lsn();
        let position = Position { frontier, offsets, park_lsn, ..started.position() };
        let stamp = PositionStamp { frontier, generation, events };
        Some(PositionWrite { value: write_position(&position), stamp })
    }

    /// What Kafka holds of this source's position, to be compared with the server at a reconnect.
    /// `None` before the first stream.
    pub fn recorded_position(&self) -> Option<Position> {
        let started = self.started.as_ref()?;
        Some(Position {
            frontier: self.recorder.recorded(),
            offsets: LowestOffsets::new(),
            ..started.position()
        })
    }

    /// The source ends: what is reached is recorded at once.
    pub fn demand_position(&mut self) {
        if self.ledger.frontier() != self.recorder.recorded() {
            self.recorder.demand();
        }
    }

    /// Whether something is on its way that is not acknowledged: an event or a position record.
    pub fn has_in_flight(&self) -> bool {
        self.has_events_in_flight() || self.recorder.is_under_way()
    }

    fn has_events_in_flight(&self) -> bool {
        self.ledger.undelivered() > 0 || self.releases.in_flight() > 0
    }

    /// Whether everything that is reached is recorded.
    pub fn is_recorded(&self) -> bool {
        self.ledger.frontier() == self.recorder.recorded()
    }

    /// A question that nothing waits for: a schema in use that is due to be looked at again, or
    /// the topics.
    pub fn refresh_due(&mut self) -> Option<Question> {
        if self.now.elapsed >= self.topics_asked_at + TOPICS_INTERVAL {
            self.topics_asked_at = self.now.elapsed;
            let topics: Vec<_> = self.ledger.offsets().topics().cloned().collect();
            return (!topics.is_empty()).then_some(Question::Partitions { topics });
        }
        self.encoder.refresh_due(self.now.elapsed)
    }

    /// The event whose frame is being offered, for the report of a fault.
    pub fn at(&self) -> Option<EventPosition> {
        self.transactions.open("").ok().map(|open| open.next_position())
    }

    fn learn(&mut self, question: &Question, answer: Answer) {
        let now = self.now.elapsed;
        match (question, answer) {
            (Question::Topic { topic }, Answer::Topic { facts, ends }) => {
                let offsets = self.ledger.offsets_mut();
                offsets.move_idle(topic, &ends);
                let id = offsets.enter(topic, &ends);
                self.note_raise(topic, ends);
                self.encoder.learn_topic(topic, Some((id, facts)), now);
            }
            (Question::Partitions { .. }, Answer::Partitions(found)) => {
                for (topic, ends) in found {
                    self.ledger.offsets_mut().move_idle(&topic, &ends);
                    self.note_raise(&topic, ends);
                }
            }
            (Question::Topic { topic }, Answer::Missing | Answer::Unusable { .. }) => {
                self.encoder.learn_topic(topic, None, now);
            }
            (question, answer) => self.encoder.learn(question, answer, now),
        }
    }

    /// A topic ends here and there now: in more partitions than its records are spread over?
    fn note_raise(&mut self, topic: &Arc<str>, ends: Vec<i64>) {
        let known = self.encoder.partitions_of(topic);
        if known.is_some_and(|known| ends.len() > known.get() as usize) {
            self.raises.insert(Arc::clone(topic), ends);
        }
    }

    /// Spreads a topic's records over its new partitions as soon as nothing is in flight for it;
    /// until then it must wait.
    fn raise_partitions(&mut self, topic: &Arc<str>) -> bool {
        let Some(ends) = self.raises.get(topic) else { return true };
        let offsets = self.ledger.offsets_mut();
        if !offsets.is_idle(topic) {
            return false;
        }
        offsets.enter(topic, ends);
        let count = u32::try_from(ends.len()).ok().and_then(NonZeroU32::new);
        if let Some(count) = count {
            self.encoder.raise_partitions(topic, count);
        }
        self.raises.remove(topic);
        true
    }

    fn stream_started(&mut self, start: StreamStart) -> Result<Effect<'_>, SourceError> {
        let StreamStart { table, history, system_id, slot, oids } = start;
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
        self.started = Some(Standing { history, system_id, slot, oids });
        Ok(Effect::Next)
    }

    fn stream_lost(&mut self) {
        self.transactions = Transactions::new();
        self.ledger.abandon_open();
        self.offered = None;
    }

    fn producer_lost(&mut self) {
        self.stream_lost();
        self.sent_before = self.sent_before.max(self.ledger.enqueued());
        self.ledger.forget_pending();
        self.recorder.lost();
        self.releases.lost();
        self.found.clear();
        self.raises.clear();
        self.encoder.forget_topics();
        let until = self.ledger.frontier().mark;
        self.resume = Some(Resume { until, reason: Reason::Delivered });
    }

    fn frame(&mut self, frame: Frame<'_>) -> Result<Effect<'_>, SourceError> {
        let (body, cut_from) = match frame {
            Frame::Message { body, .. } => (body, None),
            Frame::Cut { body, bytes, .. } => (body, Some(bytes)),
            Frame::End => return Ok(Effect::StreamEnded),
            Frame::Keepalive { wal_end, reply_requested } => {
                self.ledger.keepalive(wal_end);
                if !reply_requested {
                    return Ok(Effect::Next);
                }
                self.recorder.ask();
                return Ok(Effect::Feedback);
            }
        };
        match decode::decode(body)? {
            Message::Begin { commit, time, xid: _ } => {
                self.transactions.begin(commit, time)?;
                self.ledger.begin();
                if let Some(started) = &self.started {
                    self.timeline = started.history.timeline_at(commit.0);
                }
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
            Message::Insert { relation, row } => self.insert(relation, row.cut_from(cut_from)),
            Message::Logical { is_transactional, prefix, content, at: _ } => {
                let content = cut_from.map_or(Content::Whole(content), Content::LeftOut);
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

    fn enqueued(&mut self) -> Result<Effect<'_>, SourceError> {
        let offered = self.offered.take();
        assert!(offered.is_some(), "I5: only an offered event is enqueued");
        let Some(offered) = offered else { return Ok(Effect::Next) };
        let event = offered.event;
        self.counts.dropped_headers += offered.dropped_headers;
        self.ledger.enqueue(event);
        match &offered.sequence {
            Some(sequence) => {
                self.lot.enter(sequence, event.bytes.into());
                self.counts.parked += 1;
            }
            None => {
                self.lot.note_published();
                self.counts.dead_lettered += u64::from(offered.letter == Letter::Dead);
                self.counts.resent += u64::from(self.sent_before.covers(event.position));
            }
        }
        self.transactions.next_event()?;
        Ok(Effect::Next)
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "pipeline/lot_tests.rs"]
mod lot_tests;
