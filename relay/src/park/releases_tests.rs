//! Requests and rows in, orders and rows out, step by step.

use std::time::Duration;

use walpost_schema::envelope::EventPosition;

use super::*;
use crate::decode::PostgresMicros;
use crate::lsn::Lsn;
use crate::park::{RawPayload, RawRow};
use crate::position::TopicId;

const PLACE: Place = Place { topic: TopicId::NONE, partition: 0 };

const UNTIL: Mark = Mark { commit_lsn: Lsn(99), ordinal: None };

fn view(rows: u64) -> LotView {
    let recorded = Mark::default();
    LotView { rows, recorded, dealt_with: UNTIL, is_caught_up: true }
}

fn row(key: &str, commit_lsn: u64) -> ParkedEvent {
    let mut row = RawRow::only(RawPayload::Tombstone);
    row.aggregate_type = Some("order".to_owned());
    row.aggregate_id = Some(key.to_owned());
    let position = EventPosition { commit_lsn, ordinal: 0 };
    let (identity, commit_time) = (Identity { timeline: 1, position }, PostgresMicros(0));
    ParkedEvent { identity, commit_time, row, reason: Reason::behind() }
}

fn bad() -> Reason {
    Reason { code: "payload_unfit".into(), detail: String::new() }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn moved(rows: &[&ParkedEvent]) -> LotReply {
    let of = |row: &&ParkedEvent| Moved { sequence: row.sequence(), rows: 1, bytes: 0 };
    LotReply::Moved { moved: rows.iter().map(of).collect(), as_of: Lsn(9) }
}

/// The next order, one second after the last.
struct World {
    releases: Releases,
    second: u64,
}

impl World {
    /// With one request to retry.
    fn retrying() -> Self {
        let mut world = Self { releases: Releases::default(), second: 100 };
        assert_eq!(world.order(), Some(Order::Poll));
        world.releases.reply(LotReply::Requests(vec![Request::Retry(RequestId(7))]));
        assert_eq!(world.order(), Some(Order::Load { request: RequestId(7), until: UNTIL }));
        world
    }

    fn order(&mut self) -> Option<Order> {
        self.second += 1;
        self.releases.order(&view(1), seconds(self.second))
    }

    fn publish(&mut self) -> Option<u64> {
        let Turn::Publish(row) = self.releases.turn() else { return None };
        let lsn = row.identity.position.commit_lsn;
        self.releases.taken(PLACE);
        Some(lsn)
    }
}

#[test]
fn a_batch_is_settled_when_all_of_it_is_acknowledged_and_the_request_answered_at_its_end() {
    let mut world = World::retrying();
    let rows = [row("a", 1), row("b", 2)];
    world.releases.reply(LotReply::Loaded(rows.to_vec()));
    assert_eq!((world.publish(), world.publish(), world.publish()), (Some(1), Some(2), None));
    world.releases.delivered(ReleaseSeq(1));
    assert_eq!(world.order(), None, "one is still in flight");
    world.releases.delivered(ReleaseSeq(0));
    let released = vec![rows[1].identity, rows[0].identity];
    let refused = Vec::new();
    assert_eq!(world.order(), Some(Order::Settle(Settlement { released, refused })));
    assert!(world.releases.is_unsettled());
    assert_eq!(world.releases.reply(moved(&[&rows[0], &rows[1]])).len(), 2);
    assert!(!world.releases.is_unsettled());
    assert_eq!(
        world.order(),
        Some(Order::Load { request: RequestId(7), until: UNTIL }),
        "there may be more"
    );
    world.releases.reply(LotReply::Loaded(Vec::new()));
    let text = "released 2, refused again 0".to_owned();
    assert_eq!(world.order(), Some(Order::Answer { request: RequestId(7), text }));
    world.releases.reply(LotReply::Done);
    assert_eq!(world.order(), Some(Order::Poll));
}

#[test]
fn behind_one_that_fails_again_its_sequence_stays_and_others_leave() {
    let mut world = World::retrying();
    let rows = [row("a", 1), row("b", 2), row("a", 3), row("b", 4)];
    world.releases.reply(LotReply::Loaded(rows.to_vec()));
    assert!(matches!(world.releases.turn(), Turn::Publish(_)));
    world.releases.refuse(bad());
    assert_eq!((world.publish(), world.publish(), world.publish()), (Some(2), Some(4), None));
    world.releases.delivered(ReleaseSeq(0));
    world.releases.delivered(ReleaseSeq(1));
    let Some(Order::Settle(settlement)) = world.order() else { panic!("settle") };
    assert_eq!(settlement.refused, [(rows[0].identity, bad())]);
    assert_eq!(settlement.released, [rows[1].identity, rows[3].identity]);
}

#[test]
fn a_sequence_is_leaving_once_all_of_the_batch_is_handed_over() {
    let mut world = World::retrying();
    world.releases.reply(LotReply::Loaded(vec![row("a", 1), row("b", 2)]));
    let sequence = row("a", 1).sequence();
    world.publish();
    assert_eq!(world.releases.leaving(&sequence), 0, "another row may have to wait");
    world.publish();
    assert_eq!(world.releases.leaving(&sequence), 1);
    assert_eq!(world.releases.leaving(&row("c", 1).sequence()), 0);
}

#[test]
fn what_read_back_found_leaves_the_lot_before_anything_is_released() {
    let mut world = World::retrying();
    let found = row("a", 1);
    world.releases.open(vec![found.identity]);
    assert!(world.releases.is_settling_found());
    let settlement = Settlement { released: vec![found.identity], refused: Vec::new() };
    assert_eq!(world.order(), Some(Order::Settle(settlement)));
    assert!(world.releases.is_settling_found());
    world.releases.reply(moved(&[&found]));
    assert!(!world.releases.is_settling_found());
    assert_eq!(world.order(), Some(Order::Poll), "requests are still open in the database");
}

#[test]
fn a_lost_producer_forgets_the_batch_and_numbers_go_on() {
    let mut world = World::retrying();
    world.releases.reply(LotReply::Loaded(vec![row("a", 1), row("a", 2)]));
    world.publish();
    world.releases.lost();
    assert_eq!((world.releases.in_flight(), world.publish()), (0, None));
    assert_eq!(world.releases.next_seq(), ReleaseSeq(1), "a late callback is nobody's");
    assert_eq!(world.order(), Some(Order::Poll));
}

#[test]
fn what_is_missing_is_looked_for_every_five_seconds_and_again_at_once_when_some_appeared() {
    let mut releases = Releases::default();
    let order = |releases: &mut Releases, at| releases.order(&view(1), seconds(at));
    assert_eq!(order(&mut releases, 100), Some(Order::Poll));
    releases.reply(LotReply::Requests(Vec::new()));
    assert_eq!(order(&mut releases, 100), Some(Order::LoadWaiting { until: UNTIL }));
    releases.reply(LotReply::Loaded(vec![row("a", 1)]));
    releases.taken(PLACE);
    releases.delivered(ReleaseSeq(0));
    assert!(matches!(order(&mut releases, 100), Some(Order::Settle(_))));
    releases.reply(moved(&[&row("a", 1)]));
    assert_eq!(order(&mut releases, 100), Some(Order::LoadWaiting { until: UNTIL }));
    releases.reply(LotReply::Loaded(vec![row("b", 2)]));
    releases.refuse(bad());
    assert!(matches!(order(&mut releases, 100), Some(Order::Settle(_))));
    releases.reply(moved(&[]));
    assert_eq!(order(&mut releases, 100), Some(Order::Prune(Mark::default())));
    releases.reply(LotReply::Done);
    assert_eq!(order(&mut releases, 100), None, "nothing appeared: later");
    assert_eq!(order(&mut releases, 105), Some(Order::Poll));
    releases.reply(LotReply::Requests(Vec::new()));
    assert_eq!(order(&mut releases, 105), Some(Order::LoadWaiting { until: UNTIL }));
}

#[test]
fn an_empty_lot_is_pruned_once_and_asked_for_requests_rarely() {
    let mut releases = Releases::default();
    let order = |releases: &mut Releases, at| releases.order(&view(0), seconds(at));
    assert_eq!(order(&mut releases, 1), Some(Order::Poll));
    releases.reply(LotReply::Requests(Vec::new()));
    assert_eq!(order(&mut releases, 1), Some(Order::Prune(Mark::default())), "once after a start");
    releases.reply(LotReply::Done);
    assert_eq!(order(&mut releases, 5), None);
    assert_eq!(releases.due_at(0), Some(seconds(6)));
    assert_eq!(order(&mut releases, 6), Some(Order::Poll));
}

#[test]
fn a_discard_is_one_order_and_says_how_many() {
    let mut world = World { releases: Releases::default(), second: 1 };
    assert_eq!(world.order(), Some(Order::Poll));
    world.releases.reply(LotReply::Requests(vec![Request::Discard(RequestId(3))]));
    assert_eq!(world.order(), Some(Order::Discard(RequestId(3))));
    world.releases.reply(moved(&[&row("a", 1)]));
    let answer = Order::Answer { request: RequestId(3), text: "discarded 1".to_owned() };
    assert_eq!(world.order(), Some(answer));
}

#[test]
fn nothing_is_released_before_the_stream_has_caught_up_with_the_lot() {
    let mut releases = Releases::default();
    let behind = LotView { is_caught_up: false, ..view(1) };
    assert_eq!(releases.order(&behind, seconds(100)), Some(Order::Poll));
    let requests = vec![Request::Retry(RequestId(1)), Request::Discard(RequestId(2))];
    releases.reply(LotReply::Requests(requests));
    assert_eq!(releases.order(&behind, seconds(200)), None);
    let load = Order::Load { request: RequestId(1), until: UNTIL };
    assert_eq!(releases.order(&view(1), seconds(200)), Some(load));
}
