//! Time as an input: the machine's, or one that a test turns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where the loop has its time from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    #[default]
    System,
    /// Stands still but for jumps. Built by the test kit only.
    #[cfg_attr(not(feature = "testkit"), expect(dead_code, reason = "the test kit makes it"))]
    Virtual(Arc<VirtualClock>),
}

/// A clock that stands still until it is turned.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    start: Instant,
    passed: Mutex<Duration>,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self { start: Instant::now(), passed: Mutex::default() }
    }
}

impl VirtualClock {
    /// Now.
    pub(crate) fn now(&self) -> Instant {
        self.start + *self.passed()
    }

    /// Turns it on.
    pub(crate) fn advance(&self, by: Duration) {
        *self.passed() += by;
    }

    fn passed(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            Self::Virtual(clock) => clock.now(),
        }
    }

    /// Waits for a moment. With a virtual clock that is idle the moment comes at once: nobody else
    /// would bring it.
    pub(crate) async fn sleep_until(&self, moment: Instant, is_idle: bool) {
        match self {
            Self::System => tokio::time::sleep_until(moment.into()).await,
            Self::Virtual(clock) if is_idle => {
                let left = moment.saturating_duration_since(clock.now());
                clock.advance(left);
            }
            Self::Virtual(_) => std::future::pending().await,
        }
    }
}
