//! An event as it came: what of a row or a message could be read, kept so that it can be tried
//! again; and the names by which it is known in the lot. Pure.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use walpost_schema::envelope::EventPosition;

use crate::decode::PostgresMicros;
use crate::event::{self, EventError, OutboxEvent, Payload};

/// Which event it is, for ever: its place in the WAL of a timeline. An event id can be missing or
/// come twice; this cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The timeline whose WAL holds the commit.
    pub timeline: u32,
    /// The commit and the number in it.
    pub position: EventPosition,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.timeline, self.position)
    }
}

/// The name of a sequence: an aggregate, or an event without a readable aggregate id by itself.
///
/// As a text it has one spelling, `5:order/42` or `@1/0/16B3748:3`; the length in front keeps
/// `a/b` + `c` and `a` + `b/c` apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(Arc<str>);

impl SequenceId {
    /// As it is kept in the database.
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// As it is kept in the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Writes the name of an aggregate's sequence into a buffer that is used again.
    pub fn write(into: &mut String, aggregate_type: &str, aggregate_id: &str) {
        use fmt::Write as _;
        into.clear();
        // Writing to a String cannot fail.
        let _ = write!(into, "{}:{aggregate_type}/{aggregate_id}", aggregate_type.len());
    }
}

/// Why an event is in the lot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The code of the fault, the name of its page; `behind` for one that queues behind another.
    pub code: Cow<'static, str>,
    /// The fault in words, without values of the payload (I12).
    pub detail: String,
}

impl Reason {
    /// The event is as good as any: its sequence is closed.
    pub fn behind() -> Self {
        let detail = "queues behind an earlier event of its aggregate".to_owned();
        Self { code: Cow::Borrowed(Self::BEHIND), detail }
    }

    /// The code of [`Self::behind`].
    pub const BEHIND: &str = "behind";
}

/// The content of a row or message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawPayload {
    /// NULL.
    Tombstone,
    /// A json or jsonb column, or the payload of a logical message.
    Json(String),
    /// A text column.
    Text(String),
    /// A bytea column in PostgreSQL's hex form.
    Hex(String),
    /// A logical message that is not an event: the whole of it.
    Message(Vec<u8>),
    /// Not kept: the row was larger than what is taken from the stream.
    Absent {
        /// What the stream said of its size.
        bytes: u64,
    },
}

impl RawPayload {
    /// The word for it in the database.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::Json(_) => "json",
            Self::Text(_) => "text",
            Self::Hex(_) => "hex",
            Self::Message(_) => "message",
            Self::Absent { .. } => "absent",
        }
    }

    /// What is kept of it.
    pub fn bytes(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Tombstone => None,
            Self::Json(text) | Self::Text(text) | Self::Hex(text) => {
                Some(Cow::Borrowed(text.as_bytes()))
            }
            Self::Message(content) => Some(Cow::Borrowed(content)),
            Self::Absent { bytes } => Some(Cow::Owned(bytes.to_string().into_bytes())),
        }
    }

    /// From what is kept of it; `None` for a kind that nothing writes.
    pub fn from_kept(kind: &str, bytes: Option<Vec<u8>>) -> Option<Self> {
        let content = bytes.unwrap_or_default();
        let text = |content: Vec<u8>| String::from_utf8(content).ok();
        match kind {
            "tombstone" => Some(Self::Tombstone),
            "json" => text(content).map(Self::Json),
            "text" => text(content).map(Self::Text),
            "hex" => text(content).map(Self::Hex),
            "message" => Some(Self::Message(content)),
            "absent" => {
                let bytes = text(content)?.parse().ok()?;
                Some(Self::Absent { bytes })
            }
            _ => None,
        }
    }
}

/// What could be read of a row or a message, field by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRow {
    /// The event id.
    pub id: Option<String>,
    /// The kind of thing that changed.
    pub aggregate_type: Option<String>,
    /// Which one.
    pub aggregate_id: Option<String>,
    /// What happened.
    pub event_type: Option<String>,
    /// The content.
    pub payload: RawPayload,
    /// The row's headers as text.
    pub headers: Option<String>,
    /// The row's schema version as text.
    pub schema_version: Option<String>,
    /// When the writer made it.
    pub created_at: Option<String>,
    /// The first column whose bytes are not UTF-8: it is missing above, and not NULL.
    pub unreadable: Option<String>,
}

impl RawRow {
    /// Nothing but a content.
    pub fn only(payload: RawPayload) -> Self {
        Self {
            id: None,
            aggregate_type: None,
            aggregate_id: None,
            event_type: None,
            payload,
            headers: None,
            schema_version: None,
            created_at: None,
            unreadable: None,
        }
    }

