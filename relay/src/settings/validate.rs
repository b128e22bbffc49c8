//! Checks and defaults: what was written goes in, what can be worked with comes out.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use walpost_schema::envelope::SourceId;

use super::layers::Layers;
use super::written::{
    WrittenAdmin, WrittenAuth, WrittenColumns, WrittenKafka, WrittenLimits, WrittenOutbox,
    WrittenRegistry, WrittenRoute, WrittenSchemas, WrittenSettings, WrittenSource,
};
use super::{
    AdminSettings, ContractSettings, RegistryAuth, RegistrySettings, SchemaSettings, Settings,
    SettingsError, SourceSettings,
};
use crate::database::{DatabaseAddress, TlsMode};
use crate::encode::{SchemaNaming, SubjectStrategy};
use crate::event::{ColumnNames, OptionalColumn};
use crate::kafka::{KafkaSettings, check_properties};
use crate::park::LotLimits;
use crate::position::PositionTopic;
use crate::route::{PayloadForm, RouteRule, TopicTemplate, Unpublishable, check_topic_name};
use crate::secret::Secret;

/// Where metrics and health are served when nothing else is said; loopback only.
const LISTEN_DEFAULT: &str = "127.0.0.1:9464";
/// A newly registered version is used within this time.
const REFRESH_DEFAULT: Duration = Duration::from_secs(30);

pub(super) fn validate(
    written: WrittenSettings,
    layers: &Layers,
) -> Result<Settings, SettingsError> {
    let lot = lot_limits(&written.limits, layers)?;
    match written.delivery.mode.as_deref() {
        None | Some("at-least-once") => {}
        Some("exactly-once") => {
            return Err(not_built(layers, "delivery.mode", "\"exactly-once\""));
        }
        Some(_) => {
            return Err(wrong(layers, "delivery.mode", "\"at-least-once\" or \"exactly-once\""));
        }
    }
    let kafka = kafka(written.kafka, layers)?;
    let registry = registry(written.registry, layers)?;
    let schemas = schemas(written.schemas, layers)?;
    let mut sources = Vec::new();
    let mut names = HashSet::new();
    let mut slots = HashMap::new();
    let refresh = registry.as_ref().map_or(REFRESH_DEFAULT, |registry| registry.refresh_interval);
    for (index, source) in written.source.into_iter().enumerate() {
        let path = format!("source.{index}");
        let source =
            SourceReader { path: &path, layers }.read(source, &kafka, &schemas, refresh, lot)?;
        if !names.insert(source.name.clone()) {
            let rule = format!("two sources are named \"{}\"", source.name);
            return Err(SettingsError::Rule { place: layers.place(&path), rule });
        }
        // Names that differ in signs only have one default slot.
        let slot = (source.address.to_string(), source.slot.clone());
        if let Some(other) = slots.insert(slot, source.name.clone()) {
            let SourceSettings { name, slot, .. } = &source;
            let rule = format!(
                "sources \"{other}\" and \"{name}\" share slot \"{slot}\" of one database, and \
                 one would wait for ever: give it another source.slot"
            );
            return Err(SettingsError::Rule { place: layers.place(&path), rule });
        }
        let needs_registry = source
            .routes
            .iter()
            .any(|route| matches!(route.payload, PayloadForm::Avro | PayloadForm::AvroPassthrough));
        if needs_registry && registry.is_none() {
            let hint = "routes with avro payloads look their schemas up there";
            return Err(SettingsError::Missing { key: "registry.url".to_owned(), hint });
        }
        sources.push(source);
    }
    let admin = admin(written.admin, layers)?;
    Ok(Settings { admin, kafka, registry, schemas, sources, shown: Vec::new() })
}

/// The registry, the schemas and the topics; nothing else need be there.
pub(super) fn contract(
    written: WrittenSettings,
    layers: &Layers,
) -> Result<ContractSettings, SettingsError> {
    let routes = written.source.iter().flat_map(|source| &source.route);
    let templates = routes.filter_map(|route| TopicTemplate::parse(route.topic.as_deref()?).ok());
    let topics = templates.filter_map(|template| template.fixed()).collect();
    let registry = registry(written.registry, layers)?;
    let schemas = schemas(written.schemas, layers)?;
    Ok(ContractSettings { registry, schemas, topics })
}

