//! What a person may set, with its default; bounds for everything that grows (I7).

use std::collections::BTreeMap;
use std::time::Duration;

use super::backoff::Backoff;
use super::error::RunError;
use crate::store::Limits;

/// How the runtime behaves.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Transactions at the same time, each with a connection. Default 8.
    pub workers: usize,
    /// Events in one transaction at most. 1 gives each its own. Default 100.
    pub batch_max: usize,
    /// How often a handler is tried before its key is parked. Default 4.
    pub attempts: u32,
    /// How many processes may end while one event alone is handled, before its key is parked. Only
    /// after one ended with work under way is anything counted. Default 3.
    pub deaths_max: u32,
    /// Waits between attempts. Default 50 ms to 2 s.
    pub backoff: Backoff,
    /// For one call of a handler; a missed deadline is an attempt. Default 30 s.
    pub handler_deadline: Duration,
    /// For an answer of the database to a statement of the inbox's own, the claim's locks and
    /// COMMIT included. After it the connection is given up, and the batch goes again on another: a
    /// server that is gone may say nothing for hours. Default 60 s.
    pub answer_deadline: Duration,
    /// For a lock, such as that of another instance's copy of the same event. Default 2 s.
    pub lock_timeout: Duration,
    /// A key whose handler takes longer gets transactions of its own. Default 100 ms.
    pub slow_after: Duration,
    /// For what is under way when the consumer ends or loses partitions. Default 10 s.
    pub drain_deadline: Duration,
    /// Bytes of records in memory, as they are counted (their true cost is about twice that); above
    /// it everything is paused. Default 8 MiB.
    pub memory_bytes_max: usize,
    /// Records of one partition received and not yet passed by its frontier; above it the partition
    /// is paused. Default 20,000.
    pub partition_records_max: usize,
    /// Between two widenings of the floors, each followed by a commit of offsets. Default 1 s.
    pub commit_interval: Duration,
    /// Between two looks for sequences that may be released. Default 1 s.
    pub release_interval: Duration,
    /// Days before today whose ids are decided by the id alone. Default 7.
    pub window_days: u32,
    /// Parked sequences of this consumer; above it the consumer ends instead of emptying a topic
    /// into the lot. Default 1,000.
    pub parked_sequences_max: u32,
    /// Bytes of all parked events of this consumer; above it the consumer ends: behind one parked
    /// key any number of events can come. Default 256 MiB.
    pub parked_bytes_max: u64,
    /// Which part of the last events may be put aside: parked, or sent away as a dead letter; those
    /// behind a parked one do not count. Above it the consumer ends. Looked at once 100 are.
    /// 1.0 allows all. Default 0.5.
    pub aside_ratio_max: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 8,
            batch_max: 100,
            attempts: 4,
            deaths_max: 3,
            backoff: Backoff { first: Duration::from_millis(50), most: Duration::from_secs(2) },
            handler_deadline: Duration::from_secs(30),
            answer_deadline: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(2),
            slow_after: Duration::from_millis(100),
            drain_deadline: Duration::from_secs(10),
            memory_bytes_max: 8 << 20,
            partition_records_max: 20_000,
            commit_interval: Duration::from_secs(1),
            release_interval: Duration::from_secs(1),
            window_days: 7,
            parked_sequences_max: 1_000,
            parked_bytes_max: 256 << 20,
            aside_ratio_max: 0.5,
        }
    }
}

impl Settings {
    /// The server ends a holder that froze a little after its deadline.
    pub(crate) fn limits(&self) -> Limits {
        let idle = self.handler_deadline.saturating_add(Duration::from_secs(10));
        Limits { lock: self.lock_timeout, idle }
    }
}

/// What the runtime sets itself, because a promise rests on it.
const FORCED: [(&str, &str); 6] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
    ("isolation.level", "read_committed"),
    ("enable.partition.eof", "false"),
    ("allow.auto.create.topics", "false"),
];

/// Which cluster, which group, and properties as librdkafka spells them.
///
/// ```
/// use walpost_inbox::Kafka;
/// let kafka = Kafka::new("localhost:9092", "stock").with("client.rack", "a");
/// ```
#[derive(Clone, Debug)]
pub struct Kafka {
    pub(crate) brokers: String,
    pub(crate) group: String,
    pub(crate) properties: BTreeMap<String, String>,
    /// Fixed partitions instead of a share of the group's.
    pub(crate) assignment: Option<Vec<(String, i32)>>,
}

impl Kafka {
    /// Members of a group share the partitions of their topics.
    ///
    /// ```
    /// let kafka = walpost_inbox::Kafka::new("localhost:9092", "stock");
    /// ```
    #[must_use]
    pub fn new(brokers: impl Into<String>, group: impl Into<String>) -> Self {
        let (brokers, group) = (brokers.into(), group.into());
        Self { brokers, group, properties: BTreeMap::new(), assignment: None }
    }

    /// Another property, such as `security.protocol`. Those that would break a promise are refused
    /// at the start.
    ///
    /// ```
    /// # use walpost_inbox::Kafka;
    /// let kafka = Kafka::new("localhost:9092", "stock").with("client.rack", "a");
    /// ```
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// These partitions and no others, without rebalances. Offsets are still kept under the group.
    ///
    /// ```
    /// use walpost_inbox::Kafka;
    /// let kafka = Kafka::new("localhost:9092", "stock").assigned([("events.order", 0)]);
    /// ```
    #[must_use]
    pub fn assigned<T: Into<String>>(
        mut self,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> Self {
        let partitions = partitions.into_iter().map(|(topic, number)| (topic.into(), number));
        self.assignment = Some(partitions.collect());
        self
    }

    /// Everything that librdkafka is told.
    pub(crate) fn config(&self) -> Result<BTreeMap<String, String>, RunError> {
        if let Some((name, _)) = FORCED.iter().find(|(name, _)| self.properties.contains_key(*name))
        {
            return Err(RunError::ForcedProperty { name: (*name).to_owned() });
        }
        let mut config = BTreeMap::new();
        let mut set = |name: &str, value: &str| config.insert(name.to_owned(), value.to_owned());
        set("partition.assignment.strategy", "cooperative-sticky");
        // Fetched and not yet polled: small, because what is paused is fetched again anyway.
        set("queued.max.messages.kbytes", "4096");
        set("fetch.max.bytes", "2097152");
        // Questions about new partitions stand behind a waiting fetch.
        set("fetch.wait.max.ms", "100");
        // A topic that is made later, and partitions that are added, are found within this time
        // instead of five minutes.
        set("topic.metadata.refresh.interval.ms", "10000");
        set("client.id", "walpost-inbox");
        for (name, value) in &self.properties {
            set(name, value);
        }
        for (name, value) in FORCED {
            set(name, value);
        }
        set("bootstrap.servers", &self.brokers);
        set("group.id", &self.group);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_may_take_for_ever() {
        let settings = Settings { handler_deadline: Duration::MAX, ..Settings::default() };
        assert_eq!(settings.limits().idle, Duration::MAX);
    }

    #[test]
    fn a_property_that_would_break_a_promise_is_refused_by_name() {
        for (name, _) in FORCED {
            let refused = Kafka::new("b", "g").with(name, "true").config().unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
        }
        let config = Kafka::new("b", "g").with("client.rack", "a").config().unwrap();
        assert_eq!(config["client.rack"], "a");
        assert_eq!(config["enable.auto.commit"], "false");
    }
}
