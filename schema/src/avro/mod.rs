//! Schema text in, a resolved model out in which everything knows where it was written.
//!
//! As lenient as Java Avro 1.12 and as strict: defaults that do not fit parse (see
//! [`Schema::default_faults`]), ill-fitting logical types are ignored, names may hold letters of
//! any script, types may be used before they are defined. Refused are duplicate fields, symbols and
//! branches, nested unions, redefinitions, and names that resolve to nothing.
//!
//! Why not a crate: `docs/adr/0001-own-avro-model.md`.

mod canonical;
mod default;
mod document;
mod error;
mod logical;
mod parse;
mod print;
mod same;

use std::collections::HashMap;
use std::sync::Arc;

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

pub use default::DefaultFault;
pub(crate) use default::{DefaultBytes, DefaultEncoder, UnionDefault};
pub use error::{SchemaError, SchemaFault};
pub use logical::{Logical, TimeUnit};
pub(crate) use print::{Properties, print};
pub(crate) use same::{AsWritten, Naming, is_same};

/// Longer schema texts are refused. The largest real ones are a few megabytes of generated types.
pub const SCHEMA_BYTES_MAX: usize = 16 << 20;

/// Where something is written in a schema text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// 0 is the schema's own text; 1 and above are the references, in the order they were given
    /// (each followed by its own references).
    pub document: u32,
    /// JSON pointer (RFC 6901).
    pub pointer: Box<str>,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
}

/// A node of a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// A number below [`Schema::node_count`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A [`Place`] of a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceId(u32);

/// The use of a type: what it is, and where this use of it is written.
///
/// Where a named type is used by its name, `place` is that name and the node's own place is the
/// definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeRef {
    /// The type.
    pub node: NodeId,
    /// Where it is used.
    pub place: PlaceId,
}

/// A type and what is written beside it.
#[derive(Clone, Debug)]
pub struct Node {
    /// The type proper.
    pub kind: Kind,
    /// A logical type that is known and fits; any other is only a property.
    pub logical: Option<Logical>,
    /// Where the type is defined.
    pub place: PlaceId,
    /// Properties the specification does not define here, as compact JSON text.
    pub properties: Vec<(String, String)>,
}

/// An Avro type.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Record(Record),
    Enum(Enum),
    Fixed(Fixed),
    Array(TypeRef),
    Map(TypeRef),
    Union(Vec<TypeRef>),
}

impl Kind {
    /// The specification's word for the type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::Bytes => "bytes",
            Kind::String => "string",
            Kind::Record(_) => "record",
            Kind::Enum(_) => "enum",
            Kind::Fixed(_) => "fixed",
            Kind::Array(_) => "array",
            Kind::Map(_) => "map",
            Kind::Union(_) => "union",
        }
    }

    /// The name of a record, enum or fixed.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        match self {
            Kind::Record(record) => Some(&record.name),
            Kind::Enum(one) => Some(&one.name),
            Kind::Fixed(fixed) => Some(&fixed.name),
            _ => None,
        }
    }

    /// The name that tags this type as a union branch: its full name or the type's word.
    #[must_use]
    pub fn branch_name(&self) -> &str {
        self.name().map_or(self.type_name(), Name::full)
    }

    fn references_mut(&mut self) -> Vec<&mut TypeRef> {
        match self {
            Kind::Record(record) => record.fields.iter_mut().map(|f| &mut f.schema).collect(),
            Kind::Array(inner) | Kind::Map(inner) => vec![inner],
            Kind::Union(branches) => branches.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
}

/// A full name, such as `shop.v1.Order`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    full: String,
    simple_at: usize,
}

impl Name {
    /// `name` with `namespace` before it, unless it has one itself.
    pub(crate) fn resolve(name: &str, namespace: &str) -> Name {
        match name.rfind('.') {
            // ".Order" spells out the empty namespace.
            Some(0) => Name { full: name.get(1..).unwrap_or_default().to_owned(), simple_at: 0 },
            Some(dot) => Name { full: name.to_owned(), simple_at: dot + 1 },
            None if namespace.is_empty() => Name { full: name.to_owned(), simple_at: 0 },
            None => Name { full: format!("{namespace}.{name}"), simple_at: namespace.len() + 1 },
        }
    }

