//! The headers of a record: an event in, names and values out, in buffers that are used again.
//!
//! Headers are the largest cost per record, so they are few and short and built without an
//! allocation of their own. Names: `walpost_schema::envelope`; form: `docs/wire-format.md`.

use std::borrow::Cow;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use walpost_schema::envelope;

use crate::encode::Copy;
use crate::event::OutboxEvent;
use crate::limits;
use crate::park::ParkedEvent;

/// The row's headers cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadersError {
    /// The column holds something else than one JSON object.
    #[error("headers are not a json object (line {line} column {column})")]
    NotAnObject {
        /// Where reading ended.
        line: usize,
        /// Where reading ended.
        column: usize,
    },
    /// More headers than a record may have.
    #[error("the row has more than {limit} headers")]
    TooMany {
        /// The limit, ours included.
        limit: usize,
    },
}

/// The headers of one record, in buffers that are used again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Headers {
    text: String,
    /// Where the name ends and where the value ends (`None` for a null value), in `text`.
    ends: Vec<(usize, Option<usize>)>,
}

impl Headers {
    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let name = self.text.get(start..name_end).unwrap_or_default();
            let value = value_end.and_then(|end| self.text.get(name_end..end));
            start = value_end.unwrap_or(name_end);
            (name, value)
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Ours, then the row's own; how many of the row's were dropped for using our names.
    pub fn fill(
        &mut self,
        event: &OutboxEvent<'_>,
        source: &str,
        copy: Copy,
    ) -> Result<u64, HeadersError> {
        self.text.clear();
        self.ends.clear();
        self.add(envelope::HEADER_ID, Some(&event.id));
        self.add(envelope::HEADER_TYPE, Some(&event.event_type));
        self.add(envelope::HEADER_AGGREGATE_TYPE, Some(&event.aggregate_type));
        self.add(envelope::HEADER_SOURCE, Some(source));
        self.print(envelope::HEADER_LSN, |text| event.position.print(text));
        if let Some(created_at) = &event.created_at
            && !is_uuid_v7(&event.id)
        {
            self.print(envelope::HEADER_CREATED_AT, |text| print_rfc3339(text, created_at));
        }
        if copy == Copy::Released {
            self.add(envelope::HEADER_RELEASED, Some(envelope::RELEASED_PARKED));
        }
        match &event.headers {
            Some(json) => self.add_json(json),
            None => Ok(0),
        }
    }

    /// Ours as far as they are known, and why the event is given up. The row's own are left out:
    /// they may be what is wrong.
    pub fn fill_dead_letter(&mut self, parked: &ParkedEvent, source: &str) {
        self.text.clear();
        self.ends.clear();
        let row = &parked.row;
        let known = [
            (envelope::HEADER_ID, &row.id),
            (envelope::HEADER_TYPE, &row.event_type),
            (envelope::HEADER_AGGREGATE_TYPE, &row.aggregate_type),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                self.add(name, Some(value));
            }
        }
        self.add(envelope::HEADER_SOURCE, Some(source));
        self.add(envelope::HEADER_LSN, Some(&parked.identity.position.to_string()));
        self.add(envelope::HEADER_FAULT, Some(&parked.reason.code));
    }

    fn add(&mut self, name: &str, value: Option<&str>) {
        self.text.push_str(name);
        let name_end = self.text.len();
        let value_end = value.map(|value| {
            self.text.push_str(value);
            self.text.len()
        });
        self.ends.push((name_end, value_end));
    }

    /// A value that is printed in place: a text of its own would be an allocation for each event.
    fn print(&mut self, name: &str, value: impl FnOnce(&mut String)) {
        self.text.push_str(name);
        let name_end = self.text.len();
        value(&mut self.text);
        self.ends.push((name_end, Some(self.text.len())));
    }

    fn add_json(&mut self, json: &str) -> Result<u64, HeadersError> {
        if json == "null" {
            return Ok(0);
        }
        let mut parser = serde_json::Deserializer::from_str(json);
        let added = parser.deserialize_map(RowHeaders { headers: self });
        let dropped =
            added.and_then(|dropped| parser.end().map(|()| dropped)).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                HeadersError::NotAnObject { line, column }
            })?;
        if self.ends.len() > limits::HEADERS_MAX {
            return Err(HeadersError::TooMany { limit: limits::HEADERS_MAX });
        }
        Ok(dropped)
    }
}

/// Adds the members of a JSON object: text as it is, null as a null value, anything else as its
/// JSON text.
struct RowHeaders<'a> {
    headers: &'a mut Headers,
}

