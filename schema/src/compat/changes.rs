//! An old and a new schema in, what changed between them in words out, with the level that each
//! change by itself still meets.

use std::collections::{HashMap, HashSet};

use crate::avro::{Enum, Field, Kind, Name, NodeId, Place, PlaceId, Record, Schema, TypeRef};
use crate::compat::FINDINGS_MAX;
use crate::compat::gate::{Gate, RecordNames};
use crate::compat::level::Level;
use crate::compat::rules::{Named, described, unknown_symbols};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The place by field names of the new schema, or of the old one for what is gone.
    pub path: String,
    /// In words.
    pub what: String,
    /// The strongest of NONE, BACKWARD, FORWARD and FULL that this change by itself meets.
    pub meets: Level,
    /// Where it was.
    pub old: Option<Place>,
    /// Where it is.
    pub new: Option<Place>,
}

/// What changed, in the order of the new schema.
#[must_use]
pub fn changes(old: &Schema, new: &Schema) -> Vec<Change> {
    let mut diff = Diff {
        old,
        new,
        new_reads_old: Gate::new(new, old, RecordNames::Compared),
        old_reads_new: Gate::new(old, new, RecordNames::Compared),
        seen: HashSet::new(),
        todo: vec![(old.root(), new.root(), String::new())],
        found: Vec::new(),
    };
    while let Some((old, new, path)) = diff.todo.pop() {
        if diff.found.len() >= FINDINGS_MAX {
            break;
        }
        if diff.seen.insert((old.node, new.node)) {
            let from = diff.todo.len();
            diff.compare(old, new, &path);
            // What was found first is looked at first.
            if let Some(added) = diff.todo.get_mut(from..) {
                added.reverse();
            }
        }
    }
    diff.found
}

/// What the specification does not define, as compact JSON text.
type Properties = [(String, String)];

fn level(is_backward: bool, is_forward: bool) -> Level {
    match (is_backward, is_forward) {
        (true, true) => Level::Full,
        (true, false) => Level::Backward,
        (false, true) => Level::Forward,
        (false, false) => Level::None,
    }
}

struct Diff<'a> {
    old: &'a Schema,
    new: &'a Schema,
    new_reads_old: Gate<'a>,
    old_reads_new: Gate<'a>,
    seen: HashSet<(NodeId, NodeId)>,
    todo: Vec<(TypeRef, TypeRef, String)>,
    found: Vec<Change>,
}

impl<'a> Diff<'a> {
    fn compare(&mut self, old: TypeRef, new: TypeRef, path: &str) {
        let (before, after) = (&self.old.node(old.node).kind, &self.new.node(new.node).kind);
        if std::mem::discriminant(before) != std::mem::discriminant(after) {
            let meets = self.mutual(old, new);
            let what = format!(
                "type changed from {} to {}",
                described(self.old, before),
                described(self.new, after)
            );
            return self.add(path, what, meets, Some(old.place), Some(new.place));
        }
        self.names(old, new, path);
        self.logical(old, new, path);
        match (before, after) {
            (Kind::Record(before), Kind::Record(after)) => {
                self.fields(old, new, before, after, path)
            }
            (Kind::Enum(before), Kind::Enum(after)) => self.symbols(before, after, path),
            (Kind::Fixed(before), Kind::Fixed(after)) if before.size != after.size => {
                let what = format!("size changed from {} to {}", before.size, after.size);
                let places = (Some(before.size_place), Some(after.size_place));
                self.add(path, what, Level::None, places.0, places.1);
            }
            (Kind::Array(before), Kind::Array(after)) => {
                self.todo.push((*before, *after, format!("{path}[]")));
            }
            (Kind::Map(before), Kind::Map(after)) => {
                self.todo.push((*before, *after, format!("{path}{{}}")));
            }
            (Kind::Union(before), Kind::Union(after)) => self.branches(before, after, path),
            _ => {}
        }
    }

