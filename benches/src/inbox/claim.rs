//! The claim over the bare transaction, one event at a time and a hundred at a time.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;
use walpost_inbox::store::claim::Statements;
use walpost_inbox::store::{Claim, Consumer, Day, Transaction, claim};
use walpost_inbox::{MessageRef, Place};

use crate::{connect, database, median};

const BATCH: usize = 100;

pub(crate) fn message(offset: i64) -> MessageRef {
    let id = Uuid::now_v7();
    MessageRef {
        id,
        day: Day::of(id, None),
        place: Place { topic: "events.order".into(), partition: 0 },
        offset,
        sequence: Arc::from(format!("\u{1}key-{}", offset % 1_000).as_bytes()),
    }
}

/// One connection with everything prepared.
struct Contender {
    client: Client,
    business: Statement,
    statements: Statements,
    consumer: Consumer,
}

impl Contender {
    async fn new(url: &str, business: &str) -> Result<Self> {
        let client = connect(url).await?;
        let business = client.prepare(business).await?;
        let statements = Statements::prepare(&client).await?;
        let consumer = Consumer::open(&client, "bench", "cluster").await?;
        Ok(Self { client, business, statements, consumer })
    }
}

const UPDATE: &str = "UPDATE account SET total = total + 1 WHERE id = $1";

/// BEGIN, one update, COMMIT: bare, with a pipelined claim, with a claim of its own round trip.
pub(crate) async fn singles(url: &str, rounds: usize) -> Result<()> {
    let (url, admin) = database(url, "singles").await?;
    admin
        .batch_execute(
            "CREATE TABLE account (id int PRIMARY KEY, total bigint NOT NULL);
             INSERT INTO account SELECT n, 0 FROM generate_series(0, 9999) n",
        )
        .await?;
    admin.batch_execute("VACUUM ANALYZE account").await?;
    let mut bare = Contender::new(&url, UPDATE).await?;
    let mut pipelined = Contender::new(&url, UPDATE).await?;
    let mut sequential = Contender::new(&url, UPDATE).await?;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    // The first tenth warms plans and caches.
    let warm = rounds / 10;
    for round in 0..rounds + warm {
        let account = i32::try_from(round * 7 % 10_000)?;
        let offset = i64::try_from(round)?;
        let took = [
            bare_update(&mut bare, account).await?,
            pipelined_update(&mut pipelined, account, offset).await?,
            sequential_update(&mut sequential, account, offset).await?,
        ];
        if round >= warm {
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    let [bare, pipelined, sequential] = times.map(median);
    let more = |time: f64| (time / bare - 1.0) * 100.0;
    println!("\none event in a transaction, medians of {rounds} interleaved rounds");
    println!("bare transaction               {:7.0} us", bare * 1e6);
    println!(
        "claim pipelined with BEGIN     {:7.0} us  {:+.1} %",
        pipelined * 1e6,
        more(pipelined)
    );
    println!(
        "claim in a round trip          {:7.0} us  {:+.1} %",
        sequential * 1e6,
        more(sequential)
    );
    Ok(())
}

async fn bare_update(contender: &mut Contender, account: i32) -> Result<f64> {
    let begun = Instant::now();
    let tx = contender.client.transaction().await?;
    tx.execute(&contender.business, &[&account]).await?;
    tx.commit().await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn pipelined_update(contender: &mut Contender, account: i32, offset: i64) -> Result<f64> {
    let Contender { client, business, statements, consumer } = contender;
    let messages = [message(offset)];
    let begun = Instant::now();
    let (tx, claims) = Transaction::begin(client, statements, consumer, &messages).await?;
    anyhow::ensure!(claims.count(Claim::Fresh) == 1, "a fresh id is a first copy");
    tx.execute(business, &[&account]).await?;
    tx.commit().await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn sequential_update(contender: &mut Contender, account: i32, offset: i64) -> Result<f64> {
    let Contender { client, business, statements, consumer } = contender;
    let messages = [message(offset)];
    let begun = Instant::now();
    let tx = client.transaction().await?;
    let claims = claim::claim_prepared(&tx, statements, consumer, &messages).await?;
    anyhow::ensure!(claims.count(Claim::Fresh) == 1, "a fresh id is a first copy");
    tx.execute(business, &[&account]).await?;
    tx.commit().await?;
    Ok(begun.elapsed().as_secs_f64())
}

const INSERT: &str = "INSERT INTO line (id, n) SELECT * FROM unnest($1::uuid[], $2::bigint[])";

/// A hundred rows in one statement: bare, and behind the claim of a hundred ids.
pub(crate) async fn batches(url: &str, rounds: usize) -> Result<()> {
    let (url, admin) = database(url, "batches").await?;
    admin.batch_execute("CREATE TABLE line (id uuid PRIMARY KEY, n bigint NOT NULL)").await?;
    let mut bare = Contender::new(&url, INSERT).await?;
    let mut claimed = Contender::new(&url, INSERT).await?;
    let (mut bare_times, mut claimed_times) = (Vec::new(), Vec::new());
    let warm = rounds / 10;
    for round in 0..rounds + warm {
        let first = i64::try_from(round * BATCH)?;
        let took =
            (insert_bare(&mut bare, first).await?, insert_claimed(&mut claimed, first).await?);
        if round >= warm {
            bare_times.push(took.0);
            claimed_times.push(took.1);
        }
    }
    let (bare, claimed) = (median(bare_times), median(claimed_times));
    println!(
        "\n{BATCH} events in a transaction, set-based, medians of {rounds} interleaved rounds"
    );
    println!("bare batched insert            {:7.0} us  {:8.0} events/s", bare * 1e6, rate(bare));
    println!(
        "with the claim                 {:7.0} us  {:8.0} events/s  ratio {:.2}",
        claimed * 1e6,
        rate(claimed),
        bare / claimed
    );
    Ok(())
}

fn rate(seconds: f64) -> f64 {
    BATCH as f64 / seconds
}

fn rows(messages: &[MessageRef]) -> (Vec<Uuid>, Vec<i64>) {
    messages.iter().map(|message| (message.id, message.offset)).unzip()
}

fn messages(first: i64) -> Vec<MessageRef> {
    (first..).take(BATCH).map(message).collect()
}

async fn insert_bare(contender: &mut Contender, first: i64) -> Result<f64> {
    let (ids, numbers) = rows(&messages(first));
    let begun = Instant::now();
    let tx = contender.client.transaction().await?;
    tx.execute(&contender.business, &[&ids, &numbers]).await?;
    tx.commit().await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn insert_claimed(contender: &mut Contender, first: i64) -> Result<f64> {
    let Contender { client, business, statements, consumer } = contender;
    let messages = messages(first);
    let begun = Instant::now();
    let (tx, claims) = Transaction::begin(client, statements, consumer, &messages).await?;
    let fresh: Vec<MessageRef> = claims.fresh(&messages).cloned().collect();
    let (ids, numbers) = rows(&fresh);
    anyhow::ensure!(ids.len() == BATCH, "fresh ids are first copies");
    tx.execute(business, &[&ids, &numbers]).await?;
    tx.commit().await?;
    Ok(begun.elapsed().as_secs_f64())
}
