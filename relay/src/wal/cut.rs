//! A message above the limit in, the same message without its large values out, as its bytes
//! arrive: what names an event is kept, however large its content is. Pure.
//!
//! ```text
//!   tag, relation, 'N', 2 cells | 't' 7 "order-7" | 't' 20000000 {"note": ...
//!                                                    becomes 'u', the value is dropped unread
//! ```
//!
//! An insert never has a cell of kind `u` (unchanged) of its own. Of a logical message the prefix
//! is kept and the content is left out whole.
//!
//! Format: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>.

use bytes::{Buf, BytesMut};

use crate::limits;

/// Tag and length of CopyData, then the header of WAL data, then the tag of the message.
const HEAD_BYTES: usize = 5 + 25 + 1;
/// Kind and length of a cell.
const CELL_BYTES: usize = 5;

/// The bytes are no change of a row and no logical message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uncuttable;

/// A message at the front of the buffer that is being cut.
#[derive(Debug)]
pub(super) struct Cutting {
    /// What the server announced, tag included.
    announced: usize,
    /// Bytes at the front of the buffer that are kept.
    kept: usize,
    /// Bytes of the message behind them that were not looked at.
    left: usize,
    /// Bytes behind the kept ones that are dropped as they come; not counted in `left`.
    dropping: usize,
    next: Part,
}

/// What comes next in the message.
#[derive(Debug, Clone, Copy)]
enum Part {
    Head,
    /// The flags, LSN and prefix of a logical message.
    Prefix,
    Content,
    /// Which row of a change follows.
    RowKind,
    CellCount,
    Cells(u16),
}

/// What is done with the next bytes.
enum Step {
    Keep(usize, Part),
    /// So many are kept, and so many behind them dropped.
    Drop(usize, usize, Part),
    Wait,
}

impl Cutting {
    /// Of a message of `announced` bytes, tag included, at the front of the buffer.
    pub(super) fn new(announced: usize) -> Self {
        Self { announced, kept: 0, left: announced, dropping: 0, next: Part::Head }
    }

    /// What the server announced, in bytes.
    pub(super) fn announced(&self) -> usize {
        self.announced
    }

    /// Looks at what has arrived. When the message is cut it says so, and the buffer begins with it
    /// under its new length.
    pub(super) fn advance(&mut self, received: &mut BytesMut) -> Result<bool, Uncuttable> {
        loop {
            if self.dropping > 0 {
                let count = self.dropping.min(received.len() - self.kept);
                let mut behind = received.split_off(self.kept);
                behind.advance(count);
                received.unsplit(behind);
                self.dropping -= count;
            }
            if self.dropping > 0 {
                return Ok(false);
            }
            if self.left == 0 {
                let length = u32::try_from(self.kept - 1).map_err(|_| Uncuttable)?;
                let field = received.get_mut(1..5).ok_or(Uncuttable)?;
                field.copy_from_slice(&length.to_be_bytes());
                return Ok(true);
            }
            let arrived = received.get_mut(self.kept..).unwrap_or_default();
            let within = arrived.len().min(self.left);
            let (keep, drop, next) = match self.step(&mut arrived[..within])? {
                Step::Wait if within == self.left => return Err(Uncuttable),
                Step::Wait => return Ok(false),
                Step::Keep(count, next) => (count, 0, next),
                Step::Drop(count, drop, next) => (count, drop, next),
            };
            self.left = self.left.checked_sub(keep + drop).ok_or(Uncuttable)?;
            (self.kept, self.dropping, self.next) = (self.kept + keep, drop, next);
        }
    }

