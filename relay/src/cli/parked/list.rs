//! `walpost parked list` and `show`: rows of the lot in, tables or JSON out.

use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};

use super::{Which, failed, open};
use crate::cli::output::{print, print_json, printable, table};
use crate::cli::{Answer, Exit, Failure, Output};
use crate::park::{ParkedRow, RawPayload, Selection, Store};
use crate::settings::Settings;

/// Shows parked events, oldest first, with the reason of each.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  walpost parked list
  walpost parked list --code payload_unfit --output json
  walpost parked list --exit-code             exit 1 if anything is parked, for scripts

The code is the name of a page in docs/errors/; behind means that nothing is wrong with the event
itself, an earlier one of its aggregate has to leave first.")]
pub(in crate::cli) struct ListArguments {
    #[command(flatten)]
    which: Which,
    /// At most so many events.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Exit 1 if anything is parked.
    #[arg(long)]
    exit_code: bool,
}

/// Shows all that is known of one event.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  walpost parked show 1/0/16B3748:3
  walpost parked show 018f4e9c-7f3a-7000-8000-000000000000 --payload")]
pub(in crate::cli) struct ShowArguments {
    /// The event's id, or its place as list prints it.
    event: String,
    /// Print its payload too.
    #[arg(long)]
    payload: bool,
    /// The source, where several are configured.
    #[arg(long)]
    source: Option<String>,
}

pub(super) async fn list(arguments: &ListArguments, settings: &Settings, output: Output) -> Answer {
    let (source, session) = open(settings, arguments.which.source.as_deref()).await?;
    let store = Store { client: &session, source: &source.name };
    let selection = arguments.which.selection();
    let limit = i64::from(arguments.limit);
    let rows = store.list(&selection, 0, limit).await.map_err(|error| failed(&error))?;
    let total = store.count(&selection).await.map_err(|error| failed(&error))?;
    match output {
        Output::Json => {
            let events: Vec<Value> = rows.iter().map(|row| as_json(row, false)).collect();
            print_json(&json!({"source": source.name, "total": total, "events": events}))?;
        }
        Output::Text => print(&text(&rows, total))?,
    }
    Ok(if arguments.exit_code && total > 0 { Exit::Findings } else { Exit::Fine })
}

fn text(rows: &[ParkedRow], total: i64) -> String {
    if total == 0 {
        return "Nothing is parked.\n".to_owned();
    }
    let head = ["PLACE", "EVENT", "AGGREGATE", "TYPE", "SINCE", "TRIED", "CODE", "REASON"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        let raw = &row.event.row;
        let or_none = |text: &Option<String>| printable(text.as_deref().unwrap_or("(none)"));
        let (kind, id) = (or_none(&raw.aggregate_type), or_none(&raw.aggregate_id));
        lines.push(vec![
            row.event.identity.to_string(),
            or_none(&raw.id),
            format!("{kind}/{id}"),
            or_none(&raw.event_type),
            age(row.parked_at),
            row.attempts.to_string(),
            row.event.reason.code.to_string(),
            printable(&row.event.reason.detail),
        ]);
    }
    let mut text = table(&lines);
    let more = total - i64::try_from(rows.len()).unwrap_or(i64::MAX);
    if more > 0 {
        text.push_str(&format!("and {more} more (--limit)\n"));
    }
    text.push_str("next: walpost parked retry --help | discard --help\n");
    text
}

pub(super) async fn show(arguments: &ShowArguments, settings: &Settings, output: Output) -> Answer {
    let (source, session) = open(settings, arguments.source.as_deref()).await?;
    let store = Store { client: &session, source: &source.name };
    let by_id = Selection { event_id: Some(arguments.event.clone()), ..Selection::default() };
    let by_place = Selection { identity: Some(arguments.event.clone()), ..Selection::default() };
    let mut rows = store.list(&by_place, 0, 1).await.map_err(|error| failed(&error))?;
    if rows.is_empty() {
        rows = store.list(&by_id, 0, 100).await.map_err(|error| failed(&error))?;
    }
    if rows.is_empty() {
        let event = &arguments.event;
        let text = format!("no event {event} is parked in source \"{}\"", source.name);
        return Err(Failure::of(Exit::Findings, anyhow::anyhow!(text)));
    }
    for row in &rows {
        let shown = as_json(row, arguments.payload);
        match output {
            Output::Json => print_json(&shown)?,
            Output::Text => print(&lines_of(&shown))?,
        }
    }
    Ok(Exit::Fine)
}

fn lines_of(shown: &Value) -> String {
    let Some(fields) = shown.as_object() else { return String::new() };
    let line = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), printable);
        format!("{name:<16} {value}\n")
    };
    fields.iter().map(line).collect()
}

fn as_json(row: &ParkedRow, with_payload: bool) -> Value {
    let (event, raw) = (&row.event, &row.event.row);
    let mut shown = json!({
        "place": event.identity.to_string(),
        "event_id": raw.id,
        "aggregate_type": raw.aggregate_type,
        "aggregate_id": raw.aggregate_id,
        "event_type": raw.event_type,
        "sequence": event.sequence().as_str(),
        "code": event.reason.code,
        "reason": event.reason.detail,
        "attempts": row.attempts,
        "parked_at": rfc3339(row.parked_at),
        "tried_at": rfc3339(row.tried_at),
        "payload_kind": raw.payload.kind(),
        "payload_bytes": raw.payload.bytes().map_or(0, |bytes| bytes.len()),
    });
    if with_payload {
        shown["payload"] = match &raw.payload {
            RawPayload::Json(text) | RawPayload::Text(text) | RawPayload::Hex(text) => json!(text),
            RawPayload::Message(content) => json!(String::from_utf8_lossy(content)),
            RawPayload::Tombstone | RawPayload::Absent { .. } => Value::Null,
        };
        shown["headers"] = json!(raw.headers);
    }
    shown
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |at| at.to_string())
}

fn age(since: SystemTime) -> String {
    let seconds = since.elapsed().unwrap_or_default().as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
