//! Claims about the whole path, from a committed row to a record in Kafka, proved on real servers.
//! `cargo x test` starts them.

mod cli;
mod config;
mod crash;
mod delivery;
mod dev;
mod edges;
mod faults;
mod fuzz;
mod golden;
mod inbox_claim;
mod inbox_crash;
mod inbox_handle;
mod inbox_kit;
mod inbox_page;
mod inbox_parked;
mod inbox_window;
mod kafka_security;
mod limits;
mod metrics;
mod network;
mod odd;
mod order;
mod parked;
mod partition;
mod position;
mod registries;
mod registry_security;
mod schemas;
mod shutdown;
mod slot;
mod sources;
mod table;
mod tls;
mod unpublishable;
mod verify;
