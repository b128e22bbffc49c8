//! The position record and the birth record: what a source knows of itself in, keys and values of
//! its position topic out, and back. Pure.
//!
//! ```text
//!   birth                {"id": "..", "system_id": "..", "cluster_id": ".."}
//!   position/<instance>  {"system_id": "..", "timeline": 1, "slot": "..",
//!                         "commit_lsn": "0/16B3748", "ordinal": 3, "end_lsn": "0/16B3790",
//!                         "park_lsn": "0/0", "oids": {..}, "offsets": {"orders": [12, null]}}
//! ```
//!
//! The position says: every event at or below (commit LSN, ordinal) is in Kafka or parked, every
//! transaction that ends at or below the end LSN is done, and the records of later events lie at or
//! above these offsets. An ordinal of `null` stands before the first event of that commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use walpost_schema::envelope::EventPosition;

use super::offsets::LowestOffsets;
use crate::lsn::Lsn;

/// The key of the birth record.
pub const BIRTH_KEY: &str = "birth";
const POSITION_KEY: &str = "position/";

/// A place between two events in the order of a source: those at or below it are dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark {
    /// The commit.
    pub commit_lsn: Lsn,
    /// The last event of it that is dealt with; `None` before its first.
    pub ordinal: Option<u32>,
}

impl Mark {
    /// Before everything that commits at `at` or later.
    pub fn before(at: Lsn) -> Self {
        Self { commit_lsn: at, ordinal: None }
    }

    /// Just after an event.
    pub fn after(event: EventPosition) -> Self {
        Self { commit_lsn: Lsn(event.commit_lsn), ordinal: Some(event.ordinal) }
    }

    /// Whether the event is at or below this.
    pub fn covers(self, event: EventPosition) -> bool {
        Self::after(event) <= self
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ordinal {
            Some(ordinal) => write!(f, "{}:{ordinal}", self.commit_lsn),
            None => write!(f, "{}", self.commit_lsn),
        }
    }
}

/// A mark, and the end of the last transaction that is done whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frontier {
    /// Everything at or below it is dealt with.
    pub mark: Mark,
    /// Up to here the slot may be confirmed.
    pub end: Lsn,
}

/// The catalog's numbers for what a source reads from: dropping and making anew keeps every name
/// and loses rows, so the numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceOids {
    /// Of the row in pg_publication.
    pub publication: u32,
    /// Of the row in pg_publication_rel; 0 where the publication names no single tables.
    pub publication_rel: u32,
    /// Of the outbox table.
    pub table: u32,
}

impl SourceOids {
    /// What was dropped and made again, in words; `None` where nothing was.
    pub fn what_changed(self, now: Self) -> Option<&'static str> {
        if self.table != now.table {
            Some("the outbox table")
        } else if self.publication != now.publication {
            Some("the publication")
        } else if self.publication_rel != now.publication_rel {
            Some("the outbox table's entry in the publication")
        } else {
            None
        }
    }
}

/// Where a source stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The cluster.
    pub system_id: String,
    /// The timeline it was on.
    pub timeline: u32,
    /// The slot.
    pub slot: String,
    /// How far it is.
    pub frontier: Frontier,
    /// The WAL position after the last change of the parking tables that this relies on.
    pub park_lsn: Lsn,
    /// What it reads from.
    pub oids: SourceOids,
    /// From where on records of later events can lie.
    pub offsets: LowestOffsets,
}

impl Position {
    /// How far, comparable between the instances of one source: of two positions the later one
    /// counts.
    pub fn rank(&self) -> (u32, Mark, Lsn) {
        (self.timeline, self.frontier.mark, self.frontier.end)
    }
}

/// What ties a source to its database and its Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Birth {
    /// Made at random by `walpost init`, kept in the database too.
    pub id: Uuid,
    /// The PostgreSQL cluster.
    pub system_id: String,
    /// The Kafka cluster; `None` where it does not tell.
    pub cluster_id: Option<String>,
}

/// A record of the position topic that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read: {reason}")]
pub struct RecordError {
    what: String,
    reason: String,
}

/// A record of the position topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PositionRecord {
    /// The birth record.
    Birth(Birth),
    /// The position as an instance wrote it.
    Position {
        /// The instance.
        instance: String,
        /// What it says.
        position: Position,
    },
    /// An instance that is over.
    Gone {
        /// The instance.
        instance: String,
    },
    /// A key that is not ours; it is left alone.
    Foreign,
}

impl PositionRecord {
    /// Reads a record by its key.
    pub fn read(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let Ok(key) = std::str::from_utf8(key) else { return Ok(Self::Foreign) };
        let unreadable = |reason: serde_json::Error| RecordError {
            what: format!("record \"{key}\" of the position topic"),
            reason: reason.to_string(),
        };
        if let Some(instance) = key.strip_prefix(POSITION_KEY) {
            let instance = instance.to_owned();
            let Some(value) = value else { return Ok(Self::Gone { instance }) };
            let written: WrittenPosition = serde_json::from_slice(value).map_err(unreadable)?;
            let position = written.resolve().map_err(|reason| RecordError {
                what: format!("record \"{key}\" of the position topic"),
                reason,
            })?;
            return Ok(Self::Position { instance, position });
        }
        match (key, value) {
            (BIRTH_KEY, Some(value)) => {
                Ok(Self::Birth(serde_json::from_slice(value).map_err(unreadable)?))
            }
            _ => Ok(Self::Foreign),
        }
    }
}

