//! One case: a source under load, a fault, and the same judges at the end.
//!
//! Writers write all the while, on few aggregates, and try again when the database is away. Among
//! what they write are a row of 3 MB and one without aggregate, which can never be published.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use walpost_tests::oracle::Form;
use walpost_tests::postgres::PayloadType;
use walpost_tests::relay::verb;
use walpost_tests::{
    CANARY, Cluster, Database, Relay, Verdict, World, stack, wait_for, wait_within,
};
use xtask::stack::{Kafka, KafkaOptions, Postgres, PostgresOptions};

const WRITERS: u64 = 3;
/// Servers come back slowly on a machine that also compiles.
const RECOVERY_MAX: Duration = Duration::from_secs(240);

/// Which servers a case has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    Nothing,
    Postgres,
    Kafka,
}

/// A source under load.
pub(crate) struct Arena {
    case: &'static str,
    pub(crate) world: World,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) kafka: Option<Kafka>,
    relay: Option<Relay>,
    is_over: Arc<AtomicBool>,
    writers: Vec<std::thread::JoinHandle<()>>,
    fault_ended: Option<Instant>,
}

/// What the verifier must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Everything arrived but what is parked, in order.
    Kept,
    /// Records were destroyed: exactly those are named.
    Destroyed,
    /// Keys moved to other partitions: order holds in each.
    Moved,
}

impl Arena {
    pub(crate) fn new(case: &'static str, own: Own) -> Self {
        Self::with(case, own, |_| {})
    }

    /// With a world that is changed before anything starts.
    pub(crate) fn with(case: &'static str, own: Own, change: impl FnOnce(&mut World)) -> Self {
        let postgres = (own == Own::Postgres)
            .then(|| Postgres::start(PostgresOptions::default()).expect("a server"));
        let kafka =
            (own == Own::Kafka).then(|| Kafka::start(KafkaOptions::default()).expect("a broker"));
        let server = postgres.as_ref().map_or_else(|| stack().postgres.clone(), Postgres::url);
        let brokers = kafka.as_ref().map_or_else(|| stack().kafka.clone(), Kafka::address);
        let database = Database::new(&server, "chaos", PayloadType::Jsonb);
        database.run("ALTER TABLE outbox ALTER COLUMN aggregate_id DROP NOT NULL");
        let mut world = World::with(database, Cluster::new(&brokers), "json").parking();
        change(&mut world);
        let relay = Some(world.streaming());
        let (is_over, writers, fault_ended) = (Arc::default(), Vec::new(), None);
        let mut arena = Self { case, world, postgres, kafka, relay, is_over, writers, fault_ended };
        arena.start_writers();
        arena.write_poison();
        arena.wait_published(200);
        arena
    }

    fn start_writers(&mut self) {
        for writer in 0..WRITERS {
            let (url, is_over) = (self.world.database.url(), Arc::clone(&self.is_over));
            self.writers.push(std::thread::spawn(move || {
                let mut number = writer;
                while !is_over.load(Ordering::Relaxed) {
                    // A database that is away is tried again; what was not committed is no event.
                    let Ok(mut client) = postgres::Client::connect(&url, postgres::NoTls) else {
                        std::thread::yield_now();
                        continue;
                    };
                    while !is_over.load(Ordering::Relaxed) {
                        number += WRITERS;
                        let key = number % 17;
                        let sql = format!(
                            "SELECT write_event('order', '{key}', 'test.Chaos', \
                             '{{\"note\": \"{CANARY}\", \"number\": {number}}}'), \
                             pg_sleep(0.004)"
                        );
                        if client.batch_execute(&sql).is_err() {
                            break;
                        }
                    }
                }
            }));
        }
    }

    fn write_poison(&self) {
        let database = &self.world.database;
        database.run(
            "SELECT write_event('order', 'large', 'test.Chaos', \
             jsonb_build_object('t', repeat('x', 3000000)))",
        );
        database.run(
            "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload) \
             VALUES (gen_random_uuid(), 'order', NULL, 'test.Chaos', '{}')",
        );
    }

    pub(crate) fn published(&self) -> i64 {
        self.world.cluster.count(&self.world.topic("order"))
    }

    pub(crate) fn wait_published(&self, more: i64) {
        let goal = self.published() + more;
        wait_within(RECOVERY_MAX, "records", || (self.published() >= goal).then_some(()));
    }

