//! The consumer side of walpost.
#![forbid(unsafe_code)]

pub mod message;
pub mod store;
pub mod handler;
pub mod runtime;

pub use handler::*;
pub use message::{MessageRef, Place, Record};
/// The registry's client.
#[cfg(feature = "registry")]
pub use walpost_schema::registry;
