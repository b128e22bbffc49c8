//! Levels and modes: of a subject, or the global ones that stand in for what a subject does not
//! say.

use crate::compat::Level;
use crate::registry::memory::{MemoryRegistry, Mode, Refusal};

impl MemoryRegistry {
    /// The level of a subject, or the global one; None if a subject has none of its own.
    #[must_use]
    pub fn level(&self, subject: Option<&str>) -> Option<Level> {
        let state = self.state();
        match subject {
            Some(subject) => state.subjects.get(subject).and_then(|entry| entry.level),
            None => Some(state.level),
        }
    }

    /// Sets the level of a subject, or the global one.
    pub fn set_level(&self, subject: Option<&str>, word: &str) -> Result<Level, Refusal> {
        let level: Level = word.parse().map_err(|_| {
            let message = format!(
                "Invalid compatibility level. Valid values are none, backward, forward, full, \
                 backward_transitive, forward_transitive, and full_transitive: {word}"
            );
            Refusal::new(422, 42_203, message)
        })?;
        let mut state = self.state();
        match subject {
            Some(subject) => {
                state.subjects.entry(subject.to_owned()).or_default().level = Some(level);
            }
            None => state.level = level,
        }
        Ok(level)
    }

    /// Takes a subject's level away; the level it had.
    pub fn delete_level(&self, subject: &str) -> Result<Level, Refusal> {
        let mut state = self.state();
        let level = state.subjects.get_mut(subject).and_then(|entry| entry.level.take());
        level.ok_or_else(|| Refusal::no_subject(subject))
    }

    /// The mode of a subject, or the global one; None if a subject has none of its own.
    #[must_use]
    pub fn mode(&self, subject: Option<&str>) -> Option<Mode> {
        let state = self.state();
        match subject {
            Some(subject) => state.subjects.get(subject).and_then(|entry| entry.mode),
            None => Some(state.mode),
        }
    }

    /// Sets the mode of a subject, or the global one. IMPORT and FORWARD are not served.
    pub fn set_mode(&self, subject: Option<&str>, word: &str) -> Result<Mode, Refusal> {
        let known = [Mode::ReadWrite, Mode::ReadOnly];
        let mode = known.into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(word));
        let mode = mode.ok_or_else(|| {
            let message = format!("Invalid mode. Valid values are READWRITE, READONLY: {word}");
            Refusal::new(422, 42_204, message)
        })?;
        let mut state = self.state();
        match subject {
            Some(subject) => {
                state.subjects.entry(subject.to_owned()).or_default().mode = Some(mode);
            }
            None => state.mode = mode,
        }
        Ok(mode)
    }
}
