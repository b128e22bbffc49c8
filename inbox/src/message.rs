//! A record as Kafka has it in; what the inbox decides by out: id, day, place and sequence.
//!
//! An event's id is the writer's, in the header `id` (I9); one that is no UUID is made into one. A
//! record without any, from another producer, gets an id made of its position, so that it is
//! handled once as long as it stays where it is. The day of an id is fixed by the same writer and
//! never by us: copies of an event must meet in one partition of the claims, whenever they arrive.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use uuid::Uuid;
use walpost_schema::envelope;

use crate::store::day::Day;

/// Longer keys stand in a sequence's name by their digest: a row of an index has a bound.
const KEY_IN_FULL_MAX: usize = 512;

/// A record of a topic, with its bytes as they were read.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since 1970, as Kafka says. Decides nothing here.
    pub time_ms: Option<i64>,
    /// The key: the aggregate's id.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Ids and sizes only: a payload never stands in a log (I12).
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("value_bytes", &self.value.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

impl Record {
    /// The first header of this name as text.
    ///
    /// ```
    /// # use walpost_inbox::Record;
    /// let record = Record {
    ///     topic: "events.order".into(), partition: 0, offset: 7, time_ms: None,
    ///     key: Some(b"42".to_vec()), value: None,
    ///     headers: vec![("type".into(), Some(b"shop.OrderPlaced".to_vec()))],
    /// };
    /// assert_eq!(record.header("type"), Some("shop.OrderPlaced"));
    /// assert_eq!(record.header("id"), None);
    /// ```
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// What it holds in memory, for bounds.
    ///
    /// ```
    /// # use walpost_inbox::Record;
    /// # let record = Record {
    /// #     topic: "t".into(), partition: 0, offset: 7, time_ms: None, key: None,
    /// #     value: Some(vec![0; 1_000]), headers: Vec::new(),
    /// # };
    /// assert!(record.bytes() > 1_000);
    /// ```
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of_header = |(name, value): &(String, Option<Vec<u8>>)| {
            name.len() + value.as_ref().map_or(0, Vec::len) + 48
        };
        self.key.as_ref().map_or(0, Vec::len)
            + self.value.as_ref().map_or(0, Vec::len)
            + self.headers.iter().map(of_header).sum::<usize>()
            + 160
    }

    /// The same for the same record for ever, and most likely another one for any other.
    pub(crate) fn digest(&self) -> i64 {
        let part =
            |bytes: &Option<Vec<u8>>| bytes.as_deref().map(Sha256::digest).unwrap_or_default();
        let digest = Sha256::new()
            .chain_update(self.time_ms.unwrap_or(-1).to_be_bytes())
            .chain_update(part(&self.key))
            .chain_update(part(&self.value))
            .finalize();
        digest.first_chunk().map_or(0, |first| i64::from_be_bytes(*first))
    }
}

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What a claim needs to know of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRef {
    /// The event id.
    pub id: Uuid,
    /// The day of the id.
    pub day: Day,
    /// Topic and partition.
    pub place: Place,
    /// The offset.
    pub offset: i64,
    /// The name of the sequence: what is parked together.
    pub sequence: Arc<[u8]>,
}

impl MessageRef {
    /// Reads id and day from the headers.
    ///
    /// ```
    /// # use walpost_inbox::{MessageRef, Record};
    /// let record = Record {
    ///     topic: "events.order".into(), partition: 0, offset: 7, time_ms: None,
    ///     key: Some(b"42".to_vec()), value: None,
    ///     headers: vec![("id".into(), Some(b"01a1fecd-53b5-75db-82e2-5f303aba9c5e".to_vec()))],
    /// };
    /// let message = MessageRef::of(&record, "the-cluster");
    /// assert_eq!(message.id.to_string(), "01a1fecd-53b5-75db-82e2-5f303aba9c5e");
    /// assert_eq!(message.day.to_string(), "2026-11-21");
    /// assert_eq!(&*message.sequence, b"\x0142");
    /// ```
    #[must_use]
    pub fn of(record: &Record, cluster: &str) -> Self {
        let (id, day) = match written_id(record) {
            Some(id) => (id, Day::of(id, record.header(envelope::HEADER_CREATED_AT))),
            None => (position_id(record, cluster), Day::NONE),
        };
        let place = Place { topic: Arc::clone(&record.topic), partition: record.partition };
        let sequence = sequence(record.key.as_deref(), id);
        Self { id, day, place, offset: record.offset, sequence }
    }
}

