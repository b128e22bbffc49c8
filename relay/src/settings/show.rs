//! `walpost config show`: every setting with its value and origin, secrets masked.

use super::layers::{KEYS_OF_FILES, Layers, Origin};
use super::{
    AdminSettings, RegistryAuth, RegistrySettings, SchemaSettings, Settings, SourceSettings,
};
use crate::kafka::KafkaSettings;
use crate::park::LotLimits;
use crate::route::Unpublishable;

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
const NONE: &str = "(none)";

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
    let mut list = List { layers, values: Vec::new() };
    list.admin(&settings.admin);
    list.kafka(&settings.kafka);
    if let Some(registry) = &settings.registry {
        list.registry(registry);
    }
    list.schemas(&settings.schemas);
    for (index, source) in settings.sources.iter().enumerate() {
        list.source(index, source);
    }
    if let Some(source) = settings.sources.first() {
        list.limits(source.lot);
    }
    list.values
}

struct List<'a> {
    layers: &'a Layers,
    values: Vec<ShownValue>,
}

fn masked(is_set: bool) -> String {
    if is_set { MASK.to_owned() } else { NONE.to_owned() }
}

fn or_none(value: Option<&str>) -> String {
    value.unwrap_or(NONE).to_owned()
}

impl List<'_> {
    fn add(&mut self, key: impl Into<String>, value: impl ToString) {
        let (key, value) = (key.into(), value.to_string());
        let origin = origin_of(self.layers, &key);
        self.values.push(ShownValue { key, value, origin });
    }

    fn admin(&mut self, admin: &AdminSettings) {
        let mut hosts: Vec<&str> = admin.hosts.iter().map(String::as_str).collect();
        hosts.sort_unstable();
        self.add("admin.listen", admin.listen);
        self.add("admin.token", masked(admin.token.is_some()));
        self.add("admin.insecure", admin.is_insecure);
        self.add("admin.hosts", format!("[{}]", hosts.join(", ")));
    }

    fn kafka(&mut self, kafka: &KafkaSettings) {
        self.add("kafka.bootstrap_servers", &kafka.bootstrap_servers);
        self.add("kafka.security", &kafka.security);
        self.add("kafka.mechanism", &kafka.mechanism);
        self.add("kafka.username", or_none(kafka.username.as_deref()));
        self.add("kafka.password", masked(kafka.password.is_some()));
        let ca_file = kafka.tls_ca_file.as_ref().map(|path| path.display().to_string());
        self.add("kafka.tls_ca_file", or_none(ca_file.as_deref()));
        self.add("kafka.create_topics", kafka.create_topics);
        self.add("kafka.partitions", kafka.partitions);
        self.add("kafka.replication_factor", kafka.replication_factor);
        for (name, value) in &kafka.properties {
            // A property may hold a secret (ssl.key.password): its name decides.
            let telling = ["password", "secret", "pem", "jaas", "token"];
            let is_secret = telling.iter().any(|part| name.contains(part));
            let value = if is_secret { MASK } else { value };
            self.add(format!("kafka.properties.{name}"), value);
        }
    }

    fn registry(&mut self, registry: &RegistrySettings) {
        self.add("registry.url", without_password(&registry.url));
        let auth = match &registry.auth {
            RegistryAuth::None => NONE.to_owned(),
            RegistryAuth::Basic { username, .. } => format!("basic as {username}, {MASK}"),
            RegistryAuth::Bearer(_) => format!("bearer {MASK}"),
        };
        self.add("registry.auth", auth);
        let ca_file = registry.authorities.as_ref().map(|(path, _)| path.display().to_string());
        self.add("registry.tls_ca_file", or_none(ca_file.as_deref()));
        self.add("registry.refresh_interval", format!("{:?}", registry.refresh_interval));
    }

    fn schemas(&mut self, schemas: &SchemaSettings) {
        let naming = &schemas.naming;
        self.add("schemas.dir", schemas.dir.display());
        self.add("schemas.namespace", or_none(naming.namespace.as_deref()));
        self.add("schemas.subject_strategy", naming.subject_strategy.as_str());
        self.add("schemas.auto_register", schemas.auto_register);
        let mut types: Vec<_> = naming.types.iter().collect();
        types.sort_unstable();
        for (event_type, record) in types {
            self.add(format!("schemas.types.{event_type}"), record);
        }
        let mut versions: Vec<_> = naming.versions.iter().collect();
        versions.sort_unstable();
        for (event_type, version) in versions {
            self.add(format!("schemas.versions.{event_type}"), version);
        }
    }

    fn source(&mut self, index: usize, source: &SourceSettings) {
        let key = |name: &str| format!("source.{index}.{name}");
        let address = &source.address;
        self.add(key("name"), &source.name);
        self.add(key("url"), format!("postgres://{}@{address}", address.user()));
        self.add(key("password"), masked(address.password().is_some()));
        self.add(key("tls"), address.tls_mode().as_str());
        let ca_file = address.ca_file().map(|path| path.display().to_string());
        self.add(key("tls_ca_file"), or_none(ca_file.as_deref()));
        self.add(key("slot"), &source.slot);
        self.add(key("publication"), &source.publication);
        self.add(key("outbox.table"), &source.table);
        let fields = ["id", "aggregate_type", "aggregate_id", "event_type", "payload"];
        let fields = fields.into_iter().chain(["headers", "schema_version", "created_at"]);
        for (field, (column, _)) in fields.zip(source.columns.in_field_order()) {
            self.add(key(&format!("outbox.columns.{field}")), column);
        }
        for (number, route) in source.routes.iter().enumerate() {
            let key = |name: &str| key(&format!("route.{number}.{name}"));
            let any = |wanted: &Option<String>| wanted.clone().unwrap_or("(any)".to_owned());
            self.add(key("match.aggregate_type"), any(&route.aggregate_type));
            self.add(key("match.event_type"), any(&route.event_type));
            self.add(key("topic"), &route.topic);
            self.add(key("payload"), route.payload.as_str());
            let (policy, dead_letters) = match &route.on_unpublishable {
                Unpublishable::Park => ("park", NONE.to_owned()),
                Unpublishable::Stop => ("stop", NONE.to_owned()),
                Unpublishable::DeadLetter(topic) => ("dead-letter", topic.to_string()),
            };
            self.add(key("on_unpublishable"), policy);
            self.add(key("dead_letter_topic"), dead_letters);
        }
    }

    fn limits(&mut self, lot: LotLimits) {
        self.add("limits.parked_keys", lot.keys);
        self.add("limits.parked_rows", lot.rows);
        self.add("limits.parked_bytes", lot.bytes);
        self.add("limits.parked_ratio", format!("{}%", lot.ratio_percent));
    }
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

/// `http://user:secret@host` keeps its user and loses its secret, which may hold an `@` itself.
pub fn without_password(url: &str) -> String {
    let hide = |one: &str| match one.split_once("://").and_then(|(scheme, rest)| {
        let (user, host) = rest.rsplit_once('@')?;
        let user = user.split(':').next().unwrap_or_default();
        Some(format!("{scheme}://{user}:{MASK}@{host}"))
    }) {
        Some(hidden) => hidden,
        None => one.to_owned(),
    };
    url.split(',').map(hide).collect::<Vec<_>>().join(",")
}
