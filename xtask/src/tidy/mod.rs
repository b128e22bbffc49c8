//! What no compiler looks at. In: the files of the checkout. Out: findings, each with file, line,
//! rule and reason.
//!
//! A rule is data with a reason; its test shows a sample it fires on and one it leaves alone. Where
//! a rule is wrong for one line, that line or the one above says so: `// tidy: allow RULE: REASON`.

mod arrows;
mod documents;
mod evidence;
mod faults;
mod functions;
mod rooms;
mod sizes;
mod source;
mod supply;
mod words;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::machine::{self, say};
use crate::process;

use source::Source;

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the root of the checkout.
    pub file: PathBuf,
    /// Counted from 1; 0 when the whole file is meant.
    pub line: usize,
    pub rule: &'static str,
    pub text: String,
}

impl Finding {
    fn new(file: &Path, line: usize, rule: &'static str, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, rule, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file.display())?;
        if self.line > 0 {
            write!(out, ":{}", self.line)?;
        }
        write!(out, ": {}: {}", self.rule, self.text)
    }
}

/// What was found, by weight.
#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// Worth a look, but the build does not fail for them.
    pub warnings: Vec<Finding>,
}

/// Prints the report; fails if there are findings.
pub fn report(root: &Path) -> Result<ExitCode> {
    let mut report = look(root)?;
    report.findings.sort();
    report.warnings.sort();
    let mut out = std::io::stdout().lock();
    for warning in &report.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    let (count, warnings) = (report.findings.len(), report.warnings.len());
    say(format!("tidy: {count} findings, {warnings} warnings"));
    Ok(if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks at everything.
pub fn look(root: &Path) -> Result<Report> {
    let tree = Tree::read(root)?;
    let mut report = Report::default();
    let rooms = rooms::Rooms::load()?;
    for source in &tree.sources {
        sizes::look(source, &mut report);
        words::look(source, &tree, &mut report.findings);
        rooms.look(source, &mut report.findings);
    }
    words::hosts(&tree, &mut report.findings);
    documents::look(&tree, &mut report.findings);
    evidence::look(&tree, &mut report.findings);
    faults::look(&tree, &mut report.findings);
    let metadata = supply::metadata(root)?;
    arrows::look(&metadata, &tree, &mut report.findings);
    supply::look(&metadata, &tree, &mut report.findings)?;
    compose(root, &mut report.findings);
    Ok(report)
}

/// The text files of the checkout that git knows or would take.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    texts: Vec<(PathBuf, String)>,
    sources: Vec<Source>,
}

impl Tree {
    fn read(root: &Path) -> Result<Self> {
        let mut command = Command::new("git");
        command
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root);
        let list = process::output(&mut command).context("tidy asks git for the list of files")?;
        let paths = list.split('\0').filter(|path| !path.is_empty());
        // A file may be deleted and not yet committed; one that is not UTF-8 is not text.
        let texts = paths.filter_map(|path| {
            let text = std::fs::read_to_string(root.join(path)).ok()?;
            Some((PathBuf::from(path), text))
        });
        Ok(Self::of(texts.collect()))
    }

    fn of(texts: Vec<(PathBuf, String)>) -> Self {
        let is_rust = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
        let rust = texts.iter().filter(|(path, _)| is_rust(path));
        let sources = rust.map(|(path, text)| Source::read(path, text)).collect();
        Self { texts, sources }
    }

    fn text(&self, path: &str) -> Option<&str> {
        let found = self.texts.iter().find(|(file, _)| file == Path::new(path));
        found.map(|(_, text)| text.as_str())
    }

    fn has(&self, path: &Path) -> bool {
        self.texts.iter().any(|(file, _)| file == path || file.starts_with(path))
    }
}

/// The compose file is for users with a container engine; its check needs none.
fn compose(root: &Path, findings: &mut Vec<Finding>) {
    let file = Path::new("docker-compose.yml");
    if machine::program("docker-compose").is_none() || !root.join(file).exists() {
        return;
    }
    let mut command = Command::new("docker-compose");
    command.args(["-f", "docker-compose.yml", "config", "-q"]).current_dir(root);
    if let Err(error) = process::output(&mut command) {
        findings.push(Finding::new(file, 0, "compose", format!("{error:#}")));
    }
}

#[cfg(test)]
pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
    let texts = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned()));
    Tree::of(texts.collect())
}
