//! One bucket of the comparison at a time: known events and records in, what became of each out.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::RangeInclusive;

use super::audited::{Audited, FirstFew, Named, Offence};
use super::entry::{Copy, Entries, First, Id, Known, Nature, Order, Spot};
use super::spool::Spool;
use crate::lsn::Lsn;

/// The state of an event that has no record but a dead letter.
const DEAD_LETTERED: &str = "dead_lettered";

/// What numbers stand for.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) topics: Vec<String>,
    pub(super) states: Vec<String>,
}

impl Names {
    pub(super) fn place(&self, spot: Spot) -> String {
        let topic = self.topics.get(usize::from(spot.topic)).map_or("?", String::as_str);
        format!("{topic}[{}]@{}", spot.partition, spot.offset)
    }
}

/// What is judged, and by what.
#[derive(Debug, Clone)]
pub(super) struct Criteria {
    /// Commits that are judged; all by default.
    pub(super) window: RangeInclusive<u64>,
    /// A copy that is further behind is late.
    pub(super) late_ms: u32,
}

/// One thread's part of the comparison.
pub(super) struct Worker<'n> {
    names: &'n Names,
    criteria: Criteria,
    pub(super) firsts: Spool,
    found: Audited,
    lost: FirstFew<(i64, String)>,
    duplicated: FirstFew<(Order, Spot)>,
    out_of_order: FirstFew<(Order, Spot)>,
    split: FirstFew<(Order, Spot)>,
    late: FirstFew<(Order, Spot)>,
    moved: FirstFew<(Order, Spot)>,
}

impl<'n> Worker<'n> {
    pub(super) fn new(names: &'n Names, criteria: Criteria, memory: usize) -> Self {
        Self {
            names,
            criteria,
            firsts: Spool::new(memory),
            found: Audited::default(),
            lost: FirstFew(BTreeMap::new()),
            duplicated: FirstFew(BTreeMap::new()),
            out_of_order: FirstFew(BTreeMap::new()),
            split: FirstFew(BTreeMap::new()),
            late: FirstFew(BTreeMap::new()),
            moved: FirstFew(BTreeMap::new()),
        }
    }

    pub(super) fn merged(mut self, other: Self) -> Self {
        let (found, more) = (&mut self.found, other.found);
        found.committed += more.committed;
        found.delivered += more.delivered;
        found.lost += more.lost;
        found.repeated += more.repeated;
        found.outside += more.outside;
        found.duplicated += more.duplicated;
        found.late += more.late;
        found.latest_ms = found.latest_ms.max(more.latest_ms);
        found.replayed += more.replayed;
        found.out_of_order += more.out_of_order;
        found.split += more.split;
        found.moved += more.moved;
        found.seq_inversions += more.seq_inversions;
        found.others += more.others;
        for (state, count) in more.parked {
            *found.parked.entry(state).or_default() += count;
        }
        self.lost.merge(other.lost);
        self.duplicated.merge(other.duplicated);
        self.out_of_order.merge(other.out_of_order);
        self.split.merge(other.split);
        self.late.merge(other.late);
        self.moved.merge(other.moved);
        self
    }

    /// The counts, and the first of each kind, gravest kind first.
    pub(super) fn finish(mut self) -> Audited {
        let kinds = [self.out_of_order, self.split, self.duplicated, self.late, self.moved];
        let named = kinds.into_iter().flat_map(|few| few.0.into_values());
        self.found.offenders = self.lost.0.into_values().chain(named).collect();
        self.found
    }

