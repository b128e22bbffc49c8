//! Pairs as JSON lines in, one answer each out: for editors, bots and bulk checks.

use std::cell::Cell;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use walpost_schema::compat::{self};

use crate::cli::schema::batch::{Line, each_line};
use crate::cli::schema::encode::{id_of, schema_text};
use crate::cli::schema::files;
use crate::cli::schema::forms::outcome_json;
use crate::cli::schema::judged::{Judged, Outcome, Unjudged};
use crate::cli::{Answer, Exit};

#[derive(Deserialize)]
struct BatchLine<'a> {
    #[serde(default)]
    id: Value,
    #[serde(borrow)]
    reader: &'a RawValue,
    #[serde(borrow)]
    writer: &'a RawValue,
}

pub(super) fn run() -> Answer {
    let was_undecided = Cell::new(false);
    let exit = each_line(|line| {
        let (text, is_compatible) = batch_answer(line);
        was_undecided.set(was_undecided.get() || is_compatible.is_none());
        Line { text, is_fine: is_compatible == Some(true) }
    })?;
    Ok(if was_undecided.get() { Exit::CouldNotTell } else { exit })
}

/// The answer of `walpost schema check --batch` to one line, and whether the pair is compatible;
/// None when that could not be told.
pub fn batch_answer(line: &[u8]) -> (String, Option<bool>) {
    let request = match serde_json::from_slice::<BatchLine<'_>>(line) {
        Ok(request) => request,
        Err(error) => return unjudged(id_of(line), &format!("the line is not usable: {error}")),
    };
    let outcome = match judged(&request) {
        Ok(judged) => Outcome { judged: vec![judged], unjudged: Vec::new() },
        Err(reason) => return unjudged(request.id, &reason.text()),
    };
    let is_compatible = outcome.is_compatible();
    let mut answer = outcome_json(&outcome);
    if let Some(members) = answer.as_object_mut() {
        members.insert("id".to_owned(), request.id);
        if is_compatible.is_none() {
            members.insert("error".to_owned(), "the pair is too large to be told".into());
        }
    }
    (answer.to_string(), is_compatible)
}

fn unjudged(id: Value, reason: &str) -> (String, Option<bool>) {
    (json!({"id": id, "compatible": null, "error": reason}).to_string(), None)
}

fn judged(request: &BatchLine<'_>) -> Result<Judged, Unjudged> {
    let reader = Arc::new(files::parse("reader", &schema_text(request.reader))?);
    let writer = Arc::new(files::parse("writer", &schema_text(request.writer))?);
    let report = compat::check(&reader.schema, &writer.schema);
    let victim = "whoever reads with reader what was written with writer".to_owned();
    Ok(Judged::of_pair(reader, writer, victim, report))
}
