//! L2: records of a cluster in, handlers called, offsets committed, out.
//!
//! ```text
//!   kafka.rs (thread)  --SourceEvent-->  run.rs (one loop)  --Batch-->  batch.rs (tasks)
//!          ^                                |  ^                            |
//!          +------------ Command -----------+  +----------- End ------------+
//! ```
//!
//! Read in this order: the pure state of one partition (`suspects`, `lanes`, `offsets`,
//! `partition`), what a batch does (`gate`, `batch`, `aside`, `lot`), the loop (`fate`, `chores`,
//! `run`), the world (`source`, `kafka`), and how it is all set up (`settings`, `inbox`).

mod suspects;
mod lanes;
mod offsets;
mod partition;
mod breaker;
mod landfill;
mod backoff;
mod clock;

mod gate;
mod batch;
mod aside;
mod lot;
mod crash;
mod stats;

mod fate;
mod chores;
mod run;
mod source;
mod kafka;

mod error;
mod settings;
mod inbox;

pub use backoff::Backoff;
#[cfg(feature = "testkit")]
pub use crash::CrashPoint;
pub use error::RunError;
pub use inbox::{Inbox, StatsReader};
pub use settings::{Kafka, Settings};
pub use stats::Stats;

/// What the test kit is built on.
#[cfg(feature = "testkit")]
pub(crate) mod memory {
    pub(crate) use super::clock::Clock;
    pub(crate) use super::inbox::{Inbox, open_consumer};
    pub(crate) use super::run::Loop;
    pub(crate) use super::source::{Command, Source, SourceEvent};
}
