//! An event id in, the day whose partition holds its claim out. Pure.
//!
//! The day must be the same for every copy of an event, on every instance, at any time: so it comes
//! from what the writer fixed and not from a clock. The record's timestamp is not used: a copy that
//! another producer sends later has another one.

use std::error::Error;
use std::fmt;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_2000: i32 = 10_957;
const DAY_MS: u64 = 86_400_000;

/// A calendar day in UTC, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    /// For an id that tells no time: `-infinity` in SQL. Counts as older than any window.
    pub const NONE: Day = Day(i32::MIN);

    /// The day of an id: the time in a UUID of version 7, else that of the header `created_at`.
    ///
    /// ```
    /// # use walpost_inbox::store::Day;
    /// # use uuid::Uuid;
    /// let id = Uuid::parse_str("01a1fecd-53b5-75db-82e2-5f303aba9c5e")?;
    /// assert_eq!(Day::of(id, None).to_string(), "2026-11-21");
    /// assert_eq!(Day::of(Uuid::from_u128(4 << 76), None), Day::NONE);
    /// # Ok::<(), uuid::Error>(())
    /// ```
    #[must_use]
    pub fn of(id: Uuid, created_at: Option<&str>) -> Self {
        if id.get_version_num() == 7 {
            let (high, ..) = id.as_u64_pair();
            // 48 bits of milliseconds reach into the year 10889: well inside.
            let days = (high >> 16) / DAY_MS;
            return i32::try_from(days).map_or(Self::NONE, Self::from_unix_days);
        }
        created_at.and_then(parse).unwrap_or(Self::NONE)
    }

    /// The day so many days after 1970-01-01.
    ///
    /// ```
    /// # use walpost_inbox::store::Day;
    /// assert_eq!(Day::from_unix_days(20_778).to_string(), "2026-11-21");
    /// ```
    #[must_use]
    pub fn from_unix_days(days: i32) -> Self {
        Self(days.saturating_sub(EPOCH_2000))
    }

    /// The day of a moment.
    ///
    /// ```
    /// # use walpost_inbox::store::Day;
    /// assert_eq!(Day::of_unix_ms(1_795_276_799_999).to_string(), "2026-11-21");
    /// ```
    #[must_use]
    pub fn of_unix_ms(ms: u64) -> Self {
        i32::try_from(ms / DAY_MS).map_or(Self::NONE, Self::from_unix_days)
    }

    /// So many days later; none stays none.
    ///
    /// ```
    /// # use walpost_inbox::store::Day;
    /// assert_eq!(Day::from_unix_days(20_778).plus(-1).to_string(), "2026-11-20");
    /// assert_eq!(Day::NONE.plus(1), Day::NONE);
    /// ```
    #[must_use]
    pub fn plus(self, days: i32) -> Self {
        if self == Self::NONE { self } else { Self(self.0.saturating_add(days)) }
    }
}

impl Day {
    pub(crate) fn sql_number(self) -> i32 {
        self.0
    }

    pub(crate) fn from_sql_number(days: i32) -> Self {
        Self(days)
    }
}

/// `2026-11-21T10:00:00.5Z`, as the relay writes it. Another zone's text would need another day
/// for the same moment: it tells no time here, which only costs precision.
fn parse(text: &str) -> Option<Day> {
    let (date, rest) = text.split_once('T')?;
    if !rest.ends_with('Z') {
        return None;
    }
    let mut parts = date.split('-');
    let mut next = |len: usize| {
        let part = parts.next()?;
        let is_plain = part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| part.parse::<i32>().ok()).flatten()
    };
    let (year, month, day) = (next(4)?, next(2)?, next(2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(Day::from_unix_days(days_from_civil(year, month, day)))
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, in eras of 400 years that begin in
/// March, so that the leap day is the last day of a year.
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of so many days since 1970-01-01: the inverse.
fn civil_from_days(days: i32) -> (i64, i64, i64) {
    let days = i64::from(days) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("-infinity");
        }
        let (year, month, day) = civil_from_days(self.0.saturating_add(EPOCH_2000));
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// PostgreSQL's binary `date`: days since 2000-01-01, the lowest number is `-infinity`.
impl ToSql for Day {
    // tidy: allow boxed-error: the trait's own signature
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::DATE
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Day {
    // tidy: allow boxed-error: the trait's own signature
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let days: [u8; 4] = raw.try_into()?;
        Ok(Self(i32::from_be_bytes(days)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::DATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_the_one_in_the_id_and_then_the_one_the_writer_says() {
        let v7 = Uuid::parse_str("01a1fecd-53b5-75db-82e2-5f303aba9c5e").unwrap();
        let v4 = Uuid::parse_str("6b1f2c3d-0000-4000-8000-000000000000").unwrap();
        for (id, header, day) in [
            (v7, None, "2026-11-21"),
            (v7, Some("1999-01-01T00:00:00Z"), "2026-11-21"),
            (v4, Some("2026-11-21T23:59:59.999999Z"), "2026-11-21"),
            (v4, Some("2024-02-29T00:00:00Z"), "2024-02-29"),
            (v4, Some("1969-12-31T00:00:00Z"), "1969-12-31"),
            (v4, Some("0001-01-01T00:00:00Z"), "0001-01-01"),
            (v4, None, "-infinity"),
            (v4, Some("2026-11-21T23:59:59+01:00"), "-infinity"),
            (v4, Some("infinity"), "-infinity"),
            (v4, Some("2026-13-01T00:00:00Z"), "-infinity"),
            (v4, Some("2026-1-1T00:00:00Z"), "-infinity"),
            (v4, Some("+026-01-01T00:00:00Z"), "-infinity"),
            (v4, Some("2026-01-01-01T00:00:00Z"), "-infinity"),
        ] {
            assert_eq!(Day::of(id, header).to_string(), day, "{id} {header:?}");
        }
    }

    #[test]
    fn days_and_dates_are_inverse_over_a_thousand_years() {
        for days in (-200_000..200_000).step_by(13) {
            let (year, month, day) = civil_from_days(days);
            let of = |number: i64| i32::try_from(number).unwrap();
            assert_eq!(days_from_civil(of(year), of(month), of(day)), days);
        }
        assert_eq!(days_from_civil(2000, 1, 1), EPOCH_2000);
    }
}
