//! What the pipeline has done in the parking tables, and what comes of it. Orders are carried out
//! one after the other, each in one transaction; one that was interrupted is carried out again, so
//! each is written to change nothing the second time.

use super::event::{Identity, ParkedEvent, Reason, SequenceId};
use crate::confirm::EventSeq;
use crate::lsn::Lsn;
use crate::position::Mark;

/// The number of a request in `walpost.requests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub i64);

/// What a person asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Publish what is selected, in order, each sequence up to an event that fails again.
    Retry(RequestId),
    /// Give up the events that are selected.
    Discard(RequestId),
}

/// Something to be done in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Put an event into the lot.
    Park {
        /// Its number, to be given back.
        seq: EventSeq,
        /// The event.
        event: Box<ParkedEvent>,
    },
    /// Look for requests.
    Poll,
    /// Fetch rows for a request to retry: whole sequences from their heads, in commit order,
    /// without those whose head has failed since the request.
    Load {
        /// The request.
        request: RequestId,
        /// Nothing behind this: everything up to it is where it should be, so no earlier event of
        /// a sequence can still come into the lot (I6).
        until: Mark,
    },
    /// Fetch rows whose head waits for a schema, a topic or a route that may have appeared.
    LoadWaiting {
        /// As above.
        until: Mark,
    },
    /// Move what was released out of the lot, and note what was refused again.
    Settle(Settlement),
    /// Give up what a request selects.
    Discard(RequestId),
    /// A request is carried out.
    Answer {
        /// Which.
        request: RequestId,
        /// What came of it.
        text: String,
    },
    /// Forget released events that the recorded position is past.
    Prune(Mark),
}

/// The end of a batch of releases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Kafka has these.
    pub released: Vec<Identity>,
    /// These failed again, and why.
    pub refused: Vec<(Identity, Reason)>,
}

/// Rows of one sequence that left the lot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The sequence.
    pub sequence: SequenceId,
    /// How many rows.
    pub rows: u64,
    /// Their bytes, as counted when they came in.
    pub bytes: u64,
}

/// What came of an order; all of it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LotReply {
    /// These events are in the lot.
    Parked {
        /// Their numbers.
        seqs: Vec<EventSeq>,
        /// The end of WAL after the commit.
        as_of: Lsn,
    },
    /// Requests that are open, oldest first.
    Requests(Vec<Request>),
    /// Rows to be published, in commit order; none when there are no more.
    Loaded(Vec<ParkedEvent>),
    /// Rows have left the lot.
    Moved {
        /// By sequence.
        moved: Vec<Moved>,
        /// The end of WAL after the commit.
        as_of: Lsn,
    },
    /// An order without an answer of its own is carried out.
    Done,
}
