//! Two schemas that the gate lets pass in, every pair of types that meets while Java decodes out,
//! and what `decode.rs` and `meaning.rs` say of each.
//!
//! Java's resolver decides otherwise than its checker: `resolve.rs` says which branch of a reader's
//! union it takes, `aliases.rs` what it takes the writer's names for.

use rustc_hash::FxHashSet;

use crate::avro::{
    DefaultEncoder, Field, Kind, NodeId, PlaceId, Record, Schema, TypeRef, UnionDefault,
};
use crate::compat::finding::{Code, Finding, Help};
use crate::compat::gate::{Gate, RecordNames};
use crate::compat::resolve::{Resolver, Written};
use crate::compat::rules;
use crate::compat::trail::{Step, Trail, Trails};
use crate::compat::{FINDINGS_MAX, PAIRS_MAX, Report, TEXT_BYTES_MAX, decode, meaning};

/// Two types that meet, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) reader: TypeRef,
    pub(super) writer: TypeRef,
    pub(super) trail: Trail,
}

pub(super) struct Walk<'a> {
    pub(super) reader: &'a Schema,
    pub(super) writer: &'a Schema,
    pub(super) trails: Trails,
    pub(super) defaults: DefaultEncoder<'a>,
    pub(super) resolver: Resolver<'a>,
    gate: Gate<'a>,
    seen: FxHashSet<(NodeId, NodeId)>,
    todo: Vec<Pair>,
    found: Vec<Finding>,
    omitted: u64,
    text_bytes: usize,
}

/// Appends what the gate does not see.
pub(super) fn findings(reader: &Schema, writer: &Schema, report: &mut Report) {
    let mut walk = Walk {
        reader,
        writer,
        trails: Trails::default(),
        defaults: DefaultEncoder::new(reader, UnionDefault::AsJava),
        resolver: Resolver::new(reader, writer),
        gate: Gate::new(reader, writer, RecordNames::Ignored),
        seen: FxHashSet::default(),
        todo: Vec::new(),
        found: Vec::new(),
        omitted: 0,
        text_bytes: 0,
    };
    walk.meet(Pair { reader: reader.root(), writer: writer.root(), trail: Trail::ROOT });
    while let Some(pair) = walk.todo.pop() {
        walk.look(pair);
    }
    decode::writers_schema(&mut walk);
    walk.found.sort_by_key(Finding::severity);
    report.findings.append(&mut walk.found);
    report.omitted = report.omitted.saturating_add(walk.omitted);
}

impl<'a> Walk<'a> {
    /// Puts a pair on the list, unless nothing can be said of it or it was looked at.
    fn meet(&mut self, pair: Pair) {
        let key = (pair.reader.node, pair.writer.node);
        if self.seen.len() < PAIRS_MAX && self.seen.insert(key) {
            self.todo.push(pair);
        }
    }

    fn look(&mut self, pair: Pair) {
        let (reader, writer) = (self.reader_kind(pair.reader), self.writer_kind(pair.writer));
        meaning::look(self, pair);
        decode::look(self, pair);
        match (reader, writer) {
            (Kind::Array(reader), Kind::Array(writer)) => {
                let trail = self.trails.then(pair.trail, Step::Items);
                self.meet(Pair { reader: *reader, writer: *writer, trail });
            }
            (Kind::Map(reader), Kind::Map(writer)) => {
                let trail = self.trails.then(pair.trail, Step::Values);
                self.meet(Pair { reader: *reader, writer: *writer, trail });
            }
            (Kind::Record(reader), Kind::Record(writer)) => self.fields(pair, reader, writer),
            (_, Kind::Union(branches)) => self.written_union(pair, branches),
            (Kind::Union(_), _) => self.choose(pair),
            _ => {}
        }
    }

