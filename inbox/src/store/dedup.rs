//! What the database answered in, a verdict for each message out. Pure.
//!
//! Invariants: every id that the database claimed was asked for, and as often as it was claimed a
//! message is fresh (I10).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::message::MessageRef;

/// A parked sequence: topic and name.
pub type ParkedKey = (Arc<str>, Arc<[u8]>);

/// What to do with one message, within the transaction that claimed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A first copy: handle it.
    Fresh,
    /// Handled before, here or elsewhere: go on.
    Duplicate,
    /// A first copy whose sequence is parked: append it there.
    Parked,
}

/// A verdict for each message, in the order in which they were asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    verdicts: Vec<Claim>,
}

impl Claims {
    /// Judges by the ids that were claimed and the sequences that are parked.
    ///
    /// Of copies in one call the first is the first copy. Panics when the answer is not one to the
    /// question (I10).
    ///
    /// ```
    /// # use walpost_inbox::{MessageRef, Place, store::{Claim, Claims, Day}};
    /// # let message = |id, key: u8| MessageRef {
    /// #     id: uuid::Uuid::from_u128(id), day: Day::NONE, offset: 0, sequence: [1, key].into(),
    /// #     place: Place { topic: "t".into(), partition: 0 },
    /// # };
    /// let messages = [message(1, 7), message(2, 8)];
    /// let taken_by_us = [messages[0].id];
    /// let claims = Claims::judge(&messages, &taken_by_us, &Default::default());
    /// assert_eq!(claims.verdicts(), [Claim::Fresh, Claim::Duplicate]);
    /// ```
    #[must_use]
    pub fn judge(messages: &[MessageRef], claimed: &[Uuid], parked: &HashSet<ParkedKey>) -> Self {
        let mut left: HashMap<Uuid, usize> = HashMap::with_capacity(claimed.len());
        for id in claimed {
            *left.entry(*id).or_default() += 1;
        }
        let mut seen = HashSet::with_capacity(messages.len());
        let mut fresh = 0;
        let mut judge_one = |message: &MessageRef| {
            // A second copy may have claimed another day; it is a copy all the same.
            let is_first = seen.insert(message.id);
            let count = if is_first { left.remove(&message.id).unwrap_or(0) } else { 0 };
            fresh += count;
            if count == 0 {
                return Claim::Duplicate;
            }
            let key = (Arc::clone(&message.place.topic), Arc::clone(&message.sequence));
            if parked.contains(&key) { Claim::Parked } else { Claim::Fresh }
        };
        let verdicts: Vec<Claim> = messages.iter().map(&mut judge_one).collect();
        assert!(left.is_empty(), "I10: the database claimed ids that nobody asked for");
        assert_eq!(fresh, claimed.len(), "I10: each claimed id makes exactly one message fresh");
        Self { verdicts }
    }

    /// The verdict for one message.
    pub(crate) fn of_one(verdict: Claim) -> Self {
        Self { verdicts: vec![verdict] }
    }

    /// The verdicts, in the order of the messages.
    ///
    /// ```
    /// # use walpost_inbox::{MessageRef, Place, store::{Claim, Claims, Day}};
    /// # let message = |id, key: u8| MessageRef {
    /// #     id: uuid::Uuid::from_u128(id), day: Day::NONE, offset: 0, sequence: [1, key].into(),
    /// #     place: Place { topic: "t".into(), partition: 0 },
    /// # };
    /// let messages = [message(1, 7), message(2, 8)];
    /// let taken_by_us = [messages[0].id];
    /// let claims = Claims::judge(&messages, &taken_by_us, &Default::default());
    /// assert_eq!(claims.verdicts().len(), messages.len());
    /// ```
    #[must_use]
    pub fn verdicts(&self) -> &[Claim] {
        &self.verdicts
    }

    /// The messages that are to be handled, in order.
    ///
    /// ```
    /// # use walpost_inbox::{MessageRef, Place, store::{Claim, Claims, Day}};
    /// # let message = |id, key: u8| MessageRef {
    /// #     id: uuid::Uuid::from_u128(id), day: Day::NONE, offset: 0, sequence: [1, key].into(),
    /// #     place: Place { topic: "t".into(), partition: 0 },
    /// # };
    /// let messages = [message(1, 7), message(2, 8)];
    /// let taken_by_us = [messages[0].id];
    /// let claims = Claims::judge(&messages, &taken_by_us, &Default::default());
    /// assert_eq!(claims.fresh(&messages).count(), 1);
    /// ```
    pub fn fresh<'a, T>(&'a self, messages: &'a [T]) -> impl Iterator<Item = &'a T> {
        self.with(messages, Claim::Fresh)
    }

