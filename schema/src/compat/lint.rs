//! A candidate and the version before it in, what will make the next change hard out.
//!
//! Only what is new is looked at: a schema that lives is not scolded for its past.

use std::collections::HashSet;

use crate::avro::{Field, Kind, Place, PlaceId, Record, Schema};
use crate::compat::FINDINGS_MAX;
use crate::compat::finding::{Code, Finding, Help};

/// Hygiene findings of a candidate, compared with the version before it.
#[must_use]
pub fn lint(candidate: &Schema, previous: Option<&Schema>) -> Vec<Finding> {
    let mut lint = Lint { candidate, found: Vec::new() };
    for (_, node) in candidate.nodes() {
        // What comes from a reference is looked at in its own file.
        if candidate.place(node.place).document != 0 {
            continue;
        }
        let Some(name) = node.kind.name() else { continue };
        let before = previous.and_then(|previous| Some((previous, previous.named(name.full())?)));
        let before = before.map(|(previous, id)| &previous.node(id).kind);
        let doc = match &node.kind {
            Kind::Record(record) => &record.doc,
            Kind::Enum(one) => &one.doc,
            _ => continue,
        };
        if doc.is_none() && before.is_none() {
            lint.undocumented(node.place, name.full(), node.kind.type_name());
        }
        if let Kind::Record(record) = &node.kind {
            lint.record(record, before);
        }
    }
    lint.found
}

struct Lint<'a> {
    candidate: &'a Schema,
    found: Vec<Finding>,
}

impl Lint<'_> {
    fn record(&mut self, record: &Record, before: Option<&Kind>) {
        let old: Option<HashSet<&str>> = match before {
            Some(Kind::Record(old)) => {
                Some(old.fields.iter().map(|field| field.name.as_str()).collect())
            }
            _ => None,
        };
        let is_new = |field: &Field| {
            old.as_ref().is_none_or(|old| {
                !old.contains(field.name.as_str())
                    && !field.aliases.iter().any(|alias| old.contains(alias.as_str()))
            })
        };
        // A new name follows those that were there.
        let style = style_of(record.fields.iter().filter(|field| !is_new(field)))
            .or_else(|| style_of(record.fields.iter()));
        for field in record.fields.iter().filter(|field| is_new(field)) {
            let path = field.name.as_str();
            if field.doc.is_none() {
                self.undocumented(field.place, path, "field");
            }
            if field.default.is_none() && old.is_some() {
                let message = format!(
                    "new field {path} has no default: readers that know it cannot read older data"
                );
                let help = format!("add \"default\" to field {path}");
                self.add(Code::DefaultMissing, field.place, path, message, help);
            }
            if let (Some(style), Some(other)) = (style, Style::of(path))
                && style != other
            {
                let message = format!("{path} is {other}; the fields beside it are {style}");
                let help = format!("name it {}", style.applied(path));
                self.add(Code::NameStyle, field.place, path, message, help);
            }
        }
    }

    fn undocumented(&mut self, place: PlaceId, path: &str, what: &str) {
        let message = format!("{what} {path} has no \"doc\"");
        let help = format!("add \"doc\" to {what} {path}: what it means, and its unit");
        self.add(Code::DocMissing, place, path, message, help);
    }

    fn add(&mut self, code: Code, place: PlaceId, path: &str, message: String, help: String) {
        if self.found.len() >= FINDINGS_MAX {
            return;
        }
        let place: Place = self.candidate.place(place).clone();
        let pointer = place.pointer.to_string();
        self.found.push(Finding {
            code,
            location: if pointer.is_empty() { "/".to_owned() } else { pointer },
            message,
            path: path.to_owned(),
            reader: place.clone(),
            writer: place,
            because: Vec::new(),
            help: Help { reader: help.clone(), writer: help },
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Snake,
    Camel,
}

impl Style {
    /// None for a name of one word, which is of any style.
    fn of(name: &str) -> Option<Style> {
        let inner = name.trim_matches('_');
        if inner.contains('_') {
            return Some(Style::Snake);
        }
        inner.chars().skip(1).any(char::is_uppercase).then_some(Style::Camel)
    }

    fn applied(self, name: &str) -> String {
        let mut out = String::new();
        for c in name.chars() {
            match self {
                Style::Snake if c.is_uppercase() => {
                    out.push_str(if out.is_empty() { "" } else { "_" });
                    out.extend(c.to_lowercase());
                }
                Style::Camel if out.ends_with('_') => {
                    out.pop();
                    out.extend(c.to_uppercase());
                }
                _ => out.push(c),
            }
        }
        out
    }
}

impl std::fmt::Display for Style {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Style::Snake => "snake_case",
            Style::Camel => "camelCase",
        })
    }
}

/// The style of most fields, if there is one.
fn style_of<'a>(fields: impl Iterator<Item = &'a Field>) -> Option<Style> {
    let styles = fields.filter_map(|field| Style::of(&field.name));
    let (mut snake, mut camel) = (0usize, 0usize);
    for style in styles {
        match style {
            Style::Snake => snake += 1,
            Style::Camel => camel += 1,
        }
    }
    match snake.cmp(&camel) {
        std::cmp::Ordering::Greater => Some(Style::Snake),
        std::cmp::Ordering::Less => Some(Style::Camel),
        std::cmp::Ordering::Equal => None,
    }
}
