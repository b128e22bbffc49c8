//! Messages in, verdicts out: one flight, for one message or a thousand.
//!
//! Three ways, from the quickest to the one that may always be taken: one message by one statement
//! that only counts; messages of one day by a function of the database; any messages by two
//! statements. The first two are for ids inside the window. What the first does not claim, the last
//! is asked for.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, GenericClient, Row, Statement};
use uuid::Uuid;

use crate::message::MessageRef;
use crate::store::dedup::ParkedKey;
use crate::store::{Claim, Claims, Consumer, Day, StoreError};

/// Claims one id if it is inside the window and its sequence is not parked: one row, and it is a
/// first copy. A row that is returned would cost as much as the look. The look's snapshot is older
/// than what the claim may wait for; that is enough for one event: those of its key before it were
/// finished before it was claimed, and one that parks the key later waits for this claim.
const CLAIM_ONE: &str = "\
INSERT INTO inbox_claim (consumer, day, id)
SELECT $1, $2, $3 FROM inbox_window w
WHERE w.oldest <= $2 AND NOT EXISTS (
    SELECT FROM inbox_sequence s WHERE s.consumer = $1 AND s.topic = $4 AND s.sequence = $5)
ON CONFLICT DO NOTHING";

const CLAIM_ONE_TYPES: [Type; 5] = [Type::INT2, Type::DATE, Type::UUID, Type::TEXT, Type::BYTEA];

/// Claims ids of one day inside the window, ascending.
const CLAIM_DAY: &str = "SELECT inbox_claim_day($1, $2, $3)";

const CLAIM_DAY_TYPES: [Type; 3] = [Type::INT2, Type::DATE, Type::UUID_ARRAY];

/// Claims any ids, in their order: two batches that meet on several wait for each other in one
/// direction only. One outside the window is not even claimed when the floor has passed its offset,
/// so that reading a long topic again writes nothing.
const CLAIM: &str = "\
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

const CLAIM_TYPES: [Type; 7] = [
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

/// Any messages as the columns of [`CLAIM`].
struct Columns<'a> {
    consumer: i16,
    cluster: &'a str,
    days: Vec<Day>,
    ids: Vec<Uuid>,
    topics: Vec<&'a str>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn new(consumer: &'a Consumer, messages: &'a [MessageRef]) -> Self {
        Self {
            consumer: consumer.number(),
            cluster: consumer.cluster(),
            days: messages.iter().map(|message| message.day).collect(),
            ids: messages.iter().map(|message| message.id).collect(),
            topics: messages.iter().map(|message| &*message.place.topic).collect(),
            partitions: messages.iter().map(|message| message.place.partition).collect(),
            offsets: messages.iter().map(|message| message.offset).collect(),
        }
    }

    fn values(&self) -> [&(dyn ToSql + Sync); 7] {
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
}

/// The sequences of messages, each once, as the columns of [`LOOK`].
struct Sequences<'a> {
    consumer: i16,
    topics: Vec<&'a str>,
    names: Vec<&'a [u8]>,
}

impl<'a> Sequences<'a> {
    fn new(consumer: &Consumer, messages: &'a [MessageRef]) -> Self {
        let mut seen = HashSet::with_capacity(messages.len());
        let of = |message: &'a MessageRef| (&*message.place.topic, &*message.sequence);
        let distinct = messages.iter().map(of).filter(|pair| seen.insert(*pair));
        let (topics, names) = distinct.unzip();
        Self { consumer: consumer.number(), topics, names }
    }

    fn values(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.consumer, &self.topics, &self.names]
    }
}

/// The day of all messages, if they have one in common inside the window as it was last seen.
fn common_day(consumer: &Consumer, messages: &[MessageRef]) -> Option<Day> {
    let (window, day) = (consumer.window(), messages.first()?.day);
    let is_common = day >= window && messages.iter().all(|message| message.day == day);
    is_common.then_some(day)
}

