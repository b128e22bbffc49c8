//! Parking, step by step: what goes into the lot, what queues behind it, and the way out.

use std::collections::HashSet;

use super::tests::{World, found, message, row_of};
use super::*;
use crate::decode::tests::{begin, commit, logical};
use crate::park::{Order, Request, RequestId};

/// A world whose route parks, with a row that is no event: its id is missing.
fn world() -> World {
    World::parking()
}

fn bad(key: &str) -> Vec<u8> {
    row_of(None, Some(key))
}

fn good(id: &str, key: &str) -> Vec<u8> {
    row_of(Some(id), Some(key))
}

impl World {
    fn transaction_of(&mut self, commit_lsn: u64, rows: &[Vec<u8>]) {
        self.frame(&begin(commit_lsn, 0)).expect("begin");
        for row in rows {
            self.frame(row).expect("insert");
        }
        self.frame(&commit(commit_lsn, commit_lsn + 8, 0)).expect("commit");
    }

    /// The database commits the rows with these numbers.
    fn park(&mut self, seqs: &[u64], as_of: u64) {
        let seqs = seqs.iter().map(|seq| EventSeq(*seq)).collect();
        self.reply(LotReply::Parked { seqs, as_of: Lsn(as_of) });
    }

    fn reply(&mut self, reply: LotReply) {
        self.pipeline.handle(Input::Reply(reply)).expect("reply");
    }

    /// A person asks for a retry; the rows are those that the lot was handed.
    fn retry(&mut self) {
        self.pass_seconds(6);
        assert_eq!(self.pipeline.order_due(), Some(Order::Poll));
        self.reply(LotReply::Requests(vec![Request::Retry(RequestId(1))]));
        let Some(Order::Load { .. }) = self.pipeline.order_due() else { panic!("rows are wanted") };
        let rows = std::mem::take(&mut self.parked);
        self.reply(LotReply::Loaded(rows));
    }

    /// Hands one released event to the producer; its number and id.
    fn release(&mut self) -> Option<(u64, String)> {
        let released = match self.pipeline.release().expect("release") {
            Effect::Release { seq, record } => {
                let id = record.headers.iter().next().and_then(|(_, value)| value);
                let mark = record.headers.iter().find(|(name, _)| *name == "released");
                assert!(mark.is_some(), "a released event says so");
                (seq.0, id.unwrap_or_default().to_owned())
            }
            _ => return None,
        };
        self.pipeline.handle(Input::ReleaseTaken).expect("taken");
        Some(released)
    }

    fn settle(&mut self, as_of: u64) {
        let Some(Order::Settle(settlement)) = self.pipeline.order_due() else {
            panic!("a settlement is due")
        };
        let sequence = |identity: &Identity| self.sequences[identity].clone();
        let moved = settlement.released.iter().map(|identity| crate::park::Moved {
            sequence: sequence(identity),
            rows: 1,
            bytes: 0,
        });
        let moved = moved.collect();
        self.reply(LotReply::Moved { moved, as_of: Lsn(as_of) });
    }

    fn parked_ids(&self) -> Vec<(Option<&str>, &str)> {
        let parked = self.parked.iter();
        parked.map(|event| (event.row.id.as_deref(), event.reason.code.as_ref())).collect()
    }
}

#[test]
fn a_parked_event_closes_its_aggregate_and_no_other() {
    let mut world = world();
    world.transaction_of(100, &[bad("1"), good("a", "1"), good("b", "2")]);
    world.transaction_of(200, &[good("c", "1"), good("d", "3")]);
    assert_eq!(world.sent_ids(), ["b", "d"]);
    let behind = |id| (Some(id), "behind");
    assert_eq!(world.parked_ids(), [(None, "column_null"), behind("a"), behind("c")]);
    assert_eq!(world.pipeline.lot().rows(), 3);
}

