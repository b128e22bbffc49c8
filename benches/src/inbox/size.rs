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

/// Fills today with a million claims; with more millions, one day before the other too. Each day as
/// `inbox_open_day` makes it, but filled before its index is built, which takes half the time.
async fn fill(admin: &Client, millions: u32) -> Result<()> {
    // The log of the filling is not to fill the disk as well.
    admin.batch_execute("ALTER SYSTEM SET max_wal_size = '1GB'").await?;
    admin.batch_execute("SELECT pg_reload_conf()").await?;
    for back in 0..millions {
        let sql = format!(
            "DO $$ DECLARE
                 of_day date := (now() AT TIME ZONE 'UTC')::date - {back};
                 own text := 'inbox_claim_' || to_char(of_day, 'YYYYMMDD');
             BEGIN
                 EXECUTE format('DROP TABLE IF EXISTS %I', own);
                 EXECUTE format('CREATE TABLE %I (LIKE inbox_claim INCLUDING DEFAULTS)
                                 WITH (autovacuum_enabled = off)', own);
                 EXECUTE format('INSERT INTO %I (consumer, day, id)
                                 SELECT 1, %L, gen_random_uuid()
                                 FROM generate_series(1, {A_DAY})', own, of_day);
                 EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (id, consumer, day)', own);
                 EXECUTE format('ALTER TABLE inbox_claim ATTACH PARTITION %I
                                 FOR VALUES FROM (%L) TO (%L)', own, of_day, of_day + 1);
             END $$"
        );
        admin.batch_execute(&sql).await?;
    }
    admin.batch_execute("ALTER SYSTEM RESET max_wal_size").await?;
    admin.batch_execute("SELECT pg_reload_conf()").await?;
    admin.batch_execute("CHECKPOINT").await?;
    Ok(())
}

/// What the inbox takes on disk.
async fn gigabytes(admin: &Client) -> Result<f64> {
    let sql = "SELECT sum(pg_total_relation_size(relid))::float8 / 1e9
               FROM pg_partition_tree('inbox_claim')";
    Ok(admin.query_one(sql, &[]).await?.try_get(0)?)
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
    let (of_small, of_large) = (gigabytes(&small).await?, gigabytes(&large).await?);
    println!("inbox of 1 million claims      {:7.0} us  {of_small:.1} GB", one * 1e6);
    println!(
        "inbox of {millions} million, one a day  {:7.0} us  {of_large:.1} GB  ratio {:.2}",
        many * 1e6,
        many / one
    );
    Ok(())
}
