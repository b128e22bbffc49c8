//! The window and the floor against real PostgreSQL: what is older than the window is judged by its
//! offset, and being old alone skips nothing.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use walpost_inbox::store::floor::{self, Floor};
use walpost_inbox::store::{Claim, Day, StoreError, Transaction, window};
use walpost_inbox::{MessageRef, Place};
use walpost_tests::inbox::{Inbox, Session, dated, majors, today};

use Claim::{Duplicate, Fresh};

async fn claim_one(session: &mut Session, message: MessageRef) -> Claim {
    let Session { client, consumer, statements } = session;
    let messages = [message];
    loop {
        match Transaction::begin(&mut *client, statements, consumer, &messages).await {
            Ok((tx, claims)) => {
                tx.commit().await.unwrap();
                return claims.verdicts()[0];
            }
            Err(StoreError::WindowMoved) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn place() -> Place {
    Place { topic: "t".into(), partition: 0 }
}

#[test]
fn the_window_moves_by_whole_partitions_on_every_major() {
    for (major, url) in majors() {
        let inbox = Inbox::on(&url, "window");
        let partitions = || {
            inbox.ask("SELECT count(*) FROM pg_inherits WHERE inhparent = 'inbox_claim'::regclass")
        };
        inbox.run(async {
            let mut session = inbox.session().await;
            let upkeep = window::keep(&session.client, 5).await.unwrap();
            assert_eq!((upkeep.opened, upkeep.dropped), (8, 0), "PostgreSQL {major}: {upkeep:?}");
            assert_eq!(partitions(), "9");
            let old = dated(1, 0, "a", today().plus(-4));
            assert_eq!(claim_one(&mut session, old.clone()).await, Fresh);
            assert_eq!(claim_one(&mut session, old.clone()).await, Duplicate);
            let upkeep = window::keep(&session.client, 2).await.unwrap();
            assert_eq!((upkeep.opened, upkeep.dropped), (0, 3), "PostgreSQL {major}: {upkeep:?}");
            assert_eq!(partitions(), "6");
            // Its claim went with its partition: an old id outside the floor is handled.
            assert_eq!(claim_one(&mut session, old.clone()).await, Fresh);
            assert_eq!(claim_one(&mut session, old).await, Duplicate);
        });
        let held_by = "SELECT count(*) FROM inbox_claim_other";
        assert_eq!(inbox.ask(held_by), "1", "PostgreSQL {major}");
    }
}

#[test]
fn an_old_id_inside_the_floor_is_a_duplicate_outside_it_a_first_copy() {
    let inbox = Inbox::new("floor");
    inbox.run(async {
        let mut session = inbox.session().await;
        window::keep(&session.client, 2).await.unwrap();
        let range = Floor { from: 10, to: 20 };
        floor::widen(&session.client, &session.consumer, &place(), range).await.unwrap();
        let old = today().plus(-9);
        for (number, offset, verdict) in
            [(1, 9, Fresh), (2, 10, Duplicate), (3, 19, Duplicate), (4, 20, Fresh)]
        {
            let message = dated(number, offset, "a", old);
            assert_eq!(claim_one(&mut session, message).await, verdict, "offset {offset}");
        }
        // In another partition the same offset says nothing.
        let mut elsewhere = dated(5, 15, "a", old);
        elsewhere.place.partition = 1;
        assert_eq!(claim_one(&mut session, elsewhere).await, Fresh);
    });
    // Reading a topic again writes nothing for what lies inside the floor.
    assert_eq!(inbox.ask("SELECT count(*) FROM inbox_claim"), "3");
}

/// Trap 13: a position below the floor proves nothing about an id inside the window.
#[test]
fn inside_the_window_the_id_decides_wherever_it_stands() {
    let inbox = Inbox::new("floorid");
    inbox.run(async {
        let mut session = inbox.session().await;
        window::keep(&session.client, 2).await.unwrap();
        let range = Floor { from: 0, to: 100 };
        floor::widen(&session.client, &session.consumer, &place(), range).await.unwrap();
        let late = dated(1, 50, "a", today());
        assert_eq!(claim_one(&mut session, late).await, Fresh);
        // The relay sent it again, to another place.
        assert_eq!(claim_one(&mut session, dated(1, 500, "a", today())).await, Duplicate);
    });
}

#[test]
fn an_id_without_a_time_is_decided_by_its_claim_and_once_that_is_pruned_by_the_floor() {
    let inbox = Inbox::new("floornone");
    inbox.run(async {
        let mut session = inbox.session().await;
        window::keep(&session.client, 0).await.unwrap();
        for verdict in [Fresh, Duplicate] {
            assert_eq!(claim_one(&mut session, dated(1, 5, "a", Day::NONE)).await, verdict);
        }
        inbox.sql("UPDATE inbox_claim SET claimed_at = now() - interval '1 day'");
        let upkeep = window::keep(&session.client, 0).await.unwrap();
        assert_eq!(upkeep.pruned, 1);
        let range = Floor { from: 5, to: 6 };
        floor::widen(&session.client, &session.consumer, &place(), range).await.unwrap();
        assert_eq!(claim_one(&mut session, dated(1, 5, "a", Day::NONE)).await, Duplicate);
        // A copy at a new offset may run twice: guarantees.md says so.
        assert_eq!(claim_one(&mut session, dated(1, 6, "a", Day::NONE)).await, Fresh);
    });
}

#[test]
fn a_floor_only_widens_and_only_without_a_hole() {
    let inbox = Inbox::new("floorwide");
    inbox.run(async {
        let session = inbox.session().await;
        for (from, to, then) in [
            (100, 200, (100, 200)),
            (150, 160, (100, 200)),
            (200, 250, (100, 250)),
            (251, 300, (100, 250)),
            (90, 100, (90, 250)),
            (0, 89, (90, 250)),
            (240, 400, (90, 400)),
        ] {
            let by = Floor { from, to };
            floor::widen(&session.client, &session.consumer, &place(), by).await.unwrap();
            let found = floor::read(&session.client, &session.consumer, &place()).await.unwrap();
            assert_eq!(found, Some(Floor { from: then.0, to: then.1 }), "{from}..{to}");
        }
    });
}

/// A writer whose clock runs ahead: its ids stand with the others until their day has a partition.
#[test]
fn claims_of_a_day_without_a_partition_move_into_it_when_it_is_opened() {
    let inbox = Inbox::new("windowahead");
    inbox.run(async {
        let mut session = inbox.session().await;
        let ahead = dated(1, 0, "a", today().plus(2));
        assert_eq!(claim_one(&mut session, ahead.clone()).await, Fresh);
        window::keep(&session.client, 1).await.unwrap();
        assert_eq!(claim_one(&mut session, ahead).await, Duplicate);
    });
    assert_eq!(inbox.ask("SELECT count(*) FROM inbox_claim_other"), "0");
    assert_eq!(inbox.ask("SELECT count(*) FROM inbox_claim"), "1");
}

/// Trap 17: claims never stand behind the dropping of a partition for long.
#[test]
fn dropping_a_partition_gives_way_to_an_open_claim_and_is_done_later() {
    let inbox = Inbox::new("windowbusy");
    inbox.run(async {
        let (mut holder, other) = (inbox.session().await, inbox.session().await);
        window::keep(&other.client, 3).await.unwrap();
        let Session { client, consumer, statements } = &mut holder;
        let messages = [dated(1, 0, "a", today())];
        let (open, _) = Transaction::begin(client, statements, consumer, &messages).await.unwrap();
        let upkeep = window::keep(&other.client, 1).await.unwrap();
        assert_eq!((upkeep.dropped, upkeep.is_done), (0, false), "{upkeep:?}");
        open.commit().await.unwrap();
        let upkeep = window::keep(&other.client, 1).await.unwrap();
        assert_eq!((upkeep.dropped, upkeep.is_done), (2, true), "{upkeep:?}");
    });
}

/// A claim sees the window once and relies on it until it commits.
#[test]
fn the_window_does_not_move_under_an_open_claim_even_without_a_partition_to_drop() {
    let inbox = Inbox::new("windowheld");
    inbox.run(async {
        let (mut holder, other) = (inbox.session().await, inbox.session().await);
        let oldest = "SELECT oldest = '-infinity' FROM inbox_window";
        let Session { client, consumer, statements } = &mut holder;
        let messages = [dated(1, 0, "a", today())];
        let (open, _) = Transaction::begin(client, statements, consumer, &messages).await.unwrap();
        let upkeep = window::keep(&other.client, 1).await.unwrap();
        assert!(!upkeep.is_done, "{upkeep:?}");
        assert_eq!(inbox.ask(oldest), "t");
        open.commit().await.unwrap();
        window::keep(&other.client, 1).await.unwrap();
        assert_eq!(inbox.ask(oldest), "f");
    });
}

/// The quick statements do not ask the floor. The one for an event leaves it to the careful one
/// where the window has moved; the one for a batch is refused and begins again.
#[test]
fn claims_by_a_window_that_has_moved_ask_the_floor() {
    let inbox = Inbox::new("windowmoved");
    inbox.run(async {
        let mut single = inbox.session().await;
        window::keep(&single.client, 5).await.unwrap();
        let range = Floor { from: 0, to: 10 };
        floor::widen(&single.client, &single.consumer, &place(), range).await.unwrap();
        let mut batch = inbox.session().await;
        let day = today().plus(-4);
        assert_eq!(claim_one(&mut single, dated(1, 20, "a", day)).await, Fresh);
        assert_eq!(claim_one(&mut batch, dated(2, 21, "a", day)).await, Fresh);
        let elsewhere = inbox.client().await;
        window::keep(&elsewhere, 2).await.unwrap();
        assert_eq!(claim_one(&mut single, dated(3, 5, "a", day)).await, Duplicate);
        assert_eq!(claim_one(&mut single, dated(4, 22, "a", day)).await, Fresh);
        let Session { client, consumer, statements } = &mut batch;
        let copies = [dated(5, 6, "a", day), dated(6, 7, "a", day)];
        let moved = Transaction::begin(&mut *client, statements, consumer, &copies).await;
        let moved = moved.expect_err("it has moved");
        assert!(matches!(moved, StoreError::WindowMoved), "{moved:?}");
        assert!(!moved.blame().is_attempt());
        let (_tx, claims) =
            Transaction::begin(client, statements, consumer, &copies).await.unwrap();
        assert_eq!(claims.verdicts(), [Duplicate, Duplicate]);
    });
}
