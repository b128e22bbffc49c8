//! Two schemas in, Java's findings out, as `SchemaCompatibility.checkReaderWriterCompatibility`
//! collects them.
//!
//! `gate/render.rs` makes texts of what is collected here.
//!
//! What must be as in Java for the findings to be its own, in its order:
//!
//! - A pair of types is judged once; met again, it has the findings and the *locations* of the
//!   first time. A pair that is being judged counts as compatible.
//! - Types are told apart by where they are defined, not by what they are: named types are shared,
//!   every other use is a type of its own. Our nodes are just that.
//! - Inside a union the location begins anew and the findings are dropped; that they were made
//!   still shows where the same pair is met again.
//! - A reader's union stops at the first branch that fits.
//!
//! Instead of calling itself it keeps a stack of frames: schemas refer to each other in chains that
//! no stack has room for. Findings of a pair are not copied where it is met again, as Java does,
//! but referred to: thirty records that each use the next one twice have a thousand million
//! findings there, and here a count.

mod render;

use std::collections::HashMap;

use rustc_hash::FxHashMap;

use crate::avro::{Field, Kind, NodeId, PlaceId, Record, Schema, TypeRef};
use crate::compat::finding::{Code, Finding};
use crate::compat::rules::{self, Named};
use crate::compat::trail::{Step, Trail, Trails};
use crate::compat::{FINDINGS_MAX, PAIRS_MAX, Report, Undecided, Verdict};

/// Fields, branches and symbols compared for one pair of schemas.
const WORK_MAX: usize = 50 * PAIRS_MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OutcomeId(u32);

/// Nothing speaks against the pair.
const FINE: OutcomeId = OutcomeId(0);

#[derive(Debug, Default)]
struct Outcome {
    entries: Vec<Entry>,
    /// Findings in all, with those referred to.
    count: u64,
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    Finding(u32),
    Outcome(OutcomeId),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    Judged(OutcomeId),
}

/// A finding before its texts are made.
#[derive(Debug)]
struct Raw {
    code: Code,
    reader: NodeId,
    writer: NodeId,
    reader_place: PlaceId,
    writer_place: PlaceId,
    trail: Trail,
    /// The index of the reader's field that is not written.
    field: Option<u32>,
    /// What was found in branches of a union.
    because: Vec<OutcomeId>,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    reader: TypeRef,
    writer: TypeRef,
    trail: Trail,
}

/// A pair whose parts are being judged.
#[derive(Debug)]
struct Frame<'a> {
    pair: Pair,
    parts: Parts<'a>,
    /// The next part.
    next: usize,
    entries: Vec<Entry>,
    /// What was found in the branches tried so far.
    tried: Vec<OutcomeId>,
}

#[derive(Clone, Copy, Debug)]
enum Parts<'a> {
    Inner(TypeRef, TypeRef, Step),
    Fields(&'a Record, &'a Record),
    /// Each branch of the writer against the whole union of the reader.
    BothUnions(&'a [TypeRef]),
    /// Each branch of the writer against the reader.
    WriterUnion(&'a [TypeRef]),
    /// Branches of the reader until one reads the writer.
    ReaderUnion(&'a [TypeRef]),
}

enum Next {
    Ask(Pair),
    Done,
}

/// The check ends without a list of findings.
enum Stopped {
    /// Java throws.
    Ambiguous(Box<Finding>),
    TooLarge,
}

/// Whether records must have the same name. To Java's checker they must, to its resolver not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordNames {
    Compared,
    Ignored,
}

pub(super) struct Gate<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    /// Keys count from 0 and are nobody's choice: a hash without secret will do.
    states: FxHashMap<(NodeId, NodeId), State>,
    outcomes: Vec<Outcome>,
    raws: Vec<Raw>,
    trails: Trails,
    stack: Vec<Frame<'a>>,
    work: usize,
    record_names: RecordNames,
    /// Fields of the writer's records by name, made when positions do not agree.
    fields: HashMap<NodeId, HashMap<&'a str, usize>>,
}

impl<'a> Gate<'a> {
    pub(super) fn new(reader: &'a Schema, writer: &'a Schema, record_names: RecordNames) -> Self {
        Gate {
            reader,
            writer,
            states: FxHashMap::default(),
            outcomes: vec![Outcome::default()],
            raws: Vec::new(),
            trails: Trails::default(),
            stack: Vec::new(),
            work: 0,
            record_names,
            fields: HashMap::new(),
        }
    }