    /// One bucket of event ids.
    pub(super) fn match_up(&mut self, known: &[u8], copies: &[u8]) -> io::Result<()> {
        let mut fates: HashMap<Id<'_>, Fate> = HashMap::new();
        let mut entries = Entries(known);
        while !entries.is_at_end() {
            let (id, known) = entries.known()?;
            let fate = fates.entry(id).or_default();
            match known {
                Known::Row { aggregate, seq } => {
                    fate.rows += 1;
                    (fate.aggregate, fate.seq) = (aggregate, seq);
                }
                Known::Parked { state } => fate.parked = Some(state),
            }
        }
        let mut entries = Entries(copies);
        while !entries.is_at_end() {
            let (id, copy) = entries.copy()?;
            match fates.get_mut(&id).filter(|fate| fate.rows > 0) {
                Some(fate) => fate.add(copy),
                None => self.found.others += 1,
            }
        }
        fates.into_iter().try_for_each(|(id, fate)| self.settle(id, &fate))
    }

    fn settle(&mut self, id: Id<'_>, fate: &Fate) -> io::Result<()> {
        let Some(rows) = fate.rows.checked_sub(1) else { return Ok(()) };
        self.found.repeated += rows;
        let Some(first) = fate.first else {
            self.found.committed += 1;
            self.without_record(id, fate);
            return Ok(());
        };
        if !self.criteria.window.contains(&first.order.commit_lsn) {
            self.found.outside += 1;
            return Ok(());
        }
        self.found.committed += 1;
        self.found.delivered += 1;
        let further = fate.copies - 1;
        // An id that two rows have is rightly there twice.
        let duplicated = further.saturating_sub(fate.replayed).saturating_sub(rows);
        self.found.replayed += further.min(fate.replayed);
        self.found.duplicated += duplicated;
        if duplicated > 0 {
            let named = || Named {
                offence: Offence::Duplicated,
                against: fate.second.map(|spot| self.names.place(spot)),
                ..named(self.names, Offence::Duplicated, id, first.spot, first.order)
            };
            self.duplicated.add((first.order, first.spot), named);
        }
        // A replayed event whose first copy retention has taken says nothing about order.
        if first.nature == Nature::Replayed {
            return Ok(());
        }
        self.look_at_the_clock(id, first);
        let Copy { spot, order, .. } = first;
        let first = First { aggregate: fate.aggregate, spot, order, seq: fate.seq, id };
        self.firsts.push((fate.aggregate >> 64) as u64, |out| first.write(out))
    }

    /// Time by the commits alone: records carry no other, and no other clock is asked.
    fn look_at_the_clock(&mut self, id: Id<'_>, first: Copy) {
        self.found.latest_ms = self.found.latest_ms.max(first.behind_ms);
        if first.behind_ms <= self.criteria.late_ms {
            return;
        }
        self.found.late += 1;
        let names = self.names;
        let named = || Named {
            against: Some(format!("commits {} s younger", first.behind_ms / 1_000)),
            ..named(names, Offence::Late, id, first.spot, first.order)
        };
        self.late.add((first.order, first.spot), named);
    }

    fn without_record(&mut self, id: Id<'_>, fate: &Fate) {
        let parked = fate.parked.and_then(|state| self.names.states.get(usize::from(state)));
        let dead = || fate.is_dead.then(|| DEAD_LETTERED.to_owned());
        if let Some(state) = parked.cloned().or_else(dead) {
            *self.found.parked.entry(state).or_default() += 1;
            return;
        }
        self.found.lost += 1;
        let text = id.text();
        let named = || Named {
            offence: Offence::Lost,
            id: Some(text.clone()),
            place: None,
            lsn: None,
            against: fate.seq.map(|seq| format!("seq {seq}")),
        };
        self.lost.add((fate.seq.unwrap_or_default(), text.clone()), named);
    }

    /// One bucket of aggregates.
    pub(super) fn order(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut firsts = Vec::new();
        let mut entries = Entries(bytes);
        while !entries.is_at_end() {
            firsts.push(entries.first()?);
        }
        firsts.sort_unstable_by_key(|first| (first.aggregate, first.spot));
        let of_topic = |a: &First<'_>, b: &First<'_>| {
            (a.aggregate, a.spot.topic) == (b.aggregate, b.spot.topic)
        };
        for chain in firsts.chunk_by(of_topic) {
            self.chain(chain);
        }
        Ok(())
    }

