//! Partitions that are taken over and given back in, the events that may have ended a process out.
//!
//! An event whose handler ends the process (abort, out of memory, a violation) is read again at
//! each start and would stop its partition for ever. Nobody is there to count the failure, so what
//! counts is what a death leaves behind. A *runner* is one run of an instance:
//!
//! ```text
//!   taken over [`begin`]       a row in inbox_tenure; [`end`] takes it away in good order
//!     the runner dies          the row stays: the next runner is careful
//!   careful    [`note`]        the events of a batch are noted before it starts
//!     the runner dies          the notes stay: these events are suspects
//!   alone      [`note_alone`]  a suspect is handled with nothing beside it in its process
//!     the runner dies          a death of this event: the next runner's `begin` counts it
//! ```
//!
//! A note leaves in the transaction that finishes its event ([`clear`]). An end of any other kind
//! takes the start back ([`undo`]): only a death counts, never a failure, a drain or a lost
//! database. Where no runner died nothing of this is written but the row of the tenure.
//!
//! Notes are committed without waiting for the disk: they have to outlive the process, not the
//! server.

use tokio_postgres::GenericClient;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::message::Place;
use crate::store::{Consumer, StoreError};

/// Suspects of a partition that are looked at; more than batches under way can leave.
const SUSPECTS_MAX: i64 = 10_000;

/// An event that was under way when a runner died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The event.
    pub id: Uuid,
    /// How many runners died while they handled it alone.
    pub deaths: u32,
}

/// What the last runner of a partition left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// It did not end in good order.
    pub is_dead: bool,
    /// What it, or one before it, had under way.
    pub suspects: Vec<Suspect>,
}

type Values<'a, const N: usize> = [(&'a (dyn ToSql + Sync), Type); N];

/// A runner at a partition, as values of statements.
struct Hold<'a> {
    consumer: i16,
    topic: &'a str,
    partition: i32,
    runner: Uuid,
    cluster: &'a str,
}

impl<'a> Hold<'a> {
    fn new(consumer: &'a Consumer, place: &'a Place, runner: Uuid) -> Self {
        Self {
            consumer: consumer.number(),
            topic: &place.topic,
            partition: place.partition,
            runner,
            cluster: consumer.cluster(),
        }
    }

    /// `$1` consumer, `$2` topic, `$3` partition, `$4` runner.
    fn values(&self) -> Values<'_, 4> {
        [
            (&self.consumer, Type::INT2),
            (&self.topic, Type::TEXT),
            (&self.partition, Type::INT4),
            (&self.runner, Type::UUID),
        ]
    }

    /// The same, and `$5` cluster.
    fn values_in_cluster(&self) -> Values<'_, 5> {
        let [consumer, topic, partition, runner] = self.values();
        [consumer, topic, partition, runner, (&self.cluster, Type::TEXT)]
    }
}

/// Takes a partition over.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # place: &walpost_inbox::Place) -> Result<(), walpost_inbox::store::StoreError> {
/// let runner = uuid::Uuid::new_v4();
/// let left = walpost_inbox::store::tenure::begin(client, consumer, place, runner).await?;
/// let is_careful = left.is_dead || !left.suspects.is_empty();
/// # Ok(())
/// # }
/// ```
pub async fn begin(
    client: &impl GenericClient,
    consumer: &Consumer,
    place: &Place,
    runner: Uuid,
) -> Result<Left, StoreError> {
    let hold = Hold::new(consumer, place, runner);
    // Whoever handled one alone and is somebody else did not come to an end.
    let count = "UPDATE inbox_suspect SET deaths = deaths + 1, runner = NULL
                 WHERE consumer = $1 AND topic = $2 AND partition = $3 AND runner <> $4";
    client.execute_typed(count, &hold.values()).await?;
    let look = "SELECT id, deaths FROM inbox_suspect
                WHERE consumer = $1 AND topic = $2 AND partition = $3
                ORDER BY deaths DESC, id LIMIT $4";
    let [number, topic, partition, _] = hold.values();
    let limited = [number, topic, partition, (&SUSPECTS_MAX as _, Type::INT8)];
    let rows = client.query_typed(look, &limited).await?;
    let suspect = |row: &tokio_postgres::Row| -> Result<Suspect, StoreError> {
        let deaths: i32 = row.try_get(1)?;
        Ok(Suspect { id: row.try_get(0)?, deaths: deaths.unsigned_abs() })
    };
    let suspects = rows.iter().map(suspect).collect::<Result<Vec<_>, _>>()?;
    // Last: an attempt that is cut off before leaves the death to be found by the next one.
    let row = client
        .query_typed_one(
            "WITH before AS (
                 SELECT runner FROM inbox_tenure
                 WHERE consumer = $1 AND topic = $2 AND partition = $3 AND cluster = $5),
             begun AS (
                 INSERT INTO inbox_tenure (consumer, topic, partition, runner, cluster)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (consumer, cluster, topic, partition)
                 DO UPDATE SET runner = EXCLUDED.runner, since = now())
             SELECT coalesce((SELECT runner <> $4 FROM before), false)",
            &hold.values_in_cluster(),
        )
        .await?;
    Ok(Left { is_dead: row.try_get(0)?, suspects })
}

