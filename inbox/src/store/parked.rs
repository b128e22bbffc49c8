//! Events that cannot be handled now in; their whole sequences put aside, listed, asked back or
//! given up, out.
//!
//! A parked sequence has one row in `inbox_sequence`. Whoever parks, appends or releases holds its
//! lock, so the events of a sequence stand in `inbox_parked` in the order in which they were first
//! claimed. A person asks for a release ([`retry`]); the instance that owns the partition does it
//! ([`release`](crate::store::release)).

use std::sync::Arc;

use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use crate::message::{MessageRef, Record};
use crate::store::{Consumer, StoreError};

/// Longer reasons are cut: they are read by people.
const REASON_CHARS_MAX: usize = 1_000;

/// A parked sequence, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedSequence {
    /// The topic.
    pub topic: String,
    /// The name of the sequence.
    pub sequence: Vec<u8>,
    /// The record key, as text where it is text.
    pub key: Option<String>,
    /// Where it was last seen.
    pub partition: i32,
    /// Why.
    pub reason: String,
    /// Releases that failed.
    pub attempts: i32,
    /// RFC 3339.
    pub parked_at: String,
    /// RFC 3339; `None` waits for a person.
    pub release_at: Option<String>,
    /// How many events.
    pub events: i64,
    /// The first of them.
    pub first_id: Uuid,
}

/// One event of a parked sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Its place in the order.
    pub n: i64,
    /// The event id.
    pub id: Uuid,
    /// As it was read.
    pub record: Record,
}

pub(crate) fn shortened(reason: &str) -> String {
    // PostgreSQL's text holds no zero character.
    reason.chars().filter(|letter| *letter != '\0').take(REASON_CHARS_MAX).collect()
}

/// Parks an event that was claimed in this transaction: as the first of its sequence, or behind
/// those that are there.
///
/// ```
/// # use walpost_inbox::{MessageRef, Record, store::{Consumer, StoreError, parked}};
/// # async fn f(tx: &tokio_postgres::Transaction<'_>, consumer: &Consumer, message: &MessageRef,
/// # record: &Record) -> Result<(), StoreError> {
/// parked::park(tx, consumer, message, record, "no such account").await?;
/// # Ok(())
/// # }
/// ```
pub async fn park(
    tx: &impl GenericClient,
    consumer: &Consumer,
    message: &MessageRef,
    record: &Record,
    reason: &str,
) -> Result<(), StoreError> {
    let reason = shortened(reason);
    tx.execute_typed(
        "INSERT INTO inbox_sequence (consumer, topic, sequence, partition, reason)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (consumer, topic, sequence) DO UPDATE SET partition = EXCLUDED.partition",
        &[
            (&consumer.number(), Type::INT2),
            (&&*message.place.topic, Type::TEXT),
            (&&*message.sequence, Type::BYTEA),
            (&message.place.partition, Type::INT4),
            (&reason, Type::TEXT),
        ],
    )
    .await?;
    insert(tx, consumer, message, record).await
}

/// Appends events that were claimed in this transaction to their parked sequences, in order.
///
/// [`StoreError::SequenceGone`] when one of them was released meanwhile: roll back and claim again.
///
/// ```
/// # use walpost_inbox::{MessageRef, Record, store::{Consumer, StoreError, parked}};
/// # async fn f(tx: &tokio_postgres::Transaction<'_>, consumer: &Consumer, message: &MessageRef,
/// # record: &Record) -> Result<(), StoreError> {
/// parked::append(tx, consumer, &[(message, record)]).await?;
/// # Ok(())
/// # }
/// ```
pub async fn append(
    tx: &impl GenericClient,
    consumer: &Consumer,
    events: &[(&MessageRef, &Record)],
) -> Result<(), StoreError> {
    let mut names: Vec<(&str, &[u8])> =
        events.iter().map(|(message, _)| (&*message.place.topic, &*message.sequence)).collect();
    // In one direction only, for all who lock several.
    names.sort_unstable();
    names.dedup();
    for (topic, sequence) in &names {
        let row = tx
            .query_typed_opt(
                "SELECT FROM inbox_sequence WHERE consumer = $1 AND topic = $2 AND sequence = $3
                 FOR UPDATE",
                &[(&consumer.number(), Type::INT2), (topic, Type::TEXT), (sequence, Type::BYTEA)],
            )
            .await?;
        if row.is_none() {
            return Err(StoreError::SequenceGone);
        }
    }
    for (message, record) in events {
        insert(tx, consumer, message, record).await?;
    }
    Ok(())
}

