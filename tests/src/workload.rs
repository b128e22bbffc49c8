//! Seeded writers: transactions of several events on a few aggregates, from several connections at
//! once, some of them rolled back whole or to a savepoint.

use std::fmt::Write as _;

use crate::{CANARY, Database};

/// What is written.
#[derive(Debug, Clone)]
pub struct Workload {
    pub seed: u64,
    pub writers: u64,
    /// Of each writer.
    pub transactions: u64,
    /// Few, so that writers meet.
    pub aggregates: u64,
    pub aggregate_type: &'static str,
    pub event_type: &'static str,
    /// Whether the row of the outbox is deleted again by its own transaction.
    pub deletes_rows: bool,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            seed: 7,
            writers: 4,
            transactions: 250,
            aggregates: 20,
            aggregate_type: "order",
            event_type: "test.Placed",
            deletes_rows: false,
        }
    }
}

impl Workload {
    /// Writes everything and returns when it is committed.
    pub fn run(&self, database: &Database) {
        std::thread::scope(|scope| {
            for writer in 0..self.writers {
                scope.spawn(move || self.write(database, writer));
            }
        });
    }

    fn write(&self, database: &Database, writer: u64) {
        let mut random = Random::new(self.seed.wrapping_mul(1_000_003).wrapping_add(writer));
        let mut client = database.client();
        for number in 0..self.transactions {
            let sql = self.transaction(&mut random, writer, number);
            if let Err(error) = client.batch_execute(&sql) {
                panic!("writer {writer} with seed {}: {error:?}\n{sql}", self.seed);
            }
        }
    }

    fn transaction(&self, random: &mut Random, writer: u64, number: u64) -> String {
        let mut sql = String::from("BEGIN;");
        let mut keys: Vec<u64> =
            (0..=random.below(4)).map(|_| random.below(self.aggregates)).collect();
        // One order for all writers: they wait for each other and never in a circle.
        keys.sort_unstable();
        for key in keys {
            if random.below(8) == 0 {
                let lost = self.event(random, key, writer, number);
                let _ = write!(sql, "SAVEPOINT s; {lost} ROLLBACK TO SAVEPOINT s;");
            }
            sql.push_str(&self.event(random, key, writer, number));
        }
        if self.deletes_rows {
            sql.push_str("DELETE FROM outbox WHERE txid = pg_current_xact_id();");
        }
        sql.push_str(if random.below(10) == 0 { "ROLLBACK" } else { "COMMIT" });
        sql
    }

    fn event(&self, random: &mut Random, key: u64, writer: u64, number: u64) -> String {
        let text: String = (0..random.below(6))
            .map(|_| random.pick(&["ä", "\\\\n", "€", "🦀", "\\\"", " ", "x"]))
            .collect();
        let cents = random.below(1_000_000);
        let body = if random.below(20) == 0 {
            "NULL".to_owned()
        } else {
            format!(
                "'{{\"note\": \"{CANARY}{text}\", \"cents\": {cents}, \"writer\": {writer}, \
                 \"number\": {number}}}'"
            )
        };
        format!(
            "SELECT write_event('{}', '{key}', '{}', {body});",
            self.aggregate_type, self.event_type
        )
    }
}

/// Writes `transactions` of `per_transaction` events over `aggregates` aggregates of type `bulk`,
/// in seconds.
pub fn backlog(database: &Database, transactions: u32, per_transaction: u32, aggregates: u32) {
    assert!(per_transaction <= aggregates, "an aggregate has one event in a transaction");
    database.run(&format!("CALL write_backlog({transactions}, {per_transaction}, {aggregates})"));
}

/// xorshift64*: small, seeded, the same everywhere.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.number() >> 16) % bound
    }

    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let index = self.below(from.len() as u64);
        from[usize::try_from(index).unwrap_or(0)]
    }
}
