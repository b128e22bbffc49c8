//! A source in, what became of its committed rows out, while the relay runs.
//!
//! ```text
//!   snapshot of the rows ---------- their WAL end W      meanwhile: read what is in the topics
//!   wait until the recorded position is past W
//!   parking tables ---------------- whoever is there is not lost
//!   high watermarks --------------- every record of a row of the snapshot lies below
//!   read on to them, compare
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::audit::{Audit, Copies, Hashes, Rows};
use super::audited::Audited;
use super::records::{self, Found};
use super::snapshot;
use super::worker::Criteria;
use crate::database::{DatabaseAddress, SqlError};
use crate::event::ColumnNames;
use crate::kafka::{BrokerError, KafkaSettings, TopicFinder};
use crate::lsn::Lsn;
use crate::position::{Position, PositionTopic, TopicError};

/// How often the position is read while it is waited for.
const POLL: Duration = Duration::from_millis(500);

/// With a window of time, records are read from so long before it: the clocks of a writer and of
/// the database need not agree.
const EARLIER_MS: i64 = 3_600_000;

/// What is verified.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// The source's name.
    pub source: &'a str,
    /// The database.
    pub address: &'a DatabaseAddress,
    /// The outbox table, as SQL names it.
    pub table: &'a str,
    /// What its columns are called.
    pub columns: &'a ColumnNames,
    /// The cluster.
    pub kafka: &'a KafkaSettings,
    /// Topics to read beside those that the source has written to.
    pub topics: &'a [String],
    /// Which rows.
    pub window: Window,
    /// A first copy is late that stands behind a record of a commit later by more than this.
    pub late: Duration,
    /// How long the relay may take to come past the rows, and how long no record may come while
    /// some are still to be read.
    pub patience: Duration,
    /// Bytes of rows and records that are compared in memory; more goes through a file.
    pub memory: usize,
}

/// Which rows are judged. Ends are included; all by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// By the numbers of the rows.
    pub seq: (Option<i64>, Option<i64>),
    /// By their `created_at`, in milliseconds since the Unix epoch.
    pub times: (Option<i64>, Option<i64>),
    /// By the commits that their records name. A row without a record has none and is judged.
    pub lsns: RangeInclusive<u64>,
}

impl Default for Window {
    fn default() -> Self {
        Self { seq: (None, None), times: (None, None), lsns: 0..=u64::MAX }
    }
}

