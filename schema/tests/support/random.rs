//! Random schemas, and random data of them with their JSON text.

use std::fmt::Write as _;

use apache_avro::types::Value;

/// Xorshift: a seed says everything about a case.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }

    /// Small, large and extreme numbers alike.
    fn long(&mut self) -> i64 {
        let value = self.next().cast_signed();
        match self.below(5) {
            0 => value % 100,
            1 => value >> 32,
            2 => i64::MAX,
            3 => i64::MIN,
            _ => value,
        }
    }
}

/// A type, enough of it to make data.
pub(crate) enum Type {
    Plain(&'static str),
    Logical(&'static str, &'static str),
    Decimal { fixed: Option<(String, usize)>, precision: usize, scale: usize },
    Fixed(String, usize),
    UuidFixed(String),
    Duration(String),
    Enum(String, usize),
    Array(Box<Type>),
    Map(Box<Type>),
    Record(String, Vec<Type>),
    Union(Vec<Type>),
}

/// What was meant, to compare with what a decoder reads.
#[derive(Debug)]
pub(crate) enum Datum {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Datum>),
    Map(Vec<(String, Datum)>),
    Branch(usize, Box<Datum>),
}

const PLAIN: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
const LOGICAL: [(&str, &str); 9] = [
    ("string", "uuid"),
    ("int", "date"),
    ("int", "time-millis"),
    ("long", "time-micros"),
    ("long", "timestamp-millis"),
    ("long", "timestamp-micros"),
    ("long", "timestamp-nanos"),
    ("long", "local-timestamp-millis"),
    ("long", "local-timestamp-micros"),
];

pub(crate) fn random_type(random: &mut Random, depth: usize, names: &mut usize) -> Type {
    let mut name = || {
        *names += 1;
        format!("N{names}")
    };
    match random.below(if depth == 0 { 8 } else { 13 }) {
        0..3 => Type::Plain(PLAIN[random.below(PLAIN.len())]),
        3 => {
            let (base, word) = LOGICAL[random.below(LOGICAL.len())];
            Type::Logical(base, word)
        }
        4 => {
            let fixed = random.below(2) == 0;
            let precision = 1 + random.below(if fixed { 30 } else { 60 });
            let fixed = fixed.then(|| (name(), 13 + random.below(4)));
            Type::Decimal { fixed, precision, scale: random.below(precision + 1) }
        }
        5 => Type::Fixed(name(), random.below(9)),
        6 if random.below(2) == 0 => Type::UuidFixed(name()),
        6 => Type::Duration(name()),
        7 => Type::Enum(name(), 1 + random.below(12)),
        8 => Type::Array(Box::new(random_type(random, depth - 1, names))),
        9 => Type::Map(Box::new(random_type(random, depth - 1, names))),
        10 => random_union(random, depth, names),
        _ => {
            let name = name();
            let count = random.below(12);
            Type::Record(name, (0..count).map(|_| random_type(random, depth - 1, names)).collect())
        }
    }
}

fn random_union(random: &mut Random, depth: usize, names: &mut usize) -> Type {
    let mut branches: Vec<Type> = Vec::new();
    for _ in 0..=random.below(5) {
        let branch = random_type(random, depth - 1, names);
        let taken = branches.iter().any(|other| other.branch_name() == branch.branch_name());
        // A map takes any object, so beside other branches a tag could be read as its key.
        if !taken && !matches!(branch, Type::Union(_) | Type::Map(_)) {
            branches.push(branch);
        }
    }
    Type::Union(branches)
}

impl Type {
    fn branch_name(&self) -> String {
        match self {
            Type::Plain(word) | Type::Logical(word, _) => (*word).to_owned(),
            Type::Decimal { fixed: None, .. } => "bytes".to_owned(),
            Type::Decimal { fixed: Some((name, _)), .. } => name.clone(),
            Type::Array(_) => "array".to_owned(),
            Type::Map(_) => "map".to_owned(),
            Type::Union(_) => "union".to_owned(),
            Type::Fixed(name, _)
            | Type::UuidFixed(name)
            | Type::Duration(name)
            | Type::Enum(name, _)
            | Type::Record(name, _) => name.clone(),
        }
    }

