//! A schema in, its Parsing Canonical Form and CRC-64-AVRO out.

use std::collections::HashSet;

use crate::avro::{Kind, Name, NodeId, Schema};

enum Piece<'a> {
    Text(&'a str),
    Number(usize),
    Type(NodeId),
}

/// Works off a stack of pieces instead of recursing: a chain of named types may be far longer than
/// the text is deep.
pub(super) fn canonical_form(schema: &Schema) -> String {
    let mut out = String::new();
    let mut written: HashSet<&str> = HashSet::new();
    let mut todo = vec![Piece::Type(schema.root().node)];
    while let Some(piece) = todo.pop() {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Number(number) => out.push_str(&number.to_string()),
            Piece::Type(id) => {
                let kind = &schema.node(id).kind;
                let from = todo.len();
                match kind.name() {
                    Some(name) if !written.insert(name.full()) => {
                        todo.extend([Piece::Text("\""), Piece::Text(name.full())]);
                        todo.push(Piece::Text("\""));
                    }
                    _ => expand(kind, &mut todo),
                }
                if let Some(added) = todo.get_mut(from..) {
                    added.reverse();
                }
            }
        }
    }
    out
}

fn expand<'a>(kind: &'a Kind, todo: &mut Vec<Piece<'a>>) {
    match kind {
        Kind::Record(record) => {
            open_named(&record.name, "\",\"type\":\"record\",\"fields\":[", todo);
            for (at, field) in record.fields.iter().enumerate() {
                todo.push(Piece::Text(if at == 0 { "{\"name\":\"" } else { ",{\"name\":\"" }));
                todo.push(Piece::Text(&field.name));
                todo.push(Piece::Text("\",\"type\":"));
                todo.push(Piece::Type(field.schema.node));
                todo.push(Piece::Text("}"));
            }
            todo.push(Piece::Text("]}"));
        }
        Kind::Enum(one) => {
            open_named(&one.name, "\",\"type\":\"enum\",\"symbols\":[", todo);
            for (at, symbol) in one.symbols.iter().enumerate() {
                todo.push(Piece::Text(if at == 0 { "\"" } else { ",\"" }));
                todo.push(Piece::Text(symbol));
                todo.push(Piece::Text("\""));
            }
            todo.push(Piece::Text("]}"));
        }
        Kind::Fixed(fixed) => {
            open_named(&fixed.name, "\",\"type\":\"fixed\",\"size\":", todo);
            todo.push(Piece::Number(fixed.size));
            todo.push(Piece::Text("}"));
        }
        Kind::Array(items) => {
            todo.push(Piece::Text("{\"type\":\"array\",\"items\":"));
            todo.extend([Piece::Type(items.node), Piece::Text("}")]);
        }
        Kind::Map(values) => {
            todo.push(Piece::Text("{\"type\":\"map\",\"values\":"));
            todo.extend([Piece::Type(values.node), Piece::Text("}")]);
        }
        Kind::Union(branches) => {
            for (at, branch) in branches.iter().enumerate() {
                todo.push(Piece::Text(if at == 0 { "[" } else { "," }));
                todo.push(Piece::Type(branch.node));
            }
            todo.push(Piece::Text(if branches.is_empty() { "[]" } else { "]" }));
        }
        primitive => {
            todo.extend([Piece::Text("\""), Piece::Text(primitive.type_name()), Piece::Text("\"")]);
        }
    }
}

fn open_named<'a>(name: &'a Name, rest: &'a str, todo: &mut Vec<Piece<'a>>) {
    todo.extend([Piece::Text("{\"name\":\""), Piece::Text(name.full()), Piece::Text(rest)]);
}

const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

const TABLE: [u64; 256] = table();

#[expect(clippy::indexing_slicing, reason = "const fn over its own array")]
const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u64;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ (EMPTY & (value & 1).wrapping_neg());
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
}

/// CRC-64-AVRO, which the specification calls the 64-bit Rabin fingerprint.
pub(super) fn rabin(bytes: &[u8]) -> u64 {
    bytes.iter().fold(EMPTY, |hash, byte| {
        let entry = TABLE.get(((hash ^ u64::from(*byte)) & 0xFF) as usize);
        (hash >> 8) ^ entry.copied().unwrap_or_default()
    })
}
