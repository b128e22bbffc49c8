//! `walpost schema encode`: what the relay would put into a record's value.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use walpost_schema::avro::Schema;
use walpost_schema::encode::Plan;
use walpost_schema::wire::{self, SchemaId};

use super::super::{Answer, Output};
use super::batch::{Line, each_line};
use super::{compile, encoded_json, errors_json, hex, load_plan};

/// Reads one JSON text a line from stdin and prints the Avro bytes of each in hex; with
/// --output json `{"ok": true, "hex": ".."}` or `{"ok": false, "errors": [..]}`.
///
/// A bad line does not stop the rest; exit 1 if any was bad.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The schema file.
    #[arg(long, required_unless_present = "batch")]
    schema: Option<PathBuf>,
    /// A schema file that the schema refers to; again for each, referred ones first.
    #[arg(long, value_name = "FILE", requires = "schema")]
    reference: Vec<PathBuf>,
    /// Put the zero byte and this schema id in front, as in a record.
    #[arg(long, value_name = "ID", conflicts_with = "batch")]
    framed: Option<u32>,
    /// Read lines `{"id", "schema", "json_text"}` and answer one JSON line each.
    #[arg(long, conflicts_with = "schema")]
    batch: bool,
}

#[derive(Deserialize)]
struct BatchLine<'a> {
    #[serde(borrow)]
    schema: &'a RawValue,
    json_text: String,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Answer {
    let Some(path) = &arguments.schema else { return each_line(batch_line) };
    let plan = load_plan(path, &arguments.reference)?;
    let framed = arguments.framed.map(SchemaId);
    match output {
        Output::Json => each_line(|line| {
            let (value, is_fine) = encode(&plan, framed, line);
            Line { text: value.to_string(), is_fine }
        }),
        Output::Text => each_line(|line| text_line(&plan, framed, line)),
    }
}

fn text_line(plan: &Plan, framed: Option<SchemaId>, line: &[u8]) -> Line {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(_) => return Line { text: "error: the line is not utf-8".to_owned(), is_fine: false },
    };
    let mut bytes = prefix(framed);
    match plan.encode(text, &mut bytes) {
        Ok(()) => Line { text: hex(&bytes), is_fine: true },
        Err(errors) => Line { text: format!("error: {errors}"), is_fine: false },
    }
}

fn prefix(framed: Option<SchemaId>) -> Vec<u8> {
    framed.map_or_else(Vec::new, |id| wire::frame_header(id).to_vec())
}

fn encode(plan: &Plan, framed: Option<SchemaId>, line: &[u8]) -> (Value, bool) {
    let Ok(text) = std::str::from_utf8(line) else {
        let error = json!({"kind": "invalid_json", "pointer": "", "expected": "utf-8 text",
            "actual": "other bytes"});
        return (json!({"ok": false, "errors": [error]}), false);
    };
    let mut bytes = prefix(framed);
    match plan.encode(text, &mut bytes) {
        Ok(()) => (encoded_json(&bytes), true),
        Err(errors) => (errors_json(&errors), false),
    }
}

fn batch_line(line: &[u8]) -> Line {
    let (mut answer, is_fine) = match serde_json::from_slice::<BatchLine<'_>>(line) {
        Err(error) => (unusable("bad_request", &error.to_string()), false),
        Ok(request) => {
            let plan = Schema::parse(&schema_text(request.schema), &[])
                .map_err(|error| error.to_string())
                .and_then(|schema| compile(&schema));
            match plan {
                Ok(plan) => encode(&plan, None, request.json_text.as_bytes()),
                Err(reason) => (unusable("unusable_schema", &reason), false),
            }
        }
    };
    if let Value::Object(members) = &mut answer {
        members.insert("id".to_owned(), id_of(line));
    }
    Line { text: answer.to_string(), is_fine }
}

/// The line's own id, also when the rest of the line is not usable.
pub(super) fn id_of(line: &[u8]) -> Value {
    #[derive(Deserialize)]
    struct Id {
        #[serde(default)]
        id: Value,
    }
    serde_json::from_slice::<Id>(line).map_or(Value::Null, |line| line.id)
}

/// A schema may be given as JSON itself or as a text that holds it.
pub(super) fn schema_text(schema: &RawValue) -> String {
    let raw = schema.get();
    match serde_json::from_str::<String>(raw) {
        Ok(text) if text.trim_start().starts_with(['{', '[', '"', '/']) => text,
        _ => raw.to_owned(),
    }
}

fn unusable(kind: &str, reason: &str) -> Value {
    json!({"ok": false, "errors": [{"kind": kind, "pointer": "", "expected": "a usable line",
        "actual": reason}]})
}
