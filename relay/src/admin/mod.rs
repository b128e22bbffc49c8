//! What the outside may ask of a running daemon: health, metrics, status. Reads snapshots; holds no
//! handle to a stream, a producer or a ledger.
//!
//! Closed by default: it listens on loopback, and a page in a browser cannot reach it under another
//! name (`Host` must be an address, `localhost`, or a configured name; DNS rebinding turns loopback
//! into a public place otherwise). Beyond loopback a token is demanded.

mod health;
mod metrics;
mod server;
mod status_json;

pub use server::{AdminError, AdminListener, AdminServer, serve};
pub use status_json::{SourceJson, StatusJson};
