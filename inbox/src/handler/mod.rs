//! L3: a record in, a typed event for a handler out, and what the handler decided.
//!
//! ```text
//!   record -> route by topic and type -> decode (writer schema -> reader schema -> E)
//!          -> handler(E, &mut Cx) -> Outcome
//! ```
//!
//! Decoding happens before BEGIN, so that a transaction is as short as its SQL.

mod outcome;
mod event;
mod schemas;
mod decode;
mod trace;
mod cx;
mod call;
mod routes;

pub use call::{BatchHandler, Handler, TombstoneHandler};
pub use cx::Cx;
pub use decode::DecodeError;
pub use event::{Event, Received, Tombstone};
pub use outcome::{Error, Outcome};
#[cfg(feature = "registry")]
pub use schemas::RegistrySchemas;
pub use schemas::{FixedSchemas, SchemaAnswer, SchemaFault, WriterSchemas};
pub use trace::TraceParent;

pub(crate) use call::{Boxed, Handled};
pub(crate) use decode::Prepared;
pub(crate) use outcome::chain;
pub(crate) use routes::{Route, Routes};
pub use routes::{Topic, Unknown};
