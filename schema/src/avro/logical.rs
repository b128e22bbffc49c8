//! The `logicalType` of a type in, what it means out, or nothing if it does not fit.

use crate::avro::Kind;

/// The logical types that this crate encodes. Others are ignored, as the specification says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    /// On bytes or fixed.
    Decimal {
        /// Digits in all.
        precision: u32,
        /// Digits behind the point.
        scale: u32,
    },
    /// On string or a fixed of 16 bytes.
    Uuid,
    /// Days since 1970-01-01, on int.
    Date,
    /// Since midnight: millis on int, micros on long.
    Time(TimeUnit),
    /// Since 1970-01-01T00:00:00Z, on long.
    Timestamp(TimeUnit),
    /// Since 1970-01-01T00:00:00 in no zone, on long.
    LocalTimestamp(TimeUnit),
    /// Months, days and milliseconds, on a fixed of 12 bytes.
    Duration,
}

/// Parts of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TimeUnit {
    Millis,
    Micros,
    Nanos,
}

impl TimeUnit {
    /// How many make a second.
    #[must_use]
    pub fn per_second(self) -> i64 {
        10_i64.pow(self.digits())
    }

    /// Decimal places of a second.
    #[must_use]
    pub fn digits(self) -> u32 {
        match self {
            TimeUnit::Millis => 3,
            TimeUnit::Micros => 6,
            TimeUnit::Nanos => 9,
        }
    }

    /// `millis`, `micros` or `nanos`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            TimeUnit::Millis => "millis",
            TimeUnit::Micros => "micros",
            TimeUnit::Nanos => "nanos",
        }
    }
}

/// `precision` and `scale` are whole numbers in the text, or absent.
pub(crate) fn logical_type(
    word: &str,
    kind: &Kind,
    precision: Option<i64>,
    scale: Option<i64>,
) -> Option<Logical> {
    use TimeUnit::{Micros, Millis, Nanos};
    let logical = match (word, kind) {
        ("decimal", Kind::Bytes) => return decimal(precision, scale, u32::MAX),
        ("decimal", Kind::Fixed(fixed)) => return decimal(precision, scale, digits_in(fixed.size)),
        ("uuid", Kind::String) => Logical::Uuid,
        ("uuid", Kind::Fixed(fixed)) if fixed.size == 16 => Logical::Uuid,
        ("date", Kind::Int) => Logical::Date,
        ("time-millis", Kind::Int) => Logical::Time(Millis),
        ("time-micros", Kind::Long) => Logical::Time(Micros),
        ("timestamp-millis", Kind::Long) => Logical::Timestamp(Millis),
        ("timestamp-micros", Kind::Long) => Logical::Timestamp(Micros),
        ("timestamp-nanos", Kind::Long) => Logical::Timestamp(Nanos),
        ("local-timestamp-millis", Kind::Long) => Logical::LocalTimestamp(Millis),
        ("local-timestamp-micros", Kind::Long) => Logical::LocalTimestamp(Micros),
        ("local-timestamp-nanos", Kind::Long) => Logical::LocalTimestamp(Nanos),
        ("duration", Kind::Fixed(fixed)) if fixed.size == 12 => Logical::Duration,
        _ => return None,
    };
    Some(logical)
}

fn decimal(precision: Option<i64>, scale: Option<i64>, digits_max: u32) -> Option<Logical> {
    let precision = u32::try_from(precision?).ok()?;
    let scale = u32::try_from(scale.unwrap_or(0)).ok()?;
    let fits = precision > 0 && scale <= precision && precision <= digits_max;
    // Java reads both as an int.
    let in_java = precision <= i32::MAX.cast_unsigned();
    (fits && in_java).then_some(Logical::Decimal { precision, scale })
}

/// Decimal digits that every number of so many signed bytes has room for, as Java computes it.
fn digits_in(size: usize) -> u32 {
    if size == 0 {
        return 0;
    }
    let bits = (size as f64) * 8.0 - 1.0;
    (std::f64::consts::LOG10_2 * bits).floor() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_holds_the_digits_that_java_says() {
        for (size, digits) in [(0, 0), (1, 2), (2, 4), (4, 9), (8, 18), (16, 38), (20, 47)] {
            assert_eq!(digits_in(size), digits, "{size} bytes");
        }
    }
}
