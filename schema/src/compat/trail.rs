//! The way from the root of a pair to a place in it: Java's location, and the path by names.
//!
//! Ways share their beginnings: each step knows the one before it, and a text is made only for what
//! is reported.

use std::fmt::Write as _;

use crate::avro::{Kind, NodeId, Schema};

/// One step, by what Java calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `/fields/<index>` of a reader's record.
    Field { record: NodeId, index: u32 },
    /// `/type`, from a field into its type.
    Type,
    /// `/items` of arrays.
    Items,
    /// `/values` of maps.
    Values,
    /// `/<index>` of a writer's union.
    WriterBranch { union: NodeId, index: u32 },
    /// Into a branch of a reader's union. Java forgets the way so far.
    ReaderBranch { node: NodeId },
    /// Into a branch of a writer's union where the reader has one too. Java forgets the way so far.
    BothBranches { union: NodeId, index: u32 },
    /// `/name`, `/size` or `/symbols` of a named type.
    Part(&'static str),
}

/// The end of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trail(u32);

impl Trail {
    /// The pair itself.
    pub(super) const ROOT: Trail = Trail(0);
}

/// All ways of a check.
#[derive(Debug, Default)]
pub(super) struct Trails {
    /// Each step with the way before it; the first way ends behind no step.
    steps: Vec<(Trail, Step)>,
}

impl Trails {
    pub(super) fn then(&mut self, before: Trail, step: Step) -> Trail {
        self.steps.push((before, step));
        // One for each step; the number of pairs is bounded far below.
        Trail(u32::try_from(self.steps.len()).unwrap_or(u32::MAX))
    }

    fn last(&self, trail: Trail) -> Option<(Trail, Step)> {
        let at = (trail.0 as usize).checked_sub(1)?;
        self.steps.get(at).copied()
    }

    /// The steps from the root to the end of a way.
    fn steps(&self, mut trail: Trail) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some((before, step)) = self.last(trail) {
            steps.push(step);
            trail = before;
        }
        steps.reverse();
        steps
    }

    /// Whether a way ends at a branch of a reader's union, not somewhere inside it.
    pub(super) fn ends_in_branch(&self, trail: Trail) -> bool {
        matches!(self.last(trail), Some((_, Step::ReaderBranch { .. })))
    }

    /// As `SchemaCompatibility.Incompatibility.getLocation` prints it.
    pub(super) fn location(&self, trail: Trail) -> String {
        let mut out = String::new();
        for step in self.steps(trail) {
            match step {
                Step::Field { index, .. } => _ = write!(out, "/fields/{index}"),
                Step::Type => out.push_str("/type"),
                Step::Items => out.push_str("/items"),
                Step::Values => out.push_str("/values"),
                Step::WriterBranch { index, .. } => _ = write!(out, "/{index}"),
                Step::ReaderBranch { .. } | Step::BothBranches { .. } => out.clear(),
                Step::Part(part) => _ = write!(out, "/{part}"),
            }
        }
        if out.is_empty() { "/".to_owned() } else { out }
    }

    /// By names: `lines[].qty`, `prices{}`, `payment<shop.Card>.number`.
    pub(super) fn path(&self, trail: Trail, reader: &Schema, writer: &Schema) -> String {
        let mut out = String::new();
        let branch = |out: &mut String, schema: &Schema, node: NodeId| {
            // Every other branch is told from its neighbours by nothing that a reader looks for.
            if let Some(name) = schema.node(node).kind.name()
                && !out.ends_with(&format!("<{}>", name.full()))
            {
                _ = write!(out, "<{}>", name.full());
            }
        };
        for step in self.steps(trail) {
            match step {
                Step::Field { record, index } => {
                    if let Kind::Record(record) = &reader.node(record).kind
                        && let Some(field) = record.fields.get(index as usize)
                    {
                        out.push_str(if out.is_empty() { "" } else { "." });
                        out.push_str(&field.name);
                    }
                }
                Step::Items => out.push_str("[]"),
                Step::Values => out.push_str("{}"),
                Step::ReaderBranch { node } => branch(&mut out, reader, node),
                Step::WriterBranch { union, index } | Step::BothBranches { union, index } => {
                    if let Kind::Union(branches) = &writer.node(union).kind
                        && let Some(one) = branches.get(index as usize)
                    {
                        branch(&mut out, writer, one.node);
                    }
                }
                Step::Type | Step::Part(_) => {}
            }
        }
        out
    }
}
