//! What happens to a source, step by step: frames in, effects out, without a world.

use std::num::NonZeroU32;
use std::time::Duration;

use walpost_schema::envelope::SourceId;

use super::*;
use crate::decode::Oid;
use crate::decode::tests::{begin, commit, insert, logical, relation};
use crate::encode::SchemaNaming;
use crate::error::Fault;
use crate::event::ColumnNames;
use crate::lookup::TopicFacts;
use crate::lsn::{Lsn, WalEnd};
use crate::position::FoundAt;
use crate::route::{PayloadForm, RouteRule, TopicTemplate, Unpublishable};

const OUTBOX: u32 = 10;
const COLUMNS: [(&str, u32); 5] = [
    ("id", 2950),
    ("aggregate_type", 25),
    ("aggregate_id", 25),
    ("event_type", 25),
    ("payload", 3802),
];

fn table(oid: u32) -> OutboxTable {
    OutboxTable {
        oid: Oid(oid),
        namespace: "public".to_owned(),
        name: "outbox".to_owned(),
        partitions: Default::default(),
        is_partitioned: false,
        columns: ColumnNames::default(),
    }
}

/// A pipeline and the world around it: what the producer took, and what came of each frame.
pub(super) struct World {
    pub(super) pipeline: Pipeline,
    sent: Vec<(u64, String)>,
    /// What the lot was handed.
    pub(super) parked: Vec<ParkedEvent>,
    pub(super) sequences: HashMap<Identity, SequenceId>,
    /// The last position record.
    pub(super) recorded: Option<String>,
    history: History,
    now: Now,
}

impl World {
    fn new() -> Self {
        Self::from_position(Frontier::default(), &LowestOffsets::new())
    }

    /// With a route that parks.
    pub(super) fn parking() -> Self {
        Self::with_limits(LotLimits::default())
    }

    pub(super) fn with_limits(limits: LotLimits) -> Self {
        Self::open(Unpublishable::Park, limits, Frontier::default(), &LowestOffsets::new())
    }

    fn from_position(frontier: Frontier, lowest: &LowestOffsets) -> Self {
        Self::open(Unpublishable::Stop, LotLimits::default(), frontier, lowest)
    }

    fn open(
        on_unpublishable: Unpublishable<TopicTemplate>,
        limits: LotLimits,
        frontier: Frontier,
        lowest: &LowestOffsets,
    ) -> Self {
        let rule = RouteRule {
            aggregate_type: None,
            event_type: None,
            topic: TopicTemplate::parse("t").expect("topic"),
            payload: PayloadForm::Json,
            on_unpublishable,
        };
        let source = SourceId::try_new("shop", 1).expect("source");
        let encoder = Encoder::new(source, SchemaNaming::default(), Duration::from_secs(30));
        let now = Now { elapsed: Duration::ZERO, unix_ms: 0 };
        let router = Router::new(vec![rule]);
        let pipeline = Pipeline::new(router, encoder, (frontier, lowest), limits, now);
        let history = History::first(1);
        let (sent, parked, sequences) = (Vec::new(), Vec::new(), HashMap::new());
        let mut world = Self { pipeline, sent, parked, sequences, recorded: None, history, now };
        world.start_stream();
        world
    }

