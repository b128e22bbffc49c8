//! Framed Avro read with the reference crate, never with ours.

use std::cell::RefCell;
use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use serde_json::Value as Json;

use crate::registry::Registry;

/// Decodes by the schema id in front of each value.
#[derive(Debug)]
pub struct Decoder {
    registry: Registry,
    schemas: RefCell<HashMap<u32, Schema>>,
}

impl Decoder {
    pub fn new(registry: &Registry) -> Self {
        Self { registry: registry.clone(), schemas: RefCell::default() }
    }

    /// Makes the schema of an id known whose text alone does not parse, for it has references.
    pub fn know(&self, id: u32, schema: Schema) {
        self.schemas.borrow_mut().insert(id, schema);
    }

    /// The id in the frame.
    pub fn id(framed: &[u8]) -> Option<u32> {
        let (frame, _) = framed.split_first_chunk::<5>()?;
        let [0, id @ ..] = *frame else { return None };
        Some(u32::from_be_bytes(id))
    }

    /// The datum, which must take the whole value.
    pub fn decode(&self, framed: &[u8]) -> Result<Avro, String> {
        let id = Self::id(framed).ok_or("no frame")?;
        let mut schemas = self.schemas.borrow_mut();
        let schema = schemas.entry(id).or_insert_with(|| {
            Schema::parse_str(&self.registry.schema(id)).expect("a registered schema parses")
        });
        let mut rest = &framed[5..];
        let value = read(schema, &mut rest)?;
        if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes too many", rest.len())) }
    }
}

fn read(schema: &Schema, rest: &mut &[u8]) -> Result<Avro, String> {
    let reader = GenericDatumReader::builder(schema).build().map_err(|error| error.to_string())?;
    reader.read_value(rest).map_err(|error| error.to_string())
}

/// Whether a datum says what the JSON says; `at` names the place in an error.
pub fn same(avro: &Avro, json: &Json, at: &str) -> Result<(), String> {
    let is_same = match (avro, json) {
        (Avro::Union(_, inner), _) => return same(inner, json, at),
        (Avro::Record(fields), Json::Object(members)) => {
            for (name, value) in fields {
                let member = members.get(name).unwrap_or(&Json::Null);
                same(value, member, &format!("{at}/{name}"))?;
            }
            let known = |name: &String| fields.iter().any(|(field, _)| field == name);
            members.keys().all(known)
        }
        (Avro::Map(entries), Json::Object(members)) => {
            for (name, value) in entries {
                same(value, members.get(name).unwrap_or(&Json::Null), &format!("{at}/{name}"))?;
            }
            entries.len() == members.len()
        }
        (Avro::Array(items), Json::Array(elements)) => {
            for (index, (item, element)) in items.iter().zip(elements).enumerate() {
                same(item, element, &format!("{at}/{index}"))?;
            }
            items.len() == elements.len()
        }
        (Avro::Null, Json::Null) => true,
        (Avro::Boolean(found), Json::Bool(wanted)) => found == wanted,
        (Avro::Int(found), Json::Number(wanted)) => wanted.as_i64() == Some(i64::from(*found)),
        (Avro::Long(found), Json::Number(wanted)) => wanted.as_i64() == Some(*found),
        (Avro::Double(found), Json::Number(wanted)) => wanted.as_f64() == Some(*found),
        (Avro::Float(found), Json::Number(wanted)) => {
            wanted.as_f64().map(|wanted| wanted as f32) == Some(*found)
        }
        (Avro::String(found) | Avro::Enum(_, found), Json::String(wanted)) => found == wanted,
        (Avro::Uuid(found), Json::String(wanted)) => &found.to_string() == wanted,
        (Avro::Bytes(found) | Avro::Fixed(_, found), Json::String(wanted)) => {
            wanted == &base64(found)
        }
        (Avro::TimestampMillis(found), Json::Number(wanted)) => wanted.as_i64() == Some(*found),
        (Avro::Date(found), Json::Number(wanted)) => wanted.as_i64() == Some(i64::from(*found)),
        _ => false,
    };
    if is_same { Ok(()) } else { Err(format!("{at}: {avro:?}, not {json}")) }
}

/// Padded base64, the form of bytes in a payload.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(*chunk.get(i).unwrap_or(&0)));
        let letters = [letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), letter(bits)];
        text.extend(letters.iter().take(chunk.len() + 1));
        text.extend(std::iter::repeat_n('=', 3 - chunk.len()));
    }
    text
}
