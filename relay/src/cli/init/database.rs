//! A source's database: outbox table, `walpost.source`, publication and slot.
//!
//! Order matters: the publication must exist before the slot, because pgoutput looks it up in the
//! catalog as of each change; and the row that remembers a slot before the slot.

use walpost_outbox::table_sql;

use super::{Mode, Step};
use crate::database::SqlSession;
use crate::event::ColumnNames;
use crate::park::PARKING_TABLES;
use crate::settings::SourceSettings;
use crate::wal::{quote_identifier, quote_literal};

/// The preparation of one source.
pub(super) struct Init<'a> {
    pub(super) session: SqlSession,
    pub(super) source: &'a SourceSettings,
    pub(super) mode: Mode,
    pub(super) steps: Vec<Step>,
}

impl<'a> Init<'a> {
    pub(super) fn new(session: SqlSession, source: &'a SourceSettings, mode: Mode) -> Self {
        Self { session, source, mode, steps: Vec::new() }
    }

    /// Table, publication and slot.
    pub(super) async fn database(&mut self) -> anyhow::Result<()> {
        // Making a slot waits for every transaction that is open; the database's own limits for
        // statements are for queries.
        self.session.batch_execute("SET statement_timeout = 0").await?;
        let wal_level: String = self.session.query_one("SHOW wal_level", &[]).await?.get(0);
        if wal_level != "logical" {
            anyhow::bail!(
                "wal_level is {wal_level}: run ALTER SYSTEM SET wal_level = 'logical' and restart \
                 PostgreSQL"
            );
        }
        self.table().await?;
        self.registered().await?;
        self.parking_lot().await?;
        self.publication().await?;
        self.slot().await
    }

    async fn table(&mut self) -> anyhow::Result<()> {
        let table = &self.source.table;
        let exists = self.exists("SELECT pg_catalog.to_regclass($1) IS NOT NULL", table).await?;
        let sql = create_table(table, &self.source.columns);
        let object = format!("table {table}");
        if !exists {
            return self.make(object, sql, None).await;
        }
        let count = format!("SELECT count(*) FROM {table}");
        let rows: i64 = self.session.query_one(&count, &[]).await?.get(0);
        let slot = "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)";
        let has_slot = self.exists(slot, &self.source.slot).await?;
        let note = (rows > 0 && !has_slot)
            .then(|| format!("{rows} rows exist already and will not be relayed"));
        self.note(object, "exists", note);
        Ok(())
    }

    /// `walpost.source` remembers that a slot was made, so that a lost one is not replaced by
    /// mistake.
    async fn registered(&mut self) -> anyhow::Result<()> {
        let object = "table walpost.source".to_owned();
        if self.exists("SELECT pg_catalog.to_regclass($1) IS NOT NULL", "walpost.source").await? {
            self.note(object, "exists", None);
            return Ok(());
        }
        self.make(object, SOURCE_TABLE.to_owned(), None).await
    }

    /// The tables of the parking lot, which only the relay writes to.
    async fn parking_lot(&mut self) -> anyhow::Result<()> {
        for (table, sql) in PARKING_TABLES {
            let object = format!("table {table}");
            if self.exists("SELECT pg_catalog.to_regclass($1) IS NOT NULL", table).await? {
                self.note(object, "exists", None);
            } else {
                self.make(object, sql.to_owned(), None).await?;
            }
        }
        Ok(())
    }

    async fn publication(&mut self) -> anyhow::Result<()> {
        let SourceSettings { publication, table, .. } = self.source;
        let object = format!("publication {publication}");
        let name = quote_identifier(publication);
        let sql = "SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)";
        if !self.exists(sql, publication).await? {
            let sql = format!(
                "CREATE PUBLICATION {name} FOR TABLE {table} \
                 WITH (publish = 'insert', publish_via_partition_root = true)"
            );
            return self.make(object, sql, None).await;
        }
        let sql = "SELECT EXISTS (SELECT FROM pg_publication_tables t \
                   JOIN pg_class c ON c.relname = t.tablename \
                   JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schemaname \
                   WHERE t.pubname = $1 AND c.oid = pg_catalog.to_regclass($2))";
        let has_table = !self.mode.is_dry_run || self.table_exists().await?;
        let contains: bool = match has_table {
            true => self.session.query_one(sql, &[publication, table]).await?.get(0),
            false => false,
        };
        if contains {
            self.note(object, "exists", None);
            return Ok(());
        }
        let sql = format!("ALTER PUBLICATION {name} ADD TABLE {table}");
        self.make(object, sql, Some(format!("{table} was not in it"))).await
    }

