//! Arrows between the rooms of the relay. In: `rooms.toml` and a file of relay/src. Out: paths that
//! go against them.

use std::path::{Component, Path};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;
use super::source::{Source, find_word, is_word};

const TABLE: &str = include_str!("../../rooms.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rooms {
    arrow: Vec<Arrow>,
    outside: Vec<Arrow>,
    macros: Vec<Arrow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arrow {
    rooms: Vec<String>,
    may_not_use: Vec<String>,
    #[serde(default)]
    but: Vec<String>,
    reason: String,
}

impl Arrow {
    /// The forbidden prefix that this path falls under.
    fn forbids(&self, path: &str) -> Option<&str> {
        let is_below = |prefix: &&String| {
            path.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        if self.but.iter().any(|but| is_below(&but)) {
            return None;
        }
        self.may_not_use.iter().find(is_below).map(String::as_str)
    }
}

/// Where a file stands: its room and how many modules deep it is.
struct Place {
    room: String,
    depth: usize,
}

impl Place {
    fn of(path: &Path) -> Option<Self> {
        let inside = path.strip_prefix("relay/src").ok()?;
        let mut names: Vec<&str> = inside
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => name.to_str(),
                _ => None,
            })
            .collect();
        let file = names.pop()?;
        match file.strip_suffix(".rs")? {
            "mod" => {}
            "lib" | "main" if names.is_empty() => return None,
            name => names.push(name),
        }
        Some(Self { room: (*names.first()?).to_owned(), depth: names.len() })
    }
}

impl Rooms {
    pub(super) fn load() -> Result<Self> {
        toml::from_str(TABLE).context("xtask/rooms.toml does not parse")
    }

    pub(super) fn look(&self, source: &Source, findings: &mut Vec<Finding>) {
        let Some(place) = Place::of(&source.path) else {
            return;
        };
        let concerns = |arrow: &&Arrow| arrow.rooms.contains(&place.room);
        for arrow in self.arrow.iter().filter(concerns) {
            for (line, path) in inner_paths(source, place.depth) {
                find(source, line, &path, arrow, findings);
            }
        }
        for arrow in self.outside.iter().filter(concerns) {
            let mut roots: Vec<&str> =
                arrow.may_not_use.iter().filter_map(|path| path.split("::").next()).collect();
            roots.dedup();
            for root in roots {
                for (line, path) in paths(source, &[root]) {
                    find(source, line, &format!("{root}::{path}"), arrow, findings);
                }
            }
        }
        for arrow in self.macros.iter().filter(concerns) {
            for (line, text) in source.code.iter().enumerate() {
                let word = arrow.may_not_use.iter().find(|word| find_word(text, word).is_some());
                if let Some(word) = word {
                    find(source, line, word, arrow, findings);
                }
            }
        }
    }
}

fn find(source: &Source, line: usize, path: &str, arrow: &Arrow, findings: &mut Vec<Finding>) {
    if source.is_test(line) || source.allows(line, "room-arrow") || arrow.forbids(path).is_none() {
        return;
    }
    let text = format!("`{path}` goes against an arrow of xtask/rooms.toml: {}", arrow.reason);
    findings.push(Finding::new(&source.path, line + 1, "room-arrow", text));
}

/// Paths from the root of the crate, whether they begin with `crate` or climb up to it.
fn inner_paths(source: &Source, depth: usize) -> Vec<(usize, String)> {
    let mut all = paths(source, &["crate"]);
    all.extend(paths(source, &vec!["super"; depth]));
    all
}

/// Every path that begins with these segments, without them; a `use` tree gives one for each leaf.
fn paths(source: &Source, start: &[&str]) -> Vec<(usize, String)> {
    let text = source.code.join("\n");
    let letters: Vec<char> = text.chars().collect();
    let start = format!("{}::", start.join("::"));
    let pattern: Vec<char> = start.chars().collect();
    let mut line = 0;
    let mut found = Vec::new();
    for (at, letter) in letters.iter().enumerate() {
        if *letter == '\n' {
            line += 1;
        }
        let before = at.checked_sub(1).and_then(|at| letters.get(at)).copied();
        let rest = letters.get(at..).unwrap_or_default();
        // `super::super::` has the shorter climb inside it; only its beginning counts.
        if before.is_some_and(|letter| is_word(letter) || letter == ':')
            || !rest.starts_with(&pattern)
        {
            continue;
        }
        let mut reader = Reader { rest: rest.get(pattern.len()..).unwrap_or_default() };
        let mut leaves = Vec::new();
        reader.tree("", &mut leaves);
        found.extend(leaves.into_iter().filter(|path| !path.is_empty()).map(|path| (line, path)));
    }
    found
}

/// Reads `a::{b, c::*}` into `a::b` and `a::c`.
struct Reader<'a> {
    rest: &'a [char],
}

