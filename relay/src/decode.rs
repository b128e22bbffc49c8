//! pgoutput bytes in, one [`Message`] out. Pure; borrows from the input; fuzzed.
//!
//! All messages of protocol version 1 decode. A tag that version 1 does not have is an error, and
//! the source stops with it (I8): skipping what one does not understand loses events. Lengths and
//! counts are checked against the input, so no input makes this room panic or allocate beyond it.
//!
//! Format: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>.

use crate::limits;
use crate::lsn::{CommitEnd, CommitLsn, Lsn};

/// Microseconds since 2000-01-01 00:00 UTC, as PostgreSQL counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostgresMicros(pub i64);

impl PostgresMicros {
    /// Milliseconds since the Unix epoch, as Kafka counts.
    pub fn unix_ms(self) -> i64 {
        self.0.div_euclid(1_000) + 946_684_800_000
    }
}

/// A table's or type's object id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(pub u32);

/// One message of the output plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction starts; its changes follow, then [`Message::Commit`].
    Begin {
        /// The position of the commit record, which is already written.
        commit: CommitLsn,
        /// When the transaction committed, by the server's clock.
        time: PostgresMicros,
        /// The transaction id, for people.
        xid: u32,
    },
    /// The transaction is complete.
    Commit {
        /// The same position as in Begin.
        commit: CommitLsn,
        /// The end of the commit record: what to confirm.
        end: CommitEnd,
        /// When the transaction committed.
        time: PostgresMicros,
    },
    /// The transaction came from another node.
    Origin {
        /// The origin's name.
        name: &'a str,
    },
    /// The shape of a table, before its first change and after each change of the table.
    Relation(Relation<'a>),
    /// A type that is not built in.
    Type {
        /// The type's object id.
        oid: Oid,
        /// Its schema and name.
        name: (&'a str, &'a str),
    },
    /// A row was inserted.
    Insert {
        /// The table.
        relation: Oid,
        /// The row.
        row: Tuple<'a>,
    },
    /// A row was updated. Its contents are of no use to an outbox and stay undecoded.
    Update {
        /// The table.
        relation: Oid,
    },
    /// A row was deleted.
    Delete {
        /// The table.
        relation: Oid,
    },
    /// Tables were emptied.
    Truncate {
        /// How many.
        relations: u32,
    },
    /// `pg_logical_emit_message`.
    Logical {
        /// Whether it belongs to the open transaction.
        is_transactional: bool,
        /// Where it stands in the WAL.
        at: Lsn,
        /// Says whose it is.
        prefix: &'a str,
        /// Anything.
        content: &'a [u8],
    },
}

/// A table's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The table's object id, which a rename keeps and a re-creation does not.
    pub oid: Oid,
    /// The schema; empty means `pg_catalog`.
    pub namespace: &'a str,
    /// The table.
    pub name: &'a str,
    /// The columns in the order of the tuples that follow.
    pub columns: Vec<Column<'a>>,
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub type_oid: Oid,
}

/// A row, decoded cell by cell on demand; its form was checked when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    count: u16,
    cells: &'a [u8],
    cut_from: Option<u64>,
}

