//! Deliveries in, the position that may be confirmed out: the ledger of everything in flight.
//!
//! ```text
//!   enqueue ->  seq 10  11  12  13        deliveries come in any order
//!   deliver ->       x       x            contiguous frontier: 11
//!   commits ->      ^11         ^14       the first commit is done, the second is not
//!   record  ->  Kafka holds the frontier: its end is confirmed
//! ```
//!
//! Each event gets a dense sequence number when the producer took it. Acknowledgements arrive per
//! partition, so out of order; only the contiguous frontier counts. A commit is done when the
//! frontier has passed its last event and all earlier commits are done. What is done is confirmed
//! once a position record that says so is in Kafka.
//!
//! An event that goes to the parking lot is pending until its row there is committed, like one that
//! goes to Kafka until it is acknowledged.
//!
//! Invariants held here: only this file makes a [`ConfirmedLsn`] (I1), it never goes backward (I2),
//! it passes a commit only after all its events and all earlier ones (I3), a keepalive's position
//! only when nothing is pending, no transaction is open and the position record holds it (I4), and
//! every event is pending, parked or delivered, once (I5). The asserts stay on in release builds.

use std::collections::VecDeque;

use walpost_schema::envelope::EventPosition;

use crate::lsn::{CommitEnd, Lsn, WalEnd};
use crate::position::{Frontier, Mark, Offsets, Place, TopicId};

/// A position below which everything is delivered and recorded: what the server may be told (I1).
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

/// Where an event was handed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The producer, for this topic partition.
    Kafka(Place),
    /// The parking lot.
    Lot,
}

/// An event that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// Its place in the order of the source.
    pub position: EventPosition,
    /// When its transaction committed.
    pub commit_unix_ms: i64,
    /// Where it goes.
    pub target: Target,
    /// What it weighs.
    pub bytes: u32,
}

/// What the ledger remembers of an event in flight.
#[derive(Debug)]
struct Pending {
    event: Enqueued,
    arrived: Option<Arrived>,
}

/// That an event is where it should be, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrived {
    /// In Kafka, at this offset of this place.
    Kafka(Place, i64),
    /// The same, found there by read-back.
    Found(Place, i64),
    /// In the parking lot; WAL ended here after its commit.
    Lot(Lsn),
}

/// Everything in flight, in order.
#[derive(Debug)]
pub struct Ledger {
    /// The sequence number of the front of `pending`: all before it are delivered.
    passed: u64,
    pending: VecDeque<Pending>,
    /// Commits not yet done: (one past its last event, its end). At most one entry an event.
    commits: VecDeque<(u64, CommitEnd)>,
    is_open: bool,
    frontier: Frontier,
    confirmed: ConfirmedLsn,
    last_commit: CommitEnd,
    offsets: Offsets,
    park_lsn: Lsn,
    undelivered_bytes: usize,
    undelivered: usize,
}

/// An event's acknowledgement, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// When its transaction committed.
    pub commit_unix_ms: i64,
    /// Where it went.
    pub topic: TopicId,
}

impl Ledger {
    /// An empty ledger that goes on from a recorded frontier: nothing sent, nothing confirmed.
    pub fn new(frontier: Frontier, offsets: Offsets) -> Self {
        Self {
            passed: 0,
            pending: VecDeque::new(),
            commits: VecDeque::new(),
            is_open: false,
            frontier,
            confirmed: ConfirmedLsn::NOTHING,
            last_commit: CommitEnd(frontier.end),
            offsets,
            park_lsn: Lsn::ZERO,
            undelivered_bytes: 0,
            undelivered: 0,
        }
    }

