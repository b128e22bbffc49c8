//! Successes and failures of the database in, whether a batch may start out. Pure: time is an
//! argument.
//!
//! While it is open the partitions are paused and still polled: leaving the group would cost two
//! rebalances and mend nothing.

use std::time::Instant;

use super::backoff::Backoff;

/// How many failures in a row open it.
const FAILURES: u32 = 3;

/// Closed until the database failed [`FAILURES`] times in a row; then open for a while; then one
/// batch probes.
#[derive(Debug)]
pub(crate) struct Breaker {
    backoff: Backoff,
    failures: u32,
    open_until: Option<Instant>,
    is_probing: bool,
}

/// May a batch start?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Yes.
    Free,
    /// Yes, this one alone: it probes.
    Probe,
    /// Not before then.
    Wait(Instant),
    /// A probe is under way.
    Probing,
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0, open_until: None, is_probing: false }
    }

    /// Whether and how a batch may start now.
    #[must_use]
    pub(crate) fn admit(&self, now: Instant) -> Admission {
        match self.open_until {
            None => Admission::Free,
            Some(_) if self.is_probing => Admission::Probing,
            Some(until) if now < until => Admission::Wait(until),
            Some(_) => Admission::Probe,
        }
    }

    /// A batch started; if it was a probe nothing else may.
    pub(crate) fn started(&mut self) {
        self.is_probing = self.open_until.is_some();
    }

    /// The database answered.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::new(self.backoff);
    }

    /// The database was away.
    pub(crate) fn failed(&mut self, now: Instant, chance: f64) {
        self.failures = self.failures.saturating_add(1);
        self.is_probing = false;
        if self.failures >= FAILURES {
            self.open_until = Some(now + self.backoff.wait(self.failures - FAILURES + 1, chance));
        }
    }

    /// Whether partitions are to be paused.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        self.open_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(8) };
        let mut breaker = Breaker::new(backoff);
        let start = Instant::now();
        breaker.failed(start, 0.0);
        breaker.failed(start, 0.0);
        breaker.succeeded();
        for _ in 0..FAILURES {
            assert_eq!(breaker.admit(start), Admission::Free);
            breaker.failed(start, 0.0);
        }
        let then = start + Duration::from_secs(1);
        assert_eq!(breaker.admit(start), Admission::Wait(then));
        assert_eq!(breaker.admit(then), Admission::Probe);
        breaker.started();
        assert_eq!(breaker.admit(then), Admission::Probing);
        breaker.failed(then, 0.0);
        assert_eq!(breaker.admit(then), Admission::Wait(then + Duration::from_secs(2)));
        breaker.succeeded();
        assert!(!breaker.is_open());
        assert_eq!(breaker.admit(start), Admission::Free);
    }
}
