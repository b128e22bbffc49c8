//! What happens to a source, step by step: frames in, effects out, without a world.

use std::num::NonZeroU32;
use std::time::Duration;

use walpost_schema::envelope::SourceId;

use super::*;
use crate::decode::tests::{begin, commit, insert, logical, relation};
use crate::encode::SchemaNaming;
use crate::error::Fault;
use crate::event::ColumnNames;
use crate::lookup::TopicFacts;
use crate::lsn::{Lsn, WalEnd};
use crate::route::{PayloadForm, RouteRule, TopicTemplate};

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
struct World {
    pipeline: Pipeline,
    sent: Vec<(u64, String)>,
}

impl World {
    fn new() -> Self {
        let rule = RouteRule {
            aggregate_type: None,
            event_type: None,
            topic: TopicTemplate::parse("t").expect("topic"),
            payload: PayloadForm::Json,
        };
        let source = SourceId::try_new("shop", 1).expect("source");
        let encoder = Encoder::new(source, SchemaNaming::default(), Duration::from_secs(30));
        let now = Now { elapsed: Duration::ZERO, unix_ms: 0 };
        let pipeline = Pipeline::new(Router::new(vec![rule]), encoder, now);
        let mut world = Self { pipeline, sent: Vec::new() };
        world.start_stream();
        world
    }

    fn start_stream(&mut self) {
        self.pipeline.handle(Input::StreamStarted(Box::new(table(OUTBOX)))).expect("start");
        self.frame(&relation(OUTBOX, ("public", "outbox"), &COLUMNS)).expect("relation");
    }

    /// Offers a message until it is done, as the loop does.
    fn frame(&mut self, body: &[u8]) -> Result<(), SourceError> {
        loop {
            let question = match self.pipeline.handle(Input::Frame(message(body)))? {
                Effect::Next => return Ok(()),
                Effect::Publish { seq, record } => {
                    let id = record.headers.iter().next().and_then(|(_, value)| value);
                    self.sent.push((seq.0, id.unwrap_or_default().to_owned()));
                    self.pipeline.handle(Input::Enqueued)?;
                    return Ok(());
                }
                Effect::Ask(question) => question,
                other => panic!("unexpected {other:?}"),
            };
            let facts = TopicFacts {
                partitions: NonZeroU32::new(1).expect("partition"),
                message_bytes_max: 1_000,
            };
            self.pipeline.handle(Input::Answered(&question, Answer::Topic(facts)))?;
        }
    }

    fn transaction(&mut self, commit_lsn: u64, ids: &[&str]) {
        self.frame(&begin(commit_lsn, 0)).expect("begin");
        for id in ids {
            self.frame(&row(id)).expect("insert");
        }
        self.frame(&commit(commit_lsn, commit_lsn + 8, 0)).expect("commit");
    }

    fn deliver(&mut self, seq: u64) {
        self.pipeline.handle(Input::Delivered(EventSeq(seq))).expect("delivered");
    }

    fn sent_ids(&self) -> Vec<&str> {
        self.sent.iter().map(|(_, id)| id.as_str()).collect()
    }

    fn confirmed(&self) -> u64 {
        self.pipeline.confirmed().lsn().0
    }

    fn keepalive(&mut self, wal_end: u64) {
        let frame = Frame::Keepalive { wal_end: WalEnd(Lsn(wal_end)), reply_requested: false };
        self.pipeline.handle(Input::Frame(frame)).expect("keepalive");
    }
}

fn message(body: &[u8]) -> Frame<'_> {
    Frame::Message { at: Lsn::ZERO, body }
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
    assert_eq!(error.to_string(), "event without id at 0/64:1: column \"aggregate_id\" is null");
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
    let again = world.pipeline.handle(Input::StreamStarted(Box::new(table(99))));
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