#[test]
fn nothing_is_confirmed_past_an_event_whose_row_is_not_committed() {
    let mut world = world();
    world.transaction_of(100, &[good("a", "1"), bad("2")]);
    world.deliver(0);
    assert_eq!(world.confirmed(), 0);
    world.park(&[1], 150);
    assert_eq!(world.confirmed(), 108);
    let record = world.recorded.clone().expect("a position");
    assert!(record.contains(r#""park_lsn":"0/96""#), "{record}");
}

#[test]
fn a_faulty_message_closes_the_aggregate_that_it_names() {
    let mut world = world();
    world.frame(&begin(100, 0)).expect("begin");
    let faulty = r#"{"aggregate_type":"order","aggregate_id":"1","payload":{},"typo":1}"#;
    world.frame(&logical(1, "walpost", faulty)).expect("parked");
    world.frame(&good("a", "1")).expect("parked");
    world.frame(&good("b", "2")).expect("sent");
    assert_eq!(world.sent_ids(), ["b"]);
    assert_eq!(world.parked_ids(), [(None, "message_not_an_event"), (Some("a"), "behind")]);
}

#[test]
fn a_row_without_aggregate_id_closes_nothing() {
    let mut world = world();
    world.transaction_of(100, &[row_of(Some("x"), None), row_of(Some("y"), None), good("a", "1")]);
    assert_eq!(world.sent_ids(), ["a"]);
    let null = |id| (Some(id), "column_null");
    assert_eq!(world.parked_ids(), [null("x"), null("y")]);
    assert_eq!(world.pipeline.lot().keys(), 2);
}

#[test]
fn an_aggregate_opens_when_its_rows_have_left_and_not_before() {
    let mut world = world();
    world.enter_topic();
    world.transaction_of(100, &[bad("1"), good("a", "1")]);
    world.park(&[1, 2], 150);
    // Somebody mended the row.
    world.parked[0].row.id = Some("mended".to_owned());
    world.retry();
    assert_eq!(world.release(), Some((0, "mended".to_owned())));
    assert_eq!(world.release(), Some((1, "a".to_owned())));
    // What comes now waits for the settlement instead of being parked for ever.
    world.frame(&begin(200, 0)).expect("begin");
    let next = good("b", "1");
    let offer = |world: &mut World| {
        let effect = world.pipeline.handle(Input::Frame(message(&next))).expect("offer");
        matches!(effect, Effect::AwaitDeliveries)
    };
    assert!(offer(&mut world), "not acknowledged yet");
    for seq in 0..2 {
        world.pipeline.handle(Input::ReleaseDelivered(ReleaseSeq(seq))).expect("delivered");
    }
    assert!(offer(&mut world), "not settled yet");
    world.settle(250);
    world.frame(&next).expect("sent");
    assert_eq!(world.sent_ids(), ["b"]);
    assert_eq!(world.pipeline.lot().keys(), 0);
}

#[test]
fn nothing_is_released_before_all_that_precedes_it_is_dealt_with() {
    let mut world = world();
    world.enter_topic();
    // The first is on its way to Kafka, the second in the lot: then the producer is lost.
    world.transaction_of(100, &[good("a", "1"), bad("1")]);
    world.park(&[2], 150);
    let rows = std::mem::take(&mut world.parked);
    world.pipeline.handle(Input::ProducerLost).expect("lost");
    world.start_stream();
    let (sequence, known) = (rows[0].sequence(), HashSet::from([rows[0].identity.position]));
    world.open_lot(LotContents { sequences: vec![(sequence, 1, 10)], known, as_of: Lsn(160) });
    world.pass_seconds(6);
    assert_eq!(world.pipeline.order_due(), Some(Order::Poll));
    world.reply(LotReply::Requests(vec![Request::Retry(RequestId(1))]));
    assert_eq!(world.pipeline.order_due(), None, "the first may still come");
    world.transaction_of(100, &[good("a", "1"), bad("1")]);
    assert_eq!(world.parked_ids(), [(Some("a"), "behind")]);
    assert_eq!(world.pipeline.order_due(), None, "it is on its way into the lot");
    world.park(&[1], 170);
    let until = Mark::after(EventPosition { commit_lsn: 100, ordinal: 1 });
    let load = Order::Load { request: RequestId(1), until };
    assert_eq!(world.pipeline.order_due(), Some(load));
}

#[test]
fn a_head_that_fails_again_keeps_everything_behind_it() {
    let mut world = world();
    world.enter_topic();
    world.transaction_of(100, &[bad("1"), good("a", "1"), bad("2"), good("b", "2")]);
    world.park(&[1, 2, 3, 4], 150);
    world.parked[2].row.id = Some("mended".to_owned());
    world.retry();
    assert_eq!(world.release().map(|(_, id)| id), Some("mended".to_owned()));
    assert_eq!(world.release().map(|(_, id)| id), Some("b".to_owned()));
    assert_eq!(world.release(), None);
    world.transaction_of(200, &[good("c", "1")]);
    assert_eq!(world.parked_ids(), [(Some("c"), "behind")]);
}

#[test]
fn after_a_start_what_the_tables_know_is_skipped_and_its_aggregates_are_closed() {
    let mut world = world();
    let at = |ordinal| EventPosition { commit_lsn: 100, ordinal };
    let sequence = SequenceId::from_text("5:order/1");
    world.open_lot(LotContents {
        sequences: vec![(sequence, 1, 10)],
        known: HashSet::from([at(0), at(1)]),
        as_of: Lsn(90),
    });
    world.transaction_of(100, &[bad("1"), good("released", "2"), good("a", "1"), good("b", "2")]);
    assert_eq!(world.sent_ids(), ["b"]);
    assert_eq!(world.parked_ids(), [(Some("a"), "behind")]);
    assert_eq!(world.pipeline.counts().skipped_parked, 2);
    world.park(&[2], 150);
    world.deliver(3);
    assert_eq!(world.confirmed(), 108);
}

#[test]
fn what_is_in_kafka_and_in_the_lot_leaves_the_lot_first() {
    let mut world = world();
    let at = EventPosition { commit_lsn: 100, ordinal: 0 };
    world.enter_topic();
    let contents = LotContents {
        sequences: vec![(SequenceId::from_text("5:order/1"), 1, 10)],
        known: HashSet::from([at]),
        as_of: Lsn(90),
    };
    world.pipeline.handle(Input::LotOpened(contents)).expect("opened");
    world.pipeline.handle(Input::ReadBack(found(&[(100, 0, 5)], 6))).expect("read back");
    let Some(Order::Settle(settlement)) = world.pipeline.order_due() else { panic!("settle") };
    assert_eq!(settlement.released, [Identity { timeline: 1, position: at }]);
    world.transaction_of(100, &[good("a", "1")]);
    assert_eq!((world.sent_ids().len(), world.pipeline.counts().skipped_found), (0, 1));
}

#[test]
fn a_batch_that_is_refused_is_sent_one_by_one_and_the_lone_record_is_parked() {
    let mut world = world();
    world.transaction_of(100, &[good("a", "1"), good("b", "2")]);
    let refuse = |world: &mut World| {
        world.pipeline.handle(Input::BatchRefused).expect("refused");
        world.pipeline.handle(Input::ProducerLost).expect("lost");
        world.start_stream();
        world.open_lot(LotContents::default());
        world.frame(&begin(100, 0)).expect("begin");
    };
    refuse(&mut world);
    world.frame(&good("a", "1")).expect("sent");
    assert!(!world.pipeline.has_room(), "one at a time");
    world.deliver(0);
    world.frame(&good("b", "2")).expect("sent");
    refuse(&mut world);
    world.frame(&good("a", "1")).expect("skipped");
    world.frame(&good("b", "2")).expect("parked");
    assert_eq!(world.parked_ids(), [(Some("b"), "kafka_batch_refused")]);
    world.park(&[1], 150);
    assert!(world.pipeline.has_room());
    world.frame(&good("c", "3")).expect("sent");
    world.frame(&good("d", "3")).expect("sent");
    assert_eq!(world.sent_ids(), ["a", "b", "a", "b", "c", "d"]);
}

#[test]
fn a_full_lot_stops_the_source_by_the_name_of_its_limit() {
    let mut world = World::with_limits(LotLimits { rows: 1, ..LotLimits::default() });
    world.frame(&begin(100, 0)).expect("begin");
    world.frame(&bad("1")).expect("parked");
    let error = world.frame(&bad("2")).expect_err("full");
    assert_eq!(error.code(), "parking_lot_full");
    assert_eq!(error.to_string(), "the parking lot is full: limits.parked_rows = 1");
}
