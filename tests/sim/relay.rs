//! The loop of a source around the real pipeline: what `run.rs` and `source.rs` do, on the simulated
//! world.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use walpost::clock::Now;
use walpost::confirm::EventSeq;
use walpost::decode::Oid;
use walpost::encode::{Encoder, Record, SchemaNaming};
use walpost::event::{ColumnNames, OutboxTable};
use walpost::lookup::{Answer, Question, TopicFacts};
use walpost::lsn::{Lsn, WalEnd};
use walpost::park::{Identity, LotLimits, Order, ReleaseSeq};
use walpost::pipeline::{Effect, Input, Pipeline, StreamStart};
use walpost::position::{
    Found, FoundAt, LowestOffsets, Position, PositionRecord, SourceOids, position_key,
};
use walpost::route::{PayloadForm, RouteRule, Router, TopicTemplate, Unpublishable};
use walpost::wal::{Frame, History};
use walpost_schema::envelope::SourceId;
use walpost_tests::workload::Random;

use crate::broker::{Broker, Delivery, PARTITIONS, Stored, Ticket};
use crate::oracle::TIMELINE;
use crate::server::{LATE, OUTBOX, Server, Stream};
use crate::tables::Tables;

/// A running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) pipeline: Pipeline,
    stream: Stream,
    order: Option<Order>,
}

/// What the relay lives in.
pub(crate) struct Surroundings<'a> {
    pub(crate) server: &'a mut Server,
    pub(crate) broker: &'a mut Broker,
    pub(crate) tables: &'a mut Tables,
    pub(crate) random: &'a mut Random,
    pub(crate) now: Now,
    /// Of a hundred offers, how many find the producer full.
    pub(crate) full_percent: u64,
}

impl Relay {
    /// After a start: the position is read, the lot opened, Kafka read back.
    pub(crate) fn start(world: &mut Surroundings<'_>) -> Self {
        let position = recorded_position(world.broker).expect("a position");
        assert!(
            world.server.confirmed <= position.frontier.end.0,
            "I4: the slot is ahead of the recorded position"
        );
        let rule = RouteRule {
            aggregate_type: None,
            event_type: None,
            topic: TopicTemplate::parse("{aggregate_type}").expect("a topic"),
            payload: PayloadForm::Json,
            on_unpublishable: Unpublishable::Park,
        };
        let source = SourceId::try_new("sim", TIMELINE).expect("a source");
        let encoder = Encoder::new(source, SchemaNaming::default(), Duration::from_secs(30));
        let limits = LotLimits { ratio_percent: 100, ..LotLimits::default() };
        let recorded = (position.frontier, &position.offsets);
        let router = Router::new(vec![rule]);
        let pipeline = Pipeline::new(router, encoder, recorded, limits, world.now);
        let mut relay = Self { pipeline, stream: Stream::start(world.server), order: None };
        relay.open_lot_and_producer(world);
        relay.start_stream(world);
        relay
    }

    fn open_lot_and_producer(&mut self, world: &mut Surroundings<'_>) {
        self.order = None;
        let frontier = self.pipeline.ledger().frontier().mark;
        let contents = world.tables.contents(frontier, world.server.wal_end);
        self.input(Input::LotOpened(contents));
        let lowest = self.pipeline.ledger().offsets().lowest();
        let found = read_back(world.broker, frontier, &lowest);
        self.input(Input::ReadBack(found));
    }

    fn start_stream(&mut self, world: &mut Surroundings<'_>) {
        self.stream = Stream::start(world.server);
        let start = StreamStart {
            table: OutboxTable {
                oid: Oid(OUTBOX),
                namespace: "public".to_owned(),
                name: "outbox".to_owned(),
                partitions: HashSet::new(),
                is_partitioned: false,
                columns: ColumnNames::default(),
            },
            history: History::first(TIMELINE),
            system_id: "7".to_owned(),
            slot: "sim".to_owned(),
            oids: SourceOids::default(),
        };
        self.input(Input::StreamStarted(Box::new(start)));
    }

