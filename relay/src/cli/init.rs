//! `walpost init`: prepares each source's database (outbox table, `walpost.source`, publication,
//! slot) and the topics that are known by name; says what it did.
//!
//! Order matters: the publication must exist before the slot, because pgoutput looks it up in the
//! catalog as of each change. Run again, it completes what is missing, but never makes a slot anew
//! that `walpost.source` says existed: what was written meanwhile would be missed without a trace.

use clap::Args;
use serde::Serialize;
use tokio_postgres::error::SqlState;
use walpost_outbox::table_sql;

use super::address::pick_source;
use super::output::{print, print_json};
use super::{Answer, ConfigSource, Exit, Failure, Output};
use crate::database::SqlSession;
use crate::event::ColumnNames;
use crate::kafka::{KafkaSettings, TopicFinder};
use crate::lookup::Answer as TopicAnswer;
use crate::settings::SourceSettings;
use crate::wal::{quote_identifier, quote_literal};

/// Prepares the databases and topics of all sources. Safe to run again: it completes what is
/// missing.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print the SQL and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Make a slot anew although one existed: events written since it was lost are not relayed.
    #[arg(long)]
    accept_gap: bool,
    /// Only this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Prepares one source as `walpost init` does, for `walpost dev`.
pub(super) async fn prepare(source: &SourceSettings) -> anyhow::Result<()> {
    let session = source.address.connect_sql("walpost-init").await?;
    let arguments = Arguments { dry_run: false, accept_gap: true, source: None };
    Init { session, source, arguments: &arguments, steps: Vec::new() }.prepare().await
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Step {
    source: String,
    object: String,
    /// exists, made, would_make, or missing.
    outcome: &'static str,
    sql: Option<String>,
    note: Option<String>,
}

pub(super) async fn run(arguments: Arguments, config: &ConfigSource, output: Output) -> Answer {
    let settings = config.load()?;
    if settings.sources.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!("no [[source]] is configured")));
    }
    let wanted: Vec<&SourceSettings> = match &arguments.source {
        Some(name) => vec![pick_source(&settings, Some(name))?],
        None => settings.sources.iter().collect(),
    };
    let mut steps = Vec::new();
    for source in wanted {
        let failed = |error: anyhow::Error| {
            let text = format!("source \"{}\": {error:#}{}", source.name, hint(&error));
            Failure::could_not_tell(anyhow::anyhow!(text))
        };
        let session = source.address.connect_sql("walpost-init").await;
        let session = session.map_err(|error| failed(error.into()))?;
        let mut init = Init { session, source, arguments: &arguments, steps: Vec::new() };
        let prepared = init.prepare().await;
        // What was done before a failure was done: it is shown as well.
        steps.append(&mut init.steps);
        if let Err(error) = prepared {
            show(&steps, output)?;
            return Err(failed(error));
        }
        topics(source, &settings.kafka, arguments.dry_run, &mut steps).await?;
    }
    show(&steps, output)?;
    Ok(Exit::Fine)
}

/// What to do about an error that says itself only what may not be done.
fn hint(error: &anyhow::Error) -> &'static str {
    let mut causes =
        error.chain().filter_map(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    if causes.any(|cause| cause.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)) {
        return "\n  init needs more rights than run: docs/operations.md lists both; \
                WALPOST_SOURCE__<NAME>__URL names another role for this once";
    }
    ""
}

fn show(steps: &[Step], output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return print_json(&steps);
    }
    for step in steps {
        let mark = match step.outcome {
            "exists" => "ok",
            "made" => "made",
            "would_make" => "to do",
            _ => "!",
        };
        let note = step.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        print(&format!("{mark:<6}{}: {}{note}\n", step.source, step.object))?;
        if let Some(sql) = &step.sql
            && step.outcome == "would_make"
        {
            print(&format!("{sql};\n\n"))?;
        }
    }
    Ok(())
}

struct Init<'a> {
    session: SqlSession,
    source: &'a SourceSettings,
    arguments: &'a Arguments,
    steps: Vec<Step>,
}

