//! Received and finished offsets of one partition in, the offset that may be committed out. Pure.
//!
//! Finished means committed in the database, here or by somebody else. What may be committed to
//! Kafka is the frontier: everything that was received before it is finished, without a hole (I10).
//! Offsets that Kafka never handed out (compaction, aborted transactions) are no holes.

use std::collections::VecDeque;

/// The offsets of a partition from one assignment to its end.
#[derive(Debug, Default)]
pub struct Offsets {
    /// Received and not yet passed by the frontier, in order.
    open: VecDeque<(i64, bool)>,
    first: Option<i64>,
    frontier: Option<i64>,
    committed: Option<i64>,
}

impl Offsets {
    /// A record was handed out by Kafka. They come in order.
    pub fn receive(&mut self, offset: i64) {
        let last = self.open.back().map(|(last, _)| *last);
        let last = last.or_else(|| self.frontier.map(|next| next - 1));
        assert!(last.is_none_or(|last| offset > last), "I10: offsets are received in order");
        self.first.get_or_insert(offset);
        self.frontier.get_or_insert(offset);
        self.open.push_back((offset, false));
    }

    /// A received record is finished: its transaction has committed.
    pub fn finish(&mut self, offset: i64) {
        let found = self.open.binary_search_by_key(&offset, |(offset, _)| *offset);
        let entry = found.ok().and_then(|at| self.open.get_mut(at));
        assert!(entry.is_some(), "I10: only a received offset beyond the frontier is finished");
        if let Some(entry) = entry {
            assert!(!entry.1, "I10: an offset is finished once");
            entry.1 = true;
        }
        while let Some((offset, true)) = self.open.front() {
            self.frontier = Some(offset + 1);
            self.open.pop_front();
        }
    }

    /// One past the last finished offset without a hole; `None` before the first record.
    #[must_use]
    pub fn frontier(&self) -> Option<i64> {
        self.frontier
    }

    /// The offset of the first record of this assignment.
    #[must_use]
    pub fn first(&self) -> Option<i64> {
        self.first
    }

    /// What is to be committed to Kafka now, if that is more than before.
    pub fn to_commit(&mut self) -> Option<i64> {
        let frontier = self.frontier.filter(|frontier| {
            self.first.is_some_and(|first| *frontier > first)
                && self.committed.is_none_or(|committed| *frontier > committed)
        })?;
        assert!(
            self.open.front().is_none_or(|(offset, _)| *offset >= frontier),
            "I10: nothing unfinished lies below what is committed"
        );
        self.committed = Some(frontier);
        Some(frontier)
    }

    /// Received offsets at or beyond the frontier: what it costs in memory that one is slow.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Trap 21: a fast offset 11 does not hide a slow 10.
    #[test]
    fn a_fast_offset_does_not_hide_a_slow_one_before_it() {
        let mut offsets = Offsets::default();
        for offset in 10..13 {
            offsets.receive(offset);
        }
        offsets.finish(11);
        assert_eq!((offsets.frontier(), offsets.to_commit()), (Some(10), None));
        offsets.finish(10);
        assert_eq!((offsets.to_commit(), offsets.to_commit()), (Some(12), None));
        offsets.finish(12);
        assert_eq!((offsets.to_commit(), offsets.open()), (Some(13), 0));
    }

    #[test]
    fn offsets_that_kafka_leaves_out_are_no_holes() {
        let mut offsets = Offsets::default();
        for offset in [5, 9, 100] {
            offsets.receive(offset);
        }
        offsets.finish(9);
        offsets.finish(5);
        assert_eq!(offsets.to_commit(), Some(10));
        offsets.finish(100);
        assert_eq!(offsets.to_commit(), Some(101));
    }

    #[test]
    fn finishing_twice_or_what_was_never_received_breaks_the_invariant() {
        for finish in [vec![1, 1], vec![2, 2], vec![9]] {
            let broken = std::panic::catch_unwind(|| {
                let mut offsets = Offsets::default();
                (1..4).for_each(|offset| offsets.receive(offset));
                finish.iter().for_each(|offset| offsets.finish(*offset));
            });
            assert!(broken.is_err(), "{finish:?}");
        }
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
            let mut offsets = Offsets::default();
            let mut next = 0;
            let mut left: Vec<i64> = gaps.iter().map(|gap| { next += gap; next }).collect();
            let last = next;
            left.iter().for_each(|offset| offsets.receive(*offset));
            let mut before = i64::MIN;
            for index in order {
                if left.is_empty() { break }
                offsets.finish(left.remove(index.index(left.len())));
                if let Some(commit) = offsets.to_commit() {
                    prop_assert!(commit > before);
                    prop_assert!(left.iter().all(|offset| *offset >= commit));
                    before = commit;
                }
            }
            prop_assert!(!left.is_empty() || before == last + 1);
        }
    }
}
