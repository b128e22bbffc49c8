//! The relay: committed outbox rows become Kafka records. Read downwards: this is the path of an
//! event.

pub mod wal; // frames in, feedback out
pub mod decode; // bytes       -> Message
pub mod transaction; // Message     -> position, numbered within its commit
pub mod event; // row         -> OutboxEvent
pub mod route; // OutboxEvent -> Destination
pub mod encode; // OutboxEvent -> Record
pub mod headers; // OutboxEvent -> the record's headers
pub mod publish; // Record      -> Delivery
pub mod confirm; // Delivery    -> ConfirmedLsn
pub mod park; // what cannot be published, and its way out

// Around the path: who decides, who performs, what is known of the world.
pub mod pipeline; // Input -> Effect, pure
pub mod run; // the one select!
pub mod source; // connect, run, wait, connect again
mod instance; // one run of a source: position records out
pub mod progress; // what the loop reports
pub mod position; // where a source stands, kept in Kafka
pub mod lookup; // questions and answers
pub mod schemas; // what is known of writer schemas
pub mod ask; // questions -> brokers and registry -> answers
pub mod schema_files; // the folder of .avsc files
pub mod registry; // the registry: as configured -> a client
pub mod kafka; // the cluster: settings and topics
pub mod reach; // whether brokers can be reached, and why not
pub mod watermarks; // where topic partitions begin and end
pub mod database; // the database: address and TLS
pub mod catalog; // table and publication
pub mod survey; // the slot and the table while the stream runs

// What everybody uses.
pub mod error; // every error -> Fault
pub mod limits;
pub mod lsn;
pub mod clock;
pub mod backoff;
pub mod secret; // as configured -> as it is now
pub mod status;
pub mod settings;

// The program.
pub mod daemon; // any number of sources
pub mod admin; // health, metrics, status
pub mod consume; // a reader of topics, for tail and the verifier
pub mod verify; // outbox rows against topics
pub mod cli; // the one command-line program
