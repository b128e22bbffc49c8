//! The consumer side of walpost: each event is handled once, inside the consumer's own business
//! transaction, and its author forgets that duplicates exist.
//!
//! Layers, each usable alone, in reading order:
//!
//! - **L0**, the SQL contract: the tables and functions of [`store::INBOX_SQL`], for any language.
//! - **L1**, [`store`]: [`store::claim()`] and [`store::Transaction`] on tokio-postgres, parked
//!   sequences, floors and the window, for a loop of one's own.
//! - **L2**, [`runtime`]: [`Inbox::run`] reads a Kafka cluster, different keys beside each other
//!   and one key in order, and commits offsets behind the database.
//! - **L3**, [`handler`]: `async fn(E, &mut Cx<S>) -> Result<Outcome, Error>`, reader schemas,
//!   `cx.emit(..)` into the outbox of the same transaction.
//! - **L4**, `testkit` (feature): an in-memory broker, crash points and a virtual clock.
//!
//! What is promised, and what is not, is in `docs/guarantees.md`; how to begin is in
//! `docs/inbox.md`.
#![forbid(unsafe_code)]

pub mod message;
pub mod store;
pub mod handler;
pub mod runtime;
#[cfg(feature = "testkit")]
pub mod testkit;

#[cfg(feature = "registry")]
pub use handler::RegistrySchemas;
pub use handler::{
    BatchHandler, Cx, DecodeError, Error, Event, FixedSchemas, Handler, Outcome, Received,
    SchemaAnswer, SchemaFault, Tombstone, TombstoneHandler, Topic, TraceParent, Unknown,
    WriterSchemas,
};
pub use message::{MessageRef, Place, Record};
pub use runtime::{Inbox, Kafka, RunError, Settings, Stats, StatsReader};
pub use walpost_outbox::NewEvent;

/// The registry's client, for its settings and credentials.
#[cfg(feature = "registry")]
pub use walpost_schema::registry;
