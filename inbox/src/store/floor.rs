//! Ranges of handled offsets in, the widened floor out.
//!
//! The floor is `[from, to)`: what a consumer has handled in a partition without a hole. It is only
//! ever widened, each time in a statement of its own, after the transactions it rests on have
//! committed (I10). Two owners of a partition, one of them late, can both widen it: each adds only
//! what it has handled or found handled.

use std::sync::Arc;

use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;

use crate::message::{Place, Record};
use crate::store::{Consumer, StoreError};

/// A range of offsets, the last one not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The first.
    pub from: i64,
    /// One past the last.
    pub to: i64,
}

/// A record by which a topic is known again: where offsets begin anew, another one stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landmark {
    /// Its offset.
    pub offset: i64,
    /// Of its time, key and value.
    pub digest: i64,
}

impl Landmark {
    /// Of a record.
    ///
    /// ```
    /// # let mut record = walpost_inbox::Record {
    /// #     topic: "t".into(), partition: 0, offset: 7, time_ms: Some(1), key: None, value: None,
    /// #     headers: Vec::new(),
    /// # };
    /// use walpost_inbox::store::floor::Landmark;
    /// let before = Landmark::of(&record);
    /// record.time_ms = Some(2);
    /// assert_ne!(Landmark::of(&record), before);
    /// ```
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self { offset: record.offset, digest: record.digest() }
    }
}

/// Ranges that touch become one; a range with a hole before or behind it changes nothing, because
/// what lies in the hole is not known to be handled.
const WIDEN: &str = "\
INSERT INTO inbox_floor AS f (consumer, cluster, topic, partition, from_offset, to_offset)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (consumer, cluster, topic, partition) DO UPDATE
SET from_offset = least(f.from_offset, EXCLUDED.from_offset),
    to_offset = greatest(f.to_offset, EXCLUDED.to_offset)
WHERE EXCLUDED.from_offset <= f.to_offset AND EXCLUDED.to_offset >= f.from_offset
  AND (EXCLUDED.from_offset < f.from_offset OR EXCLUDED.to_offset > f.to_offset)";

const READ: &str = "\
SELECT from_offset, to_offset FROM inbox_floor
WHERE consumer = $1 AND cluster = $2 AND topic = $3 AND partition = $4";

/// The floor of a place.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # place: &walpost_inbox::Place) -> Result<(), walpost_inbox::store::StoreError> {
/// let floor = walpost_inbox::store::floor::read(client, consumer, place).await?;
/// let may_skip_below = floor.map_or(0, |floor| floor.to);
/// # Ok(())
/// # }
/// ```
pub async fn read(
    client: &impl GenericClient,
    consumer: &Consumer,
    place: &Place,
) -> Result<Option<Floor>, StoreError> {
    let row = client
        .query_typed_opt(
            READ,
            &[
                (&consumer.number(), Type::INT2),
                (&&**consumer.cluster(), Type::TEXT),
                (&&*place.topic, Type::TEXT),
                (&place.partition, Type::INT4),
            ],
        )
        .await?;
    let floor = |row: tokio_postgres::Row| -> Result<Floor, StoreError> {
        Ok(Floor { from: row.try_get(0)?, to: row.try_get(1)? })
    };
    row.map(floor).transpose()
}

/// Widens the floor of a place by a range that is handled and committed.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # place: &walpost_inbox::Place) -> Result<(), walpost_inbox::store::StoreError> {
/// use walpost_inbox::store::floor::{self, Floor};
/// floor::widen(client, consumer, place, Floor { from: 0, to: 500 }).await?;
/// # Ok(())
/// # }
/// ```
pub async fn widen(
    client: &impl GenericClient,
    consumer: &Consumer,
    place: &Place,
    by: Floor,
) -> Result<(), StoreError> {
    assert!(by.from <= by.to, "I10: a floor is a range");
    let topic: &Arc<str> = &place.topic;
    client
        .execute_typed(
            WIDEN,
            &[
                (&consumer.number(), Type::INT2),
                (&&**consumer.cluster(), Type::TEXT),
                (&&**topic, Type::TEXT),
                (&place.partition, Type::INT4),
                (&by.from, Type::INT8),
                (&by.to, Type::INT8),
            ],
        )
        .await?;
    Ok(())
}

/// The landmark of a place, if it has one.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # place: &walpost_inbox::Place) -> Result<(), walpost_inbox::store::StoreError> {
/// let landmark = walpost_inbox::store::floor::landmark(client, consumer, place).await?;
/// # Ok(())
/// # }
/// ```
pub async fn landmark(
    client: &impl GenericClient,
    consumer: &Consumer,
    place: &Place,
) -> Result<Option<Landmark>, StoreError> {
    let sql = "SELECT landmark_offset, landmark_digest FROM inbox_floor
               WHERE consumer = $1 AND cluster = $2 AND topic = $3 AND partition = $4
                 AND landmark_offset IS NOT NULL AND landmark_digest IS NOT NULL";
    let row = client
        .query_typed_opt(
            sql,
            &[
                (&consumer.number(), Type::INT2),
                (&&**consumer.cluster(), Type::TEXT),
                (&&*place.topic, Type::TEXT),
                (&place.partition, Type::INT4),
            ],
        )
        .await?;
    let landmark = |row: tokio_postgres::Row| -> Result<Landmark, StoreError> {
        Ok(Landmark { offset: row.try_get(0)?, digest: row.try_get(1)? })
    };
    row.map(landmark).transpose()
}

/// Gives the floor of a place its landmark; of several the first one counts, which is read first.
///
/// ```no_run
/// # async fn f(client: &tokio_postgres::Client, consumer: &walpost_inbox::store::Consumer,
/// # place: &walpost_inbox::Place, record: &walpost_inbox::Record)
/// # -> Result<(), walpost_inbox::store::StoreError> {
/// use walpost_inbox::store::floor::{self, Landmark};
/// floor::set_landmark(client, consumer, place, Landmark::of(record)).await?;
/// # Ok(())
/// # }
/// ```
pub async fn set_landmark(
    client: &impl GenericClient,
    consumer: &Consumer,
    place: &Place,
    landmark: Landmark,
) -> Result<(), StoreError> {
    let sql = "UPDATE inbox_floor SET landmark_offset = $5, landmark_digest = $6
               WHERE consumer = $1 AND cluster = $2 AND topic = $3 AND partition = $4
                 AND coalesce(landmark_offset > $5, true)";
    client
        .execute_typed(
            sql,
            &[
                (&consumer.number(), Type::INT2),
                (&&**consumer.cluster(), Type::TEXT),
                (&&*place.topic, Type::TEXT),
                (&place.partition, Type::INT4),
                (&landmark.offset, Type::INT8),
                (&landmark.digest, Type::INT8),
            ],
        )
        .await?;
    Ok(())
}
