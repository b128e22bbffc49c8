//! Avro's numbers: zigzag, seven bits a byte, low bits first; written and read side by side.

/// Appends an int or long.
#[inline]
pub(crate) fn write(value: i64, out: &mut Vec<u8>) {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    if zigzag < 0x80 {
        out.push(zigzag as u8);
    } else {
        write_long(zigzag, out);
    }
}

#[inline(never)]
fn write_long(mut rest: u64, out: &mut Vec<u8>) {
    let mut bytes = [0u8; 10];
    let mut len = 0;
    for byte in &mut bytes {
        len += 1;
        *byte = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 {
            break;
        }
        *byte |= 0x80;
    }
    out.extend_from_slice(bytes.get(..len).unwrap_or_default());
}

/// Appends a length or count.
#[inline]
pub(crate) fn write_len(len: usize, out: &mut Vec<u8>) {
    // No buffer of this process is longer than an i64 can say.
    write(len as i64, out);
}

/// Reads an int or long: its value and how many bytes it takes. None if the bytes end early or
/// hold more than 64 bits.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7F);
        if at == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            let signed = (value >> 1).cast_signed() ^ -((value & 1).cast_signed());
            return Some((signed, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_specification_shows_and_read_back() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            write(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(read(bytes), Some((value, bytes.len())));
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0x80]), None);
        assert_eq!(read(&[0xff; 11]), None);
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), None);
    }
}
