//! The simulated PostgreSQL: transactions by commit order, a slot, and streams that start at it.
//!
//! Writers interleave; what a stream shows is each committed transaction whole, in the order of the
//! commit records, and nothing of one that was rolled back, so that is all there is here.

use walpost_tests::workload::Random;

use crate::pgoutput;

pub(crate) const OUTBOX: u32 = 10;

/// A row of the outbox table.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    /// `None` is a row that can never be published.
    pub(crate) key: Option<String>,
    pub(crate) payload: &'static str,
}

#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub(crate) commit: u64,
    pub(crate) end: u64,
    pub(crate) rows: Vec<Written>,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) transactions: Vec<Committed>,
    pub(crate) wal_end: u64,
    /// Where the slot stands.
    pub(crate) confirmed: u64,
    /// Where it will stand after a crash of the server.
    pub(crate) persisted: u64,
    next_id: u64,
}

/// Payloads and how often they come, of a hundred.
const PAYLOADS: [(&str, u64); 3] = [("{}", 92), (NOT_JSON, 4), (REFUSED, 4)];
/// Can never be published.
pub(crate) const NOT_JSON: &str = "no json";
/// The broker refuses it until it is mended.
pub(crate) const REFUSED: &str = "{\"refused\": true}";
/// The aggregate type whose topic is missing until it is made.
pub(crate) const LATE: &str = "late";

impl Server {
    pub(crate) fn new() -> Self {
        Self { transactions: Vec::new(), wal_end: 100, confirmed: 100, persisted: 100, next_id: 0 }
    }

    /// Commits a transaction: most are small, some empty, a few large.
    pub(crate) fn commit(&mut self, random: &mut Random) {
        self.wal_end += 1 + random.below(50);
        let count = match random.below(20) {
            0 => 0,
            1 => 30 + random.below(60),
            _ => 1 + random.below(4),
        };
        let rows = (0..count).map(|_| self.row(random)).collect();
        let commit = self.wal_end;
        self.wal_end += 8;
        self.transactions.push(Committed { commit, end: self.wal_end, rows });
    }

    fn row(&mut self, random: &mut Random) -> Written {
        self.next_id += 1;
        let mut rest = random.below(100);
        let payload = PAYLOADS.iter().find(|(_, share)| {
            let is_it = rest < *share;
            rest = rest.saturating_sub(*share);
            is_it
        });
        let kind = if random.below(8) == 0 { LATE } else { "order" };
        let key = (random.below(60) > 0).then(|| random.below(6).to_string());
        Written {
            id: format!("e{}", self.next_id),
            kind,
            key,
            payload: payload.map_or("{}", |p| p.0),
        }
    }

    /// Somebody else writes.
    pub(crate) fn foreign(&mut self, random: &mut Random) {
        self.wal_end += 1 + random.below(500);
    }

    /// The slot is as it was at some earlier time.
    pub(crate) fn crash(&mut self) {
        self.confirmed = self.persisted;
    }
}

/// A stream: frames from the slot's position on.
#[derive(Debug)]
pub(crate) struct Stream {
    next: usize,
    /// What is left of the transaction that is being sent, last first.
    frames: Vec<Vec<u8>>,
}

impl Stream {
    pub(crate) fn start(server: &Server) -> Self {
        let next = server.transactions.partition_point(|sent| sent.end <= server.confirmed);
        Self { next, frames: vec![relation()] }
    }

    /// The frame to be offered; `None` when everything was sent.
    pub(crate) fn peek(&mut self, server: &Server) -> Option<&[u8]> {
        if self.frames.is_empty() {
            let transaction = server.transactions.get(self.next)?;
            self.next += 1;
            let Committed { commit, end, rows } = transaction;
            self.frames.push(pgoutput::commit(*commit, *end, 0));
            self.frames.extend(rows.iter().rev().map(insert));
            self.frames.push(pgoutput::begin(*commit, 0));
        }
        self.frames.last().map(Vec::as_slice)
    }

    pub(crate) fn consume(&mut self) {
        self.frames.pop();
    }
}

fn relation() -> Vec<u8> {
    let text = |name| (name, 25);
    pgoutput::relation(
        OUTBOX,
        &[
            text("id"),
            text("aggregate_type"),
            text("aggregate_id"),
            text("event_type"),
            text("payload"),
        ],
    )
}

fn insert(row: &Written) -> Vec<u8> {
    let cells = [Some(row.id.as_str()), Some(row.kind), row.key.as_deref(), Some("E")];
    pgoutput::insert(OUTBOX, &[&cells[..], &[Some(row.payload)]].concat())
}
