//! The stack that stays up between commands. In: the majors wanted. Out: variables for the tests.
//!
//! `.stack/` in the checkout holds all of it: the servers' folders and the state that names them.
//! A server is written there before it is waited for, so that whatever interrupts `up`, `down`
//! finds it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::state::{Running, State, StopWith, folder};
use super::{Apicurio, ApicurioOptions, Kafka, KafkaOptions, Postgres, PostgresOptions};
use crate::fetch;
use crate::machine::{self, say};
use crate::process::Signal;

/// A server that was asked to end has this long before it is killed: its data is thrown away next.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

const KAFKA: &str = "kafka";
const APICURIO: &str = "apicurio";

/// One `up` or `down` at a time.
fn lock(root: &Path) -> Result<File> {
    machine::create_open(&folder(root))?;
    let file = File::create(root.join(".stack/lock")).context("cannot write .stack/lock")?;
    file.lock().context("cannot lock .stack/lock")?;
    Ok(file)
}

fn postgres_name(major: u16) -> String {
    format!("postgres-{major}")
}

/// Starts what does not run yet of PostgreSQL (these majors), Kafka and Apicurio, and waits until
/// all answer. Returns the names of those it started; on failure it ends them again.
pub fn up(root: &Path, majors: &[u16]) -> Result<Vec<String>> {
    let _lock = lock(root)?;
    let mut state = State::load(root)?;
    state.servers.retain(|_, running| running.identity.is_alive());
    let mut started = Started::default();
    let result = start_missing(root, majors, &mut state, &mut started);
    let names = started.names();
    if let Err(error) = result {
        drop(started);
        state.servers.retain(|name, _| !names.contains(name));
        state.save(root)?;
        return Err(error);
    }
    started.detach();
    if names.is_empty() {
        say("the stack is already up");
    }
    Ok(names)
}

/// Servers of this `up`; dropped before they are detached, they end.
#[derive(Default)]
struct Started {
    postgres: Vec<Postgres>,
    kafka: Option<Kafka>,
    apicurio: Option<Apicurio>,
    names: Vec<String>,
}

impl Started {
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn detach(mut self) {
        self.postgres.iter_mut().for_each(|server| server.detach());
        self.kafka.iter_mut().for_each(|server| server.detach());
        self.apicurio.iter_mut().for_each(|server| server.detach());
    }
}

fn start_missing(
    root: &Path,
    majors: &[u16],
    state: &mut State,
    started: &mut Started,
) -> Result<()> {
    // The slowest first: all start side by side and are waited for at the end.
    if !state.is_live(APICURIO) {
        say("starting Apicurio Registry");
        let options = ApicurioOptions { dir: Some(fresh(root, APICURIO)?), ..Default::default() };
        let apicurio = Apicurio::spawn(options)?;
        record(root, state, APICURIO, running_apicurio(&apicurio))?;
        started.names.push(APICURIO.to_owned());
        started.apicurio = Some(apicurio);
    }
    if !state.is_live(KAFKA) {
        say("starting Apache Kafka");
        let options = KafkaOptions { dir: Some(fresh(root, KAFKA)?), ..Default::default() };
        let kafka = Kafka::spawn(options)?;
        record(root, state, KAFKA, running_kafka(&kafka))?;
        started.names.push(KAFKA.to_owned());
        started.kafka = Some(kafka);
    }
    for major in majors {
        let name = postgres_name(*major);
        if state.is_live(&name) {
            continue;
        }
        say(format!("starting PostgreSQL {major}"));
        let dir = state.reachable(root).join(&name);
        remove(&dir)?;
        let options = PostgresOptions { major: *major, dir: Some(dir), ..Default::default() };
        let postgres = Postgres::spawn(options)?;
        record(root, state, &name, running_postgres(&postgres, *major))?;
        started.names.push(name);
        started.postgres.push(postgres);
    }
    wait_ready(started)
}

fn wait_ready(started: &mut Started) -> Result<()> {
    for postgres in &mut started.postgres {
        postgres.wait_ready()?;
        say(format!("PostgreSQL answers on 127.0.0.1:{}", postgres.port()));
    }
    if let Some(kafka) = &mut started.kafka {
        kafka.wait_ready()?;
        say(format!("Kafka answers on {}", kafka.address()));
    }
    if let Some(apicurio) = &mut started.apicurio {
        apicurio.wait_ready()?;
        say(format!("Apicurio answers on {}", apicurio.url()));
    }
    Ok(())
}

fn record(root: &Path, state: &mut State, name: &str, running: Running) -> Result<()> {
    state.servers.insert(name.to_owned(), running);
    state.save(root)
}

