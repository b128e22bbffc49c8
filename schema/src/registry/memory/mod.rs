//! A registry within the process, with a Confluent registry's ids, versions, deletions and codes.
//!
//! The same schema has the same id in every subject; registered again in a subject, it makes no new
//! version. Deletion is soft first, then permanent; soft-deleted versions are gone from `latest`,
//! lists and look-ups, but their ids stay readable. What is registered must be compatible by
//! [`crate::compat`] with what is there, at the subject's level.

mod judge;
mod settings;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::avro::{self, Properties, Schema};
use crate::compat::Level;
use crate::registry::error::{Asked, refused};
use crate::registry::{Answer, Reference, Registered, Registry, SchemaId};

/// A refusal as a registry gives it: HTTP status, error code, message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Confluent's code.
    pub code: u32,
    /// Confluent's text.
    pub message: String,
}

impl Refusal {
    fn new(status: u16, code: u32, message: String) -> Self {
        Refusal { status, code, message }
    }

    fn no_subject(subject: &str) -> Self {
        Refusal::new(404, 40_401, format!("Subject '{subject}' not found."))
    }

    fn no_version(version: u32) -> Self {
        Refusal::new(404, 40_402, format!("Version {version} not found."))
    }

    fn no_schema() -> Self {
        Refusal::new(404, 40_403, "Schema not found".to_owned())
    }
}

/// A registry that lives and ends with the process.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    schemas: BTreeMap<u32, Stored>,
    /// What makes two schemas the same, to its id.
    ids: HashMap<String, u32>,
    subjects: BTreeMap<String, Subject>,
    level: Level,
    mode: Mode,
}

/// Whether a subject takes new versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    #[default]
    ReadWrite,
    /// It refuses them.
    ReadOnly,
}

impl Mode {
    /// As registries spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::ReadWrite => "READWRITE",
            Mode::ReadOnly => "READONLY",
        }
    }
}

#[derive(Debug, Clone)]
struct Stored {
    text: Arc<str>,
    schema: Arc<Schema>,
    references: Vec<Reference>,
}

#[derive(Debug, Default)]
struct Subject {
    versions: Vec<Version>,
    /// Versions given so far: a permanently deleted one is not given again.
    last: u32,
    level: Option<Level>,
    mode: Option<Mode>,
}

#[derive(Debug, Clone, Copy)]
struct Version {
    number: u32,
    id: u32,
    deleted: bool,
}

impl Subject {
    fn live(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.versions.iter().filter(|version| !version.deleted)
    }
}

/// Whether soft-deleted subjects and versions are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// As if they were not there.
    Hidden,
    /// Among the others.
    Shown,
}

/// A version in the path of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionAsked {
    /// `latest` or `-1`.
    Latest,
    /// A number from 1.
    Number(u32),
}

/// Whether the order of properties that Avro does not define makes another schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalize {
    /// It does.
    #[default]
    No,
    /// It does not.
    Yes,
}

