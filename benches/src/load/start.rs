//! The servers of a run: PostgreSQL with `fsync` and `synchronous_commit` on and one Kafka broker.

use anyhow::Result;
use xtask::stack::{Kafka, KafkaOptions, Postgres, PostgresOptions};

/// Starts both; they end when they are dropped.
pub(crate) async fn start() -> Result<(Postgres, Kafka)> {
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = PostgresOptions {
        fsync: true,
        settings: vec![
            setting("shared_buffers", "512MB"),
            setting("max_wal_size", "8GB"),
            setting("checkpoint_timeout", "1h"),
            setting("synchronous_commit", "on"),
            setting("full_page_writes", "on"),
        ],
        ..PostgresOptions::default()
    };
    let started = tokio::task::spawn_blocking(move || {
        Ok((Postgres::start(options)?, Kafka::start(KafkaOptions::default())?))
    });
    started.await?
}
