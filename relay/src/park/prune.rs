//! What the tables of the lot may forget, a bounded piece at each call.
//!
//! | row | goes when the recorded position is past it and |
//! |---|---|
//! | released | at once: read-back looks above the position only |
//! | discarded | [`KEPT`] is over, its outbox row is gone, and nothing of its sequence is parked |
//! | an answered request | [`KEPT`] is over |
//!
//! A discarded row says why a row of the outbox is in no topic (`walpost verify` asks), and keeps
//! what is parked behind it from leaving by itself.

use tokio_postgres::Error;

use super::orders::LotReply;
use super::store::{Store, mark_values};
use crate::decode::Oid;
use crate::position::Mark;

/// How long what a person did can be looked up, whatever became of the outbox row.
const KEPT: &str = "30 days";
/// Rows of one call.
const ROWS_MAX: i64 = 1_000;

/// Where the outbox rows are, as far as pruning must know.
#[derive(Debug, Clone)]
pub struct OutboxIds {
    /// The table.
    pub table: Oid,
    /// Its column with the event id.
    pub column: String,
}

impl Store<'_> {
    /// Forgets released events at or below the recorded position, and what has aged. The latter
    /// reads the outbox, which people change: what it cannot do now is left for the next time.
    pub async fn prune(&self, mark: Mark, outbox: &OutboxIds) -> Result<LotReply, Error> {
        let (commit_lsn, ordinal) = mark_values(mark);
        let sql = "DELETE FROM walpost.parked_done WHERE source = $1 AND state = 'released' \
                   AND (commit_lsn, ordinal) <= ($2, $3)";
        self.client.execute(sql, &[&self.source, &commit_lsn, &ordinal]).await?;
        if let Err(error) = self.prune_aged(mark, outbox).await {
            if self.client.is_closed() {
                return Err(error);
            }
            tracing::debug!(source = self.source, code = ?error.code(), "aged rows are kept");
        }
        Ok(LotReply::Done)
    }

    async fn prune_aged(&self, mark: Mark, outbox: &OutboxIds) -> Result<(), Error> {
        let requests = format!(
            "DELETE FROM walpost.requests WHERE id = ANY (ARRAY(SELECT id FROM walpost.requests \
             WHERE source = $1 AND answered_at < clock_timestamp() - interval '{KEPT}' LIMIT $2))"
        );
        self.client.execute(&requests, &[&self.source, &ROWS_MAX]).await?;
        let sql = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), \
                   quote_ident(a.attname), format_type(a.atttypid, a.atttypmod) \
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                   JOIN pg_attribute a ON a.attrelid = c.oid \
                   WHERE c.oid = $1 AND a.attname = $2 AND NOT a.attisdropped";
        let Some(row) = self.client.query_opt(sql, &[&outbox.table.0, &outbox.column]).await?
        else {
            return Ok(());
        };
        let (table, id, kind): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        // The event id becomes what the column is, so that the column's index serves.
        let discarded = format!(
            "DELETE FROM walpost.parked_done WHERE ctid = ANY (ARRAY( \
             SELECT d.ctid FROM walpost.parked_done d \
             WHERE d.source = $1 AND d.state = 'discarded' \
             AND (d.commit_lsn, d.ordinal) <= ($2, $3) \
             AND d.done_at < clock_timestamp() - interval '{KEPT}' \
             AND NOT EXISTS (SELECT FROM walpost.parked p \
             WHERE p.source = $1 AND p.sequence = d.sequence) \
             AND NOT EXISTS (SELECT FROM {table} o WHERE o.{id} = d.event_id::{kind}) LIMIT $4))"
        );
        let (commit_lsn, ordinal) = mark_values(mark);
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&self.source, &commit_lsn, &ordinal, &ROWS_MAX];
        let gone = self.client.execute(&discarded, &values).await?;
        if gone > 0 {
            tracing::info!(source = self.source, events = gone, "forgot discarded events");
        }
        Ok(())
    }
}
