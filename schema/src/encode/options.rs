//! The choices a subject may make; each default is the strict one.

/// How to read what plain JSON leaves open. Start from `EncodeOptions::default()`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodeOptions {
    /// Keys that are not fields of the record.
    pub unknown_fields: UnknownFields,
    /// How strings stand for bytes and fixed.
    pub bytes: BytesText,
    /// `"5"` is taken for a number, as JavaScript writes 64-bit integers.
    pub numeric_strings: bool,
    /// The strings `NaN`, `Infinity` and `-Infinity` are taken for float and double.
    pub special_floats: bool,
    /// A nullable field without default may be absent.
    pub absent_as_null: bool,
    /// An unknown symbol becomes the enum's default.
    pub enum_default_on_write: bool,
    /// A timestamp without a zone is in UTC.
    pub assume_utc: bool,
    /// Digits of a second below the unit are cut off.
    pub truncate_times: bool,
    /// Levels of objects and arrays a payload may have; at most 128.
    pub depth_max: usize,
}

/// What to do with keys that are not fields of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum UnknownFields {
    Refuse,
    Ignore,
}

/// How strings stand for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesText {
    /// RFC 4648 with padding.
    Base64,
    /// Pairs of hex digits.
    Hex,
    /// `\x` and pairs of hex digits, as PostgreSQL prints `bytea`.
    PostgresHex,
    /// One character up to U+00FF a byte, as in Avro's own JSON encoding.
    Latin1,
}

/// The most levels a payload may have: each takes stack while it is encoded.
pub const DEPTH_MAX: usize = 128;

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions {
            unknown_fields: UnknownFields::Refuse,
            bytes: BytesText::Base64,
            numeric_strings: false,
            special_floats: false,
            absent_as_null: false,
            enum_default_on_write: false,
            assume_utc: false,
            truncate_times: false,
            depth_max: DEPTH_MAX,
        }
    }
}
