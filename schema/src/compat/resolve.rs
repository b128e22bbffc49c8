//! Two schemas in, the branch of a reader's union that Java's resolver (`Resolver.java`) takes for
//! a written type out. It decides by names and kinds and does not look for one that fits.
//!
//! For a record without a branch of its name it takes one by structure: the last one of its short
//! name, else the first one, among those in which every field is there and none fails at once. What
//! lies deeper is not looked at, and a record that is still being compared counts as far as it got:
//! the answer depends on the order in which Java goes through the schemas, so the whole way is gone
//! here as there, once it is needed.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::mem::discriminant;

use crate::avro::{
    DefaultBytes, DefaultEncoder, Field, Kind, Name, NodeId, Record, Schema, TypeRef, UnionDefault,
};
use crate::compat::PAIRS_MAX;
use crate::compat::aliases::{FieldNames, Renames};
use crate::compat::rules;

/// Types inside each other. Java has no stack for much more.
const DEPTH_MAX: usize = 500;

/// Types compared to see whether two unions are equal.
const EQUAL_MAX: usize = 10_000;

/// Fields and branches looked at in all.
const WORK_MAX: usize = 10 * PAIRS_MAX;

pub(super) struct Resolver<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    pub(super) renames: Renames<'a>,
    defaults: DefaultEncoder<'a>,
    records: HashMap<(NodeId, NodeId), Resolved>,
    /// By the reader's union and the written record.
    structures: HashMap<(NodeId, NodeId), Option<TypeRef>>,
    /// A field of the reader whose default Java needs on the way and cannot make.
    unmade: Option<(NodeId, usize)>,
    is_done: bool,
    depth: usize,
    work: usize,
}

/// How far a pair of records is.
#[derive(Clone, Copy, Debug, Default)]
struct Resolved {
    /// A field is not written and has no default.
    is_error: bool,
    /// A field fails by itself.
    has_error: bool,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(reader: &'a Schema, writer: &'a Schema) -> Self {
        Resolver {
            reader,
            writer,
            renames: Renames::of(reader, writer),
            defaults: DefaultEncoder::new(reader, UnionDefault::AsJava),
            records: HashMap::new(),
            structures: HashMap::new(),
            unmade: None,
            is_done: false,
            depth: 0,
            work: 0,
        }
    }

    /// The branch that Java reads a written type with; None where it throws. The written type is no
    /// union.
    pub(super) fn choose(&mut self, union: TypeRef, written: TypeRef) -> Option<TypeRef> {
        let (of_reader, of_writer) = (self.reader, self.writer);
        let Kind::Union(branches) = &of_reader.node(union.node).kind else { return Some(union) };
        let kind = &of_writer.node(written.node).kind;
        let Kind::Record(record) = kind else { return self.by_kind(branches, kind) };
        let is_record =
            |branch: &&TypeRef| matches!(of_reader.node(branch.node).kind, Kind::Record(_));
        let first = branches.iter().find(is_record)?;
        if of_reader.node(first.node).kind.name() == Some(self.renames.name(&record.name)) {
            return Some(*first);
        }
        self.go();
        self.structures.get(&(union.node, written.node)).copied().flatten()
    }

    /// The field whose default ended Java's way through the schemas.
    pub(super) fn unmade(&self) -> Option<(NodeId, usize)> {
        self.unmade
    }

    /// Whether an enum or fixed of the writer has another name than the reader's type.
    pub(super) fn is_stranger(&self, reader: &Kind, writer: &Kind) -> bool {
        match (reader.name(), writer.name()) {
            (Some(reader), Some(writer)) => self.renames.name(writer).simple() != reader.simple(),
            _ => false,
        }
    }

    fn go(&mut self) {
        if !std::mem::replace(&mut self.is_done, true) {
            self.fails(self.reader.root(), self.writer.root());
        }
    }

    /// Goes through a pair; true if it fails as a whole.
    fn fails(&mut self, reader: TypeRef, writer: TypeRef) -> bool {
        self.work += 1;
        if self.depth >= DEPTH_MAX || self.work > WORK_MAX || self.unmade.is_some() {
            return false;
        }
        self.depth += 1;
        let fails = self.fails_within(reader, writer);
        self.depth -= 1;
        fails
    }

