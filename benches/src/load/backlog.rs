//! The backlog that every contender drains: rows of an outbox table, written once.

use anyhow::Result;

use crate::Arguments;
use crate::servers::Servers;

/// What was written.
pub(crate) struct Backlog {
    pub(crate) rows: u64,
    pub(crate) wal_mb: i64,
    pub(crate) payload: i32,
    /// The end of the backlog.
    pub(crate) end: String,
}

/// The slot made before the backlog; contenders read copies of it.
pub(crate) const TEMPLATE: &str = "load_template";

const TABLE: &str = "
    CREATE PUBLICATION load FOR TABLE outbox WITH (publish = 'insert');
    CREATE PROCEDURE write_backlog(rows bigint, a_transaction bigint, aggregates bigint)
    LANGUAGE plpgsql AS $$
    BEGIN
        FOR start_at IN 0 .. rows - 1 BY a_transaction LOOP
            INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload)
            SELECT gen_random_uuid(), 'order', agg, 'OrderPlaced', jsonb_build_object(
                       'seq', i / aggregates, 'order_id', agg, 'customer', 'customer-' || i % 5000,
                       'amount', round((i % 100000) / 100.0, 2), 'currency', 'EUR',
                       'status', CASE WHEN i % aggregates % 100 = 7 THEN 'odd' ELSE 'placed' END,
                       'note', md5(i::text) || md5((i + 1)::text))
            FROM generate_series(start_at, least(start_at + a_transaction, rows) - 1) i,
                 LATERAL (SELECT 'agg-' || lpad((i % aggregates)::text, 8, '0') AS agg) a
            ORDER BY i;
            COMMIT;
        END LOOP;
    END $$;";

/// Makes table, publication and template slot, and writes the rows.
pub(crate) async fn write(servers: &Servers, arguments: &Arguments) -> Result<Backlog> {
    let sql = servers.sql().await?;
    sql.batch_execute(walpost_outbox::OUTBOX_SQL).await?;
    sql.batch_execute(TABLE).await?;
    let make = "SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput')";
    let start: String = sql.query_one(make, &[&TEMPLATE]).await?.get(0);
    let call = format!(
        "CALL write_backlog({}, {}, {})",
        arguments.rows, arguments.rows_per_transaction, arguments.aggregates
    );
    sql.batch_execute(&call).await?;
    sql.batch_execute("CHECKPOINT").await?;
    let measure =
        "SELECT (pg_wal_lsn_diff(pg_current_wal_lsn(), $1::text::pg_lsn) / 1000000)::bigint,
        (SELECT avg(length(payload::text))::int FROM outbox), pg_current_wal_lsn()::text";
    let row = sql.query_one(measure, &[&start]).await?;
    Ok(Backlog { rows: arguments.rows, wal_mb: row.get(0), payload: row.get(1), end: row.get(2) })
}

/// A copy of the template slot.
pub(crate) async fn copy_slot(servers: &Servers, name: &str) -> Result<()> {
    let copy = "SELECT FROM pg_copy_logical_replication_slot($1, $2)";
    servers.sql().await?.execute(copy, &[&TEMPLATE, &name]).await?;
    Ok(())
}

/// Drops a slot, so that it holds no WAL back.
pub(crate) async fn drop_slot(servers: &Servers, name: &str) -> Result<()> {
    servers.sql().await?.execute("SELECT pg_drop_replication_slot($1)", &[&name]).await?;
    Ok(())
}
