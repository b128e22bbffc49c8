//! Begin..Commit framing: messages in, the position of each event out. Pure; buffers nothing.
//!
//! PostgreSQL hands transactions on whole and in the order of their commit records (protocol
//! version 1). This room holds the server to it: a Begin inside a transaction, a change outside of
//! one, a Commit with another position than its Begin, or a transaction that goes back in commit
//! order stops the source, since every later decision compares these positions.

use walpost_schema::envelope::EventPosition;

use crate::decode::PostgresMicros;
use crate::lsn::CommitLsn;

/// The server broke the framing of the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Begin inside a transaction.
    #[error("transaction {inner} begins inside transaction {outer}")]
    Nested {
        /// The open transaction.
        outer: CommitLsn,
        /// The one that begins.
        inner: CommitLsn,
    },
    /// A change or a Commit without a Begin.
    #[error("{message} message outside of a transaction")]
    Bare {
        /// Which message.
        message: &'static str,
    },
    /// Commit names another position than its Begin.
    #[error("transaction {begun} ends with the commit of {ended}")]
    OtherCommit {
        /// From Begin.
        begun: CommitLsn,
        /// From Commit.
        ended: CommitLsn,
    },
    /// A transaction at or below the one before it.
    #[error("transaction {next} comes after {last}, against commit order")]
    Backward {
        /// The transaction before.
        last: CommitLsn,
        /// The one that begins.
        next: CommitLsn,
    },
    /// More events than an ordinal can count.
    #[error("transaction {commit} has more than 4294967295 events")]
    TooManyEvents {
        /// The transaction.
        commit: CommitLsn,
    },
}

/// The open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Its commit position.
    pub commit: CommitLsn,
    /// When it committed.
    pub time: PostgresMicros,
    next_ordinal: u32,
}

/// Where the stream stands.
#[derive(Debug, Default)]
pub struct Transactions {
    open: Option<OpenTransaction>,
    last: Option<CommitLsn>,
}

impl Transactions {
    /// A stream starts, anew or again: nothing is open and any transaction may come first.
    pub fn new() -> Self {
        Self::default()
    }

    /// A transaction starts.
    pub fn begin(
        &mut self,
        commit: CommitLsn,
        time: PostgresMicros,
    ) -> Result<(), TransactionError> {
        if let Some(open) = self.open {
            return Err(TransactionError::Nested { outer: open.commit, inner: commit });
        }
        if let Some(last) = self.last.filter(|last| commit <= *last) {
            return Err(TransactionError::Backward { last, next: commit });
        }
        self.open = Some(OpenTransaction { commit, time, next_ordinal: 0 });
        Ok(())
    }

    /// The open transaction, which a `message` needs.
    pub fn open(&self, message: &'static str) -> Result<OpenTransaction, TransactionError> {
        self.open.ok_or(TransactionError::Bare { message })
    }

    /// Whether a transaction is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The event that was offered has been taken over: the next one gets the next ordinal.
    pub fn next_event(&mut self) -> Result<(), TransactionError> {
        let open = self.open.as_mut().ok_or(TransactionError::Bare { message: "insert" })?;
        let too_many = TransactionError::TooManyEvents { commit: open.commit };
        open.next_ordinal = open.next_ordinal.checked_add(1).ok_or(too_many)?;
        Ok(())
    }

    /// The open transaction is complete.
    pub fn commit(&mut self, commit: CommitLsn) -> Result<(), TransactionError> {
        let open = self.open("commit")?;
        if open.commit != commit {
            return Err(TransactionError::OtherCommit { begun: open.commit, ended: commit });
        }
        self.open = None;
        self.last = Some(commit);
        Ok(())
    }
}

impl OpenTransaction {
    /// The position of the next event: its transaction and its number in it, from 0.
    pub fn next_position(&self) -> EventPosition {
        EventPosition { commit_lsn: self.commit.0.0, ordinal: self.next_ordinal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    fn at(lsn: u64) -> CommitLsn {
        CommitLsn(Lsn(lsn))
    }

    #[test]
    fn events_are_numbered_from_zero_in_each_transaction() {
        let mut transactions = Transactions::new();
        for commit in [100, 200] {
            transactions.begin(at(commit), PostgresMicros(0)).expect("begin");
            for ordinal in 0..3 {
                let position = transactions.open("insert").expect("open").next_position();
                assert_eq!(position, EventPosition { commit_lsn: commit, ordinal });
                transactions.next_event().expect("next");
            }
            transactions.commit(at(commit)).expect("commit");
        }
    }

    #[test]
    fn broken_framing_is_named() {
        let mut transactions = Transactions::new();
        assert_eq!(transactions.commit(at(1)), Err(TransactionError::Bare { message: "commit" }));
        transactions.begin(at(5), PostgresMicros(0)).expect("begin");
        assert_eq!(
            transactions.begin(at(6), PostgresMicros(0)),
            Err(TransactionError::Nested { outer: at(5), inner: at(6) })
        );
        assert_eq!(
            transactions.commit(at(6)),
            Err(TransactionError::OtherCommit { begun: at(5), ended: at(6) })
        );
        transactions.commit(at(5)).expect("commit");
        assert_eq!(
            transactions.begin(at(5), PostgresMicros(0)),
            Err(TransactionError::Backward { last: at(5), next: at(5) })
        );
    }
}
