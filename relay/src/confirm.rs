//! Deliveries in, the position that may be confirmed out: the ledger of everything in flight.
//!
//! ```text
//!   enqueue ->  seq 10  11  12  13        deliveries come in any order
//!   deliver ->       x       x            contiguous frontier: 11
//!   commits ->      ^11         ^14       the first commit is done, the second is not
//! ```
//!
//! Each event gets a dense sequence number when the producer took it. Acknowledgements arrive per
//! partition, so out of order; only the contiguous frontier counts. A commit is done when the
//! frontier has passed its last event and all earlier commits are done.
//!
//! Invariants held here: only this file makes a [`ConfirmedLsn`] (I1), it never goes backward (I2),
//! it passes a commit only after all its events and all earlier ones (I3), a keepalive's position
//! only when nothing is pending and no transaction is open (I4), and every event is pending or
//! delivered, once (I5). The asserts stay on in release builds.

use std::collections::VecDeque;
use std::sync::Arc;

use walpost_schema::envelope::EventPosition;

use crate::lsn::{CommitEnd, Lsn, WalEnd};

/// A position below which everything is delivered: what the server may be told (I1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfirmedLsn(Lsn);

impl ConfirmedLsn {
    /// Nothing is confirmed yet. The server leaves its slot alone when it is told this.
    pub const NOTHING: ConfirmedLsn = ConfirmedLsn(Lsn::ZERO);

    /// The position for the wire and for people.
    pub fn lsn(self) -> Lsn {
        self.0
    }
}

/// The number of an event in the order in which the producer took them, from 0, without holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventSeq(pub u64);

/// An event that the producer took.
#[derive(Debug, Clone)]
pub struct Enqueued {
    /// Its place in the order of the source.
    pub position: EventPosition,
    /// When its transaction committed.
    pub commit_unix_ms: i64,
    /// Where it goes.
    pub topic: Arc<str>,
    /// What it weighs.
    pub bytes: usize,
}

/// What the ledger remembers of an event in flight.
#[derive(Debug)]
struct Pending {
    event: Enqueued,
    is_delivered: bool,
}

/// Everything in flight, in order.
#[derive(Debug)]
pub struct Ledger {
    /// The sequence number of the front of `pending`: all before it are delivered.
    frontier: u64,
    pending: VecDeque<Pending>,
    /// Commits not yet done: (one past its last event, its end). At most one entry an event.
    commits: VecDeque<(u64, CommitEnd)>,
    is_open: bool,
    confirmed: ConfirmedLsn,
    last_commit: CommitEnd,
    delivered: Option<EventPosition>,
    undelivered_bytes: usize,
    undelivered: usize,
}

