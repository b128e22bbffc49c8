//! A second look at the server while the stream runs: how much WAL the slot holds back, and whether
//! table and publication are still what the stream was started with. Facts out, by the [`Status`]
//! and, when the source must stop, by a channel.
//!
//! The stream cannot tell that its table was dropped or taken out of the publication: rows simply
//! cease to come. So the catalog is asked every few seconds.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use crate::catalog::CatalogError;
use crate::clock::unix_ms;
use crate::database::{DatabaseAddress, SqlError, SqlSession};
use crate::error::{SourceError, with_causes};
use crate::event::{EventError, OutboxTable};
use crate::lsn::Lsn;
use crate::position::{PositionError, SourceOids};
use crate::status::{SlotSample, Status};
use crate::wal::WalError;

/// Often enough for a person and for an alert, rare enough to cost nothing.
const INTERVAL: Duration = Duration::from_secs(5);

/// What is watched.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The source.
    pub source: String,
    /// The database.
    pub address: DatabaseAddress,
    /// The slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// The table as it was when the stream started.
    pub table: OutboxTable,
    /// The catalog's numbers at that time: what was dropped and made again between two looks left
    /// rows out, and looks as before.
    pub oids: SourceOids,
}

/// A change that the stream would not show.
pub type Alarm = oneshot::Sender<SourceError>;

impl Survey {
    /// Looks every few seconds until it is dropped or has raised an alarm. A failed look leaves the
    /// last sample, whose time then shows its age. A session that is ended by a shutdown of the
    /// server is the first that the relay hears of it: the stream itself would be kept until all of
    /// it is confirmed.
    ///
    /// Cancellation-safe.
    pub async fn run(self, status: Status, alarm: Alarm) {
        let mut session = None;
        loop {
            if session.is_none() {
                match self.address.connect_sql("walpost-survey").await {
                    Ok(open) => session = Some(open),
                    Err(error) if is_shutdown(&error) => {
                        let at = self.address.to_string();
                        // A stream that is over needs no alarm.
                        let _ = alarm.send(WalError::ShuttingDown { at }.into());
                        return;
                    }
                    Err(error) => tracing::debug!("no look at the slot: {}", with_causes(&error)),
                }
            }
            if let Some(open) = &session {
                match self.look(open, &status).await {
                    Ok(None) => {}
                    Ok(Some(error)) => {
                        let _ = alarm.send(error);
                        return;
                    }
                    Err(error) => {
                        tracing::debug!("the look at the slot failed: {}", with_causes(&error));
                        session = None;
                    }
                }
            }
            if wait_or_closed(&mut session).await {
                session = None;
            }
        }
    }

    async fn look(
        &self,
        session: &SqlSession,
        status: &Status,
    ) -> Result<Option<SourceError>, tokio_postgres::Error> {
        let slot = session.query_opt(SLOT_SQL, &[&self.slot]).await?;
        if let Some(row) = slot {
            let sample = sample_from(&row);
            status.update(|snapshot| snapshot.slot = Some(sample));
        }
        let name = format!("walpost-{}", self.source);
        let counts = session.query_opt(SYNC_SQL, &[&self.slot, &name]).await?;
        if counts.is_some_and(|row| row.get(0)) {
            let database = self.address.database().to_owned();
            return Ok(Some(CatalogError::SynchronousStandby { database }.into()));
        }
        let oid = self.table.oid.0;
        let row = session.query_one(TABLE_SQL, &[&oid, &self.publication]).await?;
        let name: Option<String> = row.get(0);
        let (is_published, publication_exists): (bool, bool) = (row.get(1), row.get(2));
        if let Some(error) = self.judge(name, publication_exists, is_published) {
            return Ok(Some(error));
        }
        let number = |index: usize| row.get::<_, Option<u32>>(index).unwrap_or_default();
        let (publication, publication_rel) = (number(3), number(4));
        let now = SourceOids { publication, publication_rel, table: oid };
        let wal_end = row.get::<_, String>(5).parse().unwrap_or(Lsn::ZERO);
        let recorded = status.update(|snapshot| snapshot.confirmed);
        let changed = |what| PositionError::PublicationChanged { what, recorded, wal_end }.into();
        let alarm = self.oids.what_changed(now).map(changed);
        if alarm.is_none() {
            // Last: parking tables that cannot be read must not hide that the outbox is gone.
            let oldest: Option<i64> = session.query_one(LOT_SQL, &[&self.source]).await?.get(0);
            status.update(|snapshot| snapshot.lot_oldest_unix_ms = oldest);
        }
        Ok(alarm)
    }

