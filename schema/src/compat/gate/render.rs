//! What the gate collected in, findings with their texts out.

use std::collections::HashSet;

use crate::avro::{Field, Kind};
use crate::compat::finding::{Because, Code, Finding, Help};
use crate::compat::gate::{Entry, Gate, OutcomeId, Pair, Raw};
use crate::compat::trail::Step;
use crate::compat::{TEXT_BYTES_MAX, help, rules};

/// Inner findings shown for a union.
const BECAUSE_MAX: usize = 20;

/// Inner findings looked at for one of a union: they can be as many as those of the whole schema.
const BECAUSE_LOOKED_AT: usize = 200;

impl<'a> Gate<'a> {
    pub(super) fn ambiguous(
        &mut self,
        pair: Pair,
        field: &Field,
        first: &Field,
        second: &Field,
        at: usize,
    ) -> Finding {
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        let step = Step::Field { record: pair.reader.node, index };
        let trail = self.trails.then(pair.trail, step);
        let kind = rules::java_type(self.reader_kind(field.schema));
        let record = self.writer_kind(pair.writer).branch_name();
        let message = format!(
            "Reader record field {} type:{kind} pos:{at} matches multiple fields in writer record \
             schema {record}: {} and {}",
            field.name, first.name, second.name
        );
        Finding {
            code: Code::AmbiguousAlias,
            location: self.trails.location(trail),
            message,
            path: self.trails.path(trail, self.reader, self.writer),
            reader: self.reader.place(field.place).clone(),
            writer: self.writer.place(second.place).clone(),
            because: Vec::new(),
            help: help::ambiguous_alias(field, first, second),
        }
    }

    /// The first findings of some outcomes, in order.
    pub(super) fn raws_of(&self, outcomes: &[OutcomeId], limit: usize) -> Vec<&Raw> {
        let mut found = Vec::new();
        let mut todo: Vec<Entry> = outcomes.iter().rev().map(|id| Entry::Outcome(*id)).collect();
        while let Some(entry) = todo.pop() {
            if found.len() >= limit {
                break;
            }
            match entry {
                Entry::Finding(at) => found.extend(self.raws.get(at as usize)),
                Entry::Outcome(id) => {
                    let entries = self.outcome(id).map(|outcome| outcome.entries.as_slice());
                    todo.extend(entries.unwrap_or_default().iter().rev());
                }
            }
        }
        found
    }

    /// Findings with their texts, as many as [`TEXT_BYTES_MAX`] has room for.
    pub(super) fn findings(&self, raws: &[&Raw]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut bytes = 0usize;
        for raw in raws {
            let finding = self.finding(raw);
            bytes += finding.text_bytes();
            findings.push(finding);
            if bytes > TEXT_BYTES_MAX {
                break;
            }
        }
        findings
    }

    fn finding(&self, raw: &Raw) -> Finding {
        let because = self.because(raw);
        Finding {
            code: raw.code,
            location: self.trails.location(raw.trail),
            message: self.message(raw),
            path: self.trails.path(raw.trail, self.reader, self.writer),
            reader: self.reader.place(raw.reader_place).clone(),
            writer: self.writer.place(raw.writer_place).clone(),
            help: self.help(raw, &because),
            because,
        }
    }

    fn message(&self, raw: &Raw) -> String {
        let reader = &self.reader.node(raw.reader).kind;
        match (self.field(raw), raw.code) {
            (Some(field), Code::ReaderFieldMissingDefaultValue) => field.name.clone(),
            _ => rules::message(raw.code, reader, &self.writer.node(raw.writer).kind),
        }
    }

    fn field(&self, raw: &Raw) -> Option<&'a Field> {
        match &self.reader.node(raw.reader).kind {
            Kind::Record(record) => record.fields.get(raw.field? as usize),
            _ => None,
        }
    }

    fn help(&self, raw: &Raw, because: &[Because]) -> Help {
        let types =
            help::Types { reader: (self.reader, raw.reader), writer: (self.writer, raw.writer) };
        match (self.field(raw), raw.code) {
            (Some(field), Code::ReaderFieldMissingDefaultValue) => {
                help::missing_default(&types, field)
            }
            _ => help::for_types(raw.code, &types, because),
        }
    }

    /// What was found inside a union, in the branches that were meant: those of the same kind, and
    /// among them those of the same name.
    fn because(&self, raw: &Raw) -> Vec<Because> {
        let mut found = Vec::new();
        let mut todo = vec![raw];
        let mut seen = HashSet::new();
        while let Some(outer) = todo.pop() {
            for inner in self.raws_of(&outer.because, BECAUSE_LOOKED_AT) {
                if found.len() >= BECAUSE_MAX || seen.len() >= BECAUSE_LOOKED_AT {
                    return without_strangers(found);
                }
                if !seen.insert(std::ptr::from_ref(inner)) {
                    continue;
                }
                // A union within the union is looked through.
                if inner.code == Code::MissingUnionBranch {
                    todo.push(inner);
                } else if self.is_meant(inner) {
                    found.push(self.reason(inner));
                }
            }
        }
        without_strangers(found)
    }

    fn reason(&self, raw: &Raw) -> Because {
        Because {
            code: raw.code,
            path: self.trails.path(raw.trail, self.reader, self.writer),
            message: self.message(raw),
            reader: self.reader.place(raw.reader_place).clone(),
            writer: self.writer.place(raw.writer_place).clone(),
        }
    }

    /// That a string is no null is no news; what keeps one enum from being another one is.
    fn is_meant(&self, raw: &Raw) -> bool {
        raw.code != Code::TypeMismatch || !self.trails.ends_in_branch(raw.trail)
    }
}

/// Leaves out what was found in types of other names, unless there is nothing else.
fn without_strangers(found: Vec<Because>) -> Vec<Because> {
    let strangers = found.iter().filter(|one| one.code == Code::NameMismatch);
    let strangers: Vec<String> = strangers.map(|one| one.path.clone()).collect();
    let is_strange = |one: &Because| strangers.iter().any(|path| one.path.starts_with(path));
    if found.iter().all(is_strange) {
        return found;
    }
    found.into_iter().filter(|one| !is_strange(one)).collect()
}
