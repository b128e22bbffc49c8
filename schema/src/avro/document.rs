//! Schema text in, a JSON tree that knows where each value stands out.
//!
//! Built without recursion, as deep as [`DEPTH_MAX`]. As Jackson reads it for Java Avro: comments
//! are skipped, and of equal keys the last one counts.

use crate::avro::error::{SchemaError, SchemaFault};
use crate::avro::{Place, SCHEMA_BYTES_MAX};
use crate::json::{Cursor, Kind};

/// Jackson's limit, which Java's parser has too.
const DEPTH_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JsonId(u32);

#[derive(Debug)]
pub(crate) enum Json {
    Null,
    Boolean,
    /// The text of the number, by its span.
    Number,
    String(String),
    Array(Vec<JsonId>),
    Object(Vec<(String, JsonId)>),
}

impl Json {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Json::Null => Kind::Null,
            Json::Boolean => Kind::Boolean,
            Json::Number => Kind::Number,
            Json::String(_) => Kind::String,
            Json::Array(_) => Kind::Array,
            Json::Object(_) => Kind::Object,
        }
    }
}

#[derive(Debug)]
struct Spanned {
    value: Json,
    start: usize,
    end: usize,
}

#[derive(Debug)]
pub(crate) struct Document<'a> {
    text: &'a str,
    values: Vec<Spanned>,
    line_starts: Vec<usize>,
    /// Characters before every [`MARK_BYTES`]th byte: a column in a text of one long line is then
    /// found without counting the line.
    marks: Vec<usize>,
    root: JsonId,
}

const MARK_BYTES: usize = 256;

static NULL: Json = Json::Null;

impl<'a> Document<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, SchemaError> {
        let line_starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1))
            .collect();
        let root = JsonId(0);
        let marks = text.as_bytes().chunks(MARK_BYTES).scan(0, |chars, chunk| {
            let before = *chars;
            *chars += characters(chunk);
            Some(before)
        });
        let marks = marks.collect();
        let mut document = Document { text, values: Vec::new(), line_starts, marks, root };
        if text.len() > SCHEMA_BYTES_MAX {
            let fault = SchemaFault::TooLarge { bytes: text.len() };
            return Err(SchemaError::new(fault, document.place_at(0, "")));
        }
        document.root = Builder { cursor: Cursor::of_schema(text), document: &mut document }
            .build()
            .map_err(|(fault, offset)| SchemaError::new(fault, document.place_at(offset, "")))?;
        Ok(document)
    }

    pub(crate) fn root(&self) -> JsonId {
        self.root
    }

    pub(crate) fn get(&self, id: JsonId) -> &Json {
        self.values.get(id.0 as usize).map_or(&NULL, |spanned| &spanned.value)
    }

    /// The source text of a value, comments and all.
    pub(crate) fn raw(&self, id: JsonId) -> &'a str {
        let spanned = self.values.get(id.0 as usize);
        spanned.and_then(|s| self.text.get(s.start..s.end)).unwrap_or_default()
    }

    pub(crate) fn member(&self, id: JsonId, key: &str) -> Option<JsonId> {
        let Json::Object(members) = self.get(id) else {
            return None;
        };
        members.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    pub(crate) fn str(&self, id: JsonId) -> Option<&str> {
        match self.get(id) {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn place(&self, id: JsonId, pointer: &str) -> Place {
        let start = self.values.get(id.0 as usize).map_or(0, |spanned| spanned.start);
        self.place_at(start, pointer)
    }

    fn place_at(&self, offset: usize, pointer: &str) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|at| self.line_starts.get(at)).copied();
        let column = self.characters_before(offset) - self.characters_before(start.unwrap_or(0));
        Place {
            document: 0,
            pointer: pointer.into(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
        }
    }

    fn characters_before(&self, offset: usize) -> usize {
        let mark = offset / MARK_BYTES;
        let rest = self.text.as_bytes().get(mark * MARK_BYTES..offset).unwrap_or_default();
        self.marks.get(mark).map_or(0, |before| before + characters(rest))
    }

    /// The value without comments and white space, numbers digit for digit.
    pub(crate) fn compact(&self, id: JsonId) -> String {
        let mut out = String::new();
        self.write_compact(id, &mut out);
        out
    }

    // As deep as the document, whose depth is bounded.
    fn write_compact(&self, id: JsonId, out: &mut String) {
        match self.get(id) {
            Json::Null | Json::Boolean | Json::Number => out.push_str(self.raw(id)),
            Json::String(text) => crate::json::write_string(text, out),
            Json::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    self.write_compact(*item, out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    crate::json::write_string(key, out);
                    out.push(':');
                    self.write_compact(*value, out);
                }
                out.push('}');
            }
        }
    }
}

