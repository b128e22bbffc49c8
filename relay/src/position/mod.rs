//! Where a source stands, kept in Kafka and not in the database that it describes: only so can a
//! restored, failed-over or foreign database be told from the right one.
//!
//! ```text
//!   record.rs     the position and birth records: keys and values (pure)
//!   offsets.rs    per topic partition: from where on later records can lie (pure)
//!   recorder.rs   when the position is recorded (pure)
//!   check.rs      position and birth against the server (pure, I13)
//!   topic.rs      the position topic: made, checked, read
//!   read_back.rs  what Kafka holds beyond the position
//! ```

mod check;
mod offsets;
mod read_back;
mod record;
mod recorder;
mod topic;

pub use check::{PositionError, Present, check, check_birth, check_cluster};
pub use offsets::{Generation, LowestOffsets, Offsets, Place, TopicId};
pub use read_back::{Found, FoundAt, ReadBack};
pub use record::{
    BIRTH_KEY, Birth, Frontier, Mark, Position, PositionRecord, SourceOids, position_key,
    write_birth, write_position,
};
pub use recorder::Recorder;
pub use topic::{PositionTopic, Recorded, TopicError};
