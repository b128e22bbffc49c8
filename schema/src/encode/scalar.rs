//! Numbers and strings of the text in, scalars of every Avro and logical type out.

use std::borrow::Cow;

use crate::avro::TimeUnit;
use crate::encode::error::EncodeErrorKind as Error;
use crate::encode::options::BytesText;
use crate::encode::path::Path;
use crate::encode::plan::{EnumPlan, PlanNode, Shape};
use crate::encode::report::with_place;
use crate::encode::run::{Encoder, Read};
use crate::json::Kind;
use crate::value::binary;
use crate::value::clock::{self, Excess, Zone};
use crate::value::number::{Exact, IntegerFault, integer};
use crate::varint;

/// A value that does not fit: the kind of error, the range it would have to be in, a hint.
struct Misfit {
    error: Error,
    range: Option<(i64, i64)>,
    hint: Option<String>,
}

impl Misfit {
    fn new(error: Error) -> Self {
        Misfit { error, range: None, hint: None }
    }

    fn hint(error: Error, hint: &str) -> Self {
        Misfit { error, range: None, hint: Some(hint.to_owned()) }
    }
}

impl From<clock::Fault> for Misfit {
    fn from(fault: clock::Fault) -> Self {
        match fault {
            clock::Fault::Form(hint) => Misfit::hint(Error::TypeMismatch, hint),
            clock::Fault::Precision => Misfit::new(Error::PrecisionLoss),
            clock::Fault::Range => Misfit::new(Error::OutOfRange),
        }
    }
}

type Fit = Result<(), Misfit>;

const INT: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);
const LONG: (i64, i64) = (i64::MIN, i64::MAX);

impl Encoder<'_, '_> {
    /// A JSON number, as whatever type is asked for.
    pub(super) fn number(&mut self, node: &PlanNode, path: &Path<'_>) -> Read {
        let number = self.cursor.number()?;
        let text = self.cursor.span(number.start, number.end);
        let fit = match &node.shape {
            Shape::Int | Shape::Long | Shape::Date => self.write_integer(text, range(&node.shape)),
            Shape::Time(_) | Shape::Timestamp(_) | Shape::LocalTimestamp(_) => {
                self.write_integer(text, range(&node.shape))
            }
            Shape::Double => self.write_double(text),
            Shape::Float => self.write_float(text),
            Shape::Decimal { precision, scale, size } => {
                self.write_decimal(text, *precision, *scale, *size)
            }
            Shape::Union(_) => return Ok(()),
            _ => Err(Misfit::new(Error::TypeMismatch)),
        };
        self.settle(fit, node, path, Kind::Number, number.start)
    }

