//! A row of the outbox table, or a logical message with our prefix, in; an [`OutboxEvent`] out.
//! Pure.
//!
//! Columns are found by name in the relation message that precedes the rows, never by position, so
//! a table that changes while the relay runs is followed. The table itself is bound by its object
//! id: a rename, a table dropped and made again, or a partition that arrives by itself is refused
//! by name, because rows would be missed without a trace.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use walpost_schema::envelope::EventPosition;

use crate::decode::{Cell, Oid, PostgresMicros, Relation, Tuple};
use crate::limits;
use crate::park::{RawPayload, RawRow};
use crate::transaction::OpenTransaction;

/// The prefix of `pg_logical_emit_message` that makes a message an event.
pub const MESSAGE_PREFIX: &str = "walpost";

/// The table's name, its columns and what the catalog said about it when the source connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxTable {
    /// The object id the name stood for.
    pub oid: Oid,
    /// Schema of the table.
    pub namespace: String,
    /// The table.
    pub name: String,
    /// Its partitions, where it has some: they must never arrive by themselves.
    pub partitions: HashSet<Oid>,
    /// Whether it is partitioned.
    pub is_partitioned: bool,
    /// What its columns are called.
    pub columns: ColumnNames,
}

/// What the columns of the outbox table are called (`[source.outbox].columns`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnNames {
    /// The event id.
    pub id: String,
    /// The kind of thing that changed.
    pub aggregate_type: String,
    /// Which one of them: the record's key.
    pub aggregate_id: String,
    /// What happened: names the schema.
    pub event_type: String,
    /// The event's content; NULL is a tombstone.
    pub payload: String,
    /// Header names and values as a JSON object.
    pub headers: OptionalColumn,
    /// The version of the writer's schema.
    pub schema_version: OptionalColumn,
    /// When the writer made the event.
    pub created_at: OptionalColumn,
}

/// A column that a table may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalColumn {
    /// Its name.
    pub name: String,
    /// Whether the configuration names it: then it must exist.
    pub is_demanded: bool,
}

/// Why a row or a table cannot be used. Which of these concern one event and which the whole
/// source is decided in `error.rs`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The table lacks a column.
    #[error("outbox table \"{table}\" has no column \"{column}\"")]
    ColumnMissing {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The column has a type that cannot hold what it should.
    #[error("column \"{column}\" of outbox table \"{table}\" must be {expected}, it is {found}")]
    ColumnType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The types that would do.
        expected: &'static str,
        /// The type it has.
        found: String,
    },
    /// The bound table arrives under another name.
    #[error("outbox table \"{bound}\" was renamed to \"{found}\"")]
    Renamed {
        /// The configured name.
        bound: String,
        /// The name in the stream.
        found: String,
    },
    /// The bound name arrives with another object id.
    #[error("outbox table \"{table}\" was dropped and made again (oid {bound} became {found})")]
    Replaced {
        /// The table.
        table: String,
        /// The object id it had.
        bound: u32,
        /// The object id it has.
        found: u32,
    },
    /// A partition's rows arrive under the partition's own name.
    #[error("partition \"{partition}\" of outbox table \"{table}\" arrives by itself")]
    PartitionAlone {
        /// The root.
        table: String,
        /// The partition.
        partition: String,
    },
    /// A row came before the description of its table.
    #[error("a row of table {oid} came before its description")]
    Undescribed {
        /// The table.
        oid: u32,
    },
    /// A row does not have the cells that its table was described with.
    #[error("a row of outbox table \"{table}\" has {found} cells, its description {expected}")]
    Width {
        /// The table.
        table: String,
        /// Columns described.
        expected: usize,
        /// Cells found.
        found: usize,
    },
    /// A cell in a form that is never asked for.
    #[error("column \"{column}\" arrives in a form that was not asked for")]
    CellForm {
        /// The column.
        column: String,
    },
    /// Bytes that are not UTF-8 in a text column.
    #[error("column \"{column}\" is not utf-8")]
    NotUtf8 {
        /// The column.
        column: String,
    },
    /// NULL where an event must have a value.
    #[error("column \"{column}\" is null")]
    Null {
        /// The column.
        column: String,
    },
    /// `schema_version` is no positive number.
    #[error("schema_version is {found}, versions count from 1")]
    SchemaVersion {
        /// What it is.
        found: String,
    },
    /// A row above what is taken from the stream; its content was not read.
    #[error("the row has {bytes} bytes, more than is taken from the stream")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The content of a logical message with our prefix is not the agreed JSON.
    #[error("logical message with prefix \"walpost\" is not an event: {reason}")]
    Message {
        /// The parser's reason, which names fields and places, never values.
        reason: String,
    },
}

