//! Avro bytes in, plain JSON text out: the form that [`Plan::encode`] takes and makes the same
//! bytes of.
//!
//! Decimals are strings, bytes are text as [`EncodeOptions::bytes`] says, times are ISO 8601 with
//! the unit's digits, a duration is `P1M2DT3.004S`, floats are the shortest text that reads back. A
//! union is untagged unless the untagged text would be read as another branch. What plain JSON has
//! no form for does not come back: NaN and infinities are strings, which only
//! [`EncodeOptions::special_floats`] takes; a string with a NUL; dates beyond the year 9999 are
//! numbers.
//!
//! Bytes may come from anyone: lengths are compared with what is left, levels and values that take
//! no bytes are bounded, and nothing panics.
//!
//! [`EncodeOptions::bytes`]: crate::encode::EncodeOptions::bytes
//! [`EncodeOptions::special_floats`]: crate::encode::EncodeOptions::special_floats

use std::fmt::Write as _;

use crate::encode::{BytesText, DEPTH_MAX, Plan, Shape, UnionPlan};
use crate::json::write_string;
use crate::value::{binary, clock, number};
use crate::varint;

/// Values that take no bytes, such as the nulls of an array of nulls, that one body may hold. A
/// count of them costs the sender ten bytes and the receiver as much memory as it says.
const EMPTY_VALUES_MAX: usize = 1 << 20;

/// Why bytes are not the Avro form of a value, and the byte where that shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's text says what it is")]
pub enum DecodeError {
    #[error("avro body ends early at byte {offset}")]
    EndsEarly { offset: usize },
    #[error("avro body has {len} bytes left over at byte {offset}")]
    TrailingBytes { offset: usize, len: usize },
    #[error("number at byte {offset} is longer than 64 bits")]
    BadNumber { offset: usize },
    #[error("int at byte {offset} is out of range")]
    IntOutOfRange { offset: usize },
    #[error("length at byte {offset} is negative or more than what is left")]
    BadLength { offset: usize },
    #[error("boolean at byte {offset} is neither 0 nor 1")]
    BadBoolean { offset: usize },
    #[error("string at byte {offset} is not UTF-8")]
    BadUtf8 { offset: usize },
    #[error("union at byte {offset} has no branch of that number")]
    BadBranch { offset: usize },
    #[error("enum at byte {offset} has no symbol of that number")]
    BadSymbol { offset: usize },
    #[error("decimal at byte {offset} is empty or has more digits than its precision")]
    BadDecimal { offset: usize },
    #[error("avro body is nested deeper than {DEPTH_MAX} levels at byte {offset}")]
    TooDeep { offset: usize },
    #[error("avro body has more than {EMPTY_VALUES_MAX} values without bytes at byte {offset}")]
    TooManyEmptyValues { offset: usize },
}

impl Plan {
    /// Appends the JSON text of one Avro body to `out`. On error `out` is as it was.
    pub fn decode(&self, avro: &[u8], out: &mut String) -> Result<(), DecodeError> {
        let start = out.len();
        let result = Decoder::new(self, avro, Some(out)).run();
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Reads one Avro body to its last byte and keeps nothing.
    pub fn validate(&self, avro: &[u8]) -> Result<(), DecodeError> {
        Decoder::new(self, avro, None).run()
    }
}

struct Decoder<'p, 'a> {
    plan: &'p Plan,
    input: &'a [u8],
    pos: usize,
    out: Option<&'p mut String>,
    depth: usize,
    empty_values: usize,
}

type Decoded<T = ()> = Result<T, DecodeError>;

impl<'p, 'a> Decoder<'p, 'a> {
    fn new(plan: &'p Plan, input: &'a [u8], out: Option<&'p mut String>) -> Self {
        Decoder { plan, input, pos: 0, out, depth: 0, empty_values: 0 }
    }

    fn run(mut self) -> Decoded {
        self.value(self.plan.root)?;
        match self.input.len() - self.pos {
            0 => Ok(()),
            len => Err(DecodeError::TrailingBytes { offset: self.pos, len }),
        }
    }

