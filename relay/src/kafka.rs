//! The Kafka cluster: as configured in, client settings and facts about topics out.
//!
//! The settings that the promises rest on are forced; a user who sets one of them is refused by
//! name instead of being overruled in silence. Topics are made here or by `walpost init`, with the
//! configured number of partitions, never by a broker's auto-creation.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use secrecy::ExposeSecret;

use crate::error::{Fault, Peer};
use crate::limits;
use crate::lookup::{Answer, TopicFacts};
use crate::reach;
use crate::secret::Secret;
use crate::watermarks::{self, Edge, Isolation};

/// How long a request about the cluster may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A broker's own default of `max.message.bytes`, for clusters that do not tell.
pub const MESSAGE_BYTES_MAX_DEFAULT: usize = 1_048_588;

/// Settings that a promise rests on, with the value that keeps it.
pub const FORCED: [(&str, &str); 5] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    // A record is never given up by the clock: WAL waits instead.
    ("message.timeout.ms", "0"),
    // A gap in a partition's sequence is fatal instead of silent.
    ("enable.gapless.guarantee", "true"),
    ("allow.auto.create.topics", "false"),
];

/// Other settings of librdkafka that would break a promise or are set from the configuration.
const REFUSED: [&str; 17] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "request.required.acks",
    "delivery.timeout.ms",
    "transactional.id",
    "partitioner",
    "security.protocol",
    "sasl.username",
    "sasl.password",
    "sasl.mechanism",
    "sasl.mechanisms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "retries",
    "message.send.max.retries",
];

/// `[kafka]`, validated.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// `host:port`, comma separated.
    pub bootstrap_servers: String,
    /// plaintext, ssl, sasl_plaintext or sasl_ssl.
    pub security: String,
    /// SASL mechanism, where SASL is used.
    pub mechanism: String,
    /// SASL user.
    pub username: Option<String>,
    /// SASL password; each new client uses it as it is then.
    pub password: Option<Secret>,
    /// The authorities that brokers' certificates must come from; the system's if absent.
    pub tls_ca_file: Option<PathBuf>,
    /// Whether missing topics are made.
    pub create_topics: bool,
    /// Their number of partitions.
    pub partitions: NonZeroU32,
    /// Their replication factor.
    pub replication_factor: u16,
    /// Further settings as librdkafka spells them.
    pub properties: BTreeMap<String, String>,
}

/// A property that may not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kafka property \"{name}\" may not be set: {reason}")]
pub struct PropertyError {
    /// The property.
    pub name: String,
    /// The promise it would break.
    pub reason: &'static str,
}

/// The producer or the brokers failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// librdkafka refused the settings.
    #[error("kafka client cannot be configured: {reason}")]
    Configuration {
        /// Its words.
        reason: String,
    },
    /// No broker answered.
    #[error("kafka at {at} does not answer: {reason}")]
    Unreachable {
        /// The bootstrap servers.
        at: String,
        /// The client's words.
        reason: String,
    },
    /// SASL failed: user, password or mechanism.
    #[error("kafka at {at} does not let user {user} in: {reason}")]
    NotLetIn {
        /// The bootstrap servers.
        at: String,
        /// The configured user.
        user: String,
        /// The client's words.
        reason: String,
    },
    /// TLS failed: certificate, authority, or host name.
    #[error("tls with kafka at {at} failed: {reason}")]
    Tls {
        /// The bootstrap servers.
        at: String,
        /// The client's words.
        reason: String,
    },
    /// The cluster answered with a refusal.
    #[error("kafka refused {what}: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its words.
        reason: String,
    },
    /// A batch was refused; one of its records is at fault, which one the broker does not say.
    #[error("kafka refused a batch for topic \"{topic}\" partition {partition}: {reason}")]
    BatchRefused {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its words.
        reason: String,
    },
    /// The client does not take this record, whatever is in flight.
    #[error("a record for topic \"{topic}\" is not taken by the kafka client: {reason}")]
    RecordRefused {
        /// The topic.
        topic: String,
        /// Its words.
        reason: String,
    },
    /// A record was not delivered, or nobody knows.
    #[error("a record for topic \"{topic}\" partition {partition} was not delivered: {reason}")]
    NotDelivered {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The client's words.
        reason: String,
    },
    /// The producer is in a state that it cannot leave.
    #[error("the kafka producer cannot go on: {reason}")]
    Fatal {
        /// The client's words.
        reason: String,
    },
}

