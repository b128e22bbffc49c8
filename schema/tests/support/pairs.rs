//! Random pairs: a writer's type, and its schema with random edits as the reader's.

use serde_json::{Map, Value, json};

use super::random::{Random, Type, random_type};

/// A writer's type with its schema, and a reader's schema.
pub(crate) struct RandomPair {
    pub(crate) writer: Type,
    pub(crate) writer_schema: String,
    pub(crate) reader_schema: String,
}

pub(crate) fn random_pair(random: &mut Random) -> RandomPair {
    let mut names = 0;
    // Most events are records.
    let writer = if random.below(4) == 0 {
        random_type(random, 3, &mut names)
    } else {
        let fields = 1 + random.below(6);
        let fields = (0..fields).map(|_| random_type(random, 2, &mut names)).collect();
        Type::Record("Top".to_owned(), fields)
    };
    let writer_schema = writer.schema();
    let mut reader: Value = serde_json::from_str(&writer_schema).unwrap();
    for _ in 0..random.below(4) {
        edit(&mut reader, random, 0);
    }
    RandomPair { writer, writer_schema, reader_schema: reader.to_string() }
}

const PRIMITIVES: [&str; 8] =
    ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// One edit somewhere in a schema.
fn edit(schema: &mut Value, random: &mut Random, depth: usize) {
    if depth > 0 && random.below(8) == 0 {
        let inner = schema.take();
        *schema = match inner {
            Value::Array(branches) if !branches.is_empty() && random.below(2) == 0 => {
                branches[random.below(branches.len())].clone()
            }
            Value::Array(branches) => Value::Array(branches),
            Value::String(word) if word == "null" => json!("null"),
            other if random.below(2) == 0 => json!(["null", other]),
            other => other,
        };
        return;
    }
    match schema {
        Value::String(word) => {
            let wider = match word.as_str() {
                "int" => "long",
                "long" | "float" => "double",
                "string" => "bytes",
                other => other,
            };
            *word = if random.below(3) > 0 {
                wider.to_owned()
            } else {
                PRIMITIVES[random.below(PRIMITIVES.len())].to_owned()
            };
        }
        Value::Array(branches) => edit_union(branches, random, depth),
        Value::Object(members) => edit_object(members, random, depth),
        _ => {}
    }
}

fn edit_object(members: &mut Map<String, Value>, random: &mut Random, depth: usize) {
    match members.get("type").and_then(Value::as_str).unwrap_or_default() {
        "record" => {
            if let Some(Value::Array(fields)) = members.get_mut("fields") {
                edit_fields(fields, random, depth);
            }
        }
        "enum" => {
            if random.below(3) == 0 {
                members.insert("default".to_owned(), json!("S0"));
            }
            if let Some(Value::Array(symbols)) = members.get_mut("symbols") {
                match random.below(3) {
                    0 if symbols.len() > 1 => _ = symbols.pop(),
                    1 => symbols.push(json!(format!("S{}", symbols.len()))),
                    _ => symbols.reverse(),
                }
            }
        }
        "fixed" if random.below(4) == 0 && !members.contains_key("logicalType") => {
            members.insert("size".to_owned(), json!(random.below(9)));
        }
        "array" => {
            if let Some(items) = members.get_mut("items") {
                edit(items, random, depth + 1);
            }
        }
        "map" => {
            if let Some(values) = members.get_mut("values") {
                edit(values, random, depth + 1);
            }
        }
        _ => {}
    }
    if random.below(12) == 0 && members.contains_key("name") {
        let old = members["name"].clone();
        let new = format!("Renamed{}", random.below(1_000_000));
        members.insert("name".to_owned(), json!(new));
        if random.below(2) == 0 {
            members.insert("aliases".to_owned(), json!([old]));
        }
    }
    if random.below(12) == 0 && members.contains_key("name") {
        members.insert("namespace".to_owned(), json!("other.space"));
    }
}

fn edit_union(branches: &mut Vec<Value>, random: &mut Random, depth: usize) {
    if branches.is_empty() {
        return;
    }
    let at = random.below(branches.len());
    match random.below(4) {
        0 => branches.reverse(),
        1 => _ = branches.remove(at),
        2 => branches.push(json!(PRIMITIVES[random.below(PRIMITIVES.len())])),
        _ => edit(&mut branches[at], random, depth + 1),
    }
}

fn edit_fields(fields: &mut Vec<Value>, random: &mut Random, depth: usize) {
    let defaults = [
        json!({"type": "int", "default": 1}),
        json!({"type": ["null", "string"], "default": null}),
        json!({"type": "string", "default": "x"}),
        json!({"type": {"type": "array", "items": "int"}, "default": []}),
        json!({"type": "int", "default": "bad"}),
        json!({"type": "long"}),
    ];
    let at = random.below(fields.len().max(1));
    match random.below(6) {
        0 => {
            let mut field = defaults[random.below(defaults.len())].clone();
            field["name"] = json!(format!("added{}", random.below(1_000_000)));
            fields.insert(at.min(fields.len()), field);
        }
        1 if at < fields.len() => _ = fields.remove(at),
        2 => fields.reverse(),
        3 if at < fields.len() => {
            let old = fields[at]["name"].clone();
            fields[at]["name"] = json!(format!("renamed{}", random.below(1_000_000)));
            if random.below(3) > 0 {
                fields[at]["aliases"] = json!([old]);
            }
        }
        _ if at < fields.len() => {
            if let Some(inner) = fields[at].get_mut("type") {
                edit(inner, random, depth + 1);
            }
        }
        _ => {}
    }
}
