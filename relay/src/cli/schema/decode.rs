//! `walpost schema decode`: the inverse of encode.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use walpost_schema::avro::Schema;
use walpost_schema::encode::Plan;
use walpost_schema::wire;

use super::super::{Answer, Output};
use super::batch::{Line, each_line};
use super::encode::{id_of, schema_text};
use super::{compile, from_hex, load_plan};

/// Reads Avro datums from stdin, one a line in hex, and prints the JSON text of each; with
/// --output json `{"ok": true, "json": ..}` or `{"ok": false, "error": ".."}`.
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
    /// Each datum has the zero byte and a schema id in front, as in a record; the id is dropped.
    #[arg(long)]
    framed: bool,
    /// Read lines `{"id", "schema", "hex"}` and answer one JSON line each.
    #[arg(long, conflicts_with = "schema")]
    batch: bool,
}

#[derive(Deserialize)]
struct BatchLine<'a> {
    #[serde(borrow)]
    schema: &'a RawValue,
    hex: String,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Answer {
    let is_framed = arguments.framed;
    let Some(path) = &arguments.schema else {
        return each_line(|line| batch_line(line, is_framed));
    };
    let plan = load_plan(path, &arguments.reference)?;
    each_line(|line| {
        let decoded = decode(&plan, &String::from_utf8_lossy(line), is_framed);
        let is_fine = decoded.is_ok();
        let text = match (output, decoded) {
            (Output::Text, Ok(text)) => text,
            (Output::Text, Err(reason)) => format!("error: {reason}"),
            (Output::Json, decoded) => answer(decoded),
        };
        Line { text, is_fine }
    })
}

fn decode(plan: &Plan, hex: &str, is_framed: bool) -> Result<String, String> {
    let bytes = from_hex(hex).ok_or("the line is not hex")?;
    let body = match is_framed {
        true => wire::decode(&bytes).map_err(|error| error.to_string())?.1,
        false => &bytes,
    };
    let mut text = String::new();
    plan.decode(body, &mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// The decoded text is JSON already and keeps its digits: it is put in as it is.
fn answer(decoded: Result<String, String>) -> String {
    match decoded {
        Ok(text) => format!("{{\"ok\":true,\"json\":{text}}}"),
        Err(reason) => json!({"ok": false, "error": reason}).to_string(),
    }
}

fn batch_line(line: &[u8], is_framed: bool) -> Line {
    let decoded = match serde_json::from_slice::<BatchLine<'_>>(line) {
        Err(error) => Err(error.to_string()),
        Ok(request) => Schema::parse(&schema_text(request.schema), &[])
            .map_err(|error| error.to_string())
            .and_then(|schema| compile(&schema))
            .and_then(|plan| decode(&plan, &request.hex, is_framed)),
    };
    let is_fine = decoded.is_ok();
    let rest = answer(decoded);
    let text = format!("{{\"id\":{},{}", id_of(line), rest.trim_start_matches('{'));
    Line { text, is_fine }
}