    fn fields(&mut self, pair: Pair, reader: &'a Record, writer: &'a Record) {
        let mut absent = Vec::new();
        // The last field lies on top of the list: from the end, so that the first comes first.
        let written = Written::of(writer, self.resolver.renames.fields(&writer.name));
        for (index, field) in reader.fields.iter().enumerate().rev() {
            let written = written.find(&field.name, index);
            match written {
                Some(written) if self.is_plain(field.schema, written.schema) => {
                    self.unit(pair, index, field, written);
                }
                Some(written) => {
                    let trail = self.field_trail(pair, index);
                    let trail = self.trails.then(trail, Step::Type);
                    self.unit(pair, index, field, written);
                    self.meet(Pair { reader: field.schema, writer: written.schema, trail });
                }
                None => absent.push(index),
            }
        }
        if absent.is_empty() {
            return;
        }
        absent.reverse();
        let as_written = Written::of(writer, None);
        for index in &absent {
            decode::default_used(self, pair, *index);
            decode::alias_not_applied(self, pair, *index, &as_written);
        }
        meaning::renamed(self, pair, &absent);
    }

    fn unit(&mut self, pair: Pair, index: usize, reader: &Field, writer: &Field) {
        if !reader.properties.is_empty() && !writer.properties.is_empty() {
            meaning::field_unit(self, pair, index, reader, writer);
        }
    }

    /// The same primitive on both sides, and nothing said beside it.
    fn is_plain(&self, reader: TypeRef, writer: TypeRef) -> bool {
        let (reader, writer) = (self.reader.node(reader.node), self.writer.node(writer.node));
        let is_bare = |node: &crate::avro::Node| node.properties.is_empty();
        let is_same = std::mem::discriminant(&reader.kind) == std::mem::discriminant(&writer.kind);
        is_same && rules::reads(&reader.kind, &writer.kind) && is_bare(reader) && is_bare(writer)
    }

    fn written_union(&mut self, pair: Pair, branches: &'a [TypeRef]) {
        let pairwise = self.resolver.same_branches(pair.reader, pair.writer);
        for (index, branch) in branches.iter().enumerate().rev() {
            let at = u32::try_from(index).unwrap_or(u32::MAX);
            let step = Step::WriterBranch { union: pair.writer.node, index: at };
            let trail = self.trails.then(pair.trail, step);
            let same = pairwise.and_then(|readers| readers.get(index));
            let reader = same.copied().unwrap_or(pair.reader);
            self.meet(Pair { reader, writer: *branch, trail });
        }
    }

    fn choose(&mut self, pair: Pair) {
        let Some(chosen) = self.resolver.choose(pair.reader, pair.writer) else {
            return decode::no_branch(self, pair);
        };
        if !self.gate.fits(chosen, pair.writer) {
            return decode::wrong_branch(self, pair, chosen);
        }
        let trail = self.trails.then(pair.trail, Step::ReaderBranch { node: chosen.node });
        self.meet(Pair { reader: chosen, writer: pair.writer, trail });
    }

    pub(super) fn field_trail(&mut self, pair: Pair, index: usize) -> Trail {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.trails.then(pair.trail, Step::Field { record: pair.reader.node, index })
    }

    pub(super) fn reader_kind(&self, of: TypeRef) -> &'a Kind {
        &self.reader.node(of.node).kind
    }

    pub(super) fn writer_kind(&self, of: TypeRef) -> &'a Kind {
        &self.writer.node(of.node).kind
    }

    /// Takes a finding down.
    pub(super) fn report(
        &mut self,
        code: Code,
        trail: Trail,
        (reader, writer): (PlaceId, PlaceId),
        message: String,
        help: Help,
    ) {
        if self.found.len() >= FINDINGS_MAX || self.text_bytes > TEXT_BYTES_MAX {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        let reader = self.reader.place(reader).clone();
        let finding = Finding {
            code,
            location: if reader.pointer.is_empty() {
                "/".into()
            } else {
                reader.pointer.to_string()
            },
            message,
            path: self.trails.path(trail, self.reader, self.writer),
            reader,
            writer: self.writer.place(writer).clone(),
            because: Vec::new(),
            help,
        };
        self.text_bytes += finding.text_bytes();
        self.found.push(finding);
    }
}
