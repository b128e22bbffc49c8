//! A JSON document in, a [`Schema`] out: names resolved, structure checked.

use std::collections::{HashMap, HashSet};

use crate::avro::default::number_of_text;
use crate::avro::document::{Document, Json, JsonId};
use crate::avro::logical::logical_type;
use crate::avro::same;
use crate::avro::{
    Enum, Field, FieldOrder, Fixed, Kind, Name, Node, NodeId, Place, PlaceId, Record, Schema,
    SchemaError, SchemaFault, TypeRef,
};

pub(super) fn parse(text: &str, references: &[&Schema]) -> Result<Schema, SchemaError> {
    let document = Document::parse(text)?;
    let mut parser = Parser {
        document: &document,
        nodes: Vec::new(),
        places: Vec::new(),
        names: HashMap::new(),
        imported: 0,
        documents: 1,
        pending: Vec::new(),
        pointer: String::new(),
    };
    for reference in references {
        parser.import(reference);
    }
    parser.imported = parser.nodes.len();
    let root = parser.schema(document.root(), "")?;
    let root = parser.resolve_pending(root)?;
    parser.check_unions()?;
    Ok(Schema {
        text: text.into(),
        nodes: parser.nodes,
        places: parser.places,
        documents: parser.documents,
        names: parser.names,
        root,
    })
}

struct Parser<'a> {
    document: &'a Document<'a>,
    nodes: Vec<Node>,
    places: Vec<Place>,
    /// Types that are read to their end: a type's own parts do not find it here, as in Java.
    names: HashMap<String, NodeId>,
    /// How many of the nodes came from references.
    imported: usize,
    documents: u32,
    /// Nodes that stand for a name which was not defined yet where it was used.
    pending: Vec<Pending>,
    /// JSON pointer of the value being read.
    pointer: String,
}

struct Pending {
    node: NodeId,
    name: String,
}

type Parsed<T> = Result<T, SchemaError>;

