//! The claim over the bare transaction, one event at a time and a hundred at a time; beside it the
//! least that any inbox does: a row of one id in a second table with a unique index, without a
//! verdict, a window or a look.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio_postgres::types::ToSql;
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

/// The least that any inbox does.
const LEAST: &str = "CREATE TABLE least (id uuid PRIMARY KEY)";
const LEAST_ONE: &str = "INSERT INTO least VALUES ($1)";
const LEAST_MANY: &str = "INSERT INTO least SELECT * FROM unnest($1::uuid[])";

/// BEGIN, one update, COMMIT: bare, with a row in a second table, with a pipelined claim, with a
/// claim of its own round trip.
pub(crate) async fn singles(url: &str, rounds: usize) -> Result<()> {
    let (url, admin) = database(url, "singles").await?;
    admin.batch_execute(LEAST).await?;
    admin
        .batch_execute(
            "CREATE TABLE account (id int PRIMARY KEY, total bigint NOT NULL);
             INSERT INTO account SELECT n, 0 FROM generate_series(0, 9999) n",
        )
        .await?;
    admin.batch_execute("VACUUM ANALYZE account").await?;
    let mut bare = Contender::new(&url, UPDATE).await?;
    let mut least = Contender::new(&url, UPDATE).await?;
    let insert = least.client.prepare(LEAST_ONE).await?;
    let mut pipelined = Contender::new(&url, UPDATE).await?;
    let mut sequential = Contender::new(&url, UPDATE).await?;
    let mut times = [const { Vec::new() }; 4];
    // The first tenth warms plans and caches.
    let warm = rounds / 10;
    for round in 0..rounds + warm {
        let account = i32::try_from(round * 7 % 10_000)?;
        let offset = i64::try_from(round)?;
        for which in turns(round, times.len()) {
            let took = match which {
                0 => bare_update(&mut bare, account).await?,
                1 => least_update(&mut least, &insert, account).await?,
                2 => pipelined_update(&mut pipelined, account, offset).await?,
                _ => sequential_update(&mut sequential, account, offset).await?,
            };
            note(&mut times, which, took, round >= warm);
        }
    }
    let [bare, least, pipelined, sequential] = times.map(median);
    println!("\none event in a transaction, medians of {rounds} interleaved rounds");
    println!("bare transaction               {:7.0} us", bare * 1e6);
    for (name, time) in [
        ("one id in a second table      ", least),
        ("claim pipelined with BEGIN    ", pipelined),
        ("claim in a round trip         ", sequential),
    ] {
        println!("{name} {:7.0} us  {:+.1} %", time * 1e6, (time / bare - 1.0) * 100.0);
    }
    Ok(())
}

/// Forward in one round and backward in the next: who comes second finds the caches warm.
fn turns(round: usize, contenders: usize) -> impl Iterator<Item = usize> {
    let is_forward = round.is_multiple_of(2);
    (0..contenders).map(move |turn| if is_forward { turn } else { contenders - 1 - turn })
}

fn note(times: &mut [Vec<f64>], which: usize, took: f64, counts: bool) {
    if counts && let Some(times) = times.get_mut(which) {
        times.push(took);
    }
}

async fn bare_update(contender: &mut Contender, account: i32) -> Result<f64> {
    let begun = Instant::now();
    let tx = contender.client.transaction().await?;
    tx.execute(&contender.business, &[&account]).await?;
    tx.commit().await?;
    Ok(begun.elapsed().as_secs_f64())
}

/// BEGIN and the row in one flight, as a claim is.
async fn least_update(contender: &mut Contender, insert: &Statement, account: i32) -> Result<f64> {
    let Contender { client, business, .. } = contender;
    let id = Uuid::now_v7();
    let begun = Instant::now();
    least(client, insert, &id).await?;
    client.execute(&*business, &[&account]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn least(client: &Client, insert: &Statement, ids: &(dyn ToSql + Sync)) -> Result<()> {
    let values = [ids];
    let (begun, inserted) =
        tokio::join!(biased; client.batch_execute("BEGIN"), client.execute(insert, &values));
    begun?;
    inserted?;
    Ok(())
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
    admin.batch_execute(LEAST).await?;
    let mut bare = Contender::new(&url, INSERT).await?;
    let mut least = Contender::new(&url, INSERT).await?;
    let second = least.client.prepare(LEAST_MANY).await?;
    let mut claimed = Contender::new(&url, INSERT).await?;
    let mut times = [const { Vec::new() }; 3];
    let warm = rounds / 10;
    for round in 0..rounds + warm {
        let first = i64::try_from(round * BATCH)?;
        for which in turns(round, times.len()) {
            let took = match which {
                0 => insert_bare(&mut bare, first).await?,
                1 => insert_least(&mut least, &second, first).await?,
                _ => insert_claimed(&mut claimed, first).await?,
            };
            note(&mut times, which, took, round >= warm);
        }
    }
    let [bare, least, claimed] = times.map(median);
    println!(
        "\n{BATCH} events in a transaction, set-based, medians of {rounds} interleaved rounds"
    );
    for (name, time) in [
        ("bare batched insert           ", bare),
        ("their ids in a second table   ", least),
        ("with the claim                ", claimed),
    ] {
        let (us, rate) = (time * 1e6, BATCH as f64 / time);
        println!("{name} {us:7.0} us  {rate:8.0} events/s  ratio {:.2}", bare / time);
    }
    Ok(())
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

async fn insert_least(contender: &mut Contender, second: &Statement, first: i64) -> Result<f64> {
    let (ids, numbers) = rows(&messages(first));
    let begun = Instant::now();
    least(&contender.client, second, &ids).await?;
    contender.client.execute(&contender.business, &[&ids, &numbers]).await?;
    contender.client.batch_execute("COMMIT").await?;
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