    fn start(&self, oid: u32) -> Input<'static> {
        let (table, history) = (table(oid), self.history.clone());
        let (system_id, slot) = ("7".to_owned(), "walpost".to_owned());
        let oids = SourceOids::default();
        Input::StreamStarted(Box::new(StreamStart { table, history, system_id, slot, oids }))
    }

    pub(super) fn start_stream(&mut self) {
        self.pipeline.handle(self.start(OUTBOX)).expect("start");
        self.frame(&relation(OUTBOX, ("public", "outbox"), &COLUMNS)).expect("relation");
    }

    /// Offers a message until it is done, as the loop does.
    pub(super) fn frame(&mut self, body: &[u8]) -> Result<(), SourceError> {
        loop {
            let question = match self.pipeline.handle(Input::Frame(message(body)))? {
                Effect::Next => return Ok(()),
                Effect::Publish { seq, record } => {
                    let id = record.headers.iter().next().and_then(|(_, value)| value);
                    self.sent.push((seq.0, id.unwrap_or_default().to_owned()));
                    self.pipeline.handle(Input::Enqueued)?;
                    return Ok(());
                }
                Effect::Park { event, .. } => {
                    self.sequences.insert(event.identity, event.sequence());
                    self.parked.push(*event);
                    self.pipeline.handle(Input::Enqueued)?;
                    return Ok(());
                }
                Effect::Ask(question) => question,
                Effect::AwaitPosition => {
                    self.record();
                    continue;
                }
                other => panic!("unexpected {other:?}"),
            };
            let facts = TopicFacts {
                partitions: NonZeroU32::new(1).expect("partition"),
                message_bytes_max: 1_000,
            };
            let answer = Answer::Topic { facts, ends: vec![0] };
            self.pipeline.handle(Input::Answered(&question, answer))?;
        }
    }

    fn transaction(&mut self, commit_lsn: u64, ids: &[&str]) {
        self.frame(&begin(commit_lsn, 0)).expect("begin");
        for id in ids {
            self.frame(&row(id)).expect("insert");
        }
        self.frame(&commit(commit_lsn, commit_lsn + 8, 0)).expect("commit");
    }

    /// Kafka acknowledges an event. One partition is written to: offsets follow the numbers.
    pub(super) fn deliver(&mut self, seq: u64) {
        let offset = i64::try_from(seq).expect("small");
        self.pipeline.handle(Input::Delivered(EventSeq(seq), offset)).expect("delivered");
    }

    /// Writes the position record that is due once time has passed, and has it acknowledged; what
    /// it says.
    fn record(&mut self) -> Option<String> {
        self.now.elapsed += Duration::from_secs(2);
        self.pipeline.set_now(self.now);
        let write = self.pipeline.position_due()?;
        self.pipeline.handle(Input::PositionTaken(write.stamp)).expect("taken");
        self.pipeline.handle(Input::PositionAcknowledged).expect("acknowledged");
        self.recorded = Some(String::from_utf8(write.value).expect("text"));
        self.recorded.clone()
    }

    pub(super) fn pass_seconds(&mut self, seconds: u64) {
        self.now.elapsed += Duration::from_secs(seconds);
        self.pipeline.set_now(self.now);
    }

    pub(super) fn open_lot(&mut self, contents: LotContents) {
        self.pipeline.handle(Input::LotOpened(contents)).expect("opened");
        self.pipeline.handle(Input::ReadBack(Found::default())).expect("read back");
    }

    /// One event of a transaction before, so that the topic is known and recorded.
    pub(super) fn enter_topic(&mut self) {
        self.transaction(10, &["first"]);
        self.deliver(0);
        self.sent.clear();
        self.record();
    }

    pub(super) fn sent_ids(&self) -> Vec<&str> {
        self.sent.iter().map(|(_, id)| id.as_str()).collect()
    }

    /// What is confirmed after a position record that is due was written.
    pub(super) fn confirmed(&mut self) -> u64 {
        self.record();
        self.pipeline.confirmed().lsn().0
    }

    fn keepalive(&mut self, wal_end: u64) {
        let frame = Frame::Keepalive { wal_end: WalEnd(Lsn(wal_end)), reply_requested: false };
        self.pipeline.handle(Input::Frame(frame)).expect("keepalive");
    }
}

pub(super) fn message(body: &[u8]) -> Frame<'_> {
    Frame::Message { at: Lsn::ZERO, body }
}

/// A row of aggregate type `order`.
pub(super) fn row_of(id: Option<&str>, key: Option<&str>) -> Vec<u8> {
    insert(OUTBOX, &[id, Some("order"), key, Some("Placed"), Some("{}")])
}

fn row(id: &str) -> Vec<u8> {
    insert(OUTBOX, &[Some(id), Some("order"), Some("1"), Some("Placed"), Some("{}")])
}

