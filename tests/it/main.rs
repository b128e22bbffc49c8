//! Claims about the whole path, from a committed row to a record in Kafka, proved on real servers.
//! `cargo x test` starts them.

mod config;
mod crash;
mod delivery;
mod faults;
mod limits;
mod order;
mod partition;
mod slot;
mod sources;
mod table;