impl Init<'_> {
    async fn prepare(&mut self) -> anyhow::Result<()> {
        let wal_level: String = self.session.query_one("SHOW wal_level", &[]).await?.get(0);
        if wal_level != "logical" {
            anyhow::bail!(
                "wal_level is {wal_level}: run ALTER SYSTEM SET wal_level = 'logical' and restart \
                 PostgreSQL"
            );
        }
        self.table().await?;
        self.registered().await?;
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
        let has_table = !self.arguments.dry_run || self.table_exists().await?;
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
        let SourceSettings { slot, name, .. } = self.source;
        let object = format!("replication slot {slot}");
        let sql = "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)";
        if self.exists(sql, slot).await? {
            self.note(object, "exists", None);
            return Ok(());
        }
        if self.was_made().await? && !self.arguments.accept_gap {
            anyhow::bail!(
                "replication slot {slot} existed and is gone [slot_missing]: events written since \
                 then would be missed; walpost init --accept-gap makes it anew and accepts that"
            );
        }
        let sql = format!(
            "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot({}, 'pgoutput')",
            quote_literal(slot)
        );
        if self.arguments.dry_run {
            return self.make(object, sql, None).await;
        }
        let from: String = self.session.query_one(&sql, &[]).await?.get(0);
        let remember = "INSERT INTO walpost.source (name, slot, publication, consistent_point) \
                        VALUES ($1, $2, $3, $4::text::pg_lsn) ON CONFLICT (name) DO UPDATE SET \
                        slot = excluded.slot, publication = excluded.publication, \
                        consistent_point = excluded.consistent_point, made_at = now()";
        self.session.execute(remember, &[name, slot, &self.source.publication, &from]).await?;
        self.note(object, "made", Some(format!("events committed after {from} are relayed")));
        Ok(())
    }

    async fn was_made(&self) -> anyhow::Result<bool> {
        if !self.exists("SELECT pg_catalog.to_regclass($1) IS NOT NULL", "walpost.source").await? {
            return Ok(false);
        }
        let sql = "SELECT EXISTS (SELECT FROM walpost.source WHERE slot = $1)";
        self.exists(sql, &self.source.slot).await
    }

    async fn exists(&self, sql: &str, name: &str) -> anyhow::Result<bool> {
        Ok(self.session.query_one(sql, &[&name]).await?.get(0))
    }

    async fn make(
        &mut self,
        object: String,
        sql: String,
        note: Option<String>,
    ) -> anyhow::Result<()> {
        let outcome = if self.arguments.dry_run {
            "would_make"
        } else {
            self.session.batch_execute(&sql).await?;
            "made"
        };
        let source = self.source.name.clone();
        self.steps.push(Step { source, object, outcome, sql: Some(sql), note });
        Ok(())
    }

    fn note(&mut self, object: String, outcome: &'static str, note: Option<String>) {
        let source = self.source.name.clone();
        self.steps.push(Step { source, object, outcome, sql: None, note });
    }
}

const SOURCE_TABLE: &str = "CREATE SCHEMA IF NOT EXISTS walpost;
CREATE TABLE walpost.source (
    name             text PRIMARY KEY,
    slot             text NOT NULL,
    publication      text NOT NULL,
    consistent_point pg_lsn NOT NULL,
    made_at          timestamptz NOT NULL DEFAULT now()
)";

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

/// Topics that routes name without a placeholder; the others are made at first use.
async fn topics(
    source: &SourceSettings,
    kafka: &KafkaSettings,
    dry_run: bool,
    steps: &mut Vec<Step>,
) -> Result<(), Failure> {
    let fixed: Vec<String> = source.routes.iter().filter_map(|route| route.topic.fixed()).collect();
    if fixed.is_empty() {
        return Ok(());
    }
    let looker = KafkaSettings { create_topics: false, ..kafka.clone() };
    let finder = TopicFinder::open(&looker).map_err(Failure::usage)?;
    for topic in fixed {
        let found = finder.find(&topic).await.map_err(Failure::could_not_tell)?;
        let (outcome, note) = match (found, kafka.create_topics, dry_run) {
            (TopicAnswer::Topic(facts), _, _) => {
                ("exists", Some(format!("{} partitions", facts.partitions)))
            }
            (_, true, true) => ("would_make", Some(format!("{} partitions", kafka.partitions))),
            (_, true, false) => {
                finder.create(&topic).await.map_err(Failure::could_not_tell)?;
                ("made", Some(format!("{} partitions", kafka.partitions)))
            }
            (_, false, _) => {
                ("missing", Some("make it, or set kafka.create_topics = true".to_owned()))
            }
        };
        let (source, object) = (source.name.clone(), format!("topic {topic}"));
        steps.push(Step { source, object, outcome, sql: None, note });
    }
    Ok(())
}