    /// The first copies of one aggregate in one topic.
    fn chain(&mut self, chain: &[First<'_>]) {
        let mut spans: Vec<(Order, Order, &First<'_>)> = Vec::new();
        for part in chain.chunk_by(|a, b| a.spot.partition == b.spot.partition) {
            let (mut latest, mut seq): (Option<&First<'_>>, Option<i64>) = (None, None);
            for first in part {
                if first.seq < seq {
                    self.found.seq_inversions += 1;
                }
                seq = seq.max(first.seq);
                match latest {
                    Some(before) if first.order < before.order => self.overtaken(first, before),
                    _ => latest = Some(first),
                }
            }
            let orders = || part.iter().map(|first| first.order);
            if let (Some(low), Some(high), Some(first)) =
                (orders().min(), orders().max(), part.first())
            {
                spans.push((low, high, first));
            }
        }
        self.partitions(spans);
    }

    fn overtaken(&mut self, first: &First<'_>, before: &First<'_>) {
        self.found.out_of_order += 1;
        let names = self.names;
        let named = || Named {
            against: Some(format!("{} {}", lsn(before.order), names.place(before.spot))),
            ..named(names, Offence::OutOfOrder, first.id, first.spot, first.order)
        };
        self.out_of_order.add((first.order, first.spot), named);
    }

    /// An aggregate on several partitions: one after the other, or at the same time.
    fn partitions(&mut self, mut spans: Vec<(Order, Order, &First<'_>)>) {
        spans.sort_unstable_by_key(|(low, ..)| *low);
        let is_mixed = spans.windows(2).any(|two| match two {
            [(_, high, _), (low, ..)] => low < high,
            _ => false,
        });
        let [(_, _, home), (_, _, away), ..] = spans.as_slice() else { return };
        let offence = if is_mixed { Offence::Split } else { Offence::Moved };
        let names = self.names;
        let named = || Named {
            against: Some(names.place(home.spot)),
            ..named(names, offence, away.id, away.spot, away.order)
        };
        let key = (away.order, away.spot);
        match offence {
            Offence::Split => {
                self.found.split += 1;
                self.split.add(key, named);
            }
            _ => {
                self.found.moved += 1;
                self.moved.add(key, named);
            }
        }
    }
}
/// What is known of an event id.
#[derive(Debug, Default)]
struct Fate {
    rows: u64,
    aggregate: u128,
    seq: Option<i64>,
    parked: Option<u8>,
    first: Option<Copy>,
    copies: u64,
    replayed: u64,
    second: Option<Spot>,
    is_dead: bool,
}

impl Fate {
    fn add(&mut self, copy: Copy) {
        if copy.nature == Nature::DeadLetter {
            self.is_dead = true;
            return;
        }
        self.copies += 1;
        let Some(first) = self.first else {
            self.first = Some(copy);
            return;
        };
        let place = |spot: Spot| (spot.topic, spot.partition);
        // Offsets of different partitions say nothing about each other.
        let is_earlier = match place(copy.spot) == place(first.spot) {
            true => copy.spot.offset < first.spot.offset,
            false => (copy.timestamp_ms, copy.spot) < (first.timestamp_ms, first.spot),
        };
        let (first, further) = if is_earlier { (copy, first) } else { (first, copy) };
        self.first = Some(first);
        self.replayed += u64::from(further.nature == Nature::Replayed);
        self.second.get_or_insert(further.spot);
    }
}

fn named(names: &Names, offence: Offence, id: Id<'_>, spot: Spot, order: Order) -> Named {
    let (id, place) = (Some(id.text()), Some(names.place(spot)));
    Named { offence, id, place, lsn: Some(lsn(order)), against: None }
}

fn lsn(order: Order) -> String {
    format!("{}:{}", Lsn(order.commit_lsn), order.ordinal)
}
