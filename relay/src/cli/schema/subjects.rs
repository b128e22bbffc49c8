//! Full names of schemas in, subjects of the registry out; and the registry itself.

use std::collections::BTreeSet;

use walpost_schema::registry::{HttpRegistry, RegistryError};

use super::judged::Unjudged;
use crate::cli::Failure;
use crate::encode::{SchemaNaming, SubjectStrategy};
use crate::settings::{ContractSettings, without_password};

/// How subjects are found.
#[derive(Debug)]
pub(super) struct Naming {
    naming: SchemaNaming,
    /// Topics that are named: on the command line, or by routes whose topic is always the same.
    topics: BTreeSet<String>,
}

impl Naming {
    pub(super) fn of(settings: &ContractSettings, topics: &[String]) -> Self {
        let mut topics: BTreeSet<String> = topics.iter().cloned().collect();
        if topics.is_empty() {
            topics.clone_from(&settings.topics);
        }
        Self { naming: settings.schemas.naming.clone(), topics }
    }

    /// The subjects of a type: those the registry has already, or those of the named topics.
    pub(super) fn subjects(&self, full_name: &str, known: &[String]) -> Vec<String> {
        let of_topics: BTreeSet<String> =
            self.topics.iter().map(|topic| self.naming.subject(topic, full_name)).collect();
        let mut subjects: BTreeSet<String> = match self.naming.subject_strategy {
            SubjectStrategy::Record => BTreeSet::from([full_name.to_owned()]),
            SubjectStrategy::Topic => return of_topics.into_iter().collect(),
            SubjectStrategy::TopicRecord => {
                let end = format!("-{full_name}");
                known.iter().filter(|subject| subject.ends_with(&end)).cloned().collect()
            }
        };
        if subjects.is_empty() {
            subjects = of_topics;
        }
        subjects.into_iter().collect()
    }
}

/// The client of the configured registry, without a cache: every answer is asked for once.
pub(super) fn registry(settings: &ContractSettings) -> Result<HttpRegistry, Failure> {
    let Some(configured) = &settings.registry else {
        return Err(Failure::usage(anyhow::anyhow!(
            "no [registry] is configured: set registry.url, or check against git with --against \
             git:REF"
        )));
    };
    crate::registry::plain_client(configured).map_err(|error| {
        let url = without_password(&configured.url);
        Failure::usage(anyhow::anyhow!("registry {url}: {error}"))
    })
}

/// A registry that gave no usable answer: nothing can be told.
pub(super) fn registry_fault(error: &RegistryError) -> Unjudged {
    let one = Unjudged::unknown(error.to_string());
    match error {
        RegistryError::Unreachable { .. } => one.with_help(
            "is the registry up, and is registry.url right? --against git:REF needs none",
        ),
        RegistryError::Unauthorized { .. } => one.with_help("check registry.auth"),
        RegistryError::NotJson { .. } => {
            one.with_help("is registry.url a registry's, with its path (such as /apis/ccompat/v7)?")
        }
        _ => one,
    }
}