impl Parser<'_> {
    /// Copies the named types of a reference that are not known yet, and what they are made of. A
    /// type that several references bring is copied once: references of references would else
    /// double at every level.
    fn import(&mut self, reference: &Schema) {
        let mut moved: HashMap<NodeId, NodeId> = HashMap::new();
        let mut copied: Vec<NodeId> = Vec::new();
        let mut named: Vec<(&String, &NodeId)> = reference.names.iter().collect();
        named.sort_by_key(|(_, id)| **id);
        let mut next = self.nodes.len() as u32;
        for (name, id) in named {
            if let Some(known) = self.names.get(name) {
                moved.insert(*id, *known);
                continue;
            }
            self.names.insert(name.clone(), NodeId(next));
            moved.insert(*id, NodeId(next));
            copied.push(*id);
            next += 1;
        }
        let mut at = 0;
        while let Some(id) = copied.get(at).copied() {
            at += 1;
            let mut node = reference.node(id).clone();
            for inner in node.kind.references_mut() {
                let target = moved.entry(inner.node).or_insert_with(|| {
                    copied.push(inner.node);
                    next += 1;
                    NodeId(next - 1)
                });
                *inner = TypeRef { node: *target, place: inner.place };
            }
            self.move_places(reference, &mut node);
            self.nodes.push(node);
        }
        self.documents = self.documents.saturating_add(reference.documents);
    }

    fn move_places(&mut self, reference: &Schema, node: &mut Node) {
        let mut moved = |id: &mut PlaceId| {
            let place = reference.place(*id);
            let document = place.document.saturating_add(self.documents);
            *id = PlaceId(self.places.len() as u32);
            self.places.push(Place { document, ..place.clone() });
        };
        moved(&mut node.place);
        for inner in node.kind.references_mut() {
            moved(&mut inner.place);
        }
        match &mut node.kind {
            Kind::Record(record) => {
                for field in &mut record.fields {
                    moved(&mut field.place);
                    field.default_place.iter_mut().for_each(&mut moved);
                }
            }
            Kind::Enum(one) => moved(&mut one.symbols_place),
            Kind::Fixed(fixed) => moved(&mut fixed.size_place),
            _ => {}
        }
    }

    fn schema(&mut self, json: JsonId, namespace: &str) -> Parsed<TypeRef> {
        let document = self.document;
        match document.get(json) {
            Json::String(name) => self.reference(json, name, namespace),
            Json::Array(branches) => self.union(json, branches, namespace),
            Json::Object(_) => self.object(json, namespace),
            other => {
                let found = other.kind().name();
                self.fail(json, SchemaFault::NotASchema { found })
            }
        }
    }

    fn union(&mut self, json: JsonId, branches: &[JsonId], namespace: &str) -> Parsed<TypeRef> {
        let place = self.place(json);
        let node = self.node(Kind::Null, place);
        let mut union = Vec::with_capacity(branches.len());
        for (at, branch) in branches.iter().enumerate() {
            let outer = self.enter(at);
            union.push(self.schema(*branch, namespace)?);
            self.pointer.truncate(outer);
        }
        self.set_kind(node, Kind::Union(union));
        Ok(TypeRef { node, place })
    }

    /// A type used by its name.
    fn reference(&mut self, json: JsonId, written: &str, namespace: &str) -> Parsed<TypeRef> {
        let place = self.place(json);
        if let Some(kind) = primitive(written) {
            let node = self.node(kind, place);
            return Ok(TypeRef { node, place });
        }
        let name = match written.contains('.') || namespace.is_empty() {
            true => written.to_owned(),
            false => format!("{namespace}.{written}"),
        };
        let known = self.names.get(&name).or_else(|| self.names.get(written)).copied();
        let node = known.unwrap_or_else(|| {
            let node = self.node(Kind::Null, place);
            self.pending.push(Pending { node, name });
            node
        });
        Ok(TypeRef { node, place })
    }

    fn object(&mut self, json: JsonId, namespace: &str) -> Parsed<TypeRef> {
        let document = self.document;
        let Some(type_id) = document.member(json, "type") else {
            return self.fail(json, SchemaFault::Missing { object: "type", key: "type" });
        };
        let Some(word) = document.str(type_id) else {
            return self.wrong_kind(type_id, "a type", "type", "a name");
        };
        let place = self.place(json);
        let node = match word {
            "record" | "error" => self.record(json, place, namespace)?,
            "enum" => self.enumeration(json, place, namespace)?,
            "fixed" => self.fixed(json, place, namespace)?,
            "array" => self.container(json, "array", "items", namespace)?,
            "map" => self.container(json, "map", "values", namespace)?,
            name => match primitive(name) {
                Some(kind) => self.node(kind, place),
                None => return self.within("type", |p| p.reference(type_id, name, namespace)),
            },
        };
        if self.kind_of(TypeRef { node, place }).is_some_and(|kind| kind.name().is_none()) {
            self.add_properties(json, node);
        }
        Ok(TypeRef { node, place })
    }

    /// Steps by hand instead of through `within`: this is the deepest recursion there is.
    fn container(
        &mut self,
        json: JsonId,
        object: &'static str,
        key: &'static str,
        namespace: &str,
    ) -> Parsed<NodeId> {
        let place = self.place(json);
        let node = self.node(Kind::Null, place);
        let inner = self.required(json, object, key)?;
        let outer = self.enter(key);
        let inner = self.schema(inner, namespace)?;
        self.pointer.truncate(outer);
        let kind = if object == "array" { Kind::Array(inner) } else { Kind::Map(inner) };
        self.set_kind(node, kind);
        Ok(node)
    }

    fn record(&mut self, json: JsonId, place: PlaceId, namespace: &str) -> Parsed<NodeId> {
        let (name, aliases) = self.names_of(json, "record", namespace)?;
        let node = self.node(Kind::Null, place);
        let fields_id = self.required(json, "record", "fields")?;
        let document = self.document;
        let Json::Array(items) = document.get(fields_id) else {
            return self.wrong_kind(fields_id, "record", "fields", "an array");
        };
        let mut fields: Vec<Field> = Vec::with_capacity(items.len());
        let mut seen = HashSet::new();
        let outer = self.enter("fields");
        for (at, item) in items.iter().enumerate() {
            let field = self.within(at, |parser| parser.field(*item, &name))?;
            if !seen.insert(field.name.clone()) {
                let record = name.full().to_owned();
                let field = field.name;
                return self.fail(*item, SchemaFault::DuplicateField { record, field });
            }
            fields.push(field);
        }
        self.pointer.truncate(outer);
        let doc = self.text_of(json, "doc");
        self.set_kind(node, Kind::Record(Record { name, aliases, doc, fields }));
        self.define(json, node)
    }

    fn field(&mut self, json: JsonId, record: &Name) -> Parsed<Field> {
        let document = self.document;
        let Json::Object(members) = document.get(json) else {
            return self.wrong_kind(json, "record", "fields", "objects");
        };
        let name = self.required_text(json, "field", "name")?;
        self.check_name(json, &name)?;
        let place = self.place(json);
        let type_id = self.required(json, "field", "type")?;
        let schema = self.within("type", |p| p.schema(type_id, record.namespace()))?;
        let default_id = document.member(json, "default");
        let order = self.order(json)?;
        let known = ["name", "type", "doc", "default", "order", "aliases"];
        let extra = members.iter().filter(|(key, _)| !known.contains(&key.as_str()));
        let default_place = default_id.map(|id| self.within("default", |p| p.place(id)));
        if let Some(id) = default_id
            && let Some(Kind::Float | Kind::Double) = self.kind_of(schema)
            && let Some(text) = document.str(id)
            && number_of_text(text).is_none()
        {
            let fault = SchemaFault::BadNumber { field: name, text: text.to_owned() };
            return self.within("default", |parser| parser.fail(id, fault));
        }
        Ok(Field {
            aliases: self.aliases_of(json, "field")?,
            doc: self.text_of(json, "doc"),
            schema,
            default: default_id.map(|id| document.compact(id)),
            default_place,
            order,
            place,
            properties: extra.map(|(key, id)| (key.clone(), document.compact(*id))).collect(),
            name,
        })
    }

    fn order(&mut self, json: JsonId) -> Parsed<FieldOrder> {
        let document = self.document;
        let Some(id) = document.member(json, "order") else { return Ok(FieldOrder::Ascending) };
        let Some(order) = document.str(id) else {
            return self.wrong_kind(id, "field", "order", "a string");
        };
        match order.to_lowercase().as_str() {
            "ascending" => Ok(FieldOrder::Ascending),
            "descending" => Ok(FieldOrder::Descending),
            "ignore" => Ok(FieldOrder::Ignore),
            _ => self.fail(id, SchemaFault::BadOrder { order: order.to_owned() }),
        }
    }

    fn enumeration(&mut self, json: JsonId, place: PlaceId, namespace: &str) -> Parsed<NodeId> {
        let (name, aliases) = self.names_of(json, "enum", namespace)?;
        let node = self.node(Kind::Null, place);
        let symbols_id = self.required(json, "enum", "symbols")?;
        let symbols_place = self.within("symbols", |p| p.place(symbols_id));
        let document = self.document;
        let Json::Array(items) = document.get(symbols_id) else {
            return self.wrong_kind(symbols_id, "enum", "symbols", "an array");
        };
        let mut symbols = Vec::with_capacity(items.len());
        let mut seen = HashSet::new();
        for item in items {
            let Some(symbol) = document.str(*item) else {
                return self.wrong_kind(*item, "enum", "symbols", "names");
            };
            self.check_name(*item, symbol)?;
            if !seen.insert(symbol) {
                let (name, symbol) = (name.full().to_owned(), symbol.to_owned());
                return self.fail(*item, SchemaFault::DuplicateSymbol { name, symbol });
            }
            symbols.push(symbol.to_owned());
        }
        let default = self.text_of(json, "default");
        if let Some(symbol) = default.as_ref().filter(|symbol| !seen.contains(symbol.as_str())) {
            let (name, symbol) = (name.full().to_owned(), symbol.clone());
            return self.fail(json, SchemaFault::BadEnumDefault { name, symbol });
        }
        let doc = self.text_of(json, "doc");
        let one = Enum { name, aliases, doc, symbols, default, symbols_place };
        self.set_kind(node, Kind::Enum(one));
        self.define(json, node)
    }

    fn fixed(&mut self, json: JsonId, place: PlaceId, namespace: &str) -> Parsed<NodeId> {
        let (name, aliases) = self.names_of(json, "fixed", namespace)?;
        let node = self.node(Kind::Null, place);
        let size_id = self.required(json, "fixed", "size")?;
        let size: Option<i32> = self.integer(size_id).and_then(|size| size.try_into().ok());
        let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else {
            let name = name.full().to_owned();
            return self.fail(size_id, SchemaFault::BadFixedSize { name });
        };
        let size_place = self.within("size", |p| p.place(size_id));
        let doc = self.text_of(json, "doc");
        self.set_kind(node, Kind::Fixed(Fixed { name, aliases, doc, size, size_place }));
        self.define(json, node)
    }

    /// The full name and the aliases of a named type.
    fn names_of(
        &mut self,
        json: JsonId,
        object: &'static str,
        enclosing: &str,
    ) -> Parsed<(Name, Vec<Name>)> {
        let written = self.required_text(json, object, "name")?;
        let namespace = self.text_of(json, "namespace");
        let name = Name::resolve(&written, namespace.as_deref().unwrap_or(enclosing));
        self.check_name(json, name.simple())?;
        if !name.namespace().is_empty() {
            for part in name.namespace().split('.') {
                self.check_name(json, part)?;
            }
        }
        if primitive(name.full()).is_some() {
            let name = name.full().to_owned();
            return self.fail(json, SchemaFault::PrimitiveName { name });
        }
        let mut aliases = Vec::new();
        for written in self.aliases_of(json, object)? {
            let alias = Name::resolve(&written, name.namespace());
            self.check_name(json, alias.simple())?;
            aliases.push(alias);
        }
        Ok((name, aliases))
    }

    fn aliases_of(&mut self, json: JsonId, object: &'static str) -> Parsed<Vec<String>> {
        let document = self.document;
        let Some(id) = document.member(json, "aliases") else {
            return Ok(Vec::new());
        };
        let Json::Array(items) = document.get(id) else {
            return self.wrong_kind(id, object, "aliases", "an array of names");
        };
        let names = items.iter().map(|item| document.str(*item).map(str::to_owned));
        match names.collect() {
            Some(names) => Ok(names),
            None => self.wrong_kind(id, object, "aliases", "an array of names"),
        }
    }

    /// Puts a type that is read to its end on the table of names. The same type may be written out
    /// twice, as generators do; the first one is what its name then stands for.
    fn define(&mut self, json: JsonId, id: NodeId) -> Parsed<NodeId> {
        self.add_properties(json, id);
        let Some(name) = self.nodes.get(id.index()).and_then(|node| node.kind.name()) else {
            return Ok(id);
        };
        let name = name.full().to_owned();
        let is_same = |known: &NodeId| {
            let pending = self.pending.iter().map(|pending| pending.node).collect();
            same::is_same_type(&self.nodes, &pending, *known, id)
        };
        match self.names.get(&name) {
            Some(known) if !is_same(known) => self.fail(json, SchemaFault::Redefined { name }),
            Some(_) => Ok(id),
            None => {
                self.names.insert(name, id);
                Ok(id)
            }
        }
    }

    fn add_properties(&mut self, json: JsonId, id: NodeId) {
        let document = self.document;
        let Json::Object(members) = document.get(json) else {
            return;
        };
        let number = |key| document.member(json, key).map(|id| self.integer(id).unwrap_or(-1));
        let (precision, scale) = (number("precision"), number("scale"));
        let Some(node) = self.nodes.get_mut(id.index()) else {
            return;
        };
        if let Some(word) = document.member(json, "logicalType").and_then(|id| document.str(id)) {
            node.logical = logical_type(word, &node.kind, precision, scale);
        }
        let known: &[&str] = match node.kind {
            Kind::Record(_) => &["type", "name", "namespace", "doc", "aliases", "fields"],
            Kind::Enum(_) => &["type", "name", "namespace", "doc", "aliases", "symbols", "default"],
            Kind::Fixed(_) => &["type", "name", "namespace", "doc", "aliases", "size"],
            Kind::Array(_) => &["type", "items"],
            Kind::Map(_) => &["type", "values"],
            _ => &["type"],
        };
        for (key, value) in members.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            node.properties.push((key.clone(), document.compact(*value)));
        }
    }

    /// Points the uses of names that were defined later at their definitions.
    fn resolve_pending(&mut self, root: TypeRef) -> Parsed<TypeRef> {
        let mut found = HashMap::new();
        for pending in std::mem::take(&mut self.pending) {
            let Some(target) = self.names.get(&pending.name) else {
                let place = self.nodes.get(pending.node.index()).map(|node| node.place.0);
                let place = place.and_then(|place| self.places.get(place as usize)).cloned();
                let fault = SchemaFault::UnknownType { name: pending.name };
                let nowhere = || Place { document: 0, pointer: "".into(), line: 1, column: 1 };
                return Err(SchemaError::new(fault, place.unwrap_or_else(nowhere)));
            };
            found.insert(pending.node, *target);
        }
        let resolve = |inner: TypeRef| TypeRef {
            node: found.get(&inner.node).copied().unwrap_or(inner.node),
            ..inner
        };
        if !found.is_empty() {
            for node in self.nodes.iter_mut().skip(self.imported) {
                for inner in node.kind.references_mut() {
                    *inner = resolve(*inner);
                }
            }
        }
        Ok(resolve(root))
    }

    fn check_unions(&self) -> Parsed<()> {
        for node in self.nodes.iter().skip(self.imported) {
            let Kind::Union(branches) = &node.kind else {
                continue;
            };
            let mut seen = HashSet::new();
            for branch in branches {
                let Some(target) = self.nodes.get(branch.node.index()) else {
                    continue;
                };
                let name = target.kind.branch_name();
                let fault = if matches!(target.kind, Kind::Union(_)) {
                    SchemaFault::NestedUnion
                } else if !seen.insert(name) {
                    SchemaFault::DuplicateBranch { branch: name.to_owned() }
                } else {
                    continue;
                };
                if let Some(place) = self.places.get(branch.place.0 as usize) {
                    return Err(SchemaError::new(fault, place.clone()));
                }
            }
        }
        Ok(())
    }

    fn required(
        &mut self,
        json: JsonId,
        object: &'static str,
        key: &'static str,
    ) -> Parsed<JsonId> {
        match self.document.member(json, key) {
            Some(id) => Ok(id),
            None => self.fail(json, SchemaFault::Missing { object, key }),
        }
    }

    fn required_text(
        &mut self,
        json: JsonId,
        object: &'static str,
        key: &'static str,
    ) -> Parsed<String> {
        let id = self.required(json, object, key)?;
        match self.document.str(id) {
            Some(text) => Ok(text.to_owned()),
            None => self.wrong_kind(id, object, key, "a string"),
        }
    }

    /// A string member; one of another kind counts as absent, as in Java.
    fn text_of(&self, json: JsonId, key: &str) -> Option<String> {
        let id = self.document.member(json, key)?;
        self.document.str(id).map(str::to_owned)
    }

    fn integer(&self, id: JsonId) -> Option<i64> {
        match self.document.get(id) {
            Json::Number => self.document.raw(id).parse().ok(),
            _ => None,
        }
    }

    fn check_name(&mut self, json: JsonId, name: &str) -> Parsed<()> {
        if Name::is_simple(name) {
            return Ok(());
        }
        self.fail(json, SchemaFault::BadName { name: name.to_owned() })
    }

    fn node(&mut self, kind: Kind, place: PlaceId) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node { kind, logical: None, place, properties: Vec::new() });
        id
    }

    fn kind_of(&self, schema: TypeRef) -> Option<&Kind> {
        self.nodes.get(schema.node.index()).map(|node| &node.kind)
    }

    fn set_kind(&mut self, id: NodeId, kind: Kind) {
        if let Some(node) = self.nodes.get_mut(id.index()) {
            node.kind = kind;
        }
    }

    fn place(&mut self, json: JsonId) -> PlaceId {
        let id = PlaceId(self.places.len() as u32);
        self.places.push(self.document.place(json, &self.pointer));
        id
    }

    /// Lengthens the pointer by one step; gives what to truncate it to again.
    fn enter(&mut self, step: impl std::fmt::Display) -> usize {
        let outer = self.pointer.len();
        // Steps are keys of the specification and indices: nothing to escape.
        self.pointer.push('/');
        self.pointer.push_str(&step.to_string());
        outer
    }

    fn within<T>(&mut self, step: impl std::fmt::Display, f: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.enter(step);
        let result = f(self);
        self.pointer.truncate(outer);
        result
    }

    fn fail<T>(&self, json: JsonId, fault: SchemaFault) -> Parsed<T> {
        Err(SchemaError::new(fault, self.document.place(json, &self.pointer)))
    }

    fn wrong_kind<T>(
        &self,
        json: JsonId,
        object: &'static str,
        key: &'static str,
        expected: &'static str,
    ) -> Parsed<T> {
        let found = self.document.get(json).kind().name();
        self.fail(json, SchemaFault::WrongKind { object, key, expected, found })
    }
}

fn primitive(word: &str) -> Option<Kind> {
    Some(match word {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}
