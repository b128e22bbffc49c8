//! `walpost schema list`: what the registry has.

use clap::Args;
use serde_json::{Value, json};
use walpost_schema::compat::Level;
use walpost_schema::registry::{Deleted, HttpRegistry, Registry, RegistryError};

use super::check::block_on;
use super::subjects::{self, registry_fault};
use crate::cli::output::{print, print_json, printable, table};
use crate::cli::{Answer, ConfigSource, Exit, Failure, Output};

/// Lists subjects with their versions, ids, types and levels.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Only subjects that contain this text.
    filter: Option<String>,
    /// Soft-deleted subjects too.
    #[arg(long)]
    deleted: bool,
}

/// One subject.
struct Row {
    subject: String,
    versions: Vec<u32>,
    /// Id and type of the newest version; None where only deleted ones are left.
    latest: Option<(u32, Option<String>)>,
    level: String,
    is_own_level: bool,
}

pub(super) fn run(arguments: &Arguments, config: &ConfigSource, output: Output) -> Answer {
    let registry = subjects::registry(&config.load_contract()?)?;
    let rows = block_on(rows(&registry, arguments))?.map_err(|error| {
        Failure::could_not_tell(anyhow::anyhow!("{}", registry_fault(&error).text()))
    })?;
    match output {
        Output::Json => print_json(&rows.iter().map(Row::json).collect::<Vec<_>>())?,
        Output::Text => {
            let mut lines =
                vec![["SUBJECT", "VERSIONS", "ID", "TYPE", "LEVEL"].map(str::to_owned).to_vec()];
            lines.extend(rows.iter().map(Row::line));
            print(&table(&lines))?;
        }
    }
    Ok(Exit::Fine)
}

async fn rows(registry: &HttpRegistry, arguments: &Arguments) -> Result<Vec<Row>, RegistryError> {
    let deleted = if arguments.deleted { Deleted::Shown } else { Deleted::Hidden };
    let mut subjects = registry.subjects_with(deleted).await?;
    subjects.sort();
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let global = registry.global_level().await?;
    let mut rows = Vec::new();
    for subject in subjects.into_iter().filter(|subject| subject.contains(filter)) {
        let versions = registry.versions_with(&subject, deleted).await?;
        let latest = match registry.latest(&subject).await {
            Ok(latest) => {
                let name = latest.schema.name().map(|name| name.full().to_owned());
                Some((latest.id.0, name))
            }
            // Only deleted versions, or another kind of schema: listed all the same.
            Err(error) if error.is_absent() => None,
            Err(RegistryError::NotAvro { schema_type, .. }) => Some((0, Some(schema_type))),
            Err(RegistryError::BadSchema { .. }) => Some((0, Some("(does not parse)".to_owned()))),
            Err(error) => return Err(error),
        };
        let level = registry.level_in_force(&subject).await?;
        // Some registries answer NONE for a subject that has no level of its own.
        let own = registry.own_level(&subject).await?.filter(|own| *own == level);
        let is_own_level = own.is_some() && (level != global || level != Level::None);
        rows.push(Row { subject, versions, latest, level: level.to_string(), is_own_level });
    }
    Ok(rows)
}

impl Row {
    fn json(&self) -> Value {
        let (id, name) = self.latest.clone().map_or((None, None), |(id, name)| (Some(id), name));
        json!({
            "subject": self.subject,
            "versions": self.versions,
            "id": id.filter(|id| *id > 0),
            "type": name,
            "level": self.level,
            "own_level": self.is_own_level,
        })
    }

    fn line(&self) -> Vec<String> {
        let versions: Vec<String> = self.versions.iter().map(u32::to_string).collect();
        let versions = match versions.as_slice() {
            [first, .., last] => format!("{first}..{last}"),
            [only] => only.clone(),
            [] => "-".to_owned(),
        };
        let (id, name) = self.latest.clone().map_or(("-".to_owned(), None), |(id, name)| {
            (if id > 0 { id.to_string() } else { "-".to_owned() }, name)
        });
        let mark = if self.is_own_level { "" } else { " (global)" };
        vec![
            printable(&self.subject),
            versions,
            id,
            printable(&name.unwrap_or_else(|| "-".to_owned())),
            format!("{}{mark}", self.level),
        ]
    }
}