    /// The event in it, as it would have been read from the stream.
    pub fn event(
        &self,
        position: EventPosition,
        commit_time: PostgresMicros,
    ) -> Result<OutboxEvent<'_>, EventError> {
        if let Some(column) = &self.unreadable {
            return Err(EventError::NotUtf8 { column: column.clone() });
        }
        let payload = match &self.payload {
            RawPayload::Message(content) => {
                return event::read_message(content, position, commit_time);
            }
            RawPayload::Absent { bytes } => return Err(EventError::TooLarge { bytes: *bytes }),
            RawPayload::Tombstone => Payload::Tombstone,
            RawPayload::Json(text) => Payload::Json(Cow::Borrowed(text)),
            RawPayload::Text(text) => Payload::Text(Cow::Borrowed(text)),
            RawPayload::Hex(text) => Payload::Hex(text),
        };
        let demand = |field: &'static str, value: &'_ Option<String>| match value {
            Some(text) => Ok(Cow::Owned(text.clone())),
            None => Err(EventError::Null { column: field.to_owned() }),
        };
        Ok(OutboxEvent {
            position,
            commit_time,
            id: demand("id", &self.id)?,
            aggregate_type: demand("aggregate_type", &self.aggregate_type)?,
            aggregate_id: demand("aggregate_id", &self.aggregate_id)?,
            event_type: demand("event_type", &self.event_type)?,
            payload,
            headers: self.headers.as_deref().map(Cow::Borrowed),
            schema_version: self.schema_version.as_deref().map(event::version_of).transpose()?,
            created_at: self.created_at.as_deref().map(Cow::Borrowed),
        })
    }
}

/// An event on its way into the lot, or out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Which event it is.
    pub identity: Identity,
    /// When its transaction committed.
    pub commit_time: PostgresMicros,
    /// What it holds.
    pub row: RawRow,
    /// Why it is here.
    pub reason: Reason,
}

impl ParkedEvent {
    /// Its sequence.
    pub fn sequence(&self) -> SequenceId {
        match (&self.row.aggregate_type, &self.row.aggregate_id) {
            (Some(aggregate_type), Some(aggregate_id)) => {
                let mut text = String::new();
                SequenceId::write(&mut text, aggregate_type, aggregate_id);
                SequenceId(text.into())
            }
            _ => SequenceId(format!("@{}", self.identity).into()),
        }
    }

    /// What it weighs in the lot and on its way there.
    pub fn bytes(&self) -> u64 {
        let row = &self.row;
        let texts = [
            &row.id,
            &row.aggregate_type,
            &row.aggregate_id,
            &row.event_type,
            &row.headers,
            &row.created_at,
        ];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let payload = row.payload.bytes().map_or(0, |bytes| bytes.len());
        (texts + payload + self.reason.detail.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(aggregate_type: Option<&str>, aggregate_id: Option<&str>) -> ParkedEvent {
        let mut row = RawRow::only(RawPayload::Tombstone);
        row.aggregate_type = aggregate_type.map(str::to_owned);
        row.aggregate_id = aggregate_id.map(str::to_owned);
        let position = EventPosition { commit_lsn: 0x16B_3748, ordinal: 3 };
        ParkedEvent {
            identity: Identity { timeline: 1, position },
            commit_time: PostgresMicros(0),
            row,
            reason: Reason::behind(),
        }
    }

    #[test]
    fn sequences_are_told_apart_whatever_their_names_hold() {
        let of = |kind, id| parked(Some(kind), Some(id)).sequence().as_str().to_owned();
        assert_eq!(of("order", "42"), "5:order/42");
        assert_ne!(of("a/b", "c"), of("a", "b/c"));
        assert_ne!(of("1", "2"), of("1:1/2", ""));
        let alone = parked(Some("order"), None).sequence();
        assert_eq!(alone.as_str(), "@1/0/16B3748:3");
        assert_eq!(parked(None, Some("42")).sequence(), alone);
    }

    #[test]
    fn what_is_kept_is_what_comes_back() {
        let all = [
            RawPayload::Tombstone,
            RawPayload::Json("{}".to_owned()),
            RawPayload::Text("ä".to_owned()),
            RawPayload::Hex("\\x00".to_owned()),
            RawPayload::Message(vec![0xFF]),
            RawPayload::Absent { bytes: 17_000_000 },
        ];
        for payload in all {
            let kept = payload.bytes().map(Cow::into_owned);
            assert_eq!(RawPayload::from_kept(payload.kind(), kept), Some(payload));
        }
        assert_eq!(RawPayload::from_kept("other", None), None);
        assert_eq!(RawPayload::from_kept("json", Some(vec![0xFF])), None);
    }

    #[test]
    fn a_raw_row_fails_again_as_it_failed_first() {
        let at = EventPosition { commit_lsn: 1, ordinal: 0 };
        let read = |row: &RawRow| {
            row.event(at, PostgresMicros(0))
                .map(|event| event.id.into_owned())
                .map_err(|e| e.to_string())
        };
        let mut row = parked(Some("order"), Some("42")).row;
        assert_eq!(read(&row), Err("column \"id\" is null".to_owned()));
        row.id = Some("1".to_owned());
        row.event_type = Some("Placed".to_owned());
        assert_eq!(read(&row), Ok("1".to_owned()));
        row.schema_version = Some("0".to_owned());
        assert_eq!(read(&row), Err("schema_version is 0, versions count from 1".to_owned()));
        row.unreadable = Some("headers".to_owned());
        assert_eq!(read(&row), Err("column \"headers\" is not utf-8".to_owned()));
        row.unreadable = None;
        row.payload = RawPayload::Absent { bytes: 17 };
        assert!(read(&row).is_err());
    }
}
