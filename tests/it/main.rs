//! Claims about the whole path, from a committed row to a record in Kafka, proved on real servers.
//! `cargo x test` starts them.

mod crash;
mod delivery;
mod limits;
mod order;
mod partition;
mod slot;
