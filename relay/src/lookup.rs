//! What the pure rooms must know and cannot know by themselves: questions go out with an effect,
//! answers come back as an input, and the frame that raised the question is offered again.
//!
//! While a question is open no frame is taken, so waiting for a registry or for a topic is a state
//! of the pipeline and not a buffer.

use std::num::NonZeroU32;
use std::sync::Arc;

use walpost_schema::registry::Registered;
use walpost_schema::wire::SchemaId;

/// A question about the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// How many partitions has this topic?
    Topic {
        /// The topic.
        topic: Arc<str>,
    },
    /// How many partitions have these topics now, and where do they end?
    Partitions {
        /// The topics.
        topics: Vec<Arc<str>>,
    },
    /// What is the latest schema of this subject?
    Latest {
        /// The subject.
        subject: Arc<str>,
        /// The record's full name: where auto-registration is on, its schema file is looked for.
        full_name: Arc<str>,
    },
    /// What is this version of the subject's schema?
    Version {
        /// The subject.
        subject: Arc<str>,
        /// The version, from 1.
        version: u32,
    },
    /// Which versions has the subject, newest first, at most a bounded number?
    History {
        /// The subject.
        subject: Arc<str>,
    },
    /// Which schema has this id, and does it belong to the subject?
    SchemaOfId {
        /// The subject.
        subject: Arc<str>,
        /// The id found in a framed payload.
        id: SchemaId,
    },
}

/// The answer to a [`Question`].
#[derive(Debug, Clone)]
pub enum Answer {
    /// The topic exists.
    Topic {
        /// What must be known of it.
        facts: TopicFacts,
        /// The high watermark of each partition, at most as many as the facts say.
        ends: Vec<i64>,
    },
    /// The high watermark of each partition of each topic that still exists.
    Partitions(Vec<(Arc<str>, Vec<i64>)>),
    /// One schema.
    Schema(Arc<Registered>),
    /// Several schemas, newest first.
    Schemas(Vec<Arc<Registered>>),
    /// The topic, subject, version or id does not exist.
    Missing,
    /// The schema exists and cannot be used.
    Unusable {
        /// Why.
        reason: String,
    },
    /// Nobody could answer: only told to questions that nothing waits for.
    Unavailable,
}

/// What must be known of a topic before its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFacts {
    /// How many partitions it has; at least 1.
    pub partitions: NonZeroU32,
    /// `max.message.bytes`: the broker refuses a larger batch.
    pub message_bytes_max: usize,
}