fn running_postgres(postgres: &Postgres, major: u16) -> Running {
    let mut variables = vec![
        (format!("WALPOST_TEST_POSTGRES_{major}_URL"), postgres.url()),
        (format!("WALPOST_TEST_POSTGRES_{major}_BIN"), postgres.bin().display().to_string()),
    ];
    if major == fetch::POSTGRES_MAJOR_DEFAULT {
        variables.push(("WALPOST_TEST_POSTGRES_BIN".into(), postgres.bin().display().to_string()));
        variables.push(("WALPOST_TEST_POSTGRES_URL".into(), postgres.url()));
    }
    Running {
        identity: postgres.identity(),
        port: postgres.port(),
        stop: StopWith::Quit,
        log: postgres.log().to_owned(),
        variables: variables.into_iter().collect(),
    }
}

fn running_kafka(kafka: &Kafka) -> Running {
    let variables = [
        ("WALPOST_TEST_KAFKA".to_owned(), kafka.address()),
        ("WALPOST_TEST_KAFKA_LIBS".to_owned(), kafka.libs().display().to_string()),
        ("WALPOST_TEST_JAVA".to_owned(), kafka.java().display().to_string()),
    ];
    Running {
        identity: kafka.identity(),
        port: kafka.port(),
        stop: StopWith::Term,
        log: kafka.log().to_owned(),
        variables: variables.into(),
    }
}

fn running_apicurio(apicurio: &Apicurio) -> Running {
    Running {
        identity: apicurio.identity(),
        port: apicurio.port(),
        stop: StopWith::Term,
        log: apicurio.log().to_owned(),
        variables: [("WALPOST_TEST_REGISTRY".to_owned(), apicurio.url())].into(),
    }
}

/// The variables that tell tests where the servers are; an error if nothing runs.
/// The plain PostgreSQL ones name the default major, else the lowest that runs.
pub fn variables(root: &Path) -> Result<BTreeMap<String, String>> {
    let state = State::load(root)?;
    let live = state.servers.values().filter(|running| running.identity.is_alive());
    let mut all: BTreeMap<String, String> =
        live.flat_map(|running| running.variables.clone()).collect();
    anyhow::ensure!(!all.is_empty(), "the stack is not up: run `cargo x stack up`");
    for suffix in ["URL", "BIN"] {
        let lowest = fetch::POSTGRES_MAJORS
            .iter()
            .find_map(|major| all.get(&format!("WALPOST_TEST_POSTGRES_{major}_{suffix}")).cloned());
        if let Some(value) = lowest {
            all.entry(format!("WALPOST_TEST_POSTGRES_{suffix}")).or_insert(value);
        }
    }
    Ok(all)
}

/// One line for each server: name, whether it runs, port, pid, log.
pub fn status(root: &Path) -> Result<Vec<String>> {
    let state = State::load(root)?;
    let line = |(name, running): (&String, &Running)| {
        let word = if running.identity.is_alive() { "up" } else { "gone" };
        let (port, pid) = (running.port, running.identity.pid);
        format!("{name:<12} {word:<5} 127.0.0.1:{port:<6} pid {pid:<8} {}", running.log.display())
    };
    Ok(state.servers.iter().map(line).collect())
}

/// Ends all servers of the stack and removes their data.
pub fn down(root: &Path) -> Result<()> {
    if !folder(root).exists() {
        return Ok(());
    }
    let _lock = lock(root)?;
    let state = State::load(root)?;
    end(state.servers.values());
    if let Some(outside) = &state.outside {
        remove(outside)?;
    }
    remove(&folder(root))?;
    say("the stack is down");
    Ok(())
}

/// Ends these servers only: what one command started beside what ran before.
pub fn down_only(root: &Path, names: &[String]) -> Result<()> {
    let state = State::load(root)?;
    if state.servers.keys().all(|name| names.contains(name)) {
        return down(root);
    }
    let _lock = lock(root)?;
    let mut state = State::load(root)?;
    let (ours, others) = state.servers.into_iter().partition(|(name, _)| names.contains(name));
    let ours: BTreeMap<String, Running> = ours;
    state.servers = others;
    end(ours.values());
    for folder in ours.values().filter_map(|running| running.log.parent()) {
        remove(folder)?;
    }
    state.save(root)
}

fn end<'a>(servers: impl Iterator<Item = &'a Running>) {
    let servers: Vec<&Running> = servers.collect();
    for running in &servers {
        running.identity.signal(match running.stop {
            StopWith::Quit => Signal::QUIT,
            StopWith::Term => Signal::TERM,
        });
        // A test may have left it frozen.
        running.identity.signal(Signal::CONT);
    }
    for running in servers {
        if !running.identity.is_gone_within(STOP_DEADLINE) {
            running.identity.kill9();
        }
    }
}

/// An empty folder for a server of the stack.
fn fresh(root: &Path, name: &str) -> Result<PathBuf> {
    let dir = folder(root).join(name);
    remove(&dir)?;
    Ok(dir)
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
