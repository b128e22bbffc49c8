//! The whole path under load, on real servers: how fast a backlog drains, what that costs, how long
//! an event takes, and that none is lost.
//!
//! Method: one PostgreSQL with fsync on and one Kafka broker, started for this run. A template slot
//! is made before the backlog is written; every contender reads a copy of it, so all drain the same
//! WAL. Contenders take turns. The ceiling is `pg_recvlogical` to /dev/null. Every drain ends with
//! the verifier. Back-of-envelope: the walsender alone gives about 100,000 rows/s on two cores, and
//! each row passes four system calls less when it is read late, so the relay may pass the ceiling.

mod backlog;
mod drain;
mod latency;
mod process;
mod servers;
mod start;

use anyhow::Result;
use clap::Parser;

use crate::servers::{Fit, Servers};

/// Drains a backlog, beside `pg_recvlogical` on the same backlog, and measures latency.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rows of the backlog.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Rows a transaction.
    #[arg(long, default_value_t = 10)]
    rows_per_transaction: u64,
    /// Aggregates, round robin.
    #[arg(long, default_value_t = 10_000)]
    aggregates: u64,
    /// How often each contender drains.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Events a second for the latency runs; 0 leaves them out.
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    rates: Vec<u32>,
    /// Seconds of each latency run, after a warm-up of a fifth of it.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// A smoke run: small numbers, to see that everything works.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.rows, arguments.rounds, arguments.seconds) = (20_000, 1, 3);
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> Result<()> {
    println!("commit {}, {}", process::commit(), process::machine());
    let servers = Servers::start().await?;
    println!(
        "backlog {} rows, {} a transaction, {} aggregates; {} rounds",
        arguments.rows, arguments.rows_per_transaction, arguments.aggregates, arguments.rounds
    );
    let backlog = backlog::write(&servers, arguments).await?;
    println!("backlog of {} MB of WAL, payload {} B on average\n", backlog.wal_mb, backlog.payload);
    let mut table = drain::Table::default();
    for round in 0..arguments.rounds {
        table.add(drain::ceiling(&servers, &backlog, round).await?);
        table.add(drain::relay(&servers, &backlog, round, Fit::All).await?);
        table.add(drain::relay(&servers, &backlog, round, Fit::AllButOnePercent).await?);
    }
    print!("{}", table.text());
    for rate in arguments.rates.iter().filter(|rate| **rate > 0) {
        let seconds = arguments.seconds;
        println!("{}", latency::measure(&servers, *rate, seconds).await?);
    }
    Ok(())
}
