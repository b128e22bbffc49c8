//! The default of a field in, the Avro bytes that stand for it out, or why it does not fit.
//!
//! Defaults are written in Avro's JSON encoding, not in the plain JSON of payloads: bytes are
//! Latin-1 text, logical types are their raw numbers, a union's default is of the first branch it
//! fits. A field that a record default leaves out takes its own default.

use std::collections::HashMap;

use crate::avro::{Field, Kind, NodeId, PlaceId, Schema, TypeRef};
use crate::json::{self, Cursor};
use crate::varint;

/// Longest encoded default. Nested defaults multiply, so a short text can stand for a huge one.
const BYTES_MAX: usize = 1 << 20;
/// Longest encoded defaults of one schema together.
const TOTAL_MAX: usize = 64 << 20;
/// Values looked at for one default. Branches of nested unions multiply in the same way.
const VALUES_MAX: usize = 200_000;
/// Records whose defaults contain each other have no end.
const DEPTH_MAX: usize = 128;

/// A default that does not fit the type of its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("default of field {field} of {record} does not fit its type: {reason}")]
pub struct DefaultFault {
    /// Full name of the record.
    pub record: String,
    /// The field.
    pub field: String,
    /// What does not fit.
    pub reason: String,
    /// Where the default is written.
    pub place: Option<PlaceId>,
}

pub(super) fn faults(schema: &Schema) -> Vec<DefaultFault> {
    let mut encoder = DefaultEncoder::new(schema, UnionDefault::AnyBranch);
    let mut faults = Vec::new();
    for (id, node) in schema.nodes() {
        let Kind::Record(record) = &node.kind else {
            continue;
        };
        for (at, field) in record.fields.iter().enumerate() {
            if let Some(DefaultBytes::Bad(reason)) = encoder.default_of(id, at) {
                faults.push(DefaultFault {
                    record: record.name.full().to_owned(),
                    field: field.name.clone(),
                    reason,
                    place: field.default_place,
                });
            }
        }
    }
    faults
}

/// A default as the encoder uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DefaultBytes {
    Good(Vec<u8>),
    Bad(String),
}

/// Which branch of a union a default is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnionDefault {
    /// The first that it fits, as the specification and Java's parser have it.
    AnyBranch,
    /// The first that Java's decoder takes it for: any record, enum, array or map, fit or not.
    AsJava,
}

/// Encodes the defaults of one schema, each once.
pub(crate) struct DefaultEncoder<'a> {
    schema: &'a Schema,
    unions: UnionDefault,
    done: HashMap<(NodeId, usize), DefaultBytes>,
    depth: usize,
    values: usize,
    /// Bytes of all defaults together.
    total: usize,
}

const TOO_LARGE: &str = "it is too large when its own defaults are filled in";

type Encoded = Result<(), String>;

impl<'a> DefaultEncoder<'a> {
    pub(crate) fn new(schema: &'a Schema, unions: UnionDefault) -> Self {
        DefaultEncoder { schema, unions, done: HashMap::new(), depth: 0, values: 0, total: 0 }
    }

    /// The default of a field of a record; None if it has none.
    pub(crate) fn default_of(&mut self, record: NodeId, at: usize) -> Option<DefaultBytes> {
        self.values = 0;
        self.field_default(record, at)
    }

    fn field_default(&mut self, id: NodeId, at: usize) -> Option<DefaultBytes> {
        let Kind::Record(record) = &self.schema.node(id).kind else {
            return None;
        };
        let field = record.fields.get(at)?;
        let text = field.default.as_deref()?;
        if let Some(done) = self.done.get(&(id, at)) {
            return Some(done.clone());
        }
        let mut out = Vec::new();
        let result = self.field(field, text, &mut out);
        let bytes = match result {
            Ok(()) if self.total + out.len() > TOTAL_MAX => DefaultBytes::Bad(TOO_LARGE.to_owned()),
            Ok(()) => {
                self.total += out.len();
                DefaultBytes::Good(out)
            }
            Err(reason) => DefaultBytes::Bad(reason),
        };
        self.done.insert((id, at), bytes.clone());
        Some(bytes)
    }

    fn field(&mut self, field: &Field, text: &str, out: &mut Vec<u8>) -> Encoded {
        let mut cursor = Cursor::of_schema(text);
        if let Some(number) = self.number_as_text(field, text) {
            match self.schema.node(field.schema.node).kind {
                Kind::Float => out.extend_from_slice(&(number as f32).to_le_bytes()),
                _ => out.extend_from_slice(&number.to_le_bytes()),
            }
            return Ok(());
        }
        self.value(field.schema.node, &mut cursor, out)
    }

