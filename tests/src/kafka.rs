//! A Kafka cluster as the tests see it: topics made, read to their end, and deleted.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long reading everything may take.
const READ_DEADLINE: Duration = Duration::from_secs(120);

/// The brokers.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub bootstrap: String,
}

/// A partition as its cluster describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// The broker's id; -1 while there is none.
    pub leader: i32,
    pub in_sync: usize,
}

/// A record as it stands in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<String>)>,
}

impl Record {
    /// The header's value; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.and_then(|(_, value)| value.as_deref()).unwrap_or("")
    }

    pub fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The key as text.
    pub fn key(&self) -> &str {
        std::str::from_utf8(&self.key).unwrap_or("")
    }

    /// The value as text; empty for a tombstone.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap_or_default()).unwrap_or("")
    }
}

impl Cluster {
    pub fn new(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned() }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("group.id", "walpost-tests");
        config.set("enable.auto.commit", "false");
        config.set("allow.auto.create.topics", "false");
        // A test reads a few records of a new topic: waiting for more of them is waste.
        config.set("fetch.wait.max.ms", "20");
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("an admin client")
    }

    /// Makes a topic with settings of its own.
    pub fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let made = block_on(self.admin().create_topics([&new], &options()));
        let made = made.expect("the cluster answers").into_iter().next().expect("one answer");
        made.expect("the topic is made");
    }

    /// Gives a topic more partitions.
    pub fn grow(&self, topic: &str, partitions: usize) {
        let new = NewPartitions::new(topic, partitions);
        let made = block_on(self.admin().create_partitions([&new], &options()));
        made.expect("the cluster answers").remove(0).expect("the topic grows");
    }

    /// Sets one of a topic's settings.
    pub fn set(&self, topic: &str, name: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let made = block_on(self.admin().alter_configs([&change], &options()));
        made.expect("the cluster answers").remove(0).expect("the topic is changed");
    }

    /// Writes a record to a topic of one partition; `None` is a tombstone.
    pub fn write(&self, topic: &str, key: &str, value: Option<&str>) {
        let producer: BaseProducer = self.config().create().expect("a producer");
        let mut record = BaseRecord::to(topic).partition(0).key(key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record).map_err(|(error, _)| error).expect("taken");
        producer.flush(REQUEST_TIMEOUT).expect("written");
    }

    /// Writes records where they say, headers and all; what their offsets and times were is lost.
    pub fn write_all(&self, records: &[Record]) {
        let producer: BaseProducer = self.config().create().expect("a producer");
        for record in records {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: value.as_deref() });
            }
            let to = BaseRecord::to(&record.topic).partition(record.partition);
            let mut to = to.key(&record.key).headers(headers);
            if let Some(value) = &record.value {
                to = to.payload(value);
            }
            producer.send(to).map_err(|(error, _)| error).expect("taken");
        }
        producer.flush(REQUEST_TIMEOUT).expect("written");
    }

    /// Deletes topics; those that are not there are no loss.
    pub fn delete(&self, topics: &[String]) {
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        if !names.is_empty() {
            let _ = block_on(self.admin().delete_topics(&names, &options()));
        }
    }

    /// The topics whose names start with `prefix`, each with its number of partitions.
    pub fn topics(&self, prefix: &str) -> Vec<(String, i32)> {
        let consumer: BaseConsumer = self.config().create().expect("a consumer");
        let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT).expect("metadata");
        let found = metadata.topics().iter().filter(|topic| topic.name().starts_with(prefix));
        let found = found.map(|topic| {
            let count = i32::try_from(topic.partitions().len()).expect("a few partitions");
            (topic.name().to_owned(), count)
        });
        found.collect()
    }

    /// Who leads a partition, and how many of its replicas are in sync.
    pub fn partition(&self, topic: &str, partition: i32) -> Partition {
        let consumer: BaseConsumer = self.config().create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT).expect("metadata");
        let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let found = partitions.find(|found| found.id() == partition).expect("a partition");
        Partition { leader: found.leader(), in_sync: found.isr().len() }
    }

    /// Every record of the topics that start with `prefix`, each partition in its order, up to
    /// where it ended when reading began.
    #[track_caller]
    pub fn read(&self, prefix: &str) -> Vec<Record> {
        let topics = self.topics(prefix);
        let consumer: BaseConsumer = self.config().create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        let mut left = 0;
        for (topic, partitions) in &topics {
            for partition in 0..*partitions {
                let marks = consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT);
                let (low, high) = marks.expect("watermarks");
                if high > low {
                    list.add_partition_offset(topic, partition, Offset::Offset(low))
                        .expect("an offset");
                    left += high - low;
                }
            }
        }
        if left == 0 {
            return Vec::new();
        }
        consumer.assign(&list).expect("assigned");
        let mut records = Vec::new();
        let start = std::time::Instant::now();
        while left > 0 {
            assert!(start.elapsed() < READ_DEADLINE, "{prefix}: {left} records are not read");
            let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
            records.push(record(&message.expect("a record")));
            left -= 1;
        }
        // A reader of several partitions gets them interleaved.
        records.sort_by(|a, b| {
            (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset))
        });
        records
    }

    /// How many records these topics have, by their watermarks.
    pub fn count(&self, prefix: &str) -> i64 {
        let consumer: BaseConsumer = self.config().create().expect("a consumer");
        let of_partition = |topic: &str, partition| {
            let marks = consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT);
            marks.map_or(0, |(low, high)| high - low)
        };
        let of_topic = |(topic, partitions): (String, i32)| -> i64 {
            (0..partitions).map(|partition| of_partition(&topic, partition)).sum()
        };
        self.topics(prefix).into_iter().map(of_topic).sum()
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT))
}

fn record(message: &impl Message) -> Record {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        let headers = headers.iter().map(|header| (header.key.to_owned(), header.value.map(text)));
        headers.collect()
    });
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}