fn wrong(layers: &Layers, key: &str, expected: &str) -> SettingsError {
    let (place, key) = (layers.place(key), key.to_owned());
    SettingsError::Value { place, key, expected: expected.to_owned() }
}

fn not_built(layers: &Layers, key: &str, value: &str) -> SettingsError {
    let (place, key) = (layers.place(key), key.to_owned());
    SettingsError::NotBuilt { place, key, value: value.to_owned() }
}

fn lot_limits(limits: &WrittenLimits, layers: &Layers) -> Result<LotLimits, SettingsError> {
    let named = [
        ("memory", &limits.memory),
        ("batch_bytes", &limits.batch_bytes),
        ("batch_events", &limits.batch_events),
        ("frame_bytes_max", &limits.frame_bytes_max),
    ];
    if let Some((name, value)) = named.into_iter().find_map(|(name, v)| Some((name, v.as_ref()?))) {
        return Err(not_built(layers, &format!("limits.{name}"), &value.0));
    }
    let default = LotLimits::default();
    Ok(LotLimits {
        keys: limits.parked_keys.map_or(default.keys, |keys| keys.0),
        rows: limits.parked_rows.map_or(default.rows, |rows| rows.0),
        bytes: limits.parked_bytes.map_or(default.bytes, |bytes| bytes.0),
        ratio_percent: limits.parked_ratio.map_or(default.ratio_percent, |ratio| ratio.0),
    })
}

/// A secret written in place, or in a file that a second key names.
fn secret(
    key: &str,
    written: Option<SecretString>,
    file: Option<PathBuf>,
    layers: &Layers,
) -> Result<Option<Secret>, SettingsError> {
    match (written, file) {
        (Some(_), Some(_)) => {
            let rule = format!("{key} and {key}_file are both set");
            Err(SettingsError::Rule { place: layers.place(key), rule })
        }
        (written, None) => Ok(written.map(Secret::written)),
        (None, Some(path)) => Secret::in_file(path.clone()).map(Some).map_err(|error| {
            let (key, reason) = (format!("{key}_file"), error.to_string());
            SettingsError::SecretFile { key, path, reason }
        }),
    }
}

fn admin(written: WrittenAdmin, layers: &Layers) -> Result<AdminSettings, SettingsError> {
    let listen = written.listen.as_deref().unwrap_or(LISTEN_DEFAULT);
    let listen: std::net::SocketAddr = listen
        .parse()
        .map_err(|_| wrong(layers, "admin.listen", "an address such as \"127.0.0.1:9464\""))?;
    let token = secret("admin.token", written.token, written.token_file, layers)?;
    let token = token.map(|token| token.now());
    let is_insecure = written.insecure.is_some_and(|flag| flag.0);
    if !listen.ip().is_loopback() && token.is_none() && !is_insecure {
        let rule = "admin.listen is not loopback: set admin.token_file, or admin.insecure = true";
        let place = layers.place("admin.listen");
        return Err(SettingsError::Rule { place, rule: rule.to_owned() });
    }
    let hosts = written.hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect();
    Ok(AdminSettings { listen, token, is_insecure, hosts })
}

