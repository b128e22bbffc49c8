//! A record and an event type in, the typed event out.
//!
//! A value that starts with the byte 0 is framed Avro: it is read by the writer's schema, resolved
//! to the reader's by the rules of Avro, and handed to serde. Anything else is read as JSON, which
//! never starts with that byte. Errors tell types and names, never values (I12).

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use serde_json::error::Category;
use walpost_schema::wire::{self, WireError};

use crate::handler::{Event, SchemaFault, WriterSchemas};
use crate::message::Record;

/// Writer schemas that are kept; more are asked for again.
const WRITERS_MAX: usize = 1_000;

/// An event, decoded for its handler.
pub(crate) type Prepared = Box<dyn Any + Send>;

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's text says what it is")]
pub enum DecodeError {
    #[error("value has no readable frame")]
    Frame(#[from] WireError),
    #[error("no writer schema")]
    Schema(#[from] SchemaFault),
    #[error("reader schema of {event_type} does not parse: {reason}")]
    ReaderSchema { event_type: &'static str, reason: String },
    #[error("body is not a datum of schema {id}")]
    Body { id: u32 },
    #[error("body has {left} bytes behind a datum of schema {id}")]
    BytesLeft { id: u32, left: usize },
    #[error("schema {id} does not resolve to the reader schema of {event_type}")]
    Resolution { id: u32, event_type: &'static str },
    #[error("datum of schema {id} does not fit the type of {event_type}")]
    Shape { id: u32, event_type: &'static str },
    #[error("value is not JSON (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error("JSON value does not fit the type of {event_type} (line {line}, column {column})")]
    JsonShape { event_type: &'static str, line: usize, column: usize },
}

impl DecodeError {
    /// Whether it is worth asking again, and no attempt.
    ///
    /// ```
    /// use walpost_inbox::{DecodeError, SchemaFault};
    /// let away = SchemaFault::Away { reason: "connection refused".into() };
    /// assert!(DecodeError::from(away).is_away());
    /// ```
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Schema(SchemaFault::Away { .. }))
    }
}

/// Decodes one type of event.
pub(crate) struct Decoder<E> {
    reader: Option<Result<Schema, String>>,
    writers: Mutex<HashMap<u32, Arc<Schema>>>,
    _event: std::marker::PhantomData<fn() -> E>,
}

impl<E: Event> Decoder<E> {
    pub(crate) fn new() -> Self {
        let parse = |text| Schema::parse_str(text).map_err(|error| error.to_string());
        let reader = E::SCHEMA.map(parse);
        Self { reader, writers: Mutex::default(), _event: std::marker::PhantomData }
    }

    /// What is wrong with the reader schema, to be said at the start.
    pub(crate) fn fault(&self) -> Option<DecodeError> {
        let reason = self.reader.as_ref()?.as_ref().err()?.clone();
        Some(DecodeError::ReaderSchema { event_type: E::TYPE, reason })
    }

    /// Cancellation-safe.
    pub(crate) async fn decode(
        &self,
        record: &Record,
        schemas: &dyn WriterSchemas,
    ) -> Result<E, DecodeError> {
        let value = record.value.as_deref().unwrap_or_default();
        if value.first() != Some(&0) {
            return json(value);
        }
        let (id, body) = wire::decode(value)?;
        let writer = self.writer(id.0, schemas).await?;
        self.avro(id.0, &writer, body)
    }

    async fn writer(
        &self,
        id: u32,
        schemas: &dyn WriterSchemas,
    ) -> Result<Arc<Schema>, SchemaFault> {
        if let Some(known) = self.known().get(&id) {
            return Ok(Arc::clone(known));
        }
        let found = schemas.schema(id).await?;
        let mut known = self.known();
        if known.len() >= WRITERS_MAX {
            known.clear();
        }
        known.insert(id, Arc::clone(&found));
        Ok(found)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<Schema>>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn avro(&self, id: u32, writer: &Schema, mut body: &[u8]) -> Result<E, DecodeError> {
        let bad_body = |_| DecodeError::Body { id };
        let reader = GenericDatumReader::builder(writer).build().map_err(bad_body)?;
        let mut value = reader.read_value(&mut body).map_err(bad_body)?;
        if !body.is_empty() {
            return Err(DecodeError::BytesLeft { id, left: body.len() });
        }
        if let Some(schema) = &self.reader {
            let reason = |reason: &String| reason.clone();
            let schema = schema
                .as_ref()
                .map_err(reason)
                .map_err(|reason| DecodeError::ReaderSchema { event_type: E::TYPE, reason })?;
            let unresolved = |_| DecodeError::Resolution { id, event_type: E::TYPE };
            value = value.resolve(schema).map_err(unresolved)?;
        }
        apache_avro::from_value(&value).map_err(|_| DecodeError::Shape { id, event_type: E::TYPE })
    }
}

fn json<E: Event>(value: &[u8]) -> Result<E, DecodeError> {
    serde_json::from_slice(value).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            Category::Data => DecodeError::JsonShape { event_type: E::TYPE, line, column },
            _ => DecodeError::NotJson { line, column },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::FixedSchemas;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Moved {
        account: String,
        amount: i64,
        note: Option<String>,
    }

    impl Event for Moved {
        const TYPE: &'static str = "bank.Moved";
        const SCHEMA: Option<&'static str> = Some(
            r#"{"type":"record","name":"Moved","namespace":"bank","fields":[
                {"name":"account","type":"string"},
                {"name":"amount","type":"long","aliases":["sum"]},
                {"name":"note","type":["null","string"],"default":null}]}"#,
        );
    }

    const WRITER: &str = r#"{"type":"record","name":"Moved","namespace":"bank","fields":[
        {"name":"account","type":"string"},{"name":"extra","type":"int"},
        {"name":"amount","type":"int"}]}"#;

