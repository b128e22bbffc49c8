//! One pair, or a candidate and its history, from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use walpost_schema::compat::{self, Direction, Level, Report, Side, against, lint};

use crate::cli::schema::files;
use crate::cli::schema::judged::{Judged, Outcome, Source, Unjudged};

/// Reads files, and takes note of those that cannot be read.
struct Loader {
    references: Vec<Arc<Source>>,
    unjudged: Vec<Unjudged>,
}

impl Loader {
    fn new(references: &[PathBuf]) -> Self {
        let mut loader = Self { references: Vec::new(), unjudged: Vec::new() };
        for path in references {
            if let Some(source) = loader.load(path) {
                loader.references.push(source);
            }
        }
        loader
    }

    fn load(&mut self, path: &Path) -> Option<Arc<Source>> {
        match files::load(path, &self.references) {
            Ok(source) => Some(source),
            Err(unjudged) => {
                self.unjudged.push(unjudged);
                None
            }
        }
    }
}

pub(super) fn pair(
    reader: &Path,
    writer: &Path,
    references: &[PathBuf],
    is_linted: bool,
) -> Outcome {
    let mut loader = Loader::new(references);
    let sides = (loader.load(reader), loader.load(writer));
    let (Some(reader), Some(writer), []) = (sides.0, sides.1, &*loader.unjudged) else {
        return Outcome { judged: Vec::new(), unjudged: loader.unjudged };
    };
    let mut report = compat::check(&reader.schema, &writer.schema);
    if is_linted {
        add_lint(&mut report, &reader, Some(&writer));
    }
    let victim =
        format!("whoever reads with {} what was written with {}", reader.name, writer.name);
    let judged = Judged::of_pair(reader, writer, victim, report);
    Outcome { judged: vec![judged], unjudged: Vec::new() }
}

pub(super) fn history(
    candidate: &Path,
    history: &[PathBuf],
    level: Level,
    references: &[PathBuf],
    is_linted: bool,
) -> Outcome {
    let mut loader = Loader::new(references);
    let versions: Vec<Option<Arc<Source>>> = history.iter().map(|path| loader.load(path)).collect();
    let candidate = loader.load(candidate);
    let (Some(candidate), Some(versions), []) =
        (candidate, versions.into_iter().collect::<Option<Vec<_>>>(), &*loader.unjudged)
    else {
        return Outcome { judged: Vec::new(), unjudged: loader.unjudged };
    };
    let judged = judge(None, level, &versions, &candidate, is_linted);
    Outcome { judged, unjudged: Vec::new() }
}

/// Checks a candidate against all versions that a level speaks of, oldest version first in.
pub(in crate::cli::schema) fn judge(
    subject: Option<&str>,
    level: Level,
    versions: &[Arc<Source>],
    candidate: &Arc<Source>,
    is_linted: bool,
) -> Vec<Judged> {
    let mut judged = Vec::new();
    for pair in against(level, versions.len()) {
        let Some(old) = versions.get(pair.version) else { continue };
        let (reader, writer, side) = match pair.direction {
            Direction::NewReadsOld => (candidate, old, Side::Reader),
            Direction::OldReadsNew => (old, candidate, Side::Writer),
        };
        let victim = match pair.direction {
            Direction::NewReadsOld => {
                format!("consumers with {} on data written with {}", candidate.name, old.name)
            }
            Direction::OldReadsNew => {
                format!("consumers that still read with {}, on new data", old.name)
            }
        };
        judged.push(Judged {
            subject: subject.map(str::to_owned),
            level: Some(level),
            reader: Arc::clone(reader),
            writer: Arc::clone(writer),
            candidate: side,
            victim,
            report: compat::check(&reader.schema, &writer.schema),
        });
    }
    if is_linted && let Some(first) = judged.first_mut() {
        add_lint(&mut first.report, candidate, versions.last());
    }
    judged
}

/// A schema that nothing came before: hygiene only.
pub(super) fn alone(subject: Option<&str>, level: Level, candidate: &Arc<Source>) -> Vec<Judged> {
    let mut report = compat::check(&candidate.schema, &candidate.schema);
    add_lint(&mut report, candidate, None);
    vec![Judged {
        subject: subject.map(str::to_owned),
        level: Some(level),
        reader: Arc::clone(candidate),
        writer: Arc::clone(candidate),
        candidate: Side::Reader,
        victim: "whoever changes it next".to_owned(),
        report,
    }]
}

/// A schema that is gone: nobody writes it any more, and what was written is still there.
pub(super) fn removed(source: Arc<Source>) -> Judged {
    let mut report = compat::check(&source.schema, &source.schema);
    report.findings.push(compat::removed(&source.schema));
    Judged {
        subject: source.schema.name().map(|name| name.full().to_owned()),
        level: None,
        reader: Arc::clone(&source),
        writer: source,
        candidate: Side::Writer,
        victim: "whoever still reads it: its consumers, and whoever reads what topics keep"
            .to_owned(),
        report,
    }
}

/// Hygiene of the candidate goes with the first of its checks.
fn add_lint(report: &mut Report, candidate: &Source, previous: Option<&Arc<Source>>) {
    report.findings.extend(lint(&candidate.schema, previous.map(|one| &one.schema)));
}