impl<'de> Visitor<'de> for RowHeaders<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a json object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut dropped = 0;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let value = map.next_value::<&'de RawValue>()?.get();
            if envelope::is_reserved_header(&name) {
                dropped += 1;
            } else if value == "null" {
                self.headers.add(&name, None);
            } else if value.starts_with('"') {
                let text: Cow<'_, str> =
                    serde_json::from_str(value).map_err(serde::de::Error::custom)?;
                self.headers.add(&name, Some(&text));
            } else {
                self.headers.add(&name, Some(value));
            }
        }
        Ok(dropped)
    }
}

/// A version 7 uuid carries its own time (RFC 9562, section 5.7).
fn is_uuid_v7(id: &str) -> bool {
    id.len() == 36 && id.as_bytes().get(14) == Some(&b'7')
}

/// `2026-11-21 10:00:00.5+00` as PostgreSQL prints it in UTC, in the form of RFC 3339.
fn print_rfc3339(into: &mut String, text: &str) {
    let (time, zone) = match text.strip_suffix("+00") {
        Some(time) => (time, "Z"),
        None => (text, ""),
    };
    match time.split_once(' ') {
        Some((day, time)) => into.extend([day, "T", time, zone]),
        None => into.extend([time, zone]),
    }
}

#[cfg(test)]
mod tests {
    use walpost_schema::envelope::EventPosition;

    use super::*;
    use crate::decode::PostgresMicros;
    use crate::event::Payload;

    fn event<'a>(id: &'a str, headers: Option<&'a str>) -> OutboxEvent<'a> {
        OutboxEvent {
            position: EventPosition { commit_lsn: 0x16B_3748, ordinal: 3 },
            commit_time: PostgresMicros(0),
            id: id.into(),
            aggregate_type: "order".into(),
            aggregate_id: "1".into(),
            event_type: "Placed".into(),
            payload: Payload::Tombstone,
            headers: headers.map(Into::into),
            schema_version: None,
            created_at: Some("2026-11-21 10:00:00.5+00".into()),
        }
    }

    fn filled(id: &str, headers: Option<&str>) -> Result<(Vec<String>, u64), HeadersError> {
        let mut buffer = Headers::default();
        let dropped = buffer.fill(&event(id, headers), "shop/1", Copy::First)?;
        let show = |(name, value): (&str, Option<&str>)| match value {
            Some(value) => format!("{name}={value}"),
            None => format!("{name} is null"),
        };
        Ok((buffer.iter().map(show).collect(), dropped))
    }

    const V7: &str = "018f3e2a-7b4c-7d1e-8a2b-3c4d5e6f7a8b";

    #[test]
    fn ours_come_first_and_a_time_ordered_id_needs_no_created_at() {
        let (headers, _) = filled(V7, None).expect("headers");
        let lsn = "lsn=0/16B3748:3";
        let ours = ["type=Placed", "aggregate_type=order", "source=shop/1", lsn];
        assert_eq!(headers[1..], ours);
        let (headers, _) = filled("a", None).expect("headers");
        assert_eq!(headers[5], "created_at=2026-11-21T10:00:00.5Z");
    }

    #[test]
    fn row_headers_are_plain_text_and_ours_are_reserved() {
        let json = r#"{"traceparent": "00-ab", "n": 1.50, "o": {"a": [1]}, "e": "\"\u00e9",
            "x": null, "id": "forged", "lsn": "0/0:0"}"#;
        let (headers, dropped) = filled(V7, Some(json)).expect("headers");
        let row = ["traceparent=00-ab", "n=1.50", "o={\"a\": [1]}", "e=\"é", "x is null"];
        assert_eq!(headers[5..], row);
        assert_eq!(dropped, 2);
    }

    #[test]
    fn anything_but_one_object_is_refused_and_null_is_no_headers() {
        for json in ["[]", "1", "{", "{} {}", "{\"a\":}"] {
            let refused = filled(V7, Some(json));
            assert!(matches!(refused, Err(HeadersError::NotAnObject { .. })), "{json}");
        }
        assert_eq!(filled(V7, Some("null")).expect("null").0.len(), 5);
    }

    #[test]
    fn a_record_has_a_bounded_number_of_headers() {
        let members: Vec<_> = (0..limits::HEADERS_MAX).map(|n| format!("\"h{n}\":1")).collect();
        let refused = filled(V7, Some(&format!("{{{}}}", members.join(","))));
        assert_eq!(refused, Err(HeadersError::TooMany { limit: limits::HEADERS_MAX }));
    }
}
