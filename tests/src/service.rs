//! A consumer inside the test: handlers of its own, a topic of JSON events, and what it did.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Deserialize;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;
use uuid::Uuid;
use walpost_inbox::store::{Database as Store, INBOX_SQL};
use walpost_inbox::{Cx, Error, Event, Inbox, Kafka, Outcome, RunError, Stats, StatsReader};

use crate::ledger::QUICK_SESSION;
use crate::{Cluster, Database, stack, unique, wait_within};

/// A topic of one or more partitions and a database with inbox, outbox and a table `effect`.
#[derive(Debug)]
pub struct Stage {
    pub database: Database,
    pub cluster: Cluster,
    pub topic: String,
    producer: BaseProducerBox,
}

struct BaseProducerBox(BaseProducer);

impl std::fmt::Debug for BaseProducerBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BaseProducer")
    }
}

/// The event of a stage: `{"n": n}`.
#[derive(Debug, Deserialize)]
pub struct Counted {
    pub n: i64,
}

impl Event for Counted {
    const TYPE: &'static str = "test.Counted";
}

/// Writes the effect that the judge counts.
pub async fn effect<S: Send + Sync + 'static>(cx: &Cx<S>, n: i64) -> Result<(), Error> {
    let key = String::from_utf8_lossy(cx.record().key.as_deref().unwrap_or_default()).into_owned();
    cx.tx()
        .execute_typed(
            "INSERT INTO effect (id, key, value) VALUES ($1, $2, $3)",
            &[(&cx.id(), Type::UUID), (&key, Type::TEXT), (&n, Type::INT8)],
        )
        .await?;
    Ok(())
}

/// The handler that does nothing else.
pub async fn count(event: Counted, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    effect(cx, event.n).await?;
    Ok(Outcome::Done)
}

/// One event as it goes on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    pub id: Uuid,
    pub partition: i32,
    pub key: Option<&'a str>,
    pub event_type: &'a str,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a str)],
}

impl Stage {
    pub fn new(label: &str, partitions: i32) -> Self {
        Self::on(&stack().postgres, label, partitions)
    }

