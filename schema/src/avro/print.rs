//! A schema in, one text out that says everything it says: what a registry keeps apart.
//!
//! As Java's `Schema.toString`: white space, comments, the order of keys, `{"type": "int"}` for
//! `"int"` and a namespace written at another place make no difference; docs, aliases, defaults and
//! further properties do.

use std::collections::HashSet;

use crate::avro::{Field, FieldOrder, Kind, Name, NodeId, Schema};
use crate::json::write_string;

/// The order of properties that the specification does not define.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Properties {
    AsWritten,
    Sorted,
}

enum Piece {
    Text(String),
    Type(NodeId),
}

/// Works off a stack of pieces, as the canonical form does, and for the same reason.
pub(crate) fn print(schema: &Schema, properties: Properties) -> String {
    let mut printer = Printer { schema, properties, written: HashSet::new(), todo: Vec::new() };
    printer.todo.push(Piece::Type(schema.root().node));
    let mut out = String::new();
    while let Some(piece) = printer.todo.pop() {
        match piece {
            Piece::Text(text) => out.push_str(&text),
            Piece::Type(id) => {
                let from = printer.todo.len();
                printer.expand(id);
                if let Some(added) = printer.todo.get_mut(from..) {
                    added.reverse();
                }
            }
        }
    }
    out
}

struct Printer<'a> {
    schema: &'a Schema,
    properties: Properties,
    written: HashSet<NodeId>,
    todo: Vec<Piece>,
}

impl Printer<'_> {
    fn expand(&mut self, id: NodeId) {
        let schema = self.schema;
        let node = schema.node(id);
        if let Some(name) = node.kind.name() {
            let is_foreign = schema.place(node.place).document != 0;
            if is_foreign || !self.written.insert(id) {
                return self.text(quoted(name.full()));
            }
        }
        let properties = self.properties_of(&node.properties);
        match &node.kind {
            Kind::Record(record) => {
                self.text(named("record", &record.name, record.doc.as_deref()));
                self.text(",\"fields\":[".to_owned());
                for (at, field) in record.fields.iter().enumerate() {
                    self.field(at, field);
                }
                self.text(format!("]{properties}{}}}", type_aliases(&record.aliases)));
            }
            Kind::Enum(one) => {
                let symbols: Vec<String> = one.symbols.iter().map(|s| quoted(s)).collect();
                let default = one.default.as_deref().map(quoted);
                let default = default.map(|text| format!(",\"default\":{text}"));
                self.text(format!(
                    "{},\"symbols\":[{}]{}{properties}{}}}",
                    named("enum", &one.name, one.doc.as_deref()),
                    symbols.join(","),
                    default.unwrap_or_default(),
                    type_aliases(&one.aliases)
                ));
            }
            Kind::Fixed(fixed) => self.text(format!(
                "{},\"size\":{}{properties}{}}}",
                named("fixed", &fixed.name, fixed.doc.as_deref()),
                fixed.size,
                type_aliases(&fixed.aliases)
            )),
            Kind::Array(inner) | Kind::Map(inner) => {
                let (word, key) = match node.kind {
                    Kind::Array(_) => ("array", "items"),
                    _ => ("map", "values"),
                };
                self.text(format!("{{\"type\":\"{word}\",\"{key}\":"));
                self.todo.push(Piece::Type(inner.node));
                self.text(format!("{properties}}}"));
            }
            Kind::Union(branches) => {
                self.text("[".to_owned());
                for (at, branch) in branches.iter().enumerate() {
                    self.text(if at == 0 { String::new() } else { ",".to_owned() });
                    self.todo.push(Piece::Type(branch.node));
                }
                self.text("]".to_owned());
            }
            primitive if properties.is_empty() => self.text(quoted(primitive.type_name())),
            primitive => {
                self.text(format!("{{\"type\":\"{}\"{properties}}}", primitive.type_name()));
            }
        }
    }

    fn field(&mut self, at: usize, field: &Field) {
        let comma = if at == 0 { "" } else { "," };
        self.text(format!("{comma}{{\"name\":{},\"type\":", quoted(&field.name)));
        self.todo.push(Piece::Type(field.schema.node));
        let mut rest = String::new();
        let doc = field.doc.as_deref().map(quoted);
        let order = match field.order {
            FieldOrder::Ascending => None,
            FieldOrder::Descending => Some("\"descending\"".to_owned()),
            FieldOrder::Ignore => Some("\"ignore\"".to_owned()),
        };
        let default = field.default.clone();
        for (key, value) in [("doc", doc), ("default", default), ("order", order)] {
            if let Some(value) = value {
                rest.push_str(&format!(",\"{key}\":{value}"));
            }
        }
        rest.push_str(&aliases(&field.aliases));
        rest.push_str(&self.properties_of(&field.properties));
        rest.push('}');
        self.text(rest);
    }

    fn properties_of(&self, properties: &[(String, String)]) -> String {
        let mut properties: Vec<&(String, String)> = properties.iter().collect();
        if self.properties == Properties::Sorted {
            properties.sort();
        }
        let one = |(key, value): &&(String, String)| format!(",{}:{value}", quoted(key));
        properties.iter().map(one).collect()
    }

    fn text(&mut self, text: String) {
        self.todo.push(Piece::Text(text));
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    write_string(text, &mut out);
    out
}

fn named(word: &str, name: &Name, doc: Option<&str>) -> String {
    let doc = doc.map(|doc| format!(",\"doc\":{}", quoted(doc))).unwrap_or_default();
    format!("{{\"type\":\"{word}\",\"name\":{}{doc}", quoted(name.full()))
}

fn type_aliases(names: &[Name]) -> String {
    aliases(&names.iter().map(|name| name.full().to_owned()).collect::<Vec<_>>())
}

fn aliases(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    format!(",\"aliases\":[{}]", names.join(","))
}
