//! Where records come from: a Kafka cluster, or the in-memory broker of the test kit. The loop
//! knows this interface and nothing behind it.

use std::future::Future;

use super::error::RunError;
use crate::message::{Place, Record};

/// What a source says.
#[derive(Debug)]
pub(crate) enum SourceEvent {
    /// Ours from now on.
    Assigned {
        place: Place,
        generation: u64,
        /// The first offset that is still there.
        low: i64,
        /// One past the last.
        high: i64,
        /// Where reading starts.
        start: i64,
        /// So many of its records are from before the window, as far as their timestamps tell.
        beyond_window: i64,
    },
    /// Of assigned partitions, each in its order.
    Records(Vec<Record>),
    /// To be given back with [`Command::Release`], in time.
    Revoked(Vec<Place>),
    /// Not ours any more: nothing is committed.
    Lost(Vec<Place>),
    /// It cannot go on.
    Failed(RunError),
}

/// What a source is told. It does so soon, in order.
#[derive(Debug)]
pub(crate) enum Command {
    /// Everything before these offsets is finished.
    Commit(Vec<(Place, i64)>),
    Pause(Place),
    Resume(Place),
    /// Commits, then gives the partitions back.
    Release(Vec<Place>, Vec<(Place, i64)>),
    /// So many bytes of records are done with.
    Free(usize),
}

/// A source. `next` is cancellation-safe: dropped, nothing is lost.
pub(crate) trait Source: Send {
    fn next(&mut self) -> impl Future<Output = SourceEvent> + Send;
    fn command(&mut self, command: Command);
    /// Commits these offsets and leaves.
    fn close(self, offsets: Vec<(Place, i64)>) -> impl Future<Output = ()> + Send;
    /// Nothing will come by itself: the test kit's clock may jump.
    fn is_idle(&self) -> bool {
        false
    }
}
