//! Which branch of a reader's union Java's resolver reads a written type with. It decides by names
//! and kinds and does not look for one that fits.

use std::collections::{HashMap, HashSet};
use std::mem::discriminant;

use crate::avro::{Kind, Name, NodeId, Schema, TypeRef};
use crate::compat::gate::Gate;
use crate::compat::rules::{self, Named};

/// Types compared to see whether two unions are equal.
const EQUAL_MAX: usize = 10_000;

/// What the reader calls the writer's types: before it decodes, Java gives each type of the writer
/// whose full name is an alias in the reader the name of the type with that alias, whatever its
/// kind.
#[derive(Debug)]
pub(super) struct Renames<'a>(HashMap<&'a str, &'a str>);

impl<'a> Renames<'a> {
    pub(super) fn of(reader: &'a Schema) -> Self {
        let named = reader.nodes().filter_map(|(_, node)| Named::of(&node.kind));
        let pairs = named.flat_map(|named| {
            named.aliases.iter().map(move |alias| (alias.full(), named.name.full()))
        });
        Renames(pairs.collect())
    }

    fn name<'n>(&self, written: &'n str) -> &'n str
    where
        'a: 'n,
    {
        self.0.get(written).copied().unwrap_or(written)
    }
}

/// The branch that has the writer's full name, as the reader calls it, or its kind; for records
/// else the first that fits, for primitives else the first that they widen to.
pub(super) fn choose(
    gate: &mut Gate<'_>,
    renames: &Renames<'_>,
    reader: &Schema,
    branches: &[TypeRef],
    writer: &Schema,
    written: TypeRef,
) -> Option<TypeRef> {
    let kind = &writer.node(written.node).kind;
    let name = kind.name().map(|name| renames.name(name.full()));
    let is_the_one = |branch: &&TypeRef| {
        let branch = &reader.node(branch.node).kind;
        discriminant(branch) == discriminant(kind) && branch.name().map(Name::full) == name
    };
    let chosen = branches.iter().find(is_the_one).or_else(|| match kind {
        // Records are looked for by their fields when no name is the same.
        Kind::Record(_) => branches.iter().find(|branch| gate.fits(**branch, written)),
        Kind::Enum(_) | Kind::Fixed(_) => None,
        _ => branches.iter().find(|branch| rules::reads(&reader.node(branch.node).kind, kind)),
    });
    chosen.copied()
}

/// As Java's `unionEquiv`: the same types in the same order, whatever their namespaces. Then
/// branches are paired by position.
pub(super) fn is_equal(
    reader: &Schema,
    reader_union: NodeId,
    writer: &Schema,
    writer_union: NodeId,
) -> bool {
    let mut seen = HashSet::new();
    let mut todo = vec![(reader_union, writer_union)];
    while let Some(pair) = todo.pop() {
        if !seen.insert(pair) {
            continue;
        }
        let (a, b) = (&reader.node(pair.0).kind, &writer.node(pair.1).kind);
        if seen.len() > EQUAL_MAX || !is_alike(a, b) {
            return false;
        }
        match (a, b) {
            (Kind::Array(a), Kind::Array(b)) | (Kind::Map(a), Kind::Map(b)) => {
                todo.push((a.node, b.node));
            }
            (Kind::Union(a), Kind::Union(b)) => {
                todo.extend(a.iter().zip(b).map(|(a, b)| (a.node, b.node)));
            }
            (Kind::Record(a), Kind::Record(b)) => {
                let pairs = a.fields.iter().zip(&b.fields);
                todo.extend(pairs.map(|(a, b)| (a.schema.node, b.schema.node)));
            }
            _ => {}
        }
    }
    true
}

/// Equal but for what they are made of.
fn is_alike(a: &Kind, b: &Kind) -> bool {
    let name = |kind: &Kind| kind.name().map(|name: &Name| name.simple().to_owned());
    let of_kind = match (a, b) {
        (Kind::Union(a), Kind::Union(b)) => a.len() == b.len(),
        (Kind::Record(a), Kind::Record(b)) => {
            let mut pairs = a.fields.iter().zip(&b.fields);
            a.fields.len() == b.fields.len() && pairs.all(|(a, b)| a.name == b.name)
        }
        (Kind::Enum(a), Kind::Enum(b)) => a.symbols == b.symbols,
        (Kind::Fixed(a), Kind::Fixed(b)) => a.size == b.size,
        _ => discriminant(a) == discriminant(b),
    };
    of_kind && name(a) == name(b)
}