/// An event as the writer made it. Borrows from the frame where it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent<'a> {
    /// Its place in the order of all events of the source.
    pub position: EventPosition,
    /// When its transaction committed.
    pub commit_time: PostgresMicros,
    /// The event id, copied as it is (I9).
    pub id: Cow<'a, str>,
    /// The kind of thing that changed.
    pub aggregate_type: Cow<'a, str>,
    /// Which one: the record's key.
    pub aggregate_id: Cow<'a, str>,
    /// What happened.
    pub event_type: Cow<'a, str>,
    /// The content.
    pub payload: Payload<'a>,
    /// The row's own headers, a JSON object as text.
    pub headers: Option<Cow<'a, str>>,
    /// The writer's schema version, where the row names it.
    pub schema_version: Option<u32>,
    /// When the writer made the event, as PostgreSQL prints a timestamptz in UTC.
    pub created_at: Option<Cow<'a, str>>,
}

/// The content of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload<'a> {
    /// NULL: the record has no value.
    Tombstone,
    /// json or jsonb: valid JSON, the server has seen to it.
    Json(Cow<'a, str>),
    /// text or varchar: anything.
    Text(Cow<'a, str>),
    /// bytea in PostgreSQL's hex form, with its leading `\x`.
    Hex(&'a str),
}

/// What a relation message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// The outbox table.
    Outbox,
    /// Another table of the publication: its rows are counted and passed.
    Other,
}

const SLOTS: usize = 8;
const ID: usize = 0;
const AGGREGATE_TYPE: usize = 1;
const AGGREGATE_ID: usize = 2;
const EVENT_TYPE: usize = 3;
const PAYLOAD: usize = 4;
const HEADERS: usize = 5;
const SCHEMA_VERSION: usize = 6;
const CREATED_AT: usize = 7;

/// Turns rows and messages into events: the bound table and its latest description.
#[derive(Debug)]
pub struct EventReader {
    table: OutboxTable,
    layout: Option<Layout>,
    /// Partitions that were described, by their names. With the root published the server describes
    /// the partition as well; a row under its own id means that the root is not published any more.
    partitions: HashMap<Oid, String>,
}

/// Which cell of a row is which field.
#[derive(Debug)]
struct Layout {
    width: usize,
    /// For each column of the table, the field it fills.
    fields: Vec<Option<usize>>,
    payload: PayloadKind,
}

/// What a payload column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PayloadKind {
    Json,
    Text,
    Bytea,
}

impl EventReader {
    /// Binds the table.
    pub fn new(table: OutboxTable) -> Self {
        Self { table, layout: None, partitions: HashMap::new() }
    }

    /// The object id of the outbox table.
    pub fn oid(&self) -> Oid {
        self.table.oid
    }

    /// A table's description arrived: ours is checked and remembered.
    pub fn describe(&mut self, relation: &Relation<'_>) -> Result<RelationKind, EventError> {
        let table = &self.table;
        let has_our_name = relation.namespace == table.namespace && relation.name == table.name;
        if relation.oid == table.oid {
            if !has_our_name {
                let found = format!("{}.{}", relation.namespace, relation.name);
                return Err(EventError::Renamed { bound: table.full_name(), found });
            }
            self.layout = Some(Layout::try_new(table, relation)?);
            return Ok(RelationKind::Outbox);
        }
        if has_our_name {
            return Err(EventError::Replaced {
                table: table.full_name(),
                bound: table.oid.0,
                found: relation.oid.0,
            });
        }
        if table.partitions.contains(&relation.oid) || table.looks_like_a_partition(relation) {
            let partition = format!("{}.{}", relation.namespace, relation.name);
            if self.partitions.len() >= limits::PARTITIONS_MAX {
                self.partitions.clear();
            }
            self.partitions.insert(relation.oid, partition);
        }
        Ok(RelationKind::Other)
    }

    /// A row of another table than the outbox: fine, unless it is a partition of the outbox.
    pub fn pass_row(&self, relation: Oid) -> Result<(), EventError> {
        match self.partitions.get(&relation) {
            None if !self.table.partitions.contains(&relation) => Ok(()),
            name => Err(EventError::PartitionAlone {
                table: self.table.full_name(),
                partition: name.cloned().unwrap_or_else(|| format!("oid {}", relation.0)),
            }),
        }
    }

