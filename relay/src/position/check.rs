//! Position and birth against the server: may the stream go on from here? Pure (I13).
//!
//! A slot behind the position is normal, because the position is recorded first, and because a
//! server that crashed may bring an older slot back. Anything else that does not fit is named and
//! refused: skipping on a position that belongs to another history loses events without a trace.

use super::record::{Birth, Position, SourceOids};
use crate::lsn::Lsn;
use crate::wal::{History, Left, ServerIdentity};

/// The database is not the one, or not where, the position says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Another PostgreSQL cluster answers at the address.
    #[error("the database is another cluster now: system id {found} instead of {expected}")]
    OtherDatabase {
        /// From the position.
        expected: String,
        /// From the server.
        found: String,
    },
    /// The database knows another birth than the position topic, or none.
    #[error(
        "database and position topic \"{topic}\" do not belong together: birth {found} in the \
         database, {expected} in the topic"
    )]
    OtherBirth {
        /// The position topic.
        topic: String,
        /// From the topic.
        expected: String,
        /// From `walpost.source`.
        found: String,
    },
    /// The position topic was written in another Kafka cluster.
    #[error("the kafka cluster is {found}, the source was made with {expected}")]
    OtherCluster {
        /// From the birth record.
        expected: String,
        /// From the brokers.
        found: String,
    },
    /// A primary from before a failover answers.
    #[error(
        "the server is on timeline {found}, behind timeline {recorded} of the position: it is a \
         primary from before a failover"
    )]
    TimelineBehind {
        /// The position's.
        recorded: u32,
        /// The server's.
        found: u32,
    },
    /// The server's history has no part of the timeline that the position is on.
    #[error("timeline {recorded} of the position is not in the history of timeline {found}")]
    OtherBranch {
        /// The position's.
        recorded: u32,
        /// The server's.
        found: u32,
    },
    /// Events were published that the new primary does not have.
    #[error(
        "events up to {mark} were published on timeline {recorded}, which the server left at \
         {fork} for timeline {found}: what lies between was lost in the failover and is in kafka"
    )]
    PublishedAhead {
        /// The position's timeline.
        recorded: u32,
        /// The server's.
        found: u32,
        /// Where the histories part.
        fork: Lsn,
        /// The end of what the position relies on.
        mark: Lsn,
    },
    /// The server's WAL ends before the position: a clone or a restore.
    #[error("the server's wal ends at {wal_end}, before the position {recorded}: it is a copy")]
    DatabaseBehind {
        /// The end of WAL.
        wal_end: Lsn,
        /// The position.
        recorded: Lsn,
    },
    /// The slot was moved by somebody else: what lies between was never published.
    #[error(
        "replication slot \"{slot}\" is at {confirmed}, ahead of the position {recorded}: it was \
         made anew or advanced, and events between the two were not published"
    )]
    SlotAhead {
        /// The slot.
        slot: String,
        /// Where it is.
        confirmed: Lsn,
        /// Where it may be at most.
        recorded: Lsn,
    },
    /// The position was written for another slot.
    #[error("the position was recorded for slot \"{recorded}\", the configuration says \"{slot}\"")]
    OtherSlot {
        /// The position's.
        recorded: String,
        /// The configured one.
        slot: String,
    },
    /// Publication or table were dropped and made again.
    #[error(
        "{what} was made anew since {recorded}: rows written while it was away, up to {wal_end}, \
         were not published"
    )]
    PublicationChanged {
        /// What.
        what: &'static str,
        /// The position.
        recorded: Lsn,
        /// The end of WAL.
        wal_end: Lsn,
    },
}

/// What the database shows of a source.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// Who the server is.
    pub identity: &'a ServerIdentity,
    /// How its timeline came about.
    pub history: &'a History,
    /// The slot's name.
    pub slot: &'a str,
    /// The slot's confirmed position.
    pub confirmed: Lsn,
    /// What the source reads from.
    pub oids: SourceOids,
}

/// Whether it is the same PostgreSQL cluster. Asked before anything is looked for in it: what is
/// missing in another one says nothing.
pub fn check_cluster(position: &Position, server: &ServerIdentity) -> Result<(), PositionError> {
    if position.system_id == server.system_id {
        return Ok(());
    }
    let (expected, found) = (position.system_id.clone(), server.system_id.clone());
    Err(PositionError::OtherDatabase { expected, found })
}

/// Whether the stream may go on from `position`.
pub fn check(position: &Position, present: &Present<'_>) -> Result<(), PositionError> {
    let Present { identity, history, slot, confirmed, oids } = *present;
    check_cluster(position, identity)?;
    check_history(position, history)?;
    let end = position.frontier.end;
    if identity.wal_end < end {
        let wal_end = identity.wal_end;
        return Err(PositionError::DatabaseBehind { wal_end, recorded: end });
    }
    if position.slot != slot {
        let (recorded, slot) = (position.slot.clone(), slot.to_owned());
        return Err(PositionError::OtherSlot { recorded, slot });
    }
    if confirmed > end {
        let slot = slot.to_owned();
        return Err(PositionError::SlotAhead { slot, confirmed, recorded: end });
    }
    check_oids(position, oids, identity.wal_end)
}

fn check_history(position: &Position, history: &History) -> Result<(), PositionError> {
    let (recorded, found) = (position.timeline, history.timeline());
    if found < recorded {
        return Err(PositionError::TimelineBehind { recorded, found });
    }
    let fork = match history.left(recorded) {
        None => return Err(PositionError::OtherBranch { recorded, found }),
        Some(Left::Never) => return Ok(()),
        Some(Left::At(fork)) => fork,
    };
    // A commit record that starts at the fork is not common any more; one that ends there is.
    let mark = position.frontier.mark;
    let reach = position.frontier.end.max(position.park_lsn);
    let last_commit_is_common = match mark.ordinal {
        Some(_) => mark.commit_lsn < fork,
        None => mark.commit_lsn <= fork,
    };
    if last_commit_is_common && reach <= fork {
        return Ok(());
    }
    Err(PositionError::PublishedAhead { recorded, found, fork, mark: reach.max(mark.commit_lsn) })
}

fn check_oids(position: &Position, now: SourceOids, wal_end: Lsn) -> Result<(), PositionError> {
    let Some(what) = position.oids.what_changed(now) else { return Ok(()) };
    let recorded = position.frontier.end;
    Err(PositionError::PublicationChanged { what, recorded, wal_end })
}

/// Whether position topic, database and Kafka cluster belong together.
pub fn check_birth(
    birth: &Birth,
    topic: &str,
    in_database: Option<uuid::Uuid>,
    cluster_id: Option<&str>,
) -> Result<(), PositionError> {
    if in_database != Some(birth.id) {
        let found = in_database.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let (topic, expected) = (topic.to_owned(), birth.id.to_string());
        return Err(PositionError::OtherBirth { topic, expected, found });
    }
    match (birth.cluster_id.as_deref(), cluster_id) {
        (Some(expected), Some(found)) if expected != found => {
            let (expected, found) = (expected.to_owned(), found.to_owned());
            Err(PositionError::OtherCluster { expected, found })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
