//! Two types in, whether they are the same out, as Java's `Schema.equals` has it: documentation,
//! aliases and the default of an enum do not count, other properties do.

use std::collections::{BTreeMap, HashSet};
use std::mem::discriminant;

use crate::avro::{Kind, Node, NodeId, Schema};

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
    compare((nodes, a), (nodes, b), |a, b| match a == b {
        true => Some(true),
        false => (pending.contains(&a) || pending.contains(&b)).then_some(false),
    })
}

/// Two whole schemas.
pub(crate) fn is_same(a: &Schema, b: &Schema) -> bool {
    a.text == b.text && a.documents == 1 && b.documents == 1
        || compare((&a.nodes, a.root.node), (&b.nodes, b.root.node), |_, _| None)
}

/// `known` is asked first.
fn compare(
    (one, a): (&[Node], NodeId),
    (other, b): (&[Node], NodeId),
    known: impl Fn(NodeId, NodeId) -> Option<bool>,
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
        if seen.len() > COMPARED_MAX || !is_alike(one, other) {
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
fn is_alike(a: &Node, b: &Node) -> bool {
    let kinds = match (&a.kind, &b.kind) {
        (Kind::Union(a), Kind::Union(b)) => a.len() == b.len(),
        (Kind::Enum(a), Kind::Enum(b)) => a.symbols == b.symbols,
        (Kind::Fixed(a), Kind::Fixed(b)) => a.size == b.size,
        (Kind::Record(a), Kind::Record(b)) => {
            let mut pairs = a.fields.iter().zip(&b.fields);
            a.fields.len() == b.fields.len()
                && pairs.all(|(a, b)| {
                    (&a.name, &a.default, a.order) == (&b.name, &b.default, b.order)
                        && by_key(&a.properties) == by_key(&b.properties)
                })
        }
        (a, b) => discriminant(a) == discriminant(b),
    };
    kinds && a.kind.name() == b.kind.name() && by_key(&a.properties) == by_key(&b.properties)
}

/// In no order; of equal keys the last one counts.
fn by_key(properties: &[(String, String)]) -> BTreeMap<&str, &str> {
    properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