/// The key under which an instance writes.
pub fn position_key(instance: &str) -> String {
    format!("{POSITION_KEY}{instance}")
}

/// The value of a birth record.
pub fn write_birth(birth: &Birth) -> Vec<u8> {
    // Strings and numbers only: nothing here can fail to serialize.
    serde_json::to_vec(birth).unwrap_or_default()
}

/// The value of a position record.
pub fn write_position(position: &Position) -> Vec<u8> {
    let written = WrittenPosition {
        system_id: position.system_id.clone(),
        timeline: position.timeline,
        slot: position.slot.clone(),
        commit_lsn: position.frontier.mark.commit_lsn.to_string(),
        ordinal: position.frontier.mark.ordinal,
        end_lsn: position.frontier.end.to_string(),
        park_lsn: position.park_lsn.to_string(),
        oids: position.oids,
        offsets: position
            .offsets
            .iter()
            .map(|(topic, of)| (topic.to_string(), of.clone()))
            .collect(),
    };
    serde_json::to_vec(&written).unwrap_or_default()
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPosition {
    system_id: String,
    timeline: u32,
    slot: String,
    commit_lsn: String,
    ordinal: Option<u32>,
    end_lsn: String,
    park_lsn: String,
    oids: SourceOids,
    offsets: BTreeMap<String, Vec<Option<i64>>>,
}

impl WrittenPosition {
    fn resolve(self) -> Result<Position, String> {
        let lsn = |text: &str| text.parse::<Lsn>().map_err(|error| error.to_string());
        let mark = Mark { commit_lsn: lsn(&self.commit_lsn)?, ordinal: self.ordinal };
        Ok(Position {
            system_id: self.system_id,
            timeline: self.timeline,
            slot: self.slot,
            frontier: Frontier { mark, end: lsn(&self.end_lsn)? },
            park_lsn: lsn(&self.park_lsn)?,
            oids: self.oids,
            offsets: self.offsets.into_iter().map(|(topic, of)| (Arc::from(topic), of)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn position() -> Position {
        Position {
            system_id: "7345".to_owned(),
            timeline: 2,
            slot: "walpost".to_owned(),
            frontier: Frontier {
                mark: Mark { commit_lsn: Lsn(0x16B_3748), ordinal: Some(3) },
                end: Lsn(0x16B_3700),
            },
            park_lsn: Lsn(7),
            oids: SourceOids { publication: 1, publication_rel: 2, table: 3 },
            offsets: LowestOffsets::from([(Arc::from("orders"), vec![Some(12), None])]),
        }
    }

    fn pretty(value: &[u8]) -> String {
        let written: WrittenPosition = serde_json::from_slice(value).expect("json");
        serde_json::to_string_pretty(&written).expect("text")
    }

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let value = write_position(&position());
        expect![[r#"
            {
              "system_id": "7345",
              "timeline": 2,
              "slot": "walpost",
              "commit_lsn": "0/16B3748",
              "ordinal": 3,
              "end_lsn": "0/16B3700",
              "park_lsn": "0/7",
              "oids": {
                "publication": 1,
                "publication_rel": 2,
                "table": 3
              },
              "offsets": {
                "orders": [
                  12,
                  null
                ]
              }
            }"#]]
        .assert_eq(&pretty(&value));
        let read = PositionRecord::read(b"position/a-b", Some(&value));
        let instance = "a-b".to_owned();
        assert_eq!(read, Ok(PositionRecord::Position { instance, position: position() }));
    }

    #[test]
    fn birth_tombstones_and_strangers_are_told_apart() {
        let birth = Birth { id: Uuid::nil(), system_id: "7".to_owned(), cluster_id: None };
        let value = write_birth(&birth);
        assert_eq!(PositionRecord::read(b"birth", Some(&value)), Ok(PositionRecord::Birth(birth)));
        let gone = PositionRecord::Gone { instance: "x".to_owned() };
        assert_eq!(PositionRecord::read(b"position/x", None), Ok(gone));
        for key in [&b"other"[..], b"\xFF"] {
            assert_eq!(PositionRecord::read(key, Some(b"{}")), Ok(PositionRecord::Foreign));
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_not_an_absence() {
        for value in [&b"{}"[..], b"", b"not json"] {
            PositionRecord::read(b"position/x", Some(value)).expect_err("unreadable");
            PositionRecord::read(b"birth", Some(value)).expect_err("unreadable");
        }
        let value = String::from_utf8(write_position(&position())).expect("text");
        let broken = value.replace("0/16B3748", "nowhere");
        PositionRecord::read(b"position/x", Some(broken.as_bytes())).expect_err("unreadable");
    }

    #[test]
    fn a_mark_covers_its_own_event_and_none_of_the_next_commit() {
        let event = |commit_lsn, ordinal| EventPosition { commit_lsn, ordinal };
        let mark = Mark::after(event(100, 2));
        assert!(mark.covers(event(100, 2)) && mark.covers(event(99, 9)));
        assert!(!mark.covers(event(100, 3)) && !mark.covers(event(101, 0)));
        assert!(!Mark::before(Lsn(100)).covers(event(100, 0)));
        assert!(Mark::before(Lsn(100)).covers(event(99, u32::MAX)));
    }

    #[test]
    fn of_two_positions_the_one_on_the_later_timeline_counts() {
        let mut later = position();
        later.timeline = 3;
        later.frontier = Frontier::default();
        assert!(later.rank() > position().rank());
    }
}
