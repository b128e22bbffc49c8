//! Every bound in one place (I7), with the relations between them checked at compile time.

/// The largest message that is taken from the stream whole. PostgreSQL allows 1 GiB; a record that
/// large is nothing Kafka takes (its default is 1 MiB), and keeping it would break the memory
/// bound.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Of a larger message only values up to this are kept: enough for every name in it.
pub const VALUE_KEPT_MAX: usize = 64 * 1024;

/// Room for one read of the stream: what a pause of the reader collects under full load.
pub const READ_BYTES: usize = 256 * 1024;

/// The socket's receive buffer: 20 ms of a stream of 200 MB/s, ten times the reader's pause.
pub const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Answers to our own queries are a few rows.
pub const QUERY_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Events handed to the producer and not yet acknowledged: at 200,000 a second some 30 ms of a
/// broker's silence. Each costs about 1 KiB in the producer, so this bounds the memory of a drain.
pub const PENDING_EVENTS_MAX: usize = 6_144;

/// Their bytes (keys, values and headers).
pub const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The largest batch that the producer builds for one partition.
pub const BATCH_BYTES: usize = 256 * 1024;

/// Partitions of the outbox table that are remembered by name.
pub const PARTITIONS_MAX: usize = 10_000;

/// Columns of one relation; PostgreSQL allows 1,600.
pub const COLUMNS_MAX: usize = 1_700;

/// Distinct aggregate types and event types that are remembered with their routes and schemas.
pub const DESTINATIONS_MAX: usize = 10_000;

/// Pinned versions and pass-through ids that are remembered of one subject.
pub const VERSIONS_MAX: usize = 1_000;

/// Events beyond the position that read-back remembers: forty times what lies at most between two
/// position records. What is beyond it is sent again.
pub const FOUND_EVENTS_MAX: usize = 1_000_000;

/// Phantoms that are named.
pub const PHANTOMS_SHOWN: usize = 20;

/// Headers of one record, ours included.
pub const HEADERS_MAX: usize = 100;

/// Earlier schema versions that are tried for a payload that does not fit the latest.
pub const EARLIER_VERSIONS_MAX: usize = 10;

const _: () = assert!(READ_BYTES < FRAME_BYTES_MAX);
const _: () = assert!(VALUE_KEPT_MAX < FRAME_BYTES_MAX);
const _: () = assert!(READ_BYTES * 4 <= RECEIVE_BUFFER_BYTES);
const _: () = assert!(PENDING_EVENTS_MAX < u32::MAX as usize);