impl MemoryRegistry {
    /// An empty registry at level BACKWARD, Confluent's default.
    #[must_use]
    pub fn new() -> Self {
        MemoryRegistry::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that panics runs under the lock; each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a text, or finds it; its id.
    pub fn put(
        &self,
        subject: &str,
        text: &str,
        references: &[Reference],
        normalize: Normalize,
    ) -> Result<SchemaId, Refusal> {
        let mut state = self.state();
        let stored = state.parse(text, references)?;
        let identity = state.identity(&stored, normalize);
        let known = state.ids.get(&identity).copied();
        if let (Some(id), Some(entry)) = (known, state.subjects.get(subject))
            && entry.live().any(|version| version.id == id)
        {
            return Ok(SchemaId(id));
        }
        if state.mode(subject) == Mode::ReadOnly {
            let message = format!("Subject {subject} is in read-only mode");
            return Err(Refusal::new(422, 42_205, message));
        }
        let findings = state.incompatibilities(subject, &stored.schema)?;
        if !findings.is_empty() {
            let message = format!(
                "Schema being registered is incompatible with an earlier schema for subject \
                 \"{subject}\", details: [{}]",
                findings.join(", ")
            );
            return Err(Refusal::new(409, 40_901, message));
        }
        let next = state.schemas.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        let id = known.unwrap_or(next);
        state.ids.insert(identity, id);
        state.schemas.entry(id).or_insert(stored);
        let entry = state.subjects.entry(subject.to_owned()).or_default();
        entry.last += 1;
        entry.versions.push(Version { number: entry.last, id, deleted: false });
        Ok(SchemaId(id))
    }

    /// Findings against registering a text, without registering it. An unknown subject is
    /// compatible.
    pub fn check(
        &self,
        subject: &str,
        text: &str,
        references: &[Reference],
    ) -> Result<Vec<String>, Refusal> {
        let state = self.state();
        let stored = state.parse(text, references)?;
        state.incompatibilities(subject, &stored.schema)
    }

    /// Findings against one version, at the level's directions. An unknown subject is compatible
    /// with `latest`.
    pub fn check_version(
        &self,
        subject: &str,
        asked: VersionAsked,
        text: &str,
        references: &[Reference],
    ) -> Result<Vec<String>, Refusal> {
        let state = self.state();
        let stored = state.parse(text, references)?;
        let live: Vec<Version> = state
            .subjects
            .get(subject)
            .map(|entry| entry.live().copied().collect())
            .unwrap_or_default();
        let version = match asked {
            VersionAsked::Latest => live.last(),
            VersionAsked::Number(number) => {
                state.subject(subject)?;
                let found = live.iter().find(|version| version.number == number);
                Some(found.ok_or_else(|| Refusal::no_version(number))?)
            }
        };
        let level = state.level_of(subject);
        state.judge(
            level,
            &version.copied().map_or_else(Vec::new, |version| vec![version]),
            &stored.schema,
        )
    }

    /// One version with its references.
    pub fn get(
        &self,
        subject: &str,
        asked: VersionAsked,
    ) -> Result<(Registered, Vec<Reference>), Refusal> {
        let state = self.state();
        let entry = state.subject(subject)?;
        let version = match asked {
            VersionAsked::Latest => entry.live().next_back(),
            VersionAsked::Number(number) => entry.live().find(|version| version.number == number),
        };
        let absent = match asked {
            VersionAsked::Latest => Refusal::no_subject(subject),
            VersionAsked::Number(number) => Refusal::no_version(number),
        };
        let version = *version.ok_or(absent)?;
        state.registered(subject, version)
    }

    /// A schema by its id, with its references.
    pub fn get_by_id(&self, id: SchemaId) -> Result<(Registered, Vec<Reference>), Refusal> {
        let state = self.state();
        let place = state.places(id, Deleted::Shown).into_iter().next();
        let stored = state.schemas.get(&id.0).ok_or_else(Refusal::no_schema)?;
        let (subject, version) = place.unwrap_or_default();
        let registered = Registered {
            subject,
            version,
            id,
            text: Arc::clone(&stored.text),
            schema: Arc::clone(&stored.schema),
        };
        Ok((registered, stored.references.clone()))
    }

    /// Where an id is registered.
    pub fn places(&self, id: SchemaId) -> Result<Vec<(String, u32)>, Refusal> {
        let state = self.state();
        if !state.schemas.contains_key(&id.0) {
            return Err(Refusal::no_schema());
        }
        Ok(state.places(id, Deleted::Hidden))
    }

    /// Ids of the schemas that refer to a version.
    pub fn referenced_by(
        &self,
        subject: &str,
        asked: VersionAsked,
    ) -> Result<Vec<SchemaId>, Refusal> {
        let (registered, _) = self.get(subject, asked)?;
        let state = self.state();
        let refers = |stored: &Stored| {
            let mut references = stored.references.iter();
            references.any(|one| one.subject == subject && one.version == registered.version)
        };
        let ids = state.schemas.iter().filter(|(_, stored)| refers(stored));
        Ok(ids.map(|(id, _)| SchemaId(*id)).collect())
    }

    /// The version of a text in a subject.
    pub fn find(
        &self,
        subject: &str,
        text: &str,
        references: &[Reference],
    ) -> Result<(Registered, Vec<Reference>), Refusal> {
        let state = self.state();
        let entry = state.subject(subject)?;
        let stored = state.parse(text, references)?;
        let id = state.ids.get(&state.identity(&stored, Normalize::No));
        let version = entry.live().find(|version| Some(&version.id) == id);
        let version = *version.ok_or_else(Refusal::no_schema)?;
        state.registered(subject, version)
    }

    /// Names of all subjects.
    #[must_use]
    pub fn list(&self, deleted: Deleted) -> Vec<String> {
        let state = self.state();
        let shown = state.subjects.iter().filter(|(_, subject)| {
            subject.live().next().is_some()
                || deleted == Deleted::Shown && !subject.versions.is_empty()
        });
        shown.map(|(name, _)| name.clone()).collect()
    }

    /// Version numbers of a subject.
    pub fn list_versions(&self, subject: &str, deleted: Deleted) -> Result<Vec<u32>, Refusal> {
        let state = self.state();
        let entry = match (state.subject(subject), deleted) {
            (Err(_), Deleted::Shown) => state.subjects.get(subject),
            (entry, _) => Some(entry?),
        };
        let entry = entry.filter(|entry| !entry.versions.is_empty());
        let entry = entry.ok_or_else(|| Refusal::no_subject(subject))?;
        let shown = entry.versions.iter().filter(|one| deleted == Deleted::Shown || !one.deleted);
        Ok(shown.map(|version| version.number).collect())
    }

    /// Deletes a subject softly; what is soft-deleted already is deleted permanently.
    pub fn delete_subject(&self, subject: &str, permanent: bool) -> Result<Vec<u32>, Refusal> {
        let mut state = self.state();
        let entry = state.subjects.get(subject).filter(|entry| !entry.versions.is_empty());
        let entry = entry.ok_or_else(|| Refusal::no_subject(subject))?;
        let live: Vec<u32> = entry.live().map(|version| version.number).collect();
        let all: Vec<u32> = entry.versions.iter().map(|version| version.number).collect();
        match (permanent, live.is_empty()) {
            (false, true) => {
                let message = format!(
                    "Subject '{subject}' was soft deleted.Set permanent=true to delete permanently"
                );
                return Err(Refusal::new(404, 40_404, message));
            }
            (true, false) => {
                let message = format!(
                    "Subject '{subject}' was not deleted first before being permanently deleted"
                );
                return Err(Refusal::new(404, 40_405, message));
            }
            _ => {}
        }
        for number in &all {
            state.refuse_if_referenced(subject, *number)?;
        }
        if permanent {
            state.subjects.remove(subject);
            return Ok(all);
        }
        if let Some(entry) = state.subjects.get_mut(subject) {
            entry.versions.iter_mut().for_each(|version| version.deleted = true);
        }
        Ok(live)
    }

    /// Deletes a version softly; what is soft-deleted already is deleted permanently.
    pub fn delete_version(
        &self,
        subject: &str,
        asked: VersionAsked,
        permanent: bool,
    ) -> Result<u32, Refusal> {
        let mut state = self.state();
        let entry = state.subjects.get(subject).filter(|entry| !entry.versions.is_empty());
        let entry = entry.ok_or_else(|| Refusal::no_subject(subject))?;
        let found = match asked {
            VersionAsked::Latest => entry.live().next_back(),
            VersionAsked::Number(number) => entry.versions.iter().find(|v| v.number == number),
        };
        let number = match asked {
            VersionAsked::Number(number) => number,
            VersionAsked::Latest => found.map_or(0, |version| version.number),
        };
        let version = *found.ok_or_else(|| Refusal::no_version(number))?;
        let number = version.number;
        let message = match (permanent, version.deleted) {
            (false, true) => {
                Some((40_406, "was soft deleted.Set permanent=true to delete permanently"))
            }
            (true, false) => {
                Some((40_407, "was not deleted first before being permanently deleted"))
            }
            _ => None,
        };
        if let Some((code, message)) = message {
            let message = format!("Subject '{subject}' Version {number} {message}");
            return Err(Refusal::new(404, code, message));
        }
        state.refuse_if_referenced(subject, number)?;
        if let Some(entry) = state.subjects.get_mut(subject) {
            if permanent {
                entry.versions.retain(|version| version.number != number);
            }
            for version in entry.versions.iter_mut().filter(|one| one.number == number) {
                version.deleted = true;
            }
        }
        Ok(number)
    }
}

impl State {
    fn level_of(&self, subject: &str) -> Level {
        self.subjects.get(subject).and_then(|entry| entry.level).unwrap_or(self.level)
    }

