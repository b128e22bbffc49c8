//! JSON text in, tokens out: where a string, a number or a whole value ends, and nothing built.
//!
//! The grammar of payloads is RFC 8259 with two refusals that PostgreSQL's `jsonb` makes too:
//! `\u0000` and lone surrogates, neither of which an Avro string can hold for every reader. Nothing
//! here recurses, so no input is too deep to be skipped.

use std::fmt;

/// The text stops being JSON at `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

/// The bytes between the quotes of a string.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Whether the text holds escapes; if not, the bytes are the value.
    pub(crate) escaped: bool,
}

/// The bytes of a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Written without point and exponent.
    pub(crate) plain: bool,
}

/// What the next value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }
}

/// What kind of text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Payload,
    /// As Java Avro's schema parser, which turns on Jackson's `ALLOW_COMMENTS`. Defaults of bytes
    /// fields are written with `\u0000`.
    Schema,
}

/// A place in a JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    pub(crate) pos: usize,
    dialect: Dialect,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Cursor { text, pos: 0, dialect: Dialect::Payload }
    }

    pub(crate) fn of_schema(text: &'a str) -> Self {
        Cursor { text, pos: 0, dialect: Dialect::Schema }
    }

    /// The bytes of a span that a token of this text gave.
    #[inline]
    pub(crate) fn bytes(&self, start: usize, end: usize) -> &'a [u8] {
        self.text.as_bytes().get(start..end).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn span(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    pub(crate) fn fault<T>(&self, what: &'static str) -> Result<T, Fault> {
        let what = if self.pos >= self.text.len() { "text ends early" } else { what };
        Err(Fault { offset: self.pos, what })
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    /// Skips white space and gives the byte behind it.
    #[inline]
    pub(crate) fn next_byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        if byte > b' ' && byte != b'/' {
            return Some(byte);
        }
        // `jsonb` is written with one space behind each colon and comma.
        if byte == b' ' {
            self.pos += 1;
        }
        match self.peek() {
            Some(byte) if byte > b' ' && byte != b'/' => Some(byte),
            _ => self.behind_space(),
        }
    }

    #[inline(never)]
    fn behind_space(&mut self) -> Option<u8> {
        loop {
            let byte = self.peek()?;
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => self.pos += 1,
                b'/' if self.dialect == Dialect::Schema => {
                    if !self.skip_comment() {
                        return Some(byte);
                    }
                }
                _ => return Some(byte),
            }
        }
    }

    fn skip_comment(&mut self) -> bool {
        let rest = self.text.get(self.pos..).unwrap_or_default();
        let len = if let Some(body) = rest.strip_prefix("/*") {
            body.find("*/").map(|at| at + 4)
        } else if rest.starts_with("//") {
            Some(rest.find('\n').unwrap_or(rest.len()))
        } else {
            None
        };
        self.pos += len.unwrap_or(0);
        len.is_some()
    }

    /// Skips white space and `byte`, if it is next.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.next_byte() == Some(byte);
        self.pos += usize::from(found);
        found
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.eat(byte) { Ok(()) } else { self.fault(what) }
    }

    /// The kind of the next value; the cursor stands on its first byte then.
    #[inline]
    pub(crate) fn kind(&mut self) -> Result<Kind, Fault> {
        match self.next_byte() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Boolean),
            Some(b'n') => Ok(Kind::Null),
            _ => self.fault("expected a value"),
        }
    }

    pub(crate) fn null(&mut self) -> Result<(), Fault> {
        self.word("null")
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Fault> {
        let value = self.peek() == Some(b't');
        self.word(if value { "true" } else { "false" })?;
        Ok(value)
    }

    #[inline]
    fn word(&mut self, word: &'static str) -> Result<(), Fault> {
        if self.bytes(self.pos, self.pos + word.len()) == word.as_bytes() {
            self.pos += word.len();
            return Ok(());
        }
        Err(Fault { offset: self.pos, what: "expected true, false or null" })
    }

    /// A number that starts here.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<Number, Fault> {
        let start = self.pos;
        self.pos += usize::from(self.peek() == Some(b'-'));
        let first = self.peek();
        let whole = self.digits();
        if whole == 0 {
            return self.fault("expected a digit");
        }
        if first == Some(b'0') && whole > 1 {
            return Err(Fault { offset: start, what: "number has a leading zero" });
        }
        let mut plain = true;
        if self.peek() == Some(b'.') {
            plain = false;
            self.pos += 1;
            if self.digits() == 0 {
                return self.fault("expected a digit");
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            plain = false;
            self.pos += 1;
            self.pos += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return self.fault("expected a digit");
            }
        }
        Ok(Number { start, end: self.pos, plain })
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.pos;
        while let Some(b'0'..=b'9') = self.peek() {
            self.pos += 1;
        }
        self.pos - start
    }

    /// A string that starts at this quote. Its escapes are checked, so that [`unescape`] of the
    /// same span cannot fail.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Quoted, Fault> {
        if self.peek() != Some(b'"') {
            return self.fault("expected a string");
        }
        let start = self.pos + 1;
        let mut end = start;
        let mut escaped = false;
        loop {
            let rest = self.text.as_bytes().get(end..).unwrap_or_default();
            end += plain_len(rest);
            match self.text.as_bytes().get(end) {
                Some(b'"') => {
                    self.pos = end + 1;
                    return Ok(Quoted { start, end, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    let rest = self.text.as_bytes().get(end..).unwrap_or_default();
                    match escape(rest, self.dialect) {
                        Ok((_, len)) => end += len,
                        Err(what) => return Err(Fault { offset: end, what }),
                    }
                }
                Some(_) => {
                    return Err(Fault { offset: end, what: "control character in a string" });
                }
                None => {
                    return Err(Fault { offset: end, what: "text ends early" });
                }
            }
        }
    }

    /// Appends the value of a string to `out`.
    #[inline]
    pub(crate) fn unescape(&self, quoted: Quoted, out: &mut Vec<u8>) {
        let text = self.bytes(quoted.start, quoted.end);
        if quoted.escaped { unescape(text, out) } else { out.extend_from_slice(text) }
    }

    /// The value of a string as text.
    pub(crate) fn string_value(&self, quoted: Quoted) -> String {
        let mut bytes = Vec::new();
        self.unescape(quoted, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Skips one value of any kind and depth, checking its grammar.
    pub(crate) fn skip_value(&mut self) -> Result<(), Fault> {
        let mut open = Nesting::default();
        loop {
            match self.kind()? {
                Kind::Null => self.null()?,
                Kind::Boolean => _ = self.boolean()?,
                Kind::Number => _ = self.number()?,
                Kind::String => _ = self.string()?,
                Kind::Array => {
                    self.pos += 1;
                    if !self.eat(b']') {
                        open.push(Kind::Array);
                        continue;
                    }
                }
                Kind::Object => {
                    self.pos += 1;
                    if !self.eat(b'}') {
                        open.push(Kind::Object);
                        self.skip_key()?;
                        continue;
                    }
                }
            }
            // A value has ended: close what ends with it, then go to the next one.
            loop {
                match open.last() {
                    None => return Ok(()),
                    Some(Kind::Object) => {
                        if self.eat(b',') {
                            self.skip_key()?;
                            break;
                        }
                        self.expect(b'}', "expected , or }")?;
                    }
                    Some(_) => {
                        if self.eat(b',') {
                            break;
                        }
                        self.expect(b']', "expected , or ]")?;
                    }
                }
                open.pop();
            }
        }
    }

    fn skip_key(&mut self) -> Result<(), Fault> {
        self.key()?;
        Ok(())
    }

    /// A key and the colon behind it.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Quoted, Fault> {
        if self.next_byte() != Some(b'"') {
            return self.fault("expected a key");
        }
        let key = self.string()?;
        self.expect(b':', "expected :")?;
        Ok(key)
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(Fault { offset: self.pos, what: "text after the value" }),
        }
    }
}

