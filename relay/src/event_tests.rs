//! Rows and messages become events, whatever the order of the columns; what cannot is named.

use super::*;
use crate::decode::tests::{insert, relation};
use crate::decode::{Message, decode};
use crate::lsn::{CommitLsn, Lsn};
use crate::transaction::Transactions;

const COLUMNS: [(&str, u32); 8] = [
    ("id", types::UUID),
    ("aggregate_type", types::TEXT),
    ("aggregate_id", types::TEXT),
    ("event_type", types::TEXT),
    ("payload", types::JSONB),
    ("headers", types::JSONB),
    ("schema_version", types::INT4),
    ("created_at", types::TIMESTAMPTZ),
];

fn table() -> OutboxTable {
    OutboxTable {
        oid: Oid(10),
        namespace: "public".to_owned(),
        name: "outbox".to_owned(),
        partitions: HashSet::from([Oid(11)]),
        is_partitioned: true,
        columns: ColumnNames::default(),
    }
}

fn open() -> OpenTransaction {
    let mut transactions = Transactions::new();
    transactions.begin(CommitLsn(Lsn(100)), PostgresMicros(0)).expect("begin");
    transactions.open("insert").expect("open")
}

fn describe(reader: &mut EventReader, bytes: &[u8]) -> Result<RelationKind, EventError> {
    match decode(bytes).expect("relation decodes") {
        Message::Relation(relation) => reader.describe(&relation),
        other => panic!("not a relation: {other:?}"),
    }
}

fn read(
    columns: &[(&str, u32)],
    cells: &[Option<&str>],
) -> Result<OutboxEvent<'static>, EventError> {
    let mut reader = EventReader::new(table());
    describe(&mut reader, &relation(10, ("public", "outbox"), columns))?;
    let bytes: &'static [u8] = insert(10, cells).leak();
    match decode(bytes).expect("insert decodes") {
        Message::Insert { row, .. } => reader.read_row(row, open()),
        other => panic!("not an insert: {other:?}"),
    }
}

#[test]
fn columns_are_found_by_name_in_any_order_and_strangers_are_passed() {
    let columns = [
        ("payload", types::JSONB),
        ("note", types::TEXT),
        ("event_type", types::TEXT),
        ("aggregate_id", types::INT8),
        ("aggregate_type", types::VARCHAR),
        ("id", types::UUID),
    ];
    let cells = [Some("{}"), Some("x"), Some("Placed"), Some("42"), Some("order"), Some("u")];
    let event = read(&columns, &cells).expect("event");
    assert_eq!((&*event.id, &*event.aggregate_type), ("u", "order"));
    assert_eq!((&*event.aggregate_id, &*event.event_type), ("42", "Placed"));
    assert_eq!(event.payload, Payload::Json("{}".into()));
    assert_eq!((event.headers, event.schema_version, event.created_at), (None, None, None));
}

#[test]
fn optional_columns_and_a_null_payload_are_carried() {
    let cells = [
        Some("u"),
        Some("order"),
        Some("1"),
        Some("Placed"),
        None,
        Some("{\"a\": \"b\"}"),
        Some("3"),
        Some("2026-11-21 10:00:00+00"),
    ];
    let event = read(&COLUMNS, &cells).expect("event");
    assert_eq!(event.payload, Payload::Tombstone);
    assert_eq!(event.headers.as_deref(), Some("{\"a\": \"b\"}"));
    assert_eq!(event.schema_version, Some(3));
    assert_eq!(event.created_at.as_deref(), Some("2026-11-21 10:00:00+00"));
}

#[test]
fn null_in_a_required_column_is_named() {
    for (field, column) in
        [(0, "id"), (1, "aggregate_type"), (2, "aggregate_id"), (3, "event_type")]
    {
        let mut cells = vec![Some("u"), Some("o"), Some("1"), Some("P"), Some("{}"), None, None];
        cells.push(None);
        cells[field] = None;
        assert_eq!(read(&COLUMNS, &cells), Err(EventError::Null { column: column.to_owned() }));
    }
}

