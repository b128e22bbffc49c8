//! One source under load, what is done to it, and the same judges at the end.
//!
//! Writers write all the while, on few aggregates, and try again when the database is away. Among
//! what they write are a row of 3 MB and one without aggregate, which can never be published.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use walpost_tests::oracle::Form;
use walpost_tests::postgres::PayloadType;
use walpost_tests::relay::verb;
use walpost_tests::wire::Wire;
use walpost_tests::{CANARY, Database, Relay, Verdict, World, http, wait_for, wait_within};
use xtask::process::{Identity, Signal};
use xtask::stack::Kafka;

use crate::clock::Clock;
use crate::stage::{Servers, Stage};

const WRITERS: u64 = 3;
/// Servers come back slowly on a machine that also compiles.
const RECOVERY_MAX: Duration = Duration::from_secs(240);
/// Event types whose schemas the relay has not asked for when the fault begins.
pub(crate) const LATE_TYPES: u32 = 5;

/// A source under load.
pub(crate) struct Arena {
    case: &'static str,
    pub(crate) world: World,
    relay: Option<Relay>,
    pub(crate) servers: Servers,
    stage: Stage,
    frozen: Vec<Identity>,
    schema_ids: Vec<u32>,
    is_over: Arc<AtomicBool>,
    writers: Vec<std::thread::JoinHandle<()>>,
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
    /// Starts everything and returns when events flow.
    pub(crate) fn on(case: &'static str, stage: Stage) -> Self {
        let mut servers = stage.start();
        let database = Database::new(&servers.postgres_url(), "chaos", PayloadType::Jsonb);
        database.run("ALTER TABLE outbox ALTER COLUMN aggregate_id DROP NOT NULL");
        let mut world = World::with(database, servers.cluster(stage), stage.form()).parking();
        servers.lead(stage, &mut world);
        let (is_over, writers, frozen) = (Arc::default(), Vec::new(), Vec::new());
        let (relay, schema_ids) = (None, Vec::new());
        let mut arena =
            Self { case, world, relay, servers, stage, frozen, schema_ids, is_over, writers };
        if stage.has_schemas() {
            arena.schema_ids = arena.register();
        }
        arena.start_relay();
        arena.relay().wait_state(&arena.world.name, "streaming");
        arena.start_writers();
        arena.write_poison();
        arena.wait_published(200);
        arena
    }

    /// Registers the schemas of all event types; their ids.
    fn register(&self) -> Vec<u32> {
        let field = |(name, kind): (&str, &str)| json!({"name": name, "type": kind});
        let register = |event_type: &str, fields: &[(&str, &str)]| {
            let fields: Vec<Value> = fields.iter().copied().map(field).collect();
            let schema = json!({"type": "record", "name": event_type, "fields": fields});
            self.world.registry.register(&self.world.subject("order", event_type), &schema)
        };
        let mut ids = vec![
            register("test.Chaos", &[("note", "string"), ("number", "long"), ("n", "long")]),
            register("test.Large", &[("t", "string"), ("n", "long")]),
        ];
        ids.extend((0..LATE_TYPES).map(|number| register(&late_type(number), &[("n", "long")])));
        ids
    }

    /// Registers everything again with a registry that has forgotten it.
    pub(crate) fn register_again(&self) {
        assert_eq!(self.register(), self.schema_ids, "the same schemas in the same order");
    }

    /// Writes an event whose schema the relay must ask for.
    pub(crate) fn write_late(&self, number: u32) {
        assert!(number < LATE_TYPES, "a schema was registered");
        self.world.write(("order", "late"), &late_type(number), "'{}'");
    }

    /// Writes an event of a type that the relay has not seen, and waits until it asks in vain.
    pub(crate) fn wait_asking(&self) {
        self.write_late(0);
        self.relay().wait_state(&self.world.name, "waiting_registry");
    }

    /// The one broker, or the first.
    pub(crate) fn broker(&mut self) -> &mut Kafka {
        self.servers.brokers.first_mut().expect("a broker of its own")
    }

    pub(crate) fn wire(&self) -> &Wire {
        self.servers.wire.as_ref().expect("a wire of its own")
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.servers.clock.as_ref().expect("a clock of its own")
    }

    /// Freezes a process that is no server of ours.
    pub(crate) fn freeze(&mut self, identity: Identity) {
        identity.signal(Signal::STOP);
        self.frozen.push(identity);
    }

    pub(crate) fn thaw(&mut self) {
        for identity in self.frozen.drain(..) {
            identity.signal(Signal::CONT);
        }
    }

    /// Time passes, as the database tells it; where that is away, as we do.
    pub(crate) fn outlast(&self, duration: Duration) {
        let start = Instant::now();
        let _ =
            self.world.database.try_ask(&format!("SELECT pg_sleep({})", duration.as_secs_f64()));
        pass(duration.saturating_sub(start.elapsed()));
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
            "SELECT write_event('order', 'large', 'test.Large', \
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
        let environment = self.servers.clock.as_ref().map(Clock::environment);
        let environment = environment.as_ref().map_or(&[][..], |list| &list[..]);
        self.relay = Some(self.world.start_with(environment));
    }

    /// No payload in anything that a relay says (I12).
    fn search(&self, relay: &Relay) {
        assert!(!relay.log().contains(CANARY), "{}: a payload in the log", self.case);
    }

    /// Nor in what it answers.
    fn search_answers(&self) {
        for path in ["/metrics", "/api/v1/status", "/healthz"] {
            let answer = http::get(&self.relay().admin(), path).expect("an answer");
            assert!(!answer.body.contains(CANARY), "{}: a payload in {path}", self.case);
        }
    }

    /// Waits until the source is well again, ends the load, judges and prints the case's line.
    #[track_caller]
    pub(crate) fn judge(mut self, expect: Expect) {
        let mended = Instant::now();
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
        let decoder = self.world.decoder();
        let form = if self.stage.has_schemas() { Form::Avro(&decoder) } else { Form::Json };
        let verdict = self.world.judge(&form);
        let parked = self.world.parked_events();
        let verified = self.verify();
        self.search(self.relay());
        self.search_answers();
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

/// Its schema is registered, and asked for at its first event.
fn late_type(number: u32) -> String {
    format!("test.Late{number}")
}

/// Time passes where no database can tell it.
pub(crate) fn pass(duration: Duration) {
    let _ = xtask::wait::until(duration, || None::<()>);
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.thaw();
        self.is_over.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            let _ = writer.join();
        }
    }
}
