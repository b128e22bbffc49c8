//! Received and finished offsets of one partition in, the offset that may be committed out. Pure.
//!
//! Finished means committed in the database, here or by somebody else. What may be committed to
//! Kafka is the frontier: everything that was received before it is finished, without a hole (I10).
//! Offsets that Kafka never handed out (compaction, aborted transactions) are no holes.

use std::collections::VecDeque;

/// The offsets of a partition from one assignment to its end.
#[derive(Debug)]
pub(crate) struct Offsets {
    /// Received and not yet passed by the frontier, in order.
    open: VecDeque<(i64, bool)>,
    frontier: i64,
    /// One past the last received.
    next: i64,
    committed: i64,
}

impl Offsets {
    /// Nothing is received; the first record stands at `start` or behind it.
    #[must_use]
    pub(crate) fn starting_at(start: i64) -> Self {
        Self { open: VecDeque::new(), frontier: start, next: start, committed: start }
    }

    /// A record was handed out by Kafka. False when it was before: it is to be dropped.
    #[must_use]
    pub(crate) fn receive(&mut self, offset: i64) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset + 1;
        self.open.push_back((offset, false));
        true
    }

    /// A received record is finished: its transaction has committed.
    pub(crate) fn finish(&mut self, offset: i64) {
        let found = self.open.binary_search_by_key(&offset, |(offset, _)| *offset);
        let entry = found.ok().and_then(|at| self.open.get_mut(at));
        assert!(entry.is_some(), "I10: only a received offset beyond the frontier is finished");
        if let Some(entry) = entry {
            assert!(!entry.1, "I10: an offset is finished once");
            entry.1 = true;
        }
        while let Some((offset, true)) = self.open.front() {
            self.frontier = offset + 1;
            self.open.pop_front();
        }
    }

    /// One past the last finished offset without a hole.
    #[must_use]
    pub(crate) fn frontier(&self) -> i64 {
        self.frontier
    }

    /// What is to be committed to Kafka now, if that is more than before; at most up to where the
    /// floor is known to reach, which is never beyond the frontier.
    pub(crate) fn next_commit(&mut self, floor_to: i64) -> Option<i64> {
        assert!(floor_to <= self.frontier, "I10: the floor follows the frontier");
        if floor_to <= self.committed {
            return None;
        }
        assert!(
            self.open.front().is_none_or(|(offset, _)| *offset >= floor_to),
            "I10: nothing unfinished lies below what is committed"
        );
        self.committed = floor_to;
        Some(floor_to)
    }

    /// Received offsets at or beyond the frontier: what it costs in memory that one is slow.
    #[must_use]
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Offsets {
        /// With a floor that has followed.
        fn commit(&mut self) -> Option<i64> {
            self.next_commit(self.frontier)
        }
    }

    /// Trap 21: a fast offset 11 does not hide a slow 10.
    #[test]
    fn a_fast_offset_does_not_hide_a_slow_one_before_it() {
        let mut offsets = Offsets::starting_at(10);
        for offset in 10..13 {
            assert!(offsets.receive(offset));
        }
        offsets.finish(11);
        assert_eq!((offsets.frontier(), offsets.commit()), (10, None));
        offsets.finish(10);
        assert_eq!((offsets.commit(), offsets.commit()), (Some(12), None));
        offsets.finish(12);
        assert_eq!((offsets.commit(), offsets.open()), (Some(13), 0));
    }

    #[test]
    fn what_is_committed_waits_for_the_floor() {
        let mut offsets = Offsets::starting_at(0);
        assert!((0..4).all(|offset| offsets.receive(offset)));
        (0..3).for_each(|offset| offsets.finish(offset));
        assert_eq!((offsets.frontier(), offsets.next_commit(0)), (3, None));
        assert_eq!((offsets.next_commit(2), offsets.next_commit(2)), (Some(2), None));
        let broken = std::panic::catch_unwind(move || offsets.next_commit(4));
        assert!(broken.is_err(), "beyond the frontier");
    }

    #[test]
    fn offsets_that_kafka_leaves_out_are_no_holes() {
        let mut offsets = Offsets::starting_at(3);
        for offset in [5, 9, 100] {
            assert!(offsets.receive(offset));
        }
        offsets.finish(9);
        offsets.finish(5);
        assert_eq!(offsets.commit(), Some(10));
        offsets.finish(100);
        assert_eq!(offsets.commit(), Some(101));
    }

    #[test]
    fn finishing_twice_or_what_was_never_received_breaks_the_invariant() {
        for finish in [vec![1, 1], vec![2, 2], vec![9]] {
            let broken = std::panic::catch_unwind(|| {
                let mut offsets = Offsets::starting_at(0);
                assert!((1..4).all(|offset| offsets.receive(offset)));
                finish.iter().for_each(|offset| offsets.finish(*offset));
            });
            assert!(broken.is_err(), "{finish:?}");
        }
    }

    #[test]
    fn a_record_that_kafka_hands_out_again_is_dropped() {
        let mut offsets = Offsets::starting_at(5);
        assert!(offsets.receive(5) && offsets.receive(6));
        assert!(!offsets.receive(6) && !offsets.receive(4));
        assert_eq!(offsets.open(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        /// Whatever the order of finishing: what is committed never covers an unfinished offset,
        /// never goes back, and covers everything in the end.
        #[test]
        fn what_is_committed_never_covers_an_unfinished_offset(
            gaps in prop::collection::vec(1_i64..4, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let mut offsets = Offsets::starting_at(0);
            let mut next = 0;
            let mut left: Vec<i64> = gaps.iter().map(|gap| { next += gap; next }).collect();
            let last = next;
            prop_assert!(left.iter().all(|offset| offsets.receive(*offset)));
            let mut before = i64::MIN;
            for index in order {
                if left.is_empty() { break }
                offsets.finish(left.remove(index.index(left.len())));
                if let Some(commit) = offsets.commit() {
                    prop_assert!(commit > before);
                    prop_assert!(left.iter().all(|offset| *offset >= commit));
                    before = commit;
                }
            }
            prop_assert!(!left.is_empty() || before == last + 1);
        }
    }
}
