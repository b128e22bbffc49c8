//! Decimal text in, exact integers out, and back. No digit passes through a float.

/// A decimal number as written: `digits * 10^exponent`, digits without zeros at either end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exact<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// Of the digits in `whole` and `fraction` together: how many zeros lead them, and how many
    /// follow those that count.
    skip: usize,
    take: usize,
    exponent: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntegerFault {
    NotIntegral,
    OutOfRange,
}

impl<'a> Exact<'a> {
    /// Reads `[+-] digits [. digits] [e [+-] digits]`. A JSON number is one of these.
    pub(crate) fn parse(text: &'a str) -> Option<Exact<'a>> {
        let bytes = text.as_bytes();
        let (negative, bytes) = match bytes {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (whole, rest) = split_digits(bytes);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => match split_digits(rest) {
                ([], _) => return None,
                split => split,
            },
            rest => (&[][..], rest),
        };
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => read_exponent(rest)?,
            _ => return None,
        };
        if whole.is_empty() {
            return None;
        }
        let len = whole.len() + fraction.len();
        let digits = || whole.iter().chain(fraction);
        let skip = digits().take_while(|digit| **digit == b'0').count();
        let end = digits().rev().take_while(|digit| **digit == b'0').count();
        let take = len.saturating_sub(skip + end);
        let exponent = exponent.saturating_add(end as i64).saturating_sub(fraction.len() as i64);
        Some(Exact { negative, whole, fraction, skip, take, exponent })
    }

    /// The integer `self * 10^scale`; None if there is a remainder.
    pub(crate) fn scaled(self, scale: u32) -> Option<Scaled<'a>> {
        let zeros = self.exponent.saturating_add(i64::from(scale));
        if self.take == 0 {
            return Some(Scaled { exact: self, zeros: 0 });
        }
        u64::try_from(zeros).ok().map(|zeros| Scaled { exact: self, zeros })
    }
}

fn split_digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let len = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.split_at(len)
}

fn read_exponent(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    // Far beyond any number of digits a text can have, and safe to add to.
    let value = value.min(1 << 48);
    Some(if negative { -value } else { value })
}

/// An integer as its significant digits and the zeros behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scaled<'a> {
    exact: Exact<'a>,
    zeros: u64,
}

impl Scaled<'_> {
    /// How many digits the integer has; none for zero.
    pub(crate) fn digit_count(&self) -> u64 {
        if self.exact.take == 0 { 0 } else { self.exact.take as u64 + self.zeros }
    }

    /// Call only for a bounded [`Self::digit_count`]: it gives every digit.
    fn digits(&self) -> impl Iterator<Item = u8> {
        let exact = self.exact;
        let significant =
            exact.whole.iter().chain(exact.fraction).skip(exact.skip).take(exact.take);
        let zeros = usize::try_from(self.zeros).unwrap_or(usize::MAX);
        significant.map(|digit| digit - b'0').chain(std::iter::repeat_n(0, zeros))
    }

    fn to_i128(self) -> Option<i128> {
        if self.digit_count() > 38 {
            return None;
        }
        let magnitude = self.digits().fold(0i128, |value, digit| value * 10 + i128::from(digit));
        Some(if self.exact.negative { -magnitude } else { magnitude })
    }

    /// The same for what money is: few digits, read as they stand.
    fn to_i64(self) -> Option<i64> {
        const DIGITS_MAX: usize = 18;
        let Exact { negative, whole, fraction, skip, take, .. } = self.exact;
        let len = whole.len() + fraction.len();
        if len > DIGITS_MAX || self.digit_count() > DIGITS_MAX as u64 {
            return None;
        }
        let read = |value: i64, digit: &u8| value * 10 + i64::from(digit - b'0');
        let written = fraction.iter().fold(whole.iter().fold(0, read), read);
        let ten_to = |zeros| 10i64.checked_pow(u32::try_from(zeros).ok()?);
        let magnitude = written / ten_to((len - skip - take) as u64)? * ten_to(self.zeros)?;
        Some(if negative { -magnitude } else { magnitude })
    }

    /// Appends the shortest big-endian two's complement form, as Java's `BigInteger` gives it.
    ///
    /// Takes time in the square of the digits; the caller has compared them with a precision.
    pub(crate) fn write_be(&self, out: &mut Vec<u8>) {
        if let Some(value) = self.to_i64() {
            let bits = i64::BITS - (value ^ (value >> 63)).leading_zeros();
            let len = bits as usize / 8 + 1;
            let bytes = value.to_be_bytes();
            out.extend_from_slice(bytes.get(bytes.len() - len..).unwrap_or_default());
            return;
        }
        match self.to_i128() {
            Some(value) => out.extend_from_slice(shortest(&value.to_be_bytes())),
            None => {
                let mut limbs: Vec<u32> = Vec::new();
                for digit in self.digits() {
                    multiply_add(&mut limbs, 10, u32::from(digit));
                }
                let mut bytes = vec![0];
                bytes.extend(limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()));
                if self.exact.negative {
                    negate(&mut bytes);
                }
                out.extend_from_slice(shortest(&bytes));
            }
        }
    }
}

