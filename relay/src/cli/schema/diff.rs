//! `walpost schema diff`: what changed, in words.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use walpost_schema::avro::Place;
use walpost_schema::compat::{Change, Level, Verdict, changes, gate};

use super::check::{configured_dir, since};
use super::files;
use super::judged::{Source, Unjudged};
use crate::cli::output::{print, printable, table};
use crate::cli::{Answer, ConfigSource, Exit, Failure, Output};

const EXAMPLES: &str = "\
Examples:
  walpost schema diff old.avsc new.avsc
  walpost schema diff --against git:origin/main       every schema under [schemas].dir

A change meets BACKWARD when the new schema reads old data in spite of it, FORWARD when the old
schema reads new data, FULL when both do.";

/// Says what changed between two schemas, with the level that each change still meets.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Arguments {
    /// The schema before.
    #[arg(requires = "new", required_unless_present = "against")]
    old: Option<PathBuf>,
    /// The schema after.
    new: Option<PathBuf>,
    /// git:REF: the schema files as they were in a commit, branch or tag.
    #[arg(long, value_name = "git:REF", conflicts_with = "old")]
    against: Option<String>,
    /// The folder of schema files, instead of [schemas].dir.
    #[arg(long, value_name = "PATH", requires = "against")]
    dir: Option<PathBuf>,
}

/// A schema before and after.
struct Pair {
    old: Option<Arc<Source>>,
    new: Arc<Source>,
}

pub(super) fn run(arguments: &Arguments, config: &ConfigSource, output: Output) -> Answer {
    let pairs = match (&arguments.old, &arguments.new) {
        (Some(old), Some(new)) => of_files(old, new),
        _ => {
            let dir = match &arguments.dir {
                Some(dir) => dir.clone(),
                None => configured_dir(config)?,
            };
            let against = arguments.against.as_deref().unwrap_or_default();
            since(&dir, against)
                .map(|pairs| pairs.into_iter().map(|(old, new)| Pair { old, new }).collect())
        }
    };
    let pairs = pairs.map_err(|one| {
        let help = one.help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default();
        Failure::of(one.exit, anyhow::anyhow!("{}{help}", one.text()))
    })?;
    match output {
        Output::Json => {
            let schemas: Vec<Value> = pairs.iter().filter_map(Pair::json).collect();
            print(&format!("{}\n", json!({"schemas": schemas})))?;
        }
        Output::Text => {
            let text: String = pairs.iter().map(Pair::text).collect();
            print(if text.is_empty() { "nothing changed\n" } else { &text })?;
        }
    }
    Ok(Exit::Fine)
}

fn of_files(old: &Path, new: &Path) -> Result<Vec<Pair>, Unjudged> {
    Ok(vec![Pair { old: Some(files::load(old, &[])?), new: files::load(new, &[])? }])
}

impl Pair {
    fn changes(&self) -> Vec<Change> {
        self.old.as_ref().map_or_else(Vec::new, |old| changes(&old.schema, &self.new.schema))
    }

    /// What the schemas meet as a whole. None if it could not be told.
    fn meets(&self) -> Option<Level> {
        let old = self.old.as_ref()?;
        let is = |verdict| match verdict {
            Verdict::Compatible => Some(true),
            Verdict::Incompatible => Some(false),
            Verdict::Undecided(_) => None,
        };
        let backward = is(gate(&self.new.schema, &old.schema).verdict)?;
        let forward = is(gate(&old.schema, &self.new.schema).verdict)?;
        Some(match (backward, forward) {
            (true, true) => Level::Full,
            (true, false) => Level::Backward,
            (false, true) => Level::Forward,
            (false, false) => Level::None,
        })
    }

    fn json(&self) -> Option<Value> {
        let place = |source: Option<&Arc<Source>>, place: Option<&Place>| {
            let spot = source.and_then(|source| source.spot(place?));
            spot.map(|spot| {
                json!({"file": spot.document.name, "line": spot.line, "column": spot.column})
            })
        };
        let Some(old) = &self.old else {
            return Some(json!({"new": self.new.name, "old": null, "changes": []}));
        };
        let found = self.changes();
        if found.is_empty() {
            return None;
        }
        let found: Vec<Value> = found
            .iter()
            .map(|change| {
                json!({
                    "path": change.path,
                    "what": change.what,
                    "meets": change.meets.as_str(),
                    "old": place(Some(old), change.old.as_ref()),
                    "new": place(Some(&self.new), change.new.as_ref()),
                })
            })
            .collect();
        let meets = self.meets();
        Some(json!({
            "old": old.name,
            "new": self.new.name,
            "meets": meets.map(Level::as_str),
            "upgrade": meets.map(Level::upgrade_first),
            "changes": found,
        }))
    }

    fn text(&self) -> String {
        let Some(old) = &self.old else {
            return format!("{}: new\n", self.new.name);
        };
        let found = self.changes();
        if found.is_empty() {
            return String::new();
        }
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|change| {
                let path = if change.path.is_empty() { "(schema)" } else { &change.path };
                let meets = change.meets.as_str().to_owned();
                vec![format!("  {meets}"), printable(path), printable(&change.what)]
            })
            .collect();
        let meets = match self.meets() {
            Some(level) => format!("meets {level}: upgrade {}", level.upgrade_first()),
            None => "could not tell".to_owned(),
        };
        format!("{} -> {}: {meets}\n{}", old.name, self.new.name, table(&rows))
    }
}