#[test]
fn a_commit_is_confirmed_after_all_its_events_are_delivered() {
    let mut world = World::new();
    world.transaction(100, &["a", "b"]);
    world.deliver(1);
    assert_eq!(world.confirmed(), 0);
    world.deliver(0);
    assert_eq!(world.confirmed(), 108);
}

#[test]
fn a_full_producer_is_offered_the_same_record_again_and_first() {
    let mut world = World::new();
    world.transaction(50, &["warm"]);
    world.frame(&begin(100, 0)).expect("begin");
    let first = row("a");
    for _ in 0..3 {
        // The producer is full: nothing is told to the pipeline, the frame stays in the buffer.
        let effect = world.pipeline.handle(Input::Frame(message(&first))).expect("offer");
        let Effect::Publish { seq, record } = effect else { panic!("a record is offered") };
        let lsn = record.headers.iter().find(|(name, _)| *name == "lsn").and_then(|(_, v)| v);
        assert_eq!((seq, lsn), (EventSeq(1), Some("0/64:0")));
    }
    world.frame(&first).expect("taken");
    world.frame(&row("b")).expect("taken");
    assert_eq!(world.sent_ids(), ["warm", "a", "b"]);
}

#[test]
fn a_lost_stream_repeats_and_nothing_is_sent_twice() {
    let mut world = World::new();
    world.transaction(100, &["a", "b"]);
    world.frame(&begin(200, 0)).expect("begin");
    world.frame(&row("c")).expect("insert");
    world.pipeline.handle(Input::StreamLost).expect("lost");
    world.start_stream();
    world.transaction(100, &["a", "b"]);
    world.transaction(200, &["c", "d"]);
    assert_eq!(world.sent_ids(), ["a", "b", "c", "d"]);
    assert_eq!(world.pipeline.counts().skipped_enqueued, 3);
    (0..4).for_each(|seq| world.deliver(seq));
    assert_eq!(world.confirmed(), 208);
}

#[test]
fn a_lost_producer_sends_again_what_was_not_contiguously_delivered() {
    let mut world = World::new();
    world.transaction(100, &["a", "b"]);
    world.transaction(200, &["c"]);
    world.deliver(0);
    world.deliver(2);
    world.pipeline.handle(Input::ProducerLost).expect("lost");
    world.start_stream();
    world.transaction(100, &["a", "b"]);
    world.transaction(200, &["c"]);
    assert_eq!(world.sent_ids(), ["a", "b", "c", "b", "c"]);
    assert_eq!(world.pipeline.counts().resent, 2);
    assert_eq!(world.pipeline.counts().skipped_delivered, 1);
    world.deliver(1);
    world.deliver(2);
    assert_eq!(world.confirmed(), 208);
}

#[test]
fn a_stream_lost_twice_in_one_transaction_still_sends_each_event_once() {
    let mut world = World::new();
    for taken in [1, 2] {
        world.frame(&begin(100, 0)).expect("begin");
        for id in &["a", "b", "c"][..taken] {
            world.frame(&row(id)).expect("insert");
        }
        world.pipeline.handle(Input::StreamLost).expect("lost");
        world.start_stream();
    }
    world.transaction(100, &["a", "b", "c"]);
    assert_eq!(world.sent_ids(), ["a", "b", "c"]);
}

#[test]
fn keepalives_confirm_an_idle_stream_and_no_other() {
    let mut world = World::new();
    world.keepalive(50);
    assert_eq!(world.confirmed(), 50);
    world.transaction(100, &["a"]);
    world.keepalive(500);
    assert_eq!(world.confirmed(), 50);
    world.deliver(0);
    assert_eq!(world.confirmed(), 108);
    world.keepalive(600);
    assert_eq!(world.confirmed(), 600);
}

