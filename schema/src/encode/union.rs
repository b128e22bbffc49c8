//! Which branch of a union a value is meant for. Never the first that happens to fit.
//!
//! - null, boolean, array: the one branch of that kind.
//! - number: among several branches the narrowest integer that holds it, or a float if it is
//!   written with a point or exponent.
//! - string: an enum with that symbol, then a uuid, date, time or duration that parses, then
//!   string, then decimal, bytes, fixed.
//! - object: the one record, map or duration that it is complete for. Two are an error. None: a tag
//!   (`{"shop.Card": {..}}`), else the errors of the branch that has fewest.

use crate::encode::error::EncodeErrorKind;
use crate::encode::path::Path;
use crate::encode::plan::{Absent, RecordPlan, Shape, UnionPlan};
use crate::encode::report::with_place;
use crate::encode::run::{Encoder, Read};
use crate::json::{Fault, Kind};
use crate::varint;

/// What was decided about an object in a union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is this branch, or comes nearest to it.
    Branch(usize),
    /// Its one key names this branch.
    Tagged(usize),
    Ambiguous,
}

impl<'p> Encoder<'p, '_> {
    #[inline]
    pub(super) fn union(
        &mut self,
        id: u32,
        union: &'p UnionPlan,
        kind: Kind,
        path: &Path<'_>,
    ) -> Read {
        let branch = match kind {
            Kind::Null => union.null,
            Kind::Boolean => union.boolean,
            Kind::Array => union.array,
            Kind::Number => self.number_branch(union)?,
            Kind::String => return self.union_string(id, union, path),
            Kind::Object => return self.union_object(id, union, path),
        };
        match branch {
            Some(at) => self.branch(union, at, path),
            None => self.mismatch(self.plan.node(id), kind, path),
        }
    }

    #[inline]
    fn branch(&mut self, union: &UnionPlan, at: usize, path: &Path<'_>) -> Read {
        varint::write_len(at, self.out);
        self.value(union.branch(at), path)
    }

    fn number_branch(&mut self, union: &UnionPlan) -> Result<Option<usize>, Fault> {
        if let [] | [_] = union.numbers.as_slice() {
            return Ok(union.numbers.first().copied());
        }
        let start = self.cursor.pos;
        let plain = self.cursor.number()?.plain;
        self.cursor.pos = start;
        let order = if plain { &union.numbers } else { &union.pointed };
        for at in order {
            if self.errors_of(union.branch(*at))? == 0 {
                return Ok(Some(*at));
            }
        }
        // None holds it: the widest says so.
        Ok(if plain { order.last() } else { order.first() }.copied())
    }

    fn union_string(&mut self, id: u32, union: &UnionPlan, path: &Path<'_>) -> Read {
        if let [(_, at)] = union.strings.as_slice() {
            return self.branch(union, *at, path);
        }
        let mut fitting: Option<(u8, usize)> = None;
        for (rank, at) in &union.strings {
            match fitting {
                Some((taken, _)) if taken < *rank => break,
                _ => {}
            }
            self.strict_symbols = true;
            let errors = self.errors_of(union.branch(*at));
            self.strict_symbols = false;
            if errors? > 0 {
                continue;
            }
            if fitting.is_some() {
                let ambiguous: Vec<usize> = union.strings.iter().map(|(_, at)| *at).collect();
                return self.ambiguous(union, &ambiguous, Kind::String, path);
            }
            fitting = Some((*rank, *at));
        }
        match fitting {
            Some((_, at)) => self.branch(union, at, path),
            None => self.mismatch(self.plan.node(id), Kind::String, path),
        }
    }

    fn union_object(&mut self, id: u32, union: &'p UnionPlan, path: &Path<'_>) -> Read {
        let tag = self.tag(union)?;
        match (tag, union.objects.as_slice()) {
            (None, [at]) => return self.branch(union, *at, path),
            (None, []) => return self.mismatch(self.plan.node(id), Kind::Object, path),
            (Some(at), []) => return self.tagged(union, at, path),
            _ => {}
        }
        self.deciding += 1;
        let read = self.decided_object(id, union, tag, path);
        self.deciding -= 1;
        if self.deciding == 0 {
            self.decided.clear();
        }
        read
    }

    fn decided_object(
        &mut self,
        id: u32,
        union: &'p UnionPlan,
        tag: Option<usize>,
        path: &Path<'_>,
    ) -> Read {
        let place = (self.cursor.pos, id);
        let decision = match self.decided.get(&place) {
            Some(decision) => *decision,
            None => {
                let decision = self.decide(union, tag)?;
                self.decided.insert(place, decision);
                decision
            }
        };
        match decision {
            Decision::Branch(at) => self.branch(union, at, path),
            Decision::Tagged(at) => self.tagged(union, at, path),
            Decision::Ambiguous => self.ambiguous(union, &union.objects, Kind::Object, path),
        }
    }

    /// Records whose keys alone tell them apart are not read to see whether they fit.
    fn decide(&mut self, union: &'p UnionPlan, tag: Option<usize>) -> Result<Decision, Fault> {
        let mut nearest: Option<(usize, usize)> = None;
        let mut complete = None;
        let mut screened = Vec::new();
        for at in &union.objects {
            let node = self.plan.node(union.branch(*at));
            if let Shape::Record(record) = &node.shape
                && !self.keys_fit(record)?
            {
                screened.push(*at);
                continue;
            }
            let errors = self.errors_of(union.branch(*at))?;
            if errors == 0 && complete.is_some() {
                return Ok(Decision::Ambiguous);
            }
            if errors == 0 {
                complete = Some(*at);
            }
            if nearest.is_none_or(|(fewest, _)| errors < fewest) {
                nearest = Some((errors, *at));
            }
        }
        if let Some(at) = complete {
            return Ok(Decision::Branch(at));
        }
        if let Some(at) = tag {
            return Ok(Decision::Tagged(at));
        }
        for at in screened {
            let errors = self.errors_of(union.branch(at))?;
            if nearest.is_none_or(|(fewest, _)| errors < fewest) {
                nearest = Some((errors, at));
            }
        }
        Ok(Decision::Branch(nearest.map_or(0, |(_, at)| at)))
    }

    /// Tries the value here as a type: how many errors it would have. Leaves no trace.
    fn errors_of(&mut self, node: u32) -> Result<usize, Fault> {
        let (start, written, before) = (self.cursor.pos, self.out.len(), self.error_count);
        let slots = self.scratch.slots.len();
        self.trials += 1;
        let read = self.value(node, &Path::root());
        self.trials -= 1;
        let errors = self.error_count - before;
        self.cursor.pos = start;
        self.out.truncate(written);
        self.scratch.slots.truncate(slots);
        self.error_count = before;
        read.map(|()| errors)
    }

    /// Whether the object's keys are fields of the record, and all that have no default are there.
    fn keys_fit(&mut self, record: &RecordPlan) -> Result<bool, Fault> {
        let mut inner = self.cursor.clone();
        inner.pos += 1;
        let mut needed =
            record.fields.iter().filter(|f| !matches!(f.absent, Absent::Bytes(_))).count();
        let mut first = true;
        while !inner.eat(b'}') {
            if !first {
                inner.expect(b',', "expected , or }")?;
            }
            first = false;
            let key = inner.key()?;
            let found = if key.escaped {
                record.find(inner.string_value(key).as_bytes())
            } else {
                record.find(inner.bytes(key.start, key.end))
            };
            match found.and_then(|at| record.fields.get(at)) {
                Some(field) => {
                    needed = needed
                        .saturating_sub(usize::from(!matches!(field.absent, Absent::Bytes(_))));
                }
                None if self.ignores_unknown() => {}
                None => return Ok(false),
            }
            inner.skip_value()?;
        }
        Ok(needed == 0)
    }

    /// The branch named by the object's one key.
    fn tag(&mut self, union: &UnionPlan) -> Result<Option<usize>, Fault> {
        let mut inner = self.cursor.clone();
        inner.pos += 1;
        if inner.next_byte() != Some(b'"') {
            return Ok(None);
        }
        let key = inner.key()?;
        let key = inner.bytes(key.start, key.end);
        let Some(at) = union.tags.iter().position(|tag| tag.as_bytes() == key) else {
            return Ok(None);
        };
        inner.skip_value()?;
        Ok(inner.eat(b'}').then_some(at))
    }

    fn tagged(&mut self, union: &UnionPlan, at: usize, path: &Path<'_>) -> Read {
        let node = self.plan.node(union.branch(at));
        self.nested(node, path, |encoder| {
            encoder.cursor.pos += 1;
            let key = encoder.cursor.key()?;
            encoder.branch(union, at, &path.key(key))?;
            encoder.cursor.expect(b'}', "expected }")
        })
    }

    fn ambiguous(
        &mut self,
        union: &UnionPlan,
        candidates: &[usize],
        kind: Kind,
        path: &Path<'_>,
    ) -> Read {
        let start = self.cursor.pos;
        let mut names = Vec::new();
        if self.keeps_errors() {
            for at in candidates {
                if self.errors_of(union.branch(*at))? == 0 {
                    names.push(union.tags.get(*at).map_or("", |tag| tag));
                }
            }
        }
        self.cursor.skip_value()?;
        let expected = with_place(&format!("only one of {}", names.join(", ")), path);
        let hint = names.first().map(|name| format!("it fits each; tag it: {{\"{name}\": ..}}"));
        let error = EncodeErrorKind::AmbiguousUnion;
        self.report_as(error, path, expected, kind.name(), start, hint);
        Ok(())
    }
}
