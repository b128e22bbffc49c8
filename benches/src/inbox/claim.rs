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
    least: Statement,
    statements: Statements,
    consumer: Consumer,
}

impl Contender {
    async fn new(url: &str, business: &str) -> Result<Self> {
        let client = connect(url).await?;
        let least = client.prepare(if business == UPDATE { LEAST_ONE } else { LEAST_MANY }).await?;
        let business = client.prepare(business).await?;
        let statements = Statements::prepare(&client).await?;
        let consumer = Consumer::open(&client, "bench", "cluster").await?;
        Ok(Self { client, business, least, statements, consumer })
    }
}

const UPDATE: &str = "UPDATE account SET total = total + 1 WHERE id = $1";

/// The least that any inbox does.
const LEAST: &str = "CREATE TABLE least (id uuid PRIMARY KEY)";
const LEAST_ONE: &str = "INSERT INTO least VALUES ($1)";
const LEAST_MANY: &str = "INSERT INTO least SELECT * FROM unnest($1::uuid[])";

/// What is done besides the business statement.
#[derive(Debug, Clone, Copy)]
enum Besides {
    /// A row of one id in a second table.
    Least,
    /// A part of what the claim does, as SQL, in one flight with BEGIN.
    Part(&'static str),
    /// The same in a round trip of its own.
    Trip(&'static str),
    /// The claim, in one flight with BEGIN.
    Pipelined,
    /// The claim, in a round trip of its own.
    Sequential,
}

/// A contender and what it is compared with, in turns on one connection; the next contender comes
/// when this one has had all its pairs, because a consumer has nobody beside it who empties caches.
struct Pairs {
    name: &'static str,
    besides: Besides,
    contender: Contender,
    bare: Vec<f64>,
    with: Vec<f64>,
}

impl Pairs {
    async fn new(
        url: &str,
        business: &str,
        (name, besides): (&'static str, Besides),
    ) -> Result<Self> {
        let mut contender = Contender::new(url, business).await?;
        if let Besides::Part(sql) | Besides::Trip(sql) = besides {
            contender.least = contender.client.prepare(sql).await?;
        }
        Ok(Self { name, besides, contender, bare: Vec::new(), with: Vec::new() })
    }

    fn note(&mut self, bare: f64, with: f64, counts: bool) {
        if counts {
            self.bare.push(bare);
            self.with.push(with);
        }
    }

    fn medians(self) -> (&'static str, f64, f64) {
        (self.name, median(self.bare), median(self.with))
    }
}

/// The parts of a claim, each with what is before it.
const PART_ROW: &str =
    "INSERT INTO inbox_claim (consumer, day, id) VALUES (1, (now() AT TIME ZONE 'UTC')::date, $1)";
const PART_UNLESS: &str = "INSERT INTO inbox_claim (consumer, day, id)
    VALUES (1, (now() AT TIME ZONE 'UTC')::date, $1) ON CONFLICT DO NOTHING";
const PART_LOOK: &str = "INSERT INTO inbox_claim (consumer, day, id)
    SELECT 1, (now() AT TIME ZONE 'UTC')::date, $1 FROM inbox_window w
    WHERE w.oldest <= (now() AT TIME ZONE 'UTC')::date AND NOT EXISTS (
        SELECT FROM inbox_sequence s WHERE s.consumer = 1 AND s.topic = 't' AND s.sequence = '')
    ON CONFLICT DO NOTHING";

/// BEGIN, one update, COMMIT, alone and with what an inbox does besides.
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
    let mut pairs = Vec::new();
    for one in [
        ("one id in a second table", Besides::Least),
        ("a row in the table of claims", Besides::Part(PART_ROW)),
        ("the same, unless it is there", Besides::Part(PART_UNLESS)),
        ("the same, with the look", Besides::Part(PART_LOOK)),
        ("claim pipelined with BEGIN", Besides::Pipelined),
        ("an empty round trip", Besides::Trip("SELECT FROM (VALUES ($1::uuid)) v")),
        ("one id in a round trip", Besides::Trip(LEAST_ONE)),
        ("claim in a round trip", Besides::Sequential),
    ] {
        pairs.push(Pairs::new(&url, UPDATE, one).await?);
    }
    // The first tenth warms plans and caches.
    let warm = rounds / 10;
    for pair in &mut pairs {
        for round in 0..rounds + warm {
            let account = i32::try_from(round * 7 % 10_000)?;
            let offset = i64::try_from(round)?;
            let contender = &mut pair.contender;
            // In turns: who comes second finds the caches warm.
            let (bare, with) = if round.is_multiple_of(2) {
                let bare = bare_update(contender, account).await?;
                (bare, update_with(pair.besides, contender, account, offset).await?)
            } else {
                let with = update_with(pair.besides, contender, account, offset).await?;
                (bare_update(contender, account).await?, with)
            };
            pair.note(bare, with, round >= warm);
        }
    }
    println!("\none event in a transaction, medians of {rounds} interleaved pairs");
    for (name, bare, with) in pairs.into_iter().map(Pairs::medians) {
        let (bare_us, with_us) = (bare * 1e6, with * 1e6);
        let more = (with / bare - 1.0) * 100.0;
        println!("{name:<30} bare {bare_us:4.0} us, with it {with_us:4.0} us  {more:+.1} %");
    }
    Ok(())
}

async fn update_with(
    besides: Besides,
    contender: &mut Contender,
    account: i32,
    offset: i64,
) -> Result<f64> {
    match besides {
        Besides::Least | Besides::Part(_) => least_update(contender, account).await,
        Besides::Trip(_) => trip_update(contender, account).await,
        Besides::Pipelined => pipelined_update(contender, account, offset).await,
        Besides::Sequential => sequential_update(contender, account, offset).await,
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
async fn least_update(contender: &mut Contender, account: i32) -> Result<f64> {
    let Contender { client, business, least: insert, .. } = contender;
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

/// BEGIN, a statement more, the update, COMMIT: four round trips.
async fn trip_update(contender: &mut Contender, account: i32) -> Result<f64> {
    let Contender { client, business, least: more, .. } = contender;
    let id = Uuid::now_v7();
    let begun = Instant::now();
    let tx = client.transaction().await?;
    tx.execute(&*more, &[&id]).await?;
    tx.execute(&*business, &[&account]).await?;
    tx.commit().await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn pipelined_update(contender: &mut Contender, account: i32, offset: i64) -> Result<f64> {
    let Contender { client, business, statements, consumer, .. } = contender;
    let messages = [message(offset)];
    let begun = Instant::now();
    let (tx, claims) = Transaction::begin(client, statements, consumer, &messages).await?;
    anyhow::ensure!(claims.count(Claim::Fresh) == 1, "a fresh id is a first copy");
    tx.execute(business, &[&account]).await?;
    tx.commit().await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn sequential_update(contender: &mut Contender, account: i32, offset: i64) -> Result<f64> {
    let Contender { client, business, statements, consumer, .. } = contender;
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

/// A hundred rows in one statement: alone, and behind what an inbox does with their ids.
pub(crate) async fn batches(url: &str, rounds: usize) -> Result<()> {
    let (url, admin) = database(url, "batches").await?;
    admin.batch_execute("CREATE TABLE line (id uuid PRIMARY KEY, n bigint NOT NULL)").await?;
    admin.batch_execute(LEAST).await?;
    let mut pairs = Vec::new();
    for one in [("their ids in a second table", Besides::Least), ("the claim", Besides::Pipelined)]
    {
        pairs.push(Pairs::new(&url, INSERT, one).await?);
    }
    let warm = rounds / 10;
    for pair in &mut pairs {
        for round in 0..rounds + warm {
            let first = i64::try_from(round * BATCH)?;
            let contender = &mut pair.contender;
            let (bare, with) = if round.is_multiple_of(2) {
                let bare = insert_bare(contender, first).await?;
                (bare, insert_with(pair.besides, contender, first).await?)
            } else {
                let with = insert_with(pair.besides, contender, first).await?;
                (insert_bare(contender, first).await?, with)
            };
            pair.note(bare, with, round >= warm);
        }
    }
    println!("\n{BATCH} events in a transaction, set-based, medians of {rounds} interleaved pairs");
    for (name, bare, with) in pairs.into_iter().map(Pairs::medians) {
        let rate = BATCH as f64 / with;
        println!(
            "{name:<30} bare {:4.0} us, with it {:4.0} us  {rate:8.0} events/s  ratio {:.2}",
            bare * 1e6,
            with * 1e6,
            bare / with
        );
    }
    Ok(())
}

async fn insert_with(besides: Besides, contender: &mut Contender, first: i64) -> Result<f64> {
    match besides {
        Besides::Least => insert_least(contender, first).await,
        _ => insert_claimed(contender, first).await,
    }
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

async fn insert_least(contender: &mut Contender, first: i64) -> Result<f64> {
    let (ids, numbers) = rows(&messages(first));
    let begun = Instant::now();
    least(&contender.client, &contender.least, &ids).await?;
    contender.client.execute(&contender.business, &[&ids, &numbers]).await?;
    contender.client.batch_execute("COMMIT").await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn insert_claimed(contender: &mut Contender, first: i64) -> Result<f64> {
    let Contender { client, business, statements, consumer, .. } = contender;
    let messages = messages(first);
    let (ids, numbers) = rows(&messages);
    let begun = Instant::now();
    let (tx, claims) = Transaction::begin(client, statements, consumer, &messages).await?;
    anyhow::ensure!(claims.count(Claim::Fresh) == BATCH, "fresh ids are first copies");
    tx.execute(business, &[&ids, &numbers]).await?;
    tx.commit().await?;
    Ok(begun.elapsed().as_secs_f64())
}
