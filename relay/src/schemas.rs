//! The writer schemas that are known, by subject; and, where one is not known, the question to ask.
//! Pure: questions are answered elsewhere (`lookup.rs`).
//!
//! A row that names its version is encoded with that version. Otherwise the latest is taken, asked
//! for again after the refresh interval while the known one stays in use. A payload that the latest
//! refuses is tried against the subject's history, newest first: registering a version before its
//! writers deploy must not stop them, and a version registered a moment ago must not stop its
//! writers until the next refresh.
//!
//! A subject that does not exist is asked for again for [`MISSING_GRACE`], once; afterwards its
//! events are refused at once, and it is looked for every [`NEGATIVE_TTL`].

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use walpost_schema::avro::Name;
use walpost_schema::encode::{EncodeError, EncodeErrors, EncodeOptions, Plan};
use walpost_schema::registry::Registered;
use walpost_schema::wire::SchemaId;

use crate::limits;
use crate::lookup::{Answer, Question};

/// A type whose schema is registered by the same deployment may be a few seconds early.
pub const MISSING_GRACE: Duration = Duration::from_secs(10);
/// How long "it does not exist" is believed.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// How long a subject's list of versions is believed when a payload fits none of them.
pub const HISTORY_TTL: Duration = Duration::from_secs(5);

/// A schema, ready to encode.
#[derive(Debug)]
pub struct Writer {
    /// Its id, for the framing.
    pub id: SchemaId,
    /// Its version in the subject.
    pub version: u32,
    /// Its compiled form.
    pub plan: Plan,
}

/// The payload cannot be encoded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SchemaError {
    /// The subject has no schema.
    #[error("subject \"{subject}\" has no registered schema")]
    NotRegistered {
        /// The subject.
        subject: String,
    },
    /// The subject is named by a record that no schema can have.
    #[error("no schema can be registered for {full_name:?}: it is no name of an Avro record")]
    NotAName {
        /// What the event type came to.
        full_name: String,
    },
    /// The row names a version that the subject does not have.
    #[error("subject \"{subject}\" has no version {version}, which the row names")]
    VersionMissing {
        /// The subject.
        subject: String,
        /// The version.
        version: u32,
    },
    /// The registered schema is not one that can be encoded with.
    #[error("the schema of subject \"{subject}\" cannot be used: {reason}")]
    Unusable {
        /// The subject.
        subject: String,
        /// Why.
        reason: String,
    },
    /// The payload fits neither the version named nor, without one, any version of the subject.
    #[error("payload does not fit subject \"{subject}\" version {version}: {}", outline(errors))]
    Unfit {
        /// The subject.
        subject: String,
        /// The version whose complaints these are.
        version: u32,
        /// What does not fit.
        errors: EncodeErrors,
    },
}

/// The first few errors without anything taken from the payload (I12).
fn outline(errors: &EncodeErrors) -> String {
    let shown: Vec<String> = errors.iter().take(3).map(EncodeError::redacted).collect();
    let more = errors.total().saturating_sub(shown.len());
    let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join("; "))
}

/// Whether a schema of this full name can be parsed.
fn is_record_name(full_name: &str) -> bool {
    full_name.split('.').all(Name::is_simple)
}

/// What stands between a payload and its record.
#[derive(Debug, Clone, PartialEq)]
pub enum Obstacle {
    /// Something must be asked first.
    Ask(Question),
    /// It can never be encoded as things are.
    Refuse(SchemaError),
}

/// All subjects of a source.
#[derive(Debug)]
pub struct Schemas {
    subjects: HashMap<Arc<str>, Subject>,
    refresh_interval: Duration,
    options: EncodeOptions,
}

