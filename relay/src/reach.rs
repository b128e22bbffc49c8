//! Whether the brokers can be reached. In: a client's settings. Out: yes, or why not.
//!
//! librdkafka answers a question that nobody answered with "broker transport failure", whatever the
//! cause: a refused password, a certificate of somebody else. The cause it tells aside, as an event
//! that only a polled client hands over. So the question is asked in pieces, and between them the
//! events are looked at.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::kafka::{BrokerError, KafkaSettings};

/// The first piece of a question: what a broker on another continent needs for TLS, SASL and an
/// answer. Each further piece is twice as long.
const FIRST_PIECE: Duration = Duration::from_secs(1);

/// How long a question may be held up for events that are there already.
const EVENTS_WAIT: Duration = Duration::from_millis(50);

/// For a client that is told nothing but that its connections end: with a listener that wants TLS
/// or SASL it is so.
const CLOSED: &str = "connections are closed without an answer: kafka.security may not fit";

/// Keeps the last thing a client told of its connections.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    trouble: Mutex<Option<Trouble>>,
}

/// Why a connection failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) kind: TroubleKind,
    /// librdkafka's words, without the times in them: the same trouble is the same text.
    pub(crate) text: String,
}

/// Who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// SASL: user, password, mechanism.
    Refused,
    /// Certificates.
    Tls,
    /// Everything else: nobody there, wrong port, unknown host.
    Away,
}

impl Trouble {
    /// What an error event says of a connection; `None` for events of another kind.
    pub(crate) fn of(error: &KafkaError, reason: &str) -> Option<Self> {
        let kind = match error.rdkafka_error_code()? {
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
                TroubleKind::Refused
            }
            RDKafkaErrorCode::SSL => TroubleKind::Tls,
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve => TroubleKind::Away,
            _ => return None,
        };
        // "...: Connection refused (after 0ms in state CONNECT, 4 identical error(s) suppressed)"
        let text = reason.find(" (after ").and_then(|at| reason.get(..at)).unwrap_or(reason);
        Some(Self { kind, text: text.to_owned() })
    }

    /// The same as an error of the cluster at these brokers.
    fn into_error(self, settings: &KafkaSettings) -> BrokerError {
        let (at, reason) = (settings.bootstrap_servers.clone(), self.text);
        match self.kind {
            TroubleKind::Refused => {
                let user = settings.username.clone().unwrap_or_else(|| "(none)".to_owned());
                BrokerError::NotLetIn { at, user, reason }
            }
            TroubleKind::Tls => BrokerError::Tls { at, reason },
            TroubleKind::Away => BrokerError::Unreachable { at, reason },
        }
    }
}

impl Reach {
    /// The last trouble, if there was any.
    fn last(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Reach {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "kafka: {reason}");
        let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            // It follows the reason, where there is one, and says less.
            let closed = || Trouble { kind: TroubleKind::Away, text: CLOSED.to_owned() };
            last.get_or_insert_with(closed);
        } else if let Some(trouble) = Trouble::of(&error, reason) {
            *last = Some(trouble);
        }
    }
}

impl ConsumerContext for Reach {}

/// Asks the cluster for its brokers. Blocks for up to `timeout`; a refused password or certificate
/// is told as soon as it is known.
pub(crate) fn knock(settings: &KafkaSettings, timeout: Duration) -> Result<(), BrokerError> {
    let client: BaseConsumer<Reach> = settings
        .client("walpost-topics")
        .create_with_context(Reach::default())
        .map_err(|error| BrokerError::Configuration { reason: error.to_string() })?;
    let start = Instant::now();
    let mut piece = FIRST_PIECE;
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        let Err(error) = client.fetch_metadata(None, piece.min(left)) else { return Ok(()) };
        // A poll without time to spend ends with a log line, which would hide the error behind it.
        while client.poll(EVENTS_WAIT).is_some() {}
        let trouble = client.context().last();
        let is_told = trouble.as_ref().is_some_and(|trouble| trouble.kind != TroubleKind::Away);
        if is_told || piece >= left {
            let away = || Trouble { kind: TroubleKind::Away, text: error.to_string() };
            return Err(trouble.unwrap_or_else(away).into_error(settings));
        }
        piece *= 2;
    }
}
