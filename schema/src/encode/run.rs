//! The walk over the text: containers here, records, unions and scalars in their own files.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};

use crate::encode::error::{EncodeError, EncodeErrorKind, EncodeErrors};
use crate::encode::options::UnknownFields;
use crate::encode::path::Path;
use crate::encode::plan::{Plan, Shape};
use crate::encode::union::Decision;
use crate::json::{Cursor, Fault, Kind, Quoted};
use crate::varint;

/// Buffers that outlive one payload.
#[derive(Default)]
pub(super) struct Scratch {
    /// Where the fields of the open records stand in the output; `usize::MAX` is absent.
    pub(super) slots: Vec<(usize, usize)>,
    /// Strings with escapes, and records being put in order.
    pub(super) bytes: Vec<u8>,
    /// Where the keys of the open maps stand in the output.
    pub(super) keys: Vec<(usize, usize)>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// What a thread keeps between payloads; a buffer grown beyond by one giant is given back.
const SCRATCH_BYTES_KEPT: usize = 1 << 20;

/// Keys of a map up to which a new key is compared with each.
const KEYS_COMPARED_MAX: usize = 16;

/// One payload on its way. Errors of the payload are reported and the walk goes on behind them;
/// only text that is not JSON ends it.
pub(super) struct Encoder<'p, 't> {
    pub(super) plan: &'p Plan,
    pub(super) cursor: Cursor<'t>,
    pub(super) out: &'p mut Vec<u8>,
    pub(super) scratch: Box<Scratch>,
    pub(super) errors: Vec<EncodeError>,
    /// Errors met, kept or not.
    pub(super) error_count: usize,
    /// Above zero while a reading is only tried: errors are counted, not written down.
    pub(super) trials: u32,
    /// While a union looks for the branch of a string: an enum is not that branch by its default.
    pub(super) strict_symbols: bool,
    /// Unions decided while an outer one is being decided, by place and node: without this, unions
    /// inside unions would be read twice as often at each level.
    pub(super) decided: BTreeMap<(usize, u32), Decision>,
    pub(super) deciding: u32,
    depth: usize,
}

pub(super) type Read = Result<(), Fault>;

impl<'p, 't> Encoder<'p, 't> {
    pub(super) fn new(plan: &'p Plan, cursor: Cursor<'t>, out: &'p mut Vec<u8>) -> Self {
        Encoder {
            plan,
            cursor,
            out,
            scratch: SCRATCH.take().unwrap_or_default(),
            errors: Vec::new(),
            error_count: 0,
            trials: 0,
            strict_symbols: false,
            decided: BTreeMap::new(),
            deciding: 0,
            depth: 0,
        }
    }

    pub(super) fn finish(mut self, read: Read) -> Result<(), EncodeErrors> {
        let scratch = &mut self.scratch;
        scratch.slots.clear();
        scratch.bytes.clear();
        scratch.keys.clear();
        if scratch.bytes.capacity() + 16 * scratch.slots.capacity() <= SCRATCH_BYTES_KEPT {
            SCRATCH.set(Some(self.scratch));
        }
        match read {
            Ok(()) if self.error_count == 0 => Ok(()),
            Ok(()) => Err(EncodeErrors::new(self.errors, self.error_count)),
            // The other errors are of a text that the sender did not mean.
            Err(fault) => Err(EncodeErrors::new(vec![EncodeError::not_json(fault)], 1)),
        }
    }

    /// Reads one value as one of the plan's types.
    #[inline]
    pub(super) fn value(&mut self, id: u32, path: &Path<'_>) -> Read {
        let plan = self.plan;
        let node = plan.node(id);
        let kind = self.cursor.kind()?;
        match (&node.shape, kind) {
            (Shape::String, Kind::String) => self.string(),
            (Shape::Union(union), kind) => self.union(id, union, kind, path),
            (Shape::Record(record), Kind::Object) => {
                self.nested(node, path, |encoder| encoder.record(record, path))
            }
            (Shape::Array(items), Kind::Array) => {
                self.nested(node, path, |encoder| encoder.array(*items, path))
            }
            (Shape::Map(values), Kind::Object) => {
                self.nested(node, path, |encoder| encoder.map(*values, path))
            }
            (Shape::Null, Kind::Null) => self.cursor.null(),
            (Shape::Boolean, Kind::Boolean) => {
                let value = self.cursor.boolean()?;
                self.out.push(u8::from(value));
                Ok(())
            }
            (_, Kind::Number) => self.number(node, path),
            (_, Kind::String) => self.text(node, path),
            (Shape::Duration, Kind::Object) => {
                self.nested(node, path, |encoder| encoder.duration_object(node, path))
            }
            _ => self.mismatch(node, kind, path),
        }
    }

