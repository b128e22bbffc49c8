//! A level and a history in, the pairs to check out: who must be able to read whom.

use std::fmt;
use std::str::FromStr;

/// What a new version owes the earlier ones, in Confluent's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// Nothing is checked.
    None,
    /// The new schema reads what the newest one wrote.
    #[default]
    Backward,
    /// The new schema reads what every one wrote.
    BackwardTransitive,
    /// The newest schema reads what the new one writes.
    Forward,
    /// Every schema reads what the new one writes.
    ForwardTransitive,
    /// Both ways, with the newest.
    Full,
    /// Both ways, with every one.
    FullTransitive,
}

/// A word that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{word:?} is no compatibility level: NONE, BACKWARD, FORWARD, FULL or one of the last three \
     with _TRANSITIVE"
)]
pub struct UnknownLevel {
    /// The word.
    pub word: String,
}

/// One pair that a level asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Against {
    /// The earlier version, by its index in the history (oldest first).
    pub version: usize,
    /// Which way.
    pub direction: Direction,
}

/// Which of the two reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The candidate reads what the earlier version wrote.
    NewReadsOld,
    /// The earlier version reads what the candidate writes.
    OldReadsNew,
}

impl Level {
    /// All, weakest first.
    pub const ALL: [Level; 7] = [
        Level::None,
        Level::Backward,
        Level::BackwardTransitive,
        Level::Forward,
        Level::ForwardTransitive,
        Level::Full,
        Level::FullTransitive,
    ];

    /// As registries spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "NONE",
            Level::Backward => "BACKWARD",
            Level::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Level::Forward => "FORWARD",
            Level::ForwardTransitive => "FORWARD_TRANSITIVE",
            Level::Full => "FULL",
            Level::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// Whether every version of the history counts, not only the newest.
    #[must_use]
    pub fn is_transitive(self) -> bool {
        matches!(self, Level::BackwardTransitive | Level::ForwardTransitive | Level::FullTransitive)
    }

    /// The ways that it asks for. Forward comes first, as Confluent reports it.
    #[must_use]
    pub fn directions(self) -> &'static [Direction] {
        match self {
            Level::None => &[],
            Level::Backward | Level::BackwardTransitive => &[Direction::NewReadsOld],
            Level::Forward | Level::ForwardTransitive => &[Direction::OldReadsNew],
            Level::Full | Level::FullTransitive => {
                &[Direction::OldReadsNew, Direction::NewReadsOld]
            }
        }
    }

    /// Who must be upgraded first for a change that meets the level.
    #[must_use]
    pub fn upgrade_first(self) -> &'static str {
        match self {
            Level::None => "agree by hand: nothing is checked",
            Level::Backward | Level::BackwardTransitive => "consumers first",
            Level::Forward | Level::ForwardTransitive => "producers first",
            Level::Full | Level::FullTransitive => "in any order",
        }
    }
}

/// The pairs to check for a candidate after a history of so many versions, newest version first.
#[must_use]
pub fn against(level: Level, versions: usize) -> Vec<Against> {
    let oldest = if level.is_transitive() { 0 } else { versions.saturating_sub(1) };
    let mut pairs = Vec::new();
    for version in (oldest..versions).rev() {
        for direction in level.directions() {
            pairs.push(Against { version, direction: *direction });
        }
    }
    pairs
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        let known = Level::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(word));
        known.ok_or_else(|| UnknownLevel { word: word.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(level: Level) -> Vec<(usize, Direction)> {
        against(level, 3).into_iter().map(|pair| (pair.version, pair.direction)).collect()
    }

    #[test]
    fn a_level_asks_for_its_versions_newest_first_and_forward_before_backward() {
        use Direction::{NewReadsOld, OldReadsNew};
        assert_eq!(versions(Level::None), []);
        assert_eq!(versions(Level::Backward), [(2, NewReadsOld)]);
        assert_eq!(versions(Level::Forward), [(2, OldReadsNew)]);
        assert_eq!(versions(Level::Full), [(2, OldReadsNew), (2, NewReadsOld)]);
        let back = [(2, NewReadsOld), (1, NewReadsOld), (0, NewReadsOld)];
        assert_eq!(versions(Level::BackwardTransitive), back);
        assert_eq!(versions(Level::FullTransitive).len(), 6);
        assert_eq!(against(Level::FullTransitive, 0), []);
    }

    #[test]
    fn levels_are_read_in_any_case_and_others_refused() {
        for level in Level::ALL {
            assert_eq!(level.as_str().to_lowercase().parse(), Ok(level));
        }
        assert!("BACKWARDS".parse::<Level>().is_err());
    }
}
