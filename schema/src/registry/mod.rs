//! Questions about registered schemas in, parsed schemas or named faults out.
//!
//! [`Registry`] is what the relay asks. [`HttpRegistry`] asks a Confluent-compatible server,
//! [`MemoryRegistry`] is one within the process, [`CachedRegistry`] remembers the answers of
//! another and never asks twice at once. None of them registers anything by itself.

mod cache;
#[cfg(feature = "registry-server")]
pub mod dev_server;
mod error;
mod govern;
mod http;
mod memory;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::avro::Schema;
pub use crate::wire::SchemaId;
pub use cache::{CacheSettings, CachedRegistry, Clock, SystemClock};
pub use error::RegistryError;
pub use govern::{Deletion, Proposal, ServerVerdict};
pub use http::{Credentials, HttpRegistry, HttpSettings};
pub use memory::{Deleted, MemoryRegistry, Mode, Normalize, Refusal, VersionAsked};

/// A schema as a registry keeps it, parsed with its references.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its subject. Asked by id, the subject that the registry names; empty if it names none.
    pub subject: String,
    /// Its version in the subject. Asked by id, the version the registry names; 0 if it names none.
    pub version: u32,
    /// Its id, which goes into the frame.
    pub id: SchemaId,
    /// The text as registered.
    pub text: Arc<str>,
    /// The parsed text.
    pub schema: Arc<Schema>,
}

/// A schema text uses the types of another subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The name it goes by, for Avro the full name of the type.
    pub name: String,
    /// Where the other schema is registered.
    pub subject: String,
    /// In which version.
    pub version: u32,
}

/// A future answer of a registry.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'a>>;

/// What can be asked of a registry. Every method is cancellation-safe: dropped, it leaves nothing
/// behind but perhaps a registration that the server has already made.
pub trait Registry: Send + Sync {
    /// The schema of an id, also when its version is soft-deleted.
    fn by_id(&self, id: SchemaId) -> Answer<'_, Registered>;

    /// The newest version of a subject.
    fn latest<'a>(&'a self, subject: &'a str) -> Answer<'a, Registered>;

    /// One version of a subject.
    fn version<'a>(&'a self, subject: &'a str, version: u32) -> Answer<'a, Registered>;

    /// The versions of a subject, oldest first.
    fn versions<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<u32>>;

    /// Where an id is registered.
    fn subjects_of(&self, id: SchemaId) -> Answer<'_, Vec<(String, u32)>>;

    /// Registers a text, or finds it registered; its id.
    fn register<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, SchemaId>;

    /// The version that a text has in a subject.
    fn lookup<'a>(&'a self, subject: &'a str, text: &'a str) -> Answer<'a, Registered> {
        self.lookup_with(subject, text, &[])
    }

    /// The version that a text with references has in a subject.
    fn lookup_with<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, Registered>;

    /// All subjects.
    fn subjects(&self) -> Answer<'_, Vec<String>>;
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<R: Registry + ?Sized> Registry for $pointer<R> {
            fn by_id(&self, id: SchemaId) -> Answer<'_, Registered> {
                (**self).by_id(id)
            }

            fn latest<'a>(&'a self, subject: &'a str) -> Answer<'a, Registered> {
                (**self).latest(subject)
            }

            fn version<'a>(&'a self, subject: &'a str, version: u32) -> Answer<'a, Registered> {
                (**self).version(subject, version)
            }

            fn versions<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<u32>> {
                (**self).versions(subject)
            }

            fn subjects_of(&self, id: SchemaId) -> Answer<'_, Vec<(String, u32)>> {
                (**self).subjects_of(id)
            }

            fn register<'a>(
                &'a self,
                subject: &'a str,
                text: &'a str,
                references: &'a [Reference],
            ) -> Answer<'a, SchemaId> {
                (**self).register(subject, text, references)
            }

            fn lookup_with<'a>(
                &'a self,
                subject: &'a str,
                text: &'a str,
                references: &'a [Reference],
            ) -> Answer<'a, Registered> {
                (**self).lookup_with(subject, text, references)
            }

            fn subjects(&self) -> Answer<'_, Vec<String>> {
                (**self).subjects()
            }
        }
    )*};
}

forward!(Box, Arc);
