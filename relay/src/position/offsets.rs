//! Topic partitions that a source writes to, each with the lowest offset at which a record beyond
//! the frontier can lie: from there read-back reads. Pure.
//!
//! ```text
//!   partition   offset 40  41  42  43  44
//!   frontier has passed  x   x            -> 42: what is beyond the frontier lies here or later
//! ```
//!
//! Records of one partition are acknowledged in the order of their offsets, and the frontier passes
//! them in the order in which they were sent, so one past the last record that the frontier passed
//! is a lower bound. A place is *entered* with its high watermark before its first record, and is
//! *secured* once a position record that names it is acknowledged: until then nothing may be sent
//! there, because after a crash nobody would look there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The number of a topic here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(u32);

impl TopicId {
    /// No topic.
    pub const NONE: TopicId = TopicId(u32::MAX);
}

/// A topic partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: TopicId,
    /// The partition, from 0.
    pub partition: u32,
}

/// The number of a snapshot, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Generation(u64);

/// Lowest offsets by topic and partition; `None` for a partition that nothing was sent to.
pub type LowestOffsets = BTreeMap<Arc<str>, Vec<Option<i64>>>;

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    partitions: Vec<Option<Partition>>,
}

#[derive(Debug, Clone, Copy)]
struct Partition {
    lowest: i64,
    /// Where `lowest` stood when the first released event was sent here whose row has not left the
    /// lot yet: its record lies there or later, and must be found after a crash.
    pinned: Option<i64>,
    /// One past the largest offset that the frontier has passed.
    passed: i64,
    /// Records that read-back found and the frontier has not passed. Late copies of an earlier
    /// producer stand in any order among them, so `lowest` rests until all of them are passed.
    found: u64,
    /// Records of ours that the frontier has not passed.
    held: u32,
    /// In every snapshot from the one after this.
    entered: Generation,
}

/// All topic partitions of a source.
#[derive(Debug, Default)]
pub struct Offsets {
    topics: Vec<Topic>,
    by_name: HashMap<Arc<str>, TopicId>,
    taken: Generation,
    secured: Generation,
}

impl Partition {
    fn at(lowest: i64, entered: Generation) -> Self {
        Self { lowest, pinned: None, passed: lowest, found: 0, held: 0, entered }
    }
}

impl Offsets {
    /// Enters the partitions of a topic that are new, each with its high watermark. Partitions that
    /// are known keep what is known of them.
    pub fn enter(&mut self, topic: &Arc<str>, ends: &[i64]) -> TopicId {
        let id = self.id(topic);
        let entered = self.taken;
        if let Some(known) = self.topics.get_mut(id.0 as usize) {
            let missing = ends.len().max(known.partitions.len());
            known.partitions.resize(missing, None);
            for (slot, end) in known.partitions.iter_mut().zip(ends) {
                slot.get_or_insert(Partition::at(*end, entered));
            }
        }
        id
    }

    /// Takes over what the last position record of an earlier run says. All of it is secured.
    pub fn restore(&mut self, recorded: &LowestOffsets) {
        for (topic, partitions) in recorded {
            let id = self.id(topic);
            if let Some(known) = self.topics.get_mut(id.0 as usize) {
                let secured = |lowest| Partition::at(lowest, Generation(0));
                let partitions = partitions.iter().map(|lowest| lowest.map(secured));
                known.partitions = partitions.collect();
            }
        }
        self.taken = Generation(1);
        self.secured = Generation(1);
    }

    /// The topic's name.
    pub fn name(&self, topic: TopicId) -> &Arc<str> {
        &self.topics[topic.0 as usize].name
    }

    /// The place of a partition that is entered.
    pub fn place(&self, topic: &str, partition: u32) -> Option<Place> {
        let place = Place { topic: *self.by_name.get(topic)?, partition };
        self.get(place).map(|_| place)
    }

    /// Whether records may be sent there.
    pub fn is_secured(&self, place: Place) -> bool {
        self.get(place).is_some_and(|partition| partition.entered < self.secured)
    }

    /// A record is under way to the place.
    pub fn hold(&mut self, place: Place) {
        if let Some(partition) = self.get_mut(place) {
            partition.held += 1;
        }
    }

