//! Waiting for what another process does: ask, pause, ask again, until a deadline.

use std::time::{Duration, Instant};

/// Pause between two questions: below what a person notices, far above what a question costs.
const PAUSE: Duration = Duration::from_millis(25);

/// Asks until the answer is `Some`; `None` when the deadline passed first.
pub fn until<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if start.elapsed() >= deadline {
            return None;
        }
        pause();
    }
}

/// One pause. A server process offers nothing to wait on, so this is the one place that sleeps.
#[expect(clippy::disallowed_methods, reason = "another process's readiness can only be asked for")]
pub fn pause() {
    std::thread::sleep(PAUSE); // tidy: allow sleep: the one poll that the waits above are made of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_at_least_once_even_without_time() {
        assert_eq!(until(Duration::ZERO, || Some(7)), Some(7));
        assert_eq!(until(Duration::ZERO, || None::<u8>), None);
    }
}