#[test]
fn logical_messages_with_our_prefix_are_events_in_order_with_rows() {
    let mut world = World::new();
    let content = r#"{"id":"m","aggregate_type":"order","aggregate_id":"1",
        "event_type":"Placed","payload":{}}"#;
    world.frame(&begin(100, 0)).expect("begin");
    world.frame(&row("a")).expect("insert");
    world.frame(&logical(1, "walpost", content)).expect("message");
    world.frame(&logical(1, "other", "x")).expect("foreign");
    world.frame(&row("b")).expect("insert");
    world.frame(&commit(100, 108, 0)).expect("commit");
    world.frame(&logical(0, "walpost", content)).expect("non-transactional");
    assert_eq!(world.sent_ids(), ["a", "m", "b"]);
    let counts = world.pipeline.counts();
    assert_eq!((counts.foreign_messages, counts.refused_messages), (1, 1));
}

#[test]
fn other_tables_and_other_changes_are_counted_and_passed() {
    let mut world = World::new();
    world.frame(&relation(11, ("public", "orders"), &[("id", 23)])).expect("relation");
    world.frame(&begin(100, 0)).expect("begin");
    world.frame(&insert(11, &[Some("1")])).expect("other table");
    world.frame(&commit(100, 108, 0)).expect("commit");
    assert_eq!(world.pipeline.counts().ignored_changes, 1);
    assert_eq!(world.confirmed(), 108);
}

#[test]
fn an_event_that_cannot_be_published_is_named_and_nothing_is_confirmed_past_it() {
    let mut world = World::new();
    world.frame(&begin(100, 0)).expect("begin");
    world.frame(&row("a")).expect("insert");
    let null_key = insert(OUTBOX, &[Some("b"), Some("order"), None, Some("Placed"), Some("{}")]);
    let error = world.frame(&null_key).expect_err("null key");
    assert_eq!(error.fault(), Fault::Park);
    assert_eq!(error.code(), "column_null");
    assert_eq!(error.to_string(), "event b at 0/64:1: column \"aggregate_id\" is null");
    world.deliver(0);
    assert_eq!(world.confirmed(), 0);
}

#[test]
fn unknown_messages_and_broken_framing_stop_the_source() {
    let mut world = World::new();
    assert_eq!(world.frame(b"S").expect_err("unknown").fault(), Fault::Stop);
    assert_eq!(world.frame(&row("a")).expect_err("bare").fault(), Fault::Stop);
    world.frame(&begin(100, 0)).expect("begin");
    assert_eq!(world.frame(&begin(200, 0)).expect_err("nested").fault(), Fault::Stop);
}

#[test]
fn a_table_made_again_between_two_streams_stops_the_source() {
    let mut world = World::new();
    world.pipeline.handle(Input::StreamLost).expect("lost");
    let start = world.start(99);
    let again = world.pipeline.handle(start);
    let error = again.expect_err("another table");
    assert_eq!((error.code(), error.fault()), ("outbox_replaced", Fault::Stop));
}

#[test]
fn what_is_in_flight_is_bounded() {
    let mut world = World::new();
    world.frame(&begin(100, 0)).expect("begin");
    let body = row("a");
    let mut sent = 0;
    while world.pipeline.has_room() {
        world.frame(&body).expect("insert");
        sent += 1;
        assert!(sent <= limits::PENDING_EVENTS_MAX, "the bound holds");
    }
    assert!(world.pipeline.ledger().undelivered_bytes() <= limits::PENDING_BYTES_MAX + 1_000);
    assert_eq!(world.pipeline.ledger().undelivered(), sent);
}

