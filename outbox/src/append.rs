//! Events of a Rust service in, rows of the outbox in the caller's transaction out.

use serde_json::{Map, Value};
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient};
use uuid::Uuid;

/// An event that is to be published when the transaction commits.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    id: Uuid,
    aggregate_type: String,
    aggregate_id: String,
    event_type: String,
    payload: Option<Value>,
    headers: Map<String, Value>,
    schema_version: Option<i32>,
}

impl NewEvent {
    /// With a fresh time-ordered id.
    ///
    /// ```
    /// use walpost_outbox::NewEvent;
    /// let payload = serde_json::json!({"total": "12.50"});
    /// let event = NewEvent::new("order", "42", "shop.OrderPlaced", payload);
    /// assert_eq!(event.id().get_version_num(), 7);
    /// ```
    #[must_use]
    pub fn new(
        aggregate_type: impl Into<String>,
        aggregate_id: impl Into<String>,
        event_type: impl Into<String>,
        payload: Value,
    ) -> Self {
        Self {
            id: Uuid::now_v7(),
            aggregate_type: aggregate_type.into(),
            aggregate_id: aggregate_id.into(),
            event_type: event_type.into(),
            payload: Some(payload),
            headers: Map::new(),
            schema_version: None,
        }
    }

    /// Without a payload: the record has a key and no value.
    ///
    /// ```
    /// let event = walpost_outbox::NewEvent::tombstone("order", "42", "shop.OrderForgotten");
    /// ```
    #[must_use]
    pub fn tombstone(
        aggregate_type: impl Into<String>,
        aggregate_id: impl Into<String>,
        event_type: impl Into<String>,
    ) -> Self {
        Self { payload: None, ..Self::new(aggregate_type, aggregate_id, event_type, Value::Null) }
    }

    /// With an id of the caller's: the writer decides it, and nobody changes it afterwards.
    ///
    /// ```
    /// # use walpost_outbox::NewEvent;
    /// # let event = NewEvent::new("order", "42", "shop.OrderPlaced", serde_json::json!({}));
    /// let event = event.with_id(uuid::Uuid::now_v7());
    /// ```
    #[must_use]
    pub fn with_id(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    /// With a header of the record, such as `traceparent`.
    ///
    /// ```
    /// # use walpost_outbox::NewEvent;
    /// # let event = NewEvent::new("order", "42", "shop.OrderPlaced", serde_json::json!({}));
    /// let event = event.with_header("tenant", "blue");
    /// assert_eq!(event.header("tenant"), Some("blue"));
    /// ```
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), Value::String(value.into()));
        self
    }

    /// With the version of the writer's schema; without it the latest that fits.
    ///
    /// ```
    /// # use walpost_outbox::NewEvent;
    /// # let event = NewEvent::new("order", "42", "shop.OrderPlaced", serde_json::json!({}));
    /// let event = event.with_schema_version(3);
    /// ```
    #[must_use]
    pub fn with_schema_version(mut self, version: i32) -> Self {
        self.schema_version = Some(version);
        self
    }

    /// The event id.
    ///
    /// ```
    /// # use walpost_outbox::NewEvent;
    /// let event = NewEvent::new("order", "42", "shop.OrderPlaced", serde_json::json!({}));
    /// assert_ne!(event.id(), event.clone().with_id(uuid::Uuid::now_v7()).id());
    /// ```
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The value of a header.
    ///
    /// ```
    /// # use walpost_outbox::NewEvent;
    /// let event = NewEvent::new("order", "42", "shop.OrderPlaced", serde_json::json!({}));
    /// assert_eq!(event.header("tenant"), None);
    /// ```
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(Value::as_str)
    }
}

/// Rows get their numbers in the order of the events: within a transaction they are published in
/// the order of the inserts.
const INSERT: &str = "\
INSERT INTO outbox
    (id, aggregate_type, aggregate_id, event_type, payload, headers, schema_version)
SELECT id, aggregate_type, aggregate_id, event_type, payload, headers, schema_version
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::jsonb[], $7::int[])
     WITH ORDINALITY AS e
     (id, aggregate_type, aggregate_id, event_type, payload, headers, schema_version, place)
ORDER BY place";

/// Appends one event to the table `outbox` in the caller's transaction.
///
/// ```no_run
/// # async fn f(client: &mut tokio_postgres::Client) -> Result<(), tokio_postgres::Error> {
/// use walpost_outbox::{NewEvent, append};
///
/// let tx = client.transaction().await?;
/// tx.execute("UPDATE orders SET paid = true WHERE id = $1", &[&42_i64]).await?;
/// append(&tx, &NewEvent::new("order", "42", "shop.OrderPaid", serde_json::json!({}))).await?;
/// tx.commit().await
/// # }
/// ```
pub async fn append(tx: &impl GenericClient, event: &NewEvent) -> Result<(), Error> {
    append_all(tx, std::slice::from_ref(event)).await
}

/// Appends events in their order, in one statement. Cancellation-safe as its transaction is.
///
/// ```no_run
/// # async fn f(tx: &tokio_postgres::Transaction<'_>, events: &[walpost_outbox::NewEvent])
/// # -> Result<(), tokio_postgres::Error> {
/// walpost_outbox::append_all(tx, events).await
/// # }
/// ```
pub async fn append_all(tx: &impl GenericClient, events: &[NewEvent]) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&NewEvent) -> &str| events.iter().map(of).collect::<Vec<&str>>();
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    let payloads: Vec<Option<&Value>> = events.iter().map(|event| event.payload.as_ref()).collect();
    let headers: Vec<Option<Value>> = events
        .iter()
        .map(|event| (!event.headers.is_empty()).then(|| Value::Object(event.headers.clone())))
        .collect();
    let versions: Vec<Option<i32>> = events.iter().map(|event| event.schema_version).collect();
    tx.execute_typed(
        INSERT,
        &[
            (&ids, Type::UUID_ARRAY),
            (&text(|event| &event.aggregate_type), Type::TEXT_ARRAY),
            (&text(|event| &event.aggregate_id), Type::TEXT_ARRAY),
            (&text(|event| &event.event_type), Type::TEXT_ARRAY),
            (&payloads, Type::JSONB_ARRAY),
            (&headers, Type::JSONB_ARRAY),
            (&versions, Type::INT4_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_null_is_a_payload_and_a_tombstone_has_none() {
        let null = NewEvent::new("a", "1", "t", Value::Null);
        assert_eq!(null.payload, Some(Value::Null));
        assert_eq!(NewEvent::tombstone("a", "1", "t").payload, None);
    }
}
