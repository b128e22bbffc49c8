//! The task that carries orders out, one after the other, on a session of its own.
//!
//! ```text
//!   hand_over(order) -> channel -> one transaction each (parks together) -> replies
//! ```
//!
//! The session holds an advisory lock of the source for as long as it lives, so that whatever an
//! earlier session still had in hand is over before this one reads or writes. A session that is
//! lost is opened again and the order is carried out again; orders change nothing the second time.
//! On another timeline nothing is written: the loop finds out by its own connection and starts
//! over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;

use super::lot::LotContents;
use super::orders::{LotReply, Order};
use super::prune::OutboxIds;
use super::store::Store;
use crate::backoff::Backoff;
use crate::confirm::EventSeq;
use crate::database::{DatabaseAddress, SqlError, SqlSession};
use crate::error::{Peer, SourceError};
use crate::limits;
use crate::park::ParkedEvent;
use crate::position::Mark;
use crate::progress;
use crate::publish::Sent;
use crate::status::Status;

/// Events that are written in one statement, and their bytes.
const PARK_ROWS: usize = 1_000;
const PARK_BYTES: u64 = 4 * 1024 * 1024;
/// How long others are waited for: a transaction for each would cost database and relay more than
/// the events themselves, and nobody waits for one that is parked. Far below what the pipeline may
/// hold in the meantime.
const PARK_LINGER: Duration = Duration::from_millis(10);
/// An earlier session of ours ends within moments; one that does not is somebody else's.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_AGAIN: Duration = Duration::from_millis(100);
/// Sets our advisory locks apart from other people's.
const LOCK_CLASS: i32 = 0x7770_6B64;

