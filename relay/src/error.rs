//! Every error of a source becomes one of three faults, by an exhaustive match.
//!
//! *Retry*: another party can mend it; the source waits, backs off and says whom it waits for.
//! *Park*: this event can never be published as things are; by the policy of its route it is put
//! into the parking lot, given to a dead letter topic, or its source stops. *Stop*: the position,
//! the slot or the table cannot be trusted; a person decides. The codes are the names of the pages
//! in `docs/errors/`.

use std::sync::Arc;

use walpost_schema::envelope::EventPosition;

use crate::catalog::{CatalogError, LookError};
use crate::decode::DecodeError;
use crate::encode::EncodeError;
use crate::event::EventError;
use crate::headers::HeadersError;
use crate::kafka::BrokerError;
use crate::park::{LotError, LotFull};
use crate::position::{PositionError, TopicError};
use crate::route::RouteError;
use crate::schemas::SchemaError;
use crate::transaction::TransactionError;
use crate::wal::WalError;

/// What is done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Wait for somebody else and try again.
    Retry(Peer),
    /// Put the event aside.
    Park,
    /// Stop the source.
    Stop,
}

/// Whom a source waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The source's database.
    Postgres,
    /// The brokers.
    Kafka,
    /// The schema registry.
    Registry,
}

impl Peer {
    /// The name in metrics and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Registry => "registry",
        }
    }
}

