//! Sequences that may be released in; one event after another, each in a transaction of its own,
//! out.
//!
//! ```text
//!   a start, in a transaction of its own
//!   BEGIN; lock the sequence's row; read its first event
//!     business SQL
//!   delete the event, and with the last one the sequence; COMMIT
//! ```
//!
//! A copy that arrives meanwhile finds the sequence parked and waits for the lock to append. When
//! it gets the lock the sequence may be gone: then it starts over, and is handled behind it.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::message::Place;
use crate::store::parked::{ParkedEvent, event, remove, shortened};
use crate::store::{Consumer, StoreError};

/// A hundred years.
const AFTER_MS_MAX: i64 = 100 * 366 * 86_400_000;

/// A parked sequence by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SequenceName {
    /// Topic, and the partition whose owner releases it.
    pub place: Place,
    /// The name.
    pub sequence: Arc<[u8]>,
}

/// The sequences of these places that may be released now, those that wait longest first.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # owned: &[walpost_inbox::Place]) -> Result<(), walpost_inbox::store::StoreError> {
/// let due = walpost_inbox::store::release::due(client, consumer, owned).await?;
/// # Ok(())
/// # }
/// ```
pub async fn due(
    client: &impl GenericClient,
    consumer: &Consumer,
    owned: &[Place],
) -> Result<Vec<SequenceName>, StoreError> {
    let topics: Vec<&str> = owned.iter().map(|place| &*place.topic).collect();
    let partitions: Vec<i32> = owned.iter().map(|place| place.partition).collect();
    let rows = client
        .query_typed(
            "SELECT s.topic, s.partition, s.sequence FROM inbox_sequence s
             JOIN unnest($2::text[], $3::int[]) AS m (topic, partition) USING (topic, partition)
             WHERE s.consumer = $1 AND s.release_at <= now()
             ORDER BY s.release_at LIMIT 1000",
            &[
                (&consumer.number(), Type::INT2),
                (&topics, Type::TEXT_ARRAY),
                (&partitions, Type::INT4_ARRAY),
            ],
        )
        .await?;
    let name = |row: &tokio_postgres::Row| -> Result<SequenceName, StoreError> {
        let (topic, sequence): (&str, &[u8]) = (row.try_get(0)?, row.try_get(2)?);
        let place = Place { topic: topic.into(), partition: row.try_get(1)? };
        Ok(SequenceName { place, sequence: sequence.into() })
    };
    rows.iter().map(name).collect()
}

/// What a start has beside it in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Other events: a death says little.
    Beside,
    /// Nothing.
    Alone,
}

/// Notes that the first event of a sequence that is due is to be handled by this runner, in a
/// transaction of its own; how many runners died of it. When one did, a start beside others is not
/// noted, and not to be made. `None` when there is nothing to do, or somebody else is at it.
///
/// ```no_run
/// # use walpost_inbox::store::{Consumer, StoreError, release::{self, SequenceName, Start}};
/// # async fn f(client: &tokio_postgres::Client, consumer: &Consumer, name: &SequenceName,
/// # runner: uuid::Uuid) -> Result<(), StoreError> {
/// let deaths = release::start(client, consumer, name, runner, Start::Beside).await?;
/// let may_go = deaths == Some(0);
/// # Ok(())
/// # }
/// ```
pub async fn start(
    client: &impl GenericClient,
    consumer: &Consumer,
    name: &SequenceName,
    runner: Uuid,
    start: Start,
) -> Result<Option<u32>, StoreError> {
    let row = client
        .query_typed_opt(
            "WITH due AS (
                 SELECT deaths + (coalesce(runner, $4) <> $4)::int AS deaths
                 FROM inbox_sequence
                 WHERE consumer = $1 AND topic = $2 AND sequence = $3 AND release_at <= now()
                 FOR UPDATE SKIP LOCKED)
             UPDATE inbox_sequence s
             SET deaths = due.deaths, runner = CASE WHEN due.deaths = 0 OR $5 THEN $4 END
             FROM due WHERE s.consumer = $1 AND s.topic = $2 AND s.sequence = $3
             RETURNING s.deaths",
            &[
                (&consumer.number(), Type::INT2),
                (&&*name.place.topic, Type::TEXT),
                (&&*name.sequence, Type::BYTEA),
                (&runner, Type::UUID),
                (&(start == Start::Alone), Type::BOOL),
            ],
        )
        .await?;
    let deaths = |row: &tokio_postgres::Row| row.try_get::<_, i32>(0).map(i32::unsigned_abs);
    Ok(row.as_ref().map(deaths).transpose()?)
}

