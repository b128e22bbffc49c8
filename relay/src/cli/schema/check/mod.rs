//! `walpost schema check`: who could not read whom, before it is merged.
//!
//! ```text
//!   --reader A --writer B        pair.rs       one pair
//!   --history V1 .. NEW          pair.rs       a candidate and its history, at a level
//!   --batch                      batch.rs      pairs as JSON lines
//!   --against git:REF            directory.rs  every schema file, and git.rs
//!   nothing of these             directory.rs  every schema file, and the registry
//!   --replay SOURCE              replay.rs     rows of an outbox through all of it
//! ```

mod batch;
mod directory;
pub(super) mod git;
mod pair;
mod replay;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use walpost_schema::compat::{Level, Severity};

use super::super::{Answer, ConfigSource, Form, in_runtime};
use super::forms;
pub use batch::batch_answer;
pub(super) use directory::{configured_dir, registered, since, working_files};
pub(super) use pair::judge;

const TITLE: &str = "walpost schema check";

const EXAMPLES: &str = "\
Examples:
  walpost schema check --reader new.avsc --writer old.avsc
  walpost schema check --level FULL_TRANSITIVE --history v1.avsc --history v2.avsc new.avsc
  walpost schema check --against git:origin/main      every schema under [schemas].dir
  walpost schema check --output github                against the registry, as annotations

Exit codes: 0 fine, 1 gate or decode findings (others by --fail-on), 2 usage or a schema that cannot
be read, 3 could not tell. What could not be told is never called compatible.";

/// Checks whether consumers and producers still understand each other after a change.
///
/// Without --reader, --history or --batch every schema under [schemas].dir is checked, against the
/// registry or --against git:REF. Findings: gate (a registry refuses), decode (a reader fails all
/// the same), meaning (read as another value), hygiene (with --lint).
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Arguments {
    /// The candidate, with --history.
    #[arg(value_name = "NEW", requires = "history", conflicts_with = "reader")]
    candidate: Option<PathBuf>,
    /// The schema that data is read with.
    #[arg(long, value_name = "FILE", requires = "writer")]
    reader: Option<PathBuf>,
    /// The schema that data was written with.
    #[arg(long, value_name = "FILE", requires = "reader")]
    writer: Option<PathBuf>,
    /// An earlier version, oldest first; again for each.
    #[arg(long, value_name = "FILE", requires = "candidate")]
    history: Vec<PathBuf>,
    /// NONE, BACKWARD, FORWARD, FULL or one of the last three with _TRANSITIVE. With a registry its
    /// own level is used unless this is given.
    #[arg(long, value_parser = parse_level)]
    level: Option<Level>,
    /// A schema file that the others refer to; again for each, referred ones first.
    #[arg(long, value_name = "FILE")]
    reference: Vec<PathBuf>,
    /// Read lines `{"id", "reader", "writer"}` from stdin and answer one JSON line each.
    #[arg(long, conflicts_with_all = ["reader", "history", "against"])]
    batch: bool,
    /// git:REF: compare the schema files with those of a commit, branch or tag, without network.
    #[arg(long, value_name = "git:REF", conflicts_with_all = ["reader", "history"])]
    against: Option<String>,
    /// The folder of schema files, instead of [schemas].dir.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["reader", "history", "batch"])]
    dir: Option<PathBuf>,
    /// Run recent rows of this source's outbox through the schema files and every known reader.
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["reader", "history", "batch"])]
    replay: Option<String>,
    /// How many rows to replay, newest first.
    #[arg(long, value_name = "ROWS", default_value_t = 1000, requires = "replay")]
    last: u32,
    /// The folder of consumer contracts, for --replay.
    #[arg(long, value_name = "PATH", default_value = "contracts", requires = "replay")]
    contracts: PathBuf,
    /// Only these topics' subjects, for schemas that no registry knows yet; again for each.
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Findings of this severity and graver make exit code 1.
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
    /// Report hygiene too: docs, defaults and names of what is new.
    #[arg(long)]
    lint: bool,
}

/// A severity on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(super) enum FailOn {
    Gate,
    #[default]
    Decode,
    Meaning,
    Hygiene,
}

impl FailOn {
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::Gate => Severity::Gate,
            Self::Decode => Severity::Decode,
            Self::Meaning => Severity::Meaning,
            Self::Hygiene => Severity::Hygiene,
        }
    }
}

fn parse_level(word: &str) -> Result<Level, String> {
    word.parse().map_err(|error: walpost_schema::compat::UnknownLevel| error.to_string())
}

pub(super) fn run(arguments: &Arguments, config: &ConfigSource, form: Form) -> Answer {
    if arguments.batch {
        return batch::run();
    }
    if let Some(source) = &arguments.replay {
        let asked = replay::Asked {
            source,
            last: arguments.last,
            dir: arguments.dir.as_deref(),
            contracts: &arguments.contracts,
            against: arguments.against.as_deref(),
        };
        return replay::run(&asked, config, form);
    }
    let is_linted = arguments.lint || arguments.fail_on == FailOn::Hygiene;
    let outcome = if let (Some(reader), Some(writer)) = (&arguments.reader, &arguments.writer) {
        pair::pair(reader, writer, &arguments.reference, is_linted)
    } else if let Some(candidate) = &arguments.candidate {
        let level = arguments.level.unwrap_or_default();
        pair::history(candidate, &arguments.history, level, &arguments.reference, is_linted)
    } else {
        let asked = directory::Asked {
            dir: arguments.dir.as_deref(),
            against: arguments.against.as_deref(),
            level: arguments.level,
            topics: &arguments.topic,
            is_linted,
        };
        directory::check(&asked, config)?
    };
    forms::show(TITLE, &outcome, form)?;
    Ok(outcome.exit(arguments.fail_on.severity()))
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, super::super::Failure> {
    let mut answer = None;
    in_runtime(async {
        answer = Some(future.await);
        Ok(super::super::Exit::Fine)
    })?;
    answer.ok_or_else(|| super::super::Failure::could_not_tell(anyhow::anyhow!("no answer")))
}