/// Anything that interrupts a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The replication connection.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Table, publication or columns, as the catalog shows them.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A message that is not of protocol version 1.
    #[error("the stream cannot be decoded")]
    Decode(#[from] DecodeError),
    /// Broken framing of transactions.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The table as the stream describes it.
    #[error(transparent)]
    Table(EventError),
    /// One event that cannot be published.
    #[error("event {} at {position}: {error}", id.as_deref().unwrap_or("without id"))]
    Event {
        /// The event id, where it could be read.
        id: Option<Arc<str>>,
        /// Its place.
        position: EventPosition,
        /// Why.
        error: Box<EventFault>,
    },
    /// The parking lot cannot be used.
    #[error(transparent)]
    Lot(#[from] LotError),
    /// The parking lot is as full as it may be.
    #[error(transparent)]
    LotFull(#[from] LotFull),
    /// The producer or the brokers.
    #[error(transparent)]
    Kafka(#[from] BrokerError),
    /// The registry could not answer.
    #[error("schema registry at {at}: {reason}")]
    Registry {
        /// Its address, without secrets.
        at: String,
        /// What it said or did, without secrets.
        reason: String,
    },
    /// A frame before its stream was started: a mistake of ours.
    #[error("a {message} message came before the stream was started")]
    NotStarted {
        /// Which message.
        message: &'static str,
    },
    /// Database and position do not fit.
    #[error(transparent)]
    Position(#[from] Box<PositionError>),
    /// The position topic cannot be used.
    #[error(transparent)]
    PositionTopic(#[from] TopicError),
    /// The source has no position, or no birth.
    #[error("{what} of source \"{source_name}\" is missing in topic \"{topic}\": {hint}")]
    PositionMissing {
        /// What.
        what: &'static str,
        /// The source.
        source_name: String,
        /// The position topic.
        topic: String,
        /// Whether it was there once.
        history: PositionHistory,
        /// What to do.
        hint: &'static str,
    },
    /// Kafka holds events of this source that the database lost in a failover.
    #[error(
        "kafka holds {count} events or more that the database does not have any more, the first is \
         {first}"
    )]
    Phantoms {
        /// How many were seen.
        count: usize,
        /// The first one's id, source, position and place.
        first: String,
    },
}

/// Whether a source that has no position ever had one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionHistory {
    /// `walpost init` was not run, or not to its end.
    NeverMade,
    /// It was there and is gone.
    Lost,
}

/// Why one event cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum EventFault {
    /// Its row or message.
    #[error(transparent)]
    Row(EventError),
    /// Its destination.
    #[error(transparent)]
    Route(RouteError),
    /// Its record.
    #[error(transparent)]
    Encode(EncodeError),
}

impl From<PositionError> for SourceError {
    fn from(error: PositionError) -> Self {
        Self::Position(Box::new(error))
    }
}

impl From<LookError> for SourceError {
    fn from(error: LookError) -> Self {
        match error {
            LookError::Catalog(error) => Self::Catalog(error),
            LookError::Wal(error) => Self::Wal(error),
        }
    }
}

impl SourceError {
    /// An error of a row: whether it concerns the row alone or the table is decided by `fault`.
    pub fn row(position: EventPosition, error: EventError) -> Self {
        Self::Event { id: None, position, error: Box::new(EventFault::Row(error)) }
    }

    /// What is done about it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Wal(error) => wal_fault(error),
            Self::Catalog(error) => catalog_fault(error),
            Self::Decode(_) | Self::Transaction(_) => Fault::Stop,
            Self::Table(error) => event_fault(error),
            Self::Event { error, .. } => match error.as_ref() {
                EventFault::Row(error) => event_fault(error),
                EventFault::Route(_) | EventFault::Encode(_) => Fault::Park,
            },
            Self::Lot(_) => Fault::Retry(Peer::Postgres),
            Self::LotFull(_) => Fault::Stop,
            Self::Kafka(error) => error.fault(),
            Self::Registry { .. } => Fault::Retry(Peer::Registry),
            Self::Position(error) => position_fault(error),
            Self::PositionTopic(TopicError::Broker(error)) => error.fault(),
            Self::PositionTopic(
                TopicError::Partitions { .. }
                | TopicError::CleanupPolicy { .. }
                | TopicError::Record { .. },
            )
            | Self::NotStarted { .. }
            | Self::PositionMissing { .. }
            | Self::Phantoms { .. } => Fault::Stop,
        }
    }

    /// The stable name: log field, metric label, and page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Wal(error) => wal_code(error),
            Self::Catalog(error) => catalog_code(error),
            Self::Decode(_) => "stream_not_understood",
            Self::Transaction(_) => "transaction_framing_broken",
            Self::Table(error) => event_code(error),
            Self::Event { error, .. } => match error.as_ref() {
                EventFault::Row(error) => event_code(error),
                EventFault::Route(RouteError::NoRoute { .. }) => "route_missing",
                EventFault::Route(RouteError::TopicName { .. }) => "topic_name_invalid",
                EventFault::Encode(error) => encode_code(error),
            },
            Self::Lot(error) => lot_code(error),
            Self::LotFull(_) => "parking_lot_full",
            Self::Kafka(error) => error.code(),
            Self::Registry { .. } => "registry_unavailable",
            Self::NotStarted { .. } => "transaction_framing_broken",
            Self::Position(error) => position_code(error),
            Self::PositionTopic(TopicError::Broker(error)) => error.code(),
            Self::PositionTopic(
                TopicError::Partitions { .. } | TopicError::CleanupPolicy { .. },
            ) => "position_topic_unsuitable",
            Self::PositionTopic(TopicError::Record { .. }) => "position_unreadable",
            Self::PositionMissing { history: PositionHistory::NeverMade, .. } => "position_missing",
            Self::PositionMissing { history: PositionHistory::Lost, .. } => "position_lost",
            Self::Phantoms { .. } => "published_ahead_of_failover",
        }
    }
}

/// An error and its causes in one line. Each says itself only, so that nothing is said twice.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// The name of a panic of ours: an invariant did not hold, and the source ended there.
pub fn broken_invariant_code() -> &'static str {
    "broken_invariant"
}

fn wal_fault(error: &WalError) -> Fault {
    match error {
        WalError::Unreachable { .. }
        | WalError::Silent { .. }
        | WalError::TlsNotOffered { .. }
        | WalError::TlsFailed { .. }
        | WalError::PasswordMissing { .. }
        | WalError::PasswordRejected { .. }
        | WalError::ScramFailed { .. }
        | WalError::AuthenticationUnsupported { .. }
        | WalError::NotLetIn { .. }
        | WalError::RoleNotReplicating { .. }
        | WalError::DatabaseMissing { .. }
        | WalError::Pooler { .. }
        | WalError::NoConnectionLeft { .. }
        | WalError::NotAvailable { .. }
        | WalError::ShuttingDown { .. }
        | WalError::WalLevel { .. }
        | WalError::SlotActive { .. }
        | WalError::Refused { .. }
        | WalError::Ended { .. }
        | WalError::Lost { .. } => Fault::Retry(Peer::Postgres),
        WalError::SlotMissing { .. }
        | WalError::SlotForeign { .. }
        | WalError::SlotLost { .. }
        | WalError::OutOfProtocol { .. }
        | WalError::FrameTooLarge { .. } => Fault::Stop,
    }
}

