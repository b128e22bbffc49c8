//! A candidate and a subject's versions in, Confluent's texts about what speaks against it out.

use crate::avro::Schema;
use crate::compat::{Direction, Level, Report, Undecided, Verdict, against, gate, messages};
use crate::registry::memory::{Refusal, State, Version};

impl State {
    pub(super) fn incompatibilities(
        &self,
        subject: &str,
        candidate: &Schema,
    ) -> Result<Vec<String>, Refusal> {
        let Some(entry) = self.subjects.get(subject) else {
            return Ok(Vec::new());
        };
        let history: Vec<Version> = entry.live().copied().collect();
        self.judge(self.level_of(subject), &history, candidate)
    }

    /// What speaks against a candidate, in Confluent's words: the texts of the newest version that
    /// fails, then which one it is.
    pub(super) fn judge(
        &self,
        level: Level,
        history: &[Version],
        candidate: &Schema,
    ) -> Result<Vec<String>, Refusal> {
        let mut failed: Option<(u32, Vec<String>)> = None;
        for pair in against(level, history.len()) {
            let Some(version) = history.get(pair.version) else { continue };
            if failed.as_ref().is_some_and(|(number, _)| *number != version.number) {
                break;
            }
            let Some(old) = self.schemas.get(&version.id) else { continue };
            let report: Report = match pair.direction {
                Direction::NewReadsOld => gate(candidate, &old.schema),
                Direction::OldReadsNew => gate(&old.schema, candidate),
            };
            if let Verdict::Undecided(reason) = report.verdict {
                return Err(undecided(reason));
            }
            let texts = messages(&report, pair.direction);
            if !texts.is_empty() {
                failed.get_or_insert_with(|| (version.number, Vec::new())).1.extend(texts);
            }
        }
        let Some((number, mut texts)) = failed else {
            return Ok(Vec::new());
        };
        let old = history.iter().find(|version| version.number == number);
        let old = old.and_then(|version| self.schemas.get(&version.id));
        let text = old.map(|stored| cut(&stored.text)).unwrap_or_default();
        texts.push(format!("{{oldSchemaVersion: {number}}}"));
        texts.push(format!("{{oldSchema: '{text}'}}"));
        texts.push(format!("{{validateFields: 'false', compatibility: '{level}'}}"));
        Ok(texts)
    }
}

/// A registry says what it could not find out; it does not let it in.
fn undecided(reason: Undecided) -> Refusal {
    Refusal::new(422, 42_201, format!("Invalid schema: {reason}"))
}

/// An old schema in a message, as far as Confluent prints it.
fn cut(text: &str) -> String {
    const BYTES_MAX: usize = 10 * 1024;
    if text.len() <= BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}<truncated>", text.get(..end).unwrap_or_default())
}
