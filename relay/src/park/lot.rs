//! Which sequences are closed, and how full the lot is: what goes in and what has left, counted.
//! Pure; the rows themselves are in the database.
//!
//! A sequence is closed from the moment its first event is on its way into the lot until its last
//! row has left. Counts are of rows in the database and of rows on their way there.

use std::collections::HashSet;

use foldhash::HashMap;
use walpost_schema::envelope::EventPosition;

use super::event::{ParkedEvent, SequenceId};

/// Events over which the ratio is taken.
const WINDOW_EVENTS: usize = 10_000;
/// Below so many parked events among them the ratio says nothing.
const WINDOW_PARKED_MIN: u32 = 100;
const WORDS: usize = WINDOW_EVENTS.div_ceil(64);

/// How full the lot may be. Over one of these the source stops: a bad deployment must not drain
/// the whole stream into the lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LotLimits {
    /// Closed sequences.
    pub keys: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of all rows.
    pub bytes: u64,
    /// Percent of the last 10,000 events that may have been parked, looked at above 100 of them.
    pub ratio_percent: u32,
}

impl Default for LotLimits {
    fn default() -> Self {
        Self { keys: 10_000, rows: 100_000, bytes: 256 * 1024 * 1024, ratio_percent: 50 }
    }
}

/// The lot is as full as it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the parking lot is full: limits.{limit} = {allowed}")]
pub struct LotFull {
    /// The limit that is reached, as the configuration names it.
    pub limit: &'static str,
    /// Its value.
    pub allowed: u64,
}

/// What the database holds when a lot is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LotContents {
    /// Rows and bytes of each closed sequence.
    pub sequences: Vec<(SequenceId, u64, u64)>,
    /// Events beyond the frontier that are in the lot or have left it: they are dealt with.
    pub known: HashSet<EventPosition>,
    /// The end of WAL after all of this was committed.
    pub as_of: crate::lsn::Lsn,
}

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    rows: u64,
    bytes: u64,
}

/// The lot of a source.
#[derive(Debug)]
pub struct Lot {
    sequences: HashMap<String, Held>,
    total: Held,
    limits: LotLimits,
    known: HashSet<EventPosition>,
    window: Window,
    /// For looking a sequence up without an allocation.
    name: String,
}

impl Lot {
    /// An empty lot.
    pub fn new(limits: LotLimits) -> Self {
        Self {
            sequences: HashMap::default(),
            total: Held::default(),
            limits,
            known: HashSet::new(),
            window: Window::default(),
            name: String::new(),
        }
    }

    /// What the database holds; anything counted before is forgotten.
    pub fn open(&mut self, contents: LotContents) {
        self.sequences.clear();
        self.total = Held::default();
        for (sequence, rows, bytes) in contents.sequences {
            self.total.rows += rows;
            self.total.bytes += bytes;
            self.sequences.insert(sequence.as_str().to_owned(), Held { rows, bytes });
        }
        self.known = contents.known;
    }

    /// Whether later events of the aggregate have to queue.
    pub fn is_closed(&mut self, aggregate_type: &str, aggregate_id: &str) -> bool {
        if self.sequences.is_empty() {
            return false;
        }
        SequenceId::write(&mut self.name, aggregate_type, aggregate_id);
        self.sequences.contains_key(&self.name)
    }

    /// Rows of a sequence in the lot and on their way into it.
    pub fn rows_of(&self, sequence: &SequenceId) -> u64 {
        self.sequences.get(sequence.as_str()).map_or(0, |held| held.rows)
    }

    /// Whether the event beyond the frontier is known to the parking tables. It is asked for once.
    pub fn take_known(&mut self, position: EventPosition) -> bool {
        !self.known.is_empty() && self.known.remove(&position)
    }

    /// Whether the event beyond the frontier is known to the parking tables.
    pub fn knows(&self, position: EventPosition) -> bool {
        self.known.contains(&position)
    }

    /// Whether there is room for one more event.
    pub fn admit(&self, event: &ParkedEvent) -> Result<(), LotFull> {
        let limits = &self.limits;
        let is_new = !self.sequences.contains_key(event.sequence().as_str());
        let keys = self.sequences.len() as u64 + u64::from(is_new);
        let full = |limit, allowed| Err(LotFull { limit, allowed });
        if keys > limits.keys {
            return full("parked_keys", limits.keys);
        }
        if self.total.rows + 1 > limits.rows {
            return full("parked_rows", limits.rows);
        }
        if self.total.bytes + event.bytes() > limits.bytes {
            return full("parked_bytes", limits.bytes);
        }
        if self.window.parked > WINDOW_PARKED_MIN && self.window.percent() > limits.ratio_percent {
            return full("parked_ratio", u64::from(limits.ratio_percent));
        }
        Ok(())
    }

    /// An event was handed on, to Kafka.
    pub fn note_published(&mut self) {
        self.window.push(false);
    }

    /// An event is on its way into the lot: its sequence is closed from now on.
    pub fn enter(&mut self, sequence: &SequenceId, bytes: u64) {
        let held = self.sequences.entry(sequence.as_str().to_owned()).or_default();
        held.rows += 1;
        held.bytes += bytes;
        self.total.rows += 1;
        self.total.bytes += bytes;
        self.window.push(true);
    }

    /// Rows of a sequence have left the lot, in a committed transaction.
    pub fn leave(&mut self, sequence: &SequenceId, rows: u64, bytes: u64) {
        let Some(held) = self.sequences.get_mut(sequence.as_str()) else {
            // The lot was opened after these rows had left.
            return;
        };
        assert!(rows <= held.rows, "I5: no more rows leave the lot than are in it");
        held.rows -= rows;
        held.bytes = held.bytes.saturating_sub(bytes);
        self.total.rows -= rows;
        self.total.bytes = self.total.bytes.saturating_sub(bytes);
        if held.rows == 0 {
            self.sequences.remove(sequence.as_str());
        }
    }