    fn value(&mut self, id: u32) -> Decoded {
        let offset = self.pos;
        match &self.plan.node(id).shape {
            Shape::Array(items) => self.nested(|decoder| decoder.array(*items)),
            Shape::Map(values) => self.nested(|decoder| decoder.map(*values)),
            Shape::Record(record) => self.nested(|decoder| {
                decoder.put("{");
                for (at, field) in record.fields.iter().enumerate() {
                    decoder.put(if at == 0 { "\"" } else { ",\"" });
                    decoder.put(&field.name);
                    decoder.put("\":");
                    decoder.value(field.node)?;
                }
                decoder.put("}");
                Ok(())
            }),
            // No level of its own: what a union holds is no union.
            Shape::Union(union) => self.union(id, union),
            shape => self.scalar(shape),
        }?;
        if self.pos == offset {
            self.empty_values += 1;
            if self.empty_values > EMPTY_VALUES_MAX {
                return Err(DecodeError::TooManyEmptyValues { offset });
            }
        }
        Ok(())
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Decoded) -> Decoded {
        if self.depth >= DEPTH_MAX {
            return Err(DecodeError::TooDeep { offset: self.pos });
        }
        self.depth += 1;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn scalar(&mut self, shape: &Shape) -> Decoded {
        match shape {
            Shape::Null => self.put("null"),
            Shape::Boolean => {
                let offset = self.pos;
                match self.take(1)? {
                    [0] => self.put("false"),
                    [1] => self.put("true"),
                    _ => return Err(DecodeError::BadBoolean { offset }),
                }
            }
            Shape::Int => {
                let value = self.int()?;
                self.put_number(value);
            }
            Shape::Long => {
                let value = self.long()?;
                self.put_number(value);
            }
            Shape::Float => {
                let value = f32::from_le_bytes(self.array_of()?);
                self.put_float(value.is_finite(), value, value.is_nan(), value > 0.0);
            }
            Shape::Double => {
                let value = f64::from_le_bytes(self.array_of()?);
                self.put_float(value.is_finite(), value, value.is_nan(), value > 0.0);
            }
            Shape::String | Shape::UuidText => {
                let text = self.text()?;
                self.write(|out| write_string(text, out));
            }
            Shape::Bytes => {
                let len = self.len()?;
                let bytes = self.take(len)?;
                self.put_bytes(bytes);
            }
            Shape::Fixed(size) => {
                let bytes = self.take(*size)?;
                self.put_bytes(bytes);
            }
            Shape::Enum(one) => {
                let offset = self.pos;
                let at = usize::try_from(self.int()?).ok();
                let symbol = at.and_then(|at| one.symbols.get(at));
                let symbol = symbol.ok_or(DecodeError::BadSymbol { offset })?;
                self.write(|out| write_string(symbol, out));
            }
            logical => return self.logical(logical),
        }
        Ok(())
    }

    fn logical(&mut self, shape: &Shape) -> Decoded {
        match shape {
            Shape::Decimal { precision, scale, size } => self.decimal(*precision, *scale, *size)?,
            Shape::UuidBytes => {
                let bytes = self.take(16)?;
                self.quoted(|out| binary::write_uuid(bytes, out));
            }
            Shape::Date => {
                let days = self.int()?;
                self.time_or_number(days, |out| clock::write_date(days, out), "");
            }
            Shape::Time(unit) => {
                let units = match unit {
                    crate::avro::TimeUnit::Millis => self.int()?,
                    _ => self.long()?,
                };
                self.time_or_number(units, |out| clock::write_time(units, *unit, out), "");
            }
            Shape::Timestamp(unit) => {
                let units = self.long()?;
                self.time_or_number(units, |out| clock::write_timestamp(units, *unit, out), "Z");
            }
            Shape::LocalTimestamp(unit) => {
                let units = self.long()?;
                self.time_or_number(units, |out| clock::write_timestamp(units, *unit, out), "");
            }
            Shape::Duration => {
                let mut parts = [0; 3];
                for part in &mut parts {
                    *part = u32::from_le_bytes(self.array_of()?);
                }
                self.quoted(|out| clock::write_duration(parts, out));
            }
            // Every other shape has an arm in `value` or `scalar`.
            _ => {}
        }
        Ok(())
    }

    fn decimal(&mut self, precision: u32, scale: u32, size: Option<usize>) -> Decoded {
        let offset = self.pos;
        let len = match size {
            Some(size) => size,
            None => self.len()?,
        };
        let bytes = self.take(len)?;
        // A digit takes 3.33 bits; the sign takes one.
        let bytes_max = (u64::from(precision) * 3_322) / 8_000 + 2;
        let too_long = number::shortest(bytes).len() as u64 > bytes_max;
        if bytes.is_empty() || too_long {
            return Err(DecodeError::BadDecimal { offset });
        }
        self.quoted(|out| number::write_decimal(bytes, scale, out));
        Ok(())
    }

    fn array(&mut self, items: u32) -> Decoded {
        self.put("[");
        let mut first = true;
        self.blocks(|decoder| {
            decoder.put(if std::mem::take(&mut first) { "" } else { "," });
            decoder.value(items)
        })?;
        self.put("]");
        Ok(())
    }

    fn map(&mut self, values: u32) -> Decoded {
        self.put("{");
        let mut first = true;
        self.blocks(|decoder| {
            decoder.put(if std::mem::take(&mut first) { "" } else { "," });
            let key = decoder.text()?;
            decoder.write(|out| write_string(key, out));
            decoder.put(":");
            decoder.value(values)
        })?;
        self.put("}");
        Ok(())
    }

    /// Blocks of items up to the empty one. A negative count has the block's size behind it.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Decoded) -> Decoded {
        loop {
            let offset = self.pos;
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                count = count.checked_neg().ok_or(DecodeError::BadLength { offset })?;
                let size_at = self.pos;
                let size = usize::try_from(self.long()?).ok();
                let left = self.input.len() - self.pos;
                let size = size.filter(|size| *size <= left);
                let size = size.ok_or(DecodeError::BadLength { offset: size_at })?;
                let end = self.pos + size;
                for _ in 0..count {
                    item(self)?;
                }
                if self.pos != end {
                    return Err(DecodeError::BadLength { offset: size_at });
                }
                continue;
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    fn union(&mut self, id: u32, union: &'p UnionPlan) -> Decoded {
        let offset = self.pos;
        let at = usize::try_from(self.long()?).ok().filter(|at| *at < union.branches.len());
        let at = at.ok_or(DecodeError::BadBranch { offset })?;
        let start = self.out.as_ref().map_or(0, |out| out.len());
        self.value(union.branch(at))?;
        let plan = self.plan;
        self.write(|out| {
            let text = out.get(start..).unwrap_or_default();
            if reads_as(plan, id, union, text) == Some(at) {
                return;
            }
            let mut tag = "{".to_owned();
            write_string(union.tags.get(at).map_or("", |tag| tag), &mut tag);
            tag.push(':');
            out.insert_str(start, &tag);
            out.push('}');
        });
        Ok(())
    }

    fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let rest = self.input.get(self.pos..).unwrap_or_default();
        let taken = rest.get(..len).ok_or(DecodeError::EndsEarly { offset: self.input.len() })?;
        self.pos += len;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let offset = self.pos;
        self.take(N)?.try_into().map_err(|_| DecodeError::EndsEarly { offset })
    }

    fn long(&mut self) -> Decoded<i64> {
        let rest = self.input.get(self.pos..).unwrap_or_default();
        match varint::read(rest) {
            Some((value, len)) => {
                self.pos += len;
                Ok(value)
            }
            None if rest.len() < 10 => Err(DecodeError::EndsEarly { offset: self.input.len() }),
            None => Err(DecodeError::BadNumber { offset: self.pos }),
        }
    }

    fn int(&mut self) -> Decoded<i64> {
        let offset = self.pos;
        let value = self.long()?;
        i32::try_from(value).map(i64::from).map_err(|_| DecodeError::IntOutOfRange { offset })
    }

    fn len(&mut self) -> Decoded<usize> {
        let offset = self.pos;
        let len = usize::try_from(self.long()?).ok();
        let left = self.input.len() - self.pos;
        len.filter(|len| *len <= left).ok_or(DecodeError::BadLength { offset })
    }

    fn text(&mut self) -> Decoded<&'a str> {
        let len = self.len()?;
        let offset = self.pos;
        std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError::BadUtf8 { offset })
    }