    /// Who still reads whom for one type.
    fn mutual(&mut self, old: TypeRef, new: TypeRef) -> Level {
        level(self.new_reads_old.fits(new, old), self.old_reads_new.fits(old, new))
    }

    fn names(&mut self, old: TypeRef, new: TypeRef, path: &str) {
        let (before, after) = (&self.old.node(old.node).kind, &self.new.node(new.node).kind);
        let (Some(before), Some(after)) = (Named::of(before), Named::of(after)) else { return };
        if before.name != after.name {
            let meets = level(after.reads(before.name), before.reads(after.name));
            let what = format!("renamed from {} to {}", before.name.full(), after.name.full());
            self.add(path, what, meets, Some(old.place), Some(new.place));
        }
        let listed = |names: &[Name]| -> Vec<String> {
            names.iter().map(|name| name.full().to_owned()).collect()
        };
        let (a, b) = (listed(before.aliases), listed(after.aliases));
        self.listed("alias", path, (&a, &b), (old.place, new.place));
    }

    fn listed(
        &mut self,
        what: &str,
        path: &str,
        (old, new): (&[String], &[String]),
        places: (PlaceId, PlaceId),
    ) {
        for gone in old.iter().filter(|name| !new.contains(name)) {
            let text = format!("{what} {gone} removed");
            self.add(path, text, Level::Full, Some(places.0), Some(places.1));
        }
        for added in new.iter().filter(|name| !old.contains(name)) {
            let text = format!("{what} {added} added");
            self.add(path, text, Level::Full, Some(places.0), Some(places.1));
        }
    }

    /// Logical types and other properties, which the gate does not look at.
    fn logical(&mut self, old: TypeRef, new: TypeRef, path: &str) {
        let (before, after) = (self.old.node(old.node), self.new.node(new.node));
        self.properties((&before.properties, &after.properties), path, (old.place, new.place));
    }

    fn properties(
        &mut self,
        (old, new): (&Properties, &Properties),
        path: &str,
        places: (PlaceId, PlaceId),
    ) {
        let find = |of: &Properties, key: &str| {
            of.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
        };
        for (key, before) in old {
            let what = match find(new, key) {
                Some(after) if after == *before => continue,
                Some(after) => format!("{key} changed from {before} to {after}"),
                None => format!("{key} {before} removed"),
            };
            self.add(path, what, Level::Full, Some(places.0), Some(places.1));
        }
        for (key, after) in new {
            if find(old, key).is_none() {
                let what = format!("{key} {after} added");
                self.add(path, what, Level::Full, Some(places.0), Some(places.1));
            }
        }
    }

    fn fields(
        &mut self,
        old: TypeRef,
        new: TypeRef,
        before: &'a Record,
        after: &'a Record,
        path: &str,
    ) {
        let inside = |name: &str| match path {
            "" => name.to_owned(),
            _ => format!("{path}.{name}"),
        };
        let by_name: HashMap<&str, &Field> =
            before.fields.iter().map(|field| (field.name.as_str(), field)).collect();
        let mut matched: HashSet<&str> = HashSet::new();
        for field in &after.fields {
            let names = std::iter::once(&field.name).chain(&field.aliases);
            let same = names.filter_map(|name| by_name.get(name.as_str()).copied()).next();
            let path = inside(&field.name);
            let Some(same) = same else {
                let meets = level(field.default.is_some(), true);
                let default = if field.default.is_some() { "with" } else { "without" };
                let kind = described(self.new, &self.new.node(field.schema.node).kind);
                let what = format!("field added, {kind}, {default} default");
                self.add(
                    &path,
                    what,
                    meets,
                    Some(self.old.node(old.node).place),
                    Some(field.place),
                );
                continue;
            };
            matched.insert(same.name.as_str());
            self.field(same, field, &path);
            self.todo.push((same.schema, field.schema, path));
        }
        for field in before.fields.iter().filter(|one| !matched.contains(one.name.as_str())) {
            let meets = level(true, field.default.is_some());
            let default = if field.default.is_some() { "had a" } else { "had no" };
            let what = format!("field removed, it {default} default");
            let place = self.new.node(new.node).place;
            self.add(&inside(&field.name), what, meets, Some(field.place), Some(place));
        }
        if before.doc != after.doc {
            let places = (self.old.node(old.node).place, self.new.node(new.node).place);
            self.add(path, "doc changed".to_owned(), Level::Full, Some(places.0), Some(places.1));
        }
    }