    /// What can be read of a row that is set aside. One with a value left out keeps no content: it
    /// would be another event without it.
    pub fn raw_row(&self, row: Tuple<'_>) -> RawRow {
        let mut raw = RawRow::only(RawPayload::Tombstone);
        let Some(layout) = &self.layout else { return raw };
        let mut is_cut = false;
        for (cell, field) in row.cells().zip(&layout.fields) {
            is_cut |= field.is_some() && cell == Cell::Unchanged;
            let (Some(field), Cell::Text(bytes)) = (*field, cell) else { continue };
            let Ok(text) = std::str::from_utf8(bytes) else {
                raw.unreadable.get_or_insert_with(|| self.table.column_name(field));
                continue;
            };
            let text = text.to_owned();
            match field {
                ID => raw.id = Some(text),
                AGGREGATE_TYPE => raw.aggregate_type = Some(text),
                AGGREGATE_ID => raw.aggregate_id = Some(text),
                EVENT_TYPE => raw.event_type = Some(text),
                PAYLOAD => {
                    raw.payload = match layout.payload {
                        PayloadKind::Json => RawPayload::Json(text),
                        PayloadKind::Text => RawPayload::Text(text),
                        PayloadKind::Bytea => RawPayload::Hex(text),
                    }
                }
                HEADERS => raw.headers = Some(text),
                SCHEMA_VERSION => raw.schema_version = Some(text),
                _ => raw.created_at = Some(text),
            }
        }
        if let Some(bytes) = row.size_before().filter(|_| is_cut) {
            raw.payload = RawPayload::Absent { bytes };
        }
        raw
    }

    /// A row of the outbox table.
    pub fn read_row<'a>(
        &self,
        row: Tuple<'a>,
        transaction: OpenTransaction,
    ) -> Result<OutboxEvent<'a>, EventError> {
        let undescribed = EventError::Undescribed { oid: self.table.oid.0 };
        let layout = self.layout.as_ref().ok_or(undescribed)?;
        if row.width() != layout.width {
            return Err(EventError::Width {
                table: self.table.full_name(),
                expected: layout.width,
                found: row.width(),
            });
        }
        let mut slots: [Option<&'a str>; SLOTS] = [None; SLOTS];
        for (cell, field) in row.cells().zip(&layout.fields) {
            let Some(field) = *field else { continue };
            let bytes = match cell {
                Cell::Null => continue,
                Cell::Text(bytes) => bytes,
                Cell::Unchanged | Cell::Binary(_) => {
                    let column = self.table.column_name(field);
                    return Err(match row.size_before() {
                        Some(bytes) => EventError::TooLarge { bytes },
                        None => EventError::CellForm { column },
                    });
                }
            };
            let text = std::str::from_utf8(bytes)
                .map_err(|_| EventError::NotUtf8 { column: self.table.column_name(field) })?;
            if let Some(slot) = slots.get_mut(field) {
                *slot = Some(text);
            }
        }
        let demand = |field: usize| {
            slots[field]
                .map(Cow::Borrowed)
                .ok_or_else(|| EventError::Null { column: self.table.column_name(field) })
        };
        Ok(OutboxEvent {
            position: transaction.next_position(),
            commit_time: transaction.time,
            id: demand(ID)?,
            aggregate_type: demand(AGGREGATE_TYPE)?,
            aggregate_id: demand(AGGREGATE_ID)?,
            event_type: demand(EVENT_TYPE)?,
            payload: match (slots[PAYLOAD], layout.payload) {
                (None, _) => Payload::Tombstone,
                (Some(text), PayloadKind::Json) => Payload::Json(Cow::Borrowed(text)),
                (Some(text), PayloadKind::Text) => Payload::Text(Cow::Borrowed(text)),
                (Some(text), PayloadKind::Bytea) => Payload::Hex(text),
            },
            headers: slots[HEADERS].map(Cow::Borrowed),
            schema_version: slots[SCHEMA_VERSION].map(version_of).transpose()?,
            created_at: slots[CREATED_AT].map(Cow::Borrowed),
        })
    }
}