    async fn table_exists(&self) -> anyhow::Result<bool> {
        self.exists("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &self.source.table).await
    }

    async fn slot(&mut self) -> anyhow::Result<()> {
        let SourceSettings { slot, .. } = self.source;
        let object = format!("replication slot {slot}");
        let exists = "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)";
        let exists = self.exists(exists, slot).await?;
        if self.mode.is_dry_run {
            if exists {
                self.note(object, "exists", None);
                return Ok(());
            }
            return self.make(object, create_slot(slot), None).await;
        }
        // The row first: what is made after it is remembered, whatever interrupts.
        self.remember().await?;
        let had_slot = self.consistent_point().await?.is_some();
        if exists {
            self.note(object, "exists", None);
            if !had_slot {
                self.remember_slot(None).await?;
            }
            return Ok(());
        }
        if had_slot && !self.mode.accepts_gap {
            anyhow::bail!(
                "replication slot {slot} existed and is gone [slot_missing]: events written \
                 since then would be missed; walpost init --accept-gap makes it anew and accepts \
                 that"
            );
        }
        let from: String = self.session.query_one(&create_slot(slot), &[]).await?.get(0);
        self.remember_slot(Some(&from)).await?;
        self.note(object, "made", Some(format!("events committed after {from} are relayed")));
        Ok(())
    }

    /// Drops the slot and makes it anew, where a person accepted the gap.
    pub(super) async fn renew_slot(&self) -> anyhow::Result<()> {
        let slot = &self.source.slot;
        self.session.execute("SELECT pg_drop_replication_slot($1)", &[slot]).await?;
        let from: String = self.session.query_one(&create_slot(slot), &[]).await?.get(0);
        self.remember_slot(Some(&from)).await
    }

    async fn remember(&self) -> anyhow::Result<()> {
        let SourceSettings { name, slot, publication, .. } = self.source;
        let sql = "INSERT INTO walpost.source (name, birth, slot, publication) \
                   VALUES ($1, gen_random_uuid(), $2, $3) ON CONFLICT (name) DO NOTHING";
        self.session.execute(sql, &[name, slot, publication]).await?;
        Ok(())
    }

    async fn consistent_point(&self) -> anyhow::Result<Option<String>> {
        let sql = "SELECT consistent_point::text FROM walpost.source WHERE name = $1";
        Ok(self.session.query_one(sql, &[&self.source.name]).await?.get(0))
    }

    /// The slot starts at `from`, or, where it was made by somebody else, where it stands. A
    /// position of a slot before it is none of this one.
    async fn remember_slot(&self, from: Option<&str>) -> anyhow::Result<()> {
        let SourceSettings { name, slot, publication, .. } = self.source;
        let sql = "UPDATE walpost.source SET slot = $2, publication = $3, made_at = now(), \
                   positioned_at = NULL, consistent_point = coalesce($4::text::pg_lsn, \
                   (SELECT confirmed_flush_lsn FROM pg_replication_slots \
                   WHERE slot_name::text = $2)) WHERE name = $1";
        self.session.execute(sql, &[name, slot, publication, &from]).await?;
        Ok(())
    }

    pub(super) async fn exists(&self, sql: &str, name: &str) -> anyhow::Result<bool> {
        Ok(self.session.query_one(sql, &[&name]).await?.get(0))
    }

    async fn make(
        &mut self,
        object: String,
        sql: String,
        note: Option<String>,
    ) -> anyhow::Result<()> {
        let outcome = if self.mode.is_dry_run {
            "would_make"
        } else {
            self.session.batch_execute(&sql).await?;
            "made"
        };
        let source = self.source.name.clone();
        self.steps.push(Step { source, object, outcome, sql: Some(sql), note });
        Ok(())
    }

    pub(super) fn note(&mut self, object: String, outcome: &'static str, note: Option<String>) {
        let source = self.source.name.clone();
        self.steps.push(Step { source, object, outcome, sql: None, note });
    }
}

const SOURCE_TABLE: &str = "CREATE SCHEMA IF NOT EXISTS walpost;
CREATE TABLE walpost.source (
    name             text PRIMARY KEY,
    birth            uuid NOT NULL,
    slot             text NOT NULL,
    publication      text NOT NULL,
    consistent_point pg_lsn,
    made_at          timestamptz NOT NULL DEFAULT now(),
    positioned_at    timestamptz
)";

fn create_slot(slot: &str) -> String {
    format!(
        "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot({}, 'pgoutput')",
        quote_literal(slot)
    )
}

/// The table of DESIGN 3.1; with other column names, the same columns under those names.
fn create_table(table: &str, columns: &ColumnNames) -> String {
    if *columns == ColumnNames::default() {
        return table_sql(table);
    }
    let types = [
        "uuid NOT NULL PRIMARY KEY",
        "text NOT NULL",
        "text NOT NULL",
        "text NOT NULL",
        "jsonb",
        "jsonb",
        "int",
        "timestamptz NOT NULL DEFAULT now()",
    ];
    let wanted =
        columns.in_field_order().into_iter().zip(types).filter(|((_, demanded), _)| *demanded);
    let lines: Vec<_> =
        wanted.map(|((name, _), kind)| format!("    {} {kind}", quote_identifier(name))).collect();
    format!("CREATE TABLE {table} (\n{}\n)", lines.join(",\n"))
}
