//! What can go wrong between us and the server, as facts. Which of them are worth waiting for is
//! decided in `error.rs` of the crate.

use std::fmt;
use std::time::Duration;

use postgres_protocol::message::backend::ErrorFields;

use super::slot::quote_identifier;

/// The server's own words: an ErrorResponse
/// (<https://www.postgresql.org/docs/current/protocol-error-fields.html>).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// Five characters, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// The secondary message.
    pub detail: Option<String>,
    /// The server's suggestion.
    pub hint: Option<String>,
}

impl ServerError {
    pub(super) fn read(mut fields: ErrorFields<'_>) -> Self {
        use postgres_protocol::message::backend::ErrorField;
        let text =
            |field: &ErrorField<'_>| String::from_utf8_lossy(field.value_bytes()).into_owned();
        let mut error = Self::default();
        // A malformed tail is as good as no tail: what was read so far is still worth reporting.
        while let Ok(Some(field)) = fallible_iterator::FallibleIterator::next(&mut fields) {
            match field.type_() {
                b'C' => error.sqlstate = text(&field),
                b'M' => error.message = text(&field),
                b'D' => error.detail = Some(text(&field)),
                b'H' => error.hint = Some(text(&field)),
                _ => {}
            }
        }
        error
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sqlstate)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

/// The replication connection failed, or the server is not what the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// No host of the address accepted a connection.
    #[error("no postgresql server answers at {at}")]
    Unreachable {
        /// The address.
        at: String,
        /// The last host's refusal.
        #[source]
        source: std::io::Error,
    },
    /// A host accepted the connection and then said nothing.
    #[error("postgresql at {at} did not finish {step} within {} s", limit.as_secs())]
    Silent {
        /// The address.
        at: String,
        /// What was waited for.
        step: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The server offers no TLS and the mode demands it.
    #[error("postgresql at {at} does not offer tls, and the tls mode demands it")]
    TlsNotOffered {
        /// The address.
        at: String,
    },
    /// The TLS handshake failed: certificate, name or protocol.
    #[error("tls with postgresql at {at} failed")]
    TlsFailed {
        /// The address.
        at: String,
        /// What rustls says.
        #[source]
        source: std::io::Error,
    },
    /// The server asks for a password and none is configured.
    #[error("postgresql at {at} asks for a password of role {user}, and none is configured")]
    PasswordMissing {
        /// The address.
        at: String,
        /// The role.
        user: String,
    },
    /// Wrong password or unknown role (SQLSTATE 28P01).
    #[error("postgresql at {at} refused role {user}: {error}")]
    PasswordRejected {
        /// The address.
        at: String,
        /// The role.
        user: String,
        /// The server's words.
        error: Box<ServerError>,
    },
    /// The server proved no knowledge of the password, or its SCRAM messages are unsound.
    #[error("scram exchange with postgresql at {at} failed: {reason}")]
    ScramFailed {
        /// The address.
        at: String,
        /// Which step.
        reason: String,
    },
    /// Kerberos, SSPI or another method that is not spoken here.
    #[error("postgresql at {at} asks for the authentication method {method}, which is not spoken")]
    AuthenticationUnsupported {
        /// The address.
        at: String,
        /// The method's name.
        method: &'static str,
    },
    /// No line of pg_hba.conf lets us in (SQLSTATE 28000).
    #[error("postgresql at {at} does not let role {user} in: {error}")]
    NotLetIn {
        /// The address.
        at: String,
        /// The role.
        user: String,
        /// The server's words.
        error: Box<ServerError>,
    },
    /// The role may not replicate (SQLSTATE 42501).
    #[error(
        "role {} may not open a replication connection at {at}: {error}",
        quote_identifier(user)
    )]
    RoleNotReplicating {
        /// The address.
        at: String,
        /// The role.
        user: String,
        /// The server's words.
        error: Box<ServerError>,
    },
    /// The database does not exist (SQLSTATE 3D000).
    #[error("postgresql at {at}: {error}")]
    DatabaseMissing {
        /// The address.
        at: String,
        /// The server's words.
        error: Box<ServerError>,
    },
    /// A pooler that does not forward replication connections.
    #[error("{at} is a connection pooler, which does not pass replication on: {error}")]
    Pooler {
        /// The address.
        at: String,
        /// Its words.
        error: Box<ServerError>,
    },
    /// No connection slot is free (SQLSTATE 53300).
    #[error("postgresql at {at} has no connection left: {error}")]
    NoConnectionLeft {
        /// The address.
        at: String,
        /// The server's words.
        error: Box<ServerError>,
    },
    /// The server starts, stops or recovers (SQLSTATE 57P01 to 57P03).
    #[error("postgresql at {at} is not available: {error}")]
    NotAvailable {
        /// The address.
        at: String,
        /// The server's words.
        error: Box<ServerError>,
    },
    /// The server shuts down: other sessions were ended, and no new one is let in.
    #[error("postgresql at {at} shuts down")]
    ShuttingDown {
        /// The address.
        at: String,
    },
    /// `wal_level` is not `logical`.
    #[error(
        "postgresql at {at} writes no logical wal: wal_level is {found}; run ALTER SYSTEM SET \
         wal_level = 'logical' and restart it"
    )]
    WalLevel {
        /// The address.
        at: String,
        /// The setting.
        found: String,
    },
    /// Another connection streams from the slot (SQLSTATE 55006).
    #[error("replication slot \"{slot}\" is in use by {holder}")]
    SlotActive {
        /// The slot.
        slot: String,
        /// Process, application and address of the holder.
        holder: String,
    },
    /// The slot does not exist.
    #[error("replication slot \"{slot}\" does not exist at {at}")]
    SlotMissing {
        /// The address.
        at: String,
        /// The slot.
        slot: String,
    },
    /// The slot belongs to another plugin, another database, or is physical.
    #[error("replication slot \"{slot}\" is not usable: {reason}")]
    SlotForeign {
        /// The slot.
        slot: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The server removed WAL that the slot needs.
    #[error("replication slot \"{slot}\" is lost: {reason}")]
    SlotLost {
        /// The slot.
        slot: String,
        /// `wal_status` and, where the server tells it, the reason.
        reason: String,
    },
    /// Any other refusal, in the server's words.
    #[error("postgresql at {at} refused {step}: {error}")]
    Refused {
        /// The address.
        at: String,
        /// What was asked.
        step: &'static str,
        /// The server's words.
        error: Box<ServerError>,
    },
    /// The server ended the stream in good order: it shuts down.
    #[error("postgresql at {at} ended the stream")]
    Ended {
        /// The address.
        at: String,
    },
    /// The connection ended in the middle.
    #[error("connection to postgresql at {at} was lost during {step}")]
    Lost {
        /// The address.
        at: String,
        /// What was going on.
        step: &'static str,
        /// What the socket said.
        #[source]
        source: std::io::Error,
    },
    /// Bytes that are no message of the protocol, or a message that does not belong here (I8).
    #[error("postgresql at {at} sent {what} during {step}")]
    OutOfProtocol {
        /// The address.
        at: String,
        /// What was going on.
        step: &'static str,
        /// What arrived.
        what: String,
    },
    /// A frame above the limit that is neither a row nor a logical message: it cannot be cut, and
    /// keeping it would break the memory bound (I7).
    #[error(
        "postgresql at {at} sends a message of {bytes} bytes, more than the {limit} that are read"
    )]
    FrameTooLarge {
        /// The address.
        at: String,
        /// The size announced.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// The step in which a server refuses a role that may not replicate.
pub(super) const START_UP: &str = "the start-up";

/// Sorts a server's refusal by SQLSTATE. `step` says what was asked.
pub(super) fn classify(at: &str, user: &str, step: &'static str, error: ServerError) -> WalError {
    let error = Box::new(error);
    let at = at.to_owned();
    let user = user.to_owned();
    match error.sqlstate.as_str() {
        "28P01" => WalError::PasswordRejected { at, user, error },
        "28000" => WalError::NotLetIn { at, user, error },
        "42501" if step == START_UP => WalError::RoleNotReplicating { at, user, error },
        "3D000" => WalError::DatabaseMissing { at, error },
        "53300" => WalError::NoConnectionLeft { at, error },
        "57P01" | "57P02" | "57P03" => WalError::NotAvailable { at, error },
        "08P01" if error.message.contains("unsupported startup parameter") => {
            WalError::Pooler { at, error }
        }
        _ => WalError::Refused { at, step, error },
    }
}