    /// A JSON string, as whatever type is asked for but a plain string.
    pub(super) fn text(&mut self, node: &PlanNode, path: &Path<'_>) -> Read {
        let quoted = self.cursor.string()?;
        let text: Cow<'_, str> = if quoted.escaped {
            Cow::Owned(self.cursor.string_value(quoted))
        } else {
            Cow::Borrowed(self.cursor.span(quoted.start, quoted.end))
        };
        let start = quoted.start.saturating_sub(1);
        if let Shape::Enum(one) = &node.shape {
            return self.symbol(one, &text, node, path, start);
        }
        let fit = self.write_text(&node.shape, &text);
        self.settle(fit, node, path, Kind::String, start)
    }

    fn write_text(&mut self, shape: &Shape, text: &str) -> Fit {
        let options = &self.plan.options;
        let excess = if options.truncate_times { Excess::CutOff } else { Excess::Refused };
        match shape {
            Shape::Bytes => self.write_bytes(text, None),
            Shape::Fixed(size) => self.write_bytes(text, Some(*size)),
            Shape::Decimal { precision, scale, size } => {
                self.write_decimal(text, *precision, *scale, *size)
            }
            Shape::UuidText => {
                uuid(text)?;
                varint::write_len(text.len(), self.out);
                self.out.extend_from_slice(text.as_bytes());
                Ok(())
            }
            Shape::UuidBytes => {
                self.out.extend_from_slice(&uuid(text)?);
                Ok(())
            }
            Shape::Date => self.write_units(clock::read_date(text)?),
            Shape::Time(unit) => self.write_units(clock::read_time(text, *unit, excess)?),
            Shape::Timestamp(unit) => {
                let utc = options.assume_utc;
                let zone = if utc { Zone::UtcUnlessGiven } else { Zone::Required };
                self.write_units(clock::read_timestamp(text, *unit, zone, excess)?)
            }
            Shape::LocalTimestamp(unit) => {
                self.write_units(clock::read_timestamp(text, *unit, Zone::Forbidden, excess)?)
            }
            Shape::Duration => {
                let parts = clock::read_duration(text, excess)?;
                self.out.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
                Ok(())
            }
            Shape::Int | Shape::Long if options.numeric_strings && Exact::parse(text).is_some() => {
                self.write_integer(text, range(shape))
            }
            Shape::Float | Shape::Double => self.write_float_text(shape, text),
            _ => Err(Misfit::new(Error::TypeMismatch)),
        }
    }

    fn write_float_text(&mut self, shape: &Shape, text: &str) -> Fit {
        let options = &self.plan.options;
        let special = match text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        };
        match special.filter(|_| options.special_floats) {
            Some(value) if matches!(shape, Shape::Float) => {
                self.out.extend_from_slice(&(value as f32).to_le_bytes());
                Ok(())
            }
            Some(value) => {
                self.out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
            None if options.numeric_strings && Exact::parse(text).is_some() => match shape {
                Shape::Float => self.write_float(text),
                _ => self.write_double(text),
            },
            None => Err(Misfit::new(Error::TypeMismatch)),
        }
    }

    fn write_units(&mut self, units: i64) -> Fit {
        varint::write(units, self.out);
        Ok(())
    }

    fn write_integer(&mut self, text: &str, (low, high): (i64, i64)) -> Fit {
        match integer(text) {
            Ok(value) if (low..=high).contains(&value) => self.write_units(value),
            Ok(_) | Err(IntegerFault::OutOfRange) => {
                Err(Misfit { error: Error::OutOfRange, range: Some((low, high)), hint: None })
            }
            Err(IntegerFault::NotIntegral) => Err(Misfit::new(Error::NotIntegral)),
        }
    }

    fn write_double(&mut self, text: &str) -> Fit {
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => {
                self.out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
            _ => Err(Misfit::new(Error::OutOfRange)),
        }
    }

    fn write_float(&mut self, text: &str) -> Fit {
        match text.parse::<f32>() {
            Ok(value) if value.is_finite() => {
                self.out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
            _ => Err(Misfit::new(Error::OutOfRange)),
        }
    }

    fn write_decimal(
        &mut self,
        text: &str,
        precision: u32,
        scale: u32,
        size: Option<usize>,
    ) -> Fit {
        let hint = "write a decimal as a number or as \"12.50\"";
        let exact = Exact::parse(text).ok_or_else(|| Misfit::hint(Error::TypeMismatch, hint))?;
        let scaled = exact.scaled(scale).ok_or(Misfit::new(Error::DecimalScale))?;
        if scaled.digit_count() > u64::from(precision) {
            return Err(Misfit::new(Error::DecimalPrecision));
        }
        let base = self.scratch.bytes.len();
        scaled.write_be(&mut self.scratch.bytes);
        let bytes = self.scratch.bytes.get(base..).unwrap_or_default();
        let fits = match size {
            None => {
                varint::write_len(bytes.len(), self.out);
                true
            }
            Some(size) => {
                let sign =
                    if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { 0xFF } else { 0 };
                let missing = size.checked_sub(bytes.len());
                self.out.extend(std::iter::repeat_n(sign, missing.unwrap_or(0)));
                missing.is_some()
            }
        };
        self.out.extend_from_slice(bytes);
        self.scratch.bytes.truncate(base);
        if fits { Ok(()) } else { Err(Misfit::new(Error::DecimalPrecision)) }
    }

    fn write_bytes(&mut self, text: &str, size: Option<usize>) -> Fit {
        let base = self.scratch.bytes.len();
        let bytes = &mut self.scratch.bytes;
        let (read, form) = match self.plan.options.bytes {
            BytesText::Base64 => (binary::decode_base64(text, bytes), "padded base64"),
            BytesText::Hex => (binary::decode_hex(text, bytes), "hex digits"),
            BytesText::PostgresHex => {
                let digits = text.strip_prefix("\\x");
                (digits.and_then(|digits| binary::decode_hex(digits, bytes)), "\\x and hex digits")
            }
            BytesText::Latin1 => (binary::decode_latin1(text, bytes), "characters up to U+00FF"),
        };
        let bytes = self.scratch.bytes.get(base..).unwrap_or_default();
        let fit = match (read, size) {
            (None, _) => {
                let hint = Some(format!("bytes are written as {form}"));
                Err(Misfit { error: Error::BadBytesEncoding, range: None, hint })
            }
            (Some(()), Some(size)) if size != bytes.len() => {
                let hint = Some(format!("it stands for {} bytes", bytes.len()));
                Err(Misfit { error: Error::FixedLength, range: None, hint })
            }
            (Some(()), size) => {
                if size.is_none() {
                    varint::write_len(bytes.len(), self.out);
                }
                self.out.extend_from_slice(bytes);
                Ok(())
            }
        };
        self.scratch.bytes.truncate(base);
        fit
    }

    fn symbol(
        &mut self,
        one: &EnumPlan,
        text: &str,
        node: &PlanNode,
        path: &Path<'_>,
        start: usize,
    ) -> Read {
        let by_default = self.plan.options.enum_default_on_write && !self.strict_symbols;
        let default = one.default.filter(|_| by_default);
        if let Some(at) = one.find(text.as_bytes()).or(default) {
            varint::write_len(at, self.out);
            return Ok(());
        }
        let expected = if self.keeps_errors() {
            let symbols = one.symbols.join(", ");
            with_place(&format!("{}, one of {symbols}", node.label), path)
        } else {
            String::new()
        };
        self.report_as(Error::UnknownSymbol, path, expected, Kind::String.name(), start, None);
        Ok(())
    }

    /// `{"months": 1, "days": 2, "millis": 3}`, all three and nothing else.
    pub(super) fn duration_object(&mut self, node: &PlanNode, path: &Path<'_>) -> Read {
        const NAMES: [&str; 3] = ["months", "days", "millis"];
        let object = self.cursor.pos;
        self.cursor.pos += 1;
        let mut parts: [Option<u32>; 3] = [None; 3];
        let mut seen = [false; 3];
        let mut first = true;
        while !self.cursor.eat(b'}') {
            if !first {
                self.cursor.expect(b',', "expected , or }")?;
            }
            first = false;
            let key = self.cursor.key()?;
            let name = self.cursor.string_value(key);
            let kind = self.cursor.kind()?;
            let start = self.cursor.pos;
            let places = NAMES.into_iter().zip(parts.iter_mut().zip(&mut seen));
            let Some((name, (part, seen))) = places.into_iter().find(|(known, _)| *known == name)
            else {
                self.cursor.skip_value()?;
                let expected = "months, days or millis of a duration".to_owned();
                let path = path.key(key);
                self.report_as(Error::UnknownField, &path, expected, kind.name(), start, None);
                continue;
            };
            if std::mem::replace(seen, true) {
                self.duplicate_key(key, path)?;
                continue;
            }
            self.cursor.skip_value()?;
            let value = integer(self.cursor.span(start, self.cursor.pos));
            let error = match (kind, value) {
                (Kind::Number, Ok(value)) => {
                    *part = u32::try_from(value).ok();
                    if part.is_some() {
                        continue;
                    } else {
                        Error::OutOfRange
                    }
                }
                (Kind::Number, Err(IntegerFault::NotIntegral)) => Error::NotIntegral,
                (Kind::Number, Err(IntegerFault::OutOfRange)) => Error::OutOfRange,
                (Kind::Null, _) => Error::NullNotAllowed,
                _ => Error::TypeMismatch,
            };
            let expected = "a whole number from 0 to 4294967295".to_owned();
            self.report_as(error, &path.member(name), expected, kind.name(), start, None);
        }
        for ((name, part), seen) in NAMES.into_iter().zip(parts).zip(seen) {
            self.out.extend_from_slice(&part.unwrap_or(0).to_le_bytes());
            if !seen {
                let expected = self.expected(node, path);
                let kind = Error::MissingField;
                self.report_as(kind, &path.member(name), expected, "nothing", object, None);
            }
        }
        Ok(())
    }

    /// Reports what did not fit.
    #[inline]
    fn settle(
        &mut self,
        fit: Fit,
        node: &PlanNode,
        path: &Path<'_>,
        kind: Kind,
        start: usize,
    ) -> Read {
        match fit {
            Ok(()) => Ok(()),
            Err(misfit) => self.misfit(misfit, node, path, kind, start),
        }
    }

    #[cold]
    fn misfit(
        &mut self,
        misfit: Misfit,
        node: &PlanNode,
        path: &Path<'_>,
        kind: Kind,
        start: usize,
    ) -> Read {
        let expected = match misfit.range {
            _ if !self.keeps_errors() => String::new(),
            Some((low, high)) => with_place(&format!("{} from {low} to {high}", node.label), path),
            None => self.expected(node, path),
        };
        self.report_as(misfit.error, path, expected, kind.name(), start, misfit.hint);
        Ok(())
    }
}

/// What numbers the type takes. Times are within the day.
fn range(shape: &Shape) -> (i64, i64) {
    match shape {
        Shape::Int | Shape::Date => INT,
        Shape::Time(unit) => (0, day(*unit) - 1),
        _ => LONG,
    }
}

fn day(unit: TimeUnit) -> i64 {
    86_400 * unit.per_second()
}

fn uuid(text: &str) -> Result<[u8; 16], Misfit> {
    let hint = "write a uuid as 8-4-4-4-12 hex digits";
    binary::decode_uuid(text).ok_or_else(|| Misfit::hint(Error::TypeMismatch, hint))
}