impl BrokerError {
    /// A delivery report that is not an acknowledgement.
    pub fn delivery(topic: &str, partition: i32, error: &KafkaError) -> Self {
        let (topic, reason) = (topic.to_owned(), error.to_string());
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidTimestamp
                | RDKafkaErrorCode::InvalidMessage,
            ) => Self::BatchRefused { topic, partition, reason },
            _ => Self::NotDelivered { topic, partition, reason },
        }
    }

    /// The same for a record that is no event.
    pub fn not_delivered(topic: &str, partition: i32, error: &KafkaError) -> Self {
        Self::NotDelivered { topic: topic.to_owned(), partition, reason: error.to_string() }
    }

    /// A record that the producer itself would not take.
    pub fn refused(topic: &str, partition: i32, error: &KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => Self::Fatal { reason: error.to_string() },
            _ => match Self::delivery(topic, partition, error) {
                Self::BatchRefused { topic, reason, .. } => Self::RecordRefused { topic, reason },
                other => other,
            },
        }
    }

    /// What is done about it: all of it is waited for. A refused batch is sent again record by
    /// record, and the one at fault is parked when it fails alone.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Configuration { .. } => Fault::Stop,
            Self::BatchRefused { .. }
            | Self::RecordRefused { .. }
            | Self::Unreachable { .. }
            | Self::NotLetIn { .. }
            | Self::Tls { .. }
            | Self::Refused { .. }
            | Self::NotDelivered { .. }
            | Self::Fatal { .. } => Fault::Retry(Peer::Kafka),
        }
    }

    /// The name of its page.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Configuration { .. } => "kafka_configuration",
            Self::Unreachable { .. } => "kafka_unreachable",
            Self::NotLetIn { .. } => "kafka_not_let_in",
            Self::Tls { .. } => "kafka_tls",
            Self::Refused { .. } => "kafka_refused",
            Self::BatchRefused { .. } | Self::RecordRefused { .. } => "kafka_batch_refused",
            Self::NotDelivered { .. } | Self::Fatal { .. } => "kafka_delivery_failed",
        }
    }
}

/// Checks the free properties.
pub fn check_properties(properties: &BTreeMap<String, String>) -> Result<(), PropertyError> {
    for name in properties.keys() {
        let refuse = |reason| Err(PropertyError { name: name.clone(), reason });
        if FORCED.iter().any(|(forced, _)| forced == name) {
            return refuse("its value is fixed, because no event may be lost or overtaken");
        }
        if REFUSED.contains(&name.as_str()) {
            return refuse("it is set by another key or its value is fixed");
        }
    }
    Ok(())
}

impl KafkaSettings {
    /// Whether connections to brokers are encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.security.as_str(), "ssl" | "sasl_ssl")
    }

    /// Settings that every client shares: where, who, how.
    pub fn client(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers);
        config.set("client.id", client_id);
        config.set("security.protocol", &self.security);
        if self.security.starts_with("sasl") {
            config.set("sasl.mechanism", &self.mechanism);
        }
        if let Some(username) = &self.username {
            config.set("sasl.username", username);
        }
        if let Some(password) = &self.password {
            config.set("sasl.password", password.now().expose_secret());
        }
        if self.is_encrypted() {
            // The system's authorities are looked for where distributions have them: an OpenSSL
            // that is linked in does not know.
            let file = self.tls_ca_file.as_ref().map(|path| path.display().to_string());
            config.set("ssl.ca.location", file.as_deref().unwrap_or("probe"));
        }
        config.set("allow.auto.create.topics", "false");
        // A broker that comes back is found within a second, whatever time it was away.
        config.set("reconnect.backoff.ms", "50");
        config.set("reconnect.backoff.max.ms", "1000");
        // Certificates and the like concern readers and producers alike; what does not concern a
        // client is passed over by it.
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// Settings of a source's producer.
    pub fn producer(&self, source: &str, batch_bytes: usize) -> ProducerConfig {
        let mut config = self.client(&format!("walpost-{source}"));
        config.set("linger.ms", "1");
        config.set("batch.size", batch_bytes.to_string());
        config.set("batch.num.messages", "10000");
        // A single record up to the frame limit passes here; the topic's own limit is checked
        // before, with a message that names it.
        config.set("message.max.bytes", limits::FRAME_BYTES_MAX.to_string());
        // Above our own bounds, so that a full queue is an exception and not the brake.
        config.set("queue.buffering.max.messages", (limits::PENDING_EVENTS_MAX * 2).to_string());
        let queue_kib = (limits::PENDING_BYTES_MAX + limits::FRAME_BYTES_MAX) / 1024 * 2;
        config.set("queue.buffering.max.kbytes", queue_kib.to_string());
        config.set("statistics.interval.ms", "0");
        // Again, because they win over the settings just made.
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        for (name, value) in FORCED {
            config.set(name, value);
        }
        ProducerConfig { client: config, password: self.password.clone() }
    }
}

