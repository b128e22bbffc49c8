//! `walpost init`: prepares each source's database (outbox table, `walpost.source`, publication,
//! slot), its position in Kafka, and the topics that are known by name; says what it did.
//!
//! Run again, it completes what is missing, but never makes a slot or a position anew that
//! `walpost.source` says existed: what was written meanwhile would be missed without a trace.

mod database;
mod position;

use clap::Args;
use serde::Serialize;
use tokio_postgres::error::SqlState;

use self::database::Init;
use super::address::pick_source;
use super::output::{print, print_json};
use super::{Answer, ConfigSource, Exit, Failure, Output};
use crate::kafka::{KafkaSettings, TopicFinder};
use crate::lookup::Answer as TopicAnswer;
use crate::settings::SourceSettings;

/// Prepares the databases and topics of all sources. Safe to run again: it completes what is
/// missing.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print the SQL and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Make a slot or a position anew although one existed: events written since it was lost may be
    /// missed or sent twice.
    #[arg(long)]
    accept_gap: bool,
    /// Only this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Prepares one source as `walpost init` does, for `walpost dev`: its Kafka is new at each start.
pub(super) async fn prepare(source: &SourceSettings, finder: &TopicFinder) -> anyhow::Result<()> {
    let session = source.address.connect_sql("walpost-init").await?;
    let mode = Mode { is_dry_run: false, accepts_gap: true };
    let mut init = Init::new(session, source, mode);
    init.database().await?;
    init.position(finder).await
}

/// What may be done.
#[derive(Debug, Clone, Copy)]
struct Mode {
    is_dry_run: bool,
    accepts_gap: bool,
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
    let finder = TopicFinder::open(&settings.kafka).map_err(Failure::usage)?;
    let mut steps = Vec::new();
    for source in wanted {
        let failed = |error: anyhow::Error| {
            let text = format!("source \"{}\": {error:#}{}", source.name, hint(&error));
            Failure::could_not_tell(anyhow::anyhow!(text))
        };
        let session = source.address.connect_sql("walpost-init").await;
        let session = session.map_err(|error| failed(error.into()))?;
        let mode = Mode { is_dry_run: arguments.dry_run, accepts_gap: arguments.accept_gap };
        let mut init = Init::new(session, source, mode);
        let prepared = match init.database().await {
            Ok(()) => init.position(&finder).await,
            Err(error) => Err(error),
        };
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
            (TopicAnswer::Topic { facts, .. }, _, _) => {
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