    /// The number that the next event gets: the producer is given it with the record.
    pub fn next_seq(&self) -> EventSeq {
        EventSeq(self.passed + self.pending.len() as u64)
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

    /// The event with number [`next_seq`](Self::next_seq) was handed over.
    pub fn enqueue(&mut self, event: Enqueued) {
        if let Target::Kafka(place) = event.target {
            assert!(self.offsets.is_secured(place), "I4: a record's place is recorded first");
            self.offsets.hold(place);
        }
        self.undelivered_bytes += event.bytes as usize;
        self.undelivered += 1;
        self.push(event, None);
    }

    /// Kafka has the event already, at this offset: read-back found it. Its place has been held
    /// since then.
    pub fn enqueue_found(&mut self, event: Enqueued, place: Place, offset: i64) {
        self.push(event, Some(Arrived::Found(place, offset)));
        self.advance();
    }

    /// The event is in the parking lot already, or has left it: so it was when the lot was opened,
    /// at this end of WAL.
    pub fn enqueue_parked(&mut self, event: Enqueued, as_of: Lsn) {
        self.push(event, Some(Arrived::Lot(as_of)));
        self.advance();
    }

    fn push(&mut self, event: Enqueued, arrived: Option<Arrived>) {
        let position = event.position;
        assert!(self.is_open, "I3: an event belongs to an open transaction");
        if let Some(last) = self.pending.back() {
            assert!(position > last.event.position, "I6: events are sent in commit order");
        }
        assert!(!self.frontier.mark.covers(position), "I6: nothing is sent twice");
        self.pending.push_back(Pending { event, arrived });
    }

    /// Kafka acknowledged the event and keeps it at `offset`.
    pub fn deliver(&mut self, seq: EventSeq, offset: i64) -> Option<Acknowledged> {
        let event = self.pending_event(seq);
        assert!(event.target != Target::Lot, "I5: what is parked is not acknowledged by kafka");
        let Target::Kafka(place) = event.target else { return None };
        self.arrive(seq, Arrived::Kafka(place, offset));
        Some(Acknowledged { commit_unix_ms: event.commit_unix_ms, topic: place.topic })
    }

    /// The event's row in the parking lot is committed, and WAL ended at `as_of` after that.
    pub fn park(&mut self, seq: EventSeq, as_of: Lsn) {
        let event = self.pending_event(seq);
        assert!(event.target == Target::Lot, "I5: only what went to the lot is parked");
        self.arrive(seq, Arrived::Lot(as_of));
    }

    fn pending_index(&self, seq: EventSeq) -> usize {
        let index = seq.0.checked_sub(self.passed).and_then(|index| usize::try_from(index).ok());
        let index = index.unwrap_or(usize::MAX);
        assert!(index < self.pending.len(), "I5: an acknowledged event is pending");
        index
    }

    fn pending_event(&self, seq: EventSeq) -> Enqueued {
        self.pending[self.pending_index(seq)].event
    }

    fn arrive(&mut self, seq: EventSeq, arrived: Arrived) {
        let index = self.pending_index(seq);
        let pending = &mut self.pending[index];
        assert!(pending.arrived.is_none(), "I5: an event is acknowledged once");
        pending.arrived = Some(arrived);
        self.undelivered_bytes -= pending.event.bytes as usize;
        self.undelivered -= 1;
        self.advance();
    }

    /// What is recorded from now on relies on changes of the parking tables up to `as_of`.
    pub fn rely_on(&mut self, as_of: Lsn) {
        self.park_lsn = self.park_lsn.max(as_of);
    }

    /// The end of WAL after the last change of the parking tables that the frontier relies on.
    pub fn park_lsn(&self) -> Lsn {
        self.park_lsn
    }

    /// The position of the one event in flight, where there is exactly one.
    pub fn only_undelivered(&self) -> Option<EventPosition> {
        let undelivered = self.pending.iter().find(|pending| pending.arrived.is_none());
        undelivered.filter(|_| self.undelivered == 1).map(|pending| pending.event.position)
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
    /// whether the frontier may move there: only while nothing is in flight (I4), because a commit
    /// below it may still be undelivered.
    pub fn keepalive(&mut self, wal_end: WalEnd) -> bool {
        if self.is_open || !self.pending.is_empty() || !self.commits.is_empty() {
            return false;
        }
        if self.frontier.end < wal_end.0 {
            let mark = self.frontier.mark.max(Mark::before(wal_end.0));
            self.frontier = Frontier { mark, end: wal_end.0 };
        }
        true
    }

    /// Up to here the slot may be advanced.
    pub fn confirmed(&self) -> ConfirmedLsn {
        self.confirmed
    }

    /// How far everything is dealt with, whether that is recorded or not. After the producer was
    /// replaced everything up to it is skipped.
    pub fn frontier(&self) -> Frontier {
        self.frontier
    }

    /// Kafka holds a position record with this frontier.
    pub fn record(&mut self, recorded: Frontier) {
        assert!(recorded.end <= self.frontier.end, "I3: only what is done is confirmed");
        let confirmed = ConfirmedLsn(recorded.end);
        assert!(confirmed >= self.confirmed, "I2: the confirmed position never goes backward");
        self.confirmed = confirmed;
    }

    /// The last event that was enqueued: after the stream was lost, everything up to it is skipped.
    pub fn enqueued(&self) -> Mark {
        self.pending.back().map_or(self.frontier.mark, |last| Mark::after(last.event.position))
    }

    /// Topic partitions and the lowest offsets of what is beyond the frontier.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The same, to be told of topics and watermarks.
    pub fn offsets_mut(&mut self) -> &mut Offsets {
        &mut self.offsets
    }

    /// Events that the frontier has passed since the start.
    pub fn passed(&self) -> u64 {
        self.passed
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

    /// The producer was dropped with everything in it: what is beyond the frontier counts as never
    /// sent, until read-back has looked. What was confirmed stays confirmed.
    pub fn forget_pending(&mut self) {
        self.pending.clear();
        self.commits.clear();
        self.offsets.release_all();
        self.undelivered = 0;
        self.undelivered_bytes = 0;
        self.is_open = false;
        // Commits beyond the frontier come again with their events.
        self.last_commit = CommitEnd(self.frontier.end);
    }

    fn advance(&mut self) {
        while let Some((position, arrived)) = self.first_arrived() {
            self.frontier.mark = Mark::after(position);
            match arrived {
                Arrived::Kafka(place, offset) => self.offsets.pass(place, offset),
                Arrived::Found(place, offset) => self.offsets.pass_found(place, offset),
                Arrived::Lot(as_of) => self.rely_on(as_of),
            }
            self.passed += 1;
            self.pending.pop_front();
        }
        while let Some(&(until, end)) = self.commits.front() {
            if until > self.passed {
                break;
            }
            self.commits.pop_front();
            self.frontier.end = self.frontier.end.max(end.0);
        }
        assert!(self.undelivered <= self.pending.len(), "I5: the ledger's counts add up");
    }

    fn first_arrived(&self) -> Option<(EventPosition, Arrived)> {
        let first = self.pending.front()?;
        first.arrived.map(|arrived| (first.event.position, arrived))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn at(commit: u64, ordinal: u32) -> EventPosition {
        EventPosition { commit_lsn: commit, ordinal }
    }

    fn event(ledger: &Ledger, commit: u64, ordinal: u32) -> Enqueued {
        let place = ledger.offsets.place("t", 0).expect("entered");
        let target = Target::Kafka(place);
        Enqueued { position: at(commit, ordinal), commit_unix_ms: 0, target, bytes: 100 }
    }

    /// Nothing sent yet; one partition of one topic is entered and secured.
    fn empty() -> Ledger {
        let mut offsets = Offsets::default();
        offsets.enter(&Arc::from("t"), &[0]);
        let (generation, _) = offsets.snapshot();
        offsets.secure(generation);
        Ledger::new(Frontier::default(), offsets)
    }

    fn enqueue(ledger: &mut Ledger, commit: u64, ordinal: u32) {
        let event = event(ledger, commit, ordinal);
        ledger.enqueue(event);
    }

    /// Kafka acknowledges; offsets are the sequence numbers, as only one partition is written to.
    fn deliver(ledger: &mut Ledger, seq: u64) {
        ledger.deliver(EventSeq(seq), i64::try_from(seq).expect("small"));
    }

    /// What may be confirmed once it is recorded.
    fn end(ledger: &Ledger) -> u64 {
        ledger.frontier().end.0
    }

    /// Transactions of (commit LSN, number of events); the end LSN is the commit LSN plus 8.
    fn ledger(transactions: &[(u64, u32)]) -> Ledger {
        let mut ledger = empty();
        for &(commit, events) in transactions {
            ledger.begin();
            for ordinal in 0..events {
                enqueue(&mut ledger, commit, ordinal);
            }
            ledger.commit(CommitEnd(Lsn(commit + 8)));
        }
        ledger
    }

    #[test]
    fn confirm_waits_for_the_slowest_partition() {
        let mut ledger = ledger(&[(100, 2), (200, 1)]);
        deliver(&mut ledger, 2);
        deliver(&mut ledger, 1);
        assert_eq!(end(&ledger), 0);
        deliver(&mut ledger, 0);
        assert_eq!(end(&ledger), 208);
        assert_eq!(ledger.frontier().mark, Mark::after(at(200, 0)));
    }

    #[test]
    fn a_commit_is_confirmed_only_when_its_commit_message_was_seen() {
        let mut ledger = empty();
        ledger.begin();
        enqueue(&mut ledger, 100, 0);
        deliver(&mut ledger, 0);
        assert_eq!(end(&ledger), 0);
        ledger.commit(CommitEnd(Lsn(108)));
        assert_eq!(end(&ledger), 108);
    }

    #[test]
    fn empty_transactions_wait_behind_events_in_one_entry() {
        let mut ledger = ledger(&[(100, 1), (200, 0), (300, 0)]);
        assert_eq!(ledger.commits.len(), 1);
        assert_eq!(end(&ledger), 0);
        deliver(&mut ledger, 0);
        assert_eq!(end(&ledger), 308);
    }

    #[test]
    fn keepalive_counts_only_while_nothing_is_in_flight() {
        let mut ledger = ledger(&[(100, 1)]);
        assert!(!ledger.keepalive(WalEnd(Lsn(500))));
        deliver(&mut ledger, 0);
        ledger.begin();
        assert!(!ledger.keepalive(WalEnd(Lsn(500))));
        ledger.commit(CommitEnd(Lsn(208)));
        assert!(ledger.keepalive(WalEnd(Lsn(500))));
        assert_eq!(end(&ledger), 500);
    }

    #[test]
    fn an_older_keepalive_moves_nothing_back() {
        let mut ledger = ledger(&[(100, 0)]);
        ledger.keepalive(WalEnd(Lsn(50)));
        assert_eq!(end(&ledger), 108);
    }

    #[test]
    fn a_lost_stream_keeps_events_and_counts_a_repeated_commit_once() {
        let mut ledger = ledger(&[(100, 2)]);
        ledger.begin();
        enqueue(&mut ledger, 200, 0);
        ledger.abandon_open();
        assert_eq!(ledger.enqueued(), Mark::after(at(200, 0)));
        // The stream repeats both transactions; their known events are skipped by the pipeline.
        ledger.begin();
        ledger.commit(CommitEnd(Lsn(108)));
        ledger.begin();
        enqueue(&mut ledger, 200, 1);
        ledger.commit(CommitEnd(Lsn(208)));
        for seq in 0..4 {
            deliver(&mut ledger, seq);
        }
        assert_eq!(end(&ledger), 208);
    }

    #[test]
    fn a_replaced_producer_forgets_what_is_beyond_the_frontier() {
        let mut ledger = ledger(&[(100, 2), (200, 1)]);
        deliver(&mut ledger, 0);
        deliver(&mut ledger, 2);
        ledger.forget_pending();
        assert_eq!(ledger.frontier().mark, Mark::after(at(100, 0)));
        assert_eq!((ledger.undelivered(), ledger.undelivered_bytes()), (0, 0));
        ledger.begin();
        enqueue(&mut ledger, 100, 1);
        ledger.commit(CommitEnd(Lsn(108)));
        deliver(&mut ledger, 1);
        assert_eq!(end(&ledger), 108);
    }

    #[test]
    fn only_what_is_recorded_is_confirmed() {
        let mut ledger = ledger(&[(100, 1), (200, 1)]);
        deliver(&mut ledger, 0);
        let recorded = ledger.frontier();
        deliver(&mut ledger, 1);
        assert_eq!(ledger.confirmed(), ConfirmedLsn::NOTHING);
        ledger.record(recorded);
        assert_eq!(ledger.confirmed().lsn(), Lsn(108));
        ledger.record(ledger.frontier());
        assert_eq!(ledger.confirmed().lsn(), Lsn(208));
    }

    #[test]
    fn what_read_back_found_counts_as_delivered() {
        let mut ledger = empty();
        let place = ledger.offsets.place("t", 0).expect("entered");
        ledger.offsets_mut().hold_found(place);
        ledger.begin();
        enqueue(&mut ledger, 100, 0);
        let found = event(&ledger, 100, 1);
        ledger.enqueue_found(found, place, 4);
        ledger.commit(CommitEnd(Lsn(108)));
        assert_eq!((end(&ledger), ledger.undelivered()), (0, 1));
        ledger.deliver(EventSeq(0), 9);
        assert_eq!((end(&ledger), ledger.held()), (108, 0));
        assert_eq!(ledger.offsets().lowest().into_values().flatten().next(), Some(Some(10)));
    }

    #[test]
    fn a_parked_event_is_passed_once_its_row_is_committed() {
        let mut ledger = ledger(&[(100, 1)]);
        ledger.begin();
        let lot = Enqueued { target: Target::Lot, ..event(&ledger, 200, 0) };
        ledger.enqueue(lot);
        enqueue(&mut ledger, 200, 1);
        ledger.commit(CommitEnd(Lsn(208)));
        deliver(&mut ledger, 0);
        deliver(&mut ledger, 2);
        assert_eq!((end(&ledger), ledger.park_lsn()), (108, Lsn::ZERO));
        assert_eq!(ledger.only_undelivered(), Some(at(200, 0)));
        ledger.park(EventSeq(1), Lsn(300));
        assert_eq!((end(&ledger), ledger.park_lsn()), (208, Lsn(300)));
        assert_eq!((ledger.undelivered(), ledger.undelivered_bytes()), (0, 0));
    }

    #[test]
    fn what_the_lot_knew_at_the_start_counts_as_parked() {
        let mut ledger = empty();
        ledger.begin();
        let lot = Enqueued { target: Target::Lot, bytes: 0, ..event(&ledger, 100, 0) };
        ledger.enqueue_parked(lot, Lsn(70));
        ledger.commit(CommitEnd(Lsn(108)));
        assert_eq!((end(&ledger), ledger.park_lsn(), ledger.undelivered()), (108, Lsn(70), 0));
    }
}