    /// The connection is lost; producer, lot and ledger stay.
    pub(crate) fn lose_stream(&mut self, world: &mut Surroundings<'_>) {
        self.input(Input::StreamLost);
        self.start_stream(world);
    }

    /// The producer is lost, and the lot is opened again with the next one.
    pub(crate) fn lose_producer(
        &mut self,
        world: &mut Surroundings<'_>,
        is_refusal: bool,
    ) -> Vec<Stored> {
        let mut appended = Vec::new();
        self.take_deliveries(world);
        if is_refusal {
            self.input(Input::BatchRefused);
        }
        self.input(Input::StreamLost);
        self.input(Input::ProducerLost);
        world.broker.lose_producer(world.random, &mut appended);
        let done = crate::broker::usize_below(world.random, 4);
        world.tables.lose_session(done, &mut world.server.wal_end);
        self.open_lot_and_producer(world);
        self.start_stream(world);
        appended
    }

    fn input(&mut self, input: Input<'_>) {
        self.pipeline.handle(input).expect("an input that cannot fail");
    }

    pub(crate) fn take_deliveries(&mut self, world: &mut Surroundings<'_>) {
        for delivery in std::mem::take(&mut world.broker.deliveries) {
            self.input(match delivery {
                Delivery::Acknowledged(Ticket::Event(seq), offset) => {
                    Input::Delivered(EventSeq(seq), offset)
                }
                Delivery::Acknowledged(Ticket::Release(seq), _) => {
                    Input::ReleaseDelivered(ReleaseSeq(seq))
                }
                Delivery::Position => Input::PositionAcknowledged,
            });
        }
    }

    pub(crate) fn take_replies(&mut self, world: &mut Surroundings<'_>) {
        for reply in std::mem::take(&mut world.tables.replies) {
            self.input(Input::Reply(reply));
        }
    }

    /// What `Session::turn` does, for at most so many frames.
    pub(crate) fn turn(&mut self, world: &mut Surroundings<'_>, frames: usize) {
        self.pipeline.set_now(world.now);
        self.take_deliveries(world);
        self.take_frames(world, frames);
        self.take_releases(world);
        if let Some(order) = self.order.take().or_else(|| self.pipeline.order_due()) {
            world.tables.hand_over(order);
        }
        if let Some(write) = self.pipeline.position_due() {
            world.broker.send_position(write.value);
            self.input(Input::PositionTaken(write.stamp));
        }
    }

    fn take_frames(&mut self, world: &mut Surroundings<'_>, frames: usize) {
        for _ in 0..frames {
            if !self.pipeline.has_room() {
                return;
            }
            let Some(body) = self.stream.peek(world.server) else {
                let wal_end = WalEnd(Lsn(world.server.wal_end));
                let reply_requested = world.random.below(2) == 0;
                self.input(Input::Frame(Frame::Keepalive { wal_end, reply_requested }));
                return;
            };
            let frame = Frame::Message { at: Lsn::ZERO, body };
            let question = match self.pipeline.handle(Input::Frame(frame)).expect("a frame") {
                Effect::Next | Effect::Acknowledged(_) | Effect::Feedback => {
                    self.stream.consume();
                    continue;
                }
                Effect::Publish { seq, record } => {
                    if world.random.below(100) < world.full_percent {
                        return;
                    }
                    let (place, stored) = stored(&record);
                    world.broker.send(place, Ticket::Event(seq.0), stored);
                    None
                }
                Effect::Park { seq, event } => {
                    world.tables.hand_over(Order::Park { seq, event });
                    None
                }
                Effect::Ask(question) => Some(question),
                Effect::AwaitPosition | Effect::AwaitDeliveries => return,
                other => panic!("unexpected {other:?}"),
            };
            match question {
                Some(question) => return self.answer(world, &question),
                None => {
                    self.input(Input::Enqueued);
                    self.stream.consume();
                }
            }
        }
    }

