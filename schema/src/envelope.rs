//! What travels beside the payload: header names, event positions and source names, as text.
//!
//! This file is the only definition of these names and forms; `docs/wire-format.md` describes it
//! to people who read the records in other languages. Printing and parsing stand side by side and
//! are strict: a text has one spelling, and what is not in that spelling is refused.
//!
//! ```text
//! lsn:    0/16B3748:3      <commit LSN as PostgreSQL prints it>:<ordinal in the transaction>
//! source: orders/1         <source name>/<timeline whose WAL holds the commit>
//! ```

use std::fmt;
use std::str::FromStr;

/// The event id, decided by the writer.
pub const HEADER_ID: &str = "id";
/// The event type, which names the schema.
pub const HEADER_TYPE: &str = "type";
/// The kind of aggregate the event belongs to.
pub const HEADER_AGGREGATE_TYPE: &str = "aggregate_type";
/// A [`SourceId`].
pub const HEADER_SOURCE: &str = "source";
/// An [`EventPosition`].
pub const HEADER_LSN: &str = "lsn";
/// When the event was written; present only when the id is not a UUIDv7, which carries its time.
pub const HEADER_CREATED_AT: &str = "created_at";
/// Present on an event that left the parking lot or was replayed.
pub const HEADER_RELEASED: &str = "released";
/// The value of [`HEADER_RELEASED`] on an event that left the parking lot.
pub const RELEASED_PARKED: &str = "parked";
/// On a dead letter, which has no headers of its row: the code of the fault that made it one.
pub const HEADER_FAULT: &str = "fault";

/// Names that a row's own headers may not use: there they are dropped and counted.
pub const RESERVED_HEADERS: [&str; 7] = [
    HEADER_ID,
    HEADER_TYPE,
    HEADER_AGGREGATE_TYPE,
    HEADER_SOURCE,
    HEADER_LSN,
    HEADER_CREATED_AT,
    HEADER_RELEASED,
];

/// Whether `name` is one of [`RESERVED_HEADERS`]. Header names are compared byte for byte.
#[must_use]
pub fn is_reserved_header(name: &str) -> bool {
    RESERVED_HEADERS.contains(&name)
}

/// Where an event stands in its source: the LSN of its commit and its place in the transaction.
///
/// Ordered as the source committed, within one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPosition {
    /// LSN of the commit record, as the 64-bit number behind `0/16B3748`.
    pub commit_lsn: u64,
    /// Counts the events of one transaction, from 0.
    pub ordinal: u32,
}

impl EventPosition {
    /// Appends what [`Display`](fmt::Display) shows. Each record bears it, and the formatting
    /// machinery costs several times as much.
    pub fn print(&self, into: &mut String) {
        let [high, low] = [self.commit_lsn >> 32, self.commit_lsn & 0xFFFF_FFFF];
        print_hex(into, high);
        into.push('/');
        print_hex(into, low);
        into.push(':');
        print_decimal(into, self.ordinal);
    }
}

fn print_hex(into: &mut String, number: u64) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let digit = (number >> (4 * digit)) as u8 & 0xF;
        into.push(char::from(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 }));
    }
}

fn print_decimal(into: &mut String, number: u32) {
    if number >= 10 {
        print_decimal(into, number / 10);
    }
    into.push(char::from(b'0' + (number % 10) as u8));
}

impl fmt::Display for EventPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(28);
        self.print(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for EventPosition {
    type Err = EnvelopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || EnvelopeError::BadPosition { text: shortened(text) };
        let (lsn, ordinal) = text.split_once(':').ok_or_else(bad)?;
        let (high, low) = lsn.split_once('/').ok_or_else(bad)?;
        let high = u32::from_str_radix(high, 16).map_err(|_| bad())?;
        let low = u32::from_str_radix(low, 16).map_err(|_| bad())?;
        let ordinal = ordinal.parse().map_err(|_| bad())?;
        let commit_lsn = (u64::from(high) << 32) | u64::from(low);
        let position = EventPosition { commit_lsn, ordinal };
        // One spelling: no leading zeros, signs or lower-case digits.
        if position.to_string() == text { Ok(position) } else { Err(bad()) }
    }
}

