//! The contract between the relay and everyone who reads what it publishes.
//!
//! Promises on the wire, and where each is kept:
//!
//! - **Key and partition.** The record key is the aggregate id in UTF-8; its partition is Java's
//!   murmur2 over those bytes ([`partition`]), so producers of any language agree on the place.
//! - **Headers.** Their names and the text of positions and sources are written down once, in
//!   [`envelope`]. Values are plain text, never JSON-quoted.
//! - **Value.** Confluent framing ([`wire`]): a zero byte, the schema id in four big-endian bytes,
//!   an Avro body. A null value is a tombstone.
#![forbid(unsafe_code)]

pub mod envelope;
pub mod partition;
pub mod wire;

pub mod avro;
pub mod decode;
pub mod encode;

#[cfg(feature = "registry")]
pub mod registry;

#[doc(hidden)]
pub mod fuzz;

mod json;
mod value;
mod varint;