/// No answer could be reached.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database cannot be reached.
    #[error(transparent)]
    Database(#[from] SqlError),
    /// The rows could not be read.
    #[error("the database did not answer the verifier")]
    Query(#[from] tokio_postgres::Error),
    /// The cluster did not answer.
    #[error(transparent)]
    Kafka(#[from] BrokerError),
    /// The position topic cannot be read.
    #[error(transparent)]
    Position(#[from] TopicError),
    /// The comparison's file cannot be written or read.
    #[error("the verifier's temporary file")]
    Disk(#[from] std::io::Error),
    /// There is no such table.
    #[error("table {table} does not exist")]
    NoTable {
        /// As it is configured.
        table: String,
    },
    /// A window needs a column that is not there.
    #[error("table {table} has no column {column}, which the window goes by")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The source was never initialised.
    #[error("position topic \"{topic}\" holds no position: the source never ran")]
    NoPosition {
        /// The topic.
        topic: String,
    },
    /// The relay did not come past the rows in time.
    #[error(
        "the position of source \"{source_name}\" is {found} and did not pass {wanted} within {} s",
        patience.as_secs()
    )]
    NotPast {
        /// The source.
        source_name: String,
        /// Where it is.
        found: Lsn,
        /// Where the WAL ended when the rows were taken.
        wanted: Lsn,
        /// The limit.
        patience: Duration,
    },
}

/// How far it is, for whoever watches.
#[derive(Debug, Default)]
pub struct Counters {
    rows: AtomicU64,
    records: AtomicU64,
    records_expected: AtomicU64,
}

impl Counters {
    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Records there are to read; 0 until that is known.
    pub fn records_expected(&self) -> u64 {
        self.records_expected.load(Ordering::Relaxed)
    }

    pub(super) fn expect_records(&self, count: u64) {
        self.records_expected.store(count, Ordering::Relaxed);
    }

    pub(super) fn add_row(&self) {
        self.rows.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_record(&self) {
        self.records.fetch_add(1, Ordering::Relaxed);
    }
}

/// What became of the rows, and what the answer rests on.
#[derive(Debug, Clone)]
pub struct Account {
    /// The comparison.
    pub audited: Audited,
    /// Where the WAL ended when the rows were taken.
    pub snapshot: Lsn,
    /// The recorded position that was past it.
    pub position: Lsn,
    /// Topics that were read, with how many records each range holds.
    pub topics: BTreeMap<String, u64>,
    /// Topics that the source wrote to and that do not exist.
    pub missing: Vec<String>,
    /// Partitions whose first records are gone: what retention took looks lost.
    pub cut: u64,
    /// How long it took, the wait for the position aside.
    pub took: Duration,
}

/// Judges all rows of the window that are committed now.
///
/// Cancellation-safe: it changes nothing.
pub async fn audit(target: &Target<'_>, counters: &Arc<Counters>) -> Result<Account, AuditError> {
    let session = target.address.connect_sql("walpost-verify").await?;
    let finder = TopicFinder::open(target.kafka)?;
    let position = recorded(target, &finder).await?;
    let started = Instant::now();
    let hashes = Hashes::default();
    let mut rows = Rows::new(hashes.clone(), target.memory / 4);
    let reading = Reading {
        kafka: target.kafka.clone(),
        since_ms: target.window.times.0.map(|from| from.saturating_sub(EARLIER_MS)),
        patience: target.patience,
        counters: Arc::clone(counters),
    };
    let copies = Copies::new(hashes, target.memory / 4);
    let meanwhile = spawn(&reading, copies, topics_of(target, &position), Found::default());
    let snapshot = snapshot::take(&session, target, &mut rows, counters).await;
    let (copies, found) = joined(meanwhile.await)?;
    let (snapshot, taken) = (snapshot?, started.elapsed());
    let position = wait(target, &finder, snapshot).await?;
    let started = Instant::now();
    snapshot::parked(&session, target.source, &mut rows).await?;
    let rest = spawn(&reading, copies, topics_of(target, &position), found);
    let (copies, found) = joined(rest.await)?;
    let late_ms = u32::try_from(target.late.as_millis()).unwrap_or(u32::MAX);
    let criteria = Criteria { window: target.window.lsns.clone(), late_ms };
    let audit = Audit::new(rows, copies, criteria, target.memory / 4);
    let audited = joined(tokio::task::spawn_blocking(move || Ok(audit.finish()?)).await)?;
    Ok(Account {
        audited,
        snapshot,
        position: position.frontier.end,
        topics: found.by_topic(),
        missing: found.missing,
        cut: found.cut,
        took: taken + started.elapsed(),
    })
}

/// What a thread answered.
fn joined<T>(
    answer: Result<Result<T, AuditError>, tokio::task::JoinError>,
) -> Result<T, AuditError> {
    answer.unwrap_or_else(|error| {
        let (at, reason) = ("the verifier's thread".to_owned(), error.to_string());
        Err(BrokerError::Unreachable { at, reason }.into())
    })
}

/// Where the source stands.
///
/// Cancellation-safe: it only reads.
async fn recorded(target: &Target<'_>, finder: &TopicFinder) -> Result<Position, AuditError> {
    let topic = PositionTopic::of(target.source, target.kafka);
    let recorded = topic.look(finder).await?.and_then(|recorded| recorded.position);
    recorded.ok_or_else(|| AuditError::NoPosition { topic: topic.name().to_owned() })
}

/// Waits until everything below a WAL position is dealt with and recorded.
///
/// Cancellation-safe: it only reads.
async fn wait(
    target: &Target<'_>,
    finder: &TopicFinder,
    wanted: Lsn,
) -> Result<Position, AuditError> {
    let started = Instant::now();
    loop {
        let position = recorded(target, finder).await?;
        if position.frontier.end >= wanted {
            return Ok(position);
        }
        if started.elapsed() > target.patience {
            return Err(AuditError::NotPast {
                source_name: target.source.to_owned(),
                found: position.frontier.end,
                wanted,
                patience: target.patience,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The topics that the source has ever written to, as its position says, and those that are asked
/// for.
fn topics_of(target: &Target<'_>, position: &Position) -> BTreeSet<String> {
    let written = position.offsets.keys().map(|topic| topic.to_string());
    written.chain(target.topics.iter().cloned()).collect()
}

#[derive(Clone)]
struct Reading {
    kafka: KafkaSettings,
    since_ms: Option<i64>,
    patience: Duration,
    counters: Arc<Counters>,
}

/// Reads on a thread of its own.
fn spawn(
    reading: &Reading,
    copies: Copies,
    topics: BTreeSet<String>,
    before: Found,
) -> tokio::task::JoinHandle<Result<(Copies, Found), AuditError>> {
    let reading = reading.clone();
    tokio::task::spawn_blocking(move || reading.read(copies, &topics, &before))
}

impl Reading {
    /// Reads topics to where they end now, from where they were read before. Blocks.
    fn read(
        &self,
        mut copies: Copies,
        topics: &BTreeSet<String>,
        before: &Found,
    ) -> Result<(Copies, Found), AuditError> {
        let found = records::find(&self.kafka, topics, self.since_ms)?;
        self.counters.expect_records(found.by_topic().values().sum());
        let rest = found.beyond(before);
        records::read(&self.kafka, &rest, self.patience, &mut copies, &self.counters)?;
        Ok((copies, found))
    }
}