fn catalog_fault(error: &CatalogError) -> Fault {
    match error {
        // A failover under way: the address will lead to the primary again.
        CatalogError::Standby { .. } => Fault::Retry(Peer::Postgres),
        CatalogError::SynchronousStandby { .. }
        | CatalogError::TableMissing { .. }
        | CatalogError::NotATable { .. }
        | CatalogError::Column(_)
        | CatalogError::PublicationMissing { .. }
        | CatalogError::PublicationWithoutTable { .. }
        | CatalogError::PublicationWithoutInsert { .. }
        | CatalogError::PublicationFiltered { .. }
        | CatalogError::PublicationWithoutColumn { .. }
        | CatalogError::PublicationNotViaRoot { .. } => Fault::Stop,
    }
}

fn position_fault(error: &PositionError) -> Fault {
    match error {
        // A failover under way: the address will lead to the new primary.
        PositionError::TimelineBehind { .. } => Fault::Retry(Peer::Postgres),
        PositionError::OtherDatabase { .. }
        | PositionError::OtherBirth { .. }
        | PositionError::OtherCluster { .. }
        | PositionError::OtherBranch { .. }
        | PositionError::PublishedAhead { .. }
        | PositionError::DatabaseBehind { .. }
        | PositionError::SlotAhead { .. }
        | PositionError::OtherSlot { .. }
        | PositionError::PublicationChanged { .. } => Fault::Stop,
    }
}

fn event_fault(error: &EventError) -> Fault {
    match error {
        EventError::ColumnMissing { .. }
        | EventError::ColumnType { .. }
        | EventError::Renamed { .. }
        | EventError::Replaced { .. }
        | EventError::PartitionAlone { .. }
        | EventError::Undescribed { .. }
        | EventError::Width { .. }
        | EventError::CellForm { .. } => Fault::Stop,
        EventError::NotUtf8 { .. }
        | EventError::Null { .. }
        | EventError::SchemaVersion { .. }
        | EventError::TooLarge { .. }
        | EventError::Message { .. } => Fault::Park,
    }
}

fn wal_code(error: &WalError) -> &'static str {
    match error {
        WalError::Unreachable { .. } | WalError::Silent { .. } => "postgres_unreachable",
        WalError::TlsNotOffered { .. } | WalError::TlsFailed { .. } => "postgres_tls",
        WalError::PasswordMissing { .. }
        | WalError::PasswordRejected { .. }
        | WalError::ScramFailed { .. }
        | WalError::AuthenticationUnsupported { .. } => "postgres_password",
        WalError::NotLetIn { .. } => "postgres_not_let_in",
        WalError::RoleNotReplicating { .. } => "role_no_replication",
        WalError::DatabaseMissing { .. } => "database_missing",
        WalError::Pooler { .. } => "postgres_is_a_pooler",
        WalError::NoConnectionLeft { .. } => "postgres_connections_exhausted",
        WalError::NotAvailable { .. } | WalError::ShuttingDown { .. } | WalError::Ended { .. } => {
            "postgres_not_available"
        }
        WalError::WalLevel { .. } => "wal_level_not_logical",
        WalError::SlotActive { .. } => "slot_active",
        WalError::SlotMissing { .. } => "slot_missing",
        WalError::SlotForeign { .. } => "slot_foreign",
        WalError::SlotLost { .. } => "slot_lost",
        WalError::Refused { .. } => "postgres_refused",
        WalError::Lost { .. } => "postgres_connection_lost",
        WalError::OutOfProtocol { .. } => "stream_not_understood",
        WalError::FrameTooLarge { .. } => "frame_too_large",
    }
}