/// Open arrays and objects, one bit each, the first 64 without allocation.
#[derive(Default)]
struct Nesting {
    bits: u64,
    depth: usize,
    spilled: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, kind: Kind) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.spilled.push(self.bits);
            self.bits = 0;
        }
        self.bits = (self.bits << 1) | u64::from(kind == Kind::Object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.bits >>= 1;
        self.depth -= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.bits = self.spilled.pop().unwrap_or_default();
        }
    }

    fn last(&self) -> Option<Kind> {
        match (self.depth, self.bits & 1) {
            (0, _) => None,
            (_, 1) => Some(Kind::Object),
            _ => Some(Kind::Array),
        }
    }
}

/// How many bytes stand before the first quote, backslash or control character.
///
/// Eight bytes at a time: in `x - 0x01..` a byte borrows only if it was zero (or above a match),
/// so the lowest marked byte is always a true match.
#[inline]
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero_bytes = |x: u64| x.wrapping_sub(ONES) & !x & HIGH;
    let (chunks, _) = bytes.as_chunks::<8>();
    let mut len = 0;
    for chunk in chunks {
        let x = u64::from_le_bytes(*chunk);
        let control = x.wrapping_sub(ONES * 0x20) & !x & HIGH;
        let quote = zero_bytes(x ^ (ONES * u64::from(b'"')));
        let backslash = zero_bytes(x ^ (ONES * u64::from(b'\\')));
        let marked = control | quote | backslash;
        if marked != 0 {
            return len + marked.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    let tail = bytes.get(len..).unwrap_or_default();
    len + tail.iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..0x20)).count()
}

/// The character of an escape that starts with this backslash, and how many bytes it takes.
fn escape(bytes: &[u8], dialect: Dialect) -> Result<(char, usize), &'static str> {
    let short = match bytes.get(1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(bytes, dialect),
        Some(_) => return Err("unknown escape"),
        None => return Err("text ends early"),
    };
    Ok((short, 2))
}

