//! The demo: orders are committed with their events, shown as they come out of Kafka, and verified.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;
use walpost_schema::envelope;

use crate::cli::output::{print, print_json, printable, table};
use crate::cli::tail::{Decoded, Decoder};
use crate::cli::{Answer, Exit, Failure, Output};
use crate::consume::{From, ReadRecord, TopicReader};
use crate::kafka::{KafkaSettings, TopicMaker};
use crate::registry;
use crate::settings::Settings;
use crate::verify::{Subject, Verdict, verify};

const SCHEMAS: [(&str, &str); 3] = [
    ("OrderPlaced.avsc", include_str!("schemas/OrderPlaced.avsc")),
    ("OrderPaid.avsc", include_str!("schemas/OrderPaid.avsc")),
    ("OrderShipped.avsc", include_str!("schemas/OrderShipped.avsc")),
];
const TOPIC: &str = "events.order";
const ORDERS: u32 = 12;
/// Slow enough to be read, quick enough not to bore.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the last event may take to be shown.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);

/// Puts the demo's schema files into the data folder.
pub(super) fn write_schemas(folder: &Path) -> anyhow::Result<PathBuf> {
    let schemas = folder.join("schemas");
    std::fs::create_dir_all(&schemas)?;
    for (name, text) in SCHEMAS {
        std::fs::write(schemas.join(name), text).with_context(|| name.to_owned())?;
    }
    Ok(schemas)
}

/// Writes, shows, verifies. Exit 1 when the verifier finds anything.
pub(super) async fn run(
    settings: &Settings,
    maker: &dyn TopicMaker,
    output: Output,
    mut shutdown: watch::Receiver<bool>,
) -> Answer {
    let work = demo(settings, maker, output);
    tokio::select! {
        biased;
        _ = shutdown.wait_for(|is_ordered| *is_ordered) => Ok(Exit::Fine),
        verdict = work => {
            let verdict = verdict.map_err(Failure::could_not_tell)?;
            show_verdict(&verdict, output)?;
            Ok(if verdict.is_kept() { Exit::Fine } else { Exit::Findings })
        }
    }
}

