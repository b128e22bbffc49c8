//! Every schema file of a folder, against a revision of git or against the registry.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use walpost_schema::compat::Level;
use walpost_schema::registry::{
    HttpRegistry, Proposal, Reference, Registered, Registry, RegistryError, ServerVerdict,
};

use super::git::{Revision, Version};
use super::{block_on, pair};
use crate::cli::schema::files::{self, Set};
use crate::cli::schema::judged::{Document, Judged, Outcome, Source, Unjudged};
use crate::cli::schema::subjects::{Naming, registry_fault};
use crate::cli::{ConfigSource, Exit, Failure};
use crate::schema_files;

/// What the command line says about a folder.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) dir: Option<&'a Path>,
    pub(super) against: Option<&'a str>,
    pub(super) level: Option<Level>,
    pub(super) topics: &'a [String],
    pub(super) is_linted: bool,
}

pub(super) fn check(asked: &Asked<'_>, config: &ConfigSource) -> Result<Outcome, Failure> {
    if let Some(against) = asked.against {
        let dir = match asked.dir {
            Some(dir) => dir.to_owned(),
            None => configured_dir(config)?,
        };
        return Ok(against_git(&dir, against, asked).unwrap_or_else(Outcome::of_one));
    }
    let settings = config.load_contract()?;
    let naming = Naming::of(&settings, asked.topics);
    let dir = asked.dir.map_or_else(|| settings.schemas.dir.clone(), Path::to_owned);
    let registry = super::super::subjects::registry(&settings)?;
    block_on(async {
        against_registry(&dir, &registry, &naming, asked).await.unwrap_or_else(Outcome::of_one)
    })
}

/// `[schemas].dir`, or `schemas` where there is no configuration: CI has often none.
pub(in crate::cli::schema) fn configured_dir(config: &ConfigSource) -> Result<PathBuf, Failure> {
    Ok(config.load_contract()?.schemas.dir)
}

/// The schema files of a folder as they are now. Files that cannot be read are told apart.
pub(in crate::cli::schema) fn working_files(dir: &Path) -> Result<(Set, Vec<Unjudged>), Unjudged> {
    if !dir.is_dir() {
        let help = "name the folder of schema files with --dir or [schemas].dir";
        return Err(Unjudged::unusable("no such folder")
            .of_file(dir.display().to_string())
            .with_help(help));
    }
    let (mut texts, mut unjudged) = (Vec::new(), Vec::new());
    for path in schema_files::list(dir) {
        match files::read(&path) {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(one) => unjudged.push(one),
        }
    }
    if texts.is_empty() && unjudged.is_empty() {
        let one = Unjudged::unusable("no .avsc files in it").of_file(dir.display().to_string());
        return Err(one.with_help("name the folder of schema files with --dir or [schemas].dir"));
    }
    Ok((Set::new(texts), unjudged))
}

impl Outcome {
    fn of_one(one: Unjudged) -> Self {
        Self { judged: Vec::new(), unjudged: vec![one] }
    }

    fn add(&mut self, result: Result<Vec<Judged>, Unjudged>) {
        match result {
            Ok(judged) => self.judged.extend(judged),
            Err(one) => self.unjudged.push(one),
        }
    }
}

/// What a file was called at the revision: by its path, by the full name of its type, by git.
struct Then<'a> {
    revision: &'a Revision,
    dir: &'a Path,
    files: Set,
    renames: HashMap<String, String>,
    now: HashSet<String>,
    /// Schema files that have a counterpart of today.
    kept: HashSet<String>,
    /// Trees of earlier commits, for those that are asked for.
    trees: HashMap<String, Set>,
}

impl Then<'_> {
    /// A file's path in the repository.
    fn path_of(&self, name: &str) -> String {
        let within = Path::new(name).strip_prefix(self.dir).unwrap_or(Path::new(name));
        self.revision.path_of(within)
    }

    fn before(&self, name: &str, full_name: Option<&str>) -> Option<String> {
        let path = self.path_of(name);
        if self.files.contains(&path) {
            return Some(path);
        }
        let is_gone = |file: &&str| !self.now.contains(*file);
        let moved = full_name.and_then(|full_name| self.files.file_of(full_name)).filter(is_gone);
        let moved = moved.map(str::to_owned);
        moved.or_else(|| self.renames.get(&path).filter(|old| self.files.contains(old)).cloned())
    }
}

impl<'a> Then<'a> {
    fn open(revision: &'a Revision, dir: &'a Path, now: &Set) -> Result<Self, Unjudged> {
        let files = Set::new(revision.files()?);
        let renames = revision.renames()?;
        let (now_files, kept, trees) = Default::default();
        let mut then = Self { revision, dir, files, renames, now: now_files, kept, trees };
        then.now = now.names().iter().map(|name| then.path_of(name)).collect();
        Ok(then)
    }