    fn fails_within(&mut self, reader: TypeRef, writer: TypeRef) -> bool {
        let (of_reader, of_writer) = (self.reader, self.writer);
        let kinds = (&of_reader.node(reader.node).kind, &of_writer.node(writer.node).kind);
        match kinds {
            (_, Kind::Union(branches)) => {
                let same = self.same_branches(reader, writer);
                for (index, branch) in branches.iter().enumerate() {
                    let reader = same.and_then(|same| same.get(index)).copied().unwrap_or(reader);
                    self.fails(reader, *branch);
                }
                false
            }
            (Kind::Union(branches), _) => match self.first_match(reader, branches, writer) {
                Some(branch) => {
                    self.fails(branch, writer);
                    false
                }
                None => true,
            },
            (Kind::Array(reader), Kind::Array(writer)) | (Kind::Map(reader), Kind::Map(writer)) => {
                self.fails(*reader, *writer);
                false
            }
            (Kind::Record(_), Kind::Record(_)) => self.record(reader.node, writer.node).is_error,
            (Kind::Enum(_), Kind::Enum(_)) => self.is_stranger(kinds.0, kinds.1),
            (Kind::Fixed(a), Kind::Fixed(b)) => {
                a.size != b.size || self.is_stranger(kinds.0, kinds.1)
            }
            (reader, writer) => !rules::reads(reader, writer),
        }
    }

    fn record(&mut self, reader: NodeId, writer: NodeId) -> Resolved {
        let key = (reader, writer);
        if let Some(known) = self.records.get(&key) {
            return *known;
        }
        self.records.insert(key, Resolved::default());
        let (of_reader, of_writer) = (self.reader, self.writer);
        let (Kind::Record(read), Kind::Record(written)) =
            (&of_reader.node(reader).kind, &of_writer.node(writer).kind)
        else {
            return Resolved::default();
        };
        let into = Written::of(read, None);
        let mut is_written = vec![false; read.fields.len()];
        for (at, field) in written.fields.iter().enumerate() {
            let names = self.renames.fields(&written.name);
            let name = names.map_or(&*field.name, |names| names.name(field));
            let Some((index, into)) = into.find_at(name, at) else { continue };
            if let Some(is_written) = is_written.get_mut(index) {
                *is_written = true;
            }
            if self.fails(into.schema, field.schema)
                && let Some(resolved) = self.records.get_mut(&key)
            {
                resolved.has_error = true;
            }
        }
        for index in 0..read.fields.len() {
            if is_written.get(index) == Some(&true) {
                continue;
            }
            match self.defaults.default_of(reader, index) {
                Some(DefaultBytes::Good(_)) => {}
                Some(DefaultBytes::Bad(_)) => {
                    self.unmade.get_or_insert((reader, index));
                }
                None => {
                    if let Some(resolved) = self.records.get_mut(&key) {
                        resolved.is_error = true;
                    }
                    break;
                }
            }
        }
        self.records.get(&key).copied().unwrap_or_default()
    }

    fn first_match(
        &mut self,
        union: TypeRef,
        branches: &[TypeRef],
        written: TypeRef,
    ) -> Option<TypeRef> {
        let (of_reader, of_writer) = (self.reader, self.writer);
        let kind = &of_writer.node(written.node).kind;
        let Kind::Record(record) = kind else { return self.by_kind(branches, kind) };
        let mut structure: Option<TypeRef> = None;
        for branch in branches {
            let Kind::Record(candidate) = &of_reader.node(branch.node).kind else { continue };
            let name = self.renames.name(&record.name);
            if candidate.name == *name {
                structure = Some(*branch);
                break;
            }
            let is_namesake = candidate.name.simple() == name.simple();
            let resolved = self.record(branch.node, written.node);
            let fits = !resolved.is_error && !resolved.has_error;
            if fits && (structure.is_none() || is_namesake) {
                structure = Some(*branch);
            }
        }
        self.structures.entry((union.node, written.node)).or_insert(structure);
        structure
    }