#[test]
fn a_version_below_one_is_refused() {
    for version in ["0", "-1", "99999999999"] {
        let mut cells = vec![Some("u"), Some("o"), Some("1"), Some("P"), Some("{}"), None];
        cells.extend([Some(version), None]);
        assert!(matches!(read(&COLUMNS, &cells), Err(EventError::SchemaVersion { .. })));
    }
}

#[test]
fn missing_and_ill_typed_columns_are_named() {
    let error = read(&COLUMNS[1..], &[]).expect_err("no id");
    assert_eq!(error.to_string(), "outbox table \"public.outbox\" has no column \"id\"");
    let mut columns = COLUMNS;
    columns[4].1 = types::INT4;
    let error = read(&columns, &[]).expect_err("integer payload");
    assert_eq!(
        error.to_string(),
        "column \"payload\" of outbox table \"public.outbox\" must be jsonb, json, text, varchar \
         or bytea, it is type 23"
    );
}

#[test]
fn the_table_is_bound_by_its_object_id() {
    let mut reader = EventReader::new(table());
    let renamed = describe(&mut reader, &relation(10, ("public", "old_outbox"), &COLUMNS));
    assert!(matches!(renamed, Err(EventError::Renamed { .. })), "{renamed:?}");
    let replaced = describe(&mut reader, &relation(12, ("public", "outbox"), &COLUMNS));
    assert!(matches!(replaced, Err(EventError::Replaced { .. })), "{replaced:?}");
    let other = describe(&mut reader, &relation(14, ("public", "orders"), &COLUMNS[..1]));
    assert_eq!(other, Ok(RelationKind::Other));
}

#[test]
fn a_partition_is_described_in_passing_and_refused_when_its_rows_come_by_themselves() {
    let mut reader = EventReader::new(table());
    for (oid, name) in [(11, "outbox_1"), (13, "outbox_made_later")] {
        let described = describe(&mut reader, &relation(oid, ("public", name), &COLUMNS));
        assert_eq!(described, Ok(RelationKind::Other));
        let alone = reader.pass_row(Oid(oid)).expect_err("a partition's row");
        let expected = format!(
            "partition \"public.{name}\" of outbox table \"public.outbox\" arrives by itself"
        );
        assert_eq!(alone.to_string(), expected);
    }
    describe(&mut reader, &relation(14, ("public", "orders"), &COLUMNS[..1])).expect("other");
    assert_eq!(reader.pass_row(Oid(14)), Ok(()));
}

#[test]
fn a_row_before_its_table_or_of_another_width_is_refused() {
    let reader = EventReader::new(table());
    let bytes = insert(10, &[Some("u")]);
    let Ok(Message::Insert { row, .. }) = decode(&bytes) else { panic!("an insert decodes") };
    assert_eq!(reader.read_row(row, open()), Err(EventError::Undescribed { oid: 10 }));
    assert!(matches!(read(&COLUMNS, &[Some("u")]), Err(EventError::Width { .. })));
}

#[test]
fn a_logical_message_is_an_event() {
    let content = br#"{"id":"u","aggregate_type":"o\u0072der","aggregate_id":"1",
        "event_type":"Placed","payload":{"n":1e400},"headers":{"a":"b"},"schema_version":2}"#;
    let event = read_message(content, open().next_position(), open().time).expect("event");
    assert_eq!(event.aggregate_type, "order");
    assert_eq!(event.payload, Payload::Json("{\"n\":1e400}".into()));
    assert_eq!(event.headers.as_deref(), Some("{\"a\":\"b\"}"));
    assert_eq!(event.schema_version, Some(2));
}

#[test]
fn a_faulty_logical_message_is_named_without_its_values() {
    let reasons = [
        (&b"{"[..], "the text ends early"),
        (b"[]", "a field has the wrong type"),
        (b"nonsense", "not valid json"),
        (br#"{"id":"u"}"#, "missing field `aggregate_type`"),
        (br#"{"id":"s3cret","idd":1}"#, "unknown field `idd`"),
        (br#"{"id":17}"#, "a field has the wrong type"),
    ];
    for (content, reason) in reasons {
        let error = read_message(content, open().next_position(), open().time)
            .expect_err("faulty")
            .to_string();
        assert!(!error.contains("s3cret") && !error.contains("17"), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}