    pub(super) fn check(mut self) -> Report {
        let root =
            Pair { reader: self.reader.root(), writer: self.writer.root(), trail: Trail::ROOT };
        let (verdict, findings, omitted) = match self.judge(root) {
            Ok(FINE) => (Verdict::Compatible, Vec::new(), 0),
            Ok(outcome) => {
                let raws = self.raws_of(&[outcome], FINDINGS_MAX);
                let findings = self.findings(&raws);
                let count = self.outcome(outcome).map_or(0, |outcome| outcome.count);
                let omitted = count.saturating_sub(findings.len() as u64);
                (Verdict::Incompatible, findings, omitted)
            }
            Err(Stopped::Ambiguous(finding)) => (Verdict::Incompatible, vec![*finding], 0),
            Err(Stopped::TooLarge) => (Verdict::Undecided(Undecided::TooManyPairs), Vec::new(), 0),
        };
        Report { verdict, findings, omitted }
    }

    /// Whether one type of the reader reads one of the writer.
    pub(super) fn fits(&mut self, reader: TypeRef, writer: TypeRef) -> bool {
        matches!(self.judge(Pair { reader, writer, trail: Trail::ROOT }), Ok(FINE))
    }

    fn judge(&mut self, root: Pair) -> Result<OutcomeId, Stopped> {
        // A check that was stopped leaves frames behind.
        self.stack.clear();
        let mut answer = self.ask(root)?;
        while let Some(mut frame) = self.stack.pop() {
            if let Some(outcome) = answer.take() {
                self.hear(&mut frame, outcome);
            }
            match self.next(&mut frame)? {
                Next::Ask(pair) => {
                    self.stack.push(frame);
                    answer = self.ask(pair)?;
                }
                Next::Done => answer = Some(self.close(frame)),
            }
        }
        Ok(answer.unwrap_or(FINE))
    }

    /// The outcome of a pair, or None when its parts must be judged first: they then lie on the
    /// stack.
    fn ask(&mut self, pair: Pair) -> Result<Option<OutcomeId>, Stopped> {
        let key = (pair.reader.node, pair.writer.node);
        match self.states.get(&key) {
            // Schemas are compatible unless proven otherwise.
            Some(State::Open) => return Ok(Some(FINE)),
            Some(State::Judged(outcome)) => return Ok(Some(*outcome)),
            None => {}
        }
        if self.states.len() >= PAIRS_MAX {
            return Err(Stopped::TooLarge);
        }
        let (reader, writer) = (self.reader_kind(pair.reader), self.writer_kind(pair.writer));
        let mut entries = Vec::new();
        let parts = match (reader, writer) {
            (Kind::Union(_), Kind::Union(branches)) => Some(Parts::BothUnions(branches)),
            (_, Kind::Union(branches)) => Some(Parts::WriterUnion(branches)),
            (Kind::Union(branches), _) => Some(Parts::ReaderUnion(branches)),
            (Kind::Array(reader), Kind::Array(writer)) => {
                Some(Parts::Inner(*reader, *writer, Step::Items))
            }
            (Kind::Map(reader), Kind::Map(writer)) => {
                Some(Parts::Inner(*reader, *writer, Step::Values))
            }
            (Kind::Record(reader), Kind::Record(writer)) => {
                if self.record_names == RecordNames::Compared {
                    self.compare_names(pair, &mut entries);
                }
                Some(Parts::Fields(reader, writer))
            }
            _ => {
                self.compare_leaves(pair, &mut entries)?;
                None
            }
        };
        let Some(parts) = parts else {
            let outcome = self.outcome_of(entries);
            self.states.insert(key, State::Judged(outcome));
            return Ok(Some(outcome));
        };
        self.states.insert(key, State::Open);
        self.stack.push(Frame { pair, parts, next: 0, entries, tried: Vec::new() });
        Ok(None)
    }

    /// Types without parts: what is wrong with the two themselves.
    fn compare_leaves(&mut self, pair: Pair, entries: &mut Vec<Entry>) -> Result<(), Stopped> {
        let (reader, writer) = (self.reader_kind(pair.reader), self.writer_kind(pair.writer));
        match (reader, writer) {
            (Kind::Enum(reader), Kind::Enum(writer)) => {
                self.spend(writer.symbols.len())?;
                self.compare_names(pair, entries);
                if !rules::missing_symbols(reader, writer).is_empty() {
                    let places = (reader.symbols_place, writer.symbols_place);
                    let trail = self.trails.then(pair.trail, Step::Part("symbols"));
                    self.note(Code::MissingEnumSymbols, pair, places, trail, entries);
                }
            }
            (Kind::Fixed(reader), Kind::Fixed(writer)) => {
                self.compare_names(pair, entries);
                if reader.size != writer.size {
                    let places = (reader.size_place, writer.size_place);
                    let trail = self.trails.then(pair.trail, Step::Part("size"));
                    self.note(Code::FixedSizeMismatch, pair, places, trail, entries);
                }
            }
            (reader, writer) if rules::reads(reader, writer) => {}
            _ => {
                let places = (pair.reader.place, pair.writer.place);
                self.note(Code::TypeMismatch, pair, places, pair.trail, entries);
            }
        }
        Ok(())
    }