/// Characters that begin in these bytes of UTF-8.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

struct Builder<'a, 'd> {
    cursor: Cursor<'a>,
    document: &'d mut Document<'a>,
}

/// An array or object whose end is not read yet.
struct Open {
    start: usize,
    /// The key of the member being read.
    key: String,
    items: Items,
}

enum Items {
    Array(Vec<JsonId>),
    Object(Vec<(String, JsonId)>),
}

type Failure = (SchemaFault, usize);

impl Builder<'_, '_> {
    fn build(mut self) -> Result<JsonId, Failure> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let mut ended = match self.value(&mut open)? {
                Some(value) => value,
                None => continue,
            };
            loop {
                let Some(inner) = open.last_mut() else {
                    return self.end().map(|()| ended);
                };
                if self.add(inner, ended)? {
                    break;
                }
                ended = match open.pop() {
                    Some(closed) => self.close(closed)?,
                    None => ended,
                };
            }
        }
    }

    /// Comments may stand in a schema, but not behind it.
    fn end(&self) -> Result<(), Failure> {
        let at = self.cursor.pos;
        let rest = self.document.text.get(at..).unwrap_or_default();
        let more = rest.trim_start_matches(|c: char| c <= ' ');
        match more.is_empty() {
            true => Ok(()),
            false => {
                let fault = SchemaFault::NotJson { what: "text behind the schema" };
                Err((fault, at + rest.len() - more.len()))
            }
        }
    }

    /// Reads a scalar or an empty container whole; opens any other container.
    fn value(&mut self, open: &mut Vec<Open>) -> Result<Option<JsonId>, Failure> {
        let kind = self.cursor.kind().map_err(not_json)?;
        let start = self.cursor.pos;
        let value = match kind {
            Kind::Null => {
                self.cursor.null().map_err(not_json)?;
                Json::Null
            }
            Kind::Boolean => {
                self.cursor.boolean().map_err(not_json)?;
                Json::Boolean
            }
            Kind::Number => {
                self.cursor.number().map_err(not_json)?;
                Json::Number
            }
            Kind::String => {
                let quoted = self.cursor.string().map_err(not_json)?;
                Json::String(self.cursor.string_value(quoted))
            }
            Kind::Array => {
                self.cursor.pos += 1;
                if !self.cursor.eat(b']') {
                    return self.open(open, start, Items::Array(Vec::new())).map(|()| None);
                }
                Json::Array(Vec::new())
            }
            Kind::Object => {
                self.cursor.pos += 1;
                if !self.cursor.eat(b'}') {
                    return self.open(open, start, Items::Object(Vec::new())).map(|()| None);
                }
                Json::Object(Vec::new())
            }
        };
        self.push(value, start).map(Some)
    }

    fn open(&mut self, open: &mut Vec<Open>, start: usize, items: Items) -> Result<(), Failure> {
        if open.len() >= DEPTH_MAX {
            return Err((SchemaFault::TooDeep { limit: DEPTH_MAX }, start));
        }
        let key = match items {
            Items::Array(_) => String::new(),
            Items::Object(_) => self.key()?,
        };
        open.push(Open { start, key, items });
        Ok(())
    }

    fn key(&mut self) -> Result<String, Failure> {
        let quoted = self.cursor.key().map_err(not_json)?;
        Ok(self.cursor.string_value(quoted))
    }

    /// Puts a value into its container; true if another one follows.
    fn add(&mut self, open: &mut Open, value: JsonId) -> Result<bool, Failure> {
        let more = self.cursor.eat(b',');
        match &mut open.items {
            Items::Array(items) => {
                items.push(value);
                if !more {
                    self.cursor.expect(b']', "expected , or ]").map_err(not_json)?;
                }
            }
            Items::Object(members) => {
                members.push((std::mem::take(&mut open.key), value));
                if more {
                    open.key = self.key()?;
                } else {
                    self.cursor.expect(b'}', "expected , or }").map_err(not_json)?;
                }
            }
        }
        Ok(more)
    }

    fn close(&mut self, open: Open) -> Result<JsonId, Failure> {
        let value = match open.items {
            Items::Array(items) => Json::Array(items),
            Items::Object(members) => Json::Object(members),
        };
        self.push(value, open.start)
    }

    fn push(&mut self, value: Json, start: usize) -> Result<JsonId, Failure> {
        // A value takes at least one byte of a text of bounded length, so the number fits.
        let id = JsonId(u32::try_from(self.document.values.len()).unwrap_or(u32::MAX));
        self.document.values.push(Spanned { value, start, end: self.cursor.pos });
        Ok(id)
    }
}

fn not_json(fault: crate::json::Fault) -> Failure {
    (SchemaFault::NotJson { what: fault.what }, fault.offset)
}
