//! Proof instead of trust: outbox rows and the records of their topics in, a verdict out.
//!
//! Lost: a committed row whose event id is in no record. Duplicated: further records of an event.
//! Out of order: a first copy that stands before another first copy of its aggregate with a smaller
//! `lsn` header. Split: an aggregate on two partitions. This room shares nothing with the publish
//! path but the wire format; the whole comparison is held in memory.

mod compare;
mod gather;

pub use compare::{Committed, Judge, Offender, Verdict};
pub use gather::{Subject, VerifyError, verify};
