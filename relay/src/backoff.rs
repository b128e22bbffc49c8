//! How long to wait before the next try: doubling with jitter, so that many relays that lost the
//! same server do not come back at the same moment.

use std::time::Duration;

/// The first wait. A server that restarts in place is back within a second.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait: a person who mended something sees the effect before starting to doubt it.
const LONGEST: Duration = Duration::from_secs(10);
/// A try that lasted this long was a success: the next wait starts over.
const SETTLED: Duration = Duration::from_secs(30);

/// Waits that grow with each failure in a row.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    seed: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    /// Starts with a short wait.
    pub fn new() -> Self {
        let seed = u64::from(std::process::id()) ^ crate::clock::unix_ms().cast_unsigned();
        Self { next: FIRST, seed: seed | 1 }
    }

    /// The wait before the next try, after a try that lasted `lasted`: between half of the full
    /// wait and all of it.
    pub fn next_wait(&mut self, lasted: Duration) -> Duration {
        if lasted >= SETTLED {
            self.next = FIRST;
        }
        let full = self.next;
        self.next = (full * 2).min(LONGEST);
        full / 2 + full.mul_f64(self.random() / 2.0)
    }

    /// Something worked: the next failure starts with the short wait.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }

    /// A number in 0..1 (xorshift64; jitter needs no better one).
    fn random(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_success() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..10).map(|_| backoff.next_wait(Duration::ZERO)).collect();
        let mut full = FIRST;
        for wait in &waits {
            assert!(*wait >= full / 2 && *wait <= full, "{wait:?} of {waits:?}");
            full = (full * 2).min(LONGEST);
        }
        assert_eq!(full, LONGEST);
        assert!(backoff.next_wait(SETTLED) <= FIRST);
    }
}
