//! What the audit keeps of a row, of a record and of a first copy, as bytes and back.

use std::io;

/// An event id: the 16 bytes of a UUID, or a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Id<'a> {
    Uuid([u8; 16]),
    Text(&'a [u8]),
}

impl<'a> Id<'a> {
    /// Only the spelling that comes back the same is kept short.
    pub(super) fn of(text: &'a [u8]) -> Self {
        match uuid(text) {
            Some(bytes) => Id::Uuid(bytes),
            None => Id::Text(text),
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Id::Uuid(bytes) => uuid::Uuid::from_bytes(bytes).to_string(),
            Id::Text(text) => String::from_utf8_lossy(text).into_owned(),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Id::Uuid(bytes) => {
                out.push(0);
                out.extend_from_slice(&bytes);
            }
            Id::Text(text) => {
                out.push(1);
                out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend_from_slice(text);
            }
        }
    }
}

/// A UUID in lower case with its dashes.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0u8; 16];
    let mut digits = 0;
    for (at, byte) in text.iter().enumerate() {
        if DASHES.contains(&at) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        let slot = bytes.get_mut(digits / 2)?;
        *slot = *slot << 4 | digit;
        digits += 1;
    }
    Some(bytes)
}

/// What is known of an event id on the database's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A row of the snapshot.
    Row {
        /// Stands for aggregate type and id.
        aggregate: u128,
        /// Where the table numbers its rows.
        seq: Option<i64>,
    },
    /// In the parking tables, in one of their states.
    Parked { state: u8 },
}

impl Known {
    pub(super) fn write(self, id: Id<'_>, out: &mut Vec<u8>) {
        id.write(out);
        match self {
            Known::Row { aggregate, seq } => {
                out.push(u8::from(seq.is_some()));
                out.extend_from_slice(&aggregate.to_le_bytes());
                out.extend_from_slice(&seq.unwrap_or_default().to_le_bytes());
            }
            Known::Parked { state } => out.extend_from_slice(&[2, state]),
        }
    }
}

/// A place in Kafka, its topic by its number in the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) topic: u16,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// Where an event stands in its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) timeline: u32,
    pub(super) commit_lsn: u64,
    pub(super) ordinal: u32,
}

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// Published as it came, or when it left the parking lot.
    Event,
    /// Published again because somebody asked for it.
    Replayed,
    /// Given up: in a dead letter topic, with the fault in a header.
    DeadLetter,
}

/// A record of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) spot: Spot,
    pub(super) order: Order,
    pub(super) timestamp_ms: i64,
    /// How much earlier its commit is than that of some record before it in its partition.
    pub(super) behind_ms: u32,
    pub(super) nature: Nature,
}

impl Copy {
    pub(super) fn write(self, id: Id<'_>, out: &mut Vec<u8>) {
        id.write(out);
        self.spot.write(out);
        self.order.write(out);
        out.extend_from_slice(&self.timestamp_ms.to_le_bytes());
        out.extend_from_slice(&self.behind_ms.to_le_bytes());
        out.push(match self.nature {
            Nature::Event => 0,
            Nature::Replayed => 1,
            Nature::DeadLetter => 2,
        });
    }
}

/// The first copy of an event, with what its row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct First<'a> {
    pub(super) aggregate: u128,
    pub(super) spot: Spot,
    pub(super) order: Order,
    pub(super) seq: Option<i64>,
    pub(super) id: Id<'a>,
}

impl First<'_> {
    pub(super) fn write(self, out: &mut Vec<u8>) {
        self.id.write(out);
        out.extend_from_slice(&self.aggregate.to_le_bytes());
        self.spot.write(out);
        self.order.write(out);
        out.push(u8::from(self.seq.is_some()));
        out.extend_from_slice(&self.seq.unwrap_or_default().to_le_bytes());
    }
}

impl Spot {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.topic.to_le_bytes());
        out.extend_from_slice(&self.partition.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
    }
}

impl Order {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timeline.to_le_bytes());
        out.extend_from_slice(&self.commit_lsn.to_le_bytes());
        out.extend_from_slice(&self.ordinal.to_le_bytes());
    }
}

/// The bytes of a bucket, from entry to entry.
#[derive(Debug)]
pub(super) struct Entries<'a>(pub(super) &'a [u8]);

