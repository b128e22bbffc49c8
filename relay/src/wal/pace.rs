//! When to read late: bytes read go in, a pause before the next read comes out. Pure.
//!
//! The walsender sends each row by itself. A reader that wakes for each row costs both sides most
//! of their CPU in system calls and halves the rate; a reader that comes by every two milliseconds
//! finds a few hundred rows in the socket's buffer. So: while data flows faster than
//! [`BUSY_BYTES`] in [`PAUSE`], wait that long before reading again; as soon as a late read finds
//! less, stop waiting, so that a quiet stream is read at once. The pause must be far shorter than
//! what fills the receive buffer: 4 MiB at 200 MB/s are 20 ms.

use std::time::{Duration, Instant};

/// Long enough to collect some hundred rows, short against the latency that people notice.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// About 20 outbox rows within one [`PAUSE`], that is 10,000 rows/s.
const BUSY_BYTES: usize = 8 * 1024;

/// Decides after each read whether the next one should wait.
#[derive(Debug)]
pub(super) struct Pace {
    window_start: Option<Instant>,
    window_bytes: usize,
    is_late: bool,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { window_start: None, window_bytes: 0, is_late: false }
    }

    /// A read returned `bytes` at `now`: how long to wait before the next one, if at all.
    pub(super) fn after_read(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        if self.is_late {
            // The read came after a pause: what it found is what one pause collects.
            self.is_late = bytes >= BUSY_BYTES;
        } else {
            let start = *self.window_start.get_or_insert(now);
            self.window_bytes += bytes;
            if now.duration_since(start) > PAUSE {
                self.window_start = Some(now);
                self.window_bytes = bytes;
            }
            self.is_late = self.window_bytes >= BUSY_BYTES;
        }
        if self.is_late {
            self.window_start = None;
            self.window_bytes = 0;
        }
        self.is_late.then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(reads: &[(u64, usize)]) -> Vec<bool> {
        let start = Instant::now();
        let mut pace = Pace::new();
        let read = |&(at_us, bytes): &(u64, usize)| {
            pace.after_read(bytes, start + Duration::from_micros(at_us)).is_some()
        };
        reads.iter().map(read).collect()
    }

    #[test]
    fn a_thousand_rows_a_second_are_read_at_once() {
        let reads: Vec<_> = (0..100).map(|row| (row * 1_000, 400)).collect();
        assert!(pauses(&reads).iter().all(|paused| !paused));
    }

    #[test]
    fn a_backlog_is_read_late_after_a_few_rows_and_at_once_when_it_ends() {
        let rows: Vec<_> = (0..25).map(|row| (row * 8, 400)).collect();
        let first_late = pauses(&rows).iter().position(|paused| *paused);
        assert_eq!(first_late, Some(20));

        let mut reads = vec![(0, 8 * 1024), (2_100, 200_000), (4_300, 150_000), (6_400, 700)];
        reads.push((6_500, 400));
        assert_eq!(pauses(&reads), [true, true, true, false, false]);
    }
}
