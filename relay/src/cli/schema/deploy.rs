//! What `walpost can-i-deploy` computes: every reader of every contract against what is written.

use std::path::Path;
use std::sync::Arc;

use walpost_schema::compat::{self, Severity, Side, unwritten};
use walpost_schema::registry::{HttpRegistry, Registry, RegistryError};

use super::check::{block_on, configured_dir, registered, working_files};
use super::contracts::{self, Contract, Read};
use super::forms;
use super::judged::{Judged, Outcome, Source, Unjudged};
use super::subjects::{self, registry_fault};
use crate::cli::{Answer, ConfigSource, Form};

const TITLE: &str = "walpost can-i-deploy";

/// Every contract against the schema files of this checkout.
pub(in crate::cli) fn producer(
    contracts: &Path,
    dir: Option<&Path>,
    config: &ConfigSource,
    form: Form,
) -> Answer {
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => configured_dir(config)?,
    };
    let mut outcome = Outcome::default();
    match written_files(&dir, &mut outcome) {
        Ok(written) => match contracts::under(contracts) {
            Ok(paths) => {
                for path in paths {
                    match contracts::load(&path) {
                        Ok(contract) => {
                            against_files(&contract, &written, Side::Writer, &mut outcome)
                        }
                        Err(one) => outcome.unjudged.push(one),
                    }
                }
            }
            Err(one) => outcome.unjudged.push(one),
        },
        Err(one) => outcome.unjudged.push(one),
    }
    forms::show(TITLE, &outcome, form)?;
    Ok(outcome.exit(Severity::Decode))
}

/// One contract against all versions of the registry, or against schema files.
pub(in crate::cli) fn consumer(
    contract: &Path,
    dir: Option<&Path>,
    config: &ConfigSource,
    form: Form,
) -> Answer {
    let mut outcome = Outcome::default();
    match contracts::load(contract) {
        Err(one) => outcome.unjudged.push(one),
        Ok(contract) => match dir {
            Some(dir) => match written_files(dir, &mut outcome) {
                Ok(written) => against_files(&contract, &written, Side::Reader, &mut outcome),
                Err(one) => outcome.unjudged.push(one),
            },
            None => {
                let registry = subjects::registry(&config.load_contract()?)?;
                block_on(against_registry(&contract, &registry, &mut outcome))?;
            }
        },
    }
    forms::show(TITLE, &outcome, form)?;
    Ok(outcome.exit(Severity::Decode))
}

fn written_files(dir: &Path, outcome: &mut Outcome) -> Result<Vec<Arc<Source>>, Unjudged> {
    let (mut set, unjudged) = working_files(dir)?;
    outcome.unjudged.extend(unjudged);
    let mut written = Vec::new();
    for name in set.names() {
        match set.get(&name) {
            Ok(source) => written.push(source),
            Err(one) => outcome.unjudged.push(one),
        }
    }
    Ok(written)
}

fn against_files(
    contract: &Contract,
    written: &[Arc<Source>],
    candidate: Side,
    outcome: &mut Outcome,
) {
    note_missing_version(contract);
    for read in &contract.reads {
        let of_type = written.iter().filter(|source| {
            source.schema.name().is_some_and(|name| name.full() == read.type_name)
        });
        let of_type: Vec<&Arc<Source>> = of_type.collect();
        if of_type.is_empty() && candidate == Side::Reader {
            let reason = format!("no schema file defines {}", read.type_name);
            outcome.unjudged.push(Unjudged::unknown(reason).of_file(contract.file.clone()));
        }
        for source in of_type {
            outcome.add_one(judge(contract, read, source, candidate));
        }
    }
}

async fn against_registry(contract: &Contract, registry: &HttpRegistry, outcome: &mut Outcome) {
    note_missing_version(contract);
    for read in &contract.reads {
        let result = versions_of(read, registry).await;
        match result {
            Ok(versions) if versions.is_empty() => {
                let reason = format!("the registry has no subject for {}", read.type_name);
                outcome.unjudged.push(Unjudged::unknown(reason).of_file(contract.file.clone()));
            }
            Ok(versions) => {
                for version in versions {
                    outcome.add_one(judge(contract, read, &version, Side::Reader));
                }
            }
            Err(error) => outcome.unjudged.push(registry_fault(&error)),
        }
    }
}

/// Every version: a topic keeps what older ones wrote.
async fn versions_of(
    read: &Read,
    registry: &HttpRegistry,
) -> Result<Vec<Arc<Source>>, RegistryError> {
    let subjects = match &read.subject {
        Some(subject) => vec![subject.clone()],
        None => {
            let end = format!("-{}", read.type_name);
            let all = registry.subjects().await?;
            all.into_iter().filter(|one| *one == read.type_name || one.ends_with(&end)).collect()
        }
    };
    let mut versions = Vec::new();
    for subject in subjects {
        for number in registry.versions(&subject).await? {
            versions.push(registered(&registry.version(&subject, number).await?));
        }
    }
    Ok(versions)
}

impl Outcome {
    fn add_one(&mut self, result: Result<Judged, Unjudged>) {
        match result {
            Ok(judged) => self.judged.push(judged),
            Err(one) => self.unjudged.push(one),
        }
    }
}

fn judge(
    contract: &Contract,
    read: &Read,
    writer: &Arc<Source>,
    candidate: Side,
) -> Result<Judged, Unjudged> {
    let mut report = compat::check(&read.schema.schema, &writer.schema);
    let missing = unwritten(&read.schema.schema, &writer.schema, &read.fields);
    let missing = missing.map_err(|error| {
        Unjudged::unusable(error.to_string())
            .of_file(contract.file.clone())
            .with_help("correct `fields`, or the schema of the contract")
    })?;
    report.findings.extend(missing);
    if !read.fields.is_empty() {
        // What is read as another value matters only where it is used.
        report.findings.retain(|finding| {
            finding.severity() <= Severity::Decode || is_used(&finding.path, &read.fields)
        });
    }
    Ok(Judged {
        subject: read.subject.clone().or_else(|| Some(read.type_name.clone())),
        level: None,
        reader: Arc::clone(&read.schema),
        writer: Arc::clone(writer),
        candidate,
        victim: format!("{}, which reads with {}", contract.shown(), read.schema.name),
        report,
    })
}

/// The path, something in it, or what it is in.
fn is_used(path: &str, fields: &[String]) -> bool {
    fields.iter().any(|field| field.starts_with(path) || path.starts_with(field.as_str()))
}

/// Without a version nobody can say what is deployed.
fn note_missing_version(contract: &Contract) {
    if contract.version.is_none() {
        eprintln!(
            "note: {} names no version of {}: the answer holds for the contract, not for what is \
             deployed",
            contract.file, contract.name
        );
    }
}
