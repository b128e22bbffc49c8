//! The parking lot: events that cannot be published as things are, kept in the source's database
//! until a person or a schema mends what is wrong; and their way out, in order.
//!
//! ```text
//!   event.rs     an event as it came, and what it is called in the lot (pure)
//!   lot.rs       which sequences are closed, and how full the lot is (pure)
//!   releases.rs  from a request to retry to rows that are moved out (pure)
//!   orders.rs    what the pipeline has done in the database, and what comes of it
//!   tables.rs    the tables: the SQL that makes them
//!   store.rs     the statements
//!   prune.rs     what may be forgotten
//!   parker.rs    the task that carries orders out, one after the other
//! ```
//!
//! A parked event closes its *sequence*: later events of the same aggregate are parked behind it,
//! all others flow. A sequence opens again when its last row has left the lot, in a transaction
//! that is committed. An event on its way into the lot is in flight like one on its way to Kafka:
//! the position passes it only once its row is committed (I3).

mod event;
mod lot;
mod orders;
mod parker;
mod prune;
mod releases;
mod store;
mod tables;

pub use event::{Identity, ParkedEvent, RawPayload, RawRow, Reason, SequenceId};
pub use lot::{Lot, LotContents, LotFull, LotLimits};
pub use orders::{LotReply, Moved, Order, Request, RequestId, Settlement};
pub use parker::{LotError, Parker, ParkerSettings};
pub use prune::OutboxIds;
pub use releases::{LotView, ReleaseSeq, Releases, Turn};
pub use store::{ParkedRow, Selection, Store};
pub use tables::{PARKING_TABLES, TABLES};
