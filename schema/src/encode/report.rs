//! From a value that does not fit to an [`EncodeError`]: text is made only for errors that are
//! kept.

use crate::encode::error::{ERRORS_MAX, EncodeError, EncodeErrorKind};
use crate::encode::path::Path;
use crate::encode::plan::PlanNode;
use crate::encode::run::{Encoder, Read};
use crate::json::{Fault, Kind};

/// Characters of a value that an error shows.
const VALUE_CHARS_MAX: usize = 40;

impl EncodeError {
    pub(super) fn not_json(fault: Fault) -> Self {
        let Fault { offset, what } = fault;
        EncodeError {
            kind: EncodeErrorKind::InvalidJson,
            pointer: String::new(),
            expected: "JSON".to_owned(),
            actual: format!("{what} at byte {offset}"),
            actual_kind: "invalid JSON",
            hint: None,
        }
    }
}

impl Encoder<'_, '_> {
    /// A value of the wrong kind: says so and skips it.
    pub(super) fn mismatch(&mut self, node: &PlanNode, kind: Kind, path: &Path<'_>) -> Read {
        let start = self.cursor.pos;
        self.cursor.skip_value()?;
        let error = match kind {
            Kind::Null => EncodeErrorKind::NullNotAllowed,
            _ => EncodeErrorKind::TypeMismatch,
        };
        self.report(error, path, node, kind, start, None)
    }

    /// A value of kind `kind` that stands from `start` to the cursor does not fit `node`.
    pub(super) fn report(
        &mut self,
        error: EncodeErrorKind,
        path: &Path<'_>,
        node: &PlanNode,
        kind: Kind,
        start: usize,
        hint: Option<String>,
    ) -> Read {
        let expected = if self.keeps_errors() { self.expected(node, path) } else { String::new() };
        self.report_as(error, path, expected, kind.name(), start, hint);
        Ok(())
    }

    pub(super) fn report_as(
        &mut self,
        kind: EncodeErrorKind,
        path: &Path<'_>,
        expected: String,
        actual_kind: &'static str,
        start: usize,
        hint: Option<String>,
    ) {
        self.error_count += 1;
        if !self.keeps_errors() {
            return;
        }
        let value = shortened(self.cursor.span(start, self.cursor.pos));
        let actual = match actual_kind {
            "null" | "nothing" => actual_kind.to_owned(),
            kind => format!("{kind} {value}"),
        };
        let pointer = path.pointer(&self.cursor);
        self.errors.push(EncodeError { kind, pointer, expected, actual, actual_kind, hint });
    }

    /// Whether an error will be shown; if not, its texts need not be made.
    pub(super) fn keeps_errors(&self) -> bool {
        self.trials == 0 && self.errors.len() < ERRORS_MAX
    }

    /// `int (field qty of shop.v1.Line)`.
    pub(super) fn expected(&self, node: &PlanNode, path: &Path<'_>) -> String {
        with_place(&node.label, path)
    }
}

pub(super) fn with_place(what: &str, path: &Path<'_>) -> String {
    match path.schema_place() {
        Some(place) => format!("{what} ({place})"),
        None => what.to_owned(),
    }
}

fn shortened(value: &str) -> String {
    match value.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    }
}
