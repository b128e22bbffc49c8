//! Each way in which a database can have changed under a position, as a table.

use std::sync::Arc;

use super::*;
use crate::position::LowestOffsets;
use crate::position::record::{Frontier, Mark};

const OIDS: SourceOids = SourceOids { publication: 1, publication_rel: 2, table: 3 };

/// Two transactions are done: the last commit is at 0x200 and ends at 0x208.
fn position() -> Position {
    Position {
        system_id: "7".to_owned(),
        timeline: 2,
        slot: "walpost".to_owned(),
        frontier: Frontier {
            mark: Mark { commit_lsn: Lsn(0x200), ordinal: Some(4) },
            end: Lsn(0x208),
        },
        park_lsn: Lsn::ZERO,
        oids: OIDS,
        offsets: LowestOffsets::from([(Arc::from("orders"), vec![Some(1)])]),
    }
}

struct Server {
    system_id: &'static str,
    timeline: u32,
    history: &'static str,
    wal_end: u64,
    slot: &'static str,
    confirmed: u64,
    oids: SourceOids,
}

/// The server as it was when the position was recorded.
const SAME: Server = Server {
    system_id: "7",
    timeline: 2,
    history: "1 0/100",
    wal_end: 0x208,
    slot: "walpost",
    confirmed: 0x208,
    oids: OIDS,
};

fn judge(position: &Position, server: &Server) -> Result<(), PositionError> {
    let identity = ServerIdentity {
        system_id: server.system_id.to_owned(),
        timeline: server.timeline,
        wal_end: Lsn(server.wal_end),
        version_num: 150_000,
        wal_sender_timeout_ms: 60_000,
    };
    let history = History::parse(server.timeline, server.history).expect("history");
    check(
        position,
        &Present {
            identity: &identity,
            history: &history,
            slot: server.slot,
            confirmed: Lsn(server.confirmed),
            oids: server.oids,
        },
    )
}

#[test]
fn the_same_server_and_a_slot_that_is_behind_are_fine() {
    assert_eq!(judge(&position(), &SAME), Ok(()));
    assert_eq!(judge(&position(), &Server { confirmed: 0x10, wal_end: 0x900, ..SAME }), Ok(()));
}

#[test]
fn another_cluster_or_a_copy_of_it_is_refused() {
    let other = judge(&position(), &Server { system_id: "8", ..SAME });
    assert!(matches!(other, Err(PositionError::OtherDatabase { .. })));
    let behind = judge(&position(), &Server { wal_end: 0x207, confirmed: 0, ..SAME });
    assert!(matches!(behind, Err(PositionError::DatabaseBehind { .. })));
}

#[test]
fn a_slot_ahead_of_the_position_is_damage() {
    let ahead = judge(&position(), &Server { confirmed: 0x209, wal_end: 0x900, ..SAME });
    assert_eq!(
        ahead.expect_err("ahead").to_string(),
        "replication slot \"walpost\" is at 0/209, ahead of the position 0/208: it was made anew \
         or advanced, and events between the two were not published"
    );
    let other = judge(&position(), &Server { slot: "another", ..SAME });
    assert!(matches!(other, Err(PositionError::OtherSlot { .. })));
}

#[test]
fn a_failover_that_has_everything_goes_on_and_one_that_lacks_events_does_not() {
    let promoted = |history| Server { timeline: 3, history, wal_end: 0x900, ..SAME };
    assert_eq!(judge(&position(), &promoted("1 0/100\n2 0/208")), Ok(()));
    for (history, reason) in [
        ("1 0/100\n2 0/207", "the commit record is cut off"),
        ("1 0/100\n2 0/200", "the commit starts at the fork"),
        ("1 0/100\n2 0/150", "the commit is on the abandoned branch"),
    ] {
        let ahead = judge(&position(), &promoted(history));
        assert!(matches!(ahead, Err(PositionError::PublishedAhead { .. })), "{reason}: {ahead:?}");
    }
}

#[test]
fn a_position_inside_a_transaction_counts_by_its_commit() {
    let mut inside = position();
    inside.frontier.end = Lsn(0x180);
    let promoted =
        |history| Server { timeline: 3, history, wal_end: 0x900, confirmed: 0x180, ..SAME };
    // Everything that is done ends before the fork, and yet events of a commit beyond it are out.
    let ahead = judge(&inside, &promoted("1 0/100\n2 0/190"));
    assert!(matches!(ahead, Err(PositionError::PublishedAhead { .. })), "{ahead:?}");
    assert_eq!(judge(&inside, &promoted("1 0/100\n2 0/201")), Ok(()));
}

#[test]
fn changes_of_the_parking_tables_must_have_survived_as_well() {
    let parked = Position { park_lsn: Lsn(0x300), ..position() };
    let promoted = |history| Server { timeline: 3, history, wal_end: 0x900, ..SAME };
    let ahead = judge(&parked, &promoted("1 0/100\n2 0/208"));
    assert!(matches!(ahead, Err(PositionError::PublishedAhead { .. })));
    assert_eq!(judge(&parked, &promoted("1 0/100\n2 0/300")), Ok(()));
}

#[test]
fn old_primaries_and_other_branches_are_told_apart() {
    let old = judge(&position(), &Server { timeline: 1, history: "", ..SAME });
    assert!(matches!(old, Err(PositionError::TimelineBehind { .. })));
    let branch = Server { timeline: 3, history: "1 0/100", wal_end: 0x900, ..SAME };
    assert!(matches!(judge(&position(), &branch), Err(PositionError::OtherBranch { .. })));
}

#[test]
fn what_was_dropped_and_made_again_is_named_with_its_range() {
    for (oids, what) in [
        (SourceOids { table: 9, ..OIDS }, "the outbox table"),
        (SourceOids { publication: 9, ..OIDS }, "the publication"),
        (SourceOids { publication_rel: 9, ..OIDS }, "the outbox table's entry in the publication"),
    ] {
        let changed = judge(&position(), &Server { oids, wal_end: 0x900, ..SAME });
        assert_eq!(
            changed.expect_err(what).to_string(),
            format!(
                "{what} was made anew since 0/208: rows written while it was away, up to 0/900, \
                 were not published"
            )
        );
    }
}

#[test]
fn birth_ties_database_topic_and_cluster() {
    let id = uuid::Uuid::from_u128(1);
    let cluster_id = Some("abc".to_owned());
    let birth = Birth { id, system_id: "7".to_owned(), cluster_id };
    let judge = |database, cluster| check_birth(&birth, "walpost.position.shop", database, cluster);
    assert_eq!(judge(Some(id), Some("abc")), Ok(()));
    assert_eq!(judge(Some(id), None), Ok(()));
    assert!(matches!(judge(None, Some("abc")), Err(PositionError::OtherBirth { .. })));
    let other = judge(Some(uuid::Uuid::nil()), Some("abc"));
    assert!(matches!(other, Err(PositionError::OtherBirth { .. })));
    assert!(matches!(judge(Some(id), Some("x")), Err(PositionError::OtherCluster { .. })));
}
