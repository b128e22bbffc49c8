//! A bank: movements of accounts in a topic, consumers that keep balances, and the judge of both.
//!
//! Each movement is written with its id, account, amount and number in the account. In the end, for
//! every account: the sum of what was written, the last number, and as many applications as
//! movements; and each event id once.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;
use uuid::Uuid;
use walpost_schema::partition::partition_for;
use xtask::process::{Identity, Signal};

use crate::registry::Registry;
use crate::{Cluster, Database, stack, unique, wait_for, wait_within};

/// A member that was killed is given up after the least time that a broker allows.
pub const QUICK_SESSION: &str = "session.timeout.ms=6000,heartbeat.interval.ms=500";
/// How long consuming what a test wrote may take.
const CONSUME: Duration = Duration::from_secs(240);

/// A topic of movements and the database of those who consume it.
#[derive(Debug)]
pub struct Bank {
    pub database: Database,
    pub cluster: Cluster,
    pub topic: String,
    pub group: String,
    partitions: NonZeroU32,
    schema_id: u32,
    /// Every movement that counts, once.
    pub written: Vec<Movement>,
    /// Further variables of the consumers.
    pub environment: Vec<(String, String)>,
}

/// One movement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    pub id: Uuid,
    pub account: String,
    pub amount: i64,
    pub seq: i64,
}

impl Bank {
    /// On the shared servers.
    pub fn new(label: &str, partitions: u32) -> Self {
        let database = Database::empty(&stack().postgres, label);
        Self::with(database, Cluster::new(&stack().kafka), partitions)
    }

    /// On servers that the test chose.
    pub fn with(database: Database, cluster: Cluster, partitions: u32) -> Self {
        let topic = unique("bank").replace('_', "-");
        cluster.create(&topic, i32::try_from(partitions).expect("a few"), &[]);
        let schema = json!({"type": "record", "name": "Moved", "namespace": "bank", "fields": [
            {"name": "account", "type": "string"},
            {"name": "seq", "type": "int"},
            {"name": "amount", "type": "int"},
            {"name": "note", "type": ["null", "string"], "default": null}]});
        let registry = Registry::new(&stack().registry);
        let schema_id = registry.register(&format!("{topic}-bank.Moved"), &schema);
        Self {
            database,
            cluster,
            group: topic.clone(),
            topic,
            partitions: NonZeroU32::new(partitions).expect("not none"),
            schema_id,
            written: Vec::new(),
            environment: vec![("PROPERTIES".to_owned(), QUICK_SESSION.to_owned())],
        }
    }

