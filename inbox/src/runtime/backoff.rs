//! How often something failed in, how long to wait out. Pure: chance is an argument.

use std::time::Duration;

/// Waits that double, up to a bound, each with jitter that only lengthens it: a wait is a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// At most, before the jitter of up to a half.
    pub most: Duration,
}

impl Backoff {
    /// After so many failures, from 1; `chance` is evenly spread over 0..=1.
    ///
    /// ```
    /// # use walpost_inbox::runtime::Backoff;
    /// # use std::time::Duration;
    /// let backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(2) };
    /// assert_eq!(backoff.wait(1, 0.0), Duration::from_millis(50));
    /// assert_eq!(backoff.wait(3, 1.0), Duration::from_millis(300));
    /// assert_eq!(backoff.wait(99, 0.0), Duration::from_secs(2));
    /// ```
    #[must_use]
    pub fn wait(self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let wait = self.first.saturating_mul(1 << doublings).min(self.most);
        wait.mul_f64(1.0 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

/// A number in 0..=1 that differs from call to call; it spreads waits and decides nothing.
pub(crate) fn chance() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() & 0xFFFF;
    bits as f64 / f64::from(0xFFFF)
}
