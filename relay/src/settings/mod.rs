//! Settings as written go in (file, environment), validated settings come out.
//!
//! ```text
//!   layers.rs   walpost.toml < WALPOST_...              -> one tree, each value with its origin
//!   written.rs  the tree as serde reads it              -> WrittenSettings
//!   here        checks, defaults, names of what is wrong -> Settings
//! ```
//!
//! Unknown keys are refused with the nearest known name, options that are documented and not built
//! yet by their name. Secrets are kept in types that print as `***`.

mod layers;
mod show;
mod validate;
mod values;
mod written;

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

pub use layers::{Environment, Origin};
pub use show::{ShownValue, show, without_password};

use crate::database::{AddressError, DatabaseAddress};
use crate::encode::SchemaNaming;
use crate::event::ColumnNames;
use crate::kafka::KafkaSettings;
use crate::park::LotLimits;
use crate::route::RouteRule;
use crate::secret::Secret;

/// Everything the daemon needs, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[admin]`
    pub admin: AdminSettings,
    /// `[kafka]`
    pub kafka: KafkaSettings,
    /// `[registry]`
    pub registry: Option<RegistrySettings>,
    /// `[schemas]`
    pub schemas: SchemaSettings,
    /// `[[source]]`, at least one for `run`.
    pub sources: Vec<SourceSettings>,
    shown: Vec<ShownValue>,
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// What a caller beyond loopback must know.
    pub token: Option<SecretString>,
    /// Serve beyond loopback without a token.
    pub is_insecure: bool,
    /// Host names that may be asked for besides addresses and `localhost`.
    pub hosts: HashSet<String>,
}

/// `[registry]`
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Its address, or several separated by commas.
    pub url: String,
    /// How to identify.
    pub auth: RegistryAuth,
    /// The file with the authorities that its certificate must come from, and the texts in it; the
    /// system's if absent.
    pub authorities: Option<(PathBuf, Vec<u8>)>,
    /// How long the latest version is believed.
    pub refresh_interval: Duration,
}

/// How the registry knows us.
#[derive(Debug, Clone)]
pub enum RegistryAuth {
    /// It does not ask.
    None,
    /// User and password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Bearer(Secret),
}

/// `[schemas]`
#[derive(Debug, Clone)]
pub struct SchemaSettings {
    /// Where the schema files are.
    pub dir: PathBuf,
    /// How event types, records and subjects are named.
    pub naming: SchemaNaming,
    /// Register missing schemas from the folder; development only.
    pub auto_register: bool,
}

/// What the schema commands need: they run in pipelines that have no brokers and no databases.
#[derive(Debug, Clone)]
pub struct ContractSettings {
    /// `[registry]`
    pub registry: Option<RegistrySettings>,
    /// `[schemas]`
    pub schemas: SchemaSettings,
    /// Topics of routes whose topic is the same for every event.
    pub topics: BTreeSet<String>,
}

impl ContractSettings {
    /// Reads the settings from a file, or from the environment alone.
    pub fn load(
        path: Option<&std::path::Path>,
        environment: &Environment,
    ) -> Result<Self, SettingsError> {
        let (text, name) = match path {
            Some(path) => (read_text(path)?, path.display().to_string()),
            None => (String::new(), "environment".to_owned()),
        };
        let layers = layers::Layers::read(&text, &name, environment)?;
        validate::contract(written::WrittenSettings::read(&layers)?, &layers)
    }
}

fn read_text(path: &std::path::Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|error| SettingsError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// A `[[source]]`.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// Its name: in headers, metrics and log lines.
    pub name: String,
    /// Its database.
    pub address: DatabaseAddress,
    /// Its replication slot.
    pub slot: String,
    /// Its publication.
    pub publication: String,
    /// Its outbox table, as SQL names it.
    pub table: String,
    /// What the table's columns are called.
    pub columns: ColumnNames,
    /// Where events go.
    pub routes: Vec<RouteRule>,
    /// The cluster they go to.
    pub kafka: KafkaSettings,
    /// How schemas are found.
    pub naming: SchemaNaming,
    /// How long the latest schema is believed.
    pub refresh_interval: Duration,
    /// How full the parking lot may be.
    pub lot: LotLimits,
}

/// The settings cannot be used. Values are quoted only where they cannot be secrets.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file does not exist or cannot be read.
    #[error("configuration file {} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{place}: {reason}")]
    Syntax {
        /// File, line and column.
        place: String,
        /// Why.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key \"{key}\"{}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// Where it stands.
        place: String,
        /// The key with its path.
        key: String,
        /// The known key that is most like it.
        nearest: Option<String>,
    },
    /// A value of the wrong kind.
    #[error("{place}: {key} must be {expected}")]
    Value {
        /// Where it stands.
        place: String,
        /// The key with its path.
        key: String,
        /// What it must be.
        expected: String,
    },
    /// A key that must be set.
    #[error("{key} is not set: {hint}")]
    Missing {
        /// The key with its path.
        key: String,
        /// What it is for.
        hint: &'static str,
    },
    /// A documented option that is not built yet.
    #[error("{place}: {key} = {value} is not built yet")]
    NotBuilt {
        /// Where it stands.
        place: String,
        /// The key.
        key: String,
        /// The value asked for.
        value: String,
    },
    /// The database address of a source.
    #[error("address of source \"{name}\"")]
    Address {
        /// The source.
        name: String,
        /// Why.
        #[source]
        error: AddressError,
    },
    /// A file named by a `.._file` key.
    #[error("{key}: file {} cannot be read: {reason}", path.display())]
    SecretFile {
        /// The key.
        key: String,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A rule over several keys.
    #[error("{place}: {rule}")]
    Rule {
        /// Where the first of them stands.
        place: String,
        /// The rule that is broken.
        rule: String,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean \"{name}\"?"))
}

impl Settings {
    /// Reads and checks the settings.
    pub fn load(path: &std::path::Path, environment: &Environment) -> Result<Self, SettingsError> {
        let text = read_text(path)?;
        Self::parse(&text, &path.display().to_string(), environment)
    }

    /// As [`load`](Self::load), from a text that is called `name` in errors.
    pub fn parse(text: &str, name: &str, environment: &Environment) -> Result<Self, SettingsError> {
        let layers = layers::Layers::read(text, name, environment)?;
        let written = written::WrittenSettings::read(&layers)?;
        let mut settings = validate::validate(written, &layers)?;
        settings.shown = show::collect(&settings, &layers);
        Ok(settings)
    }

    /// Every setting with its value, secrets masked, and where it came from.
    pub fn shown(&self) -> &[ShownValue] {
        &self.shown
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