    /// A record was found there beyond the frontier.
    pub fn hold_found(&mut self, place: Place) {
        if let Some(partition) = self.get_mut(place) {
            partition.held += 1;
            partition.found += 1;
        }
    }

    /// The frontier passed a record that was found.
    pub fn pass_found(&mut self, place: Place, offset: i64) {
        if let Some(partition) = self.get_mut(place) {
            assert!(partition.found > 0, "I5: a found record that the frontier passes is held");
            partition.found -= 1;
        }
        self.pass(place, offset);
    }

    /// A released event is under way to the place.
    pub fn release(&mut self, place: Place) {
        if let Some(partition) = self.get_mut(place) {
            partition.pinned.get_or_insert(partition.lowest);
            partition.held += 1;
        }
    }

    /// A released event is acknowledged. The frontier has nothing to do with it.
    pub fn released(&mut self, place: Place) {
        if let Some(partition) = self.get_mut(place) {
            assert!(partition.held > 0, "I5: a release that is acknowledged is held");
            partition.held -= 1;
        }
    }

    /// Read-back found released events whose rows are in the lot: wherever they lie, they must be
    /// found again until the rows have left.
    pub fn pin_all(&mut self) {
        for partition in self.all() {
            partition.pinned.get_or_insert(partition.lowest);
        }
    }

    /// The rows of all released events have left the lot.
    pub fn unpin_all(&mut self) {
        for partition in self.all() {
            partition.pinned = None;
        }
    }

    /// The frontier passed a record that lies at `offset`.
    pub fn pass(&mut self, place: Place, offset: i64) {
        if let Some(partition) = self.get_mut(place) {
            assert!(partition.held > 0, "I5: a record that the frontier passes is held");
            partition.held -= 1;
            partition.passed = partition.passed.max(offset + 1);
            if partition.found == 0 {
                partition.lowest = partition.passed;
            }
        }
    }

    /// Records that are under way were given up with their producer.
    pub fn release_all(&mut self) {
        for partition in self.all() {
            (partition.held, partition.found) = (0, 0);
            partition.passed = partition.lowest;
        }
    }

    /// High watermarks, asked for a moment ago: a partition without records of ours beyond the
    /// frontier moves there, so that read-back after a long quiet time has little to read. A mark
    /// that is too low by now is harmless.
    pub fn move_idle(&mut self, topic: &str, ends: &[i64]) {
        let Some(id) = self.by_name.get(topic) else { return };
        let Some(known) = self.topics.get_mut(id.0 as usize) else { return };
        for (slot, end) in known.partitions.iter_mut().zip(ends) {
            if let Some(partition) = slot.as_mut().filter(|partition| partition.held == 0) {
                (partition.lowest, partition.passed) = (*end, *end);
            }
        }
    }