    /// Closed sequences.
    pub fn keys(&self) -> u64 {
        self.sequences.len() as u64
    }

    /// Rows in the lot and on their way into it.
    pub fn rows(&self) -> u64 {
        self.total.rows
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.total.bytes
    }

    /// How full it may be.
    pub fn limits(&self) -> LotLimits {
        self.limits
    }
}

/// Which of the last events were parked: one bit each.
#[derive(Debug)]
struct Window {
    bits: [u64; WORDS],
    next: usize,
    seen: usize,
    parked: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { bits: [0; WORDS], next: 0, seen: 0, parked: 0 }
    }
}

impl Window {
    fn push(&mut self, is_parked: bool) {
        if let Some(word) = self.bits.get_mut(self.next / 64) {
            let bit = 1u64 << (self.next % 64);
            self.parked -= u32::from(*word & bit != 0);
            self.parked += u32::from(is_parked);
            *word = if is_parked { *word | bit } else { *word & !bit };
        }
        self.next = if self.next + 1 == WINDOW_EVENTS { 0 } else { self.next + 1 };
        self.seen = (self.seen + 1).min(WINDOW_EVENTS);
    }

    fn percent(&self) -> u32 {
        let seen = u32::try_from(self.seen.max(1)).unwrap_or(u32::MAX);
        self.parked * 100 / seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::PostgresMicros;
    use crate::park::{Identity, RawPayload, RawRow, Reason};

    fn event(key: &str) -> ParkedEvent {
        let mut row = RawRow::only(RawPayload::Json("{}".to_owned()));
        row.aggregate_type = Some("order".to_owned());
        row.aggregate_id = Some(key.to_owned());
        let position = EventPosition { commit_lsn: 1, ordinal: 0 };
        let identity = Identity { timeline: 1, position };
        ParkedEvent { identity, commit_time: PostgresMicros(0), row, reason: Reason::behind() }
    }

    fn enter(lot: &mut Lot, key: &str) {
        let event = event(key);
        lot.enter(&event.sequence(), event.bytes());
    }

    fn lot(keys: u64, rows: u64, bytes: u64, ratio_percent: u32) -> Lot {
        Lot::new(LotLimits { keys, rows, bytes, ratio_percent })
    }

    #[test]
    fn a_sequence_is_closed_from_its_first_event_to_the_end_of_its_last_row() {
        let mut lot = Lot::new(LotLimits::default());
        enter(&mut lot, "a");
        enter(&mut lot, "a");
        assert!(lot.is_closed("order", "a") && !lot.is_closed("order", "b"));
        let sequence = event("a").sequence();
        lot.leave(&sequence, 1, event("a").bytes());
        assert!(lot.is_closed("order", "a"));
        lot.leave(&sequence, 1, event("a").bytes());
        assert!(!lot.is_closed("order", "a"));
        assert_eq!((lot.keys(), lot.rows(), lot.bytes()), (0, 0, 0));
    }

    #[test]
    fn each_limit_is_named_when_it_is_reached() {
        let limit = |lot: &Lot, key| lot.admit(&event(key)).err().map(|full| full.limit);
        let mut keys = lot(1, 9, 9_999, 100);
        enter(&mut keys, "a");
        assert_eq!((limit(&keys, "a"), limit(&keys, "b")), (None, Some("parked_keys")));
        let mut rows = lot(9, 1, 9_999, 100);
        enter(&mut rows, "a");
        assert_eq!(limit(&rows, "a"), Some("parked_rows"));
        let bytes = lot(9, 9, 1, 100);
        assert_eq!(limit(&bytes, "a"), Some("parked_bytes"));
    }

    #[test]
    fn the_ratio_counts_the_last_ten_thousand_events_above_a_hundred_parked() {
        let mut lot = lot(u64::MAX, u64::MAX, u64::MAX, 50);
        for number in 0..=WINDOW_PARKED_MIN {
            assert_eq!(lot.admit(&event("a")), Ok(()), "{number} parked");
            enter(&mut lot, "a");
        }
        let full = LotFull { limit: "parked_ratio", allowed: 50 };
        assert_eq!(lot.admit(&event("a")), Err(full));
        for _ in 0..WINDOW_PARKED_MIN + 1 {
            lot.note_published();
        }
        assert_eq!(lot.admit(&event("a")), Ok(()), "half of them");
        for _ in 0..WINDOW_EVENTS {
            lot.note_published();
        }
        assert_eq!(lot.window.parked, 0, "all of them are out of the window");
    }

    #[test]
    fn what_the_database_holds_replaces_what_was_counted() {
        let mut lot = Lot::new(LotLimits::default());
        enter(&mut lot, "a");
        let position = EventPosition { commit_lsn: 7, ordinal: 1 };
        lot.open(LotContents {
            sequences: vec![(event("b").sequence(), 3, 30)],
            known: HashSet::from([position]),
            as_of: crate::lsn::Lsn(9),
        });
        assert!(!lot.is_closed("order", "a") && lot.is_closed("order", "b"));
        assert_eq!((lot.keys(), lot.rows(), lot.bytes()), (1, 3, 30));
        assert!(lot.knows(position) && lot.take_known(position) && !lot.take_known(position));
        // Rows that had left before it was opened.
        lot.leave(&event("a").sequence(), 1, 10);
        assert_eq!(lot.rows(), 3);
    }
}
