//! The consumer side of walpost: each event is handled once, inside the consumer's own business
//! transaction.
//!
//! **Nothing is built here yet** (`docs/gaps.md`, inbox). What a consumer needs from the relay is
//! on the wire already: the event id (header `id`) decided by the writer, the position (header
//! `lsn`) that orders the events of an aggregate, and the aggregate id as the record's key
//! (`docs/wire-format.md`). Until this crate has its layers, a consumer that drops event ids it has
//! seen, in the transaction of its effects, is safe against the duplicates that
//! `docs/guarantees.md` names.
//!
//! The layers to come, each usable alone: the SQL contract, `claim` for tokio-postgres, the runtime
//! (partition actors, offsets along the contiguous frontier of committed transactions), typed
//! handlers, and a test kit.