/// The statements, prepared on one connection.
#[derive(Clone, Debug)]
pub struct Statements {
    claim_one: Statement,
    claim_day: Statement,
    claim: Statement,
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
        let (claim_one, claim_day, claim, look) = tokio::join!(
            biased;
            client.prepare_typed(CLAIM_ONE, &CLAIM_ONE_TYPES),
            client.prepare_typed(CLAIM_DAY, &CLAIM_DAY_TYPES),
            client.prepare_typed(CLAIM, &CLAIM_TYPES),
            client.prepare_typed(LOOK, &LOOK_TYPES),
        );
        Ok(Self { claim_one: claim_one?, claim_day: claim_day?, claim: claim?, look: look? })
    }

    /// Claims by the cheapest statement that may claim these messages. Polled once, it has put on
    /// the wire what it can ask at once.
    pub(crate) async fn claim(
        &self,
        client: &Client,
        consumer: &Consumer,
        messages: &[MessageRef],
    ) -> Result<Claims, StoreError> {
        match (common_day(consumer, messages), messages) {
            (Some(_), [message]) => self.claim_one(client, consumer, message).await,
            (Some(day), messages) => self.claim_day(client, consumer, day, messages).await,
            (None, messages) => self.claim_any(client, consumer, messages).await,
        }
    }

    async fn claim_one(
        &self,
        client: &Client,
        consumer: &Consumer,
        message: &MessageRef,
    ) -> Result<Claims, StoreError> {
        let (number, topic, name) = (consumer.number(), &*message.place.topic, &*message.sequence);
        let values: [&(dyn ToSql + Sync); 5] = [&number, &message.day, &message.id, &topic, &name];
        // Where the last one was no first copy, this one is asked for at once: one flight.
        if !consumer.expects_look() && client.execute(&self.claim_one, &values).await? == 1 {
            return Ok(Claims::of_one(Claim::Fresh));
        }
        let claims = self.claim_any(client, consumer, std::slice::from_ref(message)).await?;
        consumer.expect_look(claims.count(Claim::Fresh) == 0);
        Ok(claims)
    }

    async fn claim_day(
        &self,
        client: &Client,
        consumer: &Consumer,
        day: Day,
        messages: &[MessageRef],
    ) -> Result<Claims, StoreError> {
        let mut ids: Vec<Uuid> = messages.iter().map(|message| message.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let number = consumer.number();
        let values: [&(dyn ToSql + Sync); 3] = [&number, &day, &ids];
        let looks_at_once = consumer.expects_look();
        let look = async {
            if looks_at_once { Some(self.look(client, consumer, messages).await) } else { None }
        };
        let (claimed, look) =
            tokio::join!(biased; client.query_one(&self.claim_day, &values), look);
        let fresh: Option<Vec<Uuid>> = claimed?.try_get(0)?;
        consumer.expect_look(fresh.is_some());
        let Some(fresh) = fresh else {
            return Ok(Claims::judge(messages, &ids, &HashSet::new()));
        };
        let look = match look {
            Some(look) => look?,
            None => self.look(client, consumer, messages).await?,
        };
        let claims = judge(consumer, messages, &fresh, &look)?;
        refuse_outside(consumer, messages)?;
        Ok(claims)
    }

    async fn claim_any(
        &self,
        client: &Client,
        consumer: &Consumer,
        messages: &[MessageRef],
    ) -> Result<Claims, StoreError> {
        let columns = Columns::new(consumer, messages);
        let values = columns.values();
        let (claimed, look) = tokio::join!(
            biased;
            client.query(&self.claim, &values),
            self.look(client, consumer, messages),
        );
        judge(consumer, messages, &ids(&claimed?)?, &look?)
    }

    async fn look(
        &self,
        client: &Client,
        consumer: &Consumer,
        messages: &[MessageRef],
    ) -> Result<Vec<Row>, StoreError> {
        let sequences = Sequences::new(consumer, messages);
        Ok(client.query(&self.look, &sequences.values()).await?)
    }
}

/// The statements for ids inside the window do not ask the floor. When the window has moved past
/// one of the ids since it was last known: begin again, knowing better. It only moves forward, so
/// what is inside it now was so when the claim was made.
fn refuse_outside(consumer: &Consumer, messages: &[MessageRef]) -> Result<(), StoreError> {
    let start = consumer.window();
    if messages.iter().any(|message| message.day < start) {
        Err(StoreError::WindowMoved)
    } else {
        Ok(())
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
    let sequences = Sequences::new(consumer, messages);
    let of_claim = typed(columns.values(), CLAIM_TYPES);
    let of_look = typed(sequences.values(), LOOK_TYPES);
    let (claimed, look) = tokio::join!(
        biased;
        tx.query_typed(CLAIM, &of_claim),
        tx.query_typed(LOOK, &of_look),
    );
    judge(consumer, messages, &ids(&claimed?)?, &look?)
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
    statements.claim(tx.client(), consumer, messages).await
}

type Typed<'a, const N: usize> = [(&'a (dyn ToSql + Sync), Type); N];

fn typed<const N: usize>(values: [&(dyn ToSql + Sync); N], types: [Type; N]) -> Typed<'_, N> {
    let mut types = types.into_iter();
    values.map(|value| (value, types.next().unwrap_or(Type::UNKNOWN)))
}

fn ids(claimed: &[Row]) -> Result<Vec<Uuid>, StoreError> {
    Ok(claimed.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

fn judge(
    consumer: &Consumer,
    messages: &[MessageRef],
    claimed: &[Uuid],
    look: &[Row],
) -> Result<Claims, StoreError> {
    let mut parked: HashSet<ParkedKey> = HashSet::new();
    for row in look {
        consumer.know_window(row.try_get(0)?);
        let topic: Option<&str> = row.try_get(1)?;
        let sequence: Option<&[u8]> = row.try_get(2)?;
        if let (Some(topic), Some(sequence)) = (topic, sequence) {
            parked.insert((Arc::from(topic), Arc::from(sequence)));
        }
    }
    Ok(Claims::judge(messages, claimed, &parked))
}
