//! The parking lot of a consumer, for the one on call: `list`, `retry [EVENT_ID]`,
//! `discard EVENT_ID REASON`. Reads `DATABASE_URL` and `CONSUMER`.
//!
//! `retry` only asks; the running instance that owns the partition releases the sequence in order.
//! Without an id it asks for every parked sequence.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use tokio_postgres::NoTls;
use walpost_inbox::store::{Database, parked};

/// Sequences in one list.
const LIST_MAX: i64 = 1_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let (url, consumer) = (variable("DATABASE_URL")?, variable("CONSUMER")?);
    let client = Database::new(url.parse()?, NoTls).link_bare().await?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut out = std::io::stdout().lock();
    match arguments.as_slice() {
        ["list"] => {
            for sequence in parked::list(&client, &consumer, LIST_MAX).await? {
                let key = sequence.key.as_deref().unwrap_or("(no key)");
                let due = sequence.release_at.as_deref().unwrap_or("waits for a person");
                writeln!(
                    out,
                    "{key}  {}/{}  {} events  since {}  {due}  first {}  {}",
                    sequence.topic,
                    sequence.partition,
                    sequence.events,
                    sequence.parked_at,
                    sequence.first_id,
                    sequence.reason
                )?;
            }
        }
        ["retry"] => {
            let asked = parked::retry(&client, &consumer, None).await?;
            writeln!(out, "{asked} sequences will be tried again")?;
        }
        ["retry", id] => {
            let asked = parked::retry(&client, &consumer, Some(id.parse()?)).await?;
            writeln!(out, "{asked} sequences will be tried again")?;
        }
        ["discard", id, reason] => {
            parked::discard(&client, &consumer, id.parse()?, reason).await?;
            writeln!(out, "{id} is given up")?;
        }
        _ => bail!("usage: parked list | retry [EVENT_ID] | discard EVENT_ID REASON"),
    }
    Ok(())
}
