//! A consumer that keeps balances: movements of accounts in, one row each in `ledger` and the sums
//! in `balance`, out. A movement that does not follow the last one of its account is parked.
//!
//! Reads `WALPOST_TEST_KAFKA`, `WALPOST_TEST_REGISTRY`, `DATABASE_URL`, `TOPIC` and `GROUP`, makes
//! its tables itself, and runs until SIGTERM. However often it is killed, each movement is in the
//! sums once. Optional: `PROPERTIES` for the Kafka client (`a=b,c=d`), `DEADLINE` in seconds for
//! one call of the handler.

use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;
use walpost_inbox::store::{Database, install};
use walpost_inbox::{Cx, Error, Event, Inbox, Kafka, Outcome};

#[derive(Deserialize)]
struct Moved {
    account: String,
    amount: i64,
    seq: i64,
}

impl Event for Moved {
    const TYPE: &'static str = "bank.Moved";
    const SCHEMA: Option<&'static str> = Some(
        r#"{"type": "record", "name": "Moved", "namespace": "bank", "fields": [
            {"name": "account", "type": "string"},
            {"name": "amount", "type": "long"},
            {"name": "seq", "type": "long"}]}"#,
    );
}

/// One instance at a time: two that make the same table at the same moment are in each other's way.
const TABLES: &str = "
BEGIN;
SELECT pg_advisory_xact_lock(hashtext('ledger'));
CREATE TABLE IF NOT EXISTS ledger (
    event_id uuid NOT NULL, account text NOT NULL, amount bigint NOT NULL, seq bigint NOT NULL);
CREATE TABLE IF NOT EXISTS balance (
    account text PRIMARY KEY, total bigint NOT NULL, last_seq bigint NOT NULL,
    applied bigint NOT NULL);
COMMIT";

/// Changes nothing unless the movement is the next one of its account. The first is 1, or 0 where a
/// producer counts from there.
const APPLY: &str = "
WITH moved AS (
    INSERT INTO balance AS b (account, total, last_seq, applied)
    SELECT $1, $2, $3, 1 WHERE $3 IN (0, 1) OR EXISTS (SELECT FROM balance WHERE account = $1)
    ON CONFLICT (account) DO UPDATE
    SET total = b.total + $2, last_seq = $3, applied = b.applied + 1 WHERE b.last_seq = $3 - 1
    RETURNING account)
INSERT INTO ledger (event_id, account, amount, seq) SELECT $4, $1, $2, $3 FROM moved";

async fn apply(moved: Moved, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    let Moved { account, amount, seq } = moved;
    let applied = cx
        .tx()
        .execute_typed(
            APPLY,
            &[
                (&account, Type::TEXT),
                (&amount, Type::INT8),
                (&seq, Type::INT8),
                (&cx.id(), Type::UUID),
            ],
        )
        .await?;
    if applied == 0 {
        return Ok(Outcome::Park(format!("movement {seq} is not the next of its account")));
    }
    Ok(Outcome::Done)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let database = Database::new(variable("DATABASE_URL")?.parse()?, NoTls);
    while let Err(error) = make_tables(&database).await {
        eprintln!("tables cannot be made yet: {error:#}");
        // tidy: allow sleep: a pace of asking a server that is away; nobody tells when it is back
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // An instance that was killed is given up after the least time that a broker allows; until then
    // its partitions are nobody's.
    let mut kafka = Kafka::new(variable("WALPOST_TEST_KAFKA")?, variable("GROUP")?)
        .with("session.timeout.ms", "6000")
        .with("heartbeat.interval.ms", "1500");
    for property in variable("PROPERTIES").unwrap_or_default().split_terminator(',') {
        let (name, value) = property.split_once('=').context("PROPERTIES is a=b,c=d")?;
        kafka = kafka.with(name, value);
    }
    let deadline = variable("DEADLINE").map_or(Ok(30), |text| text.parse())?;
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Inbox::new("ledger", database, ())
        .registry(&variable("WALPOST_TEST_REGISTRY")?)?
        .topic(&variable("TOPIC")?, |topic| topic.on_any(apply))
        .settings(|settings| settings.handler_deadline = Duration::from_secs(deadline))
        .run(kafka, async move {
            terminated.recv().await;
        })
        .await?;
    Ok(())
}

async fn make_tables(database: &Database) -> anyhow::Result<()> {
    let link = database.link_bare().await?;
    install(&link).await?;
    link.batch_execute(TABLES).await?;
    Ok(())
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}