    /// A file as it was at an earlier commit, with the types it used as they were then.
    fn earlier(&mut self, version: &Version) -> Result<Arc<Source>, Unjudged> {
        let tree = self.revision.at(&version.commit);
        // Most files use no others, and a tree is read in one piece.
        if let Ok(source) = files::parse(&version.path, &version.text) {
            return Ok(shown_as(&source, &tree));
        }
        if !self.trees.contains_key(&version.commit) {
            self.trees.insert(version.commit.clone(), Set::new(tree.files()?));
        }
        let Some(files) = self.trees.get_mut(&version.commit) else {
            return Err(Unjudged::unknown("its tree is not there").of_file(version.path.clone()));
        };
        Ok(shown_as(&files.parse_as(&version.path, &version.text)?, &tree))
    }

    /// Files of the revision that are gone, and whose types no file of today defines.
    fn removed(&self) -> Vec<String> {
        let names = self.files.names().into_iter();
        names.filter(|path| !self.kept.contains(path) && !self.now.contains(path)).collect()
    }

    /// A file as it was.
    fn source(&mut self, path: &str) -> Result<Arc<Source>, Unjudged> {
        Ok(shown_as(&*self.files.get(path)?, self.revision))
    }
}

/// A schema file as it was, if it was there, and as it is.
type ThenAndNow = (Option<Arc<Source>>, Arc<Source>);

/// Each schema file as it was at a revision and as it is.
pub(in crate::cli::schema) fn since(
    dir: &Path,
    against: &str,
) -> Result<Vec<ThenAndNow>, Unjudged> {
    let (mut now, unjudged) = working_files(dir)?;
    if let Some(one) = unjudged.into_iter().next() {
        return Err(one);
    }
    let revision = Revision::open(against, dir)?;
    let mut then = Then::open(&revision, dir, &now)?;
    let mut pairs = Vec::new();
    for name in now.names() {
        let source = now.get(&name)?;
        let full_name = source.schema.name().map(|name| name.full().to_owned());
        let before = then.before(&name, full_name.as_deref());
        let before = before.map(|path| then.source(&path)).transpose()?;
        pairs.push((before, source));
    }
    Ok(pairs)
}

fn against_git(dir: &Path, against: &str, asked: &Asked<'_>) -> Result<Outcome, Unjudged> {
    let (mut now, unjudged) = working_files(dir)?;
    let mut outcome = Outcome { judged: Vec::new(), unjudged };
    let revision = Revision::open(against, dir)?;
    let mut then = Then::open(&revision, dir, &now)?;
    for name in now.names() {
        outcome.add(file_against_git(&name, &mut now, &mut then, asked));
    }
    for path in then.removed() {
        outcome.add(then.source(&path).map(|source| vec![pair::removed(source)]));
    }
    Ok(outcome)
}

fn file_against_git(
    name: &str,
    now: &mut Set,
    then: &mut Then<'_>,
    asked: &Asked<'_>,
) -> Result<Vec<Judged>, Unjudged> {
    let candidate = now.get(name)?;
    let level = asked.level.unwrap_or_default();
    let subject = candidate.schema.name().map(|name| name.full().to_owned());
    let Some(path) = then.before(name, subject.as_deref()) else {
        return Ok(new_file(&candidate, subject.as_deref(), level, asked));
    };
    then.kept.insert(path.clone());
    let mut versions = vec![then.source(&path)?];
    if level.is_transitive() {
        for version in then.revision.history(&path)?.into_iter().skip(1) {
            versions.push(then.earlier(&version)?);
        }
    }
    versions.reverse();
    Ok(pair::judge(subject.as_deref(), level, &versions, &candidate, asked.is_linted))
}

/// A new schema owes nobody anything; with hygiene asked for it is looked at by itself.
fn new_file(
    candidate: &Arc<Source>,
    subject: Option<&str>,
    level: Level,
    asked: &Asked<'_>,
) -> Vec<Judged> {
    if !asked.is_linted {
        return Vec::new();
    }
    pair::alone(subject, level, candidate)
}

/// A schema of a revision, its files called as people know them.
fn shown_as(source: &Source, revision: &Revision) -> Arc<Source> {
    let mut shown = source.clone();
    shown.name = revision.shown(&source.name);
    for document in &mut shown.documents {
        document.name = revision.shown(&document.name);
    }
    Arc::new(shown)
}

