//! The status as JSON: the contract of `/api/v1/status`, `/healthz` and `walpost status`.
//! Positions are texts with their bytes beside them, times RFC 3339, durations seconds.

use serde::{Deserialize, Serialize};

use super::health;
use crate::clock::unix_ms;
use crate::status::Snapshot;

/// The whole daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusJson {
    /// The daemon's version.
    pub version: String,
    /// When this was said.
    pub at: String,
    /// One for each source.
    pub sources: Vec<SourceJson>,
}

/// One source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceJson {
    /// Its name.
    pub source: String,
    /// One of the closed list of states.
    pub state: String,
    /// Since when.
    pub since: String,
    /// Whether the confirmed position moved or there was nothing to do.
    pub healthy: bool,
    /// The fault that is waited out or stopped at.
    pub fault: Option<FaultJson>,
    /// Seconds behind.
    pub lag_seconds: f64,
    /// Bytes behind, where the server was asked.
    pub lag_bytes: Option<u64>,
    /// WAL that the slot holds back.
    pub retained_wal_bytes: Option<u64>,
    /// WAL that may still be written before the slot is lost; absent when unlimited.
    pub safe_wal_bytes: Option<u64>,
    /// The slot's `wal_status`.
    pub wal_status: Option<String>,
    /// Up to here everything is delivered.
    pub confirmed_lsn: String,
    /// The same as a number.
    pub confirmed_lsn_bytes: u64,
    /// Events in flight.
    pub pending_events: u64,
    /// Events in the parking lot.
    #[serde(default)]
    pub parked_events: u64,
    /// Aggregates that wait in the parking lot.
    #[serde(default)]
    pub parked_keys: u64,
    /// Events acknowledged since the daemon started.
    pub published_events: u64,
    /// Events acknowledged a second, lately.
    pub events_per_second: f64,
}

/// A fault.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FaultJson {
    /// The name of its page in `docs/errors/`.
    pub code: String,
    /// Its text.
    pub text: String,
    /// When it happened last.
    pub at: String,
}

impl StatusJson {
    /// The status of these sources at this moment.
    pub fn of(sources: &[Snapshot]) -> Self {
        let now = unix_ms();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: rfc3339(now),
            sources: sources.iter().map(|source| SourceJson::of(source, now)).collect(),
        }
    }
}

impl SourceJson {
    fn of(source: &Snapshot, now: i64) -> Self {
        let slot = source.slot.as_ref();
        Self {
            source: source.source.clone(),
            state: source.state.as_str().to_owned(),
            since: rfc3339(source.since_unix_ms),
            healthy: health::gets_on(source, now),
            fault: source.fault.as_ref().map(|fault| FaultJson {
                code: fault.code.to_owned(),
                text: fault.text.clone(),
                at: rfc3339(fault.at_unix_ms),
            }),
            lag_seconds: source.lag_seconds(now),
            lag_bytes: slot.map(|slot| slot.lag_bytes),
            retained_wal_bytes: slot.map(|slot| slot.retained_bytes),
            safe_wal_bytes: slot.and_then(|slot| slot.safe_bytes),
            wal_status: slot.map(|slot| slot.wal_status.clone()),
            confirmed_lsn: source.confirmed.to_string(),
            confirmed_lsn_bytes: source.confirmed.0,
            pending_events: source.pending_events,
            parked_events: source.lot.events,
            parked_keys: source.lot.keys,
            published_events: source.published.values().sum(),
            events_per_second: source.rate.per_second(now),
        }
    }
}

fn rfc3339(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms).map_or_else(|_| String::new(), |at| at.to_string())
}