fn unicode_escape(bytes: &[u8], dialect: Dialect) -> Result<(char, usize), &'static str> {
    let first = hex4(bytes.get(2..6)).ok_or("expected four hex digits")?;
    if first == 0 && dialect == Dialect::Payload {
        return Err("\\u0000 in a string");
    }
    if let Some(c) = char::from_u32(first) {
        return Ok((c, 6));
    }
    let second = match bytes.get(6..8) {
        Some(b"\\u") => hex4(bytes.get(8..12)),
        _ => None,
    };
    match (first, second) {
        (0xD800..0xDC00, Some(low @ 0xDC00..0xE000)) => {
            let code = 0x1_0000 + ((first - 0xD800) << 10) + (low - 0xDC00);
            char::from_u32(code).map(|c| (c, 12)).ok_or("lone surrogate")
        }
        _ => Err("lone surrogate"),
    }
}

fn hex4(digits: Option<&[u8]>) -> Option<u32> {
    let mut value = 0;
    for digit in digits? {
        value = value * 16 + char::from(*digit).to_digit(16)?;
    }
    Some(value)
}

fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = text.iter().position(|b| *b == b'\\') {
        let (plain, rest) = text.split_at(at);
        out.extend_from_slice(plain);
        let (c, len) = escape(rest, Dialect::Schema).unwrap_or(('\u{FFFD}', 2));
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        text = rest.get(len..).unwrap_or_default();
    }
    out.extend_from_slice(text);
}

/// Appends `text` to `out` as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ') {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = tail.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(c) => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let code = c as u32;
                out.push_str("\\u00");
                for shift in [4, 0] {
                    let digit = HEX.get((code >> shift & 15) as usize).copied().unwrap_or(b'0');
                    out.push(char::from(digit));
                }
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(text: &str) -> Result<(), Fault> {
        let mut cursor = Cursor::new(text);
        cursor.skip_value()?;
        cursor.end()
    }

    #[test]
    fn the_grammar_agrees_with_serde_json() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "1e5",
            "1E+5",
            "1.5e-7",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "1a",
            "[]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{}",
            "{\"a\":1}",
            "{\"a\" 1}",
            "{\"a\":1,}",
            "{1:2}",
            "true",
            "tru",
            "nul",
            "nulll",
            "\"a",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\ud83d\\ude00\"",
            "\"\\u12\"",
            "\"\n\"",
            "",
            " ",
            "[[[]]]",
            "[{\"a\":[{}]}]",
            "{\"a\":{\"b\":[1,2]}} ",
            "]",
            "[}",
            "{]",
            "NaN",
            "Infinity",
            "1 1",
            "[1]x",
            "\"\\ude00\\ud83d\"",
            "/**/1",
        ] {
            let theirs = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(skip(text).is_ok(), theirs, "{text:?}");
        }
        assert!(skip("\"\\u0000\"").is_err());
    }

    #[test]
    fn a_million_levels_are_skipped_without_recursion() {
        let deep = format!("{}1{}", "[{\"a\":".repeat(500_000), "}]".repeat(500_000));
        assert_eq!(skip(&deep), Ok(()));
        let torn = format!("{}1{}", "[{\"a\":".repeat(500_000), "}]".repeat(499_999));
        assert!(skip(&torn).is_err());
        let crossed = format!("{}1{}}}", "[".repeat(130), "]".repeat(129));
        assert!(skip(&crossed).is_err());
    }

    #[test]
    fn strings_unescape_as_serde_json_does() {
        for text in [
            r#""""#,
            r#""plain""#,
            r#""a\"b\\c\/d\b\f\n\r\t""#,
            r#""\u00e9\ud83d\ude00é😀""#,
            r#""0123456789abcdef\n0123456789""#,
            r#""1234567\"""#,
        ] {
            let mut cursor = Cursor::new(text);
            let quoted = cursor.string().unwrap();
            let expected: String = serde_json::from_str(text).unwrap();
            assert_eq!(cursor.string_value(quoted), expected);
            let mut again = String::new();
            write_string(&expected, &mut again);
            assert_eq!(serde_json::from_str::<String>(&again).unwrap(), expected);
        }
    }

    #[test]
    fn plain_len_stops_at_the_first_special_byte_wherever_it_stands() {
        for special in [b'"', b'\\', 0u8, 0x1F] {
            for len in 0..40 {
                for at in 0..len {
                    let mut bytes = vec![0xC3u8; len];
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = special;
                    }
                    assert_eq!(plain_len(&bytes), at);
                }
            }
        }
        assert_eq!(plain_len(&[0x7F; 17]), 17);
        assert_eq!(plain_len(&[0x80, 0x20, 0x21, 0x23, 0x5B, 0x5D, 0xFF, 0xA0, 0xA2]), 9);
    }
}