/// An event's acknowledgement, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// When its transaction committed.
    pub commit_unix_ms: i64,
    /// Where it went.
    pub topic: Arc<str>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// An empty ledger: nothing sent, nothing confirmed.
    pub fn new() -> Self {
        Self {
            frontier: 0,
            pending: VecDeque::new(),
            commits: VecDeque::new(),
            is_open: false,
            confirmed: ConfirmedLsn::NOTHING,
            last_commit: CommitEnd::default(),
            delivered: None,
            undelivered_bytes: 0,
            undelivered: 0,
        }
    }

    /// The number that the next event gets: the producer is given it with the record.
    pub fn next_seq(&self) -> EventSeq {
        EventSeq(self.frontier + self.pending.len() as u64)
    }

    /// A transaction starts. Until its commit no keepalive is confirmed (I4).
    pub fn begin(&mut self) {
        assert!(!self.is_open, "I3: a transaction begins after the one before it has ended");
        self.is_open = true;
    }

    /// The stream was lost in the middle of a transaction; it will come again from its Begin.
    pub fn abandon_open(&mut self) {
        self.is_open = false;
    }

    /// The producer took the event with number [`next_seq`](Self::next_seq).
    pub fn enqueue(&mut self, event: Enqueued) {
        let position = event.position;
        assert!(self.is_open, "I3: an event belongs to an open transaction");
        if let Some(last) = self.pending.back() {
            assert!(position > last.event.position, "I6: events are sent in commit order");
        }
        assert!(self.delivered.is_none_or(|last| position > last), "I6: nothing is sent twice");
        self.undelivered_bytes += event.bytes;
        self.undelivered += 1;
        self.pending.push_back(Pending { event, is_delivered: false });
    }

    /// Kafka acknowledged the event.
    pub fn deliver(&mut self, seq: EventSeq) -> Acknowledged {
        let index = seq.0.checked_sub(self.frontier).and_then(|index| usize::try_from(index).ok());
        let index = index.unwrap_or(usize::MAX);
        assert!(index < self.pending.len(), "I5: an acknowledged event is pending");
        let pending = &mut self.pending[index];
        assert!(!pending.is_delivered, "I5: an event is acknowledged once");
        pending.is_delivered = true;
        let Enqueued { commit_unix_ms, bytes, ref topic, .. } = pending.event;
        let acknowledged = Acknowledged { commit_unix_ms, topic: Arc::clone(topic) };
        self.undelivered_bytes -= bytes;
        self.undelivered -= 1;
        self.advance();
        acknowledged
    }

    /// The open transaction is complete. A commit that was seen before the stream was lost and
    /// started again is not counted twice.
    pub fn commit(&mut self, end: CommitEnd) {
        assert!(self.is_open, "I3: a commit ends an open transaction");
        self.is_open = false;
        if end <= self.last_commit {
            return;
        }
        self.last_commit = end;
        let next = self.next_seq().0;
        match self.commits.back_mut() {
            // Without an event in between, the later commit is done with the earlier one.
            Some((until, back)) if *until == next => *back = end,
            _ => self.commits.push_back((next, end)),
        }
        self.advance();
    }

    /// The server says that it has read its WAL up to `wal_end` and has nothing more for us. Says
    /// whether that position is confirmed: only while nothing is in flight (I4), because a commit
    /// below it may still be undelivered.
    pub fn keepalive(&mut self, wal_end: WalEnd) -> bool {
        if self.is_open || !self.pending.is_empty() || !self.commits.is_empty() {
            return false;
        }
        self.confirm(wal_end.0);
        true
    }

    /// Up to here the slot may be advanced.
    pub fn confirmed(&self) -> ConfirmedLsn {
        self.confirmed
    }

    /// The last event of the contiguous frontier: after the producer was replaced, everything up
    /// to it is skipped and everything after it is sent again.
    pub fn delivered(&self) -> Option<EventPosition> {
        self.delivered
    }

    /// The last event that the producer took: after the stream was lost, everything up to it is
    /// skipped.
    pub fn enqueued(&self) -> Option<EventPosition> {
        self.pending.back().map(|last| last.event.position).or(self.delivered)
    }

    /// Events not acknowledged yet.
    pub fn undelivered(&self) -> usize {
        self.undelivered
    }

    /// Their bytes.
    pub fn undelivered_bytes(&self) -> usize {
        self.undelivered_bytes
    }

    /// Events held in memory: undelivered ones and delivered ones behind them.
    pub fn held(&self) -> usize {
        self.pending.len()
    }

    /// When the transaction of the oldest undelivered event committed.
    pub fn oldest_commit_unix_ms(&self) -> Option<i64> {
        self.pending.front().map(|oldest| oldest.event.commit_unix_ms)
    }

    /// The producer was dropped with everything in it: what is not in the contiguous frontier
    /// counts as never sent. What was confirmed stays confirmed. Says how many events will be
    /// sent again.
    pub fn forget_pending(&mut self) -> usize {
        let forgotten = self.pending.len();
        self.pending.clear();
        self.commits.clear();
        self.undelivered = 0;
        self.undelivered_bytes = 0;
        self.is_open = false;
        // Commits above the confirmed position come again with their events.
        self.last_commit = CommitEnd(self.confirmed.0);
        forgotten
    }

    fn advance(&mut self) {
        while let Some(first) = self.pending.front().filter(|first| first.is_delivered) {
            self.delivered = Some(first.event.position);
            self.frontier += 1;
            self.pending.pop_front();
        }
        while let Some(&(until, end)) = self.commits.front() {
            if until > self.frontier {
                break;
            }
            self.commits.pop_front();
            self.confirm(end.0);
        }
        assert!(self.undelivered <= self.pending.len(), "I5: the ledger's counts add up");
    }

    /// A slot may lie ahead of what the stream repeats: confirming less than before is not an
    /// error of anybody, it is simply nothing new.
    fn confirm(&mut self, position: Lsn) {
        let before = self.confirmed;
        self.confirmed = before.max(ConfirmedLsn(position));
        assert!(self.confirmed >= before, "I2: the confirmed position never goes backward");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(commit: u64, ordinal: u32) -> EventPosition {
        EventPosition { commit_lsn: commit, ordinal }
    }

    fn event(commit: u64, ordinal: u32) -> Enqueued {
        let topic = Arc::from("t");
        Enqueued { position: at(commit, ordinal), commit_unix_ms: 0, topic, bytes: 100 }
    }

    /// Transactions of (commit LSN, number of events); the end LSN is the commit LSN plus 8.
    fn ledger(transactions: &[(u64, u32)]) -> Ledger {
        let mut ledger = Ledger::new();
        for &(commit, events) in transactions {
            ledger.begin();
            for ordinal in 0..events {
                ledger.enqueue(event(commit, ordinal));
            }
            ledger.commit(CommitEnd(Lsn(commit + 8)));
        }
        ledger
    }

    #[test]
    fn confirm_waits_for_the_slowest_partition() {
        let mut ledger = ledger(&[(100, 2), (200, 1)]);
        ledger.deliver(EventSeq(2));
        ledger.deliver(EventSeq(1));
        assert_eq!(ledger.confirmed(), ConfirmedLsn::NOTHING);
        ledger.deliver(EventSeq(0));
        assert_eq!(ledger.confirmed().lsn(), Lsn(208));
        assert_eq!(ledger.delivered(), Some(at(200, 0)));
    }

    #[test]
    fn a_commit_is_confirmed_only_when_its_commit_message_was_seen() {
        let mut ledger = Ledger::new();
        ledger.begin();
        ledger.enqueue(event(100, 0));
        ledger.deliver(EventSeq(0));
        assert_eq!(ledger.confirmed(), ConfirmedLsn::NOTHING);
        ledger.commit(CommitEnd(Lsn(108)));
        assert_eq!(ledger.confirmed().lsn(), Lsn(108));
    }

    #[test]
    fn empty_transactions_wait_behind_events_in_one_entry() {
        let mut ledger = ledger(&[(100, 1), (200, 0), (300, 0)]);
        assert_eq!(ledger.commits.len(), 1);
        assert_eq!(ledger.confirmed(), ConfirmedLsn::NOTHING);
        ledger.deliver(EventSeq(0));
        assert_eq!(ledger.confirmed().lsn(), Lsn(308));
    }

    #[test]
    fn keepalive_counts_only_while_nothing_is_in_flight() {
        let mut ledger = ledger(&[(100, 1)]);
        assert!(!ledger.keepalive(WalEnd(Lsn(500))));
        ledger.deliver(EventSeq(0));
        ledger.begin();
        assert!(!ledger.keepalive(WalEnd(Lsn(500))));
        ledger.commit(CommitEnd(Lsn(208)));
        assert!(ledger.keepalive(WalEnd(Lsn(500))));
        assert_eq!(ledger.confirmed().lsn(), Lsn(500));
    }

    #[test]
    fn an_older_keepalive_moves_nothing_back() {
        let mut ledger = ledger(&[(100, 0)]);
        ledger.keepalive(WalEnd(Lsn(50)));
        assert_eq!(ledger.confirmed().lsn(), Lsn(108));
    }

    #[test]
    fn a_lost_stream_keeps_events_and_counts_a_repeated_commit_once() {
        let mut ledger = ledger(&[(100, 2)]);
        ledger.begin();
        ledger.enqueue(event(200, 0));
        ledger.abandon_open();
        assert_eq!(ledger.enqueued(), Some(at(200, 0)));
        // The stream repeats both transactions; their known events are skipped by the pipeline.
        ledger.begin();
        ledger.commit(CommitEnd(Lsn(108)));
        ledger.begin();
        ledger.enqueue(event(200, 1));
        ledger.commit(CommitEnd(Lsn(208)));
        for seq in 0..4 {
            ledger.deliver(EventSeq(seq));
        }
        assert_eq!(ledger.confirmed().lsn(), Lsn(208));
    }

    #[test]
    fn a_replaced_producer_forgets_what_is_beyond_the_frontier() {
        let mut ledger = ledger(&[(100, 2), (200, 1)]);
        ledger.deliver(EventSeq(0));
        ledger.deliver(EventSeq(2));
        assert_eq!(ledger.forget_pending(), 2);
        assert_eq!(ledger.delivered(), Some(at(100, 0)));
        assert_eq!((ledger.undelivered(), ledger.undelivered_bytes()), (0, 0));
        ledger.begin();
        ledger.enqueue(event(100, 1));
        ledger.commit(CommitEnd(Lsn(108)));
        ledger.deliver(EventSeq(1));
        assert_eq!(ledger.confirmed().lsn(), Lsn(108));
    }
}
