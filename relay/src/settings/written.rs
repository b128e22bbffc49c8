//! The configuration exactly as people write it; nothing derived, nothing checked but its form.

use std::collections::BTreeMap;
use std::path::PathBuf;

use figment::error::Kind;
use secrecy::SecretString;
use serde::Deserialize;

use super::SettingsError;
use super::layers::Layers;
use super::values::{Flag, Number, Percent, Size, Text, Time};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenSettings {
    pub(super) admin: WrittenAdmin,
    pub(super) kafka: WrittenKafka,
    pub(super) registry: WrittenRegistry,
    pub(super) schemas: WrittenSchemas,
    pub(super) delivery: WrittenDelivery,
    pub(super) source: Vec<WrittenSource>,
    pub(super) limits: WrittenLimits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenAdmin {
    pub(super) listen: Option<String>,
    pub(super) token: Option<SecretString>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) insecure: Option<Flag>,
    pub(super) hosts: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenKafka {
    pub(super) bootstrap_servers: Option<String>,
    pub(super) security: Option<String>,
    pub(super) mechanism: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) tls_ca_file: Option<PathBuf>,
    pub(super) create_topics: Option<Flag>,
    pub(super) partitions: Option<Number>,
    pub(super) replication_factor: Option<Number>,
    pub(super) properties: BTreeMap<String, Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenRegistry {
    pub(super) url: Option<String>,
    pub(super) auth: Option<WrittenAuth>,
    pub(super) tls_ca_file: Option<PathBuf>,
    pub(super) refresh_interval: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenAuth {
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) token: Option<SecretString>,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenSchemas {
    pub(super) dir: Option<PathBuf>,
    pub(super) namespace: Option<String>,
    pub(super) types: BTreeMap<String, String>,
    pub(super) versions: BTreeMap<String, Number>,
    pub(super) subject_strategy: Option<String>,
    pub(super) auto_register: Option<Flag>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenDelivery {
    pub(super) mode: Option<String>,
}

/// Those of the parking lot; the others are documented and not built yet.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenLimits {
    pub(super) memory: Option<Text>,
    pub(super) parked_keys: Option<Number>,
    pub(super) parked_rows: Option<Number>,
    pub(super) parked_bytes: Option<Size>,
    pub(super) parked_ratio: Option<Percent>,
    pub(super) batch_bytes: Option<Text>,
    pub(super) batch_events: Option<Text>,
    pub(super) frame_bytes_max: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenSource {
    pub(super) name: Option<String>,
    pub(super) url: Option<SecretString>,
    pub(super) password: Option<SecretString>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) tls: Option<String>,
    pub(super) tls_ca_file: Option<PathBuf>,
    pub(super) slot: Option<String>,
    pub(super) publication: Option<String>,
    pub(super) outbox: WrittenOutbox,
    pub(super) route: Vec<WrittenRoute>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenOutbox {
    pub(super) table: Option<String>,
    pub(super) preset: Option<String>,
    pub(super) columns: WrittenColumns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenColumns {
    pub(super) id: Option<String>,
    pub(super) aggregate_type: Option<String>,
    pub(super) aggregate_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) payload: Option<String>,
    pub(super) headers: Option<String>,
    pub(super) schema_version: Option<String>,
    pub(super) created_at: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenRoute {
    pub(super) r#match: WrittenMatch,
    pub(super) topic: Option<String>,
    pub(super) payload: Option<String>,
    pub(super) on_unpublishable: Option<String>,
    pub(super) dead_letter_topic: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenMatch {
    pub(super) aggregate_type: Option<String>,
    pub(super) event_type: Option<String>,
}

impl WrittenSettings {
    pub(super) fn read(layers: &Layers) -> Result<Self, SettingsError> {
        layers.figment().extract().map_err(|error| explain(&error, layers))
    }
}

/// The first error in our words. figment quotes the value of a wrong type, which may be a secret:
/// only the expectation is taken over.
fn explain(error: &figment::Error, layers: &Layers) -> SettingsError {
    let path = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(field, known) => {
            // figment ends the path with the unknown field itself.
            let key = path;
            let nearest = nearest(field, known).map(str::to_owned);
            SettingsError::UnknownKey { place: layers.place(&key), key, nearest }
        }
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => SettingsError::Value {
            place: layers.place(&path),
            key: path,
            expected: expected.clone(),
        },
        Kind::Message(message) => SettingsError::Value {
            place: layers.place(&path),
            key: path,
            expected: message.strip_prefix("expected ").unwrap_or("another value").to_owned(),
        },
        _ => SettingsError::Value {
            place: layers.place(&path),
            key: path,
            expected: "another value".to_owned(),
        },
    }
}

/// The known name with the smallest edit distance, if it is small enough to be meant.
pub(super) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let by_distance = known.iter().map(|name| (strsim::damerau_levenshtein(found, name), *name));
    let (distance, name) = by_distance.min()?;
    (distance <= 2 || distance * 3 <= found.len()).then_some(name)
}
