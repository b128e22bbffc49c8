//! Two types in, whether they are the same out, as Java's `Schema.equals` has it: documentation,
//! aliases and the default of an enum do not count, other properties do.

use std::collections::{BTreeMap, HashSet};
use std::mem::discriminant;

use crate::avro::{Field, Kind, Name, Node, NodeId, Record, Schema};

/// Types compared; what is beyond counts as different.
const COMPARED_MAX: usize = 100_000;

/// Two definitions in one schema. `pending` stand for names that are not defined yet: Java takes
/// each of them for a type of its own.
pub(super) fn is_same_type(
    nodes: &[Node],
    pending: &HashSet<NodeId>,
    a: NodeId,
    b: NodeId,
) -> bool {
    let known = |a, b| match a == b {
        true => Some(true),
        false => (pending.contains(&a) || pending.contains(&b)).then_some(false),
    };
    compare((nodes, a), (nodes, b), known, &AsWritten)
}

/// What the types and fields of the second of two schemas are called.
pub(crate) trait Naming {
    fn name<'n>(&'n self, written: &'n Name) -> &'n Name;
    fn field<'n>(&'n self, record: &'n Record, field: &'n Field) -> &'n str;
}

/// As they are written.
pub(crate) struct AsWritten;

impl Naming for AsWritten {
    fn name<'n>(&'n self, written: &'n Name) -> &'n Name {
        written
    }

    fn field<'n>(&'n self, _: &'n Record, field: &'n Field) -> &'n str {
        &field.name
    }
}

/// Two whole schemas.
pub(crate) fn is_same(a: &Schema, b: &Schema, naming: &impl Naming) -> bool {
    compare((&a.nodes, a.root.node), (&b.nodes, b.root.node), |_, _| None, naming)
}

/// `known` is asked first.
fn compare(
    (one, a): (&[Node], NodeId),
    (other, b): (&[Node], NodeId),
    known: impl Fn(NodeId, NodeId) -> Option<bool>,
    naming: &impl Naming,
) -> bool {
    let mut seen = HashSet::new();
    let mut todo = vec![(a, b)];
    while let Some((a, b)) = todo.pop() {
        match known(a, b) {
            Some(true) => continue,
            Some(false) => return false,
            None => {}
        }
        if !seen.insert((a, b)) {
            continue;
        }
        let (Some(one), Some(other)) = (one.get(a.index()), other.get(b.index())) else {
            return false;
        };
        if seen.len() > COMPARED_MAX || !is_alike(one, other, naming) {
            return false;
        }
        match (&one.kind, &other.kind) {
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

/// Equal but for the types they are made of.
fn is_alike(a: &Node, b: &Node, naming: &impl Naming) -> bool {
    let kinds = match (&a.kind, &b.kind) {
        (Kind::Union(a), Kind::Union(b)) => a.len() == b.len(),
        (Kind::Enum(a), Kind::Enum(b)) => a.symbols == b.symbols,
        (Kind::Fixed(a), Kind::Fixed(b)) => a.size == b.size,
        (Kind::Record(a), Kind::Record(of)) => {
            let mut pairs = a.fields.iter().zip(&of.fields);
            a.fields.len() == of.fields.len()
                && pairs.all(|(a, b)| {
                    (&*a.name, &a.default, a.order) == (naming.field(of, b), &b.default, b.order)
                        && by_key(&a.properties) == by_key(&b.properties)
                })
        }
        (a, b) => discriminant(a) == discriminant(b),
    };
    let name = b.kind.name().map(|name| naming.name(name));
    kinds && a.kind.name() == name && by_key(&a.properties) == by_key(&b.properties)
}

/// In no order; of equal keys the last one counts.
fn by_key(properties: &[(String, String)]) -> BTreeMap<&str, &str> {
    properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
