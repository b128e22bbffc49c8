//! A finding in, the edit that mends it out: once for whoever changes the reader's schema, once for
//! whoever changes the writer's.
//!
//! Written so that it can be done at once: with the names of this schema and the text to put in.

use crate::avro::{Enum, Field, Kind, NodeId, Schema};
use crate::compat::finding::{Because, Code, Help};
use crate::compat::rules::{described, missing_symbols};

/// The two types that a finding is about.
pub(super) struct Types<'a> {
    pub(super) reader: (&'a Schema, NodeId),
    pub(super) writer: (&'a Schema, NodeId),
}

impl<'a> Types<'a> {
    fn reader(&self) -> &'a Kind {
        &self.reader.0.node(self.reader.1).kind
    }

    fn writer(&self) -> &'a Kind {
        &self.writer.0.node(self.writer.1).kind
    }

    fn described(&self) -> (String, String) {
        (described(self.reader.0, self.reader()), described(self.writer.0, self.writer()))
    }
}

fn help(reader: impl Into<String>, writer: impl Into<String>) -> Help {
    Help { reader: reader.into(), writer: writer.into() }
}

pub(super) fn for_types(code: Code, types: &Types<'_>, because: &[Because]) -> Help {
    match (code, types.reader(), types.writer()) {
        (Code::MissingEnumSymbols, Kind::Enum(reader), Kind::Enum(writer)) => {
            missing_enum_symbols(reader, writer)
        }
        (Code::FixedSizeMismatch, Kind::Fixed(reader), Kind::Fixed(writer)) => {
            let (name, size) = (reader.name.full(), writer.size);
            let other = "add a new field with a fixed of another name beside the old one";
            help(
                format!("keep \"size\": {size} for {name}; for another size {other}"),
                format!("keep \"size\": {} for {name}; for another size {other}", reader.size),
            )
        }
        (Code::NameMismatch, reader, writer) => {
            let (new, old) = (reader.branch_name(), writer.branch_name());
            help(
                format!("add \"aliases\": [\"{old}\"] to {new}, or keep the name {old}"),
                format!(
                    "keep the name {new}; to rename it, first give it \"aliases\": [\"{old}\"] in \
                     every reader"
                ),
            )
        }
        (Code::MissingUnionBranch, ..) => missing_branch(types, because),
        _ => type_mismatch(types),
    }
}

fn type_mismatch(types: &Types<'_>) -> Help {
    let (reader, writer) = types.described();
    if matches!(types.writer(), Kind::Null) {
        let word = types.reader().branch_name();
        return help(
            format!("keep null in the type: [\"null\", \"{word}\"]; old data holds nulls"),
            format!(
                "do not write null here: readers know only {reader}; let them read [\"null\", \
                 \"{word}\"] first"
            ),
        );
    }
    let beside = "add a new field beside the old one, move everybody over, then drop the old one";
    help(
        format!("keep {writer} (data that was written stays {writer}); for {reader} {beside}"),
        format!("keep {reader} (readers cannot read {writer}); for {writer} {beside}"),
    )
}

fn missing_enum_symbols(reader: &Enum, writer: &Enum) -> Help {
    let missing = missing_symbols(reader, writer).join(", ");
    let default = reader.symbols.first().map_or("UNKNOWN", String::as_str);
    let name = reader.name.full();
    help(
        format!(
            "put {missing} back into \"symbols\" of {name}, or give the enum a default, such as \
             \"default\": \"{default}\", for symbols it does not know"
        ),
        format!(
            "let every reader of {name} know {missing}, or have a default for unknown symbols, \
             before it is written"
        ),
    )
}

fn missing_branch(types: &Types<'_>, because: &[Because]) -> Help {
    let (reader, writer) = types.described();
    let written = types.writer().branch_name();
    if let Some(inner) = because.first() {
        let place =
            if inner.path.is_empty() { String::new() } else { format!(" at {}", inner.path) };
        let why = inner.code.sentence(&inner.message);
        let what = format!("{written} is in the union but does not fit{place}: {why}");
        return help(
            format!("{what}; mend that, or add the old {writer} as a branch of another name"),
            format!("{what}; mend that, or write it only when every reader has it"),
        );
    }
    help(
        format!("keep {written} in the union ({reader} cannot hold it)"),
        format!("write {written} only after every reader has it in its union ({reader} lacks it)"),
    )
}

pub(super) fn missing_default(types: &Types<'_>, field: &Field) -> Help {
    let schema = types.reader.0;
    let name = &field.name;
    let record = types.writer().branch_name();
    let add = match default_for(schema, &schema.node(field.schema.node).kind) {
        Some(default) => format!("add \"default\": {default} to field {name}"),
        None => format!(
            "make field {name} nullable with \"default\": null ([\"null\", ..]), or write out a \
             default for it"
        ),
    };
    help(
        format!("{add}, or name the field it replaces in \"aliases\": data of {record} has none"),
        format!(
            "keep field {name} in {record}: readers have no default for it; drop it only when all \
             of them have one"
        ),
    )
}

/// A default that fits a type at a glance.
fn default_for(schema: &Schema, kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::Null => "null".to_owned(),
        Kind::Boolean => "false".to_owned(),
        Kind::Int | Kind::Long => "0".to_owned(),
        Kind::Float | Kind::Double => "0.0".to_owned(),
        Kind::Bytes | Kind::String => "\"\"".to_owned(),
        Kind::Array(_) => "[]".to_owned(),
        Kind::Map(_) => "{}".to_owned(),
        Kind::Enum(one) => format!("\"{}\"", one.symbols.first()?),
        Kind::Union(branches) => {
            let mut kinds = branches.iter().map(|branch| &schema.node(branch.node).kind);
            if kinds.clone().any(|kind| matches!(kind, Kind::Null)) {
                return Some("null".to_owned());
            }
            // No union is directly inside a union.
            return default_for(schema, kinds.next()?);
        }
        Kind::Record(_) | Kind::Fixed(_) => return None,
    })
}

pub(super) fn ambiguous_alias(field: &Field, first: &Field, second: &Field) -> Help {
    let name = &field.name;
    let both = format!("{} and {}", first.name, second.name);
    help(
        format!("take one of {both} out of the names and \"aliases\" of field {name}"),
        format!("do not write both {both}: readers take either for their field {name}"),
    )
}