/// What can be read of a message that is set aside: the whole of it, and, where it is JSON, whose
/// event it is, so that later ones queue behind it.
pub fn raw_message(content: &[u8]) -> RawRow {
    let mut raw = RawRow::only(RawPayload::Message(content.to_vec()));
    let owner = serde_json::from_slice::<MessageOwner<'_>>(content).unwrap_or_default();
    raw.id = owner.id.map(Cow::into_owned);
    raw.aggregate_type = owner.aggregate_type.map(Cow::into_owned);
    raw.aggregate_id = owner.aggregate_id.map(Cow::into_owned);
    raw.event_type = owner.event_type.map(Cow::into_owned);
    raw
}

/// The names in a message that is no event, as far as they are texts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MessageOwner<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    aggregate_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    aggregate_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_type: Option<Cow<'a, str>>,
}

/// A transactional logical message with our prefix.
pub fn read_message(
    content: &[u8],
    position: EventPosition,
    commit_time: PostgresMicros,
) -> Result<OutboxEvent<'_>, EventError> {
    let refuse = |error: serde_json::Error| EventError::Message {
        reason: format!("line {} column {}: {}", error.line(), error.column(), kind_of(&error)),
    };
    let message: EmittedEvent<'_> = serde_json::from_slice(content).map_err(refuse)?;
    let schema_version = match message.schema_version {
        Some(number) => Some(version_from_number(number)?),
        None => None,
    };
    Ok(OutboxEvent {
        position,
        commit_time,
        id: message.id,
        aggregate_type: message.aggregate_type,
        aggregate_id: message.aggregate_id,
        event_type: message.event_type,
        payload: match message.payload.get() {
            "null" => Payload::Tombstone,
            text => Payload::Json(Cow::Borrowed(text)),
        },
        headers: message
            .headers
            .map(|raw| raw.get())
            .filter(|text| *text != "null")
            .map(Cow::Borrowed),
        schema_version,
        created_at: message.created_at.map(Cow::Owned),
    })
}

/// The content of a logical message. A misspelt field is an error and not silence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmittedEvent<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    aggregate_type: Cow<'a, str>,
    #[serde(borrow)]
    aggregate_id: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
    #[serde(default)]
    schema_version: Option<i64>,
    #[serde(default)]
    created_at: Option<String>,
}

/// serde quotes values in some of its messages; the category and the field names suffice here.
fn kind_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match error.classify() {
        serde_json::error::Category::Data
            if text.starts_with("missing field") || text.starts_with("unknown field") =>
        {
            text.split(" at line").next().unwrap_or("").to_owned()
        }
        serde_json::error::Category::Data => "a field has the wrong type".to_owned(),
        serde_json::error::Category::Eof => "the text ends early".to_owned(),
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
            "not valid json".to_owned()
        }
    }
}

/// A schema version as a row has it.
pub(crate) fn version_of(text: &str) -> Result<u32, EventError> {
    let number = text.parse::<i64>();
    number.map_or_else(
        |_| Err(EventError::SchemaVersion { found: "not a number".to_owned() }),
        version_from_number,
    )
}

fn version_from_number(number: i64) -> Result<u32, EventError> {
    let version = u32::try_from(number).ok().filter(|version| *version > 0);
    version.ok_or_else(|| EventError::SchemaVersion { found: number.to_string() })
}

impl OutboxTable {
    /// Schema and name, for people.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    fn column_name(&self, field: usize) -> String {
        let columns = self.columns.in_field_order();
        columns.get(field).map_or_else(String::new, |(name, _)| (*name).to_owned())
    }

    /// A partition made after the source connected is not among the known ones: it shows by having
    /// every required column of a partitioned outbox table.
    fn looks_like_a_partition(&self, relation: &Relation<'_>) -> bool {
        let has = |name: &str| relation.columns.iter().any(|column| column.name == name);
        let required = self.columns.in_field_order().into_iter().filter(|(_, demanded)| *demanded);
        self.is_partitioned && required.into_iter().all(|(name, _)| has(name))
    }
}

impl ColumnNames {
    /// Name and whether the table must have it, in the order of the fields above.
    pub fn in_field_order(&self) -> [(&str, bool); SLOTS] {
        let optional = |column: &'_ OptionalColumn| column.is_demanded;
        [
            (&self.id, true),
            (&self.aggregate_type, true),
            (&self.aggregate_id, true),
            (&self.event_type, true),
            (&self.payload, true),
            (&self.headers.name, optional(&self.headers)),
            (&self.schema_version.name, optional(&self.schema_version)),
            (&self.created_at.name, optional(&self.created_at)),
        ]
    }
}

