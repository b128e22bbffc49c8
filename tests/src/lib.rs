//! The harness of the integration tests: real servers in, verdicts out.
//!
//! A test makes a [`World`]: a database of its own on the shared PostgreSQL with outbox,
//! publication and slot, a prefix of its own for topics, and a `walpost.toml`. [`Relay`] runs the
//! real binary on it, [`Workload`] writes, and [`oracle`] compares what was committed with what
//! stands in Kafka. Nothing here uses the relay's code to judge the relay.
//!
//! A test that stops, kills or freezes a server starts a private one through `xtask::stack`.

pub mod avro;
pub mod certificates;
pub mod http;
pub mod inbox;
pub mod kafka;
pub mod ledger;
pub mod oracle;
pub mod postgres;
pub mod proxy;
pub mod registry;
pub mod relay;
pub mod service;
pub mod stack;
pub mod wire;
pub mod workload;
pub mod world;

pub use kafka::{Cluster, Record};
pub use oracle::Verdict;
pub use postgres::Database;
pub use relay::{Ended, Relay};
pub use stack::stack;
pub use workload::Workload;
pub use world::World;

use std::time::Duration;

/// Stands in payloads, passwords and tokens of the tests; no output may ever hold it.
pub const CANARY: &str = "c4n4ry";

/// Enough for anything that takes a second alone, on a machine that also compiles.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is `Some`; fails the test after [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, ask)
}

/// Asks until the answer is `Some`; fails the test after `deadline`.
#[track_caller]
pub fn wait_within<T>(deadline: Duration, what: &str, ask: impl FnMut() -> Option<T>) -> T {
    match xtask::wait::until(deadline, ask) {
        Some(answer) => answer,
        None => panic!("{what}: not within {deadline:?}"),
    }
}

/// A minute-long test runs only when `cargo x test --long` asks for it.
pub fn is_long() -> bool {
    std::env::var_os("WALPOST_LONG").is_some()
}

/// A name that no other test, and no earlier run against the same servers, uses: lower case,
/// digits and underscores.
pub fn unique(label: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::SystemTime;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let seconds = since.as_secs() % 100_000_000;
    format!("{label}_{seconds}_{}_{count}", std::process::id())
}
