//! The simulated Kafka: partitions, a producer with what is in flight, and the position topic.
//!
//! A producer's records reach a partition in the order in which they were sent. When it is lost,
//! some of what was in flight is in the partition all the same, and nobody is told. Seldom, some of
//! it arrives even later: the one way to a duplicate.

use std::collections::{BTreeMap, VecDeque};

use walpost_schema::envelope::EventPosition;
use walpost_tests::workload::Random;

use crate::server::REFUSED;
use crate::story::tell;

pub(crate) const PARTITIONS: u32 = 2;

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) position: EventPosition,
    pub(crate) is_released: bool,
    pub(crate) value: String,
}

/// Who waits for the acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ticket {
    Event(u64),
    Release(u64),
}

/// What the producer says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Delivery {
    Acknowledged(Ticket, i64),
    Position,
}

type PlaceName = (String, u32);

#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(crate) logs: BTreeMap<PlaceName, Vec<Stored>>,
    pub(crate) positions: Vec<Vec<u8>>,
    pub(crate) has_late_topic: bool,
    pub(crate) refuses: bool,
    in_flight: BTreeMap<PlaceName, VecDeque<(Ticket, Stored)>>,
    position_in_flight: Option<Vec<u8>>,
    /// Of producers that are gone.
    straggling: Vec<(PlaceName, VecDeque<Stored>)>,
    pub(crate) deliveries: VecDeque<Delivery>,
    /// Records that arrived after their producer was given up.
    pub(crate) stragglers: u64,
}

impl Broker {
    pub(crate) fn ends(&self, topic: &str) -> Vec<i64> {
        let end = |partition| {
            let log = self.logs.get(&(topic.to_owned(), partition));
            log.map_or(0, |log| i64::try_from(log.len()).expect("small"))
        };
        (0..PARTITIONS).map(end).collect()
    }

    pub(crate) fn send(&mut self, place: PlaceName, ticket: Ticket, record: Stored) {
        tell(|| format!("  send {ticket:?} {} {} {}", record.id, record.key, record.position));
        self.in_flight.entry(place).or_default().push_back((ticket, record));
    }

    pub(crate) fn send_position(&mut self, value: Vec<u8>) {
        assert!(self.position_in_flight.is_none(), "one position record at a time");
        self.position_in_flight = Some(value);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.values().all(VecDeque::is_empty) && self.position_in_flight.is_none()
    }

    /// A batch of some partition arrives, or the position record; whether it was taken.
    pub(crate) fn deliver(&mut self, random: &mut Random, appended: &mut Vec<Stored>) -> bool {
        if let Some(value) = self.position_in_flight.take_if(|_| random.below(3) == 0) {
            self.positions.push(value);
            self.deliveries.push_back(Delivery::Position);
            return true;
        }
        let waiting: Vec<PlaceName> = self
            .in_flight
            .iter()
            .filter(|(_, queue)| !queue.is_empty())
            .map(|(place, _)| place.clone())
            .collect();
        let Some(place) = waiting.get(usize_below(random, waiting.len())).cloned() else {
            if let Some(value) = self.position_in_flight.take() {
                self.positions.push(value);
                self.deliveries.push_back(Delivery::Position);
            }
            return true;
        };
        let queue = self.in_flight.get_mut(&place).expect("chosen");
        let count = 1 + usize_below(random, queue.len());
        let is_bad = |(_, record): &(Ticket, Stored)| record.value == REFUSED;
        if self.refuses && queue.iter().take(count).any(is_bad) {
            tell(|| format!("  refused {:?}", queue.iter().take(count).collect::<Vec<_>>()));
            return false;
        }
        let log = self.logs.entry(place).or_default();
        for (ticket, record) in queue.drain(..count) {
            let offset = i64::try_from(log.len()).expect("small");
            self.deliveries.push_back(Delivery::Acknowledged(ticket, offset));
            appended.push(record.clone());
            log.push(record);
        }
        true
    }

    /// The producer is given up. A refused record is in no partition, and nothing behind it.
    pub(crate) fn lose_producer(&mut self, random: &mut Random, appended: &mut Vec<Stored>) {
        self.deliveries.clear();
        let refuses = self.refuses;
        for (place, queue) in std::mem::take(&mut self.in_flight) {
            let mut records: VecDeque<Stored> = queue
                .into_iter()
                .map(|(_, record)| record)
                .take_while(|record| !(refuses && record.value == REFUSED))
                .collect();
            let arrived = usize_below(random, records.len() + 1);
            let log = self.logs.entry(place.clone()).or_default();
            for record in records.drain(..arrived) {
                appended.push(record.clone());
                log.push(record);
            }
            if random.below(40) == 0 && !records.is_empty() {
                records.truncate(1 + usize_below(random, records.len()));
                self.straggling.push((place, records));
            }
        }
        if let Some(value) = self.position_in_flight.take_if(|_| random.below(2) == 0) {
            self.positions.push(value);
        }
        self.position_in_flight = None;
    }

    /// What an earlier producer left on the way arrives.
    pub(crate) fn straggle(&mut self, appended: &mut Vec<Stored>) {
        for (place, records) in std::mem::take(&mut self.straggling) {
            for record in records {
                self.stragglers += 1;
                appended.push(record.clone());
                self.logs.entry(place.clone()).or_default().push(record);
            }
        }
    }
}

pub(crate) fn usize_below(random: &mut Random, bound: usize) -> usize {
    if bound == 0 {
        return 0;
    }
    usize::try_from(random.below(bound as u64)).expect("small")
}