    pub(crate) fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("a relay runs")
    }

    pub(crate) fn kill_relay(&mut self) {
        if let Some(relay) = self.relay.take() {
            self.search(&relay);
            relay.kill9();
        }
    }

    pub(crate) fn start_relay(&mut self) {
        self.relay = Some(self.world.start());
    }

    /// No payload in anything that a relay says (I12).
    fn search(&self, relay: &Relay) {
        assert!(!relay.log().contains(CANARY), "{}: a payload in the log", self.case);
    }

    /// The fault is over: from here on recovery is timed.
    pub(crate) fn mended(&mut self) {
        self.fault_ended = Some(Instant::now());
    }

    /// Waits until the source is well again, ends the load, judges and prints the case's line.
    pub(crate) fn judge(mut self, expect: Expect) {
        let mended = self.fault_ended.unwrap_or_else(Instant::now);
        let before = self.world.database.wal_end();
        wait_within(RECOVERY_MAX, "the slot to pass the end of the fault", || {
            assert!(self.relay().is_running(), "{}", self.relay().log());
            (self.world.database.confirmed() >= before).then_some(())
        });
        let recovery = mended.elapsed();
        self.is_over.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            writer.join().expect("a writer");
        }
        walpost_tests::relay::wait_confirmed(&self.world.database, self.relay(), RECOVERY_MAX);
        let verdict = self.world.judge(&Form::Json);
        let parked = self.world.parked_events();
        let verified = self.verify();
        self.search(self.relay());
        self.print(&verdict, parked.len(), recovery);
        self.compare(expect, &verdict, &parked, &verified);
    }

    fn verify(&self) -> (Option<i32>, Value) {
        let words = ["verify", "--output", "json", "--timeout", "60"];
        let ended = verb(&words, Some(&self.world.config()), "");
        let answer: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.log));
        (ended.code, answer["sources"][0].clone())
    }

    fn compare(
        &self,
        expect: Expect,
        verdict: &Verdict,
        parked: &[(String, String, String)],
        (code, verified): &(Option<i32>, Value),
    ) {
        let case = self.case;
        assert!(verdict.foreign.is_empty() && verdict.differing.is_empty(), "{case}: {verdict:?}");
        // The row without aggregate is in no truth.
        let waiting = parked.iter().filter(|(_, key, _)| key != "(none)").count();
        assert!(parked.iter().any(|(_, _, code)| code == "column_null"), "{case}: {parked:?}");
        let lost = verdict.lost.len() - waiting;
        assert_eq!(verified["lost"].as_u64(), Some(lost as u64), "{case}: {verified}");
        match expect {
            Expect::Kept => {
                assert_eq!(lost, 0, "{case}: {:?}", verdict.lost);
                assert!(verdict.out_of_order.is_empty(), "{case}: {:?}", verdict.out_of_order);
                assert!(verdict.split.is_empty(), "{case}: {:?}", verdict.split);
                assert_eq!(*code, Some(0), "{case}: {verified}");
            }
            Expect::Destroyed => {
                assert!(lost > 0, "{case}: something was destroyed");
                assert_eq!(*code, Some(1), "{case}: {verified}");
            }
            Expect::Moved => {
                assert_eq!(lost, 0, "{case}: {:?}", verdict.lost);
                assert!(!verdict.split.is_empty(), "{case}: some keys moved");
            }
        }
    }

    /// A line of the table, whatever the test runner does with the output of tests.
    fn print(&self, verdict: &Verdict, parked: usize, recovery: Duration) {
        let line = format!(
            "| {:<52} | {:>7} | {:>4} | {:>9} | {:>10} | {:>6} | {:>6.1} |\n",
            self.case,
            verdict.committed,
            verdict.lost.len().saturating_sub(parked.saturating_sub(1)),
            verdict.out_of_order.len(),
            verdict.duplicated,
            parked,
            recovery.as_secs_f64()
        );
        if let Some(path) = std::env::var_os("CHAOS_TABLE") {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the table");
        }
        print!("{line}");
    }

    /// Waits until the relay says that it waits for somebody.
    pub(crate) fn wait_noticed(&self) {
        wait_for("the relay to notice", || {
            let status = self.relay().status(&self.world.name)?;
            (status["state"] != "streaming").then_some(())
        });
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            let _ = writer.join();
        }
    }
}