/// Gives a partition back in good order: nothing of it is under way any more.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # place: &walpost_inbox::Place, runner: uuid::Uuid)
/// # -> Result<(), walpost_inbox::store::StoreError> {
/// walpost_inbox::store::tenure::end(client, consumer, place, runner).await
/// # }
/// ```
pub async fn end(
    client: &impl GenericClient,
    consumer: &Consumer,
    place: &Place,
    runner: Uuid,
) -> Result<(), StoreError> {
    let hold = Hold::new(consumer, place, runner);
    // First: what follows may wait for what is still under way.
    let sql = "DELETE FROM inbox_tenure
               WHERE consumer = $1 AND topic = $2 AND partition = $3 AND runner = $4
                 AND cluster = $5";
    client.execute_typed(sql, &hold.values_in_cluster()).await?;
    for table in ["inbox_suspect", "inbox_sequence"] {
        let sql = format!(
            "UPDATE {table} SET runner = NULL
             WHERE consumer = $1 AND topic = $2 AND partition = $3 AND runner = $4"
        );
        client.execute_typed(&sql, &hold.values()).await?;
    }
    Ok(())
}

/// Notes the events of a batch before it starts, in a transaction of its own.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # place: &walpost_inbox::Place, ids: &[uuid::Uuid])
/// # -> Result<(), walpost_inbox::store::StoreError> {
/// walpost_inbox::store::tenure::note(client, consumer, place, ids).await
/// # }
/// ```
pub async fn note(
    client: &impl GenericClient,
    consumer: &Consumer,
    place: &Place,
    ids: &[Uuid],
) -> Result<(), StoreError> {
    let sql = "WITH quick AS MATERIALIZED (
                   SELECT set_config('synchronous_commit', 'off', true))
               INSERT INTO inbox_suspect (consumer, id, topic, partition)
               SELECT $1, m.id, $3, $4 FROM quick, unnest($2::uuid[]) AS m (id)
               ORDER BY m.id ON CONFLICT DO NOTHING";
    let topic: &str = &place.topic;
    let values: Values<'_, 4> = [
        (&consumer.number(), Type::INT2),
        (&ids, Type::UUID_ARRAY),
        (&topic, Type::TEXT),
        (&place.partition, Type::INT4),
    ];
    client.execute_typed(sql, &values).await?;
    Ok(())
}

/// Notes that an event is handled alone from now on, in a transaction of its own.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # place: &walpost_inbox::Place, id: uuid::Uuid, runner: uuid::Uuid)
/// # -> Result<(), walpost_inbox::store::StoreError> {
/// walpost_inbox::store::tenure::note_alone(client, consumer, place, id, runner).await
/// # }
/// ```
pub async fn note_alone(
    client: &impl GenericClient,
    consumer: &Consumer,
    place: &Place,
    id: Uuid,
    runner: Uuid,
) -> Result<(), StoreError> {
    let sql = "WITH quick AS MATERIALIZED (
                   SELECT set_config('synchronous_commit', 'off', true))
               INSERT INTO inbox_suspect (consumer, id, topic, partition, runner)
               SELECT $1, $2, $3, $4, $5 FROM quick
               ON CONFLICT (consumer, id) DO UPDATE
               SET topic = $3, partition = $4, runner = $5";
    let topic: &str = &place.topic;
    let values: Values<'_, 5> = [
        (&consumer.number(), Type::INT2),
        (&id, Type::UUID),
        (&topic, Type::TEXT),
        (&place.partition, Type::INT4),
        (&runner, Type::UUID),
    ];
    client.execute_typed(sql, &values).await?;
    Ok(())
}

/// Takes starts back that ended without finishing their events, and without a death.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # ids: &[uuid::Uuid], runner: uuid::Uuid)
/// # -> Result<(), walpost_inbox::store::StoreError> {
/// walpost_inbox::store::tenure::undo(client, consumer, ids, runner).await
/// # }
/// ```
pub async fn undo(
    client: &impl GenericClient,
    consumer: &Consumer,
    ids: &[Uuid],
    runner: Uuid,
) -> Result<(), StoreError> {
    // One that was handled alone stays a suspect, with the deaths that it had.
    let sql = "WITH quick AS MATERIALIZED (
                   SELECT set_config('synchronous_commit', 'off', true)),
               ended AS (
                   UPDATE inbox_suspect SET runner = NULL FROM quick
                   WHERE consumer = $1 AND id = ANY ($2) AND runner = $3)
               DELETE FROM inbox_suspect
               WHERE consumer = $1 AND id = ANY ($2) AND runner IS NULL AND deaths = 0";
    let values: Values<'_, 3> =
        [(&consumer.number(), Type::INT2), (&ids, Type::UUID_ARRAY), (&runner, Type::UUID)];
    client.execute_typed(sql, &values).await?;
    Ok(())
}

/// Takes the notes of events away in the transaction that finishes them.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # ids: &[uuid::Uuid]) -> Result<(), walpost_inbox::store::StoreError> {
/// walpost_inbox::store::tenure::clear(client, consumer, ids).await
/// # }
/// ```
pub async fn clear(
    tx: &impl GenericClient,
    consumer: &Consumer,
    ids: &[Uuid],
) -> Result<(), StoreError> {
    let sql = "DELETE FROM inbox_suspect WHERE consumer = $1 AND id = ANY ($2)";
    let values: Values<'_, 2> = [(&consumer.number(), Type::INT2), (&ids, Type::UUID_ARRAY)];
    tx.execute_typed(sql, &values).await?;
    Ok(())
}

/// Takes all notes of a partition away: everything that a dead runner had under way is finished.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # place: &walpost_inbox::Place) -> Result<(), walpost_inbox::store::StoreError> {
/// walpost_inbox::store::tenure::settle(client, consumer, place).await
/// # }
/// ```
pub async fn settle(
    client: &impl GenericClient,
    consumer: &Consumer,
    place: &Place,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM inbox_suspect
               WHERE consumer = $1 AND topic = $2 AND partition = $3";
    let topic: &str = &place.topic;
    let values: Values<'_, 3> =
        [(&consumer.number(), Type::INT2), (&topic, Type::TEXT), (&place.partition, Type::INT4)];
    client.execute_typed(sql, &values).await?;
    Ok(())
}