    fn write(&mut self, write: impl FnOnce(&mut String)) {
        if let Some(out) = self.out.as_deref_mut() {
            write(out);
        }
    }

    fn put(&mut self, text: &str) {
        self.write(|out| out.push_str(text));
    }

    fn quoted(&mut self, write: impl FnOnce(&mut String)) {
        self.write(|out| {
            out.push('"');
            write(out);
            out.push('"');
        });
    }

    fn put_number(&mut self, value: i64) {
        // Writing to a string cannot fail, here and below.
        self.write(|out| _ = write!(out, "{value}"));
    }

    /// Debug, not Display: it has an exponent where that is shorter.
    fn put_float(&mut self, finite: bool, value: impl std::fmt::Debug, nan: bool, positive: bool) {
        match (finite, nan, positive) {
            (true, ..) => self.write(|out| _ = write!(out, "{value:?}")),
            (false, true, _) => self.put("\"NaN\""),
            (false, false, true) => self.put("\"Infinity\""),
            (false, false, false) => self.put("\"-Infinity\""),
        }
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        match self.plan.options.bytes {
            BytesText::Base64 => self.quoted(|out| binary::write_base64(bytes, out)),
            BytesText::Hex => self.quoted(|out| binary::write_hex(bytes, out)),
            BytesText::PostgresHex => self.quoted(|out| {
                out.push_str("\\\\x");
                binary::write_hex(bytes, out);
            }),
            BytesText::Latin1 => {
                let text: String = bytes.iter().copied().map(char::from).collect();
                self.write(|out| write_string(&text, out));
            }
        }
    }

    fn time_or_number(&mut self, units: i64, text: impl FnOnce(&mut String) -> bool, zone: &str) {
        self.write(|out| {
            let start = out.len();
            out.push('"');
            if text(out) {
                out.push_str(zone);
                out.push('"');
            } else {
                out.truncate(start);
                let _ = write!(out, "{units}");
            }
        });
    }
}

/// Which branch the encoder would take for an untagged text.
fn reads_as(plan: &Plan, id: u32, union: &UnionPlan, text: &str) -> Option<usize> {
    let only = |branches: &[usize]| match branches {
        [one] => Some(*one),
        _ => None,
    };
    let sole = match text.as_bytes().first() {
        Some(b'n') => union.null,
        Some(b't' | b'f') => union.boolean,
        Some(b'[') => union.array,
        Some(b'{') => only(&union.objects),
        Some(b'"') => match union.strings.as_slice() {
            [(_, one)] => Some(*one),
            _ => None,
        },
        _ => only(&union.numbers),
    };
    if sole.is_some() {
        return sole;
    }
    let mut bytes = Vec::new();
    plan.encode_node(id, text, &mut bytes).ok()?;
    usize::try_from(varint::read(&bytes)?.0).ok()
}