    fn compare_names(&mut self, pair: Pair, entries: &mut Vec<Entry>) {
        let reader = Named::of(self.reader_kind(pair.reader));
        let writer = self.writer_kind(pair.writer).name();
        if let (Some(reader), Some(writer)) = (reader, writer)
            && !reader.reads(writer)
        {
            let places = (
                self.reader.node(pair.reader.node).place,
                self.writer.node(pair.writer.node).place,
            );
            let trail = self.trails.then(pair.trail, Step::Part("name"));
            self.note(Code::NameMismatch, pair, places, trail, entries);
        }
    }

    /// What to judge next for the parts of a pair.
    fn next(&mut self, frame: &mut Frame<'a>) -> Result<Next, Stopped> {
        let Frame { pair, parts, next, .. } = frame;
        let (pair, at) = (*pair, *next);
        *next += 1;
        self.spend(1)?;
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        Ok(match *parts {
            Parts::Inner(reader, writer, step) if at == 0 => {
                Next::Ask(Pair { reader, writer, trail: self.trails.then(pair.trail, step) })
            }
            Parts::Inner(..) => Next::Done,
            Parts::Fields(reader, writer) => {
                frame.next = at;
                self.next_field(frame, reader, writer)?
            }
            Parts::BothUnions(branches) => match branches.get(at) {
                Some(branch) => {
                    let step = Step::BothBranches { union: pair.writer.node, index };
                    let trail = self.trails.then(pair.trail, step);
                    Next::Ask(Pair { reader: pair.reader, writer: *branch, trail })
                }
                None => Next::Done,
            },
            Parts::WriterUnion(branches) => match branches.get(at) {
                Some(branch) => {
                    let step = Step::WriterBranch { union: pair.writer.node, index };
                    let trail = self.trails.then(pair.trail, step);
                    Next::Ask(Pair { reader: pair.reader, writer: *branch, trail })
                }
                None => Next::Done,
            },
            Parts::ReaderUnion(branches) => match branches.get(at) {
                Some(branch) => {
                    let step = Step::ReaderBranch { node: branch.node };
                    let trail = self.trails.then(pair.trail, step);
                    Next::Ask(Pair { reader: *branch, writer: pair.writer, trail })
                }
                None => {
                    let because = std::mem::take(&mut frame.tried);
                    let raw = Raw { because, ..Raw::of(Code::MissingUnionBranch, pair) };
                    frame.entries.push(self.keep(raw));
                    Next::Done
                }
            },
        })
    }

    /// Goes on to the next field of a record that is not settled at a glance.
    fn next_field(
        &mut self,
        frame: &mut Frame<'a>,
        reader: &'a Record,
        writer: &'a Record,
    ) -> Result<Next, Stopped> {
        let pair = frame.pair;
        while let Some(field) = reader.fields.get(frame.next) {
            let at = frame.next;
            frame.next += 1;
            self.spend(1)?;
            let index = u32::try_from(at).unwrap_or(u32::MAX);
            let step = Step::Field { record: pair.reader.node, index };
            let written = self.written(pair, writer, field, at)?;
            let kind = self.reader_kind(field.schema);
            let target = match written {
                Some(written) if rules::reads(kind, self.writer_kind(written.schema)) => continue,
                Some(written) => written.schema,
                None if field.default.is_some() => continue,
                // Java then compares the enum with the writer's whole record.
                None if matches!(kind, Kind::Enum(one) if one.default.is_some()) => pair.writer,
                None => {
                    let raw = Raw {
                        reader_place: field.place,
                        writer_place: self.writer.node(pair.writer.node).place,
                        trail: self.trails.then(pair.trail, step),
                        field: Some(index),
                        ..Raw::of(Code::ReaderFieldMissingDefaultValue, pair)
                    };
                    frame.entries.push(self.keep(raw));
                    continue;
                }
            };
            let trail = self.trails.then(pair.trail, step);
            let trail = self.trails.then(trail, Step::Type);
            return Ok(Next::Ask(Pair { reader: field.schema, writer: target, trail }));
        }
        Ok(Next::Done)
    }

