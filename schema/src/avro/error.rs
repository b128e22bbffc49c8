//! Why a text is not a schema, and where.

use crate::avro::Place;

/// A text that is not an Avro schema: the fault and the place it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {fault}", place.line, place.column)]
pub struct SchemaError {
    fault: Box<SchemaFault>,
    place: Box<Place>,
}

impl SchemaError {
    pub(crate) fn new(fault: SchemaFault, place: Place) -> Self {
        SchemaError { fault: Box::new(fault), place: Box::new(place) }
    }

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> &SchemaFault {
        &self.fault
    }

    /// Where in the text. The pointer is empty when the text is not JSON.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }
}

/// What makes a text no Avro schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's text says what it is")]
pub enum SchemaFault {
    #[error("not JSON: {what}")]
    NotJson { what: &'static str },
    #[error("schema text has {bytes} bytes, more than {}", crate::avro::SCHEMA_BYTES_MAX)]
    TooLarge { bytes: usize },
    #[error("schema is nested deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("a schema is a name, an object or an array, not {found}")]
    NotASchema { found: &'static str },
    #[error("{object} has no {key:?}")]
    Missing { object: &'static str, key: &'static str },
    #[error("{key:?} of {object} must be {expected}, not {found}")]
    WrongKind {
        object: &'static str,
        key: &'static str,
        expected: &'static str,
        found: &'static str,
    },
    #[error("bad name {name:?}: a name is letters, digits and _, and does not start with a digit")]
    BadName { name: String },
    #[error("named type {name:?} has the name of a primitive type")]
    PrimitiveName { name: String },
    #[error("unknown type {name:?}")]
    UnknownType { name: String },
    #[error("type {name:?} is defined twice")]
    Redefined { name: String },
    #[error("record {record} has two fields named {field:?}")]
    DuplicateField { record: String, field: String },
    #[error("enum {name} has symbol {symbol:?} twice")]
    DuplicateSymbol { name: String, symbol: String },
    #[error("default {symbol:?} of enum {name} is not one of its symbols")]
    BadEnumDefault { name: String, symbol: String },
    #[error("size of fixed {name} must be a whole number from 0 to 2147483647")]
    BadFixedSize { name: String },
    #[error("default {text:?} of field {field} is a text and no number")]
    BadNumber { field: String, text: String },
    #[error("order {order:?} is none of ascending, descending, ignore")]
    BadOrder { order: String },
    #[error("a union directly inside a union")]
    NestedUnion,
    #[error("union has branch {branch} twice")]
    DuplicateBranch { branch: String },
}
