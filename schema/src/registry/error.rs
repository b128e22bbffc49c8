//! Why a registry gave no schema.

use crate::avro::SchemaError;
use crate::wire::SchemaId;

/// Why a question to a registry has no answer. Never holds credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's text says what it is")]
pub enum RegistryError {
    #[error("registry has no subject {subject}")]
    SubjectNotFound { subject: String },
    #[error("registry has no version {version} of subject {subject}")]
    VersionNotFound { subject: String, version: u32 },
    #[error("registry has no schema with id {id}")]
    IdNotFound { id: SchemaId },
    #[error("subject {subject} has no version with this schema")]
    SchemaNotFound { subject: String },
    #[error("registry refuses our credentials (HTTP {status})")]
    Unauthorized { status: u16 },
    #[error("registry cannot be reached: {reason}")]
    Unreachable { reason: String },
    #[error("registry answers {status} with code {error_code}: {message}")]
    Rejected { status: u16, error_code: u32, message: String },
    #[error("registry answers {status} with something that is not the JSON asked for: {detail}")]
    NotJson { status: u16, detail: String },
    #[error("schema of {what} does not parse")]
    BadSchema {
        what: String,
        #[source]
        source: SchemaError,
    },
    #[error("schema of {what} is of type {schema_type}, not AVRO")]
    NotAvro { what: String, schema_type: String },
    #[error("version {version} of subject {subject} refers to itself through its references")]
    ReferenceCycle { subject: String, version: u32 },
    #[error("references of {what} are more than {limit}")]
    TooManyReferences { what: String, limit: usize },
    #[error("schema is incompatible with an earlier one of subject {subject}: {message}")]
    Incompatible { subject: String, message: String },
    #[error("registry address {url:?} is not usable: {reason}")]
    BadAddress { url: String, reason: String },
    #[error("authorities of the registry's certificate are not usable: {reason}")]
    BadAuthorities { reason: String },
}

impl RegistryError {
    /// The registry has answered, and what was asked for is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(
            self,
            RegistryError::SubjectNotFound { .. }
                | RegistryError::VersionNotFound { .. }
                | RegistryError::IdNotFound { .. }
                | RegistryError::SchemaNotFound { .. }
        )
    }

    /// The same question may have an answer later, when another party has mended something: the
    /// network, the server, a proxy, our rights.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            RegistryError::Unreachable { .. }
            | RegistryError::Unauthorized { .. }
            | RegistryError::NotJson { .. } => true,
            RegistryError::Rejected { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

/// What was asked, to name what is absent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    Id(SchemaId),
    Subject(&'a str),
    Version(&'a str, u32),
    Lookup(&'a str),
    Register(&'a str),
    Subjects,
}

/// An error answer with Confluent's codes, as the fact it stands for.
pub(super) fn refused(status: u16, code: u32, message: &str, asked: Asked<'_>) -> RegistryError {
    let rejected =
        || RegistryError::Rejected { status, error_code: code, message: shortened(message) };
    if matches!(status, 401 | 403) {
        return RegistryError::Unauthorized { status };
    }
    if status == 404 && code != 404 {
        return match (code, asked) {
            (_, Asked::Id(id)) => RegistryError::IdNotFound { id },
            (40_403, Asked::Lookup(subject) | Asked::Register(subject)) => {
                RegistryError::SchemaNotFound { subject: subject.to_owned() }
            }
            (40_402, Asked::Version(subject, version)) => {
                RegistryError::VersionNotFound { subject: subject.to_owned(), version }
            }
            (_, Asked::Subjects) => rejected(),
            // 40401, and what `latest` of an emptied subject answers.
            (
                _,
                Asked::Subject(subject)
                | Asked::Version(subject, _)
                | Asked::Lookup(subject)
                | Asked::Register(subject),
            ) => RegistryError::SubjectNotFound { subject: subject.to_owned() },
        };
    }
    match asked {
        // 40901 from Confluent 8.2 on, 409 before that and elsewhere.
        Asked::Register(subject) if status == 409 => {
            RegistryError::Incompatible { subject: subject.to_owned(), message: shortened(message) }
        }
        _ => rejected(),
    }
}

/// A server's message, bounded: it goes into logs.
pub(super) fn shortened(message: &str) -> String {
    const CHARS_MAX: usize = 500;
    match message.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}
