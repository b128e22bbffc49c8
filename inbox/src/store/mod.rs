//! The consumer's database: claims, floors, parked sequences. L0, the SQL contract, is the
//! migration; L1 is the code here, usable with a loop of one's own.
//!
//! ```text
//!   BEGIN --------+
//!   claim, look --+--- one flight      Claims { Fresh | Duplicate | Parked }
//!   business SQL of the fresh ones      append of the parked ones
//!   COMMIT
//! ```
//!
//! # Why a copy is handled once
//!
//! The id decides while it is inside the window: a claim is a row that two transactions cannot both
//! insert. Who comes second waits, and finds the row taken, or the field free after a rollback. A
//! claim commits only with its own effects, or with the parking of its event (I10).
//!
//! Outside the window a missing row proves nothing, so the *floor* decides: offsets `[from, to)`
//! that this consumer has handled without a hole. An old id inside it is a copy; an old id outside
//! it is handled, and claimed in the partition for others. Being old is never by itself a reason to
//! skip: an event parked for weeks at its source, then released, is a first copy.
//!
//! # Why no fence is needed for order
//!
//! Two instances may believe that they own a partition: one was frozen, its partitions moved, and
//! it comes back in the middle of a transaction. Neither doubles nor overtakes, because an actor
//! goes on to event n+1 of a key only after n is committed *by somebody*: by its own commit, or by
//! a claim that waited for the other's and found it taken. And a key that was parked is seen by
//! every claim made after the parking. This rests on four rules:
//!
//! - (a) every outcome that lets an actor go on commits a claim: done, ignored, of an ignored type;
//! - (b) parking an event claims it in the same transaction, and a lost claim parks nothing;
//! - (c) a claim commits only with its own effects or its parking: when one event of a batch fails,
//!   the whole batch rolls back and runs again without it and without the later ones of its key;
//! - (d) appending to a parked sequence reads it again under its row's lock, and starts over where
//!   it is gone.
//!
//! The look into the parked sequences is a second statement where several events are claimed: the
//! claim of one may have waited for a transaction that parked it, and the look at a later one of
//! its key must see that. READ COMMITTED gives each statement, also each of a function, a snapshot
//! of its own; at a higher level the second copy would be an error (40001) instead of a verdict.
//! One event alone is looked at in the statement that claims it: those of its key before it were
//! committed before that statement began.

pub mod day;
pub mod fault;
pub mod dedup;
pub mod consumer;
pub mod claim;
pub mod transaction;
pub mod floor;
pub mod parked;
pub mod release;
pub mod tenure;
pub mod window;
pub mod connect;

pub use claim::claim;
pub use connect::{Database, Link};
pub use consumer::Consumer;
pub use day::Day;
pub use dedup::{Claim, Claims};
pub use fault::Blame;
pub use transaction::{Limits, Transaction};

/// Makes the tables and functions: the migration as a file has it.
///
/// ```
/// assert!(walpost_inbox::store::INBOX_SQL.contains("CREATE TABLE inbox_claim"));
/// ```
pub const INBOX_SQL: &str = include_str!("../../migrations/0001_inbox.sql");

/// Runs [`INBOX_SQL`] unless its tables are there, one instance at a time: for services without a
/// migration tool, and for tests. The client must not be in a transaction.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client) -> Result<(), walpost_inbox::store::StoreError> {
/// walpost_inbox::store::install(client).await?;
/// # Ok(())
/// # }
/// ```
pub async fn install(client: &tokio_postgres::Client) -> Result<(), StoreError> {
    // Whoever comes second waits here, and finds the tables.
    let lock = "BEGIN; SELECT pg_advisory_xact_lock(hashtext('walpost inbox'))";
    client.batch_execute(lock).await?;
    let found = client.query_one("SELECT to_regclass('inbox_claim') IS NOT NULL", &[]).await;
    let done = match found.and_then(|row| row.try_get(0)) {
        Ok(true) => Ok(()),
        Ok(false) => client.batch_execute(INBOX_SQL).await,
        Err(error) => Err(error),
    };
    client.batch_execute(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(done?)
}

/// Why something about the inbox could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's text says what it is")]
pub enum StoreError {
    #[error("inbox's database refuses")]
    Database(#[from] tokio_postgres::Error),
    #[error("sequence is not parked any more: begin again")]
    SequenceGone,
    #[error("window has moved past an id of the batch: begin again")]
    WindowMoved,
    #[error("no event {id} is parked for consumer {consumer}")]
    NotParked { consumer: String, id: uuid::Uuid },
    #[error("no answer within {0:?}")]
    NoAnswer(std::time::Duration),
    #[error("commit was refused")]
    Aborted(#[source] tokio_postgres::Error),
}

impl StoreError {
    /// What it says about the event.
    ///
    /// ```
    /// use walpost_inbox::store::{Blame, StoreError};
    /// assert_eq!(StoreError::SequenceGone.blame(), Blame::Contention);
    /// ```
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Database(error) | Self::Aborted(error) => Blame::of(error),
            Self::SequenceGone | Self::WindowMoved => Blame::Contention,
            Self::NoAnswer(_) => Blame::Database,
            Self::NotParked { .. } => Blame::Event,
        }
    }
}