    fn decode(value: &[u8]) -> Result<Moved, DecodeError> {
        let record = Record {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            time_ms: None,
            key: None,
            value: Some(value.to_vec()),
            headers: Vec::new(),
        };
        let schemas = FixedSchemas::try_new([(1, WRITER), (2, r#""string""#)]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Decoder::<Moved>::new().decode(&record, &schemas))
    }

    #[test]
    fn a_writer_with_another_order_a_field_more_and_one_less_is_read() {
        // account "a-1", extra 7, amount 5 as an int that is promoted.
        let moved = decode(b"\0\0\0\0\x01\x06a-1\x0e\x0a").unwrap();
        assert_eq!(moved, Moved { account: "a-1".into(), amount: 5, note: None });
    }

    #[test]
    fn json_is_told_by_its_first_byte() {
        let moved = decode(br#"{"account": "a", "amount": 3, "later": true}"#).unwrap();
        assert_eq!((moved.amount, moved.note), (3, None));
    }

    #[test]
    fn what_cannot_be_read_is_named_without_its_content() {
        for (value, said) in [
            (&b"\0\0"[..], "value has no readable frame"),
            (b"\0\0\0\0\x09x", "no writer schema"),
            (b"\0\0\0\0\x01\x06c4n", "body is not a datum of schema 1"),
            (b"\0\0\0\0\x01\x06a-1\x0e\x0a\x0a", "body has 1 bytes behind a datum of schema 1"),
            (
                b"\0\0\0\0\x02\x06c4n",
                "schema 2 does not resolve to the reader schema of bank.Moved",
            ),
            (b"c4n4ry", "value is not JSON (line 1, column 1)"),
            (b"", "value is not JSON (line 1, column 0)"),
            (
                br#"{"account": 5}"#,
                "JSON value does not fit the type of bank.Moved (line 1, column 13)",
            ),
        ] {
            assert_eq!(decode(value).unwrap_err().to_string(), said, "{value:?}");
        }
    }
}
