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
//! - **Schema.** What Java Avro 1.12 parses is parsed, and means the same ([`avro`]).
//! - **Body.** Plain JSON becomes Avro by the schema ([`encode`]): numbers exactly, fields in the
//!   schema's order, absent ones by their default, union branches by what fits and never by chance.
//!   What does not fit is an error with its place in the payload, and no bytes: nothing is wrapped,
//!   rounded, dropped or guessed in silence. [`decode`] is the inverse and checks bodies that were
//!   Avro already.
//!
//! - **Evolution.** Whether one schema reads what another one wrote is judged as Java judges it,
//!   with what it does not see beside it ([`compat`]).
//!
//! All of that is pure: no clock, no network, no state but a thread's buffers. Only `registry`,
//! behind the feature of that name, talks to a schema registry.
//!
//! ```
//! use walpost_schema::avro::Schema;
//! use walpost_schema::encode::{EncodeOptions, Plan};
//! use walpost_schema::wire::{self, SchemaId};
//!
//! let text = r#"{"type":"record","name":"shop.OrderPlaced","fields":[
//!     {"name":"id","type":"string"},{"name":"qty","type":"int","default":1}]}"#;
//! let schema = Schema::parse(text, &[])?;
//! let plan = Plan::compile(&schema, &EncodeOptions::default())?;
//! let mut value = Vec::new();
//! wire::encode(SchemaId(7), &mut value);
//! plan.encode(r#"{"id": "o-1"}"#, &mut value)?;
//! assert_eq!(value, b"\x00\x00\x00\x00\x07\x06o-1\x02");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod envelope;
pub mod partition;
pub mod wire;

pub mod avro;
pub mod encode;

pub mod decode;

pub mod compat;

#[cfg(feature = "registry")]
pub mod registry;

#[doc(hidden)]
pub mod fuzz;

mod json;
mod value;
mod varint;
