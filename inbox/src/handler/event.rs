//! What handlers get.

use serde::de::DeserializeOwned;
use uuid::Uuid;

/// A type of event: its name on the wire and how to read it.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct OrderPlaced {
///     total: String,
/// }
///
/// impl walpost_inbox::Event for OrderPlaced {
///     const TYPE: &'static str = "shop.OrderPlaced";
///     const SCHEMA: Option<&'static str> = Some(
///         r#"{"type": "record", "name": "shop.OrderPlaced", "fields": [
///             {"name": "total", "type": "string"}]}"#,
///     );
/// }
/// ```
pub trait Event: DeserializeOwned + Send + 'static {
    /// The header `type` of its records.
    const TYPE: &'static str;
    /// The reader schema, which the writer's is resolved to: fields of later versions are dropped,
    /// fields that are missing get their defaults. `None` reads what the writer wrote, field by
    /// field as serde does.
    const SCHEMA: Option<&'static str> = None;
}

/// An event in a batch, with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<E> {
    /// The event id.
    pub id: Uuid,
    /// The record's key: the aggregate's id.
    pub key: String,
    /// The content.
    pub event: E,
}

/// A record without a value: the aggregate of this key is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The event id.
    pub id: Uuid,
    /// The record's key: the aggregate's id.
    pub key: String,
    /// The header `type`; empty if there is none.
    pub event_type: String,
}