/// Settings of a producer. Its password is in them as it was when they were made; the secret tells
/// whether it was rotated since.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    pub(crate) client: ClientConfig,
    password: Option<Secret>,
}

impl ProducerConfig {
    /// Whether the password is another one now.
    pub(crate) fn is_outdated(&self) -> bool {
        let now = self.password.as_ref().map(Secret::now);
        now.as_ref().map(ExposeSecret::expose_secret) != self.client.get("sasl.password")
    }
}

/// Makes topics where the admin protocol cannot: librdkafka's stand-in cluster of `walpost dev`.
pub trait TopicMaker: Send + Sync {
    /// Makes a topic; one that exists is left alone.
    fn make(&self, topic: &str, partitions: NonZeroU32) -> Result<(), String>;
}

/// Finds and makes topics. Questions are rare, so the client lives as long as one of them: an open
/// one would cost an idle relay threads, wake-ups and memory.
pub struct TopicFinder {
    settings: KafkaSettings,
    maker: Option<Arc<dyn TopicMaker>>,
}

/// A client for a question or two. Ending one waits for its thread, so its last handle is left to
/// a thread that may wait.
struct Admin(Arc<AdminClient<DefaultClientContext>>);

impl Drop for Admin {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let last = Arc::clone(&self.0);
            drop(runtime.spawn_blocking(move || drop(last)));
        }
    }
}

impl std::fmt::Debug for TopicFinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicFinder").field("at", &self.settings.bootstrap_servers).finish()
    }
}

impl TopicFinder {
    /// Checks that a client can be made of the settings; brokers need not be reachable yet.
    pub fn open(settings: &KafkaSettings) -> Result<Self, BrokerError> {
        let finder = Self { settings: settings.clone(), maker: None };
        finder.admin().map(|_checked| finder)
    }

    fn admin(&self) -> Result<Admin, BrokerError> {
        let config = self.settings.client("walpost-topics");
        let client = config
            .create()
            .map_err(|error| BrokerError::Configuration { reason: error.to_string() })?;
        Ok(Admin(Arc::new(client)))
    }

    /// Has topics made by `maker` instead of by the admin protocol.
    pub fn made_by(mut self, maker: Arc<dyn TopicMaker>) -> Self {
        self.maker = Some(maker);
        self
    }

    /// Whether this is librdkafka's stand-in cluster, which drops old data and tells no settings.
    pub fn is_stand_in(&self) -> bool {
        self.maker.is_some()
    }

    /// Whether the cluster answers at all, and why not. The question blocks, so it is asked on a
    /// blocking thread.
    ///
    /// Cancellation-safe: nobody waits for the answer then.
    pub async fn ping(&self) -> Result<(), BrokerError> {
        let settings = self.settings.clone();
        let asked = tokio::task::spawn_blocking(move || reach::knock(&settings, REQUEST_TIMEOUT));
        asked.await.map_err(|error| self.unreachable(error.to_string()))?
    }

    fn unreachable(&self, reason: String) -> BrokerError {
        BrokerError::Unreachable { at: self.settings.bootstrap_servers.clone(), reason }
    }