fn kafka(written: WrittenKafka, layers: &Layers) -> Result<KafkaSettings, SettingsError> {
    refuse_unused_security(&written, layers)?;
    let bootstrap_servers = written.bootstrap_servers.ok_or(SettingsError::Missing {
        key: "kafka.bootstrap_servers".to_owned(),
        hint: "the brokers to start from, such as \"localhost:9092\"",
    })?;
    let security = written.security.unwrap_or_else(|| "plaintext".to_owned());
    if !matches!(security.as_str(), "plaintext" | "ssl" | "sasl_plaintext" | "sasl_ssl") {
        let expected = "\"plaintext\", \"ssl\", \"sasl_plaintext\" or \"sasl_ssl\"";
        return Err(wrong(layers, "kafka.security", expected));
    }
    let count = |key: &str, number: Option<u64>, default: u64| {
        let number = u32::try_from(number.unwrap_or(default)).ok().and_then(NonZeroU32::new);
        number.ok_or_else(|| wrong(layers, key, "a number from 1"))
    };
    let partitions = count("kafka.partitions", written.partitions.map(|n| n.0), 6)?;
    let replication = written.replication_factor.map(|number| number.0);
    let replication = count("kafka.replication_factor", replication, 3)?;
    let properties = written.properties.into_iter().map(|(name, value)| (name, value.0)).collect();
    check_properties(&properties).map_err(|error| SettingsError::Rule {
        place: layers.place(&format!("kafka.properties.{}", error.name)),
        rule: error.to_string(),
    })?;
    Ok(KafkaSettings {
        bootstrap_servers,
        security,
        mechanism: written.mechanism.unwrap_or_else(|| "SCRAM-SHA-256".to_owned()),
        username: written.username,
        password: secret("kafka.password", written.password, written.password_file, layers)?,
        tls_ca_file: written.tls_ca_file,
        create_topics: written.create_topics.is_some_and(|flag| flag.0),
        partitions,
        replication_factor: u16::try_from(replication.get())
            .map_err(|_| wrong(layers, "kafka.replication_factor", "a number from 1 to 65535"))?,
        properties,
    })
}

/// Whoever names a user or an authority means SASL or TLS: without them they would be passed over
/// in silence.
fn refuse_unused_security(written: &WrittenKafka, layers: &Layers) -> Result<(), SettingsError> {
    let security = written.security.as_deref().unwrap_or("plaintext");
    let is_sasl = security.starts_with("sasl_");
    let is_encrypted = security.ends_with("ssl");
    let named = [
        ("username", written.username.is_some(), is_sasl),
        ("password", written.password.is_some(), is_sasl),
        ("password_file", written.password_file.is_some(), is_sasl),
        ("mechanism", written.mechanism.is_some(), is_sasl),
        ("tls_ca_file", written.tls_ca_file.is_some(), is_encrypted),
    ];
    if let Some((key, ..)) = named.into_iter().find(|(_, is_set, is_used)| *is_set && !is_used) {
        let rule = format!("kafka.{key} is set, and kafka.security = \"{security}\" uses none");
        return Err(SettingsError::Rule { place: layers.place(&format!("kafka.{key}")), rule });
    }
    let location = "ssl.ca.location";
    if written.tls_ca_file.is_some() && written.properties.contains_key(location) {
        let rule = format!("kafka.tls_ca_file and kafka.properties.\"{location}\" are both set");
        return Err(SettingsError::Rule { place: layers.place("kafka.tls_ca_file"), rule });
    }
    Ok(())
}

fn registry(
    written: WrittenRegistry,
    layers: &Layers,
) -> Result<Option<RegistrySettings>, SettingsError> {
    let Some(url) = written.url else { return Ok(None) };
    let is_http = |one: &str| one.starts_with("http://") || one.starts_with("https://");
    if !url.split(',').all(|one| is_http(one.trim())) {
        return Err(wrong(layers, "registry.url", "an http:// or https:// address"));
    }
    let authorities = written.tls_ca_file.map(|path| match std::fs::read(&path) {
        Ok(pem) => Ok((path, pem)),
        Err(error) => {
            let (key, reason) = ("registry.tls_ca_file".to_owned(), error.to_string());
            Err(SettingsError::SecretFile { key, path, reason })
        }
    });
    Ok(Some(RegistrySettings {
        url,
        authorities: authorities.transpose()?,
        auth: registry_auth(written.auth.unwrap_or_default(), layers)?,
        refresh_interval: written.refresh_interval.map_or(REFRESH_DEFAULT, |time| time.0),
    }))
}

fn registry_auth(written: WrittenAuth, layers: &Layers) -> Result<RegistryAuth, SettingsError> {
    let password =
        secret("registry.auth.password", written.password, written.password_file, layers)?;
    let token = secret("registry.auth.token", written.token, written.token_file, layers)?;
    match (written.username, password, token) {
        (None, None, None) => Ok(RegistryAuth::None),
        (Some(username), Some(password), None) => Ok(RegistryAuth::Basic { username, password }),
        (None, None, Some(token)) => Ok(RegistryAuth::Bearer(token)),
        _ => Err(SettingsError::Rule {
            place: layers.place("registry.auth"),
            rule: "registry.auth is username with password_file, or token_file".to_owned(),
        }),
    }
}