    fn mode(&self, subject: &str) -> Mode {
        self.subjects.get(subject).and_then(|entry| entry.mode).unwrap_or(self.mode)
    }

    fn subject(&self, subject: &str) -> Result<&Subject, Refusal> {
        let entry = self.subjects.get(subject).filter(|entry| entry.live().next().is_some());
        entry.ok_or_else(|| Refusal::no_subject(subject))
    }

    fn registered(
        &self,
        subject: &str,
        version: Version,
    ) -> Result<(Registered, Vec<Reference>), Refusal> {
        let stored = self.schemas.get(&version.id).ok_or_else(Refusal::no_schema)?;
        let registered = Registered {
            subject: subject.to_owned(),
            version: version.number,
            id: SchemaId(version.id),
            text: Arc::clone(&stored.text),
            schema: Arc::clone(&stored.schema),
        };
        Ok((registered, stored.references.clone()))
    }

    fn places(&self, id: SchemaId, deleted: Deleted) -> Vec<(String, u32)> {
        let mut places = Vec::new();
        for (name, subject) in &self.subjects {
            for version in &subject.versions {
                if version.id == id.0 && (deleted == Deleted::Shown || !version.deleted) {
                    places.push((name.clone(), version.number));
                }
            }
        }
        places
    }

    fn parse(&self, text: &str, references: &[Reference]) -> Result<Stored, Refusal> {
        let mut schemas = Vec::new();
        for reference in references {
            let Reference { subject, version, .. } = reference;
            let entry = self.subjects.get(subject);
            let found = entry.and_then(|entry| entry.live().find(|one| one.number == *version));
            let stored = found.and_then(|version| self.schemas.get(&version.id));
            let Some(stored) = stored else {
                let message = format!("Invalid schema: no reference {subject} version {version}");
                return Err(Refusal::new(422, 42_201, message));
            };
            schemas.push(Arc::clone(&stored.schema));
        }
        let inner: Vec<&Schema> = schemas.iter().map(|schema| &**schema).collect();
        let schema = Schema::parse(text, &inner)
            .map_err(|error| Refusal::new(422, 42_201, format!("Invalid schema: {error}")))?;
        let references = references.to_vec();
        Ok(Stored { text: text.into(), schema: Arc::new(schema), references })
    }