async fn demo(
    settings: &Settings,
    maker: &dyn TopicMaker,
    output: Output,
) -> anyhow::Result<Verdict> {
    let source = settings.sources.first().context("the demo has a source")?;
    // Made here, so that the reader finds it before the first event.
    maker.make(TOPIC, settings.kafka.partitions).map_err(anyhow::Error::msg)?;
    let mut records = read_in_background(settings.kafka.clone())?;
    let mut decoder = Decoder::new(registry::client(settings.registry.as_ref())?);
    let mut session = source.address.connect_sql("walpost-demo").await?;
    session
        .batch_execute("CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY, state text)")
        .await?;
    if output == Output::Text {
        eprintln!("Orders are committed with their events; what comes out of Kafka:\n");
    }
    let writing = async {
        let mut written = 0u64;
        for step in 0..ORDERS + 2 {
            written += write_step(&mut session, step).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok::<u64, anyhow::Error>(written)
    };
    tokio::pin!(writing);
    let mut expected = None;
    let mut shown = 0u64;
    while expected.is_none_or(|expected| shown < expected) {
        let arrival = tokio::time::timeout(ARRIVAL_MAX, records.recv());
        tokio::select! {
            written = &mut writing, if expected.is_none() => expected = Some(written?),
            record = arrival => {
                let record = record.context("no event came out of Kafka in time")?;
                let record = record.context("the reader ended")??;
                show(&record, &decoder.decode(&record).await, output)?;
                shown += 1;
            }
        }
    }
    let topics = [TOPIC.to_owned()];
    let subject = Subject {
        address: &source.address,
        table: &source.table,
        columns: &source.columns,
        slot: &source.slot,
        kafka: &settings.kafka,
        topics: &topics,
        patience: Duration::from_secs(20),
    };
    Ok(verify(&subject).await?)
}

type Records = mpsc::Receiver<anyhow::Result<ReadRecord>>;

/// Reads on a thread of its own, which ends when nobody listens any more.
fn read_in_background(kafka: KafkaSettings) -> anyhow::Result<Records> {
    // When nobody takes records the reader waits: the topic keeps them.
    let (sender, records) = mpsc::channel(64);
    let read = move || {
        let topics = [TOPIC.to_owned()];
        let mut reader = match TopicReader::open(&kafka, &topics, From::Beginning) {
            Ok(reader) => reader,
            Err(error) => {
                let _ = sender.blocking_send(Err(error.into()));
                return;
            }
        };
        while !sender.is_closed() {
            let next = match reader.next(Duration::from_millis(100)) {
                Ok(None) => continue,
                Ok(Some(record)) => Ok(record),
                Err(error) => Err(error.into()),
            };
            if sender.blocking_send(next).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("demo-reader".to_owned()).spawn(read)?;
    Ok(records)
}

/// One step of the shop: an order is placed, the one before it paid, the one before that shipped,
/// all in one transaction with their events; every fourth step also tries something that is rolled
/// back. How many events were committed.
async fn write_step(
    session: &mut tokio_postgres::Client,
    step: u32,
) -> Result<u64, tokio_postgres::Error> {
    if step % 4 == 3 {
        let transaction = session.transaction().await?;
        append(&transaction, step, "shop.OrderPlaced", json!({"total": "0.00"})).await?;
        transaction.rollback().await?;
    }
    let transaction = session.transaction().await?;
    let mut events = 0;
    if step < ORDERS {
        let id = format!("order-{}", step + 1);
        let sql = "INSERT INTO orders VALUES ($1, 'placed') ON CONFLICT (id) DO NOTHING";
        transaction.execute(sql, &[&id]).await?;
        let total = format!("{}.{:02}", 10 + step * 7, step * 5 % 100);
        let payload = json!({"total": total, "customer": format!("customer-{}", step % 5)});
        append(&transaction, step, "shop.OrderPlaced", payload).await?;
        events += 1;
    }
    if (1..=ORDERS).contains(&step) {
        let amount = format!("{}.{:02}", 10 + (step - 1) * 7, (step - 1) * 5 % 100);
        let payload = json!({"amount": amount, "method": "CARD"});
        append(&transaction, step - 1, "shop.OrderPaid", payload).await?;
        events += 1;
    }
    if step >= 2 {
        let payload = json!({"carrier": "POST", "parcels": step % 3 + 1});
        append(&transaction, step - 2, "shop.OrderShipped", payload).await?;
        events += 1;
    }
    transaction.commit().await?;
    Ok(events)
}

async fn append(
    transaction: &tokio_postgres::Transaction<'_>,
    order: u32,
    event_type: &str,
    payload: serde_json::Value,
) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload) \
               VALUES ($1, 'order', $2, $3, $4)";
    let aggregate = format!("order-{}", order + 1);
    transaction.execute(sql, &[&Uuid::now_v7(), &aggregate, &event_type, &payload]).await?;
    Ok(())
}

fn show(record: &ReadRecord, decoded: &Decoded, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return print(&decoded.line(record, output)).map_err(|failure| failure.error);
    }
    let key = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let kind = record.header(envelope::HEADER_TYPE).unwrap_or("?");
    let value = match decoded {
        Decoded::Json(text, id) => {
            let id = id.map_or_else(String::new, |id| format!("   schema {id}"));
            format!("{}{id}", printable(text))
        }
        Decoded::Tombstone => "(tombstone)".to_owned(),
        Decoded::Undecodable(reason) => format!("({reason})"),
    };
    let line = format!("  {:<9} {:<18} {value}\n", printable(&key), printable(kind));
    print(&line).map_err(|failure| failure.error)
}

fn show_verdict(verdict: &Verdict, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return print_json(&json!({
            "committed": verdict.committed,
            "delivered": verdict.delivered,
            "lost": verdict.lost,
            "duplicated": verdict.duplicated,
            "out_of_order": verdict.out_of_order,
        }));
    }
    let head = ["COMMITTED", "DELIVERED", "LOST", "DUPLICATED", "OUT OF ORDER"];
    let counts = [
        verdict.committed,
        verdict.delivered,
        verdict.lost,
        verdict.duplicated,
        verdict.out_of_order,
    ];
    let rows = [head.map(str::to_owned).to_vec(), counts.map(|count| count.to_string()).to_vec()];
    print(&format!("\n{}", table(&rows)))?;
    for offender in &verdict.offenders {
        print(&format!("{}: {}\n", offender.kind, printable(&offender.what)))?;
    }
    let program = super::instance::program();
    eprint!(
        "\nTry it by hand:\n  {program} dev\n\
         and in a second terminal:\n  \
         {program} emit order 42 shop.OrderPlaced '{{\"total\": 12.50}}'\n  \
         {program} tail events.order --from beginning\n\
         and break something:\n  \
         {program} emit order 42 shop.OrderPlaced '{{\"total\": \"abc\"}}'\n  \
         {program} parked list\n"
    );
    Ok(())
}