/// One cell of a [`Tuple`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// A value kept out of line that did not change; in an insert only where a value was left out
    /// because the message was above the limit.
    Unchanged,
    /// The value in its text form.
    Text(&'a [u8]),
    /// The value in its binary form; never asked for.
    Binary(&'a [u8]),
}

/// The bytes are no message of protocol version 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A tag that version 1 does not have (I8).
    #[error("unknown message with tag {}", tag.escape_ascii())]
    UnknownTag {
        /// The tag.
        tag: u8,
    },
    /// The message ends before its last field.
    #[error("{message} message is cut short at {field}")]
    CutShort {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// Bytes follow the last field.
    #[error("{message} message has {count} bytes too many")]
    TooLong {
        /// Which message.
        message: &'static str,
        /// How many.
        count: usize,
    },
    /// A field has a value that version 1 does not know.
    #[error("{message} message has an unknown {field} ({value})")]
    UnknownValue {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// A name that is not UTF-8, though UTF-8 was asked for.
    #[error("{message} message has a {field} that is not utf-8")]
    NotUtf8 {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// No message at all.
    #[error("empty message")]
    Empty,
}

/// Decodes one message.
pub fn decode(body: &[u8]) -> Result<Message<'_>, DecodeError> {
    let (&tag, rest) = body.split_first().ok_or(DecodeError::Empty)?;
    let mut fields = Fields { rest, message: name_of(tag) };
    let message = match tag {
        b'B' => Message::Begin {
            commit: CommitLsn(Lsn(fields.u64("final lsn")?)),
            time: PostgresMicros(fields.i64("commit time")?),
            xid: fields.u32("xid")?,
        },
        b'C' => decode_commit(&mut fields)?,
        b'O' => {
            let _commit_at_origin = fields.u64("commit lsn")?;
            Message::Origin { name: fields.text("name")? }
        }
        b'R' => Message::Relation(decode_relation(&mut fields)?),
        b'Y' => Message::Type {
            oid: Oid(fields.u32("oid")?),
            name: (fields.text("namespace")?, fields.text("name")?),
        },
        b'I' => {
            let relation = Oid(fields.u32("relation")?);
            fields.one_of("tuple kind", b"N")?;
            Message::Insert { relation, row: fields.tuple()? }
        }
        b'U' => {
            let relation = Oid(fields.u32("relation")?);
            if fields.one_of("tuple kind", b"KON")? != b'N' {
                fields.tuple()?;
                fields.one_of("tuple kind", b"N")?;
            }
            fields.tuple()?;
            Message::Update { relation }
        }
        b'D' => {
            let relation = Oid(fields.u32("relation")?);
            fields.one_of("tuple kind", b"KO")?;
            fields.tuple()?;
            Message::Delete { relation }
        }
        b'T' => {
            let relations = fields.u32("number of relations")?;
            let _options = fields.u8("options")?;
            for _ in 0..relations {
                fields.u32("relation")?;
            }
            Message::Truncate { relations }
        }
        b'M' => decode_logical(&mut fields)?,
        tag => return Err(DecodeError::UnknownTag { tag }),
    };
    fields.finish()?;
    Ok(message)
}

fn decode_commit<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, DecodeError> {
    let flags = fields.u8("flags")?;
    if flags != 0 {
        return Err(fields.unknown("flags", flags));
    }
    Ok(Message::Commit {
        commit: CommitLsn(Lsn(fields.u64("commit lsn")?)),
        end: CommitEnd(Lsn(fields.u64("end lsn")?)),
        time: PostgresMicros(fields.i64("commit time")?),
    })
}

fn decode_relation<'a>(fields: &mut Fields<'a>) -> Result<Relation<'a>, DecodeError> {
    let oid = Oid(fields.u32("oid")?);
    let namespace = fields.text("namespace")?;
    let name = fields.text("name")?;
    let _replica_identity = fields.u8("replica identity")?;
    let count = fields.u16("number of columns")?;
    let mut columns = Vec::with_capacity(usize::from(count).min(limits::COLUMNS_MAX));
    for _ in 0..count {
        let _flags = fields.u8("column flags")?;
        let name = fields.text("column name")?;
        let type_oid = Oid(fields.u32("column type")?);
        let _modifier = fields.u32("column type modifier")?;
        columns.push(Column { name, type_oid });
    }
    Ok(Relation { oid, namespace, name, columns })
}

fn decode_logical<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, DecodeError> {
    let flags = fields.u8("flags")?;
    if flags > 1 {
        return Err(fields.unknown("flags", flags));
    }
    let at = Lsn(fields.u64("lsn")?);
    let prefix = fields.text("prefix")?;
    let length = fields.u32("length of the content")?;
    let content = fields.bytes("content", length)?;
    Ok(Message::Logical { is_transactional: flags == 1, at, prefix, content })
}

impl<'a> Tuple<'a> {
    /// The cells in the order of the relation's columns.
    pub fn cells(&self) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        let mut fields = Fields { rest: self.cells, message: "tuple" };
        // The form was checked in `Fields::tuple`: the iterator cannot end early.
        (0..self.count).map_while(move |_| fields.cell().ok())
    }

    /// The same row, as what is left of a message of `bytes` bytes.
    pub fn cut_from(self, bytes: Option<u64>) -> Self {
        Self { cut_from: bytes, ..self }
    }

    /// The size of the message that the row was cut from.
    pub fn size_before(&self) -> Option<u64> {
        self.cut_from
    }

    /// How many cells the row has.
    pub fn width(&self) -> usize {
        usize::from(self.count)
    }
}

