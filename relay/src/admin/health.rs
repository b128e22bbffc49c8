//! Layered health: does the process live, is it ready, does it get on.

use crate::status::{Snapshot, State};

/// A loop that streams turns at least once a second; so long without a turn is a hang.
const TURN_MAX_MS: i64 = 30_000;
/// So long without progress, while nobody is waited for, is no health.
const PROGRESS_MAX_MS: i64 = 300_000;

/// The loops turn: a supervisor may restart the process when they do not.
pub(super) fn is_live(sources: &[Snapshot], now: i64) -> bool {
    sources.iter().all(|source| {
        let turns = matches!(source.state, State::Streaming | State::CatchingUp);
        !turns || now - source.turned_unix_ms <= TURN_MAX_MS
    })
}

/// Every source streams, or stands by on purpose.
pub(super) fn is_ready(sources: &[Snapshot]) -> bool {
    sources.iter().all(|source| {
        matches!(
            source.state,
            State::Streaming | State::CatchingUp | State::Standby | State::Draining
        )
    })
}

/// The confirmed position moved, or there was nothing to do, or somebody is honestly waited for.
pub(super) fn gets_on(source: &Snapshot, now: i64) -> bool {
    match source.state {
        State::Stopped => false,
        State::Streaming | State::CatchingUp => now - source.progress_unix_ms <= PROGRESS_MAX_MS,
        State::Connecting
        | State::WaitingKafka
        | State::WaitingRegistry
        | State::WaitingDatabase
        | State::Standby
        | State::Draining => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;

    fn source(state: State) -> Snapshot {
        let status = Status::new("shop");
        status.enter(state);
        let mut snapshot = status.snapshot();
        (snapshot.turned_unix_ms, snapshot.progress_unix_ms) = (0, 0);
        snapshot
    }

    #[test]
    fn a_hung_loop_is_not_live_and_a_wait_is() {
        assert!(!is_live(&[source(State::Streaming)], TURN_MAX_MS + 1));
        assert!(is_live(&[source(State::Streaming)], TURN_MAX_MS));
        assert!(is_live(&[source(State::WaitingKafka)], i64::MAX));
    }

    #[test]
    fn one_waiting_or_stopped_source_makes_the_daemon_unready() {
        assert!(is_ready(&[source(State::Streaming), source(State::CatchingUp)]));
        for state in [State::WaitingKafka, State::Connecting, State::Stopped] {
            assert!(!is_ready(&[source(State::Streaming), source(state)]), "{state:?}");
        }
    }

    #[test]
    fn a_stream_without_progress_is_unhealthy() {
        assert!(!gets_on(&source(State::Streaming), PROGRESS_MAX_MS + 1));
        assert!(gets_on(&source(State::WaitingKafka), PROGRESS_MAX_MS + 1));
        assert!(!gets_on(&source(State::Stopped), 0));
    }
}