    fn take_releases(&mut self, world: &mut Surroundings<'_>) {
        while self.pipeline.has_release() {
            let question = match self.pipeline.release().expect("a release") {
                Effect::Release { seq, record } => {
                    if world.random.below(100) < world.full_percent {
                        return;
                    }
                    let (place, stored) = stored(&record);
                    world.broker.send(place, Ticket::Release(seq.0), stored);
                    None
                }
                Effect::Ask(question) => Some(question),
                _ => return,
            };
            match question {
                Some(question) => return self.answer(world, &question),
                None => self.input(Input::ReleaseTaken),
            }
        }
    }

    fn answer(&mut self, world: &mut Surroundings<'_>, question: &Question) {
        let Question::Topic { topic } = question else { panic!("unexpected {question:?}") };
        let exists = &**topic != LATE || world.broker.has_late_topic;
        let answer = if exists {
            let partitions = NonZeroU32::new(PARTITIONS).expect("some");
            let facts = TopicFacts { partitions, message_bytes_max: 10_000 };
            Answer::Topic { facts, ends: world.broker.ends(topic) }
        } else {
            Answer::Missing
        };
        self.input(Input::Answered(question, answer));
    }

    /// Tells the server what is confirmed.
    pub(crate) fn feedback(&self) -> u64 {
        self.pipeline.confirmed().lsn().0
    }
}

/// The first position, as `walpost init` writes it.
pub(crate) fn first_position(server: &Server) -> Vec<u8> {
    let end = Lsn(server.confirmed);
    let mark = walpost::position::Mark::before(end);
    walpost::position::write_position(&Position {
        system_id: "7".to_owned(),
        timeline: TIMELINE,
        slot: "sim".to_owned(),
        frontier: walpost::position::Frontier { mark, end },
        park_lsn: Lsn::ZERO,
        oids: SourceOids::default(),
        offsets: LowestOffsets::new(),
    })
}

fn recorded_position(broker: &Broker) -> Option<Position> {
    let key = position_key("sim");
    let read = |value: &Vec<u8>| match PositionRecord::read(key.as_bytes(), Some(value)) {
        Ok(PositionRecord::Position { position, .. }) => position,
        other => panic!("not a position: {other:?}"),
    };
    broker.positions.iter().map(read).max_by_key(Position::rank)
}

/// What `position/read_back.rs` finds, on logs that keep everything.
fn read_back(broker: &Broker, mark: walpost::position::Mark, lowest: &LowestOffsets) -> Found {
    let mut found = Found { ends: BTreeMap::new(), events: HashMap::new(), ..Found::default() };
    for (topic, partitions) in lowest {
        found.ends.insert(Arc::clone(topic), broker.ends(topic));
        for (lowest, partition) in partitions.iter().zip(0u32..) {
            let Some(log) = broker.logs.get(&(topic.to_string(), partition)) else { continue };
            let Some(from) = lowest.and_then(|lowest| usize::try_from(lowest).ok()) else {
                continue;
            };
            for (record, offset) in log.iter().zip(0i64..).skip(from) {
                let (position, timeline) = (record.position, TIMELINE);
                if record.is_released {
                    found.released.insert(Identity { timeline, position });
                } else if !mark.covers(position) {
                    let topic = Arc::clone(topic);
                    found.events.insert(position, FoundAt { timeline, topic, partition, offset });
                }
            }
        }
    }
    found
}

fn stored(record: &Record<'_>) -> ((String, u32), Stored) {
    let header = |wanted: &str| {
        let found = record.headers.iter().find(|(name, _)| *name == wanted);
        found.and_then(|(_, value)| value).map(str::to_owned)
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let stored = Stored {
        id: header("id").expect("an id"),
        kind: header("aggregate_type").expect("a type"),
        key: text(record.key),
        position: header("lsn").expect("a position").parse().expect("a position"),
        is_released: header("released").is_some(),
        value: record.value.map(text).unwrap_or_default(),
    };
    ((record.topic.to_owned(), record.place.partition), stored)
}