    fn judge(
        &self,
        name: Option<String>,
        publication_exists: bool,
        is_published: bool,
    ) -> Option<SourceError> {
        let table = self.table.full_name();
        let database = self.address.database().to_owned();
        let Some(found) = name else {
            return Some(SourceError::Catalog(CatalogError::TableMissing { table, database }));
        };
        if found != table {
            return Some(SourceError::Table(EventError::Renamed { bound: table, found }));
        }
        let publication = self.publication.clone();
        if !publication_exists {
            let error = CatalogError::PublicationMissing { publication, database };
            return Some(SourceError::Catalog(error));
        }
        let left_out = CatalogError::PublicationWithoutTable { publication, table };
        (!is_published).then_some(SourceError::Catalog(left_out))
    }
}

/// Waits for the next look; whether the session was closed meanwhile.
///
/// Cancellation-safe.
async fn wait_or_closed(session: &mut Option<SqlSession>) -> bool {
    let Some(open) = session else {
        tokio::time::sleep(INTERVAL).await;
        return false;
    };
    tokio::select! {
        () = tokio::time::sleep(INTERVAL) => false,
        () = open.closed() => true,
    }
}

/// Whether the server lets nobody in because it shuts down. One that starts or recovers says the
/// same by its code, and has no stream.
fn is_shutdown(error: &SqlError) -> bool {
    error.source.code() == Some(&SqlState::CANNOT_CONNECT_NOW)
}

/// Whether commits wait for the walsender of the slot. A role that may not read other people's
/// statistics sees no state, not of its own walsender either; then the names that the server waits
/// for tell: a name in quotes or without, `*` for all.
const SYNC_SQL: &str = "SELECT coalesce(r.sync_state IN ('sync', 'quorum', 'potential'), \
    EXISTS (SELECT FROM pg_catalog.regexp_matches( \
      pg_catalog.current_setting('synchronous_standby_names'), \
      '\"((?:[^\"]|\"\")+)\"|([^\\s,()\"]+)', 'g') AS n \
     WHERE lower(replace(coalesce(n[1], n[2]), '\"\"', '\"')) IN ('*', lower($2)))) \
    FROM pg_catalog.pg_replication_slots s \
    JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = $1";

const SLOT_SQL: &str = "SELECT \
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), confirmed_flush_lsn)::bigint, \
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::bigint, \
    safe_wal_size::bigint, coalesce(wal_status, ''), active \
    FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";

const LOT_SQL: &str = "SELECT \
    (extract(epoch FROM min(committed_at)) * 1000)::bigint FROM walpost.parked WHERE source = $1";

const TABLE_SQL: &str = "SELECT \
    (SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1), \
    EXISTS (SELECT FROM pg_catalog.pg_publication_tables t \
     JOIN pg_catalog.pg_class c ON c.relname = t.tablename \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schemaname \
     WHERE t.pubname = $2 AND c.oid = $1), \
    EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $2), \
    (SELECT p.oid FROM pg_catalog.pg_publication p WHERE p.pubname = $2), \
    (SELECT r.oid FROM pg_catalog.pg_publication_rel r \
     JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid \
     WHERE p.pubname = $2 AND r.prrelid = $1), \
    pg_catalog.pg_current_wal_lsn()::text";

fn sample_from(row: &Row) -> SlotSample {
    let bytes = |index: usize| row.get::<_, Option<i64>>(index).unwrap_or(0).max(0).cast_unsigned();
    SlotSample {
        lag_bytes: bytes(0),
        retained_bytes: bytes(1),
        safe_bytes: row.get::<_, Option<i64>>(2).map(|size| size.max(0).cast_unsigned()),
        wal_status: row.get(3),
        is_active: row.get(4),
        at_unix_ms: unix_ms(),
    }
}