    /// With its database on a server that the test chose.
    pub fn on(postgres: &str, label: &str, partitions: i32) -> Self {
        let database = Database::empty(postgres, label);
        database.run(INBOX_SQL);
        database.run(walpost_outbox::OUTBOX_SQL);
        database.run("CREATE TABLE effect (n bigserial, id uuid, key text, value bigint)");
        let cluster = Cluster::new(&stack().kafka);
        let topic = unique("stage").replace('_', "-");
        cluster.create(&topic, partitions, &[]);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &cluster.bootstrap).set("linger.ms", "5");
        let producer = BaseProducerBox(config.create().expect("a producer"));
        Self { database, cluster, topic, producer }
    }

    /// The library's way to the database.
    pub fn store(&self) -> Store {
        Store::new(self.database.url().parse().expect("an address"), NoTls)
    }

    /// An inbox of consumer `c` with the topic's handlers still to be named.
    pub fn inbox<S: Send + Sync + 'static>(&self, state: S) -> Inbox<S> {
        Inbox::new("c", self.store(), state)
    }

    pub fn kafka(&self) -> Kafka {
        let kafka = Kafka::new(&self.cluster.bootstrap, &self.topic);
        QUICK_SESSION.split(',').fold(kafka, |kafka, property| {
            let (name, value) = property.split_once('=').expect("a=b");
            kafka.with(name, value)
        })
    }

    /// Puts `{"n": n}` on partition 0; its id.
    pub fn send(&self, key: &str, event_type: &str, n: i64) -> Uuid {
        let id = Uuid::now_v7();
        let value = format!("{{\"n\": {n}}}");
        self.send_as(Sent {
            id,
            partition: 0,
            key: Some(key),
            event_type,
            value: Some(value.as_bytes()),
            headers: &[],
        });
        id
    }

    pub fn send_as(&self, sent: Sent<'_>) {
        let id = sent.id.to_string();
        let mut headers = OwnedHeaders::new()
            .insert(Header { key: "id", value: Some(&id) })
            .insert(Header { key: "type", value: Some(sent.event_type) });
        for (key, value) in sent.headers {
            headers = headers.insert(Header { key, value: Some(*value) });
        }
        let mut record =
            BaseRecord::<str, [u8]>::to(&self.topic).partition(sent.partition).headers(headers);
        record.key = sent.key;
        record.payload = sent.value;
        while let Err((error, back)) = self.producer.0.send(record) {
            assert!(error.to_string().contains("QueueFull"), "{error}");
            self.producer.0.poll(Duration::from_millis(20));
            record = back;
        }
    }

    /// Everything that was sent is in the topic.
    pub fn flush(&self) {
        self.producer.0.flush(crate::PATIENCE).expect("written");
    }

    /// Deletes the topic, and makes it again with one partition.
    #[track_caller]
    pub fn make_anew(&self) {
        self.cluster.delete(std::slice::from_ref(&self.topic));
        crate::wait_for("the topic to be gone", || {
            self.cluster.topics(&self.topic).is_empty().then_some(())
        });
        self.cluster.create(&self.topic, 1, &[]);
    }

    /// How many there are; 0 while the server is away.
    pub fn effects(&self) -> i64 {
        let count = self.database.try_ask("SELECT count(*) FROM effect");
        count.ok().and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    #[track_caller]
    pub fn wait_effects(&self, count: i64) {
        wait_within(Duration::from_secs(120), &format!("{count} effects"), || {
            (self.effects() >= count).then_some(())
        });
    }

    /// Each event once, and the values of each key in the order of sending.
    #[track_caller]
    pub fn assert_once_and_in_order(&self) {
        let twice = "SELECT count(*) - count(DISTINCT id) FROM effect";
        assert_eq!(self.database.ask(twice), "0", "events with two effects");
        let overtaken = "SELECT count(*) FROM (SELECT value,
            lag(value) OVER (PARTITION BY key ORDER BY n) AS before FROM effect) o
            WHERE value <= before";
        assert_eq!(self.database.ask(overtaken), "0", "events that were overtaken");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.cluster.delete(std::slice::from_ref(&self.topic));
        }
    }
}

/// A running inbox; dropped, it ends as a crash would end it.
#[derive(Debug)]
pub struct Service {
    runtime: Runtime,
    end: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Result<(), RunError>>>,
    stats: StatsReader,
}

impl Service {
    pub fn start<S: Send + Sync + 'static>(inbox: Inbox<S>, kafka: Kafka) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let stats = inbox.stats();
        let (end, ended) = oneshot::channel::<()>();
        let running =
            runtime.spawn(async move { inbox.run(kafka, async move { drop(ended.await) }).await });
        Self { runtime, end: Some(end), running: Some(running), stats }
    }

    pub fn stats(&self) -> Stats {
        self.stats.read()
    }

    /// Waits until the counters are as wanted.
    #[track_caller]
    pub fn wait_stats(&self, what: &str, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let mut last = self.stats();
        let found = xtask::wait::until(Duration::from_secs(90), || {
            last = self.stats();
            wanted(&last).then_some(())
        });
        assert!(found.is_some(), "{what}: {last:?}");
        last
    }

    /// Asks it to end; what it counted.
    #[track_caller]
    pub fn stop(mut self) -> Stats {
        drop(self.end.take());
        let result = self.ended();
        assert!(result.is_ok(), "{result:?}");
        self.stats()
    }

    /// Waits for an end that nobody asked for; its error.
    #[track_caller]
    pub fn wait_error(mut self) -> RunError {
        self.ended().expect_err("it ends with an error")
    }

    #[track_caller]
    fn ended(&mut self) -> Result<(), RunError> {
        let running = self.running.take().expect("it runs");
        let bounded = async { tokio::time::timeout(crate::PATIENCE, running).await };
        self.runtime.block_on(bounded).expect("it ends in time").expect("it does not panic")
    }
}
