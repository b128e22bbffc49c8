//! The replication connection: WAL frames in, feedback out. It knows nothing of outboxes.
//!
//! ```text
//!   connect.rs   TCP, unix socket or TLS; startup; SCRAM        -> Connection
//!   history.rs   which timeline holds the WAL at a position (pure)
//!   slot.rs      who is the server, is the slot ours and sound  -> ServerIdentity, SlotState
//!   stream.rs    START_REPLICATION; frames in, feedback out     -> WalStream
//!   cut.rs       a message above the limit without its large values (pure)
//!   pace.rs      when to read late and in large pieces (pure)
//! ```
//!
//! **One seam for reading.** What this room hands on is a [`Frame`]: a piece of the decoded stream
//! with its position, a keepalive, or the end. A second reader (catching up by COPY from a
//! temporary copy of the slot) produces the same frames, so that no second pipeline is needed.
//!
//! Protocol: <https://www.postgresql.org/docs/current/protocol-replication.html>.

mod connect;
mod cut;
mod error;
mod history;
mod pace;
mod slot;
mod stream;

pub use connect::Connection;
pub use error::{ServerError, WalError};
pub use history::{History, HistoryError, Left};
pub use slot::{ServerIdentity, SlotState, quote_identifier, quote_literal};
pub use stream::{Reply, WalStream};

use crate::lsn::{Lsn, WalEnd};

/// What a reader hands on, in the order of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// One message of the output plugin.
    Message {
        /// Where the server says this message starts; 0 for some of them. Not a transaction's
        /// position: that is in Begin and Commit.
        at: Lsn,
        /// The message, not interpreted.
        body: &'a [u8],
    },
    /// The same above the limit, its large values left out (`cut.rs`).
    Cut {
        /// As in [`Frame::Message`].
        at: Lsn,
        /// The message, with a cell of kind `u` where a value was left out.
        body: &'a [u8],
        /// What the server announced.
        bytes: u64,
    },
    /// The server has nothing to send at the moment and names how far it has read.
    Keepalive {
        /// Everything of ours that was committed before this has been handed on.
        wal_end: WalEnd,
        /// The server waits for a feedback message.
        reply_requested: bool,
    },
    /// The server ended the stream in good order: it shuts down or was told to stop.
    End,
}
