//! Time as an input: the pure rooms are handed a [`Now`], only the loops ask the system.

use std::time::{Duration, Instant};

/// A moment, by both clocks that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since the source started: never goes back, for intervals.
    pub elapsed: Duration,
    /// Milliseconds since the Unix epoch: comparable with commit times, may step.
    pub unix_ms: i64,
}

/// The system's clocks, read relative to a start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Now {
        Now { elapsed: self.start.elapsed(), unix_ms: unix_ms() }
    }

    /// The moment at which so much time has passed since the start.
    pub fn at(&self, elapsed: Duration) -> Instant {
        self.start + elapsed
    }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
