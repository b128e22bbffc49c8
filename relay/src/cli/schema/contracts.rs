//! Consumer contracts: what a consumer reads, with which schema, and which fields it really uses.
//!
//! A contract is a small file in the consumer's repository, `walpost-consumer.toml`; a copy of each
//! lives in one folder in git, where producers find it.
//!
//! ```toml
//! name = "billing"
//! version = "1.4.2"
//!
//! [[reads]]
//! subject = "events.order-shop.OrderPlaced"    # or type = "shop.OrderPlaced", in any topic
//! schema = "OrderPlaced.avsc"                  # beside this file
//! fields = ["id", "lines[].qty"]               # left out: all of them
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::files::{self, Set};
use super::judged::{Source, Unjudged};

/// Folders this deep are looked into.
const DEPTH_MAX: usize = 8;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    version: Option<String>,
    #[serde(default)]
    reads: Vec<WrittenRead>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRead {
    subject: Option<String>,
    r#type: Option<String>,
    schema: PathBuf,
    #[serde(default)]
    fields: Vec<String>,
}

/// A consumer.
#[derive(Debug)]
pub(super) struct Contract {
    /// The file it was read from.
    pub(super) file: String,
    pub(super) name: String,
    /// The consumer's own version.
    pub(super) version: Option<String>,
    pub(super) reads: Vec<Read>,
}

/// What a consumer reads.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) subject: Option<String>,
    pub(super) type_name: String,
    pub(super) schema: Arc<Source>,
    /// Empty: all of them.
    pub(super) fields: Vec<String>,
}

impl Contract {
    /// How answers name it.
    pub(super) fn shown(&self) -> String {
        match &self.version {
            Some(version) => format!("consumer {} {version}", self.name),
            None => format!("consumer {} (version unknown)", self.name),
        }
    }
}

/// Reads a contract with its schemas.
pub(super) fn load(path: &Path) -> Result<Contract, Unjudged> {
    let file = path.display().to_string();
    let text = files::read(path)?;
    let written: Written = toml::from_str(&text).map_err(|error| {
        let place = error.span().map_or((1, 1), |span| line_and_column(&text, span.start));
        Unjudged::unusable(error.message().to_owned()).at(file.clone(), place.0, place.1)
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = crate::schema_files::list(folder);
    let texts = beside.iter().filter_map(|path| {
        let text = files::read(path).ok()?;
        Some((path.display().to_string(), text))
    });
    let mut set = Set::new(texts);
    let mut reads = Vec::new();
    for read in written.reads {
        let path = folder.join(&read.schema);
        let name = path.display().to_string();
        // Files elsewhere are read by themselves.
        let schema = if set.contains(&name) { set.get(&name)? } else { files::load(&path, &[])? };
        let own = schema.schema.name().map(|name| name.full().to_owned());
        let type_name = read.r#type.or(own).unwrap_or_default();
        if read.subject.is_none() && type_name.is_empty() {
            let reason = format!("{name} has no name of its own: say subject or type");
            return Err(Unjudged::unusable(reason).of_file(file));
        }
        reads.push(Read { subject: read.subject, type_name, schema, fields: read.fields });
    }
    if reads.is_empty() {
        let one = Unjudged::unusable("has no [[reads]]").of_file(file);
        return Err(one.with_help("list each subject with the schema it is read with"));
    }
    Ok(Contract { file, name: written.name, version: written.version, reads })
}

fn line_and_column(text: &str, start: usize) -> (u32, u32) {
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// All contracts under a folder, in the order of their paths.
pub(super) fn under(folder: &Path) -> Result<Vec<PathBuf>, Unjudged> {
    let mut paths = Vec::new();
    collect(folder, DEPTH_MAX, &mut paths);
    paths.sort();
    if paths.is_empty() {
        let one = Unjudged::unusable("no contracts (*.toml) in it");
        let help = "name the folder of consumer contracts with --contracts";
        return Err(one.of_file(folder.display().to_string()).with_help(help));
    }
    Ok(paths)
}

fn collect(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, paths);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
}