    /// The messages with this verdict, in order.
    ///
    /// ```
    /// # use walpost_inbox::{MessageRef, Place, store::{Claim, Claims, Day}};
    /// # let message = |id, key: u8| MessageRef {
    /// #     id: uuid::Uuid::from_u128(id), day: Day::NONE, offset: 0, sequence: [1, key].into(),
    /// #     place: Place { topic: "t".into(), partition: 0 },
    /// # };
    /// let messages = [message(1, 7), message(2, 8)];
    /// let taken_by_us = [messages[0].id];
    /// let claims = Claims::judge(&messages, &taken_by_us, &Default::default());
    /// assert_eq!(claims.with(&messages, Claim::Duplicate).count(), 1);
    /// ```
    pub fn with<'a, T>(&'a self, messages: &'a [T], verdict: Claim) -> impl Iterator<Item = &'a T> {
        let pairs = messages.iter().zip(&self.verdicts);
        pairs.filter(move |(_, found)| **found == verdict).map(|(message, _)| message)
    }

    /// How many messages have this verdict.
    ///
    /// ```
    /// # use walpost_inbox::{MessageRef, Place, store::{Claim, Claims, Day}};
    /// # let message = |id, key: u8| MessageRef {
    /// #     id: uuid::Uuid::from_u128(id), day: Day::NONE, offset: 0, sequence: [1, key].into(),
    /// #     place: Place { topic: "t".into(), partition: 0 },
    /// # };
    /// let messages = [message(1, 7), message(2, 8)];
    /// let taken_by_us = [messages[0].id];
    /// let claims = Claims::judge(&messages, &taken_by_us, &Default::default());
    /// assert_eq!(claims.count(Claim::Parked), 0);
    /// ```
    #[must_use]
    pub fn count(&self, verdict: Claim) -> usize {
        self.verdicts.iter().filter(|found| **found == verdict).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Place;
    use crate::store::Day;

    fn message(id: u128, offset: i64, key: u8) -> MessageRef {
        MessageRef {
            id: Uuid::from_u128(id),
            day: Day::NONE,
            place: Place { topic: "t".into(), partition: 0 },
            offset,
            sequence: Arc::from([1, key]),
        }
    }

    fn judge(messages: &[MessageRef], claimed: &[u128], parked: &[u8]) -> Vec<Claim> {
        let claimed: Vec<Uuid> = claimed.iter().map(|id| Uuid::from_u128(*id)).collect();
        let key = |key: &u8| -> ParkedKey { ("t".into(), Arc::from([1, *key])) };
        let parked = parked.iter().map(key).collect();
        Claims::judge(messages, &claimed, &parked).verdicts().to_vec()
    }

    #[test]
    fn of_copies_in_one_batch_the_first_is_fresh_and_taken_ids_are_duplicates() {
        use Claim::{Duplicate, Fresh};
        let messages = [message(1, 0, 1), message(2, 1, 2), message(1, 2, 1), message(3, 3, 1)];
        assert_eq!(judge(&messages, &[3, 1], &[]), [Fresh, Duplicate, Duplicate, Fresh]);
    }

    #[test]
    fn a_first_copy_of_a_parked_sequence_is_parked_and_a_copy_is_not() {
        use Claim::{Duplicate, Fresh, Parked};
        let messages = [message(1, 0, 1), message(2, 1, 1), message(3, 2, 2)];
        assert_eq!(judge(&messages, &[2, 3], &[1]), [Duplicate, Parked, Fresh]);
    }

    #[test]
    fn an_id_claimed_under_two_days_is_still_one_event() {
        use Claim::{Duplicate, Fresh};
        let messages = [message(1, 0, 1), message(1, 1, 1)];
        assert_eq!(judge(&messages, &[1, 1], &[]), [Fresh, Duplicate]);
    }

    #[test]
    fn an_answer_to_another_question_is_a_broken_invariant() {
        let broken = std::panic::catch_unwind(|| judge(&[message(1, 0, 1)], &[2], &[]));
        let said = broken.expect_err("it panics");
        let said = said.downcast_ref::<&str>().copied().unwrap_or_default();
        assert!(said.contains("I10"), "{said}");
    }
}