    /// Goes one level down, unless that is too deep: then the value is skipped, which needs no
    /// stack.
    pub(super) fn nested(
        &mut self,
        node: &crate::encode::plan::PlanNode,
        path: &Path<'_>,
        read: impl FnOnce(&mut Self) -> Read,
    ) -> Read {
        let limit = self.plan.options.depth_max;
        if self.depth >= limit {
            let kind = self.cursor.kind()?;
            let start = self.cursor.pos;
            self.cursor.skip_value()?;
            let hint = format!("a payload may have {limit} levels");
            return self.report(
                EncodeErrorKind::DepthExceeded,
                path,
                node,
                kind,
                start,
                Some(hint),
            );
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn array(&mut self, items: u32, path: &Path<'_>) -> Read {
        self.cursor.pos += 1;
        let start = self.open_block();
        let mut count = 0;
        while !self.cursor.eat(b']') {
            if count > 0 {
                self.cursor.expect(b',', "expected , or ]")?;
            }
            self.value(items, &path.item(count))?;
            count += 1;
        }
        self.close_block(start, count);
        Ok(())
    }

    fn map(&mut self, values: u32, path: &Path<'_>) -> Read {
        self.cursor.pos += 1;
        let start = self.open_block();
        let base = self.scratch.keys.len();
        let mut known: HashSet<Box<[u8]>> = HashSet::new();
        let mut count = 0;
        while !self.cursor.eat(b'}') {
            if count > 0 {
                self.cursor.expect(b',', "expected , or }")?;
            }
            let key = self.cursor.key()?;
            let written = self.write_quoted(key);
            if self.is_new_key(base, &mut known, written) {
                self.value(values, &path.key(key))?;
            } else {
                self.duplicate_key(key, path)?;
            }
            count += 1;
        }
        self.scratch.keys.truncate(base);
        self.close_block(start, count);
        Ok(())
    }

    /// Remembers a key that has just been written, by its span in the output.
    fn is_new_key(
        &mut self,
        base: usize,
        known: &mut HashSet<Box<[u8]>>,
        written: (usize, usize),
    ) -> bool {
        let bytes = |span: (usize, usize)| self.out.get(span.0..span.1).unwrap_or_default();
        let new = bytes(written);
        let keys = self.scratch.keys.get(base..).unwrap_or_default();
        let is_new = if keys.len() < KEYS_COMPARED_MAX {
            !keys.iter().any(|key| bytes(*key) == new)
        } else {
            if known.is_empty() {
                known.extend(keys.iter().map(|key| bytes(*key).into()));
            }
            known.insert(new.into())
        };
        if keys.len() < KEYS_COMPARED_MAX {
            self.scratch.keys.push(written);
        }
        is_new
    }

    pub(super) fn duplicate_key(&mut self, key: Quoted, path: &Path<'_>) -> Read {
        let kind = self.cursor.kind()?;
        let start = self.cursor.pos;
        self.cursor.skip_value()?;
        let path = path.key(key);
        let expected = "each key once".to_owned();
        self.report_as(EncodeErrorKind::DuplicateKey, &path, expected, kind.name(), start, None);
        Ok(())
    }

    /// Makes room for the count of a block: one byte, which is enough for 63 items.
    fn open_block(&mut self) -> usize {
        let start = self.out.len();
        self.out.push(0);
        start
    }

    fn close_block(&mut self, start: usize, count: usize) {
        if count == 0 {
            // The byte kept for the count ends the empty block.
            return;
        }
        let mut prefix = Vec::new();
        if count < 64 {
            if let Some(byte) = self.out.get_mut(start) {
                *byte = (count as u8) << 1;
            }
        } else {
            varint::write_len(count, &mut prefix);
            self.out.splice(start..=start, prefix);
        }
        self.out.push(0);
    }

    /// Writes a string with its length; gives the span of its bytes in the output.
    #[inline]
    pub(super) fn write_quoted(&mut self, quoted: Quoted) -> (usize, usize) {
        if !quoted.escaped {
            varint::write_len(quoted.end - quoted.start, self.out);
            let start = self.out.len();
            self.out.extend_from_slice(self.cursor.bytes(quoted.start, quoted.end));
            return (start, self.out.len());
        }
        let base = self.scratch.bytes.len();
        self.cursor.unescape(quoted, &mut self.scratch.bytes);
        let value = self.scratch.bytes.get(base..).unwrap_or_default();
        varint::write_len(value.len(), self.out);
        let start = self.out.len();
        self.out.extend_from_slice(value);
        self.scratch.bytes.truncate(base);
        (start, self.out.len())
    }

    #[inline]
    fn string(&mut self) -> Read {
        let quoted = self.cursor.string()?;
        self.write_quoted(quoted);
        Ok(())
    }

    pub(super) fn ignores_unknown(&self) -> bool {
        self.plan.options.unknown_fields == UnknownFields::Ignore
    }
}