    /// The facts of a topic and where its partitions end; makes it where that is allowed and it is
    /// missing.
    ///
    /// Cancellation-safe: a topic that is being made is found by the next question.
    pub async fn find(&self, topic: &str) -> Result<Answer, BrokerError> {
        let admin = self.admin()?;
        let mut partitions = self.metadata(&admin, topic).await?;
        if partitions.is_none() && self.settings.create_topics {
            self.make_through(&admin, &self.topic_as_configured(topic)).await?;
            partitions = self.metadata(&admin, topic).await?;
        }
        let Some(partitions) = partitions else { return Ok(Answer::Missing) };
        let message_bytes_max = self.message_bytes_max(&admin, topic).await;
        let ends = self.ends(topic, partitions).await?;
        Ok(Answer::Topic { facts: TopicFacts { partitions, message_bytes_max }, ends })
    }

    /// How many partitions a topic has: `None` where it does not exist. It is never made.
    pub async fn partitions(&self, topic: &str) -> Result<Option<NonZeroU32>, BrokerError> {
        self.metadata(&self.admin()?, topic).await
    }

    /// The cluster's id, where it tells.
    pub async fn cluster_id(&self) -> Result<Option<String>, BrokerError> {
        let client = Arc::clone(&self.admin()?.0);
        let asked =
            tokio::task::spawn_blocking(move || client.inner().fetch_cluster_id(REQUEST_TIMEOUT));
        let found = asked.await.map_err(|error| self.unreachable(error.to_string()))?;
        Ok(found.filter(|_| self.maker.is_none()))
    }

    /// The high watermark of each partition of each topic that exists.
    ///
    /// Cancellation-safe.
    pub async fn partitions_of(
        &self,
        topics: &[Arc<str>],
    ) -> Result<Vec<(Arc<str>, Vec<i64>)>, BrokerError> {
        let admin = self.admin()?;
        let mut found = Vec::new();
        for topic in topics {
            if let Some(partitions) = self.metadata(&admin, topic).await? {
                found.push((Arc::clone(topic), self.ends(topic, partitions).await?));
            }
        }
        Ok(found)
    }

    /// The high watermark of each partition.
    async fn ends(&self, topic: &str, partitions: NonZeroU32) -> Result<Vec<i64>, BrokerError> {
        let (settings, topic) = (self.settings.clone(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let reader = watermarks::open_reader(&settings, Isolation::Uncommitted)?;
            let count = i32::try_from(partitions.get()).unwrap_or(i32::MAX);
            let places: Vec<_> = (0..count).map(|number| (topic.clone(), number)).collect();
            watermarks::edges(&reader, &settings.bootstrap_servers, &places, Edge::End)
        });
        let ends = asked.await.map_err(|error| self.unreachable(error.to_string()))??;
        Ok(ends.into_values().collect())
    }

    /// Makes a topic with the configured partitions; one that exists is left alone.
    pub async fn create(&self, topic: &str) -> Result<(), BrokerError> {
        self.make(&self.topic_as_configured(topic)).await
    }

