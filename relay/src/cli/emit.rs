//! `walpost emit`: one event, written as a service would write it, and the INSERT that did it.

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::address::pick_source;
use super::output::{print, print_json};
use super::{Answer, ConfigSource, Exit, Failure, Output};
use crate::settings::SourceSettings;
use crate::wal::{quote_identifier, quote_literal};

/// Writes one event into the outbox table and prints the INSERT that it ran.
///
/// For trying out and for smoke tests: a service does the same inside its own transaction.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  walpost emit order 42 shop.OrderPlaced '{\"total\": \"12.50\"}'
  walpost emit order 42 shop.OrderDeleted null        a tombstone")]
pub(super) struct Arguments {
    /// The kind of thing that changed, such as order.
    aggregate_type: String,
    /// Which one of them: the record's key.
    aggregate_id: String,
    /// What happened, such as shop.OrderPlaced.
    event_type: String,
    /// The content as JSON; null is a tombstone.
    payload: String,
    /// Headers as a JSON object.
    #[arg(long, value_name = "JSON")]
    headers: Option<String>,
    /// The source, where several are configured.
    #[arg(long)]
    source: Option<String>,
}

pub(super) async fn run(arguments: Arguments, config: &ConfigSource, output: Output) -> Answer {
    for (name, text) in
        [("PAYLOAD", Some(&arguments.payload)), ("--headers", arguments.headers.as_ref())]
    {
        let parsed = text.map(|text| serde_json::from_str::<serde::de::IgnoredAny>(text));
        if let Some(Err(error)) = parsed {
            let place = format!("line {} column {}", error.line(), error.column());
            return Err(Failure::usage(anyhow::anyhow!("{name} is not json ({place})")));
        }
    }
    let settings = config.load()?;
    let source = pick_source(&settings, arguments.source.as_deref())?;
    let id = Uuid::now_v7();
    let sql = insert(source, &arguments, id);
    let session =
        source.address.connect_sql("walpost-emit").await.map_err(Failure::could_not_tell)?;
    session.batch_execute(&sql).await.map_err(|error| {
        let words =
            error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
        Failure::could_not_tell(anyhow::anyhow!("the event was not written: {words}\n  {sql}"))
    })?;
    match output {
        Output::Text => print(&format!("{sql};\n"))?,
        Output::Json => print_json(&json!({"id": id.to_string(), "sql": sql}))?,
    }
    Ok(Exit::Fine)
}

fn insert(source: &SourceSettings, arguments: &Arguments, id: Uuid) -> String {
    let names = &source.columns;
    let payload = match arguments.payload.trim() {
        "null" => "NULL".to_owned(),
        json => quote_literal(json).trim_start().to_owned(),
    };
    let mut columns = vec![
        (&names.id, format!("'{id}'")),
        (&names.aggregate_type, quote_literal(&arguments.aggregate_type)),
        (&names.aggregate_id, quote_literal(&arguments.aggregate_id)),
        (&names.event_type, quote_literal(&arguments.event_type)),
        (&names.payload, payload),
    ];
    if let Some(headers) = &arguments.headers {
        columns.push((&names.headers.name, quote_literal(headers)));
    }
    let list = |pick: fn(&(&String, String)) -> String| {
        columns.iter().map(pick).collect::<Vec<_>>().join(", ")
    };
    let names = list(|(name, _)| plain_identifier(name));
    let values = list(|(_, value)| value.trim_start().to_owned());
    format!("INSERT INTO {} ({names}) VALUES ({values})", source.table)
}

/// Names of columns that are no words of SQL; any other could be one, today or in a later version.
const PLAIN: [&str; 9] = [
    "id",
    "aggregate_type",
    "aggregate_id",
    "event_type",
    "payload",
    "headers",
    "aggregatetype",
    "aggregateid",
    "type",
];

/// A name as a person would write it: the usual ones as they are, all others quoted.
fn plain_identifier(name: &str) -> String {
    if PLAIN.contains(&name) { name.to_owned() } else { quote_identifier(name) }
}
