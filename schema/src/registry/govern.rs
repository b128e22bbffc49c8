//! What CI and people ask of a registry and the relay does not: whether a schema would be taken,
//! levels, deletions, who refers to whom.
//!
//! The verdict is the server's. Older servers know only the comparison with one version: then every
//! version that the level speaks of is asked for, newest first.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::compat::Level;
use crate::registry::error::{Asked, RegistryError, refused};
use crate::registry::http::{HttpRegistry, Method, escaped, request_body};
use crate::registry::memory::{Deleted, Normalize};
use crate::registry::{Reference, SchemaId};

/// What a registry says of a schema that is not registered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerVerdict {
    /// Whether it would be taken.
    pub is_compatible: bool,
    /// Its reasons, in its words. Nothing to rely on: every implementation has its own.
    pub messages: Vec<String>,
}

/// Whether something is deleted softly or for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Hidden; ids stay readable.
    Soft,
    /// For good; only what is soft-deleted already.
    Permanent,
}

impl Deletion {
    fn query(self) -> &'static str {
        match self {
            Deletion::Soft => "",
            Deletion::Permanent => "?permanent=true",
        }
    }
}

/// A schema as it is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Proposal<'a> {
    /// Where it would be registered.
    pub subject: &'a str,
    /// Its text.
    pub text: &'a str,
    /// What it refers to.
    pub references: &'a [Reference],
}

/// Cancellation-safe, all of them: dropped, a call leaves nothing behind but perhaps the change
/// that the server has already made.
impl HttpRegistry {
    /// Whether a schema would be taken at its subject's level, as registration judges. A subject
    /// without versions takes anything.
    pub async fn would_take(&self, of: Proposal<'_>) -> Result<ServerVerdict, RegistryError> {
        let path = format!("/compatibility/subjects/{}/versions?verbose=true", escaped(of.subject));
        match self.judged(&path, of).await {
            Err(error) if is_unknown_call(&error) => self.would_take_by_version(of).await,
            Err(RegistryError::SubjectNotFound { .. }) => Ok(nothing_against()),
            verdict => verdict,
        }
    }

    async fn would_take_by_version(
        &self,
        of: Proposal<'_>,
    ) -> Result<ServerVerdict, RegistryError> {
        use crate::registry::Registry;
        let level = self.level_in_force(of.subject).await?;
        let mut versions = match self.versions(of.subject).await {
            Err(RegistryError::SubjectNotFound { .. }) => return Ok(nothing_against()),
            versions => versions?,
        };
        versions.reverse();
        if !level.is_transitive() {
            versions.truncate(1);
        }
        if level == Level::None {
            versions.clear();
        }
        for version in versions {
            let verdict = self.would_take_after(of, version).await?;
            if !verdict.is_compatible {
                return Ok(verdict);
            }
        }
        Ok(nothing_against())
    }

    /// Whether a schema is compatible with one version.
    pub async fn would_take_after(
        &self,
        of: Proposal<'_>,
        version: u32,
    ) -> Result<ServerVerdict, RegistryError> {
        let subject = escaped(of.subject);
        let path = format!("/compatibility/subjects/{subject}/versions/{version}?verbose=true");
        self.judged(&path, of).await
    }

    async fn judged(&self, path: &str, of: Proposal<'_>) -> Result<ServerVerdict, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            is_compatible: bool,
            #[serde(default)]
            messages: Vec<Value>,
        }
        let body = request_body(of.text, of.references);
        let answer: Answer =
            self.json(Method::Post(body), path, Asked::Subject(of.subject)).await?;
        let text = |message: Value| match message {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let messages = answer.messages.into_iter().map(text).collect();
        Ok(ServerVerdict { is_compatible: answer.is_compatible, messages })
    }

    /// The level that a subject is judged at: its own, else the global one.
    pub async fn level_in_force(&self, subject: &str) -> Result<Level, RegistryError> {
        let path = format!("/config/{}?defaultToGlobal=true", escaped(subject));
        match self.level_at(&path, Asked::Subject(subject)).await {
            Err(RegistryError::SubjectNotFound { .. }) => self.global_level().await,
            Err(error) if is_unknown_call(&error) => self.global_level().await,
            level => level,
        }
    }

    /// The level of subjects that have none of their own.
    pub async fn global_level(&self) -> Result<Level, RegistryError> {
        self.level_at("/config", Asked::Subjects).await
    }

    /// The level of a subject's own, if it has one.
    pub async fn own_level(&self, subject: &str) -> Result<Option<Level>, RegistryError> {
        let path = format!("/config/{}", escaped(subject));
        match self.level_at(&path, Asked::Subject(subject)).await {
            Err(RegistryError::SubjectNotFound { .. }) => Ok(None),
            level => level.map(Some),
        }
    }