    pub(crate) fn schema(&self) -> String {
        let fixed = |name: &str, size: usize, more: &str| {
            format!(r#"{{"type":"fixed","name":"{name}","size":{size}{more}}}"#)
        };
        match self {
            Type::Plain(word) => format!("\"{word}\""),
            Type::Logical(base, word) => format!(r#"{{"type":"{base}","logicalType":"{word}"}}"#),
            Type::Decimal { fixed: named, precision, scale } => {
                let more =
                    format!(r#","logicalType":"decimal","precision":{precision},"scale":{scale}"#);
                match named {
                    Some((name, size)) => fixed(name, *size, &more),
                    None => format!(r#"{{"type":"bytes"{more}}}"#),
                }
            }
            Type::Fixed(name, size) => fixed(name, *size, ""),
            Type::UuidFixed(name) => fixed(name, 16, r#","logicalType":"uuid""#),
            Type::Duration(name) => fixed(name, 12, r#","logicalType":"duration""#),
            Type::Enum(name, count) => {
                let symbols: Vec<String> = (0..*count).map(|n| format!("\"S{n}\"")).collect();
                format!(r#"{{"type":"enum","name":"{name}","symbols":[{}]}}"#, symbols.join(","))
            }
            Type::Array(items) => format!(r#"{{"type":"array","items":{}}}"#, items.schema()),
            Type::Map(values) => format!(r#"{{"type":"map","values":{}}}"#, values.schema()),
            Type::Record(name, fields) => {
                let field = |(n, field): (usize, &Type)| {
                    format!(r#"{{"name":"f{n}","type":{}}}"#, field.schema())
                };
                let fields: Vec<String> = fields.iter().enumerate().map(field).collect();
                format!(r#"{{"type":"record","name":"{name}","fields":[{}]}}"#, fields.join(","))
            }
            Type::Union(branches) => {
                let branches: Vec<String> = branches.iter().map(Type::schema).collect();
                format!("[{}]", branches.join(","))
            }
        }
    }

    /// Appends JSON text and gives what it means; None if the type has no value.
    pub(crate) fn datum(&self, random: &mut Random, json: &mut String) -> Option<Datum> {
        Some(match self {
            Type::Plain(word) => plain(word, random, json),
            Type::Logical(_, word) => logical(word, random, json),
            Type::Decimal { fixed, precision, scale } => {
                return Some(decimal(
                    random,
                    *precision,
                    *scale,
                    fixed.as_ref().map(|f| f.1),
                    json,
                ));
            }
            Type::Fixed(_, size) => {
                let bytes = bytes(random, *size);
                write_base64(&bytes, json);
                Datum::Bytes(bytes)
            }
            Type::UuidFixed(_) => {
                let (text, bytes) = uuid(random);
                let _ = write!(json, "\"{text}\"");
                Datum::Bytes(bytes)
            }
            Type::Duration(_) => {
                let parts = [random.next() as u32, random.next() as u32, random.next() as u32];
                let [months, days, millis] = parts;
                let _ = write!(json, r#"{{"days":{days},"millis":{millis},"months":{months}}}"#);
                Datum::Bytes(parts.iter().flat_map(|part| part.to_le_bytes()).collect())
            }
            Type::Enum(_, count) => {
                let symbol = format!("S{}", random.below(*count));
                let _ = write!(json, "\"{symbol}\"");
                Datum::Text(symbol)
            }
            _ => return self.container(random, json),
        })
    }

    fn container(&self, random: &mut Random, json: &mut String) -> Option<Datum> {
        Some(match self {
            Type::Array(items) => {
                let mut data = Vec::new();
                json.push('[');
                for at in 0..random.below(4) {
                    json.push_str(if at == 0 { "" } else { " , " });
                    data.push(items.datum(random, json)?);
                }
                json.push(']');
                Datum::Array(data)
            }
            Type::Map(values) => {
                let mut data = Vec::new();
                json.push('{');
                for at in 0..random.below(4) {
                    let _ = write!(json, "{}\"k\\u00e9{at}\":", if at == 0 { "" } else { "," });
                    data.push((format!("ké{at}"), values.datum(random, json)?));
                }
                json.push('}');
                Datum::Map(data)
            }
            Type::Record(_, fields) => {
                let mut members = Vec::new();
                for (at, field) in fields.iter().enumerate() {
                    let mut member = format!("\"f{at}\": ");
                    let datum = field.datum(random, &mut member)?;
                    members.push((member, (format!("f{at}"), datum)));
                }
                let (mut texts, data): (Vec<_>, Vec<_>) = members.into_iter().unzip();
                if !texts.is_empty() {
                    let by = random.below(texts.len());
                    texts.rotate_left(by);
                }
                let _ = write!(json, "{{{}}}", texts.join(", "));
                Datum::Map(data)
            }
            Type::Union(branches) => {
                if branches.is_empty() {
                    return None;
                }
                let at = random.below(branches.len());
                let branch = branches.get(at)?;
                let _ = write!(json, "{{\"{}\":", branch.branch_name());
                let datum = branch.datum(random, json)?;
                json.push('}');
                Datum::Branch(at, Box::new(datum))
            }
            _ => return None,
        })
    }
}

fn plain(word: &str, random: &mut Random, json: &mut String) -> Datum {
    match word {
        "null" => {
            json.push_str("null");
            return Datum::Null;
        }
        "boolean" => {
            let value = random.below(2) == 0;
            let _ = write!(json, "{value}");
            return Datum::Boolean(value);
        }
        "int" | "long" => {
            let value = random.long();
            let value = if word == "int" { i64::from(value as i32) } else { value };
            let _ = write!(json, "{value}");
            return Datum::Integer(value);
        }
        "float" => {
            let value = f32::from_bits(random.next() as u32);
            let value = if value.is_finite() { value } else { -0.0 };
            let _ = write!(json, "{value:?}");
            return Datum::Float(value.into());
        }
        "double" => {
            let value = f64::from_bits(random.next());
            let value = if value.is_finite() { value } else { -0.0 };
            let _ = write!(json, "{value:?}");
            return Datum::Float(value);
        }
        "bytes" => {
            let len = random.below(20);
            let bytes = bytes(random, len);
            write_base64(&bytes, json);
            return Datum::Bytes(bytes);
        }
        _ => {}
    }
    let pool = ["", "a", "\"", "\\", "\n", "é", "😀", "/", "plain ascii text", "\u{1}"];
    let text: String = (0..random.below(6)).map(|_| pool[random.below(pool.len())]).collect();
    json.push_str(&serde_json::to_string(&text).unwrap());
    Datum::Text(text)
}

fn logical(word: &str, random: &mut Random, json: &mut String) -> Datum {
    let long = random.long();
    let value = match word {
        "uuid" => {
            let (text, _) = uuid(random);
            let _ = write!(json, "\"{text}\"");
            return Datum::Text(text);
        }
        "date" => i64::from(long as i32),
        "time-millis" => long.rem_euclid(86_400_000),
        "time-micros" => long.rem_euclid(86_400_000_000),
        _ => long,
    };
    let _ = write!(json, "{value}");
    Datum::Integer(value)
}

/// Digits that fit, and their bytes by a way of our own: repeated doubling of a byte array.
fn decimal(
    random: &mut Random,
    precision: usize,
    scale: usize,
    size: Option<usize>,
    json: &mut String,
) -> Datum {
    let count = 1 + random.below(precision);
    let digits: Vec<u8> = (0..count).map(|_| random.below(10) as u8).collect();
    let negative = random.below(2) == 0;
    let mut bytes = vec![0u8; size.unwrap_or(40)];
    for digit in &digits {
        let mut carry = u32::from(*digit);
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 10;
            *byte = carry as u8;
            carry >>= 8;
        }
    }
    if negative {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        for byte in bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
    }
    if size.is_none() {
        while let [first, second, ..] = bytes.as_slice() {
            if *first != (if second & 0x80 == 0 { 0 } else { 0xFF }) {
                break;
            }
            bytes.remove(0);
        }
    }
    let text: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
    let padded = format!("{}{text}", "0".repeat((scale + 1).saturating_sub(count)));
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    let _ = write!(json, "\"{}{whole}{point}{fraction}\"", if negative { "-" } else { "" });
    Datum::Bytes(bytes)
}

fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.next() as u8).collect()
}

fn uuid(random: &mut Random) -> (String, Vec<u8>) {
    let bytes = bytes(random, 16);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    (parts.join("-"), bytes)
}

fn write_base64(bytes: &[u8], json: &mut String) {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let digit = |six: &[u8]| (0..6).fold(0, |value, at| value << 1 | six.get(at).unwrap_or(&0));
    let mut text: String =
        bits.chunks(6).map(|six| ALPHABET[digit(six) as usize] as char).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    let _ = write!(json, "\"{text}\"");
}

/// Whether `apache-avro` read what was meant.
pub(crate) fn same(datum: &Datum, value: &Value) -> bool {
    match (datum, value) {
        (Datum::Null, Value::Null) => true,
        (Datum::Boolean(a), Value::Boolean(b)) => a == b,
        (Datum::Integer(a), Value::Int(b) | Value::Date(b) | Value::TimeMillis(b)) => {
            *a == i64::from(*b)
        }
        (
            Datum::Integer(a),
            Value::Long(b)
            | Value::TimeMicros(b)
            | Value::TimestampMillis(b)
            | Value::TimestampMicros(b)
            | Value::TimestampNanos(b)
            | Value::LocalTimestampMillis(b)
            | Value::LocalTimestampMicros(b),
        ) => a == b,
        (Datum::Float(a), Value::Float(b)) => (*a as f32).to_bits() == b.to_bits(),
        (Datum::Float(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
        (Datum::Bytes(a), Value::Bytes(b) | Value::Fixed(_, b)) => a == b,
        (Datum::Bytes(a), Value::Decimal(b)) => Vec::<u8>::try_from(b).is_ok_and(|b| *a == b),
        (Datum::Bytes(a), Value::Uuid(b)) => a == b.as_bytes(),
        (Datum::Bytes(a), Value::Duration(b)) => *a == <[u8; 12]>::from(*b),
        (Datum::Text(a), Value::String(b) | Value::Enum(_, b)) => a == b,
        (Datum::Text(a), Value::Uuid(b)) => *a == b.to_string(),
        (Datum::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Datum::Map(a), Value::Record(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        }
        (Datum::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (Datum::Branch(a, inner), Value::Union(b, value)) => {
            *a == *b as usize && same(inner, value)
        }
        _ => false,
    }
}
