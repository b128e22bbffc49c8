//! `walpost schema ...`: work with schemas, without a database or a broker.

mod batch;
mod check;
mod contracts;
mod decode;
pub(super) mod deploy;
mod diff;
mod encode;
mod files;
mod forms;
mod judged;
mod list;
mod register;
mod subjects;

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};
use walpost_schema::avro::Schema;
use walpost_schema::encode::{EncodeErrors, EncodeOptions, Plan};

use super::{Answer, ConfigSource, Failure, Form};

pub use check::batch_answer;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Check who could not read whom after a change.
    Check(Box<check::Arguments>),
    /// Say in words what changed, with the level that each change still meets.
    Diff(diff::Arguments),
    /// Register schema files: checked first, references first, safe to repeat.
    Register(register::Arguments),
    /// List what the registry has.
    List(list::Arguments),
    /// Encode JSON texts from stdin, one a line, as Avro.
    Encode(encode::Arguments),
    /// Decode Avro datums from stdin, one a line in hex, as JSON.
    Decode(decode::Arguments),
}

pub(super) fn run(verb: &Verb, config: &ConfigSource, form: Form) -> Answer {
    match verb {
        Verb::Check(arguments) => check::run(arguments, config, form),
        Verb::Diff(arguments) => diff::run(arguments, config, form.plain()?),
        Verb::Register(arguments) => register::run(arguments, config, form),
        Verb::List(arguments) => list::run(arguments, config, form.plain()?),
        Verb::Encode(arguments) => encode::run(arguments, form.plain()?),
        Verb::Decode(arguments) => decode::run(arguments, form.plain()?),
    }
}

/// Reads and compiles a schema; `references` are other schema files it names.
fn load_plan(path: &Path, references: &[std::path::PathBuf]) -> Result<Plan, Failure> {
    let mut known: Vec<Schema> = Vec::new();
    for path in references {
        let schema = load(path, &known)?;
        known.push(schema);
    }
    let schema = load(path, &known)?;
    compile(&schema).map_err(|error| {
        Failure::usage(anyhow::anyhow!("schema {} cannot be used: {error}", path.display()))
    })
}

fn load(path: &Path, known: &[Schema]) -> Result<Schema, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(anyhow::anyhow!("schema {} cannot be read: {error}", path.display()))
    })?;
    let references: Vec<&Schema> = known.iter().collect();
    Schema::parse(&text, &references)
        .map_err(|error| Failure::usage(anyhow::anyhow!("{}: {error}", path.display())))
}

fn compile(schema: &Schema) -> Result<Plan, String> {
    Plan::compile(schema, &EncodeOptions::default()).map_err(|error| error.to_string())
}

/// The answer for a text that was encoded (DESIGN 8.2).
fn encoded_json(framed: &[u8]) -> Value {
    json!({"ok": true, "hex": hex(framed)})
}

/// The answer for a text that does not fit.
fn errors_json(errors: &EncodeErrors) -> Value {
    let one = |error: &walpost_schema::encode::EncodeError| {
        json!({
            "kind": error.kind.as_str(),
            "pointer": error.pointer,
            "expected": error.expected,
            "actual": error.actual,
            "hint": error.hint,
        })
    };
    json!({"ok": false, "errors": errors.iter().map(one).collect::<Vec<_>>()})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_refuses_halves() {
        assert_eq!(from_hex("00ff7A").as_deref(), Some(&[0, 255, 0x7A][..]));
        assert_eq!(hex(&[0, 255, 0x7A]), "00ff7a");
        assert_eq!((from_hex("0"), from_hex("zz")), (None, None));
    }
}
