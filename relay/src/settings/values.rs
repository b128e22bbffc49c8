//! Values with a form of their own: times, and numbers and truth values that may come as text
//! because the environment only has text.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// `"5s"`, `"250ms"`, `"2m"`, `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) Duration);

/// A number or its digits as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(pub(super) u64);

/// `"64MiB"`, `"500KiB"`, `"1GiB"`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// `"50%"`, at most 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percent(pub(super) u32);

/// true, false, or these words as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag(pub(super) bool);

/// A text; numbers and truth values, which a property's value may look like, become text again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

struct Any<T> {
    expecting: &'static str,
    from_text: fn(&str) -> Option<T>,
    from_number: fn(u64) -> Option<T>,
    from_bool: fn(bool) -> Option<T>,
}

impl<T> Any<T> {
    fn wrong<E: Error>(&self) -> E {
        // Not the value itself: it could be a secret in the wrong place.
        E::custom(format!("expected {}", self.expecting))
    }
}

impl<T> Visitor<'_> for Any<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.from_text)(text).ok_or_else(|| self.wrong())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        (self.from_number)(number).ok_or_else(|| self.wrong())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        let number = u64::try_from(number).ok();
        number.and_then(self.from_number).ok_or_else(|| self.wrong())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<T, E> {
        (self.from_bool)(truth).ok_or_else(|| self.wrong())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any {
            expecting: "a time such as \"5s\" (ms, s, m, h)",
            from_text: |text| parse_time(text).map(Time),
            from_number: |_| None,
            from_bool: |_| None,
        })
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any {
            expecting: "a whole number",
            from_text: |text| text.trim().parse().ok().map(Number),
            from_number: |number| Some(Number(number)),
            from_bool: |_| None,
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any {
            expecting: "a size such as \"64MiB\" (B, KiB, MiB, GiB)",
            from_text: |text| parse_size(text).map(Size),
            from_number: |number| Some(Size(number)),
            from_bool: |_| None,
        })
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any {
            expecting: "a part of the whole such as \"50%\"",
            from_text: |text| {
                let number: u32 = text.strip_suffix('%')?.parse().ok()?;
                (number <= 100).then_some(Percent(number))
            },
            from_number: |_| None,
            from_bool: |_| None,
        })
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any {
            expecting: "true or false",
            from_text: |text| match text {
                "true" => Some(Flag(true)),
                "false" => Some(Flag(false)),
                _ => None,
            },
            from_number: |_| None,
            from_bool: |truth| Some(Flag(truth)),
        })
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any {
            expecting: "a text",
            from_text: |text| Some(Text(text.to_owned())),
            from_number: |number| Some(Text(number.to_string())),
            from_bool: |truth| Some(Text(truth.to_string())),
        })
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_time("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_time("2m"), Some(Duration::from_secs(120)));
        for text in ["", "5", "s", "5 s", "5d", "-5s", "1.5s", "99999999999999999999s"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