fn catalog_code(error: &CatalogError) -> &'static str {
    match error {
        CatalogError::TableMissing { .. } => "outbox_table_missing",
        CatalogError::NotATable { .. } => "outbox_not_a_table",
        CatalogError::Column(error) => event_code(error),
        CatalogError::PublicationMissing { .. } => "publication_missing",
        CatalogError::PublicationWithoutTable { .. } => "publication_without_table",
        CatalogError::PublicationWithoutInsert { .. }
        | CatalogError::PublicationFiltered { .. }
        | CatalogError::PublicationWithoutColumn { .. }
        | CatalogError::PublicationNotViaRoot { .. } => "publication_unsuitable",
        CatalogError::Standby { .. } => "database_is_a_standby",
        CatalogError::SynchronousStandby { .. } => "synchronous_standby",
    }
}

fn position_code(error: &PositionError) -> &'static str {
    match error {
        PositionError::OtherDatabase { .. } => "other_database",
        PositionError::OtherBirth { .. } => "other_birth",
        PositionError::OtherCluster { .. } => "other_kafka_cluster",
        PositionError::TimelineBehind { .. } => "timeline_behind",
        PositionError::OtherBranch { .. } => "timeline_foreign",
        PositionError::PublishedAhead { .. } => "published_ahead_of_failover",
        PositionError::DatabaseBehind { .. } => "database_behind_position",
        PositionError::SlotAhead { .. } => "slot_ahead",
        PositionError::OtherSlot { .. } => "slot_changed",
        PositionError::PublicationChanged { .. } => "publication_changed",
    }
}

fn lot_code(error: &LotError) -> &'static str {
    match error {
        LotError::Missing { .. } => "parking_tables_missing",
        LotError::Away(_)
        | LotError::Failed(_)
        | LotError::InUse { .. }
        | LotError::OtherTimeline { .. } => "parking_lot_unavailable",
    }
}

fn event_code(error: &EventError) -> &'static str {
    match error {
        EventError::ColumnMissing { .. } => "outbox_column_missing",
        EventError::ColumnType { .. } => "outbox_column_type",
        EventError::Renamed { .. } => "outbox_renamed",
        EventError::Replaced { .. } => "outbox_replaced",
        EventError::PartitionAlone { .. } => "outbox_partition_alone",
        EventError::Undescribed { .. } | EventError::Width { .. } | EventError::CellForm { .. } => {
            "stream_not_understood"
        }
        EventError::NotUtf8 { .. } => "column_not_utf8",
        EventError::Null { .. } => "column_null",
        EventError::SchemaVersion { .. } => "schema_version_invalid",
        EventError::TooLarge { .. } => "row_too_large",
        EventError::Message { .. } => "message_not_an_event",
    }
}

fn encode_code(error: &EncodeError) -> &'static str {
    match error {
        EncodeError::Schema(SchemaError::NotRegistered { .. } | SchemaError::NotAName { .. }) => {
            "schema_not_registered"
        }
        EncodeError::Schema(SchemaError::VersionMissing { .. }) => "schema_version_missing",
        EncodeError::Schema(SchemaError::Unusable { .. }) => "schema_unusable",
        EncodeError::Schema(SchemaError::Unfit { .. }) => "payload_unfit",
        EncodeError::TopicMissing { .. } => "topic_missing",
        EncodeError::Headers(HeadersError::NotAnObject { .. } | HeadersError::TooMany { .. }) => {
            "headers_invalid"
        }
        EncodeError::NotJson { .. } => "payload_not_json",
        EncodeError::PayloadIsBytes { .. } | EncodeError::PayloadIsText | EncodeError::NotHex => {
            "payload_form"
        }
        EncodeError::NotFramed(_)
        | EncodeError::ForeignId { .. }
        | EncodeError::BrokenBody { .. } => "passthrough_invalid",
        EncodeError::TooLarge { .. } => "record_too_large",
        EncodeError::RefusedByBroker { .. } => "kafka_batch_refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_and_its_causes_are_each_said_once() {
        let decode = SourceError::from(DecodeError::UnknownTag { tag: b'S' });
        let text = "the stream cannot be decoded: unknown message with tag S";
        assert_eq!(with_causes(&decode), text);
        let source = std::io::Error::other("refused");
        let wal = SourceError::from(WalError::Unreachable { at: "db1".to_owned(), source });
        assert_eq!(with_causes(&wal), "no postgresql server answers at db1: refused");
    }
}