    fn step(&self, bytes: &mut [u8]) -> Result<Step, Uncuttable> {
        match self.next {
            Part::Head => match bytes.get(5).zip(bytes.get(HEAD_BYTES - 1)) {
                // The relation's id follows.
                Some((b'w', b'I' | b'U' | b'D')) if bytes.len() >= HEAD_BYTES + 4 => {
                    Ok(Step::Keep(HEAD_BYTES + 4, Part::RowKind))
                }
                Some((b'w', b'I' | b'U' | b'D')) | None => Ok(Step::Wait),
                Some((b'w', b'M')) => Ok(Step::Keep(HEAD_BYTES, Part::Prefix)),
                Some(_) => Err(Uncuttable),
            },
            Part::Prefix => {
                let text = bytes.get(9..).unwrap_or_default();
                match text.iter().position(|byte| *byte == 0) {
                    Some(end) => Ok(Step::Keep(9 + end + 1, Part::Content)),
                    None if text.len() > limits::VALUE_KEPT_MAX => Err(Uncuttable),
                    None => Ok(Step::Wait),
                }
            }
            Part::Content => match bytes.first_chunk_mut::<4>() {
                Some(length) => {
                    let drop = u32::from_be_bytes(std::mem::take(length)) as usize;
                    Ok(Step::Drop(4, drop, Part::RowKind))
                }
                None => Ok(Step::Wait),
            },
            Part::RowKind => match bytes.first() {
                Some(b'N' | b'O' | b'K') => Ok(Step::Keep(1, Part::CellCount)),
                Some(_) => Err(Uncuttable),
                None => Ok(Step::Wait),
            },
            Part::CellCount => match bytes.first_chunk::<2>() {
                Some(count) => Ok(Step::Keep(2, Part::Cells(u16::from_be_bytes(*count)))),
                None => Ok(Step::Wait),
            },
            Part::Cells(0) => Ok(Step::Keep(0, Part::RowKind)),
            Part::Cells(count) => self.cell(bytes, Part::Cells(count - 1)),
        }
    }

