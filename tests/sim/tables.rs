//! The simulated parking tables: what `park/store.rs` says in SQL, on maps.

use std::collections::{BTreeMap, HashSet, VecDeque};

use walpost::lsn::Lsn;
use walpost::park::{
    Identity, LotContents, LotReply, Moved, Order, ParkedEvent, Request, RequestId, SequenceId,
};
use walpost::position::Mark;

const WAITING: [&str; 2] = ["topic_missing", "route_missing"];
/// Rows of one batch: few, so that releases take many of them.
const BATCH: usize = 5;

#[derive(Debug)]
struct Row {
    event: ParkedEvent,
    parked_at: u64,
    tried_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Released,
    Discarded { at: u64 },
}

#[derive(Debug)]
struct Asked {
    id: i64,
    /// Of which event; `None` is a retry of everything.
    discard: Option<Identity>,
    asked_at: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    parked: BTreeMap<Identity, Row>,
    done: BTreeMap<Identity, (Done, SequenceId)>,
    requests: Vec<Asked>,
    orders: VecDeque<Order>,
    pub(crate) replies: VecDeque<LotReply>,
    /// Ticks with each change.
    clock: u64,
    next_request: i64,
}

impl Tables {
    pub(crate) fn hand_over(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.orders.is_empty() && self.replies.is_empty()
    }

    /// Heads of what is parked, for the report of a life that does not come to rest.
    pub(crate) fn heads(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let rows = self.parked.values().filter(|row| seen.insert(row.event.sequence()));
        let tell = |row: &Row| {
            let (sequence, code) = (row.event.sequence(), &row.event.reason.code);
            format!("{} {code} at {}", sequence.as_str(), row.event.identity)
        };
        rows.map(tell).collect()
    }

    pub(crate) fn rows(&self) -> usize {
        self.parked.len()
    }

    /// Whether the event is in the lot or has left it.
    pub(crate) fn holds(&self, identity: Identity) -> bool {
        self.parked.contains_key(&identity) || self.done.contains_key(&identity)
    }

    pub(crate) fn is_discarded(&self, identity: Identity) -> bool {
        matches!(self.done.get(&identity), Some((Done::Discarded { .. }, _)))
    }

    pub(crate) fn ask_for_retry(&mut self) {
        self.ask(None);
    }

    /// Asks to give up the first event that can never be published.
    pub(crate) fn ask_for_discard(&mut self) {
        let is_hopeless =
            |row: &&Row| matches!(&*row.event.reason.code, "payload_not_json" | "column_null");
        let found = self.parked.values().find(is_hopeless).map(|row| row.event.identity);
        if let Some(identity) = found {
            self.ask(Some(identity));
        }
    }

    fn ask(&mut self, discard: Option<Identity>) {
        self.clock += 1;
        self.next_request += 1;
        self.requests.push(Asked { id: self.next_request, discard, asked_at: self.clock });
    }

    /// The session is lost: some of what was handed over is done all the same.
    pub(crate) fn lose_session(&mut self, done: usize, wal_end: &mut u64) {
        for _ in 0..done {
            self.carry_out(wal_end);
        }
        self.orders.clear();
        self.replies.clear();
    }

    pub(crate) fn contents(&self, frontier: Mark, wal_end: u64) -> LotContents {
        let mut sequences: BTreeMap<SequenceId, (u64, u64)> = BTreeMap::new();
        for row in self.parked.values() {
            let held = sequences.entry(row.event.sequence()).or_default();
            *held = (held.0 + 1, held.1 + row.event.bytes());
        }
        let known = self.parked.keys().chain(self.done.keys());
        let known = known.map(|identity| identity.position);
        LotContents {
            sequences: sequences
                .into_iter()
                .map(|(name, (rows, bytes))| (name, rows, bytes))
                .collect(),
            known: known.filter(|position| !frontier.covers(*position)).collect(),
            as_of: Lsn(wal_end),
        }
    }

