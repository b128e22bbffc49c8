//! A reader's and a writer's schema in, everything that speaks against reading out.
//!
//! The verdict is Java Avro 1.12.1's (`SchemaCompatibility`), byte for byte in code, location,
//! message and order: that is what a registry refuses and what most consumers run. Beside each of
//! its findings stand ours: where both sides are written, the path by field names, the inner
//! findings that Java throws away in unions, and the edit that mends it. Once the verdict is
//! "compatible", a second look follows every value on its way through Java's resolver and reports
//! what the verdict does not see ([`Severity::Decode`], [`Severity::Meaning`]).
//!
//! ```text
//!   (reader, writer) --gate.rs--> Java's findings, with rules.rs for one pair of types
//!          |                          |
//!          |                          +-- trail.rs: where (Java's location, our path and pointers)
//!          |                          +-- help.rs: what to edit
//!          +--walk.rs--> each pair of types that meets while decoding
//!              |             +-- decode.rs, meaning.rs: what is lost or fails there
//!              +-- resolve.rs: which branch of a union it is; aliases.rs: by which names
//!   history + level.rs: which pairs to check; lint.rs: the candidate by itself;
//!   changes.rs: what changed, in words
//! ```
//!
//! Total and pure (I11): no recursion over the schemas (but for a bounded one in `resolve.rs`),
//! every table bounded, no panic; what the bounds stop is [`Verdict::Undecided`], which nobody may
//! take for compatible.
//!
//! Why not the crate's checker: it calls 69 incompatible pairs of 777 partly fine and stops at the
//! first finding.

mod aliases;
mod changes;
mod confluent;
mod decode;
mod finding;
mod gate;
mod help;
mod level;
mod lint;
mod meaning;
mod read;
mod removed;
mod resolve;
mod rules;
mod trail;
mod usage;
mod walk;

pub use changes::{Change, changes};
pub use confluent::messages;
pub use finding::{Because, Code, Finding, Severity, Side};
pub use level::{Against, Direction, Level, UnknownLevel, against};
pub use lint::lint;
pub use read::{Datum, ReadError, Reader};
pub use removed::removed;
pub use usage::{UnknownField, unwritten};

use crate::avro::Schema;

/// Findings of one kind kept for a pair; what is beyond is counted in [`Report::omitted`].
pub const FINDINGS_MAX: usize = 10_000;

/// Bytes of the texts of all findings of a pair; findings beyond are counted as omitted. In a chain
/// of a hundred thousand types one location is half a megabyte.
pub const TEXT_BYTES_MAX: usize = 32 << 20;

/// Pairs of types compared for one pair of schemas. Two unions of hundreds of records multiply.
pub const PAIRS_MAX: usize = 300_000;

/// Whether data of the writer can be read by the reader, as Java Avro and a registry judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every finding, if any, has another severity than gate.
    Compatible,
    /// A registry refuses the pair.
    Incompatible,
    /// It could not be found out: never to be taken for compatible.
    Undecided(Undecided),
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// More than [`PAIRS_MAX`] pairs of types.
    #[error("the schemas have more than {PAIRS_MAX} pairs of types to compare")]
    TooManyPairs,
}

/// What one pair of schemas gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The answer.
    pub verdict: Verdict,
    /// Gate findings first, in Java's order, then ours.
    pub findings: Vec<Finding>,
    /// Findings beyond [`FINDINGS_MAX`].
    pub omitted: u64,
}

impl Report {
    /// Whether the verdict is [`Verdict::Compatible`].
    #[must_use]
    pub fn is_compatible(&self) -> bool {
        self.verdict == Verdict::Compatible
    }

    /// Whether a finding has this severity.
    #[must_use]
    pub fn has(&self, severity: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity() == severity)
    }
}

/// Checks whether a reader reads what a writer writes, and whether it then means the same.
#[must_use]
pub fn check(reader: &Schema, writer: &Schema) -> Report {
    let mut report = gate(reader, writer);
    if report.is_compatible() {
        walk::findings(reader, writer, &mut report);
    }
    report
}

/// The verdict and gate findings alone: what a registry would say.
#[must_use]
pub fn gate(reader: &Schema, writer: &Schema) -> Report {
    gate::Gate::new(reader, writer, gate::RecordNames::Compared).check()
}