async fn insert(
    tx: &impl GenericClient,
    consumer: &Consumer,
    message: &MessageRef,
    record: &Record,
) -> Result<(), StoreError> {
    let names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
    let values: Vec<Option<&[u8]>> =
        record.headers.iter().map(|(_, value)| value.as_deref()).collect();
    // A copy of what is parked already, whose claim was pruned meanwhile, adds nothing.
    tx.execute_typed(
        "WITH added AS (
             INSERT INTO inbox_parked (consumer, topic, sequence, id, partition, record_offset,
                 record_time, key, value, header_names, header_values, bytes)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (consumer, id) DO NOTHING RETURNING bytes)
         UPDATE inbox_sequence s SET bytes = s.bytes + added.bytes FROM added
         WHERE s.consumer = $1 AND s.topic = $2 AND s.sequence = $3",
        &[
            (&consumer.number(), Type::INT2),
            (&&*message.place.topic, Type::TEXT),
            (&&*message.sequence, Type::BYTEA),
            (&message.id, Type::UUID),
            (&message.place.partition, Type::INT4),
            (&message.offset, Type::INT8),
            (&record.time_ms, Type::INT8),
            (&record.key.as_deref(), Type::BYTEA),
            (&record.value.as_deref(), Type::BYTEA),
            (&names, Type::TEXT_ARRAY),
            (&values, Type::BYTEA_ARRAY),
            (&i32::try_from(record.bytes()).unwrap_or(i32::MAX), Type::INT4),
        ],
    )
    .await?;
    Ok(())
}

/// How much a consumer has put aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lot {
    /// Sequences.
    pub sequences: u64,
    /// Seconds since the oldest of them was parked.
    pub oldest_seconds: u64,
    /// Of all their events.
    pub bytes: u64,
}

/// How much a consumer has put aside, for an alarm.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer)
/// # -> Result<(), walpost_inbox::store::StoreError> {
/// let lot = walpost_inbox::store::parked::lot(client, consumer).await?;
/// let is_stale = lot.oldest_seconds > 3_600;
/// # Ok(())
/// # }
/// ```
pub async fn lot(client: &impl GenericClient, consumer: &Consumer) -> Result<Lot, StoreError> {
    let sql = "SELECT count(*), coalesce(extract(epoch FROM now() - min(parked_at)), 0)::bigint,
                      coalesce(sum(bytes), 0)::bigint
               FROM inbox_sequence WHERE consumer = $1";
    let row = client.query_typed_one(sql, &[(&consumer.number(), Type::INT2)]).await?;
    let (sequences, seconds, bytes) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(Lot { sequences: count(sequences), oldest_seconds: count(seconds), bytes: count(bytes) })
}