fn multiply_add(limbs: &mut Vec<u32>, factor: u32, add: u32) {
    let mut carry = u64::from(add);
    for limb in limbs.iter_mut() {
        let product = u64::from(*limb) * u64::from(factor) + carry;
        *limb = product as u32;
        carry = product >> 32;
    }
    if carry > 0 {
        limbs.push(carry as u32);
    }
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        let (sum, over) = (!*byte).overflowing_add(u8::from(carry));
        *byte = sum;
        carry = over;
    }
}

/// Cuts leading bytes that only repeat the sign.
pub(crate) fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && let Some(second) = rest.first()
    {
        let sign = if second & 0x80 == 0 { 0 } else { 0xFF };
        if *first != sign {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// The exact integer behind a JSON number: `5`, `5.0` and `5e0` alike.
pub(crate) fn integer(text: &str) -> Result<i64, IntegerFault> {
    // Only digits and no more of them than fit: no need to look at the number as a decimal.
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.len() <= 18 {
        let mut value = 0i64;
        let mut plain = !digits.is_empty();
        for digit in digits {
            plain &= digit.is_ascii_digit();
            value = value * 10 + i64::from(digit.wrapping_sub(b'0'));
        }
        if plain {
            return Ok(if negative { -value } else { value });
        }
    }
    let exact = Exact::parse(text).ok_or(IntegerFault::NotIntegral)?;
    let scaled = exact.scaled(0).ok_or(IntegerFault::NotIntegral)?;
    let value = scaled.to_i128().ok_or(IntegerFault::OutOfRange)?;
    value.try_into().map_err(|_| IntegerFault::OutOfRange)
}

/// Appends the decimal text of a big-endian two's complement integer with `scale` decimal places.
///
/// Takes time in the square of the bytes; the caller has compared them with a precision.
pub(crate) fn write_decimal(bytes: &[u8], scale: u32, out: &mut String) {
    let mut magnitude = shortest(bytes).to_vec();
    let negative = magnitude.first().is_some_and(|first| first & 0x80 != 0);
    if negative {
        // One byte more, for the lowest number of each length has no positive twin in it.
        magnitude.insert(0, 0xFF);
        negate(&mut magnitude);
    }
    let mut groups = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0u64;
        for byte in &mut magnitude {
            let value = rest << 8 | u64::from(*byte);
            *byte = (value / 1_000_000_000) as u8;
            rest = value % 1_000_000_000;
        }
        groups.push(rest);
        let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
        magnitude.drain(..zeros);
    }
    let mut digits = String::new();
    for (at, group) in groups.iter().rev().enumerate() {
        let text = if at == 0 { group.to_string() } else { format!("{group:09}") };
        digits.push_str(&text);
    }
    let scale = scale as usize;
    let missing = (scale + 1).saturating_sub(digits.len());
    digits.insert_str(0, &"0".repeat(missing));
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    out.push_str(if negative { "-" } else { "" });
    out.push_str(whole);
    if scale > 0 {
        out.push('.');
        out.push_str(fraction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_in_every_spelling() {
        use IntegerFault::{NotIntegral, OutOfRange};
        for (text, expected) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("-0.0", Ok(0)),
            ("0e999999999999999999999", Ok(0)),
            ("5.0", Ok(5)),
            ("1e3", Ok(1_000)),
            ("1.5e1", Ok(15)),
            ("1500e-2", Ok(15)),
            ("9007199254740993", Ok(9_007_199_254_740_993)),
            ("9007199254740993.000", Ok(9_007_199_254_740_993)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(OutOfRange)),
            ("-9223372036854775809", Err(OutOfRange)),
            ("1e999999999999999999999", Err(OutOfRange)),
            ("1e-999999999999999999999", Err(NotIntegral)),
            ("5.5", Err(NotIntegral)),
            ("1e-1", Err(NotIntegral)),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    fn bytes_of(text: &str, scale: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Exact::parse(text).unwrap().scaled(scale).unwrap().write_be(&mut out);
        out
    }

    #[test]
    fn bytes_are_javas_shortest_form() {
        for (text, scale, bytes) in [
            ("0", 2, &[0][..]),
            ("1.27", 2, &[0x7F]),
            ("1.28", 2, &[0x00, 0x80]),
            ("-1.28", 2, &[0x80]),
            ("-1.29", 2, &[0xFF, 0x7F]),
            ("-0.01", 2, &[0xFF]),
            ("123.456", 5, &[0x00, 0xbc, 0x61, 0x00]),
            ("+00012.50", 2, &[0x04, 0xE2]),
        ] {
            assert_eq!(bytes_of(text, scale), bytes, "{text}");
        }
    }

    #[test]
    fn decimals_of_any_length_come_back_as_written() {
        for text in [
            "0.00",
            "-0.01",
            "1.28",
            "-1.28",
            "327.68",
            "-327.68",
            "1000000000.00",
            "123456789012345678901234567890123456789012345678901234567890.12",
            "-123456789012345678901234567890123456789012345678901234567890.12",
            "1701411834604692317316873037158841057.28",
            "-1701411834604692317316873037158841057.28",
        ] {
            let mut out = String::new();
            write_decimal(&bytes_of(text, 2), 2, &mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".5", "5.", "1e", "1e+", "1x", "0x1", " 1", "NaN", "1.2.3", "--1"] {
            assert!(Exact::parse(text).is_none(), "{text}");
        }
    }
}