    /// Carries the next order out. Orders to park are gathered.
    pub(crate) fn carry_out(&mut self, wal_end: &mut u64) {
        let Some(order) = self.orders.pop_front() else { return };
        self.clock += 1;
        *wal_end += 1;
        let as_of = Lsn(*wal_end);
        let reply = match order {
            Order::Park { seq, event } => {
                let mut seqs = vec![seq];
                self.park(*event);
                while let Some(Order::Park { seq, event }) =
                    self.orders.pop_front_if(|next| matches!(next, Order::Park { .. }))
                {
                    seqs.push(seq);
                    self.park(*event);
                }
                LotReply::Parked { seqs, as_of }
            }
            Order::Poll => LotReply::Requests(self.requests.iter().map(Asked::request).collect()),
            Order::Load(RequestId(id)) => {
                let asked_at = self.requests.iter().find(|r| r.id == id).map_or(0, |r| r.asked_at);
                LotReply::Loaded(self.load(|row| row.tried_at < asked_at))
            }
            Order::LoadWaiting => {
                let clock = self.clock;
                LotReply::Loaded(self.load(|row| {
                    WAITING.contains(&&*row.event.reason.code) && row.tried_at + 3 < clock
                }))
            }
            Order::Settle(settlement) => {
                let moved = settlement
                    .released
                    .iter()
                    .filter_map(|which| self.leave(*which, Done::Released));
                let moved = moved.collect();
                for (identity, reason) in settlement.refused {
                    if let Some(row) = self.parked.get_mut(&identity) {
                        row.event.reason = reason;
                        row.tried_at = self.clock;
                    }
                }
                LotReply::Moved { moved, as_of }
            }
            Order::Discard(RequestId(id)) => {
                let asked = self.requests.iter().find(|request| request.id == id);
                let which = asked.and_then(|request| request.discard);
                let at = self.clock;
                let moved = which.and_then(|which| self.leave(which, Done::Discarded { at }));
                LotReply::Moved { moved: moved.into_iter().collect(), as_of }
            }
            Order::Answer { request, .. } => {
                self.requests.retain(|asked| asked.id != request.0);
                LotReply::Done
            }
            Order::Prune(mark) => {
                self.done.retain(|identity, (done, _)| {
                    *done != Done::Released || !mark.covers(identity.position)
                });
                LotReply::Done
            }
        };
        self.replies.push_back(reply);
    }

    fn park(&mut self, event: ParkedEvent) {
        let at = self.clock;
        self.parked.entry(event.identity).or_insert(Row { event, parked_at: at, tried_at: at });
    }

    fn leave(&mut self, identity: Identity, done: Done) -> Option<Moved> {
        let row = self.parked.remove(&identity)?;
        let (sequence, bytes) = (row.event.sequence(), row.event.bytes());
        self.done.entry(identity).or_insert((done, sequence.clone()));
        Some(Moved { sequence, rows: 1, bytes })
    }

    fn load(&self, is_wanted: impl Fn(&Row) -> bool) -> Vec<ParkedEvent> {
        let (mut seen, mut chosen) = (HashSet::new(), HashSet::new());
        for row in self.parked.values() {
            let sequence = row.event.sequence();
            let is_head = seen.insert(sequence.clone());
            if is_head && (is_wanted(row) || self.is_left_behind(row, &sequence)) {
                chosen.insert(sequence);
            }
        }
        let rows = self.parked.values().filter(|row| chosen.contains(&row.event.sequence()));
        rows.take(BATCH).map(|row| row.event.clone()).collect()
    }

    fn is_left_behind(&self, head: &Row, sequence: &SequenceId) -> bool {
        let discarded_later = |(done, of): &(Done, SequenceId)| {
            of == sequence && matches!(done, Done::Discarded { at } if *at > head.parked_at)
        };
        head.event.reason.code == "behind" && !self.done.values().any(discarded_later)
    }
}

impl Asked {
    fn request(&self) -> Request {
        match self.discard {
            Some(_) => Request::Discard(RequestId(self.id)),
            None => Request::Retry(RequestId(self.id)),
        }
    }
}
