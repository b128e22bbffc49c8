//! Proof instead of trust: outbox rows and the records of their topics in, a verdict out.
//!
//! Lost: a committed row whose event id is in no record. Duplicated: further records of an event.
//! Out of order: a first copy that stands behind another first copy of its aggregate with a larger
//! `lsn` header. Split: an aggregate on two partitions. This room shares nothing with the publish
//! path but the wire format and the position record.
//!
//! ```text
//!   walpost verify        live.rs      waits for the recorded position, any number of events
//!                           snapshot.rs, records.rs   both sides as they are read
//!                           audit.rs, worker.rs       the comparison (pure but for its file)
//!                             spool.rs, entry.rs      what does not fit into memory
//!   demo, tests, benches  gather.rs    waits for the slot, all in memory
//!                           compare.rs                the comparison (pure)
//! ```

mod audit;
mod audited;
mod compare;
mod entry;
mod gather;
mod live;
mod records;
mod snapshot;
mod spool;
mod worker;

pub use audited::{Audited, Named, Offence};
pub use compare::{Committed, Judge, Offender, Verdict};
pub use gather::{Subject, VerifyError, verify};
pub use live::{Account, AuditError, Counters, Target, Window, audit};