    /// Java reads a string default of a float or double field as a number.
    fn number_as_text(&self, field: &Field, text: &str) -> Option<f64> {
        if !matches!(self.schema.node(field.schema.node).kind, Kind::Float | Kind::Double) {
            return None;
        }
        number_of_text(text.strip_prefix('"')?.strip_suffix('"')?)
    }

    fn value(&mut self, id: NodeId, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Encoded {
        self.values += 1;
        if self.values > VALUES_MAX || out.len() > BYTES_MAX {
            return Err(TOO_LARGE.to_owned());
        }
        if self.depth >= DEPTH_MAX {
            return Err("it is nested too deep when its own defaults are filled in".to_owned());
        }
        self.depth += 1;
        let result = self.value_within(id, cursor, out);
        self.depth -= 1;
        result
    }

    fn value_within(&mut self, id: NodeId, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Encoded {
        let schema = self.schema;
        let kind = &schema.node(id).kind;
        let found = cursor.kind().map_err(bad)?;
        match (kind, found) {
            (Kind::Union(branches), _) => {
                if self.unions == UnionDefault::AsJava {
                    return self.java_branch(branches, found, cursor, out);
                }
                let start = cursor.pos;
                let before = out.len();
                for (at, branch) in branches.iter().enumerate() {
                    cursor.pos = start;
                    varint::write_len(at, out);
                    if self.value(branch.node, cursor, out).is_ok() {
                        return Ok(());
                    }
                    out.truncate(before);
                }
                Err(format!("no branch of the union takes this {}", found.name()))
            }
            (Kind::Null, json::Kind::Null) => cursor.null().map_err(bad),
            (Kind::Boolean, json::Kind::Boolean) => {
                out.push(u8::from(cursor.boolean().map_err(bad)?));
                Ok(())
            }
            (Kind::Int | Kind::Long | Kind::Float | Kind::Double, json::Kind::Number) => {
                number(kind, cursor, out)
            }
            (Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Fixed(_), json::Kind::String) => {
                text(kind, cursor, out)
            }
            (Kind::Array(items), json::Kind::Array) => self.array(items.node, cursor, out),
            (Kind::Map(values), json::Kind::Object) => self.map(values.node, cursor, out),
            (Kind::Record(_), json::Kind::Object) => self.record(id, cursor, out),
            (kind, found) => Err(format!("{} is not a {}", found.name(), kind.type_name())),
        }
    }

    fn java_branch(
        &mut self,
        branches: &[TypeRef],
        found: json::Kind,
        cursor: &mut Cursor<'_>,
        out: &mut Vec<u8>,
    ) -> Encoded {
        use json::Kind::{Boolean, Null, Number, String};
        let takes = |branch: &TypeRef| match &self.schema.node(branch.node).kind {
            Kind::Null => found == Null,
            Kind::Boolean => found == Boolean,
            Kind::Int | Kind::Long | Kind::Float | Kind::Double => found == Number,
            Kind::String | Kind::Bytes | Kind::Fixed(_) => found == String,
            _ => true,
        };
        let Some((at, branch)) = branches.iter().enumerate().find(|(_, branch)| takes(branch))
        else {
            return Err(format!("no branch of the union takes this {}", found.name()));
        };
        varint::write_len(at, out);
        let name = self.schema.node(branch.node).kind.branch_name();
        self.value(branch.node, cursor, out)
            .map_err(|reason| format!("Java takes it for the union's branch {name}: {reason}"))
    }

    fn array(&mut self, items: NodeId, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Encoded {
        let (mut count, mut body) = (0usize, Vec::new());
        cursor.pos += 1;
        while !cursor.eat(b']') {
            if count > 0 {
                cursor.expect(b',', "expected , or ]").map_err(bad)?;
            }
            self.value(items, cursor, &mut body)?;
            count += 1;
        }
        write_block(count, &body, out);
        Ok(())
    }

    fn map(&mut self, values: NodeId, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Encoded {
        let (mut count, mut body) = (0usize, Vec::new());
        for (key, span) in members(cursor)? {
            varint::write_len(key.len(), &mut body);
            body.extend_from_slice(key.as_bytes());
            let mut inner = cursor.clone();
            inner.pos = span;
            self.value(values, &mut inner, &mut body)?;
            count += 1;
        }
        write_block(count, &body, out);
        Ok(())
    }

    fn record(&mut self, id: NodeId, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Encoded {
        let members = members(cursor)?;
        let schema = self.schema;
        let Kind::Record(record) = &schema.node(id).kind else {
            return Ok(());
        };
        for (at, field) in record.fields.iter().enumerate() {
            if let Some((_, start)) = members.iter().rev().find(|(key, _)| *key == field.name) {
                let mut inner = cursor.clone();
                inner.pos = *start;
                self.value(field.schema.node, &mut inner, out)?;
                continue;
            }
            match self.field_default(id, at) {
                Some(DefaultBytes::Good(bytes)) if out.len() + bytes.len() <= BYTES_MAX => {
                    out.extend_from_slice(&bytes);
                }
                Some(DefaultBytes::Good(_)) => {
                    return Err(TOO_LARGE.to_owned());
                }
                Some(DefaultBytes::Bad(reason)) => return Err(reason),
                None => {
                    return Err(format!("it has no {} and that has no default", field.name));
                }
            }
        }
        Ok(())
    }
}

/// A number as Java's `Double.parseDouble` takes it, but for hexadecimal ones.
pub(super) fn number_of_text(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c: char| c <= ' ');
    match text {
        "NaN" | "+NaN" | "-NaN" => return Some(f64::NAN),
        "Infinity" | "+Infinity" => return Some(f64::INFINITY),
        "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let digits = text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text);
    // Rust's parser knows words that Java's does not.
    if digits.contains(|c: char| c.is_alphabetic() && !matches!(c, 'e' | 'E')) {
        return None;
    }
    digits.parse().ok()
}

fn write_block(count: usize, body: &[u8], out: &mut Vec<u8>) {
    if count > 0 {
        varint::write_len(count, out);
        out.extend_from_slice(body);
    }
    out.push(0);
}

/// Keys of the object here and where their values start; of equal keys Java keeps the last.
fn members(cursor: &mut Cursor<'_>) -> Result<Vec<(String, usize)>, String> {
    let mut members: Vec<(String, usize)> = Vec::new();
    cursor.pos += 1;
    while !cursor.eat(b'}') {
        if !members.is_empty() {
            cursor.expect(b',', "expected , or }").map_err(bad)?;
        }
        let key = cursor.key().map_err(bad)?;
        let key = cursor.string_value(key);
        cursor.next_byte();
        members.push((key, cursor.pos));
        cursor.skip_value().map_err(bad)?;
    }
    Ok(members)
}

fn number(kind: &Kind, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Encoded {
    let number = cursor.number().map_err(bad)?;
    let text = cursor.span(number.start, number.end);
    match kind {
        Kind::Int => {
            let value: i32 = text.parse().map_err(|_| format!("{text} is not an int"))?;
            varint::write(value.into(), out);
        }
        Kind::Long => {
            let value: i64 = text.parse().map_err(|_| format!("{text} is not a long"))?;
            varint::write(value, out);
        }
        _ => {
            // Java goes through a double for a float too.
            let value: f64 = text.parse().map_err(|_| format!("{text} is not a number"))?;
            let narrow = value as f32;
            let in_range = if matches!(kind, Kind::Float) {
                out.extend_from_slice(&narrow.to_le_bytes());
                narrow.is_finite()
            } else {
                out.extend_from_slice(&value.to_le_bytes());
                value.is_finite()
            };
            if !in_range {
                return Err(format!("{text} is out of range"));
            }
        }
    }
    Ok(())
}

fn text(kind: &Kind, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Encoded {
    let quoted = cursor.string().map_err(bad)?;
    let value = cursor.string_value(quoted);
    match kind {
        Kind::Enum(one) => match one.symbols.iter().position(|symbol| *symbol == value) {
            Some(at) => varint::write_len(at, out),
            None => return Err(format!("{value:?} is not a symbol of {}", one.name.full())),
        },
        Kind::String => {
            varint::write_len(value.len(), out);
            out.extend_from_slice(value.as_bytes());
        }
        _ => {
            let latin1: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
            let bytes = latin1.ok_or("a character is above \\u00ff")?;
            match kind {
                Kind::Fixed(fixed) if fixed.size != bytes.len() => {
                    return Err(format!("it has {} bytes, not {}", bytes.len(), fixed.size));
                }
                Kind::Fixed(_) => {}
                _ => varint::write_len(bytes.len(), out),
            }
            out.extend_from_slice(&bytes);
        }
    }
    Ok(())
}

fn bad(fault: json::Fault) -> String {
    fault.to_string()
}