impl<'a> Entries<'a> {
    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn known(&mut self) -> io::Result<(Id<'a>, Known)> {
        let id = self.id()?;
        let known = match self.byte()? {
            2 => Known::Parked { state: self.byte()? },
            has_seq => {
                let aggregate = u128::from_le_bytes(self.array()?);
                let seq = i64::from_le_bytes(self.array()?);
                Known::Row { aggregate, seq: (has_seq == 1).then_some(seq) }
            }
        };
        Ok((id, known))
    }

    pub(super) fn copy(&mut self) -> io::Result<(Id<'a>, Copy)> {
        let id = self.id()?;
        let (spot, order) = (self.spot()?, self.order()?);
        let timestamp_ms = i64::from_le_bytes(self.array()?);
        let behind_ms = u32::from_le_bytes(self.array()?);
        let nature = match self.byte()? {
            0 => Nature::Event,
            1 => Nature::Replayed,
            _ => Nature::DeadLetter,
        };
        Ok((id, Copy { spot, order, timestamp_ms, behind_ms, nature }))
    }

    pub(super) fn first(&mut self) -> io::Result<First<'a>> {
        let id = self.id()?;
        let aggregate = u128::from_le_bytes(self.array()?);
        let (spot, order) = (self.spot()?, self.order()?);
        let has_seq = self.byte()? == 1;
        let seq = i64::from_le_bytes(self.array()?);
        Ok(First { aggregate, spot, order, seq: has_seq.then_some(seq), id })
    }

    fn spot(&mut self) -> io::Result<Spot> {
        let topic = u16::from_le_bytes(self.array()?);
        let partition = i32::from_le_bytes(self.array()?);
        Ok(Spot { topic, partition, offset: i64::from_le_bytes(self.array()?) })
    }

    fn order(&mut self) -> io::Result<Order> {
        let timeline = u32::from_le_bytes(self.array()?);
        let commit_lsn = u64::from_le_bytes(self.array()?);
        Ok(Order { timeline, commit_lsn, ordinal: u32::from_le_bytes(self.array()?) })
    }

    fn id(&mut self) -> io::Result<Id<'a>> {
        if self.byte()? == 0 {
            return Ok(Id::Uuid(self.array()?));
        }
        let length = u32::from_le_bytes(self.array()?) as usize;
        Ok(Id::Text(self.take(length)?))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| cut())
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(cut)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the verifier's file is cut")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were_written() {
        let uuid = "0197c0de-0000-7000-8000-0000000000ff";
        assert!(matches!(Id::of(uuid.as_bytes()), Id::Uuid(_)));
        for text in
            [uuid, &uuid.to_uppercase(), "", "order-7", "0197c0de-0000-7000-8000_0000000000ff"]
        {
            assert_eq!(Id::of(text.as_bytes()).text(), text);
        }
    }

    #[test]
    fn entries_come_back_and_a_cut_one_is_an_error() {
        let spot = Spot { topic: 3, partition: 7, offset: 1 << 40 };
        let order = Order { timeline: 2, commit_lsn: 1 << 50, ordinal: 9 };
        let (timestamp_ms, behind_ms, nature) = (-1, 7, Nature::DeadLetter);
        let copy = Copy { spot, order, timestamp_ms, behind_ms, nature };
        let id = Id::Text(b"x");
        let first = First { aggregate: u128::MAX - 5, spot, order, seq: Some(-2), id };
        let row = Known::Row { aggregate: 5, seq: None };
        let parked = Known::Parked { state: 4 };
        let mut bytes = Vec::new();
        row.write(id, &mut bytes);
        parked.write(Id::Uuid([9; 16]), &mut bytes);
        copy.write(id, &mut bytes);
        first.write(&mut bytes);
        let read = |bytes: &[u8]| -> io::Result<()> {
            let mut entries = Entries(bytes);
            assert_eq!(entries.known()?, (id, row));
            assert_eq!(entries.known()?, (Id::Uuid([9; 16]), parked));
            assert_eq!(entries.copy()?, (id, copy));
            assert_eq!(entries.first()?, first);
            assert!(entries.is_at_end());
            Ok(())
        };
        read(&bytes).expect("whole");
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
