//! Confluent framing: a schema id and an Avro body in, a record value out, and back.
//!
//! ```text
//! byte 0     0x00
//! byte 1..5  schema id, big-endian
//! byte 5..   Avro binary body
//! ```
//!
//! A null record value is a tombstone and has no frame at all.

/// Bytes before the Avro body.
pub const PREFIX_LEN: usize = 5;

const MAGIC: u8 = 0;

/// The number a registry gave a schema.
///
/// Registries count with signed 32-bit numbers, but the four bytes on the wire hold any `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u32);

impl std::fmt::Display for SchemaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The prefix for `id`: what stands in front of the Avro body.
#[must_use]
pub fn frame_header(id: SchemaId) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// Appends the prefix for `id`; the caller appends the Avro body behind it.
pub fn encode(id: SchemaId, out: &mut Vec<u8>) {
    out.extend_from_slice(&frame_header(id));
}

/// Splits a record value into the schema id and the Avro body, which is not looked into.
pub fn decode(value: &[u8]) -> Result<(SchemaId, &[u8]), WireError> {
    match value {
        [MAGIC, a, b, c, d, body @ ..] => {
            Ok((SchemaId(u32::from_be_bytes([*a, *b, *c, *d])), body))
        }
        [MAGIC, ..] | [] => Err(WireError::TooShort { len: value.len() }),
        [first, ..] => Err(WireError::UnknownMagic { first: *first }),
    }
}

/// Why a record value has no readable frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer bytes than the prefix needs.
    #[error("framed value has {len} bytes, its prefix alone needs {PREFIX_LEN}")]
    TooShort {
        /// Bytes present.
        len: usize,
    },
    /// The first byte is not zero.
    #[error("framed value starts with byte {first:#04x} instead of 0x00")]
    UnknownMagic {
        /// The byte found.
        first: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_zero_byte_and_a_big_endian_id() {
        let mut value = Vec::new();
        encode(SchemaId(0x0102_0304), &mut value);
        value.push(0x2A);
        assert_eq!(value, [0, 1, 2, 3, 4, 0x2A]);
        assert_eq!(decode(&value), Ok((SchemaId(0x0102_0304), &[0x2A][..])));
    }

    #[test]
    fn an_id_above_the_signed_range_and_an_empty_body_are_read() {
        assert_eq!(decode(&[0, 0xFF, 0xFF, 0xFF, 0xFF]), Ok((SchemaId(u32::MAX), &[][..])));
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        assert_eq!(decode(&[]), Err(WireError::TooShort { len: 0 }));
        assert_eq!(decode(&[0, 0, 0, 1]), Err(WireError::TooShort { len: 4 }));
        assert_eq!(decode(b"{\"a\":1}"), Err(WireError::UnknownMagic { first: b'{' }));
    }
}