/// What is left of a message, and its name for errors.
struct Fields<'a> {
    rest: &'a [u8],
    message: &'static str,
}

impl<'a> Fields<'a> {
    fn bytes(&mut self, field: &'static str, count: u32) -> Result<&'a [u8], DecodeError> {
        let cut = DecodeError::CutShort { message: self.message, field };
        let count = usize::try_from(count).map_err(|_| cut.clone())?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let cut = DecodeError::CutShort { message: self.message, field };
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(cut)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// A text that ends with a zero byte.
    fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let cut = DecodeError::CutShort { message: self.message, field };
        let (text, rest) = end.and_then(|end| self.rest.split_at_checked(end)).ok_or(cut)?;
        self.rest = rest.get(1..).unwrap_or_default();
        std::str::from_utf8(text).map_err(|_| DecodeError::NotUtf8 { message: self.message, field })
    }

    /// A byte that must be one of `known`.
    fn one_of(&mut self, field: &'static str, known: &[u8]) -> Result<u8, DecodeError> {
        let byte = self.u8(field)?;
        if known.contains(&byte) { Ok(byte) } else { Err(self.unknown(field, byte)) }
    }

    fn unknown(&self, field: &'static str, value: u8) -> DecodeError {
        DecodeError::UnknownValue { message: self.message, field, value: value.into() }
    }

    /// A tuple, walked once so that its cells can be read later without a doubt.
    fn tuple(&mut self) -> Result<Tuple<'a>, DecodeError> {
        let count = self.u16("number of cells")?;
        let start = self.rest;
        for _ in 0..count {
            self.cell()?;
        }
        let length = start.len() - self.rest.len();
        let cells = start.get(..length).unwrap_or_default();
        Ok(Tuple { count, cells, cut_from: None })
    }

    fn cell(&mut self) -> Result<Cell<'a>, DecodeError> {
        match self.one_of("cell kind", b"nutb")? {
            b'n' => Ok(Cell::Null),
            b'u' => Ok(Cell::Unchanged),
            kind => {
                let length = self.u32("length of a cell")?;
                let value = self.bytes("cell", length)?;
                Ok(if kind == b't' { Cell::Text(value) } else { Cell::Binary(value) })
            }
        }
    }

    fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::TooLong { message: self.message, count }),
        }
    }
}