impl Reader<'_> {
    fn blanks(&mut self) {
        while let [letter, rest @ ..] = self.rest {
            if !letter.is_whitespace() {
                return;
            }
            self.rest = rest;
        }
    }

    fn eat(&mut self, letter: char) -> bool {
        self.blanks();
        match self.rest {
            [first, rest @ ..] if *first == letter => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn word(&mut self) -> String {
        self.blanks();
        let count = self.rest.iter().take_while(|letter| is_word(**letter)).count();
        let (word, rest) = self.rest.split_at(count);
        self.rest = rest;
        word.iter().collect()
    }

    fn tree(&mut self, prefix: &str, leaves: &mut Vec<String>) {
        if self.eat('{') {
            while !self.eat('}') {
                let before = self.rest.len();
                self.tree(prefix, leaves);
                self.eat(',');
                if self.rest.len() == before {
                    return;
                }
            }
            return;
        }
        let word = self.word();
        let path = match (prefix, word.as_str()) {
            (_, "" | "self") => prefix.to_owned(),
            ("", _) => word,
            _ => format!("{prefix}::{word}"),
        };
        let is_star = self.eat('*');
        if !is_star && matches!(self.rest, [':', ':', ..]) {
            self.eat(':');
            self.eat(':');
            return self.tree(&path, leaves);
        }
        leaves.push(path);
        self.rename();
    }

    /// Passes over `as name`.
    fn rename(&mut self) {
        let before = self.rest;
        if self.word() == "as" {
            self.word();
        } else {
            self.rest = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad_paths(path: &str, text: &str) -> usize {
        let mut findings = Vec::new();
        let rooms = Rooms::load().expect("rooms.toml parses");
        rooms.look(&Source::read(Path::new(path), text), &mut findings);
        findings.len()
    }

    #[test]
    fn a_use_tree_gives_its_leaves() {
        let text = "use crate::{a::{self, b as c}, d::*,\n e};\nf(crate::g::h::<u8>())";
        let source = Source::read(Path::new("relay/src/x.rs"), text);
        let found: Vec<String> =
            paths(&source, &["crate"]).into_iter().map(|(_, path)| path).collect();
        assert_eq!(found, ["a", "a::b", "d", "e", "g::h"]);
    }

    #[test]
    fn the_stream_sees_the_confirmed_position_and_nothing_else_of_confirm() {
        assert_eq!(bad_paths("relay/src/wal/stream.rs", "use crate::confirm::ConfirmedLsn;"), 0);
        assert_eq!(
            bad_paths("relay/src/wal/stream.rs", "use crate::confirm::{ConfirmedLsn, Ledger};"),
            1
        );
        assert_eq!(
            bad_paths("relay/src/wal/stream.rs", "use super::super::event::OutboxEvent;"),
            1
        );
        assert_eq!(bad_paths("relay/src/wal/mod.rs", "use super::event::OutboxEvent;"), 1);
        assert_eq!(bad_paths("relay/src/wal/stream.rs", "use super::event::Frame;"), 0);
        assert_eq!(bad_paths("relay/src/wal/mod.rs", "use crate::events::Frame;"), 0);
    }

    #[test]
    fn a_pure_room_knows_no_world() {
        for text in [
            "use tokio::sync::mpsc;",
            "use std::{fmt, net::IpAddr};",
            "let x = std::fs::read(p);",
            "tracing::info!(\"x\");",
            "use tracing::warn;",
            "warn!(\"x\");",
            "use crate::cli::Output;",
        ] {
            assert_ne!(bad_paths("relay/src/pipeline.rs", text), 0, "{text}");
            assert_eq!(bad_paths("relay/src/run.rs", text), 0, "{text}");
        }
        for text in ["use std::fmt;", "tracing::trace!(\"x\");", "use crate::confirm::Ledger;"] {
            assert_eq!(bad_paths("relay/src/pipeline.rs", text), 0, "{text}");
        }
    }

    #[test]
    fn the_verifier_and_the_pages_keep_apart() {
        assert_eq!(bad_paths("relay/src/verify/compare.rs", "use crate::encode::Record;"), 1);
        assert_eq!(bad_paths("relay/src/verify/compare.rs", "use crate::clock::Clock;"), 0);
        assert_eq!(bad_paths("relay/src/admin/status.rs", "use crate::wal::Slot;"), 1);
        assert_eq!(bad_paths("relay/src/ui.rs", "use crate::metrics::Metrics;"), 0);
    }

    #[test]
    fn tests_inside_a_room_may_use_all() {
        let text = "#[cfg(test)]\nmod tests { use tokio::task; }";
        assert_eq!(bad_paths("relay/src/pipeline.rs", text), 0);
    }
}
