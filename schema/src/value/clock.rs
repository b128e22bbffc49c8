//! Dates, times and durations as text in, counts of days and parts of a second out, and back.
//!
//! The calendar is the proleptic Gregorian one with years 0000 to 9999, as RFC 3339 has it.

use std::fmt::Write as _;

use crate::avro::TimeUnit;

const DAY_SECONDS: i64 = 86_400;

/// Why a text is not the time that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not of the form; the text says what form is wanted.
    Form(&'static str),
    /// More digits than the unit has room for.
    Precision,
    /// Well-formed, but the number does not fit.
    Range,
}

/// What to do about the offset from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    Required,
    /// Without one, UTC is meant.
    UtcUnlessGiven,
    Forbidden,
}

/// What to do about digits below the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Refused,
    CutOff,
}

const DATE_FORM: Fault = Fault::Form("write a date as 2022-02-05");
const TIME_FORM: Fault = Fault::Form("write a time as 16:20:29.123");
const TIMESTAMP_FORM: Fault = Fault::Form("write a timestamp as 2022-02-05T16:20:29.123Z");
const LOCAL_FORM: Fault = Fault::Form("write a local timestamp as 2022-02-05T16:20:29.123");
const NO_ZONE: Fault = Fault::Form("a timestamp needs its zone: Z or an offset such as +01:00");
const HAS_ZONE: Fault = Fault::Form("a local timestamp has no zone: leave out the offset");
const DURATION_FORM: Fault = Fault::Form("write a duration as P1M2DT3.004S");

struct Scan<'a> {
    rest: &'a [u8],
}

