//! What dead runners had under way in, how carefully a batch has to start out. Pure.
//!
//! The argument is in [`store::tenure`](crate::store::tenure).

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use super::lanes::Work;
use crate::store::tenure::Suspect;

/// How carefully a batch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// Nothing is written down: nobody died.
    Quiet,
    /// Its events are noted.
    Noted,
    /// Its one event is noted, and nothing runs beside it; so many died of it.
    Alone { deaths: u32 },
}

/// The events of a partition that may have ended a process.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    deaths: HashMap<Uuid, u32>,
    deaths_max: u32,
}

impl Suspects {
    pub(crate) fn new(suspects: &[Suspect], deaths_max: u32) -> Self {
        let deaths = suspects.iter().map(|suspect| (suspect.id, suspect.deaths)).collect();
        // One that nobody died of is not parked.
        Self { deaths, deaths_max: deaths_max.max(1) }
    }

    /// How many died of an event; `None` for one that is not suspected.
    pub(crate) fn deaths_of(&self, work: Option<&Work>) -> Option<u32> {
        if self.deaths.is_empty() {
            return None;
        }
        self.deaths.get(&work?.message.id).copied()
    }

    /// How many events stand before the first suspect.
    pub(crate) fn before(&self, waiting: &VecDeque<Work>) -> usize {
        if self.deaths.is_empty() {
            return waiting.len();
        }
        let is_free = |work: &&Work| !self.deaths.contains_key(&work.message.id);
        waiting.iter().take_while(is_free).count()
    }

    /// Why an event is parked without another start, if it is.
    pub(crate) fn verdict(&self, deaths: u32) -> Option<String> {
        (deaths >= self.deaths_max).then(|| verdict(deaths))
    }

    /// They are finished.
    pub(crate) fn finished(&mut self, works: &[Work]) {
        if self.deaths.is_empty() {
            return;
        }
        for work in works {
            self.deaths.remove(&work.message.id);
        }
    }
}

/// What stands beside a parked event.
pub(crate) fn verdict(deaths: u32) -> String {
    format!("the process ended {deaths} times while this event alone was handled")
}