    /// A producer for this bank's topic.
    pub fn producer(&self) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.cluster.bootstrap);
        config.set("enable.idempotence", "true");
        config.set("linger.ms", "5");
        config.create().expect("a producer")
    }

    /// Writes `count` movements over `accounts` accounts, in turn, after those that were written.
    pub fn write(&mut self, count: usize, accounts: usize) {
        let producer = self.producer();
        let mut next = self.counts();
        for n in 0..count {
            let account = format!("account-{}", n % accounts);
            let seq = next.entry(account.clone()).or_insert(0);
            *seq += 1;
            let amount = i64::try_from(n % 97).expect("small") - 40;
            let movement = Movement { id: Uuid::now_v7(), account, amount, seq: *seq };
            self.send(&producer, &movement);
            self.written.push(movement);
        }
        producer.flush(CONSUME).expect("written");
    }

    /// Writes the first movement of an account that belongs to this partition.
    pub fn write_to(&mut self, partition: u32) {
        let account = (0..)
            .map(|n| format!("only-{n}"))
            .find(|account| partition_for(account.as_bytes(), self.partitions) == partition)
            .expect("a key for each partition");
        let movement = Movement { id: Uuid::now_v7(), account, amount: 1, seq: 1 };
        self.write_again(std::slice::from_ref(&movement));
        self.written.push(movement);
    }

    /// How many movements each account has.
    fn counts(&self) -> BTreeMap<String, i64> {
        let mut counts = BTreeMap::new();
        for movement in &self.written {
            *counts.entry(movement.account.clone()).or_insert(0) += 1;
        }
        counts
    }

    /// Writes some movements again, in their order, as a relay does after a crash.
    pub fn write_again(&self, movements: &[Movement]) {
        let producer = self.producer();
        movements.iter().for_each(|movement| self.send(&producer, movement));
        producer.flush(CONSUME).expect("written");
    }

    /// Puts one movement on the wire.
    pub fn send(&self, producer: &BaseProducer, movement: &Movement) {
        let value = self.encode(movement);
        let id = movement.id.to_string();
        let headers = OwnedHeaders::new()
            .insert(Header { key: "id", value: Some(&id) })
            .insert(Header { key: "type", value: Some("bank.Moved") });
        let key = movement.account.as_bytes();
        let partition = i32::try_from(partition_for(key, self.partitions)).expect("a few");
        let mut record = BaseRecord::to(&self.topic)
            .partition(partition)
            .key(key)
            .payload(&value)
            .headers(headers);
        while let Err((error, back)) = producer.send(record) {
            assert!(error.to_string().contains("QueueFull"), "{error}");
            producer.poll(Duration::from_millis(20));
            record = back;
        }
    }

    fn encode(&self, movement: &Movement) -> Vec<u8> {
        let mut value = vec![0];
        value.extend_from_slice(&self.schema_id.to_be_bytes());
        let long = |number: i64| {
            let mut bits = ((number << 1) ^ (number >> 63)).cast_unsigned();
            let mut bytes = Vec::new();
            while bits >= 0x80 {
                bytes.push((bits & 0x7F) as u8 | 0x80);
                bits >>= 7;
            }
            bytes.push(bits as u8);
            bytes
        };
        let length = long(i64::try_from(movement.account.len()).expect("short"));
        let (seq, amount) = (long(movement.seq), long(movement.amount));
        for part in [&length, movement.account.as_bytes(), &seq, &amount, &[0]] {
            value.extend_from_slice(part);
        }
        value
    }

    /// Starts a consumer of this bank; `binary` is the ledger example.
    pub fn consumer(&self, binary: &str) -> LedgerProcess {
        self.consumer_with(binary, &[])
    }

    /// As [`Self::consumer`], with variables.
    pub fn consumer_with(&self, binary: &str, environment: &[(&str, &str)]) -> LedgerProcess {
        let mut command = Command::new(binary);
        command
            .env("WALPOST_TEST_KAFKA", &self.cluster.bootstrap)
            .env("WALPOST_TEST_REGISTRY", &stack().registry)
            .env("DATABASE_URL", self.database.url())
            .env("TOPIC", &self.topic)
            .env("GROUP", &self.group)
            .env("RUST_BACKTRACE", "0")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = command.spawn().expect("the ledger starts");
        let identity = Identity::of(child.id()).expect("a process");
        LedgerProcess { child, identity }
    }

    /// How many movements were applied.
    pub fn applied(&self) -> i64 {
        let sql = "SELECT coalesce(sum(applied), 0) FROM balance";
        self.database.try_ask(sql).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The group's offset of a partition; 0 without one.
    pub fn committed(&self, partition: i32) -> i64 {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.cluster.bootstrap).set("group.id", &self.group);
        let consumer: BaseConsumer = config.create().expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let found = consumer.committed_offsets(list, Duration::from_secs(10)).expect("an answer");
        match found.find_partition(&self.topic, partition).map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => offset,
            _ => 0,
        }
    }

    /// Waits until so many movements were applied.
    #[track_caller]
    pub fn wait_applied(&self, count: usize) {
        let count = i64::try_from(count).expect("small");
        wait_within(CONSUME, &format!("{count} applied"), || {
            (self.applied() >= count).then_some(())
        });
    }

    /// The judge. Every movement that was written is applied once and in order.
    #[track_caller]
    pub fn judge(&self) {
        self.judge_without(&HashSet::new());
    }

    /// As [`Self::judge`]; of these accounts, whose sequence is parked, nothing is asked.
    #[track_caller]
    pub fn judge_without(&self, parked: &HashSet<String>) {
        let mut expected: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
        for movement in self.written.iter().filter(|found| !parked.contains(&found.account)) {
            let account = expected.entry(movement.account.clone()).or_default();
            account.0 += movement.amount;
            account.1 = movement.seq;
            account.2 += 1;
        }
        let mut client = self.database.client();
        let rows = client
            .query("SELECT account, total, last_seq, applied FROM balance", &[])
            .expect("balances");
        let mut found: BTreeMap<String, (i64, i64, i64)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3)))).collect();
        found.retain(|account, _| !parked.contains(account));
        for (account, balance) in &expected {
            assert_eq!(found.get(account), Some(balance), "{account}: total, last, applied");
        }
        assert_eq!(found.len(), expected.len(), "accounts that nobody wrote");
        let twice = "SELECT count(*) - count(DISTINCT event_id) FROM ledger";
        assert_eq!(self.database.ask(twice), "0", "event ids more than once");
        println!("{} movements, {} accounts: exact", self.written.len(), expected.len());
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        if self.cluster.bootstrap == stack().kafka && !std::thread::panicking() {
            self.cluster.delete(std::slice::from_ref(&self.topic));
        }
    }
}

/// A running consumer; killed when dropped.
#[derive(Debug)]
pub struct LedgerProcess {
    child: Child,
    identity: Identity,
}

impl LedgerProcess {
    pub fn signal(&self, signal: Signal) {
        self.identity.signal(signal);
    }

    pub fn is_running(&self) -> bool {
        self.identity.is_alive()
    }

    /// SIGKILL: nothing is tidied.
    pub fn kill9(mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// SIGTERM, and its end with code 0 in time.
    #[track_caller]
    pub fn terminate(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_end();
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// Whether it ended by itself, which has to be by SIGABRT.
    #[track_caller]
    pub fn has_crashed(&mut self) -> bool {
        let status = self.child.try_wait().ok().flatten();
        if let Some(status) = status {
            assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
        }
        status.is_some()
    }

    /// Waits until it crashed at its point.
    #[track_caller]
    pub fn wait_crash(mut self) {
        let status = self.wait_end();
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
    }

    #[track_caller]
    fn wait_end(&mut self) -> std::process::ExitStatus {
        wait_within(CONSUME, "the ledger's end", || self.child.try_wait().ok().flatten())
    }

    /// Waits until it stopped itself.
    #[track_caller]
    pub fn wait_frozen(&self) {
        let path = format!("/proc/{}/stat", self.identity.pid);
        wait_for("a frozen process", || {
            let stat = std::fs::read_to_string(&path).ok()?;
            let (_, rest) = stat.rsplit_once(") ")?;
            rest.starts_with('T').then_some(())
        });
    }

    /// The most memory it ever had, in kB.
    #[track_caller]
    pub fn peak_rss_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.identity.pid));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for LedgerProcess {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}
