//! What the inbox costs, on real servers: the claim over the bare business transaction, batches
//! over bare batched inserts, an inbox of any size, and the whole runtime with its memory.
//!
//! Method: one PostgreSQL with fsync and `synchronous_commit` on and one Kafka broker, started for
//! this run. Each contender alternates with the bare transaction on one connection; told are the
//! medians of these pairs and their ratios. Back-of-envelope: a bare transaction is three round
//! trips and one flush to disk; a pipelined claim adds no round trip but one statement with a row
//! and an index entry of its own, some 50 us, a sequential one adds a round trip.

mod claim;
mod runtime;
mod size;

use anyhow::Result;
use clap::Parser;

#[path = "../load/process.rs"]
#[expect(dead_code, reason = "the load's other half")]
mod process;
#[path = "../load/start.rs"]
mod start;

/// Measures the inbox beside what it is compared with.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of single transactions; each contender has one a round.
    #[arg(long, default_value_t = 3_000)]
    rounds: usize,
    /// Rounds of batches of 100.
    #[arg(long, default_value_t = 600)]
    batch_rounds: usize,
    /// Claims in the larger inbox, in millions; the smaller has one million.
    #[arg(long, default_value_t = 50)]
    millions: u32,
    /// Events for the runtime.
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// A smoke run: small numbers, to see that everything works.
    #[arg(long)]
    smoke: bool,
    /// Only the size of the inbox.
    #[arg(long)]
    size_only: bool,
    /// Only consume: the process whose memory is measured. Its database, broker and topic.
    #[arg(long, num_args = 3, hide = true)]
    consume: Vec<String>,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.rounds, arguments.batch_rounds) = (50, 10);
        (arguments.millions, arguments.events) = (2, 2_000);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [database, kafka, topic] = arguments.consume.as_slice() {
        return runtime.block_on(runtime::consume(database, kafka, topic));
    }
    runtime.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> Result<()> {
    println!("commit {}, {}", process::commit(), process::machine());
    let (postgres, kafka) = start::start().await?;
    if !arguments.size_only {
        claim::singles(&postgres.url(), arguments.rounds).await?;
        claim::batches(&postgres.url(), arguments.batch_rounds).await?;
        runtime::measure(&postgres.url(), &kafka.address(), arguments.events).await?;
    }
    size::measure(&postgres.url(), arguments.millions, arguments.rounds).await
}

/// A connection to a fresh database with the inbox's tables.
async fn database(url: &str, name: &str) -> Result<(String, tokio_postgres::Client)> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    let own = url.rsplit_once('/').map_or(url, |(front, _)| front);
    let own = format!("{own}/{name}");
    let client = connect(&own).await?;
    client.batch_execute(walpost_inbox::store::INBOX_SQL).await?;
    walpost_inbox::store::window::keep(&client, 7).await?;
    Ok((own, client))
}

async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