const LIST: &str = "\
SELECT s.topic, s.sequence, f.key, s.partition, s.reason, s.attempts,
       to_char(s.parked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
       to_char(s.release_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
       f.events, f.id
FROM inbox_sequence s
JOIN inbox_consumer c ON c.number = s.consumer
JOIN LATERAL (
    SELECT (array_agg(p.key ORDER BY p.n))[1] AS key, (array_agg(p.id ORDER BY p.n))[1] AS id,
           count(*) AS events
    FROM inbox_parked p
    WHERE p.consumer = s.consumer AND p.topic = s.topic AND p.sequence = s.sequence) f
  ON f.events > 0
WHERE c.name = $1
ORDER BY s.parked_at, s.topic, s.sequence
LIMIT $2";

/// The parked sequences of a consumer, oldest first.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client) -> Result<(), walpost_inbox::store::StoreError> {
/// for sequence in walpost_inbox::store::parked::list(client, "stock", 100).await? {
///     println!("{:?}: {} events, {}", sequence.key, sequence.events, sequence.reason);
/// }
/// # Ok(())
/// # }
/// ```
pub async fn list(
    client: &impl GenericClient,
    consumer: &str,
    limit: i64,
) -> Result<Vec<ParkedSequence>, StoreError> {
    let rows = client.query_typed(LIST, &[(&consumer, Type::TEXT), (&limit, Type::INT8)]).await?;
    let sequence = |row: &Row| -> Result<ParkedSequence, StoreError> {
        let key: Option<&[u8]> = row.try_get(2)?;
        Ok(ParkedSequence {
            topic: row.try_get(0)?,
            sequence: row.try_get(1)?,
            key: key.map(|key| String::from_utf8_lossy(key).into_owned()),
            partition: row.try_get(3)?,
            reason: row.try_get(4)?,
            attempts: row.try_get(5)?,
            parked_at: row.try_get(6)?,
            release_at: row.try_get(7)?,
            events: row.try_get(8)?,
            first_id: row.try_get(9)?,
        })
    };
    rows.iter().map(sequence).collect()
}

/// Asks for the release of every sequence of a consumer that an event is parked in (`Some`), or of
/// all (`None`); how many sequences. The instance that owns the partition does it, in order.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client) -> Result<(), walpost_inbox::store::StoreError> {
/// let asked = walpost_inbox::store::parked::retry(client, "stock", None).await?;
/// println!("{asked} sequences will be tried again");
/// # Ok(())
/// # }
/// ```
pub async fn retry(
    client: &impl GenericClient,
    consumer: &str,
    event: Option<Uuid>,
) -> Result<u64, StoreError> {
    let asked = client
        .execute_typed(
            "UPDATE inbox_sequence s SET release_at = now(), deaths = 0
             FROM inbox_consumer c
             WHERE c.number = s.consumer AND c.name = $1
               AND ($2::uuid IS NULL OR EXISTS (
                   SELECT FROM inbox_parked p
                   WHERE p.consumer = s.consumer AND p.topic = s.topic
                     AND p.sequence = s.sequence AND p.id = $2))",
            &[(&consumer, Type::TEXT), (&event, Type::UUID)],
        )
        .await?;
    Ok(asked)
}

/// Gives one event up, for a reason; those behind it stay parked. One transaction, which this
/// function begins and commits: the client must not be in one.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, id: uuid::Uuid)
/// # -> Result<(), walpost_inbox::store::StoreError> {
/// walpost_inbox::store::parked::discard(client, "stock", id, "order was cancelled").await?;
/// # Ok(())
/// # }
/// ```
pub async fn discard(
    client: &impl GenericClient,
    consumer: &str,
    event: Uuid,
    reason: &str,
) -> Result<(), StoreError> {
    client.batch_execute("BEGIN").await?;
    match discard_in(client, consumer, event, reason).await {
        Ok(()) => Ok(client.batch_execute("COMMIT").await?),
        Err(error) => {
            client.batch_execute("ROLLBACK").await?;
            Err(error)
        }
    }
}

async fn discard_in(
    tx: &impl GenericClient,
    consumer: &str,
    event: Uuid,
    reason: &str,
) -> Result<(), StoreError> {
    let locked = tx
        .query_typed_opt(
            "SELECT s.consumer, s.topic, s.sequence, p.n FROM inbox_sequence s
             JOIN inbox_parked p USING (consumer, topic, sequence)
             JOIN inbox_consumer c ON c.number = s.consumer
             WHERE c.name = $1 AND p.id = $2 FOR UPDATE OF s",
            &[(&consumer, Type::TEXT), (&event, Type::UUID)],
        )
        .await?;
    let gone = || StoreError::NotParked { consumer: consumer.to_owned(), id: event };
    let row = locked.ok_or_else(gone)?;
    let (number, n): (i16, i64) = (row.try_get(0)?, row.try_get(3)?);
    let (topic, sequence): (&str, &[u8]) = (row.try_get(1)?, row.try_get(2)?);
    let moved = tx
        .execute_typed(
            "INSERT INTO inbox_discarded
                 (consumer, id, topic, partition, record_offset, key, reason)
             SELECT consumer, id, topic, partition, record_offset, key, $2
             FROM inbox_parked WHERE n = $1
             ON CONFLICT (consumer, id) DO UPDATE SET reason = EXCLUDED.reason",
            &[(&n, Type::INT8), (&shortened(reason), Type::TEXT)],
        )
        .await?;
    // Released while we waited for the lock.
    if moved == 0 {
        return Err(gone());
    }
    remove(tx, number, topic, sequence, n).await
}

/// Takes one event out of its locked sequence, and the sequence with its last event.
pub(crate) async fn remove(
    tx: &impl GenericClient,
    consumer: i16,
    topic: &str,
    sequence: &[u8],
    n: i64,
) -> Result<(), StoreError> {
    // What was found out about the first one says nothing about the next.
    tx.execute_typed(
        "WITH gone AS (DELETE FROM inbox_parked WHERE n = $4 RETURNING bytes, NOT EXISTS (
             SELECT FROM inbox_parked p
             WHERE p.consumer = $1 AND p.topic = $2 AND p.sequence = $3 AND p.n < $4) AS is_first)
         UPDATE inbox_sequence s
         SET bytes = s.bytes - gone.bytes,
             deaths = CASE WHEN gone.is_first THEN 0 ELSE s.deaths END,
             runner = CASE WHEN gone.is_first THEN NULL ELSE s.runner END
         FROM gone WHERE s.consumer = $1 AND s.topic = $2 AND s.sequence = $3",
        &[
            (&consumer, Type::INT2),
            (&topic, Type::TEXT),
            (&sequence, Type::BYTEA),
            (&n, Type::INT8),
        ],
    )
    .await?;
    tx.execute_typed(
        "DELETE FROM inbox_sequence s
         WHERE s.consumer = $1 AND s.topic = $2 AND s.sequence = $3 AND NOT EXISTS (
             SELECT FROM inbox_parked p
             WHERE p.consumer = $1 AND p.topic = $2 AND p.sequence = $3)",
        &[(&consumer, Type::INT2), (&topic, Type::TEXT), (&sequence, Type::BYTEA)],
    )
    .await?;
    Ok(())
}

pub(crate) fn event(row: &Row) -> Result<ParkedEvent, StoreError> {
    let names: Vec<String> = row.try_get("header_names")?;
    let values: Vec<Option<Vec<u8>>> = row.try_get("header_values")?;
    let topic: &str = row.try_get("topic")?;
    let record = Record {
        topic: Arc::from(topic),
        partition: row.try_get("partition")?,
        offset: row.try_get("record_offset")?,
        time_ms: row.try_get("record_time")?,
        key: row.try_get("key")?,
        value: row.try_get("value")?,
        headers: names.into_iter().zip(values).collect(),
    };
    Ok(ParkedEvent { n: row.try_get("n")?, id: row.try_get("id")?, record })
}
