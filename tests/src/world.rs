//! Everything of one test in one place: a database, a prefix for topics, a configuration.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::avro::Decoder;
use crate::oracle::{Form, Verdict, judge};
use crate::postgres::PayloadType;
use crate::registry::Registry;
use crate::relay::Ended;
use crate::{Cluster, Database, Record, Relay, relay, stack, unique};

/// How long a drain of what a test wrote may take.
const DRAIN: Duration = Duration::from_secs(180);

/// One source and what it needs. Topics are deleted and the database is dropped at the end.
#[derive(Debug)]
pub struct World {
    pub database: Database,
    pub cluster: Cluster,
    pub registry: Registry,
    /// Starts the name of every topic: `{prefix}.{aggregate_type}`.
    pub prefix: String,
    /// The name of the one source: its own, because it names the position topic.
    pub name: String,
    is_prepared: AtomicBool,
    /// Whether the relay may make topics.
    pub creates_topics: bool,
    /// Of the topics that the relay makes.
    pub replication_factor: u16,
    /// `[kafka]` without its brokers, and other sections.
    pub general: String,
    /// Further keys of `[[source]]`, its tables included.
    pub source: String,
    /// The address that the relay is given, with the role for relays unless a test changes it.
    pub url: String,
    /// The brokers that the relay is given; the harness's own unless a test changes it.
    pub brokers: String,
    /// The registry's address that the relay is given, where its routes need one.
    pub registry_url: Option<String>,
    /// Further keys of `[registry]`.
    pub registry_more: String,
}

impl World {
    /// On the shared servers.
    pub fn new(label: &str, payload: PayloadType, form: &str) -> Self {
        let database = Database::new(&stack().postgres, label, payload);
        Self::with(database, Cluster::new(&stack().kafka), form)
    }

    /// With jsonb in the table and plain JSON in the records.
    pub fn json(label: &str) -> Self {
        Self::new(label, PayloadType::Jsonb, "json")
    }

    /// The same, with a route that parks what cannot be published, as routes do by default.
    pub fn parking(mut self) -> Self {
        self.source = self.source.replace("on_unpublishable = \"stop\"\n", "");
        self
    }

    /// What `walpost parked` says to these arguments.
    pub fn parked(&self, arguments: &[&str]) -> Ended {
        let arguments: Vec<&str> = ["parked"].iter().chain(arguments).copied().collect();
        relay::verb(&arguments, Some(&self.config()), "")
    }

    /// Parked events as `walpost parked list` shows them: id, aggregate id and code.
    #[track_caller]
    pub fn parked_events(&self) -> Vec<(String, String, String)> {
        let listed = self.parked(&["list", "--limit", "100000", "--output", "json"]);
        assert_eq!(listed.code, Some(0), "{}", listed.log);
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("json");
        let text = |event: &serde_json::Value, name: &str| {
            event[name].as_str().unwrap_or("(none)").to_owned()
        };
        let events = listed["events"].as_array().expect("events").iter();
        events
            .map(|event| {
                (text(event, "event_id"), text(event, "aggregate_id"), text(event, "code"))
            })
            .collect()
    }

    /// With jsonb in the table and Avro in the records.
    pub fn avro(label: &str) -> Self {
        Self::new(label, PayloadType::Jsonb, "avro")
    }

    /// On servers that the test chose; `form` is the payload form of the one route.
    pub fn with(database: Database, cluster: Cluster, form: &str) -> Self {
        let prefix = unique("t").replace('_', "-");
        let route = format!(
            "[[source.route]]\ntopic = \"{prefix}.{{aggregate_type}}\"\npayload = \"{form}\"\n\
             on_unpublishable = \"stop\"\n"
        );
        Self {
            name: format!("s-{prefix}"),
            is_prepared: AtomicBool::new(false),
            url: database.relay_url(),
            brokers: cluster.bootstrap.clone(),
            database,
            cluster,
            registry: Registry::new(&stack().registry),
            prefix,
            creates_topics: true,
            replication_factor: 1,
            general: String::new(),
            source: route,
            registry_more: String::new(),
            registry_url: form.starts_with("avro").then(|| stack().registry.clone()),
        }
    }

    /// `[[source]]` as written.
    pub fn source_toml(&self, name: &str) -> String {
        let Database { slot, publication, .. } = &self.database;
        format!(
            "[[source]]\nname = \"{name}\"\nurl = \"{}\"\nslot = \"{slot}\"\n\
             publication = \"{publication}\"\n{}\n",
            self.url, self.source
        )
    }