    async fn level_at(&self, path: &str, asked: Asked<'_>) -> Result<Level, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            #[serde(alias = "compatibility", rename = "compatibilityLevel")]
            level: String,
        }
        let answer: Answer = self.json(Method::Get, path, asked).await?;
        answer.level.parse().map_err(|error: crate::compat::UnknownLevel| RegistryError::NotJson {
            status: 200,
            detail: error.to_string(),
        })
    }

    /// Sets the level of a subject, or the global one.
    pub async fn set_level(
        &self,
        subject: Option<&str>,
        level: Level,
    ) -> Result<(), RegistryError> {
        let path =
            subject.map_or_else(|| "/config".to_owned(), |s| format!("/config/{}", escaped(s)));
        let body = json!({"compatibility": level.as_str()}).to_string();
        let asked = subject.map_or(Asked::Subjects, Asked::Subject);
        self.json::<Value>(Method::Put(body), &path, asked).await.map(drop)
    }

    /// Takes a subject's own level away.
    pub async fn delete_level(&self, subject: &str) -> Result<(), RegistryError> {
        let path = format!("/config/{}", escaped(subject));
        self.json::<Value>(Method::Delete, &path, Asked::Subject(subject)).await.map(drop)
    }

    /// Registers a text, or finds it registered, with or without normalization.
    pub async fn register_as(
        &self,
        of: Proposal<'_>,
        normalize: Normalize,
    ) -> Result<SchemaId, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            id: u32,
        }
        let query = match normalize {
            Normalize::No => "",
            Normalize::Yes => "?normalize=true",
        };
        let path = format!("/subjects/{}/versions{query}", escaped(of.subject));
        let body = request_body(of.text, of.references);
        let asked = Asked::Register(of.subject);
        let answer: Answer = self.json(Method::Post(body), &path, asked).await?;
        Ok(SchemaId(answer.id))
    }

    /// Deletes a subject; the versions it had.
    pub async fn delete_subject(
        &self,
        subject: &str,
        deletion: Deletion,
    ) -> Result<Vec<u32>, RegistryError> {
        let path = format!("/subjects/{}{}", escaped(subject), deletion.query());
        self.json(Method::Delete, &path, Asked::Subject(subject)).await
    }

    /// Deletes one version of a subject.
    pub async fn delete_version(
        &self,
        subject: &str,
        version: u32,
        deletion: Deletion,
    ) -> Result<u32, RegistryError> {
        let subject_name = escaped(subject);
        let path = format!("/subjects/{subject_name}/versions/{version}{}", deletion.query());
        self.json(Method::Delete, &path, Asked::Version(subject, version)).await
    }

    /// Subjects, soft-deleted ones among them if asked for.
    pub async fn subjects_with(&self, deleted: Deleted) -> Result<Vec<String>, RegistryError> {
        let path = format!("/subjects{}", deleted_query(deleted));
        self.json(Method::Get, &path, Asked::Subjects).await
    }

    /// Versions of a subject, soft-deleted ones among them if asked for.
    pub async fn versions_with(
        &self,
        subject: &str,
        deleted: Deleted,
    ) -> Result<Vec<u32>, RegistryError> {
        let path = format!("/subjects/{}/versions{}", escaped(subject), deleted_query(deleted));
        self.json(Method::Get, &path, Asked::Subject(subject)).await
    }

    /// Ids of schemas that refer to a version.
    pub async fn referenced_by(
        &self,
        subject: &str,
        version: u32,
    ) -> Result<Vec<SchemaId>, RegistryError> {
        let path = format!("/subjects/{}/versions/{version}/referencedby", escaped(subject));
        let asked = Asked::Version(subject, version);
        let ids: Vec<u32> = self.json(Method::Get, &path, asked).await?;
        Ok(ids.into_iter().map(SchemaId).collect())
    }

    /// One call, its answer as JSON, asked of one server after the other.
    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        asked: Asked<'_>,
    ) -> Result<T, RegistryError> {
        let (status, body) = self.exchange(&method, path).await?;
        if status >= 400 {
            return Err(self.refusal(status, &body, asked));
        }
        serde_json::from_slice(&body)
            .map_err(|error| RegistryError::NotJson { status, detail: error.to_string() })
    }

    fn refusal(&self, status: u16, body: &[u8], asked: Asked<'_>) -> RegistryError {
        #[derive(serde::Deserialize)]
        struct Body {
            error_code: u32,
            #[serde(default)]
            message: String,
        }
        match serde_json::from_slice::<Body>(body) {
            Ok(body) => refused(status, body.error_code, &body.message, asked),
            // A server or a proxy that does not know the call.
            Err(_) if matches!(status, 404 | 405) => RegistryError::Rejected {
                status,
                error_code: u32::from(status),
                message: String::new(),
            },
            Err(_) if matches!(status, 401 | 403) => RegistryError::Unauthorized { status },
            Err(_) => RegistryError::NotJson {
                status,
                detail: "an error without a registry's code".to_owned(),
            },
        }
    }
}

fn nothing_against() -> ServerVerdict {
    ServerVerdict { is_compatible: true, messages: Vec::new() }
}

/// The server does not know the endpoint, as against not knowing the subject.
fn is_unknown_call(error: &RegistryError) -> bool {
    match error {
        RegistryError::Rejected { status, error_code, .. } => {
            matches!(status, 404 | 405) && matches!(error_code, 404 | 405)
        }
        _ => false,
    }
}

fn deleted_query(deleted: Deleted) -> &'static str {
    match deleted {
        Deleted::Hidden => "",
        Deleted::Shown => "?deleted=true",
    }
}
