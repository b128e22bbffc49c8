//! JSON text in, Avro bytes out, in one pass and with no tree of values between.
//!
//! A [`Plan`] is compiled once per schema. Encoding walks the text with the plan in hand: each
//! value is written as it is read. Fields may come in any order; those out of schema order are
//! written where they come and moved into place when the record ends. What the text leaves out
//! takes its default, encoded when the plan was compiled. Nothing is allocated for a payload
//! without errors once a thread's buffers have grown.
//!
//! Nothing is guessed and nothing is lost in silence: numbers are exact, what does not fit is an
//! error with its place, and a payload with an error yields no bytes.

mod error;
mod options;
mod path;
mod plan;
mod record;
mod report;
mod run;
mod scalar;
mod union;

pub use error::{ERRORS_MAX, EncodeError, EncodeErrorKind, EncodeErrors};
pub use options::{BytesText, DEPTH_MAX, EncodeOptions, UnknownFields};
pub use plan::{Plan, PlanError};
pub(crate) use plan::{Shape, UnionPlan};

use crate::json::Cursor;
use path::Path;

impl Plan {
    /// Appends the Avro form of one JSON text to `out`. On error `out` is as it was.
    ///
    /// Errors are collected, up to [`ERRORS_MAX`]; of a text that is not JSON only that is said.
    pub fn encode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), EncodeErrors> {
        self.encode_node(self.root, json, out)
    }

    /// Encodes a text as one of the plan's types.
    pub(crate) fn encode_node(
        &self,
        node: u32,
        json: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeErrors> {
        let start = out.len();
        let mut encoder = run::Encoder::new(self, Cursor::new(json), out);
        let read = encoder.value(node, &Path::root()).and_then(|()| encoder.cursor.end());
        let result = encoder.finish(read);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }
}