/// Object ids of built-in types, `pg_type.dat` of PostgreSQL; they never change.
mod types {
    pub(super) const BYTEA: u32 = 17;
    pub(super) const NAME: u32 = 19;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const JSON: u32 = 114;
    pub(super) const BPCHAR: u32 = 1042;
    pub(super) const VARCHAR: u32 = 1043;
    pub(super) const TIMESTAMPTZ: u32 = 1184;
    pub(super) const UUID: u32 = 2950;
    pub(super) const JSONB: u32 = 3802;
    /// From here on types are made by users: domains and enums print as text.
    pub(super) const FIRST_OF_USERS: u32 = 16_384;
}

/// The types that a field may have, as people read them and as a rule.
fn accepted_types(field: usize) -> (&'static str, fn(u32) -> bool) {
    use types::{
        BPCHAR, BYTEA, FIRST_OF_USERS, INT2, INT4, INT8, JSON, JSONB, NAME, TEXT, TIMESTAMPTZ,
        UUID, VARCHAR,
    };
    match field {
        ID => ("uuid, text or varchar", |oid| matches!(oid, UUID | TEXT | VARCHAR)),
        AGGREGATE_TYPE | EVENT_TYPE => ("text, varchar or an enum", |oid| {
            matches!(oid, TEXT | VARCHAR | BPCHAR | NAME) || oid >= FIRST_OF_USERS
        }),
        AGGREGATE_ID => ("text, varchar, uuid or an integer", |oid| {
            matches!(oid, TEXT | VARCHAR | BPCHAR | NAME | UUID | INT2 | INT4 | INT8)
                || oid >= FIRST_OF_USERS
        }),
        PAYLOAD => ("jsonb, json, text, varchar or bytea", |oid| {
            matches!(oid, JSONB | JSON | TEXT | VARCHAR | BYTEA)
        }),
        HEADERS => {
            ("jsonb, json, text or varchar", |oid| matches!(oid, JSONB | JSON | TEXT | VARCHAR))
        }
        SCHEMA_VERSION => ("an integer", |oid| matches!(oid, INT2 | INT4 | INT8)),
        _ => ("timestamptz", |oid| oid == TIMESTAMPTZ),
    }
}

/// Checks a column's type for the field it fills, with the names of both sides for the error.
pub fn check_column_type(
    table: &OutboxTable,
    field: usize,
    type_oid: Oid,
    type_name: &str,
) -> Result<(), EventError> {
    let (expected, accepts) = accepted_types(field);
    if accepts(type_oid.0) {
        return Ok(());
    }
    Err(EventError::ColumnType {
        table: table.full_name(),
        column: table.column_name(field),
        expected,
        found: type_name.to_owned(),
    })
}

impl Layout {
    fn try_new(table: &OutboxTable, relation: &Relation<'_>) -> Result<Self, EventError> {
        let names = table.columns.in_field_order();
        let mut fields = vec![None; relation.columns.len()];
        let mut payload = PayloadKind::Text;
        for (field, (name, is_demanded)) in names.into_iter().enumerate() {
            let found = relation.columns.iter().position(|column| column.name == name);
            let Some(index) = found else {
                if is_demanded {
                    let (table, column) = (table.full_name(), name.to_owned());
                    return Err(EventError::ColumnMissing { table, column });
                }
                continue;
            };
            let type_oid = relation.columns.get(index).map_or(Oid(0), |column| column.type_oid);
            check_column_type(table, field, type_oid, &format!("type {}", type_oid.0))?;
            if field == PAYLOAD {
                payload = match type_oid.0 {
                    types::BYTEA => PayloadKind::Bytea,
                    types::JSON | types::JSONB => PayloadKind::Json,
                    _ => PayloadKind::Text,
                };
            }
            if let Some(slot) = fields.get_mut(index) {
                *slot = Some(field);
            }
        }
        Ok(Self { width: relation.columns.len(), fields, payload })
    }
}

impl Default for ColumnNames {
    /// The columns of the table that `walpost init` makes.
    fn default() -> Self {
        let optional = |name: &str| OptionalColumn { name: name.to_owned(), is_demanded: false };
        Self {
            id: "id".to_owned(),
            aggregate_type: "aggregate_type".to_owned(),
            aggregate_id: "aggregate_id".to_owned(),
            event_type: "event_type".to_owned(),
            payload: "payload".to_owned(),
            headers: optional("headers"),
            schema_version: optional("schema_version"),
            created_at: optional("created_at"),
        }
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
