//! What must hold, checked at every step against what the simulated world really holds.

use std::collections::{HashMap, HashSet};

use walpost::park::Identity;
use walpost_schema::envelope::EventPosition;

use crate::broker::Stored;
use crate::server::{Committed, Server};
use crate::story::tell;
use crate::tables::Tables;

/// The timeline of the whole simulation.
pub(crate) const TIMELINE: u32 = 1;

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    copies: HashMap<String, u64>,
    /// The last first copy of each aggregate.
    last: HashMap<(String, String), EventPosition>,
    /// Transactions whose end was confirmed.
    confirmed: usize,
    pub(crate) duplicated: u64,
}

impl Oracle {
    /// A record is in a partition (I6).
    pub(crate) fn appended(&mut self, record: &Stored) {
        tell(|| format!("  appended {} {} {}", record.id, record.key, record.position));
        let copies = self.copies.entry(record.id.clone()).or_default();
        *copies += 1;
        if *copies > 1 {
            self.duplicated += 1;
            return;
        }
        let key = (record.kind.clone(), record.key.clone());
        let last = self.last.insert(key, record.position);
        assert!(
            last.is_none_or(|last| last < record.position),
            "I6: {} at {} comes after {last:?}",
            record.id,
            record.position
        );
    }

    /// The slot was advanced (I3): all that it has passed is durable.
    pub(crate) fn confirmed(&mut self, server: &Server, tables: &Tables, at: u64) {
        while let Some(transaction) =
            server.transactions.get(self.confirmed).filter(|passed| passed.end <= at)
        {
            self.confirmed += 1;
            for (identity, id) in events(transaction) {
                let is_durable = self.copies.contains_key(id) || tables.holds(identity);
                assert!(is_durable, "I3: {id} is confirmed at {at} and nowhere");
            }
        }
    }

    /// At the end: each event is in Kafka or was discarded, and nothing else is in Kafka.
    pub(crate) fn judge(&self, server: &Server, tables: &Tables) -> usize {
        let mut known = HashSet::new();
        let mut committed = 0;
        for transaction in &server.transactions {
            for (identity, id) in events(transaction) {
                committed += 1;
                known.insert(id);
                let is_there = self.copies.contains_key(id) || tables.is_discarded(identity);
                assert!(is_there, "lost: {id} at {identity}");
            }
        }
        let foreign = self.copies.keys().find(|id| !known.contains(id.as_str()));
        assert_eq!(foreign, None, "never committed");
        committed
    }
}

fn events(transaction: &Committed) -> impl Iterator<Item = (Identity, &str)> {
    transaction.rows.iter().zip(0u32..).map(|(row, ordinal)| {
        let position = EventPosition { commit_lsn: transaction.commit, ordinal };
        (Identity { timeline: TIMELINE, position }, row.id.as_str())
    })
}
