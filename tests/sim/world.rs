//! A whole life of a source by a seed: steps chosen at random, each followed by the oracle's look,
//! and at the end a mended world in which everything must come to rest.

use std::time::Duration;

use walpost::clock::Now;
use walpost_tests::workload::Random;

use crate::broker::Broker;
use crate::oracle::Oracle;
use crate::relay::{Relay, Surroundings, first_position};
use crate::server::Server;
use crate::tables::Tables;

/// What may happen, and how often. A fault that is switched off never happens, so that a failing
/// seed can be told with as few of them as it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    CrashRelay,
    CrashServer,
    LoseStream,
    LoseProducer,
    FullQueue,
    Requests,
    RefusingBroker,
    Stragglers,
}

pub(crate) const FAULTS: [Fault; 8] = [
    Fault::CrashRelay,
    Fault::CrashServer,
    Fault::LoseStream,
    Fault::LoseProducer,
    Fault::FullQueue,
    Fault::Requests,
    Fault::RefusingBroker,
    Fault::Stragglers,
];

/// One life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) steps: u32,
    /// One bit for each of [`FAULTS`].
    pub(crate) faults: u8,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, steps: 400, faults: u8::MAX }
    }

    fn allows(self, fault: Fault) -> bool {
        FAULTS
            .iter()
            .position(|known| *known == fault)
            .is_some_and(|bit| self.faults >> bit & 1 == 1)
    }
}

/// What came of it.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) events: u64,
    pub(crate) duplicated: u64,
    pub(crate) stragglers: u64,
    pub(crate) restarts: u64,
    pub(crate) producers_lost: u64,
    pub(crate) parked: u64,
    pub(crate) released: u64,
}

struct World {
    plan: Plan,
    random: Random,
    server: Server,
    broker: Broker,
    tables: Tables,
    oracle: Oracle,
    relay: Option<Relay>,
    now: Now,
    outcome: Outcome,
}

/// Lives it; panics where something does not hold.
pub(crate) fn live(plan: Plan) -> Outcome {
    let server = Server::new();
    let mut broker = Broker::default();
    broker.positions.push(first_position(&server));
    let mut world = World {
        plan,
        random: Random::new(plan.seed),
        server,
        broker,
        tables: Tables::default(),
        oracle: Oracle::default(),
        relay: None,
        now: Now { elapsed: Duration::ZERO, unix_ms: 0 },
        outcome: Outcome::default(),
    };
    world.broker.refuses = plan.allows(Fault::RefusingBroker);
    for _ in 0..plan.steps {
        world.step();
    }
    world.come_to_rest()
}

impl World {
    fn with<T>(&mut self, act: impl FnOnce(&mut Relay, &mut Surroundings<'_>) -> T) -> T {
        let full_percent = if self.plan.allows(Fault::FullQueue) { 10 } else { 0 };
        let mut surroundings = Surroundings {
            server: &mut self.server,
            broker: &mut self.broker,
            tables: &mut self.tables,
            random: &mut self.random,
            now: self.now,
            full_percent,
        };
        let mut relay = match self.relay.take() {
            Some(relay) => relay,
            None => Relay::start(&mut surroundings),
        };
        let result = act(&mut relay, &mut surroundings);
        self.relay = Some(relay);
        result
    }

    fn pass(&mut self, millis: u64) {
        self.now.elapsed += Duration::from_millis(millis);
        self.now.unix_ms += i64::try_from(millis).expect("small");
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=14 => self.server.commit(&mut self.random),
            15..=17 => self.server.foreign(&mut self.random),
            18..=44 => {
                let frames = 1 + crate::broker::usize_below(&mut self.random, 20);
                self.with(|relay, world| relay.turn(world, frames));
            }
            45..=64 => self.deliver(),
            65..=76 => {
                self.tables.carry_out(&mut self.server.wal_end);
                if self.random.below(2) == 0 {
                    self.with(|relay, world| relay.take_replies(world));
                }
            }
            77..=82 => {
                let millis = 1 << self.random.below(13);
                self.pass(millis);
            }
            83..=88 => self.feed_back(),
            89 => self.server.persisted = self.server.confirmed,
            90 => self.broker.has_late_topic |= self.random.below(4) == 0,
            _ => self.fault(),
        }
    }

