//! Messages in, verdicts out: one flight of two statements, for one message or a thousand.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, GenericClient, Row, Statement};
use uuid::Uuid;

use crate::message::MessageRef;
use crate::store::dedup::ParkedKey;
use crate::store::{Claims, Consumer, Day, StoreError};

/// Claims what is not taken, in the order of the ids: two batches that meet on several ids wait for
/// each other in one direction only. For ids inside the window.
const CLAIM: &str = "\
INSERT INTO inbox_claim (consumer, day, id)
SELECT $1, m.day, m.id FROM unnest($2::date[], $3::uuid[]) AS m (day, id)
ORDER BY m.id
ON CONFLICT DO NOTHING
RETURNING id";

const CLAIM_TYPES: [Type; 3] = [Type::INT2, Type::DATE_ARRAY, Type::UUID_ARRAY];

/// The same for any id. One outside the window is not even claimed when the floor has passed its
/// offset, so that reading a long topic again writes nothing.
const CLAIM_OLD: &str = "\
INSERT INTO inbox_claim (consumer, day, id)
SELECT $1, m.day, m.id
FROM unnest($2::date[], $3::uuid[], $4::text[], $5::int[], $6::bigint[])
     AS m (day, id, topic, partition, record_offset)
WHERE m.day >= (SELECT oldest FROM inbox_window)
   OR NOT EXISTS (
      SELECT FROM inbox_floor f
      WHERE f.consumer = $1 AND f.cluster = $7 AND f.topic = m.topic
        AND f.partition = m.partition
        AND m.record_offset >= f.from_offset AND m.record_offset < f.to_offset)
ORDER BY m.id
ON CONFLICT DO NOTHING
RETURNING id";

const CLAIM_OLD_TYPES: [Type; 7] = [
    Type::INT2,
    Type::DATE_ARRAY,
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT4_ARRAY,
    Type::INT8_ARRAY,
    Type::TEXT,
];

/// Which of the sequences are parked, and where the window starts, seen after the claim has waited
/// for whom it had to.
const LOOK: &str = "\
SELECT w.oldest, s.topic, s.sequence
FROM inbox_window w
LEFT JOIN (
    inbox_sequence s JOIN unnest($2::text[], $3::bytea[]) AS m (topic, sequence)
      ON s.topic = m.topic AND s.sequence = m.sequence AND s.consumer = $1)
  ON true";

const LOOK_TYPES: [Type; 3] = [Type::INT2, Type::TEXT_ARRAY, Type::BYTEA_ARRAY];

/// Which of the two statements claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    /// All ids are inside the window, as far as it was known.
    Inside,
    /// Some may be older.
    Old,
}

/// The messages as the columns of the statements.
pub(crate) struct Columns<'a> {
    variant: Variant,
    consumer: i16,
    cluster: &'a str,
    days: Vec<Day>,
    ids: Vec<Uuid>,
    topics: Vec<&'a str>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    /// Each sequence once.
    sequence_topics: Vec<&'a str>,
    sequences: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(consumer: &'a Consumer, messages: &'a [MessageRef]) -> Self {
        let mut seen = HashSet::with_capacity(messages.len());
        let of = |message: &'a MessageRef| (&*message.place.topic, &*message.sequence);
        let distinct = messages.iter().map(of).filter(|pair| seen.insert(*pair));
        let (sequence_topics, sequences) = distinct.unzip();
        let oldest = messages.iter().map(|message| message.day).min().unwrap_or(Day::NONE);
        let is_inside = consumer.window().is_some_and(|start| oldest >= start);
        Self {
            variant: if is_inside { Variant::Inside } else { Variant::Old },
            consumer: consumer.number(),
            cluster: consumer.cluster(),
            days: messages.iter().map(|message| message.day).collect(),
            ids: messages.iter().map(|message| message.id).collect(),
            topics: messages.iter().map(|message| &*message.place.topic).collect(),
            partitions: messages.iter().map(|message| message.place.partition).collect(),
            offsets: messages.iter().map(|message| message.offset).collect(),
            sequence_topics,
            sequences,
        }
    }

    fn of_claim(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.consumer, &self.days, &self.ids]
    }

    fn of_old_claim(&self) -> [&(dyn ToSql + Sync); 7] {
        [
            &self.consumer,
            &self.days,
            &self.ids,
            &self.topics,
            &self.partitions,
            &self.offsets,
            &self.cluster,
        ]
    }

    fn of_look(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.consumer, &self.sequence_topics, &self.sequences]
    }
}

/// The statements, prepared on one connection.
#[derive(Clone, Debug)]
pub struct Statements {
    claim: Statement,
    claim_old: Statement,
    look: Statement,
}

impl Statements {
    /// Prepares them: saves their planning for each claim. One round trip.
    ///
    /// ```
    /// # use walpost_inbox::store::{StoreError, claim::Statements};
    /// # async fn f(client: &tokio_postgres::Client) -> Result<(), StoreError> {
    /// let statements = Statements::prepare(client).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn prepare(client: &impl GenericClient) -> Result<Self, StoreError> {
        let (claim, claim_old, look) = tokio::join!(
            biased;
            client.prepare_typed(CLAIM, &CLAIM_TYPES),
            client.prepare_typed(CLAIM_OLD, &CLAIM_OLD_TYPES),
            client.prepare_typed(LOOK, &LOOK_TYPES),
        );
        Ok(Self { claim: claim?, claim_old: claim_old?, look: look? })
    }

    /// The two futures' answers; the caller starts them in this order.
    pub(crate) async fn claim(
        &self,
        client: &tokio_postgres::Client,
        columns: &Columns<'_>,
    ) -> Result<Vec<Row>, Error> {
        match columns.variant {
            Variant::Inside => client.query(&self.claim, &columns.of_claim()).await,
            Variant::Old => client.query(&self.claim_old, &columns.of_old_claim()).await,
        }
    }

    pub(crate) async fn look(
        &self,
        client: &tokio_postgres::Client,
        columns: &Columns<'_>,
    ) -> Result<Vec<Row>, Error> {
        client.query(&self.look, &columns.of_look()).await
    }
}

