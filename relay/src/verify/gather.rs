//! Brings both sides together: takes the rows, waits until the relay has confirmed past them, reads
//! the topics to their end.

use std::time::{Duration, Instant};

use super::compare::{Committed, Judge, Verdict};
use crate::consume::{From, TopicReader};
use crate::database::{DatabaseAddress, SqlError};
use crate::event::ColumnNames;
use crate::kafka::{BrokerError, KafkaSettings};
use crate::wal::quote_identifier;

/// How often the slot is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(50);

/// What is verified.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The database.
    pub address: &'a DatabaseAddress,
    /// The outbox table, as SQL names it.
    pub table: &'a str,
    /// What its columns are called.
    pub columns: &'a ColumnNames,
    /// The relay's slot.
    pub slot: &'a str,
    /// The cluster.
    pub kafka: &'a KafkaSettings,
    /// The topics that the events go to.
    pub topics: &'a [String],
    /// How long the relay may take to confirm past the rows, and how long no record may come while
    /// some are still to be read.
    pub patience: Duration,
}

/// No verdict could be reached.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The database did not answer.
    #[error(transparent)]
    Database(#[from] SqlError),
    /// The rows or the slot could not be read.
    #[error("the database did not answer the verifier")]
    Query(#[from] tokio_postgres::Error),
    /// The cluster did not answer.
    #[error(transparent)]
    Kafka(#[from] BrokerError),
    /// The relay did not get past the rows in time.
    #[error("slot \"{slot}\" did not pass {wanted} within {} s", patience.as_secs())]
    NotConfirmed {
        /// The slot.
        slot: String,
        /// The end of WAL when the rows were taken.
        wanted: String,
        /// The limit.
        patience: Duration,
    },
}

/// Compares all rows that are committed now with the topics.
///
/// Cancellation-safe: it changes nothing.
pub async fn verify(subject: &Subject<'_>) -> Result<Verdict, VerifyError> {
    let session = subject.address.connect_sql("walpost-verify").await?;
    let columns =
        [&subject.columns.id, &subject.columns.aggregate_type, &subject.columns.aggregate_id];
    let [id, aggregate_type, aggregate_id] = columns.map(|name| quote_identifier(name));
    let sql = format!(
        "SELECT {id}::text, {aggregate_type}::text, {aggregate_id}::text FROM {}",
        subject.table
    );
    let rows = session.query(&sql, &[]).await?;
    let committed = rows.iter().map(|row| {
        let text = |index: usize| row.get::<_, Option<String>>(index).unwrap_or_default();
        Committed { id: text(0), aggregate: (text(1), text(2)) }
    });
    let judge = Judge::new(committed);
    // Taken after the rows: every one of them lies below it.
    let row = session.query_one("SELECT pg_catalog.pg_current_wal_lsn()::text", &[]).await?;
    let wanted: String = row.get(0);
    wait_for_slot(&session, subject, &wanted).await?;
    let (kafka, topics) = (subject.kafka.clone(), subject.topics.to_vec());
    let patience = subject.patience;
    let read = tokio::task::spawn_blocking(move || read_all(&kafka, &topics, patience, judge));
    match read.await {
        Ok(verdict) => Ok(verdict?),
        Err(error) => {
            let (at, reason) = ("the verifier's reader".to_owned(), error.to_string());
            Err(BrokerError::Unreachable { at, reason }.into())
        }
    }
}

/// Reads the topics to the end that they have now. A cluster that goes away in between is given
/// `patience`: the client waits for it without an error.
fn read_all(
    kafka: &KafkaSettings,
    topics: &[String],
    patience: Duration,
    mut judge: Judge,
) -> Result<Verdict, BrokerError> {
    let mut reader = TopicReader::open(kafka, topics, From::Beginning)?;
    let mut last = Instant::now();
    while !reader.is_at_end() {
        if let Some(record) = reader.next(Duration::from_millis(100))? {
            judge.look(&record);
            last = Instant::now();
        } else if last.elapsed() > patience {
            let reason = format!("no record for {} s, and some are left", patience.as_secs());
            return Err(BrokerError::Unreachable { at: kafka.bootstrap_servers.clone(), reason });
        }
    }
    Ok(judge.finish())
}

async fn wait_for_slot(
    session: &tokio_postgres::Client,
    subject: &Subject<'_>,
    wanted: &str,
) -> Result<(), VerifyError> {
    let started = Instant::now();
    let sql = "SELECT coalesce(confirmed_flush_lsn >= $2::text::pg_lsn, false) \
               FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
    loop {
        let row = session.query_opt(sql, &[&subject.slot, &wanted]).await?;
        if row.is_some_and(|row| row.get(0)) {
            return Ok(());
        }
        if started.elapsed() > subject.patience {
            return Err(VerifyError::NotConfirmed {
                slot: subject.slot.to_owned(),
                wanted: wanted.to_owned(),
                patience: subject.patience,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}