/// A source and the timeline whose WAL holds the commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceId {
    name: String,
    timeline: u32,
}

impl SourceId {
    /// A name is not empty and holds neither `/` nor control characters; timelines count from 1.
    pub fn try_new(name: &str, timeline: u32) -> Result<Self, EnvelopeError> {
        let bad_name = name.is_empty() || name.contains('/') || name.contains(char::is_control);
        if bad_name || timeline == 0 {
            let text = shortened(&format!("{name}/{timeline}"));
            return Err(EnvelopeError::BadSource { text });
        }
        Ok(SourceId { name: name.to_owned(), timeline })
    }

    /// The source's name in `walpost.toml`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The timeline whose WAL holds the commit.
    #[must_use]
    pub fn timeline(&self) -> u32 {
        self.timeline
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.timeline)
    }
}

impl FromStr for SourceId {
    type Err = EnvelopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || EnvelopeError::BadSource { text: shortened(text) };
        let (name, digits) = text.rsplit_once('/').ok_or_else(bad)?;
        let timeline: u32 = digits.parse().map_err(|_| bad())?;
        if timeline.to_string() != digits {
            return Err(bad());
        }
        SourceId::try_new(name, timeline).map_err(|_| bad())
    }
}

/// A header value that is not in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not `<commit LSN>:<ordinal>`.
    #[error("not an event position such as 0/16B3748:3: {text:?}")]
    BadPosition {
        /// What was found, shortened.
        text: String,
    },
    /// Not `<name>/<timeline>`.
    #[error("not a source such as orders/1: {text:?}")]
    BadSource {
        /// What was found, shortened.
        text: String,
    },
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_one_spelling() {
        for (lsn, ordinal, text) in [
            (0x16B_3748, 3, "0/16B3748:3"),
            (0, 0, "0/0:0"),
            (u64::MAX, u32::MAX, "FFFFFFFF/FFFFFFFF:4294967295"),
            (0xA_0000_00FF, 17, "A/FF:17"),
        ] {
            let position = EventPosition { commit_lsn: lsn, ordinal };
            assert_eq!(position.to_string(), text);
            assert_eq!(text.parse(), Ok(position));
        }
        for text in [
            "",
            "0/0",
            "0:0",
            "/:",
            "0/16b3748:3",
            "00/0:0",
            "0/00:0",
            "0/0:00",
            "0/0:+1",
            "+0/0:1",
            " 0/0:1",
            "0/0:1 ",
            "0/0:-1",
            "100000000/0:1",
            "0/100000000:1",
            "0/0:4294967296",
            "0/0:1:2",
            "0/0/0:1",
            "é/0:0",
        ] {
            assert!(text.parse::<EventPosition>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn positions_order_by_commit_then_ordinal() {
        let at = |commit_lsn, ordinal| EventPosition { commit_lsn, ordinal };
        assert!(at(1, 9) < at(2, 0));
        assert!(at(2, 9) < at(2, 10));
        assert!(at(0xFFFF_FFFF, 0) < at(0x1_0000_0000, 0));
    }

    #[test]
    fn a_source_has_one_spelling() {
        let source = SourceId::try_new("orders", 12).unwrap();
        assert_eq!(source.to_string(), "orders/12");
        assert_eq!("orders/12".parse(), Ok(source));
        for text in ["", "orders", "orders/", "/1", "orders/0", "orders/01", "orders/+1", "a/b/1"] {
            assert!(text.parse::<SourceId>().is_err(), "{text:?}");
        }
        assert!(SourceId::try_new("a\nb", 1).is_err());
    }

    #[test]
    fn reserved_names_are_compared_byte_for_byte() {
        assert!(is_reserved_header("released"));
        assert!(!is_reserved_header("Released"));
        assert!(!is_reserved_header("traceparent"));
    }
}
