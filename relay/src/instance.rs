//! One run of a source: position values in, records of its position topic out.
//!
//! Each run writes under a key of its own, so that a frozen run that wakes up cannot write an old
//! position over a newer one: of all keys the furthest position counts. Runs before this one are
//! released once the first position of this run is in Kafka.

use crate::kafka::BrokerError;
use crate::position::{BIRTH_KEY, PositionTopic, position_key};
use crate::publish::{Publisher, Sent};

/// A run of a source, as its position topic knows it.
#[derive(Debug)]
pub(crate) struct Instance {
    topic: String,
    key: String,
    predecessors: Vec<String>,
    /// Written again with each position where the cluster drops old data (`walpost dev`).
    birth: Option<Vec<u8>>,
}

impl Instance {
    /// A run that nobody knows yet.
    pub(crate) fn new(source: &str) -> Self {
        Self {
            topic: PositionTopic::name_of(source),
            key: position_key(&uuid::Uuid::new_v4().to_string()),
            predecessors: Vec::new(),
            birth: None,
        }
    }

    /// Runs whose positions this one goes on from.
    pub(crate) fn follow(&mut self, instances: &[String]) {
        self.predecessors = instances.iter().map(|instance| position_key(instance)).collect();
        self.predecessors.retain(|key| *key != self.key);
    }

    /// Has the birth record written again with each position.
    pub(crate) fn repeat_birth(&mut self, birth: Vec<u8>) {
        self.birth = Some(birth);
    }

    /// Hands a position record to the producer.
    pub(crate) fn record(&self, publisher: &Publisher, value: &[u8]) -> Result<Sent, BrokerError> {
        if let Some(birth) = &self.birth {
            publisher.send_aside(&self.topic, BIRTH_KEY, Some(birth))?;
        }
        publisher.send_position(&self.topic, &self.key, value)
    }

    /// A position of this run is in Kafka: those of earlier runs are not needed any more. One that
    /// a full queue keeps is released with the next position.
    pub(crate) fn release_predecessors(
        &mut self,
        publisher: &Publisher,
    ) -> Result<(), BrokerError> {
        while let Some(key) = self.predecessors.last() {
            if publisher.send_aside(&self.topic, key, None)? == Sent::QueueFull {
                break;
            }
            self.predecessors.pop();
        }
        Ok(())
    }
}