    fn field(&mut self, old: &Field, new: &Field, path: &str) {
        let places = (old.place, new.place);
        let mut add = |what: String, meets| {
            self.add(path, what, meets, Some(places.0), Some(places.1));
        };
        if old.name != new.name {
            let meets = level(true, old.aliases.contains(&new.name) || old.default.is_some());
            add(format!("renamed from {} by alias", old.name), meets);
        }
        match (&old.default, &new.default) {
            (None, Some(default)) => add(format!("default {default} added"), Level::Full),
            (Some(default), None) => add(format!("default {default} removed"), Level::Full),
            (Some(before), Some(after)) if before != after => {
                add(format!("default changed from {before} to {after}"), Level::Full);
            }
            _ => {}
        }
        if old.doc != new.doc {
            add("doc changed".to_owned(), Level::Full);
        }
        self.listed("alias", path, (&old.aliases, &new.aliases), places);
        self.properties((&old.properties, &new.properties), path, places);
    }

    fn symbols(&mut self, old: &Enum, new: &Enum, path: &str) {
        let places = (old.symbols_place, new.symbols_place);
        let (gone, added) = (unknown_symbols(new, old), unknown_symbols(old, new));
        let mut add = |what: String, meets| {
            self.add(path, what, meets, Some(places.0), Some(places.1));
        };
        if !gone.is_empty() {
            let meets = level(new.default.is_some(), true);
            add(format!("symbols {} removed", gone.join(", ")), meets);
        }
        if !added.is_empty() {
            let meets = level(true, old.default.is_some());
            add(format!("symbols {} added", added.join(", ")), meets);
        }
        if old.default != new.default {
            let shown = |default: &Option<String>| default.clone().unwrap_or_else(|| "none".into());
            let what = format!(
                "enum default changed from {} to {}",
                shown(&old.default),
                shown(&new.default)
            );
            add(what, Level::Full);
        }
        if gone.is_empty() && added.is_empty() && old.symbols != new.symbols {
            add("symbols in another order".to_owned(), Level::Full);
        }
    }

    fn branches(&mut self, old: &'a [TypeRef], new: &'a [TypeRef], path: &str) {
        let name = |schema: &'a Schema, of: &TypeRef| schema.node(of.node).kind.branch_name();
        for branch in new {
            let new_name = name(self.new, branch);
            match old.iter().find(|one| name(self.old, one) == new_name) {
                Some(same) => self.todo.push((*same, *branch, path.to_owned())),
                None => {
                    let is_forward = old.iter().any(|one| self.old_reads_new.fits(*one, *branch));
                    let what = format!("branch {new_name} added to the union");
                    self.add(path, what, level(true, is_forward), None, Some(branch.place));
                }
            }
        }
        for branch in old {
            let old_name = name(self.old, branch);
            if !new.iter().any(|one| name(self.new, one) == old_name) {
                let is_backward = new.iter().any(|one| self.new_reads_old.fits(*one, *branch));
                let what = format!("branch {old_name} removed from the union");
                self.add(path, what, level(is_backward, true), Some(branch.place), None);
            }
        }
    }

    fn add(
        &mut self,
        path: &str,
        what: String,
        meets: Level,
        old: Option<PlaceId>,
        new: Option<PlaceId>,
    ) {
        let old = old.map(|place| self.old.place(place).clone());
        let new = new.map(|place| self.new.place(place).clone());
        self.found.push(Change { path: path.to_owned(), what, meets, old, new });
    }
}
