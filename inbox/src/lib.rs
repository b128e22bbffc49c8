//! The consumer side of walpost.
#![forbid(unsafe_code)]

pub mod message;
pub mod store;

pub use message::{MessageRef, Place, Record};