fn schemas(written: WrittenSchemas, layers: &Layers) -> Result<SchemaSettings, SettingsError> {
    let subject_strategy = match written.subject_strategy.as_deref() {
        None | Some("topic-record") => SubjectStrategy::TopicRecord,
        Some("record") => SubjectStrategy::Record,
        Some("topic") => SubjectStrategy::Topic,
        Some(_) => {
            let expected = "\"topic-record\", \"record\" or \"topic\"";
            return Err(wrong(layers, "schemas.subject_strategy", expected));
        }
    };
    let mut versions = std::collections::HashMap::new();
    for (event_type, version) in written.versions {
        let key = format!("schemas.versions.{event_type}");
        let version = u32::try_from(version.0).ok().filter(|version| *version > 0);
        let version = version.ok_or_else(|| wrong(layers, &key, "a version from 1"))?;
        versions.insert(event_type, version);
    }
    Ok(SchemaSettings {
        dir: written.dir.unwrap_or_else(|| PathBuf::from("schemas")),
        naming: SchemaNaming {
            namespace: written.namespace,
            types: written.types.into_iter().collect(),
            versions,
            subject_strategy,
        },
        auto_register: written.auto_register.is_some_and(|flag| flag.0),
    })
}

/// Reads one `[[source]]`; `path` is its place in the tree.
struct SourceReader<'a> {
    path: &'a str,
    layers: &'a Layers,
}