/// Claims messages for a consumer within an open transaction of READ COMMITTED.
///
/// The verdicts hold once this transaction commits, and only with the effects of every fresh
/// message and the appending of every parked one in the same transaction (I10). To save the round
/// trip of BEGIN see [`Transaction::begin`](crate::store::Transaction::begin).
///
/// Cancellation-safe as a transaction is: dropped, it leaves a transaction that must be rolled
/// back.
///
/// ```no_run
/// # async fn f(client: &mut tokio_postgres::Client, records: &[walpost_inbox::Record])
/// # -> Result<(), walpost_inbox::store::StoreError> {
/// use walpost_inbox::MessageRef;
/// use walpost_inbox::store::{Consumer, claim};
///
/// let consumer = Consumer::open(client, "stock", "the-cluster").await?;
/// let messages: Vec<_> = records.iter().map(|r| MessageRef::of(r, "the-cluster")).collect();
/// let tx = client.transaction().await?;
/// let claims = claim(&tx, &consumer, &messages).await?;
/// for record in claims.fresh(records) {
///     tx.execute("UPDATE stock SET ...", &[&record.key]).await?;
/// }
/// tx.commit().await?;
/// # Ok(())
/// # }
/// ```
pub async fn claim(
    tx: &impl GenericClient,
    consumer: &Consumer,
    messages: &[MessageRef],
) -> Result<Claims, StoreError> {
    let columns = Columns::new(consumer, messages);
    let of_claim = typed(columns.of_old_claim(), CLAIM_OLD_TYPES);
    let of_look = typed(columns.of_look(), LOOK_TYPES);
    let (claimed, look) = tokio::join!(
        biased;
        tx.query_typed(CLAIM_OLD, &of_claim),
        tx.query_typed(LOOK, &of_look),
    );
    judge(consumer, messages, &claimed?, &look?)
}

/// As [`claim`], with the statements prepared: saves their planning.
///
/// ```no_run
/// # async fn f(client: &mut tokio_postgres::Client, messages: &[walpost_inbox::MessageRef])
/// # -> Result<(), walpost_inbox::store::StoreError> {
/// use walpost_inbox::store::Consumer;
/// use walpost_inbox::store::claim::{Statements, claim_prepared};
///
/// let consumer = Consumer::open(client, "stock", "the-cluster").await?;
/// let statements = Statements::prepare(client).await?;
/// let tx = client.transaction().await?;
/// let claims = claim_prepared(&tx, &statements, &consumer, messages).await?;
/// # Ok(())
/// # }
/// ```
pub async fn claim_prepared(
    tx: &impl GenericClient,
    statements: &Statements,
    consumer: &Consumer,
    messages: &[MessageRef],
) -> Result<Claims, StoreError> {
    let columns = Columns::new(consumer, messages);
    let (claimed, look) = tokio::join!(
        biased;
        statements.claim(tx.client(), &columns),
        statements.look(tx.client(), &columns),
    );
    columns.judge(consumer, messages, &claimed?, &look?)
}

type Typed<'a, const N: usize> = [(&'a (dyn ToSql + Sync), Type); N];

fn typed<const N: usize>(values: [&(dyn ToSql + Sync); N], types: [Type; N]) -> Typed<'_, N> {
    let mut types = types.into_iter();
    values.map(|value| (value, types.next().unwrap_or(Type::UNKNOWN)))
}

impl Columns<'_> {
    /// The verdicts. When the window has moved past one of the ids since it was last known, the
    /// floor was not asked: begin again, knowing better.
    pub(crate) fn judge(
        &self,
        consumer: &Consumer,
        messages: &[MessageRef],
        claimed: &[Row],
        look: &[Row],
    ) -> Result<Claims, StoreError> {
        let claims = judge(consumer, messages, claimed, look)?;
        // The window only moves forward: what is inside it now was so when the claim was made.
        let start = consumer.window();
        let is_outside = |message: &MessageRef| start.is_none_or(|start| message.day < start);
        if self.variant == Variant::Inside && messages.iter().any(is_outside) {
            return Err(StoreError::WindowMoved);
        }
        Ok(claims)
    }
}

fn judge(
    consumer: &Consumer,
    messages: &[MessageRef],
    claimed: &[Row],
    look: &[Row],
) -> Result<Claims, StoreError> {
    let ids = claimed.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Uuid>, _>>()?;
    let mut parked: HashSet<ParkedKey> = HashSet::new();
    for row in look {
        consumer.know_window(row.try_get(0)?);
        let topic: Option<&str> = row.try_get(1)?;
        let sequence: Option<&[u8]> = row.try_get(2)?;
        if let (Some(topic), Some(sequence)) = (topic, sequence) {
            parked.insert((Arc::from(topic), Arc::from(sequence)));
        }
    }
    Ok(Claims::judge(messages, &ids, &parked))
}