/// Locks a sequence that is due and reads its first event; `None` when there is nothing to do, or
/// somebody else is at it.
///
/// ```
/// # use walpost_inbox::store::{Consumer, StoreError, release::{self, SequenceName}};
/// # async fn f(tx: &tokio_postgres::Transaction<'_>, consumer: &Consumer, name: &SequenceName)
/// # -> Result<(), StoreError> {
/// if let Some(event) = release::head(tx, consumer, name).await? {
///     // The business SQL, then:
///     release::done(tx, consumer, name, event.n).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub async fn head(
    tx: &impl GenericClient,
    consumer: &Consumer,
    name: &SequenceName,
) -> Result<Option<ParkedEvent>, StoreError> {
    let of_sequence: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] = [
        (&consumer.number(), Type::INT2),
        (&&*name.place.topic, Type::TEXT),
        (&&*name.sequence, Type::BYTEA),
    ];
    let locked = tx
        .query_typed_opt(
            "SELECT FROM inbox_sequence
             WHERE consumer = $1 AND topic = $2 AND sequence = $3 AND release_at <= now()
             FOR UPDATE SKIP LOCKED",
            &of_sequence,
        )
        .await?;
    if locked.is_none() {
        return Ok(None);
    }
    // A statement of its own, begun under the lock: it sees what was there when the lock was got.
    let row = tx
        .query_typed_opt(
            "SELECT * FROM inbox_parked
             WHERE consumer = $1 AND topic = $2 AND sequence = $3 ORDER BY n LIMIT 1",
            &of_sequence,
        )
        .await?;
    row.as_ref().map(event).transpose()
}

/// Takes the first event out, in the transaction of its effects.
///
/// ```
/// # use walpost_inbox::store::{Consumer, StoreError, release::{self, SequenceName}};
/// # async fn f(tx: &tokio_postgres::Transaction<'_>, consumer: &Consumer, name: &SequenceName)
/// # -> Result<(), StoreError> {
/// # let n = 1;
/// release::done(tx, consumer, name, n).await?;
/// # Ok(())
/// # }
/// ```
pub async fn done(
    tx: &impl GenericClient,
    consumer: &Consumer,
    name: &SequenceName,
    n: i64,
) -> Result<(), StoreError> {
    remove(tx, consumer.number(), &name.place.topic, &name.sequence, n).await
}

/// The first event failed again: the sequence stays, waiting for a person, or for `after`.
///
/// ```
/// # use walpost_inbox::store::{Consumer, StoreError, release::{self, SequenceName}};
/// # async fn f(tx: &tokio_postgres::Transaction<'_>, consumer: &Consumer, name: &SequenceName)
/// # -> Result<(), StoreError> {
/// release::failed(tx, consumer, name, "still no such account", None).await?;
/// # Ok(())
/// # }
/// ```
pub async fn failed(
    client: &impl GenericClient,
    consumer: &Consumer,
    name: &SequenceName,
    reason: &str,
    after: Option<Duration>,
) -> Result<(), StoreError> {
    let after_ms = after.map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
    // Within what a timestamp can hold.
    let after_ms = after_ms.map(|after_ms| after_ms.min(AFTER_MS_MAX));
    client
        .execute_typed(
            "UPDATE inbox_sequence
             SET attempts = attempts + 1, reason = $4, runner = NULL,
                 release_at = now() + $5 * interval '1 millisecond'
             WHERE consumer = $1 AND topic = $2 AND sequence = $3",
            &[
                (&consumer.number(), Type::INT2),
                (&&*name.place.topic, Type::TEXT),
                (&&*name.sequence, Type::BYTEA),
                (&shortened(reason), Type::TEXT),
                (&after_ms, Type::INT8),
            ],
        )
        .await?;
    Ok(())
}
