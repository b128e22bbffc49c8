//! Questions in, answers out: the brokers and the registry, asked for what the pure rooms need.
//!
//! What does not exist is an answer ([`Answer::Missing`]); that nobody could be asked is an error,
//! and the caller waits and asks again.

use std::path::PathBuf;
use std::sync::Arc;

use walpost_schema::registry::{Registered, Registry, RegistryError};
use walpost_schema::wire::SchemaId;

use crate::error::{SourceError, with_causes};
use crate::kafka::TopicFinder;
use crate::limits;
use crate::lookup::{Answer, Question};

/// Whom to ask.
#[derive(Clone)]
pub struct Asker {
    topics: Arc<TopicFinder>,
    registry: Arc<dyn Registry>,
    /// Where the registry is, for people.
    registry_at: String,
    /// Schema files that may be registered on demand; development only.
    auto_register: Option<PathBuf>,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker").field("topics", &self.topics).finish_non_exhaustive()
    }
}

impl Asker {
    /// Asks these two. With `auto_register` a subject that is missing is registered from the schema
    /// file in that folder whose record has the full name; for development only.
    pub fn new(
        topics: Arc<TopicFinder>,
        registry: Arc<dyn Registry>,
        registry_at: String,
        auto_register: Option<PathBuf>,
    ) -> Self {
        Self { topics, registry, registry_at, auto_register }
    }

    /// The brokers' side, for the check at start.
    pub fn topics(&self) -> &TopicFinder {
        &self.topics
    }

    /// Finds an answer.
    ///
    /// Cancellation-safe: a question has no effect but a topic or a schema being made, which the
    /// next question finds.
    pub async fn ask(&self, question: &Question) -> Result<Answer, SourceError> {
        match question {
            Question::Topic { topic } => Ok(self.topics.find(topic).await?),
            Question::Partitions { topics } => {
                Ok(Answer::Partitions(self.topics.partitions_of(topics).await?))
            }
            Question::Latest { subject, full_name } => {
                let answer = self.answer(self.registry.latest(subject).await)?;
                match (&answer, &self.auto_register) {
                    (Answer::Missing, Some(folder)) => {
                        self.register(folder.clone(), subject, full_name).await
                    }
                    _ => Ok(answer),
                }
            }
            Question::Version { subject, version } => {
                self.answer(self.registry.version(subject, *version).await)
            }
            Question::History { subject } => self.history(subject).await,
            Question::SchemaOfId { subject, id } => self.schema_of_id(subject, *id).await,
        }
    }

    async fn history(&self, subject: &str) -> Result<Answer, SourceError> {
        let mut versions = match self.registry.versions(subject).await {
            Ok(versions) => versions,
            Err(error) => return self.answer(Err(error)),
        };
        versions.sort_unstable_by(|a, b| b.cmp(a));
        let mut schemas = Vec::new();
        for version in versions.into_iter().take(limits::EARLIER_VERSIONS_MAX + 1) {
            // A version that was deleted since, or cannot be read, is one that cannot fit.
            if let Answer::Schema(schema) =
                self.answer(self.registry.version(subject, version).await)?
            {
                schemas.push(schema);
            }
        }
        Ok(Answer::Schemas(schemas))
    }

    async fn schema_of_id(&self, subject: &str, id: SchemaId) -> Result<Answer, SourceError> {
        let users = match self.registry.subjects_of(id).await {
            Ok(users) => users,
            Err(error) => return self.answer(Err(error)),
        };
        match users.into_iter().find(|(name, _)| name == subject) {
            Some((_, version)) => self.answer(self.registry.version(subject, version).await),
            None => Ok(Answer::Missing),
        }
    }

    async fn register(
        &self,
        folder: PathBuf,
        subject: &str,
        full_name: &str,
    ) -> Result<Answer, SourceError> {
        let name = full_name.to_owned();
        let found = tokio::task::spawn_blocking(move || crate::schema_files::find(&folder, &name));
        let Some(text) = found.await.ok().flatten() else { return Ok(Answer::Missing) };
        match self.registry.register(subject, &text, &[]).await {
            Ok(_id) => self.answer(self.registry.latest(subject).await),
            Err(error) => self.answer(Err(error)),
        }
    }

    /// What does not exist is an answer; that nobody answered is an error.
    fn answer(&self, found: Result<Registered, RegistryError>) -> Result<Answer, SourceError> {
        match found {
            Ok(schema) => Ok(Answer::Schema(Arc::new(schema))),
            Err(error) if error.is_absent() => Ok(Answer::Missing),
            Err(error) if error.is_retriable() => {
                let at = self.registry_at.clone();
                Err(SourceError::Registry { at, reason: with_causes(&error) })
            }
            Err(error) => Ok(Answer::Unusable { reason: with_causes(&error) }),
        }
    }
}