    /// The branch of a type that is no record: by its name or kind, else by widening.
    fn by_kind(&self, branches: &[TypeRef], kind: &Kind) -> Option<TypeRef> {
        let name = kind.name().map(|name| self.renames.name(name));
        let of = |branch: &TypeRef| &self.reader.node(branch.node).kind;
        let is_the_one = |branch: &&TypeRef| {
            discriminant(of(branch)) == discriminant(kind) && of(branch).name() == name
        };
        let widens = |branch: &&TypeRef| rules::reads(of(branch), kind);
        let chosen = branches.iter().find(is_the_one).or_else(|| branches.iter().find(widens));
        chosen.copied()
    }

    /// The reader's branches, if they are read by position: where its union is the same as the
    /// writer's whatever the namespaces are (`unionEquiv`).
    pub(super) fn same_branches(&self, reader: TypeRef, writer: TypeRef) -> Option<&'a [TypeRef]> {
        let Kind::Union(branches) = &self.reader.node(reader.node).kind else { return None };
        self.is_equal(reader.node, writer.node).then_some(branches)
    }

    fn is_equal(&self, reader: NodeId, writer: NodeId) -> bool {
        let mut seen = HashSet::new();
        let mut todo = vec![(reader, writer)];
        while let Some(pair) = todo.pop() {
            if !seen.insert(pair) {
                continue;
            }
            let (a, b) = (&self.reader.node(pair.0).kind, &self.writer.node(pair.1).kind);
            if seen.len() > EQUAL_MAX || !self.is_alike(a, b) {
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
    fn is_alike(&self, reader: &Kind, writer: &Kind) -> bool {
        let of_kind = match (reader, writer) {
            (Kind::Union(a), Kind::Union(b)) => a.len() == b.len(),
            (Kind::Record(a), Kind::Record(b)) => {
                let mut pairs = a.fields.iter().zip(&b.fields);
                let names = self.renames.fields(&b.name);
                a.fields.len() == b.fields.len()
                    && pairs.all(|(a, b)| a.name == names.map_or(&*b.name, |names| names.name(b)))
            }
            (Kind::Enum(a), Kind::Enum(b)) => a.symbols == b.symbols,
            (Kind::Fixed(a), Kind::Fixed(b)) => a.size == b.size,
            _ => discriminant(reader) == discriminant(writer),
        };
        let simple = writer.name().map(|name| self.renames.name(name).simple());
        of_kind && reader.name().map(Name::simple) == simple
    }
}

/// The fields of a record by the names that the other side knows them by.
pub(super) struct Written<'a> {
    record: &'a Record,
    /// Empty where names are as they are written and few: they are as fast to look through.
    by_name: HashMap<Cow<'a, str>, usize>,
}

impl<'a> Written<'a> {
    pub(super) fn of(record: &'a Record, names: Option<FieldNames<'_>>) -> Self {
        const FEW: usize = 64;
        let fields = record.fields.iter().enumerate();
        let by_name = match names {
            None if record.fields.len() <= FEW => HashMap::new(),
            None => fields.map(|(at, field)| (Cow::Borrowed(&*field.name), at)).collect(),
            Some(names) => {
                let name = |field| Cow::Owned(names.name(field).to_owned());
                fields.map(|(at, field)| (name(field), at)).collect()
            }
        };
        Written { record, by_name }
    }

    /// The field of this name, which is often at the same place on both sides.
    pub(super) fn find(&self, name: &str, near: usize) -> Option<&'a Field> {
        self.find_at(name, near).map(|(_, field)| field)
    }

    fn find_at(&self, name: &str, near: usize) -> Option<(usize, &'a Field)> {
        let fields = &self.record.fields;
        let at = match self.by_name.is_empty() {
            true if fields.get(near).is_some_and(|field| field.name == name) => Some(near),
            true => fields.iter().position(|field| field.name == name),
            false => self.by_name.get(name).copied(),
        }?;
        Some((at, fields.get(at)?))
    }
}