impl Scan<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Exactly so many digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.rest.split_at_checked(count)?;
        let mut value = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            value = value * 10 + i64::from(digit - b'0');
        }
        self.rest = rest;
        Some(value)
    }

    /// Digits behind a point, as a count of the unit.
    fn fraction(&mut self, unit: TimeUnit, excess: Excess) -> Result<Option<i64>, Fault> {
        let len = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(len);
        if digits.is_empty() {
            return Ok(None);
        }
        self.rest = rest;
        let room = unit.digits() as usize;
        let beyond = digits.iter().skip(room).any(|digit| *digit != b'0');
        if beyond && excess == Excess::Refused {
            return Err(Fault::Precision);
        }
        let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(room);
        Ok(Some(padded.fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))))
    }

    fn date(&mut self) -> Option<i64> {
        let year = self.digits(4)?;
        let dashed = self.eat(b'-');
        let month = self.digits(2)?;
        let dashed = self.eat(b'-') && dashed;
        let day = self.digits(2)?;
        let exists = (1..=12).contains(&month) && day >= 1 && day <= month_days(year, month);
        (dashed && exists).then(|| days_of(year, month, day))
    }

    /// Hours and minutes, and seconds unless they may be left out; without the fraction.
    fn seconds(&mut self, seconds_optional: bool) -> Option<i64> {
        let hour = self.digits(2)?;
        let colon = self.eat(b':');
        let minute = self.digits(2)?;
        let second = if self.eat(b':') {
            self.digits(2)?
        } else if seconds_optional {
            0
        } else {
            return None;
        };
        let exists = colon && hour < 24 && minute < 60 && second < 60;
        exists.then_some(hour * 3_600 + minute * 60 + second)
    }

    /// `Z`, `+01`, `+01:30` or `+00:53:28`, as PostgreSQL prints them, in seconds.
    fn offset(&mut self) -> Option<Option<i64>> {
        if self.rest.is_empty() {
            return Some(None);
        }
        if self.eat(b'Z') || self.eat(b'z') {
            return Some(Some(0));
        }
        let sign = if self.eat(b'-') {
            -1
        } else if self.eat(b'+') {
            1
        } else {
            return None;
        };
        let hours = self.digits(2)?;
        let minutes = if self.eat(b':') { self.digits(2)? } else { 0 };
        let seconds = if self.eat(b':') { self.digits(2)? } else { 0 };
        let exists = hours < 24 && minutes < 60 && seconds < 60;
        exists.then_some(Some(sign * (hours * 3_600 + minutes * 60 + seconds)))
    }
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_of`]; None outside of years 0 to 9999.
fn date_of(days: i64) -> Option<(i64, i64, i64)> {
    let days = days.checked_add(719_468)?;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (0..=9999).contains(&year).then_some((year, month, day))
}

/// Days since 1970-01-01.
pub(crate) fn read_date(text: &str) -> Result<i64, Fault> {
    let mut scan = Scan { rest: text.as_bytes() };
    match scan.date() {
        Some(days) if scan.rest.is_empty() => Ok(days),
        _ => Err(DATE_FORM),
    }
}

/// Units since midnight.
pub(crate) fn read_time(text: &str, unit: TimeUnit, excess: Excess) -> Result<i64, Fault> {
    let mut scan = Scan { rest: text.as_bytes() };
    let seconds = scan.seconds(true).ok_or(TIME_FORM)?;
    let mut parts = 0;
    if scan.eat(b'.') {
        parts = scan.fraction(unit, excess)?.ok_or(TIME_FORM)?;
    }
    // "Z" adds nothing that could be lost; an offset would.
    let _ = scan.eat(b'Z');
    if !scan.rest.is_empty() {
        return Err(TIME_FORM);
    }
    Ok(seconds * unit.per_second() + parts)
}

/// Units since 1970-01-01T00:00:00.
pub(crate) fn read_timestamp(
    text: &str,
    unit: TimeUnit,
    zone: Zone,
    excess: Excess,
) -> Result<i64, Fault> {
    let form = if zone == Zone::Forbidden { LOCAL_FORM } else { TIMESTAMP_FORM };
    let mut scan = Scan { rest: text.as_bytes() };
    let days = scan.date().ok_or(form)?;
    if !(scan.eat(b'T') || scan.eat(b' ') || scan.eat(b't')) {
        return Err(form);
    }
    let seconds = scan.seconds(false).ok_or(form)?;
    let mut parts = 0;
    if scan.eat(b'.') {
        parts = scan.fraction(unit, excess)?.ok_or(form)?;
    }
    let offset = scan.offset().ok_or(form)?;
    if !scan.rest.is_empty() {
        return Err(form);
    }
    let offset = match (offset, zone) {
        (None, Zone::Required) => return Err(NO_ZONE),
        (Some(_), Zone::Forbidden) => return Err(HAS_ZONE),
        (offset, _) => offset.unwrap_or(0),
    };
    let seconds = days * DAY_SECONDS + seconds - offset;
    let units = i128::from(seconds) * i128::from(unit.per_second()) + i128::from(parts);
    units.try_into().map_err(|_| Fault::Range)
}

/// Months, days and milliseconds.
pub(crate) fn read_duration(text: &str, excess: Excess) -> Result<[u32; 3], Fault> {
    let mut rest = text.strip_prefix('P').ok_or(DURATION_FORM)?;
    let (mut months, mut days, mut millis) = (0u64, 0u64, 0u64);
    // Designators in the order they must come, each at most once.
    let mut order = "YMWD".chars();
    let mut in_time = false;
    let mut any = false;
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T').filter(|time| !in_time && !time.is_empty()) {
            (in_time, rest, order) = (true, time, "HMS".chars());
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_uppercase()).ok_or(DURATION_FORM)?;
        let (number, tail) = rest.split_at(end);
        let mut tail = tail.chars();
        let designator = tail.next().ok_or(DURATION_FORM)?;
        rest = tail.as_str();
        if !order.any(|next| next == designator) {
            return Err(DURATION_FORM);
        }
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if designator == 'S' => (whole, Some(fraction)),
            _ => (number, None),
        };
        if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DURATION_FORM);
        }
        let whole: u64 = whole.parse::<u32>().map_err(|_| Fault::Range)?.into();
        match (designator, in_time) {
            ('Y', _) => months += whole * 12,
            ('M', false) => months += whole,
            ('W', _) => days += whole * 7,
            ('D', _) => days += whole,
            ('H', _) => millis += whole * 3_600_000,
            ('M', true) => millis += whole * 60_000,
            _ => millis += whole * 1_000 + read_millis(fraction, excess)?,
        }
        any = true;
    }
    if !any {
        return Err(DURATION_FORM);
    }
    let narrow = |value: u64| u32::try_from(value).map_err(|_| Fault::Range);
    Ok([narrow(months)?, narrow(days)?, narrow(millis)?])
}

fn read_millis(fraction: Option<&str>, excess: Excess) -> Result<u64, Fault> {
    let Some(fraction) = fraction else {
        return Ok(0);
    };
    let mut scan = Scan { rest: fraction.as_bytes() };
    let parts = scan.fraction(TimeUnit::Millis, excess)?.ok_or(DURATION_FORM)?;
    if !scan.rest.is_empty() {
        return Err(DURATION_FORM);
    }
    Ok(parts.unsigned_abs())
}

/// False, and nothing written, outside of years 0 to 9999.
pub(crate) fn write_date(days: i64, out: &mut String) -> bool {
    let Some((year, month, day)) = date_of(days) else {
        return false;
    };
    // Writing to a string cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
    true
}

/// False, and nothing written, outside of one day.
pub(crate) fn write_time(units: i64, unit: TimeUnit, out: &mut String) -> bool {
    let (seconds, parts) =
        (units.div_euclid(unit.per_second()), units.rem_euclid(unit.per_second()));
    if !(0..DAY_SECONDS).contains(&seconds) {
        return false;
    }
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let width = unit.digits() as usize;
    let _ = write!(out, "{hour:02}:{minute:02}:{second:02}.{parts:0width$}");
    true
}

/// Without a zone. False, and nothing written, outside of years 0 to 9999.
pub(crate) fn write_timestamp(units: i64, unit: TimeUnit, out: &mut String) -> bool {
    let day_units = DAY_SECONDS * unit.per_second();
    if !write_date(units.div_euclid(day_units), out) {
        return false;
    }
    out.push('T');
    write_time(units.rem_euclid(day_units), unit, out)
}

pub(crate) fn write_duration([months, days, millis]: [u32; 3], out: &mut String) {
    let (seconds, parts) = (millis / 1_000, millis % 1_000);
    let _ = write!(out, "P{months}M{days}DT{seconds}.{parts:03}S");
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimeUnit::{Micros, Millis, Nanos};

    #[test]
    fn every_day_of_ten_thousand_years_comes_back() {
        let (first, last) = (days_of(0, 1, 1), days_of(9999, 12, 31));
        assert_eq!((first, days_of(1970, 1, 1), last), (-719_528, 0, 2_932_896));
        let mut text = String::new();
        for days in first..=last {
            text.clear();
            assert!(write_date(days, &mut text));
            assert_eq!(read_date(&text), Ok(days), "{text}");
        }
        assert!(!write_date(first - 1, &mut text));
        assert!(!write_date(last + 1, &mut text));
        assert!(!write_date(i64::MAX, &mut text));
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for text in [
            "",
            "2021-02-29",
            "1900-02-29",
            "2022-04-31",
            "2022-13-01",
            "2022-00-01",
            "2022-01-00",
            "22-01-01",
            "2022-1-1",
            "2022-01-01T00:00:00Z",
            "2022-01-01 ",
            "infinity",
            "20220101",
            "+2022-01-01",
            "0044-03-15 BC",
        ] {
            assert!(read_date(text).is_err(), "{text}");
        }
        assert_eq!(read_date("2000-02-29"), Ok(11_016));
    }

    fn stamp(text: &str, unit: TimeUnit) -> Result<i64, Fault> {
        read_timestamp(text, unit, Zone::Required, Excess::Refused)
    }

    #[test]
    fn timestamps_are_read_in_the_forms_of_rfc_3339_and_postgresql() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2022-02-05T16:20:29.123456Z", 1_644_078_029_123_456),
            ("2022-02-05 16:20:29.1+00", 1_644_078_029_100_000),
            ("2022-02-05t16:20:29z", 1_644_078_029_000_000),
            ("2022-02-05T17:50:29+01:30", 1_644_078_029_000_000),
            ("2022-02-05T14:20:29-02:00", 1_644_078_029_000_000),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("1890-01-01 00:53:28+00:53:28", -2_524_521_600_000_000),
            ("2022-02-05T16:20:29.123456000Z", 1_644_078_029_123_456),
        ] {
            assert_eq!(stamp(text, Micros), Ok(micros), "{text}");
        }
        for text in [
            "2022-02-05",
            "2022-02-05T16:20Z",
            "2022-02-05T16:20:60Z",
            "2022-02-05T24:00:00Z",
            "2022-02-05T16:20:29.Z",
            "2022-02-05T16:20:29",
            "2022-02-05T16:20:29+24:00",
            "infinity",
            "-infinity",
            "2022-02-05T16:20:29+0100",
            "2022-02-05T16:20:29 Z",
            "2022-02-30T00:00:00Z",
            "2022-02-05T16:20:29Zx",
            "2022-02-05 16:20:29.1+00 BC",
            "1644078029",
        ] {
            assert!(matches!(stamp(text, Micros), Err(Fault::Form(_))), "{text}");
        }
        assert_eq!(stamp("2022-02-05T16:20:29.1234Z", Millis), Err(Fault::Precision));
        assert_eq!(stamp("9999-01-01T00:00:00Z", Nanos), Err(Fault::Range));
        let cut =
            read_timestamp("2022-02-05T16:20:29.1239Z", Millis, Zone::Required, Excess::CutOff);
        assert_eq!(cut, Ok(1_644_078_029_123));
    }

    #[test]
    fn the_zone_is_required_or_forbidden() {
        let local = |text| read_timestamp(text, Millis, Zone::Forbidden, Excess::Refused);
        assert_eq!(local("1970-01-01T00:00:01"), Ok(1_000));
        assert_eq!(local("1970-01-01T00:00:01Z"), Err(HAS_ZONE));
        assert_eq!(stamp("1970-01-01T00:00:01", Millis), Err(NO_ZONE));
        let lax = |text| read_timestamp(text, Millis, Zone::UtcUnlessGiven, Excess::Refused);
        assert_eq!(lax("1970-01-01T00:00:01"), Ok(1_000));
        assert_eq!(lax("1970-01-01T00:00:01-01"), Ok(3_601_000));
    }

    #[test]
    fn times_stay_within_the_day() {
        let time = |text| read_time(text, Millis, Excess::Refused);
        assert_eq!(time("16:20:29.123"), Ok(58_829_123));
        assert_eq!(time("16:20:29.123Z"), Ok(58_829_123));
        assert_eq!(time("23:59"), Ok(86_340_000));
        assert_eq!(time("00:00:00.0001"), Err(Fault::Precision));
        for text in
            ["24:00:00", "16:20:60", "16", "16:2", "16:20:29+01:00", "T16:20:29", "16:20:29."]
        {
            assert!(matches!(time(text), Err(Fault::Form(_))), "{text}");
        }
    }

    #[test]
    fn durations_are_iso_8601() {
        let read = |text: &str| read_duration(text, Excess::Refused);
        for (text, parts) in [
            ("P1Y2M3W4DT5H6M7.008S", [14, 25, 18_367_008]),
            ("PT0S", [0, 0, 0]),
            ("P1M", [1, 0, 0]),
            ("PT1M", [0, 0, 60_000]),
            ("P4294967295M4294967295DT4294967.295S", [u32::MAX; 3]),
        ] {
            assert_eq!(read(text), Ok(parts), "{text}");
            let mut written = String::new();
            write_duration(parts, &mut written);
            assert_eq!(read(&written), Ok(parts), "{written}");
        }
        assert_eq!(read("P4294967296M"), Err(Fault::Range));
        assert_eq!(read("PT4294968S"), Err(Fault::Range));
        assert_eq!(read("PT0.0001S"), Err(Fault::Precision));
        for text in [
            "", "P", "PT", "P1", "1D", "P-1D", "P1D1M", "P1DT", "P1.5D", "PT1S1H", "P1D1D", "p1d",
            "PTT1S", "P1H",
        ] {
            assert!(matches!(read(text), Err(Fault::Form(_))), "{text}");
        }
    }

    #[test]
    fn timestamps_come_back_at_every_unit() {
        for units in [0, -1, 1, 1_644_078_029_123_456_789, -62_135_596_800_000, i64::MIN, i64::MAX]
        {
            for unit in [Millis, Micros, Nanos] {
                let mut text = String::new();
                if write_timestamp(units, unit, &mut text) {
                    let zone = Zone::UtcUnlessGiven;
                    assert_eq!(
                        read_timestamp(&text, unit, zone, Excess::Refused),
                        Ok(units),
                        "{text}"
                    );
                }
            }
        }
    }
}
