//! Messages as the server's output plugin writes them (protocol version 1), for the simulated
//! server. PostgreSQL documentation, "Logical Replication Message Formats".

struct Writer(Vec<u8>);

impl Writer {
    fn new(tag: u8) -> Self {
        Self(vec![tag])
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.raw(text.as_bytes()).raw(&[0])
    }
}

pub(crate) fn begin(commit: u64, time_us: i64) -> Vec<u8> {
    let head = Writer::new(b'B').raw(&commit.to_be_bytes()).raw(&time_us.to_be_bytes());
    head.raw(&7u32.to_be_bytes()).0
}

pub(crate) fn commit(commit: u64, end: u64, time_us: i64) -> Vec<u8> {
    let head = Writer::new(b'C').raw(&[0]).raw(&commit.to_be_bytes());
    head.raw(&end.to_be_bytes()).raw(&time_us.to_be_bytes()).0
}

/// The outbox table with text columns of these names.
pub(crate) fn relation(oid: u32, columns: &[(&str, u32)]) -> Vec<u8> {
    let head = Writer::new(b'R').raw(&oid.to_be_bytes()).text("public").text("outbox");
    let count = u16::try_from(columns.len()).expect("few columns");
    let head = head.raw(b"d").raw(&count.to_be_bytes());
    let add = |writer: Writer, (name, type_oid): &(&str, u32)| {
        writer.raw(&[0]).text(name).raw(&type_oid.to_be_bytes()).raw(&(-1i32).to_be_bytes())
    };
    columns.iter().fold(head, add).0
}

pub(crate) fn insert(oid: u32, cells: &[Option<&str>]) -> Vec<u8> {
    let count = u16::try_from(cells.len()).expect("few cells");
    let head = Writer::new(b'I').raw(&oid.to_be_bytes()).raw(b"N").raw(&count.to_be_bytes());
    let add = |writer: Writer, cell: &Option<&str>| match cell {
        None => writer.raw(b"n"),
        Some(text) => {
            let length = u32::try_from(text.len()).expect("a short text");
            writer.raw(b"t").raw(&length.to_be_bytes()).raw(text.as_bytes())
        }
    };
    cells.iter().fold(head, add).0
}
