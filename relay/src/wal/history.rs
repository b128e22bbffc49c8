//! The history of timelines: which of them holds the WAL at a position. Pure.
//!
//! A promotion or a restore starts a new timeline at a switch point; the WAL before it belongs to
//! the timelines before. Two positions may be compared only along one history, so a position that
//! was recorded on an abandoned branch is found here and trusted nowhere.
//!
//! Format: <https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES>.

use crate::lsn::Lsn;

/// The timelines that led to the present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    timeline: u32,
    /// Ancestors with the position at which each was left, oldest first.
    ancestors: Vec<(u32, Lsn)>,
}

/// A history file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the history of timeline {timeline} is not an ancestor and its end")]
pub struct HistoryError {
    timeline: u32,
    line: usize,
}

impl History {
    /// A timeline without ancestors, as initdb makes it.
    pub fn first(timeline: u32) -> Self {
        Self { timeline, ancestors: Vec::new() }
    }

    /// Reads what TIMELINE_HISTORY answers: a line for each ancestor, with its number, its switch
    /// point and a reason for people.
    pub fn parse(timeline: u32, text: &str) -> Result<Self, HistoryError> {
        let mut ancestors: Vec<(u32, Lsn)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let bad = || HistoryError { timeline, line: index + 1 };
            let mut words = line.split_whitespace();
            let ancestor = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
            let switch: Lsn = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
            let grows = ancestors.last().is_none_or(|(last, at)| *last < ancestor && *at <= switch);
            if !grows || ancestor >= timeline {
                return Err(bad());
            }
            ancestors.push((ancestor, switch));
        }
        Ok(Self { timeline, ancestors })
    }

    /// The present timeline.
    pub fn timeline(&self) -> u32 {
        self.timeline
    }

    /// The timeline whose WAL holds the record that starts at `at`.
    pub fn timeline_at(&self, at: Lsn) -> u32 {
        let ancestor = self.ancestors.iter().find(|(_, switch)| at < *switch);
        ancestor.map_or(self.timeline, |(timeline, _)| *timeline)
    }

    /// Where this history left `timeline`: `None` for a timeline that it never was on.
    pub fn left(&self, timeline: u32) -> Option<Left> {
        if timeline == self.timeline {
            return Some(Left::Never);
        }
        let found = self.ancestors.iter().find(|(ancestor, _)| *ancestor == timeline);
        found.map(|(_, switch)| Left::At(*switch))
    }
}

/// Whether and where a history left a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It is the present one.
    Never,
    /// WAL from here on belongs to other timelines.
    At(Lsn),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let text = "1\t0/3000000\tno recovery target specified\n\n# restored\n\
                    3\t0/5000000\tbefore 2026-01-01 00:00:00+00\n";
        History::parse(4, text).expect("history")
    }

    #[test]
    fn wal_before_a_switch_point_belongs_to_the_timeline_before() {
        let history = history();
        for (at, timeline) in
            [(0, 1), (0x2FF_FFFF, 1), (0x300_0000, 3), (0x4FF_FFFF, 3), (0x500_0000, 4)]
        {
            assert_eq!(history.timeline_at(Lsn(at)), timeline, "{at:X}");
        }
        assert_eq!(History::first(7).timeline_at(Lsn(0)), 7);
    }

    #[test]
    fn a_branch_that_was_never_taken_is_not_in_the_history() {
        let history = history();
        assert_eq!(history.left(1), Some(Left::At(Lsn(0x300_0000))));
        assert_eq!(history.left(4), Some(Left::Never));
        assert_eq!(history.left(2), None);
        assert_eq!(history.left(5), None);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for (text, line) in [
            ("x 0/1 y", 1),
            ("1 nowhere", 1),
            ("1 0/5\n2 0/4", 2),
            ("4 0/1", 1),
            ("2 0/1\n1 0/2", 2),
        ] {
            let error = History::parse(4, text).expect_err(text);
            assert_eq!(error, HistoryError { timeline: 4, line }, "{text}");
        }
    }
}
