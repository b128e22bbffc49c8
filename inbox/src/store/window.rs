//! A number of days in; partitions opened ahead, dropped behind, and old other claims pruned, out.
//!
//! Nothing here runs in a transaction of events. Each step is a transaction of its own with a short
//! `lock_timeout`: dropping a partition waits for open claims, and claims would wait behind it.
//! `DETACH .. CONCURRENTLY` is not possible beside a DEFAULT partition.

use std::time::Duration;

use tokio_postgres::{GenericClient, SimpleQueryMessage};

use crate::store::{Blame, StoreError};

/// How long claims may stand behind the dropping of a partition.
const LOCK_TIMEOUT_MS: u32 = 500;
/// Claims deleted in one transaction.
const PRUNE_BATCH: u32 = 10_000;
/// Days that get their partition before their first id.
const DAYS_AHEAD: u32 = 2;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Partitions made.
    pub opened: u32,
    /// Partitions dropped.
    pub dropped: u32,
    /// Other claims deleted.
    pub pruned: u32,
    /// False when a lock was not free in time: call again later.
    pub is_done: bool,
}

/// Keeps the window: `days` full days before today, by the database's clock in UTC.
///
/// Safe to run anywhere at any time, on several instances at once.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client) -> Result<(), walpost_inbox::store::StoreError> {
/// let upkeep = walpost_inbox::store::window::keep(client, 7).await?;
/// assert!(upkeep.is_done || upkeep.dropped == 0);
/// # Ok(())
/// # }
/// ```
pub async fn keep(client: &impl GenericClient, days: u32) -> Result<Upkeep, StoreError> {
    let mut upkeep = Upkeep { is_done: true, ..Upkeep::default() };
    let today = "(now() AT TIME ZONE 'UTC')::date";
    // The window moves first, so that no partition of a day before it is made again.
    let drop = format!("SELECT inbox_drop_days_before({today} - {days})");
    upkeep.dropped = step(client, &drop, &mut upkeep.is_done).await?;
    // One partition a transaction: each needs the lock on the partition for others.
    for ahead in 0..=days.saturating_add(DAYS_AHEAD) {
        let open = format!("SELECT inbox_open_day({today} - {days} + {ahead})::int");
        upkeep.opened += step(client, &open, &mut upkeep.is_done).await?;
    }
    let prune = format!("SELECT inbox_prune_other('{days} days', {PRUNE_BATCH})");
    loop {
        let pruned = step(client, &prune, &mut upkeep.is_done).await?;
        upkeep.pruned += pruned;
        if pruned < PRUNE_BATCH {
            return Ok(upkeep);
        }
    }
}

/// How long to wait before the next call.
///
/// ```
/// use walpost_inbox::store::window::{Upkeep, pause};
/// let undone = Upkeep::default();
/// assert!(pause(undone) < pause(Upkeep { is_done: true, ..undone }));
/// ```
#[must_use]
pub fn pause(upkeep: Upkeep) -> Duration {
    if upkeep.is_done { Duration::from_secs(600) } else { Duration::from_secs(10) }
}

async fn step(
    client: &impl GenericClient,
    sql: &str,
    is_done: &mut bool,
) -> Result<u32, StoreError> {
    let whole = format!("BEGIN; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; {sql}; COMMIT");
    match client.simple_query(&whole).await {
        Ok(messages) => Ok(first_number(&messages)),
        Err(error) => {
            client.batch_execute("ROLLBACK").await?;
            if Blame::of(&error) != Blame::Contention {
                return Err(error.into());
            }
            *is_done = false;
            Ok(0)
        }
    }
}

fn first_number(messages: &[SimpleQueryMessage]) -> u32 {
    let number = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).and_then(|text| text.parse().ok()),
        _ => None,
    });
    number.unwrap_or(0)
}
