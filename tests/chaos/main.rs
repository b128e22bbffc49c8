//! Faults on real servers, each under load and each ended by the same judges: the oracle of the
//! tests, and `walpost verify`. Nothing is lost, nothing is out of order, and what was destroyed is
//! named exactly. `cargo x chaos` runs the long form and prints the table; the short one is part of
//! `cargo x test`.

mod arena;
mod case;
mod clock;
mod disk;
mod stage;

mod brokers;
mod relays;
mod servers;
mod topics;
mod wires;
