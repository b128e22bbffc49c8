//! A batch and the event of it that is to blame in, its fate and when out.

use std::time::Instant;

use tracing::{debug, warn};

use super::backoff::chance;
use super::batch::Verdict;
use super::lanes::{Batch, Fate};
use super::settings::Settings;

/// When the event at this place of a batch goes on, and how.
pub(crate) fn next_fate(
    settings: &Settings,
    batch: &Batch,
    at: usize,
    verdict: Verdict,
    now: Instant,
) -> (Instant, Fate) {
    let id = batch.works.get(at).map(|work| work.message.id).unwrap_or_default();
    let (reason, after) = match verdict {
        Verdict::Park(reason) => {
            warn!(%id, reason, "event is parked");
            return (now, Fate::Park(reason));
        }
        Verdict::DeadLetter(reason) => {
            warn!(%id, reason, "event becomes a dead letter");
            return (now, Fate::DeadLetter(reason));
        }
        Verdict::Attempt { reason, after } => (reason, after),
    };
    let failures = batch.failures.saturating_add(1);
    if failures >= settings.attempts {
        let reason = format!("after {failures} attempts: {reason}");
        warn!(%id, reason, "event is parked");
        return (now, Fate::Park(reason));
    }
    let wait = settings.backoff.wait(failures, chance()).max(after.unwrap_or_default());
    debug!(%id, failures, reason, ?wait, "attempt failed");
    (now + wait, Fate::Handle)
}
