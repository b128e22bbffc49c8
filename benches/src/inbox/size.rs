//! The claim in a small inbox and in a large one: a claim touches the partition of its day only.

use std::time::Instant;

use anyhow::Result;
use tokio_postgres::Client;
use walpost_inbox::store::claim::Statements;
use walpost_inbox::store::{Consumer, Transaction};

use crate::claim::message;
use crate::{connect, database, median};

/// Claims of each day.
const A_DAY: u32 = 1_000_000;

/// Fills today with a million claims; with more millions, one day before the other too.
async fn fill(admin: &Client, millions: u32) -> Result<()> {
    for day in 0..millions {
        let date = format!("(now() AT TIME ZONE 'UTC')::date - {day}");
        admin.batch_execute(&format!("SELECT inbox_open_day({date})")).await?;
        let sql = format!(
            "INSERT INTO inbox_claim (consumer, day, id) SELECT 1, {date}, gen_random_uuid()
             FROM generate_series(1, {A_DAY})"
        );
        admin.batch_execute(&sql).await?;
    }
    admin.batch_execute("VACUUM ANALYZE inbox_claim").await?;
    admin.batch_execute("CHECKPOINT").await?;
    Ok(())
}

struct Sized {
    client: Client,
    statements: Statements,
    consumer: Consumer,
}

impl Sized {
    async fn new(url: &str) -> Result<Self> {
        let client = connect(url).await?;
        let consumer = Consumer::open(&client, "bench", "cluster").await?;
        let statements = Statements::prepare(&client).await?;
        Ok(Self { client, statements, consumer })
    }

    async fn claim(&mut self, offset: i64) -> Result<f64> {
        let messages = [message(offset)];
        let begun = Instant::now();
        let Self { client, statements, consumer } = self;
        let (tx, _) = Transaction::begin(client, statements, consumer, &messages).await?;
        tx.commit().await?;
        Ok(begun.elapsed().as_secs_f64())
    }
}

/// One million claims against many, in turns.
pub(crate) async fn measure(url: &str, millions: u32, rounds: usize) -> Result<()> {
    let (small_url, small) = database(url, "small").await?;
    let (large_url, large) = database(url, "large").await?;
    let widen = format!("UPDATE inbox_window SET oldest = current_date - {}", millions + 1);
    large.batch_execute(&widen).await?;
    fill(&small, 1).await?;
    fill(&large, millions).await?;
    let (mut one, mut many) = (Sized::new(&small_url).await?, Sized::new(&large_url).await?);
    let (mut of_one, mut of_many) = (Vec::new(), Vec::new());
    let warm = rounds / 10;
    for round in 0..rounds + warm {
        let offset = i64::try_from(round)?;
        let took = (one.claim(offset).await?, many.claim(offset).await?);
        if round >= warm {
            of_one.push(took.0);
            of_many.push(took.1);
        }
    }
    let (one, many) = (median(of_one), median(of_many));
    println!("\none claim and its commit, medians of {rounds} interleaved rounds");
    println!("inbox of 1 million claims      {:7.0} us", one * 1e6);
    println!(
        "inbox of {millions} million, one a day  {:7.0} us  ratio {:.2}",
        many * 1e6,
        many / one
    );
    Ok(())
}