#[derive(Debug, Default)]
struct Subject {
    full_name: Option<Arc<str>>,
    latest: Option<Result<Arc<Writer>, String>>,
    latest_at: Duration,
    missing: Option<Missing>,
    history: Option<(Duration, Vec<Arc<Writer>>)>,
    versions: HashMap<u32, Pinned>,
    by_id: HashMap<SchemaId, (Duration, Option<Arc<Writer>>)>,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Duration,
    checked: Duration,
}

#[derive(Debug)]
enum Pinned {
    Known(Arc<Writer>),
    Unusable(String),
    Missing(Missing),
}

impl Schemas {
    /// Knows nothing yet.
    pub fn new(refresh_interval: Duration) -> Self {
        let options = EncodeOptions::default();
        Self { subjects: HashMap::default(), refresh_interval, options }
    }

    /// Encodes `json` into `out` with the version named, or the latest that fits; the writer used.
    pub fn encode(
        &mut self,
        subject: &Arc<str>,
        full_name: &Arc<str>,
        version: Option<u32>,
        json: &str,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<SchemaId, Obstacle> {
        // Some registries answer a question for such a name with a page of their web server, which
        // looks like a fault of theirs and would be waited out for ever.
        let asked = |obstacle| match obstacle {
            Obstacle::Ask(_) if subject.ends_with(&**full_name) && !is_record_name(full_name) => {
                Obstacle::Refuse(SchemaError::NotAName { full_name: full_name.to_string() })
            }
            other => other,
        };
        match version {
            Some(version) => {
                let writer = self.pinned(subject, version, now).map_err(asked)?;
                writer.plan.encode(json, out).map_err(|errors| {
                    let subject = subject.to_string();
                    Obstacle::Refuse(SchemaError::Unfit { subject, version, errors })
                })?;
                Ok(writer.id)
            }
            None => {
                let writer = self.latest(subject, full_name, now).map_err(asked)?;
                match writer.plan.encode(json, out) {
                    Ok(()) => Ok(writer.id),
                    Err(errors) => self.encode_by_history(subject, &writer, errors, json, now, out),
                }
            }
        }
    }

    /// The schema with the id of a payload that is framed already.
    pub fn by_id(
        &mut self,
        subject: &Arc<str>,
        id: SchemaId,
        now: Duration,
    ) -> Result<Option<Arc<Writer>>, Obstacle> {
        let entry = self.subjects.get(subject).and_then(|known| known.by_id.get(&id));
        match entry {
            Some((_, Some(writer))) => Ok(Some(Arc::clone(writer))),
            Some((checked, None)) if now < *checked + NEGATIVE_TTL => Ok(None),
            _ => Err(Obstacle::Ask(Question::SchemaOfId { subject: Arc::clone(subject), id })),
        }
    }

    /// The next subject whose latest version is due to be asked for again, if any.
    pub fn refresh_due(&self, now: Duration) -> Option<Question> {
        self.subjects.iter().find_map(|(name, subject)| {
            let full_name = subject.full_name.as_ref()?;
            let is_due = now >= subject.latest_at + self.refresh_interval;
            (is_due && subject.latest.is_some()).then(|| Question::Latest {
                subject: Arc::clone(name),
                full_name: Arc::clone(full_name),
            })
        })
    }

    /// What did not exist or did not fit is asked for again before it is believed.
    pub fn doubt(&mut self) {
        for subject in self.subjects.values_mut() {
            if let Some(missing) = &mut subject.missing {
                missing.checked = Duration::ZERO;
            }
            if let Some(Err(_)) = subject.latest {
                subject.latest_at = Duration::ZERO;
            }
            if let Some((known_at, _)) = &mut subject.history {
                *known_at = Duration::ZERO;
            }
            for pinned in subject.versions.values_mut() {
                if let Pinned::Missing(missing) = pinned {
                    missing.checked = Duration::ZERO;
                }
            }
            subject.by_id.retain(|_, (_, writer)| writer.is_some());
        }
    }

    /// Takes the answer to a question that this room raised.
    pub fn learn(&mut self, question: &Question, answer: Answer, now: Duration) {
        let options = self.options.clone();
        match question {
            Question::Topic { .. } | Question::Partitions { .. } => {}
            Question::Latest { subject, full_name } => {
                let subject = self.subject(subject);
                subject.full_name = Some(Arc::clone(full_name));
                subject.learn_latest(answer, &options, now);
            }
            Question::Version { subject, version } => {
                let subject = self.subject(subject);
                let missing = match subject.versions.get(version) {
                    Some(Pinned::Missing(missing)) => Missing { checked: now, ..*missing },
                    _ => Missing { since: now, checked: now },
                };
                let pinned = match answer {
                    Answer::Schema(registered) => match compile(&registered, &options) {
                        Ok(writer) => Pinned::Known(writer),
                        Err(reason) => Pinned::Unusable(reason),
                    },
                    Answer::Unusable { reason } => Pinned::Unusable(reason),
                    Answer::Missing => Pinned::Missing(missing),
                    Answer::Topic { .. }
                    | Answer::Partitions(_)
                    | Answer::Schemas(_)
                    | Answer::Unavailable => return,
                };
                if subject.versions.len() >= limits::VERSIONS_MAX {
                    subject.versions.clear();
                }
                subject.versions.insert(*version, pinned);
            }
            Question::History { subject } => {
                if let Answer::Schemas(registered) = answer {
                    self.subject(subject).learn_history(&registered, &options, now);
                } else if matches!(answer, Answer::Missing | Answer::Unusable { .. }) {
                    self.subject(subject).history = Some((now, Vec::new()));
                }
            }
            Question::SchemaOfId { subject, id } => {
                let writer = match answer {
                    Answer::Schema(registered) => compile(&registered, &options).ok(),
                    Answer::Missing | Answer::Unusable { .. } => None,
                    Answer::Topic { .. }
                    | Answer::Partitions(_)
                    | Answer::Schemas(_)
                    | Answer::Unavailable => return,
                };
                let subject = self.subject(subject);
                if subject.by_id.len() >= limits::VERSIONS_MAX {
                    subject.by_id.clear();
                }
                subject.by_id.insert(*id, (now, writer));
            }
        }
    }

    fn subject(&mut self, name: &Arc<str>) -> &mut Subject {
        if self.subjects.len() >= limits::DESTINATIONS_MAX && !self.subjects.contains_key(name) {
            self.subjects.clear();
        }
        self.subjects.entry(Arc::clone(name)).or_default()
    }

    fn latest(
        &mut self,
        name: &Arc<str>,
        full_name: &Arc<str>,
        now: Duration,
    ) -> Result<Arc<Writer>, Obstacle> {
        let ask = || {
            let (subject, full_name) = (Arc::clone(name), Arc::clone(full_name));
            Obstacle::Ask(Question::Latest { subject, full_name })
        };
        let known = self.subjects.get(name).ok_or_else(ask)?;
        match (&known.latest, known.missing) {
            (Some(Ok(writer)), _) => Ok(Arc::clone(writer)),
            (Some(Err(_)), _) if now >= known.latest_at + NEGATIVE_TTL => Err(ask()),
            (Some(Err(reason)), _) => Err(Obstacle::Refuse(SchemaError::Unusable {
                subject: name.to_string(),
                reason: reason.clone(),
            })),
            (None, Some(missing)) if missing.is_believed(now) => {
                let subject = name.to_string();
                Err(Obstacle::Refuse(SchemaError::NotRegistered { subject }))
            }
            (None, _) => Err(ask()),
        }
    }

    fn pinned(
        &mut self,
        name: &Arc<str>,
        version: u32,
        now: Duration,
    ) -> Result<Arc<Writer>, Obstacle> {
        let known = self.subjects.get(name).and_then(|subject| subject.versions.get(&version));
        match known {
            Some(Pinned::Known(writer)) => Ok(Arc::clone(writer)),
            Some(Pinned::Unusable(reason)) => {
                let (subject, reason) = (name.to_string(), reason.clone());
                Err(Obstacle::Refuse(SchemaError::Unusable { subject, reason }))
            }
            Some(Pinned::Missing(missing)) if missing.is_believed(now) => {
                let subject = name.to_string();
                Err(Obstacle::Refuse(SchemaError::VersionMissing { subject, version }))
            }
            Some(Pinned::Missing(_)) | None => {
                Err(Obstacle::Ask(Question::Version { subject: Arc::clone(name), version }))
            }
        }
    }

    fn encode_by_history(
        &mut self,
        name: &Arc<str>,
        latest: &Writer,
        errors: EncodeErrors,
        json: &str,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<SchemaId, Obstacle> {
        let history = self.subjects.get(name).and_then(|subject| subject.history.as_ref());
        let Some((known_at, writers)) = history else {
            return Err(Obstacle::Ask(Question::History { subject: Arc::clone(name) }));
        };
        let others = writers.iter().filter(|writer| writer.version != latest.version);
        for writer in others {
            if writer.plan.encode(json, out).is_ok() {
                return Ok(writer.id);
            }
        }
        if now >= *known_at + HISTORY_TTL {
            return Err(Obstacle::Ask(Question::History { subject: Arc::clone(name) }));
        }
        let (subject, version) = (name.to_string(), latest.version);
        Err(Obstacle::Refuse(SchemaError::Unfit { subject, version, errors }))
    }
}

impl Missing {
    /// Within the grace it is asked for again at once, afterwards every [`NEGATIVE_TTL`].
    fn is_believed(&self, now: Duration) -> bool {
        now >= self.since + MISSING_GRACE && now < self.checked + NEGATIVE_TTL
    }
}

impl Subject {
    fn learn_latest(&mut self, answer: Answer, options: &EncodeOptions, now: Duration) {
        match answer {
            Answer::Schema(registered) => {
                let known = self.latest.as_ref().and_then(|latest| latest.as_ref().ok());
                // The same version again needs no new plan.
                let is_known = known.is_some_and(|known| known.version == registered.version);
                if !is_known {
                    self.latest = Some(compile(&registered, options));
                }
                self.latest_at = now;
                self.missing = None;
            }
            Answer::Unusable { reason } => {
                self.latest = Some(Err(reason));
                self.latest_at = now;
            }
            Answer::Missing if self.latest.is_none() => {
                let since = self.missing.map_or(now, |missing| missing.since);
                self.missing = Some(Missing { since, checked: now });
            }
            // A subject that vanished keeps the version in use: its id stays readable.
            Answer::Missing | Answer::Unavailable => self.latest_at = now,
            Answer::Topic { .. } | Answer::Partitions(_) | Answer::Schemas(_) => {}
        }
    }

    fn learn_history(
        &mut self,
        registered: &[Arc<Registered>],
        options: &EncodeOptions,
        now: Duration,
    ) {
        let newest = registered.iter().take(limits::EARLIER_VERSIONS_MAX + 1);
        // A version that cannot be compiled cannot fit either.
        let writers: Vec<_> = newest.filter_map(|one| compile(one, options).ok()).collect();
        let known = self.latest.as_ref().and_then(|latest| latest.as_ref().ok());
        if let Some(first) = writers.first()
            && known.is_none_or(|known| known.version < first.version)
        {
            self.latest = Some(Ok(Arc::clone(first)));
            self.latest_at = now;
        }
        self.history = Some((now, writers));
    }
}

fn compile(registered: &Registered, options: &EncodeOptions) -> Result<Arc<Writer>, String> {
    let plan = Plan::compile(&registered.schema, options).map_err(|error| error.to_string())?;
    Ok(Arc::new(Writer { id: registered.id, version: registered.version, plan }))
}

#[cfg(test)]
#[path = "schemas_tests.rs"]
mod tests;
