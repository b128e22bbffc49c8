//! What a payload can have wrong with it, and how it is said.

use std::fmt;

/// Errors kept of one payload; more are only counted.
pub const ERRORS_MAX: usize = 20;

/// The kind of an [`EncodeError`], a stable word for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the words say it")]
pub enum EncodeErrorKind {
    InvalidJson,
    TypeMismatch,
    OutOfRange,
    NotIntegral,
    MissingField,
    NullNotAllowed,
    UnknownField,
    DuplicateKey,
    UnknownSymbol,
    AmbiguousUnion,
    BadBytesEncoding,
    FixedLength,
    DecimalScale,
    DecimalPrecision,
    PrecisionLoss,
    DepthExceeded,
}

impl EncodeErrorKind {
    /// `out_of_range` and so on.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EncodeErrorKind::InvalidJson => "invalid_json",
            EncodeErrorKind::TypeMismatch => "type_mismatch",
            EncodeErrorKind::OutOfRange => "out_of_range",
            EncodeErrorKind::NotIntegral => "not_integral",
            EncodeErrorKind::MissingField => "missing_field",
            EncodeErrorKind::NullNotAllowed => "null_not_allowed",
            EncodeErrorKind::UnknownField => "unknown_field",
            EncodeErrorKind::DuplicateKey => "duplicate_key",
            EncodeErrorKind::UnknownSymbol => "unknown_symbol",
            EncodeErrorKind::AmbiguousUnion => "ambiguous_union",
            EncodeErrorKind::BadBytesEncoding => "bad_bytes_encoding",
            EncodeErrorKind::FixedLength => "fixed_length",
            EncodeErrorKind::DecimalScale => "decimal_scale",
            EncodeErrorKind::DecimalPrecision => "decimal_precision",
            EncodeErrorKind::PrecisionLoss => "precision_loss",
            EncodeErrorKind::DepthExceeded => "depth_exceeded",
        }
    }
}

impl fmt::Display for EncodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing wrong with a payload.
///
/// Its Display shows a piece of the payload. Logs must not: they print [`Self::redacted`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}, got {actual}{}", self.head(), self.tail())]
#[non_exhaustive]
pub struct EncodeError {
    /// What is wrong.
    pub kind: EncodeErrorKind,
    /// Where in the payload (RFC 6901). For a missing field, where it should be. Keys of maps and
    /// unknown fields come from the payload.
    pub pointer: String,
    /// The type and its place in the schema: `int (field qty of shop.v1.Line)`.
    pub expected: String,
    /// `actual_kind` and the value, shortened: `string "3"`.
    pub actual: String,
    /// The JSON kind alone, or `nothing` for what is absent.
    pub actual_kind: &'static str,
    /// What to do about it. Speaks of the schema only.
    pub hint: Option<String>,
}

impl EncodeError {
    fn head(&self) -> String {
        let place = if self.pointer.is_empty() { "/" } else { &self.pointer };
        format!("payload {place}: expected {}", self.expected)
    }

    fn tail(&self) -> String {
        self.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"))
    }

    /// The error without anything taken from the payload: where the schema says so, not the
    /// pointer, for its keys may be data.
    #[must_use]
    pub fn redacted(&self) -> String {
        format!(
            "{}: expected {}, got {}{}",
            self.kind,
            self.expected,
            self.actual_kind,
            self.tail()
        )
    }
}

/// Everything wrong with a payload, up to [`ERRORS_MAX`] in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeErrors {
    errors: Vec<EncodeError>,
    total: usize,
}

impl EncodeErrors {
    pub(crate) fn new(errors: Vec<EncodeError>, total: usize) -> Self {
        EncodeErrors { errors, total }
    }

    /// The errors kept, in the order of the payload; at least one.
    pub fn iter(&self) -> std::slice::Iter<'_, EncodeError> {
        self.errors.iter()
    }

    /// The errors kept.
    #[must_use]
    pub fn as_slice(&self) -> &[EncodeError] {
        &self.errors
    }

    /// How many there were, also those that were not kept.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// All errors without anything taken from the payload, for logs.
    #[must_use]
    pub fn redacted(&self) -> String {
        self.lines(self.errors.iter().map(EncodeError::redacted))
    }

    fn lines(&self, lines: impl Iterator<Item = String>) -> String {
        let mut text = lines.collect::<Vec<_>>().join("\n");
        let more = self.total.saturating_sub(self.errors.len());
        if more > 0 {
            text.push_str(&format!("\nand {more} more"));
        }
        text
    }
}

impl fmt::Display for EncodeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines(self.errors.iter().map(EncodeError::to_string)))
    }
}

impl std::error::Error for EncodeErrors {}

impl<'a> IntoIterator for &'a EncodeErrors {
    type Item = &'a EncodeError;
    type IntoIter = std::slice::Iter<'a, EncodeError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for EncodeErrors {
    type Item = EncodeError;
    type IntoIter = std::vec::IntoIter<EncodeError>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.into_iter()
    }
}
