//! Real servers to test against: PostgreSQL, Apache Kafka and Apicurio Registry, on free ports of
//! 127.0.0.1.
//!
//! Two users. `cargo x stack up` keeps one of each running between commands ([`shared`]); a test
//! that stops, kills or freezes a server starts its own ([`Postgres::start`], [`Kafka::start`],
//! [`Apicurio::start`]), which ends when its value is dropped. A server is always ended by its pid
//! and start time, never by name.

mod apicurio;
mod cluster;
mod kafka;
mod postgres;
pub mod shared;
mod state;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::machine;
use crate::process::Note;

pub use apicurio::{Apicurio, ApicurioOptions};
pub use kafka::{Kafka, KafkaOptions, Member, Secure};
pub use postgres::{Mode, Postgres, PostgresOptions, Tls};

/// The folder of one server. One that we named ourselves is removed with its server.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    is_temporary: bool,
    _note: Option<Note>,
}

impl Place {
    /// The folder asked for, else a new one among the temporary files.
    fn open(wanted: Option<&Path>, kind: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (path, is_temporary) = match wanted {
            Some(path) => (std::path::absolute(path)?, false),
            None => {
                let count = COUNT.fetch_add(1, Ordering::Relaxed);
                let name = format!("walpost-{kind}-{}-{count}", std::process::id());
                (std::env::temp_dir().join(name), true)
            }
        };
        machine::create_open(&path)?;
        let note = is_temporary.then(|| Note::folder(&path));
        Ok(Self { path, is_temporary, _note: note })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_temporary {
            // Left-over files of a test are a nuisance, not a failure.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