    fn topic_as_configured<'a>(&self, topic: &'a str) -> NewTopic<'a> {
        let partitions = i32::try_from(self.settings.partitions.get()).unwrap_or(i32::MAX);
        let replication = TopicReplication::Fixed(self.settings.replication_factor.into());
        NewTopic::new(topic, partitions, replication)
    }

    /// Makes a topic; one that exists is left alone.
    pub async fn make(&self, new: &NewTopic<'_>) -> Result<(), BrokerError> {
        self.make_through(&self.admin()?, new).await
    }

    /// As [`make`](Self::make), through a client that is open already.
    async fn make_through(&self, admin: &Admin, new: &NewTopic<'_>) -> Result<(), BrokerError> {
        let refused = |reason: String| BrokerError::Refused {
            what: format!("to make topic \"{}\"", new.name),
            reason,
        };
        if let Some(maker) = &self.maker {
            let partitions = u32::try_from(new.num_partitions).ok().and_then(NonZeroU32::new);
            let partitions = partitions.unwrap_or(NonZeroU32::MIN);
            return maker.make(new.name, partitions).map_err(refused);
        }
        let made = admin.0.create_topics([new], &options()).await;
        match made.map_err(|error| refused(error.to_string()))?.into_iter().next() {
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => {
                // What brokers say does not name the number, and newcomers have one broker.
                let factor = self.settings.replication_factor;
                Err(refused(format!(
                    "the cluster cannot hold {factor} replicas (kafka.replication_factor)"
                )))
            }
            Some(Err((_, code))) => Err(refused(code.to_string())),
        }
    }

    /// The number of partitions of `topic`: `None` where it is missing. librdkafka's call blocks,
    /// so it runs on a blocking thread.
    async fn metadata(
        &self,
        admin: &Admin,
        topic: &str,
    ) -> Result<Option<NonZeroU32>, BrokerError> {
        let (client, name) = (Arc::clone(&admin.0), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            client.inner().fetch_metadata(Some(&name), REQUEST_TIMEOUT)
        });
        let metadata = match asked.await.map_err(|error| self.unreachable(error.to_string()))? {
            Ok(metadata) => metadata,
            Err(error) => {
                // This client cannot tell why.
                self.ping().await?;
                return Err(self.unreachable(error.to_string()));
            }
        };
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {
                let count = u32::try_from(found.partitions().len()).unwrap_or(u32::MAX);
                Ok(NonZeroU32::new(count))
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Ok(None)
            }
            Some(code) => Err(BrokerError::Refused {
                what: format!("a look at topic \"{topic}\""),
                reason: code.to_string(),
            }),
        }
    }

    /// The topic's `max.message.bytes`. A cluster that does not tell (no right to describe, or a
    /// stand-in) gets the broker's default: a smaller limit then shows as a refused batch.
    async fn message_bytes_max(&self, admin: &Admin, topic: &str) -> usize {
        let value = self.setting(admin, topic, "max.message.bytes").await;
        let value = value.ok().flatten().and_then(|value| value.parse().ok());
        value.unwrap_or(MESSAGE_BYTES_MAX_DEFAULT)
    }

    /// A setting of a topic: `None` where the cluster does not tell (no right to describe it, or a
    /// stand-in).
    pub async fn topic_setting(
        &self,
        topic: &str,
        name: &str,
    ) -> Result<Option<String>, BrokerError> {
        self.setting(&self.admin()?, topic, name).await
    }

    async fn setting(
        &self,
        admin: &Admin,
        topic: &str,
        name: &str,
    ) -> Result<Option<String>, BrokerError> {
        if self.maker.is_some() {
            return Ok(None);
        }
        let resource = ResourceSpecifier::Topic(topic);
        let described = admin.0.describe_configs([&resource], &options()).await;
        let described = described.map_err(|error| self.unreachable(error.to_string()))?;
        let config = described.into_iter().next().and_then(Result::ok);
        Ok(config.and_then(|config| config.get(name)?.value.clone()))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT))
}

/// Whether a reader waits the error out by itself.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

/// librdkafka's own log lines: what a person may need is told by our states, so they are DEBUG.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forced_settings_win_over_nothing_because_nobody_may_set_them() {
        for (name, _) in FORCED {
            let properties = BTreeMap::from([(name.to_owned(), "1".to_owned())]);
            assert_eq!(check_properties(&properties).expect_err(name).name, name);
        }
        let fine = BTreeMap::from([("client.rack".to_owned(), "a".to_owned())]);
        assert_eq!(check_properties(&fine), Ok(()));
    }
    #[test]
    fn brokers_are_verified_by_the_named_authorities_or_the_systems() {
        let location = |security: &str, file: Option<&str>| {
            let settings = KafkaSettings {
                bootstrap_servers: "b:1".to_owned(),
                security: security.to_owned(),
                mechanism: "PLAIN".to_owned(),
                username: None,
                password: None,
                tls_ca_file: file.map(PathBuf::from),
                create_topics: false,
                partitions: NonZeroU32::MIN,
                replication_factor: 1,
                properties: BTreeMap::new(),
            };
            settings.client("test").get("ssl.ca.location").map(str::to_owned)
        };
        assert_eq!(location("sasl_ssl", Some("/ca.pem")).as_deref(), Some("/ca.pem"));
        assert_eq!(location("ssl", None).as_deref(), Some("probe"));
        assert_eq!(location("plaintext", None), None);
    }
}
