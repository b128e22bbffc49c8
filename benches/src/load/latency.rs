//! How long an event takes from the return of COMMIT to a consumer, at a steady rate; and what the
//! relay costs while it does nothing.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use uuid::Uuid;
use walpost::consume::{From, TopicReader};
use walpost::kafka::KafkaSettings;

use crate::backlog::drop_slot;
use crate::drain::Relay;
use crate::process::{cpu_seconds, ran_since, thread_times};
use crate::servers::{Fit, Servers};

const IDLE: Duration = Duration::from_secs(5);

/// One run at `rate` events a second; its line.
pub(crate) async fn measure(servers: &Servers, rate: u32, seconds: u64) -> Result<String> {
    let (slot, topic) = (format!("latency_{rate}"), format!("latency.{rate}"));
    let sql = servers.sql().await?;
    let make = "SELECT FROM pg_create_logical_replication_slot($1, 'pgoutput')";
    sql.execute(make, &[&slot]).await?;
    servers.register(&topic, Fit::All)?;
    let relay = Relay::start(servers, &slot, &topic)?;
    // The first event makes the topic and shows that everything is ready.
    insert(&sql, Uuid::now_v7()).await?;
    wait_for_first(&relay).await?;
    let before = thread_times(relay.pid())?;
    tokio::time::sleep(IDLE).await;
    let ran = ran_since(&before, &thread_times(relay.pid())?);
    let idle = ran.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    let settings = relay.settings()?;
    let kafka = settings.sources.first().context("a source")?.kafka.clone();
    let received = read_in_background(kafka, topic)?;
    let busy = cpu_seconds(relay.pid())?;
    let committed = write(&sql, rate, seconds).await?;
    let cpu = (cpu_seconds(relay.pid())? - busy) / seconds as f64 * 100.0;
    let latencies = collect(&received, &committed, seconds)?;
    relay.stop()?;
    drop_slot(servers, &slot).await?;
    Ok(line(rate, latencies, idle, cpu))
}

async fn wait_for_first(relay: &Relay) -> Result<()> {
    let started = Instant::now();
    while relay.dealt_with().await? == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if started.elapsed() > Duration::from_secs(30) {
            bail!("the relay does not publish");
        }
    }
    Ok(())
}

async fn insert(sql: &tokio_postgres::Client, id: Uuid) -> Result<()> {
    let text = "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload) \
        VALUES ($1, 'order', $1::uuid::text, 'OrderPlaced', '{\"seq\": 1, \"order_id\": \"o\", \
        \"customer\": \"c\", \"amount\": 12.50, \"currency\": \"EUR\", \"status\": \"placed\"}')";
    sql.execute(text, &[&id]).await?;
    Ok(())
}

/// Inserts at the rate, each event in its own transaction; when each COMMIT returned.
async fn write(
    sql: &tokio_postgres::Client,
    rate: u32,
    seconds: u64,
) -> Result<HashMap<String, Instant>> {
    let count = u64::from(rate) * seconds;
    let start = Instant::now();
    let mut committed = HashMap::new();
    for number in 0..count {
        let due = start + Duration::from_secs(1) / rate * u32::try_from(number)?;
        tokio::time::sleep_until(due.into()).await;
        let id = Uuid::now_v7();
        insert(sql, id).await?;
        committed.insert(id.to_string(), Instant::now());
    }
    Ok(committed)
}

type Received = Receiver<Result<(String, Instant)>>;

fn read_in_background(kafka: KafkaSettings, topic: String) -> Result<Received> {
    let (sender, received) = channel();
    let (ready, opened) = channel();
    std::thread::spawn(move || {
        let mut reader = match TopicReader::open(&kafka, &[topic], From::End) {
            Ok(reader) => reader,
            Err(error) => {
                let _ = ready.send(Err(anyhow::Error::from(error)));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        loop {
            let next = match reader.next(Duration::from_millis(100)) {
                Ok(None) => continue,
                Ok(Some(record)) => {
                    Ok((record.header("id").unwrap_or_default().to_owned(), Instant::now()))
                }
                Err(error) => Err(error.into()),
            };
            if sender.send(next).is_err() {
                return;
            }
        }
    });
    opened.recv()??;
    Ok(received)
}

/// Latencies in ms of all events after the warm-up, sorted. An event that never comes is an error.
fn collect(
    received: &Received,
    committed: &HashMap<String, Instant>,
    seconds: u64,
) -> Result<Vec<f64>> {
    let first = committed.values().min().context("nothing was written")?;
    let warm = *first + Duration::from_secs(seconds) / 5;
    let mut missing = committed.len();
    let mut latencies = Vec::new();
    while missing > 0 {
        let (id, arrived) = received.recv_timeout(Duration::from_secs(20))??;
        let Some(sent) = committed.get(&id) else { continue };
        missing -= 1;
        if *sent >= warm {
            // COMMIT may return to us after the consumer has the event: that is no negative time.
            latencies.push(arrived.saturating_duration_since(*sent).as_secs_f64() * 1000.0);
        }
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

fn line(rate: u32, latencies: Vec<f64>, idle: f64, cpu: f64) -> String {
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies.get(index.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    format!(
        "{rate:>6} events/s, commit to consumer: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, max \
         {:.1} ms; relay CPU {cpu:.1} % of a core, idle {idle:.2} %",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    )
}
