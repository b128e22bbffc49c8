//! The relay: committed outbox rows become Kafka records. Read downwards: this is the path of an
//! event.

pub mod confirm;
pub mod decode; // bytes       -> Message
pub mod encode; // OutboxEvent -> Record
pub mod event; // row         -> OutboxEvent
pub mod headers; // OutboxEvent -> the record's headers
pub mod publish; // Record      -> Delivery
pub mod route; // OutboxEvent -> Destination
pub mod transaction; // Message     -> position, numbered within its commit
pub mod wal; // frames in, feedback out // Delivery    -> ConfirmedLsn

// Around the path: who decides, who performs, what is known of the world.
pub mod ask; // questions -> brokers and registry -> answers
pub mod catalog; // table and publication
pub mod database; // the database: address and TLS
pub mod kafka; // the cluster: settings and topics
pub mod lookup; // questions and answers
pub mod pipeline; // Input -> Effect, pure
pub mod registry; // the registry: as configured -> a client
pub mod run; // the one select!
pub mod schema_files; // the folder of .avsc files
pub mod schemas; // what is known of writer schemas
pub mod source; // connect, run, wait, connect again
pub mod survey; // the slot and the table while the stream runs

pub mod admin; // health, metrics, status
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod consume; // a reader of topics, for tail and the verifier
pub mod daemon; // any number of sources
pub mod error; // every error -> Fault
pub mod limits;
pub mod lsn;
pub mod progress;
pub mod settings;
pub mod status;
pub mod verify; // outbox rows against topics // the one command-line program