    /// What makes two schemas the same: everything they say, and what they refer to.
    fn identity(&self, stored: &Stored, normalize: Normalize) -> String {
        let properties = match normalize {
            Normalize::No => Properties::AsWritten,
            Normalize::Yes => Properties::Sorted,
        };
        let mut identity = avro::print(&stored.schema, properties);
        for Reference { name, subject, version } in &stored.references {
            identity.push_str(&format!("\n{name:?} {subject:?} {version}"));
        }
        identity
    }

    fn refuse_if_referenced(&self, subject: &str, version: u32) -> Result<(), Refusal> {
        let used = self.subjects.values().flat_map(Subject::live).any(|live| {
            let stored = self.schemas.get(&live.id);
            stored.is_some_and(|stored| {
                let mut references = stored.references.iter();
                references.any(|one| one.subject == subject && one.version == version)
            })
        });
        if !used {
            return Ok(());
        }
        let message = format!(
            "One or more references exist to the schema {{subject={subject},version={version}}}."
        );
        Err(Refusal::new(422, 42_206, message))
    }
}

fn answer<'a, T: Send + 'a>(result: Result<T, Refusal>, asked: Asked<'_>) -> Answer<'a, T> {
    let result =
        result.map_err(|Refusal { status, code, message }| refused(status, code, &message, asked));
    Box::pin(std::future::ready(result))
}

impl Registry for MemoryRegistry {
    fn by_id(&self, id: SchemaId) -> Answer<'_, Registered> {
        answer(self.get_by_id(id).map(|(registered, _)| registered), Asked::Id(id))
    }

    fn latest<'a>(&'a self, subject: &'a str) -> Answer<'a, Registered> {
        let result = self.get(subject, VersionAsked::Latest);
        answer(result.map(|(registered, _)| registered), Asked::Subject(subject))
    }

    fn version<'a>(&'a self, subject: &'a str, version: u32) -> Answer<'a, Registered> {
        let result = self.get(subject, VersionAsked::Number(version));
        answer(result.map(|(registered, _)| registered), Asked::Version(subject, version))
    }

    fn versions<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<u32>> {
        answer(self.list_versions(subject, Deleted::Hidden), Asked::Subject(subject))
    }

    fn subjects_of(&self, id: SchemaId) -> Answer<'_, Vec<(String, u32)>> {
        answer(self.places(id), Asked::Id(id))
    }

    fn register<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, SchemaId> {
        answer(self.put(subject, text, references, Normalize::No), Asked::Register(subject))
    }

    fn lookup_with<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, Registered> {
        let result = self.find(subject, text, references);
        answer(result.map(|(registered, _)| registered), Asked::Lookup(subject))
    }

    fn subjects(&self) -> Answer<'_, Vec<String>> {
        answer(Ok(self.list(Deleted::Hidden)), Asked::Subjects)
    }
}