    /// The written field that a reader's field stands for, by its name or an alias.
    fn written(
        &mut self,
        pair: Pair,
        writer: &'a Record,
        field: &Field,
        at: usize,
    ) -> Result<Option<&'a Field>, Stopped> {
        if field.aliases.is_empty()
            && let Some(same) = writer.fields.get(at)
            && same.name == field.name
        {
            return Ok(Some(same));
        }
        let by_name = self.fields.entry(pair.writer.node).or_insert_with(|| {
            writer.fields.iter().enumerate().map(|(at, one)| (one.name.as_str(), at)).collect()
        });
        let mut aliases: Vec<&str> = field.aliases.iter().map(String::as_str).collect();
        if aliases.len() > 1 {
            aliases.sort_unstable();
            aliases.dedup();
        }
        let names = std::iter::once(field.name.as_str()).chain(aliases);
        let mut found = names.filter_map(|name| by_name.get(name).copied());
        let (first, second) = (found.next(), found.next());
        let first = first.and_then(|at| writer.fields.get(at));
        match second.and_then(|at| writer.fields.get(at)) {
            None => Ok(first),
            Some(second) => Err(Stopped::Ambiguous(Box::new(self.ambiguous(
                pair,
                field,
                first.unwrap_or(second),
                second,
                at,
            )))),
        }
    }

    /// Takes note of what a part gave.
    fn hear(&mut self, frame: &mut Frame<'a>, outcome: OutcomeId) {
        match frame.parts {
            Parts::ReaderUnion(_) if outcome == FINE => {
                // Nothing else is tried.
                frame.parts = Parts::WriterUnion(&[]);
            }
            Parts::ReaderUnion(_) => frame.tried.push(outcome),
            _ if outcome == FINE => {}
            Parts::BothUnions(branches) => {
                let at = frame.next.saturating_sub(1);
                let index = u32::try_from(at).unwrap_or(u32::MAX);
                let Some(branch) = branches.get(at) else { return };
                let union = frame.pair.writer.node;
                let raw = Raw {
                    writer: branch.node,
                    writer_place: branch.place,
                    trail: self.trails.then(frame.pair.trail, Step::WriterBranch { union, index }),
                    because: vec![outcome],
                    ..Raw::of(Code::MissingUnionBranch, frame.pair)
                };
                frame.entries.push(self.keep(raw));
            }
            Parts::Inner(..) | Parts::Fields(..) | Parts::WriterUnion(_) => {
                frame.entries.push(Entry::Outcome(outcome));
            }
        }
    }

    fn close(&mut self, frame: Frame<'a>) -> OutcomeId {
        let key = (frame.pair.reader.node, frame.pair.writer.node);
        let outcome = self.outcome_of(frame.entries);
        self.states.insert(key, State::Judged(outcome));
        outcome
    }

    fn outcome_of(&mut self, entries: Vec<Entry>) -> OutcomeId {
        match entries.as_slice() {
            [] => return FINE,
            // A chain of types that each hold the next one has one outcome, not a chain of them.
            [Entry::Outcome(only)] => return *only,
            _ => {}
        }
        let count = entries.iter().fold(0u64, |count, entry| {
            count.saturating_add(match entry {
                Entry::Finding(_) => 1,
                Entry::Outcome(inner) => self.outcome(*inner).map_or(0, |inner| inner.count),
            })
        });
        // One for each pair at most.
        let id = OutcomeId(u32::try_from(self.outcomes.len()).unwrap_or(u32::MAX));
        self.outcomes.push(Outcome { entries, count });
        id
    }

    fn outcome(&self, id: OutcomeId) -> Option<&Outcome> {
        self.outcomes.get(id.0 as usize)
    }

    fn note(
        &mut self,
        code: Code,
        pair: Pair,
        (reader_place, writer_place): (PlaceId, PlaceId),
        trail: Trail,
        entries: &mut Vec<Entry>,
    ) {
        let raw = Raw { reader_place, writer_place, trail, ..Raw::of(code, pair) };
        entries.push(self.keep(raw));
    }

    fn keep(&mut self, raw: Raw) -> Entry {
        // Bounded by the work.
        let id = u32::try_from(self.raws.len()).unwrap_or(u32::MAX);
        self.raws.push(raw);
        Entry::Finding(id)
    }

    fn spend(&mut self, work: usize) -> Result<(), Stopped> {
        self.work = self.work.saturating_add(work);
        if self.work > WORK_MAX { Err(Stopped::TooLarge) } else { Ok(()) }
    }

    fn reader_kind(&self, of: TypeRef) -> &'a Kind {
        &self.reader.node(of.node).kind
    }

    fn writer_kind(&self, of: TypeRef) -> &'a Kind {
        &self.writer.node(of.node).kind
    }
}

impl Raw {
    fn of(code: Code, pair: Pair) -> Self {
        Raw {
            code,
            reader: pair.reader.node,
            writer: pair.writer.node,
            reader_place: pair.reader.place,
            writer_place: pair.writer.place,
            trail: pair.trail,
            field: None,
            because: Vec::new(),
        }
    }
}