#[test]
fn nothing_is_confirmed_before_the_position_says_so() {
    let mut world = World::new();
    world.transaction(100, &["a"]);
    world.deliver(0);
    world.keepalive(500);
    assert_eq!(world.pipeline.confirmed(), ConfirmedLsn::NOTHING);
    let written = world.record().expect("due");
    assert!(
        written.contains(r#""commit_lsn":"0/1F4","ordinal":null,"end_lsn":"0/1F4""#),
        "{written}"
    );
    assert!(written.contains(r#""offsets":{"t":[1]}"#), "{written}");
    assert_eq!(world.pipeline.confirmed().lsn(), Lsn(500));
    assert_eq!(world.record(), None, "nothing is new");
}

#[test]
fn a_position_record_that_is_lost_confirms_nothing() {
    let mut world = World::new();
    world.transaction(100, &["a"]);
    world.deliver(0);
    world.now.elapsed += Duration::from_secs(2);
    world.pipeline.set_now(world.now);
    let write = world.pipeline.position_due().expect("due");
    world.pipeline.handle(Input::PositionTaken(write.stamp)).expect("taken");
    assert_eq!(world.pipeline.position_due(), None, "one at a time");
    assert!(world.pipeline.has_in_flight(), "the producer still has the position record");
    world.pipeline.handle(Input::ProducerLost).expect("lost");
    world.pipeline.handle(Input::PositionAcknowledged).expect("too late");
    assert_eq!(world.pipeline.confirmed(), ConfirmedLsn::NOTHING);
    world.start_stream();
    assert_eq!(world.confirmed(), 108);
}

#[test]
fn the_first_record_for_a_place_waits_until_the_position_names_it() {
    let mut world = World::new();
    world.frame(&begin(100, 0)).expect("begin");
    let first = row("a");
    let question = match world.pipeline.handle(Input::Frame(message(&first))).expect("offer") {
        Effect::Ask(question) => question,
        other => panic!("unexpected {other:?}"),
    };
    let partitions = NonZeroU32::new(1).expect("partition");
    let facts = TopicFacts { partitions, message_bytes_max: 1_000 };
    let answer = Answer::Topic { facts, ends: vec![77] };
    world.pipeline.handle(Input::Answered(&question, answer)).expect("answered");
    for _ in 0..2 {
        let effect = world.pipeline.handle(Input::Frame(message(&first))).expect("offer");
        assert_eq!(effect, Effect::AwaitPosition);
    }
    let write = world.pipeline.position_due().expect("due at once");
    let written = String::from_utf8(write.value).expect("text");
    assert!(written.contains(r#""offsets":{"t":[77]}"#), "{written}");
    world.pipeline.handle(Input::PositionTaken(write.stamp)).expect("taken");
    let effect = world.pipeline.handle(Input::Frame(message(&first))).expect("offer");
    assert_eq!(effect, Effect::AwaitPosition, "written is not acknowledged");
    world.pipeline.handle(Input::PositionAcknowledged).expect("acknowledged");
    let effect = world.pipeline.handle(Input::Frame(message(&first))).expect("offer");
    assert!(matches!(effect, Effect::Publish { .. }));
}

/// What read-back finds: events of one topic with one partition, and where that ends.
pub(super) fn found(events: &[(u64, u32, i64)], end: i64) -> Found {
    let topic: Arc<str> = Arc::from("t");
    let event = |&(commit_lsn, ordinal, offset): &(u64, u32, i64)| {
        let at = FoundAt { timeline: 1, topic: Arc::clone(&topic), partition: 0, offset };
        (EventPosition { commit_lsn, ordinal }, at)
    };
    Found {
        events: events.iter().map(event).collect(),
        ends: [(Arc::clone(&topic), vec![end])].into(),
        ..Found::default()
    }
}

#[test]
fn after_a_start_the_recorded_and_the_found_are_skipped_and_the_rest_is_sent() {
    let topic = Arc::from("t");
    let frontier = Frontier {
        mark: Mark::after(EventPosition { commit_lsn: 200, ordinal: 0 }),
        end: Lsn(108),
    };
    let mut world = World::from_position(frontier, &LowestOffsets::from([(topic, vec![Some(3)])]));
    world.pipeline.handle(Input::ReadBack(found(&[(200, 2, 4), (300, 0, 3)], 9))).expect("found");
    world.transaction(100, &["a"]);
    world.transaction(200, &["b", "c", "d"]);
    world.transaction(300, &["e", "f"]);
    assert_eq!(world.sent_ids(), ["c", "f"]);
    let counts = world.pipeline.counts();
    assert_eq!((counts.skipped_recorded, counts.skipped_found), (2, 2));
    // The found ones count as delivered, and the frontier waits for the one that was not found.
    assert_eq!(world.confirmed(), 0, "the position of the earlier run still holds");
    world.pipeline.handle(Input::Delivered(EventSeq(0), 9)).expect("delivered");
    assert_eq!(world.confirmed(), 208);
    world.pipeline.handle(Input::Delivered(EventSeq(3), 10)).expect("delivered");
    assert_eq!(world.confirmed(), 308);
}

#[test]
fn a_lost_stream_keeps_what_was_found_and_a_lost_producer_finds_anew() {
    let topic = Arc::from("t");
    let lowest = LowestOffsets::from([(topic, vec![Some(0)])]);
    let mut world = World::from_position(Frontier::default(), &lowest);
    world.pipeline.handle(Input::ReadBack(found(&[(200, 0, 5)], 6))).expect("found");
    world.transaction(100, &["a"]);
    world.pipeline.handle(Input::StreamLost).expect("lost");
    world.start_stream();
    world.transaction(100, &["a"]);
    world.transaction(200, &["b"]);
    assert_eq!(world.sent_ids(), ["a"]);
    world.pipeline.handle(Input::ProducerLost).expect("lost");
    world.pipeline.handle(Input::ReadBack(found(&[(100, 0, 6)], 7))).expect("found");
    world.start_stream();
    world.transaction(100, &["a"]);
    world.transaction(200, &["b"]);
    assert_eq!(world.sent_ids(), ["a", "b"]);
    world.deliver(1);
    assert_eq!(world.confirmed(), 208);
}

#[test]
fn an_idle_place_moves_to_its_end_and_a_busy_one_does_not() {
    let mut world = World::new();
    world.transaction(100, &["a"]);
    let answer = |end| Answer::Topic {
        facts: TopicFacts {
            partitions: NonZeroU32::new(1).expect("partition"),
            message_bytes_max: 1_000,
        },
        ends: vec![end],
    };
    let question = Question::Topic { topic: Arc::from("t") };
    let lowest = |world: &World| world.pipeline.ledger().offsets().lowest()["t"][0];
    world.pipeline.handle(Input::Answered(&question, answer(50))).expect("busy");
    assert_eq!(lowest(&world), Some(0));
    world.deliver(0);
    world.pipeline.handle(Input::Answered(&question, answer(60))).expect("idle");
    assert_eq!(lowest(&world), Some(60));
}

#[test]
fn added_partitions_are_used_once_nothing_is_in_flight_for_the_topic() {
    let mut world = World::new();
    world.transaction(100, &["a"]);
    world.now.elapsed += Duration::from_secs(61);
    world.pipeline.set_now(world.now);
    let question = world.pipeline.refresh_due().expect("a minute has passed");
    let Question::Partitions { topics } = &question else { panic!("not {question:?}") };
    let grown = Answer::Partitions(vec![(Arc::clone(&topics[0]), vec![1, 0, 40, 0])]);
    world.pipeline.handle(Input::Answered(&question, grown)).expect("answered");
    world.frame(&begin(200, 0)).expect("begin");
    let next = row("b");
    let effect = world.pipeline.handle(Input::Frame(message(&next))).expect("offer");
    assert_eq!(effect, Effect::AwaitDeliveries);
    world.deliver(0);
    let effect = world.pipeline.handle(Input::Frame(message(&next))).expect("offer");
    assert_eq!(effect, Effect::AwaitPosition, "the new places are recorded first");
    world.record().expect("due");
    let lowest = world.pipeline.ledger().offsets().lowest();
    assert_eq!(lowest["t"], [Some(1), Some(0), Some(40), Some(0)]);
    let effect = world.pipeline.handle(Input::Frame(message(&next))).expect("offer");
    let Effect::Publish { record, .. } = effect else { panic!("not published") };
    // Java's murmur2 of the key "1" modulo 4.
    assert_eq!(record.place.partition, 3);
}