/// What the writer calls the event (I9). One that is no UUID, from another producer, is made into
/// one: its copies must meet wherever they stand.
fn written_id(record: &Record) -> Option<Uuid> {
    let (_, value) = record.headers.iter().find(|(name, _)| name == envelope::HEADER_ID)?;
    let bytes = value.as_deref().filter(|bytes| !bytes.is_empty())?;
    let text = std::str::from_utf8(bytes).ok();
    let parsed = text.and_then(|text| Uuid::parse_str(text.trim()).ok());
    Some(parsed.unwrap_or_else(|| made_id(Sha256::new().chain_update(bytes))))
}

/// An id for a record that has none: the same for each reading of the same place, and different
/// for every partition, topic and cluster. Version 8: made by rules of our own.
fn position_id(record: &Record, cluster: &str) -> Uuid {
    let mut digest = Sha256::new();
    for part in [cluster.as_bytes(), record.topic.as_bytes()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.update(record.partition.to_be_bytes());
    digest.update(record.offset.to_be_bytes());
    made_id(digest)
}

fn made_id(digest: Sha256) -> Uuid {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest.finalize()).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The name of a sequence. An event without a key is a sequence of its own.
fn sequence(key: Option<&[u8]>, id: Uuid) -> Arc<[u8]> {
    match key {
        None => [&[0], id.as_bytes().as_slice()].concat().into(),
        Some(key) if key.len() <= KEY_IN_FULL_MAX => [&[1], key].concat().into(),
        Some(key) => [&[2], Sha256::digest(key).as_slice()].concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64) -> Record {
        Record {
            topic: "t".into(),
            partition,
            offset,
            time_ms: Some(1),
            key: None,
            value: Some(b"secret".to_vec()),
            headers: Vec::new(),
        }
    }

    /// Trap 12: offsets repeat in every partition, and topics in every cluster.
    #[test]
    fn an_id_made_of_a_position_differs_by_partition_offset_topic_and_cluster() {
        let of =
            |partition, offset, cluster| MessageRef::of(&record(partition, offset), cluster).id;
        let here = of(0, 5, "a");
        assert_eq!(here, of(0, 5, "a"));
        let other_topic = Record { topic: "u".into(), ..record(0, 5) };
        for other in
            [of(1, 5, "a"), of(0, 6, "a"), of(0, 5, "b"), { MessageRef::of(&other_topic, "a").id }]
        {
            assert_ne!(here, other);
        }
        assert_eq!(here.get_version_num(), 8);
        assert_eq!(MessageRef::of(&record(0, 5), "a").day, Day::NONE);
    }

    /// Trap 11: two events with the same content are two events; it is the id that counts.
    #[test]
    fn an_id_that_is_no_uuid_is_the_same_wherever_its_copies_stand() {
        let named = |id: &[u8], offset| {
            let headers = vec![("id".to_owned(), Some(id.to_vec()))];
            MessageRef::of(&Record { headers, ..record(0, offset) }, "a").id
        };
        assert_eq!(named(b"order-17", 5), named(b"order-17", 9));
        assert_ne!(named(b"order-17", 5), named(b"order-18", 5));
        assert_eq!(named(&[0xFF; 16], 5), named(&[0xFF; 16], 9));
        assert_eq!(named(b"order-17", 5).get_version_num(), 8);
        // An empty one names nothing.
        assert_ne!(named(b"", 5), named(b"", 6));
        let v7 = "01a1fecd-53b5-75db-82e2-5f303aba9c5e";
        assert_eq!(named(v7.to_uppercase().as_bytes(), 1).to_string(), v7);
    }

    #[test]
    fn long_keys_and_missing_keys_have_sequences_that_meet_nobody_elses() {
        let long = vec![7; 600];
        let id = Uuid::from_u128(1);
        assert_eq!(sequence(Some(&long), id).len(), 33);
        assert_eq!(sequence(None, id).len(), 17);
        assert_ne!(sequence(Some(&[]), id), sequence(None, id));
        assert_ne!(sequence(None, id), sequence(None, Uuid::from_u128(2)));
    }

    #[test]
    fn a_record_in_a_log_shows_no_payload() {
        assert!(!format!("{:?}", record(0, 1)).contains("secret"));
    }
}
