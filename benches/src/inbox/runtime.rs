//! The whole runtime: a backlog in a topic, consumed by a process of its own.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Deserialize;
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;
use uuid::Uuid;
use walpost_inbox::store::Database;
use walpost_inbox::{Cx, Error, Event, Inbox, Kafka, Outcome, Received};

use crate::{database, process};

const PARTITIONS: i32 = 4;

#[derive(Deserialize)]
struct Moved {
    account: String,
    amount: i64,
}

impl Event for Moved {
    const TYPE: &'static str = "bank.Moved";
}

const APPLY: &str = "INSERT INTO balance AS b VALUES ($1, $2, 1)
    ON CONFLICT (account) DO UPDATE SET total = b.total + $2, applied = b.applied + 1";

/// One statement for each event.
async fn apply(moved: Moved, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&moved.account, Type::TEXT), (&moved.amount, Type::INT8)];
    cx.tx().execute_typed(APPLY, &values).await?;
    Ok(Outcome::Done)
}

/// One statement for all events of a batch.
async fn apply_all(moved: Vec<Received<Moved>>, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    let accounts: Vec<&str> = moved.iter().map(|one| one.event.account.as_str()).collect();
    let amounts: Vec<i64> = moved.iter().map(|one| one.event.amount).collect();
    let sql = "INSERT INTO balance AS b
        SELECT account, sum(amount), count(*) FROM unnest($1::text[], $2::bigint[])
             AS m (account, amount) GROUP BY account ORDER BY account
        ON CONFLICT (account) DO UPDATE
        SET total = b.total + EXCLUDED.total, applied = b.applied + EXCLUDED.applied";
    cx.tx()
        .execute_typed(sql, &[(&accounts, Type::TEXT_ARRAY), (&amounts, Type::INT8_ARRAY)])
        .await?;
    Ok(Outcome::Done)
}

/// The measured process: consumes until its standard input ends.
pub(crate) async fn consume(url: &str, brokers: &str, topic: &str) -> Result<()> {
    let database = Database::new(url.parse()?, NoTls);
    let inbox = Inbox::new("bench", database, ());
    let inbox = if topic.ends_with("-set") {
        inbox.topic(topic, |handlers| handlers.on_batch(apply_all))
    } else {
        inbox.topic(topic, |handlers| handlers.on(apply))
    };
    // Its parent holds the other end.
    let input = || std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new());
    let closed = tokio::task::spawn_blocking(input);
    let end = async { drop(closed.await) };
    inbox.run(Kafka::new(brokers, topic), end).await?;
    Ok(())
}

pub(crate) async fn measure(url: &str, brokers: &str, events: usize) -> Result<()> {
    println!("\nthe runtime, {events} events of 1,000 accounts in {PARTITIONS} partitions");
    for topic in ["bench-single", "bench-set"] {
        produce(brokers, topic, events).await?;
        let (own, admin) = database(url, &topic.replace('-', "_")).await?;
        let table = "CREATE TABLE balance (account text PRIMARY KEY, total numeric NOT NULL,
            applied bigint NOT NULL)";
        admin.batch_execute(table).await?;
        let begun = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--consume", &own, brokers, topic])
            .stdin(Stdio::piped())
            .spawn()?;
        let mut first = None;
        loop {
            let sql = "SELECT coalesce(sum(applied), 0)::bigint FROM balance";
            let applied: i64 = admin.query_one(sql, &[]).await?.get(0);
            if applied > 0 {
                first.get_or_insert_with(|| (Instant::now(), applied));
            }
            if applied >= i64::try_from(events)? {
                break;
            }
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(600), "{applied} applied");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (since, already) = first.context("something was applied")?;
        let rate = (events as f64 - already as f64) / since.elapsed().as_secs_f64();
        let (cpu, memory) = (process::cpu_seconds(child.id())?, process::peak_rss_mb(child.id())?);
        drop(child.stdin.take());
        anyhow::ensure!(child.wait()?.success(), "the consumer ends well");
        println!(
            "{topic:<14} {rate:8.0} events/s  {:6.1} CPU s a million  {memory:5.1} MB peak",
            cpu / events as f64 * 1e6
        );
    }
    Ok(())
}

async fn produce(brokers: &str, topic: &str, events: usize) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "5");
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    admin.create_topics([&new], &AdminOptions::new()).await?;
    let producer: BaseProducer = config.create()?;
    for n in 0..events {
        let (id, account) = (Uuid::now_v7().to_string(), format!("account-{}", n % 1_000));
        let value = format!("{{\"account\": \"{account}\", \"amount\": {}, \"seq\": {n}}}", n % 97);
        let headers = OwnedHeaders::new()
            .insert(Header { key: "id", value: Some(&id) })
            .insert(Header { key: "type", value: Some("bank.Moved") });
        let partition = i32::try_from(n % 1_000)? % PARTITIONS;
        let mut record = BaseRecord::to(topic)
            .partition(partition)
            .key(account.as_bytes())
            .payload(value.as_bytes())
            .headers(headers);
        while let Err((error, back)) = producer.send(record) {
            anyhow::ensure!(error.to_string().contains("QueueFull"), "{error}");
            producer.poll(Duration::from_millis(20));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}