    /// A cell is kept if it is small and there is room for it.
    fn cell(&self, bytes: &mut [u8], next: Part) -> Result<Step, Uncuttable> {
        let length = match bytes {
            [b'n' | b'u', ..] => return Ok(Step::Keep(1, next)),
            [b't' | b'b', a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]) as usize,
            [] | [b't' | b'b', ..] => return Ok(Step::Wait),
            _ => return Err(Uncuttable),
        };
        let whole = CELL_BYTES + length;
        if length <= limits::VALUE_KEPT_MAX && self.kept + whole <= limits::FRAME_BYTES_MAX {
            return Ok(if bytes.len() < whole { Step::Wait } else { Step::Keep(whole, next) });
        }
        if let Some(kind) = bytes.first_mut() {
            *kind = b'u';
        }
        Ok(Step::Drop(1, whole - 1, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Cell, Message, decode};

    const LARGE: usize = limits::VALUE_KEPT_MAX + 1;

    fn wal(body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![b'd'];
        bytes.extend(u32::try_from(4 + 25 + body.len()).expect("small").to_be_bytes());
        bytes.push(b'w');
        bytes.extend([0; 24]);
        bytes.extend(body);
        bytes
    }

    fn text(value: &[u8]) -> Vec<u8> {
        let length = u32::try_from(value.len()).expect("small").to_be_bytes();
        [b"t", &length[..], value].concat()
    }

    fn insert(cells: &[Vec<u8>]) -> Vec<u8> {
        let count = u16::try_from(cells.len()).expect("few").to_be_bytes();
        [b"I\0\0\0\x07N", &count[..], &cells.concat()].concat()
    }

    /// Cuts a message whose bytes arrive in pieces; what follows it must stay as it is.
    fn cut(body: &[u8], piece: usize) -> Result<Vec<u8>, Uncuttable> {
        let whole = wal(body);
        let mut cutting = Cutting::new(whole.len());
        let mut received = BytesMut::new();
        let stream = [&whole[..], b"next"].concat();
        let mut pieces = stream.chunks(piece);
        while !cutting.advance(&mut received)? {
            received.extend_from_slice(pieces.next().expect("the message ends"));
        }
        pieces.for_each(|piece| received.extend_from_slice(piece));
        let length = u32::from_be_bytes(received[1..5].try_into().expect("four")) as usize;
        assert_eq!(&received[1 + length..], b"next");
        Ok(received[30..1 + length].to_vec())
    }

    fn cells(body: &[u8]) -> Vec<Option<Vec<u8>>> {
        let Ok(Message::Insert { row, .. }) = decode(body) else { panic!("no insert") };
        let kept = |cell| match cell {
            Cell::Text(bytes) => Some(bytes.to_vec()),
            _ => None,
        };
        row.cells().map(kept).collect()
    }

    #[test]
    fn large_values_are_left_out_wherever_they_stand_and_in_whatever_pieces_they_come() {
        let body = insert(&[
            text(b"id"),
            text(&vec![b'x'; LARGE]),
            b"n".to_vec(),
            text(&vec![b'y'; LARGE - 1]),
            text(b"42"),
        ]);
        for piece in [1, 7, 1_000, usize::MAX] {
            let cut = cells(&cut(&body, piece).expect("an insert"));
            let kept = [Some(b"id".to_vec()), None, None, Some(vec![b'y'; LARGE - 1])];
            assert_eq!((&cut[..4], cut[4].as_deref()), (&kept[..], Some(&b"42"[..])), "{piece}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let count = limits::FRAME_BYTES_MAX / (LARGE - 1) + 9;
        let body = insert(&vec![text(&vec![b'x'; LARGE - 1]); count]);
        let cut = cut(&body, 1 << 20).expect("an insert");
        assert!(cut.len() < limits::FRAME_BYTES_MAX, "{}", cut.len());
        assert_eq!(cells(&cut).len(), count);
    }

    #[test]
    fn updates_deletes_and_logical_messages_are_cut_too() {
        let cell = [&1u16.to_be_bytes()[..], &text(&vec![b'x'; LARGE])].concat();
        let update = [b"U\0\0\0\x07O", &cell[..], b"N", &cell].concat();
        let is_update = |body: &[u8]| matches!(decode(body), Ok(Message::Update { .. }));
        assert!(is_update(&cut(&update, 999).expect("an update")));
        let delete = [b"D\0\0\0\x07K", &cell[..]].concat();
        let is_delete = |body: &[u8]| matches!(decode(body), Ok(Message::Delete { .. }));
        assert!(is_delete(&cut(&delete, 999).expect("a delete")));
        let length = u32::try_from(LARGE).expect("small").to_be_bytes();
        let logical = [b"M\x01", &[0; 8][..], b"walpost\0", &length, &vec![b'x'; LARGE]].concat();
        let cut = cut(&logical, 999).expect("a message");
        let Ok(Message::Logical { prefix, content, .. }) = decode(&cut) else {
            panic!("no message")
        };
        assert_eq!((prefix, content), ("walpost", &b""[..]));
    }

    /// Whatever the bytes are, it ends, and no more is kept than came.
    #[test]
    fn broken_messages_are_cut_or_refused() {
        let cells = [text(b"id"), text(&vec![b'x'; LARGE]), b"n".to_vec(), text(b"42")];
        let logical = [b"M\x01", &[0; 8][..], b"walpost\0", &9u32.to_be_bytes(), b"123456789"];
        let mut random = 1u64;
        let mut below = |limit: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % limit
        };
        let mut ends = [0; 2];
        for round in 0..4_000 {
            let body = if round % 2 == 0 { insert(&cells) } else { logical.concat() };
            let mut whole = wal(&body);
            for _ in 0..below(4) {
                let at = 5 + below(60.min(whole.len() - 5));
                whole[at] = below(256) as u8;
            }
            let mut cutting = Cutting::new(whole.len());
            let mut received = BytesMut::new();
            let piece = 1 + below(LARGE);
            let mut pieces = whole.chunks(piece);
            let is_cut = loop {
                match cutting.advance(&mut received) {
                    Ok(true) => break true,
                    Err(Uncuttable) => break false,
                    Ok(false) => {
                        received.extend_from_slice(pieces.next().expect("an end with its bytes"));
                    }
                }
            };
            assert!(received.len() <= whole.len());
            ends[usize::from(is_cut)] += 1;
        }
        assert!(ends[0] > 500 && ends[1] > 500, "{ends:?}");
    }

    #[test]
    fn anything_else_is_refused() {
        for body in
            [&b"R\0\0\0\x07"[..], b"I\0\0\0\x07X", b"I\0\0\0\x07N\0\x01z", b"I\0\0\0\x07N\0"]
        {
            assert_eq!(cut(body, 3), Err(Uncuttable), "{}", body.escape_ascii());
        }
        // A cell that is longer than its message.
        let longer = [&b"I\0\0\0\x07N\0\x01t"[..], &u32::MAX.to_be_bytes(), b"x"].concat();
        assert_eq!(cut(&longer, 3), Err(Uncuttable));
    }
}
