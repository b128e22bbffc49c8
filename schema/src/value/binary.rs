//! Text that stands for bytes in, bytes out, and back: base64, hex, Latin-1 and UUIDs.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the bytes of padded base64 (RFC 4648, section 4). Line breaks are skipped: PostgreSQL's
/// `encode(.., 'base64')` puts one after every 76 characters.
pub(crate) fn decode_base64(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let (mut bits, mut have, mut padding, mut count) = (0u32, 0u32, 0usize, 0usize);
    for byte in text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')) {
        count += 1;
        if byte == b'=' {
            padding += 1;
            continue;
        }
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | base64_digit(byte)?;
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
            bits &= (1 << have) - 1;
        }
    }
    // Bits that no byte holds must be zero, else two texts would stand for the same bytes.
    let padded = matches!((have, padding), (0, 0) | (2, 1) | (4, 2));
    (count.is_multiple_of(4) && padded && bits == 0).then_some(())
}

fn base64_digit(byte: u8) -> Option<u32> {
    let digit = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(digit))
}

pub(crate) fn write_base64(bytes: &[u8], out: &mut String) {
    let digit = |value: u32| {
        let byte = ALPHABET.get((value & 63) as usize).copied();
        char::from(byte.unwrap_or(b'='))
    };
    for chunk in bytes.chunks(3) {
        let (value, digits) = match *chunk {
            [a, b, c] => (u32::from_be_bytes([0, a, b, c]), 4),
            [a, b] => (u32::from_be_bytes([0, a, b, 0]), 3),
            [a] => (u32::from_be_bytes([0, a, 0, 0]), 2),
            _ => (0, 0),
        };
        for at in 0..4 {
            out.push(if at < digits { digit(value >> (18 - 6 * at)) } else { '=' });
        }
    }
}

/// Appends the bytes of pairs of hex digits.
pub(crate) fn decode_hex(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    for [high, low] in pairs {
        out.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
    }
    rest.is_empty().then_some(())
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

pub(crate) fn write_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
}

/// Appends one byte for each character up to U+00FF, the form of Avro's own JSON encoding.
pub(crate) fn decode_latin1(text: &str, out: &mut Vec<u8>) -> Option<()> {
    for c in text.chars() {
        out.push(u8::try_from(c).ok()?);
    }
    Some(())
}

/// The 16 bytes of `8-4-4-4-12` hex digits, of either case.
pub(crate) fn decode_uuid(text: &str) -> Option<[u8; 16]> {
    let mut digits = [0u8; 32];
    let mut places = digits.iter_mut();
    for (at, byte) in text.bytes().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        *places.next()? = hex_digit(byte)?;
    }
    if places.next().is_some() {
        return None;
    }
    let mut bytes = [0u8; 16];
    let (pairs, _) = digits.as_chunks::<2>();
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = high << 4 | low;
    }
    Some(bytes)
}

/// Lower case, as PostgreSQL prints it.
pub(crate) fn write_uuid(bytes: &[u8], out: &mut String) {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        write_hex(&[*byte], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_rfc_4648_and_comes_back() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (&[0xFB, 0xFF, 0xFE], "+//+"),
        ] {
            let mut written = String::new();
            write_base64(bytes, &mut written);
            assert_eq!(written, text);
            let mut read = Vec::new();
            assert!(decode_base64(text, &mut read).is_some());
            assert_eq!(read, bytes);
        }
        let mut read = Vec::new();
        assert!(decode_base64("Zm9v\nYmFy\r\n", &mut read).is_some());
        assert_eq!(read, b"foobar");
        for text in
            ["Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "=", "====", "Zg==Zg==", "-__-", "Z m9", "é"]
        {
            assert!(decode_base64(text, &mut Vec::new()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_uuid_is_its_bytes_in_order() {
        let bytes = decode_uuid("00112233-4455-6677-8899-AABBCCDDEEff").unwrap();
        assert_eq!(bytes[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(bytes[15], 0xFF);
        let mut text = String::new();
        write_uuid(&bytes, &mut text);
        assert_eq!(text, "00112233-4455-6677-8899-aabbccddeeff");
        for text in [
            "",
            "00112233445566778899aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeeff0",
            "{0112233-4455-6677-8899-aabbccddeeff",
            "0011223-34455-6677-8899-aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeefg",
        ] {
            assert_eq!(decode_uuid(text), None, "{text}");
        }
    }

    #[test]
    fn hex_is_pairs() {
        let mut out = Vec::new();
        assert!(decode_hex("00fFa1", &mut out).is_some());
        assert_eq!(out, [0x00, 0xFF, 0xA1]);
        assert!(decode_hex("0", &mut out).is_none());
        assert!(decode_hex("0g", &mut out).is_none());
    }
}