/// The lot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LotError {
    /// No session.
    #[error("the parking tables cannot be reached")]
    Away(#[from] SqlError),
    /// A statement failed.
    #[error("the parking tables cannot be used")]
    Failed(#[source] tokio_postgres::Error),
    /// The tables were never made.
    #[error("the parking tables are missing in database {at}: walpost init makes them")]
    Missing {
        /// The address.
        at: String,
    },
    /// Another relay of this source uses them.
    #[error("the parking tables of source \"{source_name}\" are in use by another session")]
    InUse {
        /// The source.
        source_name: String,
    },
    /// The session leads to another server than the stream.
    #[error("the parking tables are on timeline {found}, the stream is on timeline {expected}")]
    OtherTimeline {
        /// The stream's.
        expected: u32,
        /// The session's.
        found: u32,
    },
}

/// Where the lot is and whose.
#[derive(Debug, Clone)]
pub struct ParkerSettings {
    /// The database.
    pub address: DatabaseAddress,
    /// The source.
    pub source: String,
    /// Its slot: who has it, has the lot.
    pub slot: String,
    /// The timeline of the stream.
    pub timeline: u32,
    /// The outbox that the events come from.
    pub outbox: OutboxIds,
}

/// The handle of the task, which ends with it.
#[derive(Debug)]
pub struct Parker {
    orders: mpsc::Sender<Order>,
    replies: mpsc::UnboundedReceiver<LotReply>,
    is_waiting: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Parker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Parker {
    /// Opens the lot and says what is in it; `frontier` says which events are dealt with anyway.
    ///
    /// Cancellation-safe: nothing is written.
    pub async fn open(
        settings: ParkerSettings,
        status: Status,
        frontier: Mark,
    ) -> Result<(Self, LotContents), LotError> {
        let session = settings.connect().await?;
        let store = Store { client: &session, source: &settings.source };
        let contents = store.contents(frontier).await.map_err(|error| settings.explain(error))?;
        // An order for each event that may be in flight, and one besides: never full while the
        // pipeline keeps its bounds. The replies are bounded by the orders.
        let (orders, inbox) = mpsc::channel(limits::PENDING_EVENTS_MAX + 1);
        let (outbox, replies) = mpsc::unbounded_channel();
        let is_waiting = Arc::new(AtomicBool::new(false));
        let work = Work { settings, status, is_waiting: Arc::clone(&is_waiting), outbox };
        let task = tokio::spawn(work.run(session, inbox));
        Ok((Self { orders, replies, is_waiting, task }, contents))
    }

    /// Hands an order over.
    pub fn hand_over(&self, order: Order) -> Sent {
        match self.orders.try_send(order) {
            Ok(()) => Sent::Taken,
            Err(_) => Sent::QueueFull,
        }
    }

    /// What has come back, without waiting.
    pub fn take_reply(&mut self) -> Option<LotReply> {
        self.replies.try_recv().ok()
    }

    /// Waits for the next reply; for ever once the task has ended.
    ///
    /// Cancellation-safe.
    pub async fn reply(&mut self) -> LotReply {
        match self.replies.recv().await {
            Some(reply) => reply,
            None => std::future::pending().await,
        }
    }

    /// Whether an order waits for the database.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Relaxed)
    }
}

impl ParkerSettings {
    /// A session that nobody else of this source has, on the stream's timeline.
    async fn connect(&self) -> Result<SqlSession, LotError> {
        let session = self.address.connect_sql(&format!("walpost-{}-lot", self.source)).await?;
        let failed = |error| self.explain(error);
        session.batch_execute(SESSION_SQL).await.map_err(failed)?;
        let sql = "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())";
        let row = session.query_one(sql, &[]).await.map_err(failed)?;
        let found = timeline_of(row.get(0));
        if found != self.timeline {
            return Err(LotError::OtherTimeline { expected: self.timeline, found });
        }
        let asked = Instant::now();
        let sql = "SELECT pg_catalog.pg_try_advisory_lock($1, pg_catalog.hashtext($2))";
        while !session
            .query_one(sql, &[&LOCK_CLASS, &self.source])
            .await
            .map_err(failed)?
            .get::<_, bool>(0)
        {
            if asked.elapsed() > LOCK_WAIT {
                // A relay that is frozen, or whose machine is gone, does not give it back.
                let (class, source, slot) = (&LOCK_CLASS, &self.source, &self.slot);
                let ended = session.execute(END_HOLDER_SQL, &[class, source, slot]).await;
                if ended.map_err(failed)? == 0 {
                    return Err(LotError::InUse { source_name: self.source.clone() });
                }
                tracing::warn!(
                    source = self.source,
                    "ended the parking lot's session of a relay that has the slot no more"
                );
            }
            tokio::time::sleep(LOCK_AGAIN).await;
        }
        Ok(session)
    }

    fn explain(&self, error: tokio_postgres::Error) -> LotError {
        let is_missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
        if error.code().is_some_and(|code| is_missing.contains(code)) {
            return LotError::Missing { at: self.address.to_string() };
        }
        LotError::Failed(error)
    }
}

/// What is answered is on disk, and an idle session is not ended by a rule for people's sessions.
const SESSION_SQL: &str = "SET synchronous_commit = on; SET statement_timeout = 0; \
    SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '10s'; \
    SET search_path = pg_catalog; \
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN \
    ('idle_session_timeout', 'transaction_timeout')";

/// Ends the session that holds the lock, unless somebody streams from the slot: who has the slot
/// is the relay.
const END_HOLDER_SQL: &str = "SELECT pg_catalog.pg_terminate_backend(l.pid) \
    FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 \
    AND l.classid::bigint = $1::int::bigint \
    AND l.objid::bigint = pg_catalog.hashtext($2)::bigint & 4294967295 \
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s \
    WHERE s.slot_name::text = $3 AND s.active)";

/// The first eight digits of a WAL file's name.
fn timeline_of(wal_file: &str) -> u32 {
    wal_file.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

/// The task.
struct Work {
    settings: ParkerSettings,
    status: Status,
    is_waiting: Arc<AtomicBool>,
    outbox: mpsc::UnboundedSender<LotReply>,
}

/// What is done in one transaction.
enum Deed {
    Park(Vec<(EventSeq, Box<ParkedEvent>)>),
    Other(Order),
}

impl Work {
    async fn run(self, session: SqlSession, mut inbox: mpsc::Receiver<Order>) {
        let mut session = Some(session);
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(order) => order,
                None => match inbox.recv().await {
                    Some(order) => order,
                    None => return,
                },
            };
            if matches!(first, Order::Park { .. }) {
                tokio::time::sleep(PARK_LINGER).await;
            }
            let deed = gather(first, &mut inbox, &mut next);
            let reply = self.carry_out(&mut session, &deed).await;
            if self.outbox.send(reply).is_err() {
                return;
            }
        }
    }

    /// Until it is done.
    async fn carry_out(&self, session: &mut Option<SqlSession>, deed: &Deed) -> LotReply {
        let mut backoff = Backoff::new();
        loop {
            let started = Instant::now();
            match self.try_once(session, deed).await {
                Ok(reply) => {
                    self.is_waiting.store(false, Ordering::Relaxed);
                    return reply;
                }
                Err(error) => {
                    *session = None;
                    self.is_waiting.store(true, Ordering::Relaxed);
                    let error = SourceError::Lot(error);
                    let source = &self.settings.source;
                    progress::report_wait(&self.status, source, Peer::Postgres, &error);
                }
            }
            tokio::time::sleep(backoff.next_wait(started.elapsed())).await;
        }
    }

    async fn try_once(
        &self,
        session: &mut Option<SqlSession>,
        deed: &Deed,
    ) -> Result<LotReply, LotError> {
        let open = match session {
            Some(open) => open,
            None => session.insert(self.settings.connect().await?),
        };
        let store = Store { client: open, source: &self.settings.source };
        let done = match deed {
            Deed::Park(events) => store.park(events).await,
            Deed::Other(order) => match order {
                // Parks are gathered, so none arrives here.
                Order::Park { .. } => Ok(LotReply::Done),
                Order::Poll => store.requests().await,
                Order::Load { request, until } => store.load(*request, *until).await,
                Order::LoadWaiting { until } => store.load_waiting(*until).await,
                Order::Settle(settlement) => store.settle(settlement).await,
                Order::Discard(request) => store.discard(*request).await,
                Order::Answer { request, text } => store.answer(*request, text).await,
                Order::Prune(mark) => store.prune(*mark, &self.settings.outbox).await,
            },
        };
        done.map_err(|error| self.settings.explain(error))
    }
}

/// Events that wait to be parked are written together; the order behind them is kept for later.
fn gather(first: Order, inbox: &mut mpsc::Receiver<Order>, next: &mut Option<Order>) -> Deed {
    let Order::Park { seq, event } = first else { return Deed::Other(first) };
    let mut bytes = event.bytes();
    let mut events = vec![(seq, event)];
    while events.len() < PARK_ROWS && bytes < PARK_BYTES {
        match inbox.try_recv() {
            Ok(Order::Park { seq, event }) => {
                bytes += event.bytes();
                events.push((seq, event));
            }
            Ok(other) => {
                *next = Some(other);
                break;
            }
            Err(_) => break,
        }
    }
    Deed::Park(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_is_read_from_the_name_of_a_wal_file() {
        assert_eq!(timeline_of("0000001A0000000000000003"), 26);
        assert_eq!(timeline_of("x"), 0);
    }
}
