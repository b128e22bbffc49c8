//! One pair of types in, what Java says of the two themselves out; what they are made of is
//! `gate.rs`'s.

use std::collections::HashSet;

use crate::avro::{Enum, Fixed, Kind, Name, Record, Schema};
use crate::compat::finding::Code;

/// Whether a primitive is read by a type: by itself or by promotion. Unions are another matter.
pub(super) fn reads(reader: &Kind, writer: &Kind) -> bool {
    use Kind::{Boolean, Bytes, Double, Float, Int, Long, Null, String};
    matches!(
        (reader, writer),
        (Null, Null)
            | (Boolean, Boolean)
            | (Int, Int)
            | (Long, Int | Long)
            | (Float, Int | Long | Float)
            | (Double, Int | Long | Float | Double)
            | (Bytes | String, Bytes | String)
    )
}

/// As Java prints a type.
pub(super) fn java_type(kind: &Kind) -> String {
    kind.type_name().to_ascii_uppercase()
}

/// A named type with the names it answers to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) name: &'a Name,
    pub(super) aliases: &'a [Name],
}

impl<'a> Named<'a> {
    pub(super) fn of(kind: &'a Kind) -> Option<Named<'a>> {
        match kind {
            Kind::Record(Record { name, aliases, .. })
            | Kind::Enum(Enum { name, aliases, .. })
            | Kind::Fixed(Fixed { name, aliases, .. }) => Some(Named { name, aliases }),
            _ => None,
        }
    }

    /// The reader's short name is the writer's, or an alias is the writer's full name. A namespace
    /// alone never breaks. An alias without namespace (`.Order`) of a type that has one is never
    /// found: Java keeps it with the dot and compares it with names that have none.
    pub(super) fn reads(self, writer: &Name) -> bool {
        let is_found =
            |alias: &&Name| !alias.namespace().is_empty() || self.name.namespace().is_empty();
        self.name.simple() == writer.simple()
            || self.aliases.iter().filter(is_found).any(|alias| alias.full() == writer.full())
    }
}

/// The writer's symbols that a reader without default does not have, as Java sorts them.
pub(super) fn missing_symbols<'a>(reader: &Enum, writer: &'a Enum) -> Vec<&'a str> {
    if reader.default.is_some() || reader.symbols == writer.symbols {
        return Vec::new();
    }
    unknown_symbols(reader, writer)
}

/// The writer's symbols that a reader does not have, default or not.
pub(super) fn unknown_symbols<'a>(reader: &Enum, writer: &'a Enum) -> Vec<&'a str> {
    let known: HashSet<&str> = reader.symbols.iter().map(String::as_str).collect();
    let symbols = writer.symbols.iter().map(String::as_str);
    let mut unknown: Vec<&str> = symbols.filter(|symbol| !known.contains(symbol)).collect();
    // A Java TreeSet orders by UTF-16 units.
    unknown.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    unknown
}

/// Java's message for a finding about two types.
pub(super) fn message(code: Code, reader: &Kind, writer: &Kind) -> String {
    match (code, reader, writer) {
        (Code::TypeMismatch, ..) => format!(
            "reader type: {} not compatible with writer type: {}",
            java_type(reader),
            java_type(writer)
        ),
        (Code::FixedSizeMismatch, Kind::Fixed(reader), Kind::Fixed(writer)) => {
            format!("expected: {}, found: {}", writer.size, reader.size)
        }
        (Code::MissingEnumSymbols, Kind::Enum(reader), Kind::Enum(writer)) => {
            format!("[{}]", missing_symbols(reader, writer).join(", "))
        }
        (Code::MissingUnionBranch, ..) => {
            format!("reader union lacking writer type: {}", java_type(writer))
        }
        _ => format!("expected: {}", writer.branch_name()),
    }
}

/// A type for people: its full name, or what it is made of, one level deep.
pub(super) fn described(schema: &Schema, kind: &Kind) -> String {
    let inner = |kind: &Kind| match kind {
        Kind::Array(_) => "array of ..".to_owned(),
        Kind::Map(_) => "map of ..".to_owned(),
        Kind::Union(_) => "[..]".to_owned(),
        other => other.branch_name().to_owned(),
    };
    match kind {
        Kind::Array(items) => format!("array of {}", inner(&schema.node(items.node).kind)),
        Kind::Map(values) => format!("map of {}", inner(&schema.node(values.node).kind)),
        Kind::Union(branches) => {
            const SHOWN: usize = 6;
            let shown = branches.iter().take(SHOWN);
            let mut names: Vec<String> =
                shown.map(|branch| inner(&schema.node(branch.node).kind)).collect();
            if branches.len() > SHOWN {
                names.push("..".to_owned());
            }
            format!("[{}]", names.join(", "))
        }
        Kind::Record(_) | Kind::Enum(_) | Kind::Fixed(_) => {
            format!("{} {}", kind.type_name(), kind.branch_name())
        }
        primitive => primitive.type_name().to_owned(),
    }
}