    /// All topics.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.iter().map(|topic| &topic.name)
    }

    /// Whether no record of ours in this topic is beyond the frontier.
    pub fn is_idle(&self, topic: &str) -> bool {
        let of = self.by_name.get(topic).and_then(|id| self.topics.get(id.0 as usize));
        of.is_none_or(|topic| topic.partitions.iter().flatten().all(|known| known.held == 0))
    }

    /// Everything as it is now, for a position record.
    pub fn snapshot(&mut self) -> (Generation, LowestOffsets) {
        self.taken.0 += 1;
        (self.taken, self.lowest())
    }

    /// The lowest offsets as they are now.
    pub fn lowest(&self) -> LowestOffsets {
        let lowest = |partition: &Option<Partition>| {
            partition.map(|known| known.pinned.unwrap_or(known.lowest).min(known.lowest))
        };
        let of = |topic: &Topic| {
            (Arc::clone(&topic.name), topic.partitions.iter().map(lowest).collect())
        };
        self.topics.iter().map(of).collect()
    }

    /// The position record with this snapshot is acknowledged.
    pub fn secure(&mut self, generation: Generation) {
        self.secured = self.secured.max(generation);
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.topics.iter_mut().flat_map(|topic| topic.partitions.iter_mut().flatten())
    }

    fn id(&mut self, topic: &Arc<str>) -> TopicId {
        if let Some(id) = self.by_name.get(topic) {
            return *id;
        }
        let id = TopicId(u32::try_from(self.topics.len()).unwrap_or(u32::MAX));
        self.topics.push(Topic { name: Arc::clone(topic), partitions: Vec::new() });
        self.by_name.insert(Arc::clone(topic), id);
        id
    }

    fn get(&self, place: Place) -> Option<&Partition> {
        let topic = self.topics.get(place.topic.0 as usize)?;
        topic.partitions.get(place.partition as usize)?.as_ref()
    }

    fn get_mut(&mut self, place: Place) -> Option<&mut Partition> {
        let topic = self.topics.get_mut(place.topic.0 as usize)?;
        topic.partitions.get_mut(place.partition as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowest(offsets: &Offsets) -> Vec<Option<i64>> {
        offsets.lowest().into_values().flatten().collect()
    }

    fn entered(ends: &[i64]) -> (Offsets, impl Fn(u32) -> Place + use<>) {
        let mut offsets = Offsets::default();
        let topic = offsets.enter(&Arc::from("orders"), ends);
        (offsets, move |partition| Place { topic, partition })
    }

    #[test]
    fn a_place_is_secured_by_the_first_snapshot_after_its_entry() {
        let (mut offsets, place) = entered(&[5, 0]);
        let (before, _) = offsets.snapshot();
        offsets.enter(&Arc::from("orders"), &[9, 9, 7]);
        assert_eq!(lowest(&offsets), [Some(5), Some(0), Some(7)]);
        let (after, _) = offsets.snapshot();
        assert!(!offsets.is_secured(place(0)));
        offsets.secure(before);
        assert!(offsets.is_secured(place(0)) && !offsets.is_secured(place(2)));
        offsets.secure(after);
        assert!(offsets.is_secured(place(2)));
        assert!(!offsets.is_secured(place(3)), "a partition that nobody entered");
    }

    #[test]
    fn the_bound_follows_the_frontier_and_rests_while_something_is_held() {
        let (mut offsets, place) = entered(&[5, 0]);
        offsets.hold(place(0));
        offsets.hold(place(0));
        offsets.pass(place(0), 5);
        offsets.move_idle("orders", &[100, 100]);
        assert_eq!(lowest(&offsets), [Some(6), Some(100)]);
        offsets.pass(place(0), 9);
        offsets.move_idle("orders", &[100, 101]);
        assert_eq!(lowest(&offsets), [Some(100), Some(101)]);
    }

    #[test]
    fn the_bound_rests_until_all_that_was_found_is_passed() {
        let (mut offsets, place) = entered(&[5]);
        // A late copy of the first lies behind the second.
        offsets.hold_found(place(0));
        offsets.hold_found(place(0));
        offsets.pass_found(place(0), 9);
        assert_eq!(lowest(&offsets), [Some(5)], "the second lies at 6");
        offsets.hold(place(0));
        offsets.pass(place(0), 12);
        assert_eq!(lowest(&offsets), [Some(5)]);
        offsets.pass_found(place(0), 6);
        assert_eq!(lowest(&offsets), [Some(13)]);
    }

    #[test]
    fn a_released_record_can_be_found_until_its_row_has_left_the_lot() {
        let (mut offsets, place) = entered(&[5, 0]);
        offsets.release(place(0));
        offsets.hold(place(0));
        offsets.released(place(0));
        offsets.pass(place(0), 6);
        offsets.move_idle("orders", &[50, 50]);
        assert_eq!(lowest(&offsets), [Some(5), Some(50)], "the released record lies at 5");
        offsets.unpin_all();
        assert_eq!(lowest(&offsets), [Some(50), Some(50)]);
        offsets.pin_all();
        offsets.move_idle("orders", &[60, 60]);
        assert_eq!(lowest(&offsets), [Some(50), Some(50)]);
    }

    #[test]
    fn what_was_recorded_is_secured_and_keeps_its_holes() {
        let recorded = LowestOffsets::from([(Arc::from("orders"), vec![Some(3), None])]);
        let mut offsets = Offsets::default();
        offsets.restore(&recorded);
        assert_eq!(offsets.lowest(), recorded);
        let place = offsets.place("orders", 0).expect("entered");
        assert!(offsets.is_secured(place));
        assert_eq!(offsets.place("orders", 1), None);
        offsets.enter(&Arc::from("orders"), &[9, 9]);
        assert_eq!(lowest(&offsets), [Some(3), Some(9)]);
        assert!(!offsets.is_secured(offsets.place("orders", 1).expect("entered")));
    }
}
