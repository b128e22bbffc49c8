//! Why a consumer ended other than by being asked to.

use crate::handler::DecodeError;
use crate::message::Place;

/// What a person has to look at. Whatever another party can mend is waited for instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's text says what it is")]
pub enum RunError {
    #[error("no topic has a handler")]
    NoTopics,
    #[error("property {name} is the runtime's own: a promise rests on it")]
    ForcedProperty { name: String },
    #[error("kafka client refuses its settings")]
    KafkaSettings(#[source] rdkafka::error::KafkaError),
    #[error("kafka client cannot go on: {reason}")]
    KafkaFatal { reason: String },
    #[error("handler cannot read its events")]
    Handler(#[from] DecodeError),
    #[error(
        "{place} was made anew: it ends at offset {high}, but offsets up to {floor} were handled; \
         its events would be taken for copies (delete its row in inbox_floor to start over)"
    )]
    TopicRecreated { place: Place, floor: i64, high: i64 },
    #[error(
        "{place} was made anew: another record stands at offset {offset} than was read there; its \
         events would be taken for copies (delete its row in inbox_floor to start over)"
    )]
    TopicReplaced { place: Place, offset: i64 },
    #[error("{count} sequences are parked, at most {max}: something is wrong with all of them")]
    ParkedTooMany { count: u64, max: u32 },
    #[error("{bytes} bytes are parked, at most {max}: too much comes for keys that are put aside")]
    ParkedTooLarge { bytes: u64, max: u64 },
    #[error("{aside} of the last {of} events were put aside: something is wrong with most of them")]
    AsideTooMany { aside: u64, of: u64 },
    #[error("{place}, offset {offset}: {reason}")]
    Unknown { place: Place, offset: i64, reason: String },
    #[error("kafka thread ended by itself")]
    ThreadEnded,
}