    fn fault(&mut self) {
        let fault = FAULTS[crate::broker::usize_below(&mut self.random, FAULTS.len())];
        if !self.plan.allows(fault) {
            return;
        }
        match fault {
            Fault::CrashRelay => self.crash(),
            Fault::CrashServer => {
                // A server that crashes takes every connection with it.
                self.server.crash();
                self.with(|relay, world| relay.lose_stream(world));
            }
            Fault::LoseStream => self.with(|relay, world| relay.lose_stream(world)),
            Fault::LoseProducer => self.lose_producer(false),
            Fault::Requests => match self.random.below(3) {
                0 => self.tables.ask_for_discard(),
                _ => self.tables.ask_for_retry(),
            },
            Fault::RefusingBroker => {
                self.broker.refuses &= self.random.below(8) > 0;
            }
            Fault::Stragglers => {
                let mut appended = Vec::new();
                self.broker.straggle(&mut appended);
                appended.iter().for_each(|record| self.oracle.appended(record));
            }
            Fault::FullQueue => {}
        }
    }

    /// kill -9: what is in memory is gone, what is on the way may arrive.
    fn crash(&mut self) {
        self.relay = None;
        self.outcome.restarts += 1;
        let mut appended = Vec::new();
        self.broker.lose_producer(&mut self.random, &mut appended);
        appended.iter().for_each(|record| self.oracle.appended(record));
        let done = crate::broker::usize_below(&mut self.random, 4);
        self.tables.lose_session(done, &mut self.server.wal_end);
    }

    fn lose_producer(&mut self, is_refusal: bool) {
        self.outcome.producers_lost += 1;
        let appended = self.with(|relay, world| relay.lose_producer(world, is_refusal));
        appended.iter().for_each(|record| self.oracle.appended(record));
    }

    fn deliver(&mut self) {
        let mut appended = Vec::new();
        let is_taken = self.broker.deliver(&mut self.random, &mut appended);
        appended.iter().for_each(|record| self.oracle.appended(record));
        if !is_taken {
            self.lose_producer(true);
        }
    }

    fn feed_back(&mut self) {
        let confirmed = self.with(|relay, _| relay.feedback());
        if confirmed > self.server.confirmed {
            self.oracle.confirmed(&self.server, &self.tables, confirmed);
            self.server.confirmed = confirmed;
        }
    }

    /// Nothing fails any more: everything is published or given up, in a bounded number of rounds.
    fn come_to_rest(mut self) -> Outcome {
        self.plan.faults = 0;
        self.broker.refuses = false;
        self.broker.has_late_topic = true;
        for round in 0.. {
            assert!(round < 5_000, "it does not come to rest: {:?}", self.tables.heads());
            if round % 20 == 0 && self.tables.rows() > 0 {
                self.tables.ask_for_discard();
                self.tables.ask_for_retry();
            }
            self.with(|relay, world| relay.turn(world, 1_000));
            while !self.broker.is_idle() {
                self.deliver();
            }
            while !self.tables.is_idle() {
                self.tables.carry_out(&mut self.server.wal_end);
                self.with(|relay, world| relay.take_replies(world));
            }
            self.pass(700);
            self.feed_back();
            if self.server.confirmed >= self.server.wal_end.saturating_sub(50)
                && self.tables.rows() == 0
                && self.is_through()
            {
                break;
            }
        }
        let mut outcome = self.outcome;
        outcome.events = self.oracle.judge(&self.server, &self.tables) as u64;
        outcome.duplicated = self.oracle.duplicated;
        outcome.stragglers = self.broker.stragglers;
        let counts = self.with(|relay, _| relay.pipeline.counts());
        (outcome.parked, outcome.released) = (counts.parked, counts.released);
        assert!(
            outcome.duplicated <= outcome.stragglers,
            "{} duplicates, and only {} records came late",
            outcome.duplicated,
            outcome.stragglers
        );
        outcome
    }

    fn is_through(&self) -> bool {
        let last = self.server.transactions.last().map_or(0, |last| last.end);
        self.server.confirmed >= last
    }
}
