//! `walpost config show`: every setting with its value and origin, secrets masked.

use super::layers::{KEYS_OF_FILES, Layers, Origin};
use super::{RegistryAuth, Settings};

/// One setting as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownValue {
    /// Its path, sources and routes by number.
    pub key: String,
    /// Its value; `***` for a secret, whatever its length.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

const MASK: &str = "***";

/// The settings as lines of `key = value    # origin`.
pub fn show(values: &[ShownValue]) -> String {
    let width = values.iter().map(|shown| shown.key.len() + shown.value.len()).max().unwrap_or(0);
    let line = |shown: &ShownValue| {
        let text = format!("{} = {}", shown.key, shown.value);
        format!("{text:<width$}  # {}\n", shown.origin, width = width + 3)
    };
    values.iter().map(line).collect()
}

pub(super) fn collect(settings: &Settings, layers: &Layers) -> Vec<ShownValue> {
    let mut values = Vec::new();
    let mut add = |key: String, value: String| {
        let origin = origin_of(layers, &key);
        values.push(ShownValue { key, value, origin });
    };
    let masked = |is_set: bool| if is_set { MASK.to_owned() } else { "(none)".to_owned() };
    add("admin.listen".to_owned(), settings.admin.listen.to_string());
    add("admin.token".to_owned(), masked(settings.admin.token.is_some()));
    add("admin.insecure".to_owned(), settings.admin.is_insecure.to_string());
    let kafka = &settings.kafka;
    add("kafka.bootstrap_servers".to_owned(), kafka.bootstrap_servers.clone());
    add("kafka.security".to_owned(), kafka.security.clone());
    add("kafka.username".to_owned(), kafka.username.clone().unwrap_or("(none)".to_owned()));
    add("kafka.password".to_owned(), masked(kafka.password.is_some()));
    add("kafka.create_topics".to_owned(), kafka.create_topics.to_string());
    add("kafka.partitions".to_owned(), kafka.partitions.to_string());
    add("kafka.replication_factor".to_owned(), kafka.replication_factor.to_string());
    for (name, value) in &kafka.properties {
        // A property may hold a secret (ssl.key.password): its name decides.
        let telling = ["password", "secret", "pem", "jaas", "token"];
        let is_secret = telling.iter().any(|part| name.contains(part));
        let value = if is_secret { MASK.to_owned() } else { value.clone() };
        add(format!("kafka.properties.{name}"), value);
    }
    if let Some(registry) = &settings.registry {
        add("registry.url".to_owned(), without_password(&registry.url));
        let auth = match &registry.auth {
            RegistryAuth::None => "(none)".to_owned(),
            RegistryAuth::Basic { username, .. } => format!("basic as {username}, {MASK}"),
            RegistryAuth::Bearer(_) => format!("bearer {MASK}"),
        };
        add("registry.auth".to_owned(), auth);
        let interval = format!("{} s", registry.refresh_interval.as_secs());
        add("registry.refresh_interval".to_owned(), interval);
    }
    add("schemas.dir".to_owned(), settings.schemas.dir.display().to_string());
    let namespace = settings.schemas.naming.namespace.clone();
    add("schemas.namespace".to_owned(), namespace.unwrap_or("(none)".to_owned()));
    add("schemas.auto_register".to_owned(), settings.schemas.auto_register.to_string());
    for (index, source) in settings.sources.iter().enumerate() {
        let key = |name: &str| format!("source.{index}.{name}");
        add(key("name"), source.name.clone());
        add(key("url"), format!("postgres://{}@{}", source.address.user(), source.address));
        add(key("password"), masked(source.address.password().is_some()));
        add(key("tls"), format!("{:?}", source.address.tls_mode()).to_lowercase());
        add(key("slot"), source.slot.clone());
        add(key("publication"), source.publication.clone());
        add(key("outbox.table"), source.table.clone());
        for (number, route) in source.routes.iter().enumerate() {
            add(key(&format!("route.{number}.topic")), route.topic.to_string());
            let form = format!("{:?}", route.payload).to_lowercase();
            add(key(&format!("route.{number}.payload")), form);
        }
    }
    values
}

/// A secret may have come from its `_file` key.
fn origin_of(layers: &Layers, key: &str) -> Origin {
    let from_file = format!("{key}_file");
    let name = from_file.rsplit('.').next().unwrap_or_default();
    match layers.origin(key) {
        Origin::Default if KEYS_OF_FILES.contains(&name) => layers.origin(&from_file),
        origin => origin,
    }
}

/// `http://user:secret@host` keeps its user and loses its secret.
pub fn without_password(url: &str) -> String {
    let hide = |one: &str| match one.split_once("://").and_then(|(scheme, rest)| {
        let (user, host) = rest.split_once('@')?;
        let user = user.split(':').next().unwrap_or_default();
        Some(format!("{scheme}://{user}:{MASK}@{host}"))
    }) {
        Some(hidden) => hidden,
        None => one.to_owned(),
    };
    url.split(',').map(hide).collect::<Vec<_>>().join(",")
}