impl SourceReader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    fn read(
        &self,
        written: WrittenSource,
        kafka: &KafkaSettings,
        schemas: &SchemaSettings,
        refresh_interval: Duration,
        lot: LotLimits,
    ) -> Result<SourceSettings, SettingsError> {
        let name = written.name.ok_or_else(|| SettingsError::Missing {
            key: self.key("name"),
            hint: "it names the source in headers, metrics and log lines",
        })?;
        SourceId::try_new(&name, 1).map_err(|error| {
            let (place, rule) = (self.layers.place(&self.key("name")), error.to_string());
            SettingsError::Rule { place, rule }
        })?;
        check_topic_name(&PositionTopic::name_of(&name)).map_err(|error| {
            let (place, rule) = (self.layers.place(&self.key("name")), error.to_string());
            SettingsError::Rule { place, rule: format!("it names the position topic: {rule}") }
        })?;
        let url = written.url.ok_or_else(|| SettingsError::Missing {
            key: self.key("url"),
            hint: "its database, such as \"postgres://walpost@localhost/shop\"",
        })?;
        let in_address = |error| SettingsError::Address { name: name.clone(), error };
        let tls = written.tls.as_deref().map(str::parse::<TlsMode>).transpose();
        let tls = tls.map_err(in_address)?;
        let key = self.key("password");
        let password = secret(&key, written.password, written.password_file, self.layers)?;
        let address = DatabaseAddress::try_new(&url, password, tls, written.tls_ca_file)
            .map_err(in_address)?;
        let plain_name =
            name.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let slot = written.slot.unwrap_or_else(|| format!("walpost_{plain_name}"));
        let is_slot_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if slot.is_empty() || slot.len() > 63 || !slot.chars().all(is_slot_name) {
            let expected = "at most 63 lower case letters, digits and underscores";
            return Err(wrong(self.layers, &self.key("slot"), expected));
        }
        Ok(SourceSettings {
            publication: written.publication.unwrap_or_else(|| format!("walpost_{plain_name}")),
            slot,
            table: written.outbox.table.clone().unwrap_or_else(|| "public.outbox".to_owned()),
            columns: self.columns(written.outbox)?,
            routes: self.routes(written.route)?,
            name,
            address,
            kafka: kafka.clone(),
            naming: schemas.naming.clone(),
            refresh_interval,
            lot,
        })
    }

    fn columns(&self, outbox: WrittenOutbox) -> Result<ColumnNames, SettingsError> {
        let mut names = match outbox.preset.as_deref() {
            None | Some("walpost") => ColumnNames::default(),
            Some("debezium") => ColumnNames {
                aggregate_type: "aggregatetype".to_owned(),
                aggregate_id: "aggregateid".to_owned(),
                event_type: "type".to_owned(),
                ..ColumnNames::default()
            },
            Some(_) => {
                let key = self.key("outbox.preset");
                return Err(wrong(self.layers, &key, "\"walpost\" or \"debezium\""));
            }
        };
        let WrittenColumns {
            id,
            aggregate_type,
            aggregate_id,
            event_type,
            payload,
            headers,
            schema_version,
            created_at,
        } = outbox.columns;
        let set = |name: &mut String, written: Option<String>| {
            if let Some(written) = written {
                *name = written;
            }
        };
        let demand = |column: &mut OptionalColumn, written: Option<String>| {
            if let Some(name) = written {
                *column = OptionalColumn { name, is_demanded: true };
            }
        };
        set(&mut names.id, id);
        set(&mut names.aggregate_type, aggregate_type);
        set(&mut names.aggregate_id, aggregate_id);
        set(&mut names.event_type, event_type);
        set(&mut names.payload, payload);
        demand(&mut names.headers, headers);
        demand(&mut names.schema_version, schema_version);
        demand(&mut names.created_at, created_at);
        Ok(names)
    }

    fn routes(&self, written: Vec<WrittenRoute>) -> Result<Vec<RouteRule>, SettingsError> {
        if written.is_empty() {
            return Ok(vec![self.route(WrittenRoute::default(), "route")?]);
        }
        let numbered = written.into_iter().enumerate();
        numbered.map(|(index, route)| self.route(route, &format!("route.{index}"))).collect()
    }

    fn route(&self, written: WrittenRoute, name: &str) -> Result<RouteRule, SettingsError> {
        let key = |part: &str| self.key(&format!("{name}.{part}"));
        let payload = match written.payload.as_deref() {
            None | Some("avro") => PayloadForm::Avro,
            Some("avro-passthrough") => PayloadForm::AvroPassthrough,
            Some("json") => PayloadForm::Json,
            Some("bytes") => PayloadForm::Bytes,
            Some(_) => {
                let expected = "\"avro\", \"avro-passthrough\", \"json\" or \"bytes\"";
                return Err(wrong(self.layers, &key("payload"), expected));
            }
        };
        let topic = written.topic.unwrap_or_else(|| "events.{aggregate_type}".to_owned());
        let rule = |rule: String| {
            let place = self.layers.place(&key("topic"));
            SettingsError::Rule { place, rule }
        };
        let template = |text: &str| {
            let template = TopicTemplate::parse(text).map_err(|error| rule(error.to_string()))?;
            if let Some(fixed) = template.fixed() {
                check_topic_name(&fixed).map_err(|error| rule(error.to_string()))?;
            }
            Ok(template)
        };
        let topic = template(&topic)?;
        let dead_letters = written.dead_letter_topic.as_deref().map(template).transpose()?;
        let on_unpublishable = match (written.on_unpublishable.as_deref(), dead_letters) {
            (Some("dead-letter"), Some(topic)) => Unpublishable::DeadLetter(topic),
            (Some("dead-letter"), None) => {
                let (key, hint) = (key("dead_letter_topic"), "dead letters go there");
                return Err(SettingsError::Missing { key, hint });
            }
            (_, Some(_)) => {
                let rule = "dead_letter_topic is used with on_unpublishable = \"dead-letter\"";
                let place = self.layers.place(&key("dead_letter_topic"));
                return Err(SettingsError::Rule { place, rule: rule.to_owned() });
            }
            (None | Some("park"), None) => Unpublishable::Park,
            (Some("stop"), None) => Unpublishable::Stop,
            (Some(_), None) => {
                let expected = "\"park\", \"stop\" or \"dead-letter\"";
                return Err(wrong(self.layers, &key("on_unpublishable"), expected));
            }
        };
        Ok(RouteRule {
            aggregate_type: written.r#match.aggregate_type,
            event_type: written.r#match.event_type,
            topic,
            payload,
            on_unpublishable,
        })
    }
}