async fn against_registry(
    dir: &Path,
    registry: &HttpRegistry,
    naming: &Naming,
    asked: &Asked<'_>,
) -> Result<Outcome, Unjudged> {
    let (mut now, unjudged) = working_files(dir)?;
    let mut outcome = Outcome { judged: Vec::new(), unjudged };
    let known = registry.subjects().await.map_err(|error| registry_fault(&error))?;
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in now.names() {
        if let Ok(source) = now.get(&name)
            && let Some(full_name) = source.schema.name()
        {
            places.insert(name.clone(), naming.subjects(full_name.full(), &known));
        }
    }
    for name in now.names() {
        let candidate = match now.get(&name) {
            Ok(candidate) => candidate,
            Err(one) => {
                outcome.unjudged.push(one);
                continue;
            }
        };
        let subjects = places.get(&name).cloned().unwrap_or_default();
        if subjects.is_empty() && asked.is_linted {
            outcome.judged.extend(pair::alone(None, Level::None, &candidate));
        }
        for subject in subjects {
            let against = Against { registry, subject: &subject, candidate: &candidate, asked };
            match against.judge().await {
                Ok(judged) => outcome.judged.extend(judged),
                Err(one) => outcome.unjudged.push(one),
            }
            if asked.level.is_none() {
                let references = references(&now, &name, &places, registry).await;
                outcome.unjudged.extend(against.compare(&outcome, references).await);
            }
        }
    }
    Ok(outcome)
}

/// What a file refers to, as the registry knows it: the newest version of each.
async fn references(
    now: &Set,
    name: &str,
    places: &BTreeMap<String, Vec<String>>,
    registry: &HttpRegistry,
) -> Option<Vec<Reference>> {
    let mut references = Vec::new();
    for used in now.uses_of(name) {
        let subject = places.get(used)?.first()?;
        let latest = registry.latest(subject).await.ok()?;
        let full_name = latest.schema.name()?.full().to_owned();
        let version = latest.version;
        references.push(Reference { name: full_name, subject: subject.clone(), version });
    }
    Some(references)
}

/// A candidate and a subject of the registry.
struct Against<'a> {
    registry: &'a HttpRegistry,
    subject: &'a str,
    candidate: &'a Arc<Source>,
    asked: &'a Asked<'a>,
}

impl Against<'_> {
    async fn judge(&self) -> Result<Vec<Judged>, Unjudged> {
        let fault = |error: RegistryError| Unjudged {
            subject: Some(self.subject.to_owned()),
            ..registry_fault(&error)
        };
        let level = match self.asked.level {
            Some(level) => level,
            None => self.registry.level_in_force(self.subject).await.map_err(fault)?,
        };
        let mut versions = Vec::new();
        if level.is_transitive() {
            for number in self.registry.versions(self.subject).await.map_err(fault)? {
                let one = self.registry.version(self.subject, number).await.map_err(fault)?;
                versions.push(registered(&one));
            }
        } else if level != Level::None {
            match self.registry.latest(self.subject).await {
                Ok(latest) => versions.push(registered(&latest)),
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(fault(error)),
            }
        }
        let is_linted = self.asked.is_linted;
        Ok(pair::judge(Some(self.subject), level, &versions, self.candidate, is_linted))
    }

    /// The registry's own word. It may run another implementation, or older rules.
    async fn compare(
        &self,
        outcome: &Outcome,
        references: Option<Vec<Reference>>,
    ) -> Option<Unjudged> {
        let references = references?;
        let text = self.candidate.documents.first()?.text.clone();
        let of = Proposal { subject: self.subject, text: &text, references: &references };
        let verdict = match self.registry.would_take(of).await {
            Ok(verdict) => verdict,
            Err(error) => {
                let subject = Some(self.subject.to_owned());
                return Some(Unjudged { subject, ..registry_fault(&error) });
            }
        };
        let mut of_subject =
            outcome.judged.iter().filter(|one| one.subject.as_deref() == Some(self.subject));
        let ours = of_subject.all(|one| one.is_compatible() == Some(true));
        let ServerVerdict { is_compatible: theirs, messages } = verdict;
        if ours == theirs {
            return None;
        }
        let (their_word, our_word) = match theirs {
            true => ("takes", "Java Avro does not"),
            false => ("refuses", "Java Avro would take it"),
        };
        let said = messages.first().map(|text| format!(": {text}")).unwrap_or_default();
        let reason = format!(
            "verdicts differ on subject {}: the registry {their_word} the schema, {our_word}\
             {said}",
            self.subject
        );
        Some(Unjudged {
            subject: Some(self.subject.to_owned()),
            exit: Exit::Findings,
            ..Unjudged::unusable(reason).of_file(self.candidate.name.clone())
        })
    }
}

pub(in crate::cli::schema) fn registered(one: &Registered) -> Arc<Source> {
    let name = format!("{} version {}", one.subject, one.version);
    let document = Document::new(name.clone(), Arc::clone(&one.text));
    Arc::new(Source { name, schema: (*one.schema).clone(), documents: vec![document] })
}