fn name_of(tag: u8) -> &'static str {
    match tag {
        b'B' => "begin",
        b'C' => "commit",
        b'O' => "origin",
        b'R' => "relation",
        b'Y' => "type",
        b'I' => "insert",
        b'U' => "update",
        b'D' => "delete",
        b'T' => "truncate",
        b'M' => "logical",
        _ => "unknown",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes messages as pgoutput does, for the tests of this room and of the pipeline.
    #[derive(Default)]
    pub(crate) struct Writer(pub(crate) Vec<u8>);

    impl Writer {
        pub(crate) fn new(tag: u8) -> Self {
            Self(vec![tag])
        }

        pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
            self.0.extend_from_slice(bytes);
            self
        }

        pub(crate) fn text(self, text: &str) -> Self {
            self.raw(text.as_bytes()).raw(&[0])
        }

        pub(crate) fn cell(self, value: Option<&str>) -> Self {
            match value {
                None => self.raw(b"n"),
                Some(text) => {
                    let length = u32::try_from(text.len()).expect("short text");
                    self.raw(b"t").raw(&length.to_be_bytes()).raw(text.as_bytes())
                }
            }
        }
    }

    pub(crate) fn begin(commit: u64, time_us: i64) -> Vec<u8> {
        Writer::new(b'B')
            .raw(&commit.to_be_bytes())
            .raw(&time_us.to_be_bytes())
            .raw(&7u32.to_be_bytes())
            .0
    }

    pub(crate) fn commit(commit: u64, end: u64, time_us: i64) -> Vec<u8> {
        Writer::new(b'C')
            .raw(&[0])
            .raw(&commit.to_be_bytes())
            .raw(&end.to_be_bytes())
            .raw(&time_us.to_be_bytes())
            .0
    }

    pub(crate) fn relation(oid: u32, name: (&str, &str), columns: &[(&str, u32)]) -> Vec<u8> {
        let count = u16::try_from(columns.len()).expect("few columns");
        let head = Writer::new(b'R').raw(&oid.to_be_bytes()).text(name.0).text(name.1);
        let head = head.raw(b"d").raw(&count.to_be_bytes());
        let add = |writer: Writer, (name, type_oid): &(&str, u32)| {
            writer.raw(&[0]).text(name).raw(&type_oid.to_be_bytes()).raw(&(-1i32).to_be_bytes())
        };
        columns.iter().fold(head, add).0
    }

    pub(crate) fn insert(oid: u32, cells: &[Option<&str>]) -> Vec<u8> {
        let count = u16::try_from(cells.len()).expect("few cells");
        let head = Writer::new(b'I').raw(&oid.to_be_bytes()).raw(b"N").raw(&count.to_be_bytes());
        cells.iter().fold(head, |writer, cell| writer.cell(*cell)).0
    }

    pub(crate) fn logical(flags: u8, prefix: &str, content: &str) -> Vec<u8> {
        let length = u32::try_from(content.len()).expect("short content");
        Writer::new(b'M')
            .raw(&[flags])
            .raw(&5u64.to_be_bytes())
            .text(prefix)
            .raw(&length.to_be_bytes())
            .raw(content.as_bytes())
            .0
    }

    #[test]
    fn every_message_of_version_one_decodes() {
        let insert = insert(3, &[Some("a"), None]);
        let Ok(Message::Insert { relation: Oid(3), row }) = decode(&insert) else {
            panic!("an insert decodes");
        };
        assert_eq!(row.cells().collect::<Vec<_>>(), [Cell::Text(b"a"), Cell::Null]);
        let origin = Writer::new(b'O').raw(&[0; 8]).text("node").0;
        assert_eq!(decode(&origin), Ok(Message::Origin { name: "node" }));
        let kind = Writer::new(b'Y').raw(&9u32.to_be_bytes()).text("s").text("t").0;
        assert_eq!(decode(&kind), Ok(Message::Type { oid: Oid(9), name: ("s", "t") }));
        let truncate = Writer::new(b'T').raw(&1u32.to_be_bytes()).raw(&[0]).raw(&[0; 4]).0;
        assert_eq!(decode(&truncate), Ok(Message::Truncate { relations: 1 }));
        let update = Writer::new(b'U').raw(&3u32.to_be_bytes()).raw(b"O").raw(&[0, 0]);
        let update = update.raw(b"N").raw(&[0, 0]).0;
        assert_eq!(decode(&update), Ok(Message::Update { relation: Oid(3) }));
        let delete = Writer::new(b'D').raw(&3u32.to_be_bytes()).raw(b"K").raw(&[0, 0]).0;
        assert_eq!(decode(&delete), Ok(Message::Delete { relation: Oid(3) }));
        let logical = logical(1, "p", "x");
        let message =
            Message::Logical { is_transactional: true, at: Lsn(5), prefix: "p", content: b"x" };
        assert_eq!(decode(&logical), Ok(message));
    }

    #[test]
    fn messages_of_later_versions_are_refused_by_their_tag() {
        for tag in *b"SEcAbPKrp" {
            assert_eq!(decode(&[tag, 0, 0]), Err(DecodeError::UnknownTag { tag }));
        }
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_an_error_and_no_panic() {
        let messages = [
            begin(1, 2),
            commit(1, 2, 3),
            relation(1, ("public", "outbox"), &[("id", 2950), ("payload", 3802)]),
            insert(1, &[Some("x"), None]),
            logical(1, "walpost", "{}"),
        ];
        for message in messages {
            assert!(decode(&message).is_ok());
            for length in 0..message.len() {
                assert!(decode(&message[..length]).is_err(), "cut at {length}");
            }
            let extra = [&message[..], &[0]].concat();
            assert!(matches!(decode(&extra), Err(DecodeError::TooLong { count: 1, .. })));
        }
    }

    #[test]
    fn commit_time_becomes_unix_milliseconds_also_before_2000() {
        assert_eq!(PostgresMicros(0).unix_ms(), 946_684_800_000);
        assert_eq!(PostgresMicros(-1).unix_ms(), 946_684_799_999);
    }
}