    /// Everything before the first `[[source]]`.
    pub fn general_toml(&self) -> String {
        let registry = match &self.registry_url {
            Some(url) => format!(
                "[registry]\nurl = \"{url}\"\nrefresh_interval = \"1s\"\n{}\n",
                self.registry_more
            ),
            None => String::new(),
        };
        format!(
            "[admin]\nlisten = \"127.0.0.1:0\"\n{registry}\
             [kafka]\nbootstrap_servers = \"{}\"\ncreate_topics = {}\npartitions = 3\n\
             replication_factor = {}\n{}\n",
            self.brokers, self.creates_topics, self.replication_factor, self.general
        )
    }

    /// The name of a series of this world's source, written with `SOURCE` for the source's name.
    pub fn series(&self, written: &str) -> String {
        written.replace("SOURCE", &self.name)
    }

    pub fn config(&self) -> String {
        format!("{}{}", self.general_toml(), self.source_toml(&self.name))
    }

    /// The same for whoever prepares the database, with the harness's own role.
    pub fn config_of_owner(&self) -> String {
        self.config().replace(&self.url, &self.database.url())
    }

    /// Starts the relay; before its first start the source is prepared, as far as it can be.
    pub fn start(&self) -> Relay {
        self.start_with(&[])
    }

    /// As [`Self::start`], with environment variables.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Relay {
        if !self.is_prepared.swap(true, Ordering::Relaxed) {
            let ended = self.run_init();
            eprintln!("walpost init: {:?}\n{}{}", ended.code, ended.stdout, ended.log);
        }
        Relay::start_with(&self.config(), environment)
    }

    /// Prepares the source as a person does before the first start. A test that breaks something
    /// before the relay starts does this first: else the relay's start would mend it.
    #[track_caller]
    pub fn init(&self) {
        self.is_prepared.store(true, Ordering::Relaxed);
        let ended = self.run_init();
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.log);
    }

    /// With the harness's own role and way to the brokers, whatever the relay gets.
    fn run_init(&self) -> Ended {
        let source = self.source_toml(&self.name);
        let source = source.replace(&self.url, &self.database.url());
        let own = |line: &&str| !line.starts_with("password_file") && !line.starts_with("tls");
        let source: Vec<&str> = source.lines().filter(own).collect();
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\nreplication_factor = {}\n\
             [registry]\nurl = \"{}\"\n{}\n",
            self.cluster.bootstrap,
            self.replication_factor,
            stack().registry,
            source.join("\n")
        );
        let ended = relay::verb(&["init"], Some(&config), "");
        if ended.code == Some(0) {
            self.database.grant_to_relays();
        }
        ended
    }

    /// Starts and waits until it streams.
    #[track_caller]
    pub fn streaming(&self) -> Relay {
        let relay = self.start();
        relay.wait_state(&self.name, "streaming");
        relay
    }

    /// Waits until the relay has confirmed everything that was written so far.
    #[track_caller]
    pub fn drained(&self, relay: &Relay) {
        relay::wait_confirmed(&self.database, relay, DRAIN);
    }

    pub fn records(&self) -> Vec<Record> {
        self.cluster.read(&format!("{}.", self.prefix))
    }

    /// The records of one aggregate type.
    pub fn records_of(&self, aggregate_type: &str) -> Vec<Record> {
        self.cluster.read(&self.topic(aggregate_type))
    }

    pub fn topic(&self, aggregate_type: &str) -> String {
        format!("{}.{aggregate_type}", self.prefix)
    }

    /// The subject of an event type, as the default strategy names it.
    pub fn subject(&self, aggregate_type: &str, event_type: &str) -> String {
        format!("{}-{event_type}", self.topic(aggregate_type))
    }

    pub fn decoder(&self) -> Decoder {
        Decoder::new(&self.registry)
    }

    #[track_caller]
    pub fn judge(&self, form: &Form<'_>) -> Verdict {
        judge(&self.database.truth(), &self.records(), form)
    }

    /// Writes one event.
    #[track_caller]
    pub fn write(&self, aggregate: (&str, &str), event_type: &str, body: &str) {
        let (kind, id) = aggregate;
        self.database.run(&format!("SELECT write_event('{kind}', '{id}', '{event_type}', {body})"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let is_shared = self.cluster.bootstrap == stack().kafka;
        if is_shared && !std::thread::panicking() {
            let topics = self.cluster.topics(&format!("{}.", self.prefix));
            self.cluster.delete(&topics.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
        }
    }
}