    /// Whether a text may be a part of a name between dots, or the name of a field or a symbol: as
    /// Java 1.12 has it, letters and decimal digits of any script that take one UTF-16 unit, and
    /// underscores, no digit first.
    #[must_use]
    pub fn is_simple(text: &str) -> bool {
        let is_letter = |c: char| {
            c == '_'
                || c.len_utf16() == 1 && c.general_category_group() == GeneralCategoryGroup::Letter
        };
        let is_digit =
            |c: char| c.len_utf16() == 1 && c.general_category() == GeneralCategory::DecimalNumber;
        text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || is_digit(c))
    }

    /// The whole name.
    #[must_use]
    pub fn full(&self) -> &str {
        &self.full
    }

    /// The part behind the last dot.
    #[must_use]
    pub fn simple(&self) -> &str {
        self.full.get(self.simple_at..).unwrap_or_default()
    }

    /// The part before the last dot; empty if there is none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.full.get(..self.simple_at.saturating_sub(1)).unwrap_or_default()
    }
}

/// A record (or `error`, which is one).
#[derive(Clone, Debug)]
pub struct Record {
    /// Full name.
    pub name: Name,
    /// Other names of the type, for readers.
    pub aliases: Vec<Name>,
    /// Documentation.
    pub doc: Option<String>,
    /// In the order of the binary form.
    pub fields: Vec<Field>,
}

/// A field of a record.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Other names, for readers.
    pub aliases: Vec<String>,
    /// Documentation.
    pub doc: Option<String>,
    /// Its type.
    pub schema: TypeRef,
    /// The default as compact JSON text, numbers digit for digit. It need not fit the type.
    pub default: Option<String>,
    /// Where the default is written.
    pub default_place: Option<PlaceId>,
    /// Sort order.
    pub order: FieldOrder,
    /// Where the field is written.
    pub place: PlaceId,
    /// Properties the specification does not define here, as compact JSON text.
    pub properties: Vec<(String, String)>,
}

/// How a field takes part in sorting records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum FieldOrder {
    Ascending,
    Descending,
    Ignore,
}

/// An enumeration.
#[derive(Clone, Debug)]
pub struct Enum {
    /// Full name.
    pub name: Name,
    /// Other names of the type, for readers.
    pub aliases: Vec<Name>,
    /// Documentation.
    pub doc: Option<String>,
    /// In the order of the binary form.
    pub symbols: Vec<String>,
    /// What a reader takes for a symbol it does not know.
    pub default: Option<String>,
    /// Where the list of symbols is written.
    pub symbols_place: PlaceId,
}

/// Bytes of a fixed number.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Full name.
    pub name: Name,
    /// Other names of the type, for readers.
    pub aliases: Vec<Name>,
    /// Documentation.
    pub doc: Option<String>,
    /// Number of bytes.
    pub size: usize,
    /// Where the size is written.
    pub size_place: PlaceId,
}

/// A parsed schema with all its types resolved.
#[derive(Clone, Debug)]
pub struct Schema {
    text: Arc<str>,
    nodes: Vec<Node>,
    places: Vec<Place>,
    documents: u32,
    names: HashMap<String, NodeId>,
    root: TypeRef,
}

static NULL_NODE: Node =
    Node { kind: Kind::Null, logical: None, place: PlaceId(0), properties: Vec::new() };

impl Schema {
    /// Parses a schema text. Named types of `references` may be used in it by name.
    pub fn parse(text: &str, references: &[&Schema]) -> Result<Schema, SchemaError> {
        parse::parse(text, references)
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The type of the whole schema.
    #[must_use]
    pub fn root(&self) -> TypeRef {
        self.root
    }

    /// The full name of the whole schema, if it is a named type.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        self.node(self.root.node).kind.name()
    }

    /// A type by its id, which must be of this schema.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.index()).unwrap_or(&NULL_NODE)
    }

    /// How many nodes there are; their ids count from 0.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes with their ids.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(at, node)| (NodeId(at as u32), node))
    }

    /// A place by its id, which must be of this schema.
    #[must_use]
    pub fn place(&self, id: PlaceId) -> &Place {
        static NOWHERE: std::sync::LazyLock<Place> = std::sync::LazyLock::new(|| Place {
            document: 0,
            pointer: "".into(),
            line: 1,
            column: 1,
        });
        self.places.get(id.0 as usize).unwrap_or(&NOWHERE)
    }

    /// A named type by its full name, of this schema or of a reference.
    #[must_use]
    pub fn named(&self, full_name: &str) -> Option<NodeId> {
        self.names.get(full_name).copied()
    }

    /// The Parsing Canonical Form. Schemas that differ in defaults, docs, aliases or logical types
    /// share it, so it is no identity for a registered schema.
    #[must_use]
    pub fn canonical_form(&self) -> String {
        canonical::canonical_form(self)
    }

    /// CRC-64-AVRO of the canonical form.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        canonical::rabin(self.canonical_form().as_bytes())
    }

    /// Defaults of fields that do not fit their type. Java's parser reports them only when asked;
    /// a field with such a default is encoded as if it had none.
    #[must_use]
    pub fn default_faults(&self) -> Vec<DefaultFault> {
        default::faults(self)
    }
}
