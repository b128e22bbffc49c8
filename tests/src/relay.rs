//! The program under test as a process: configuration in; log, status and exit code out.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use xtask::process::{Identity, Signal};

use crate::{CANARY, http, stack, wait_for, wait_within};

/// How long a relay may take to end by itself.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// What the runtime prints of a panic, in whichever task: the others would go on.
const PANIC: &str = "panicked at ";

/// A running `walpost run`; killed when dropped.
#[derive(Debug)]
pub struct Relay {
    child: Child,
    identity: Identity,
    log: Log,
    _dir: TempDir,
}

/// How a process ended, and everything it said.
#[derive(Debug)]
pub struct Ended {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub took: Duration,
    pub stdout: String,
    /// stderr: log lines as JSON for `run`.
    pub log: String,
}

/// Lines that a thread collects while the process runs.
#[derive(Debug, Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    /// Threads that still collect.
    open: Arc<AtomicUsize>,
}

impl Log {
    fn collect(&self, from: impl Read + Send + 'static) {
        let Self { lines, open } = self.clone();
        open.fetch_add(1, Ordering::AcqRel);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
            open.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// Waits for the last line of a process that has ended.
    fn wait_whole(&self) {
        let is_whole = || (self.open.load(Ordering::Acquire) == 0).then_some(());
        let _ = xtask::wait::until(END_DEADLINE, is_whole);
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Relay {
    /// Starts `walpost run` with this configuration.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// As [`Self::start`], with environment variables.
    pub fn start_with(config: &str, environment: &[(&str, &str)]) -> Self {
        let (dir, path) = written(config);
        let mut command = walpost(&["run", "--log-format", "json"], Some(&path));
        command.envs(environment.iter().copied());
        let mut child = command.spawn().expect("walpost starts");
        let log = Log::default();
        log.collect(child.stderr.take().expect("a pipe"));
        log.collect(child.stdout.take().expect("a pipe"));
        let identity = Identity::of(child.id()).expect("a process");
        Self { child, identity, log, _dir: dir }
    }

    /// Everything it said so far.
    pub fn log(&self) -> String {
        self.log.lines().join("\n")
    }

    /// The same without the settings, which it says at its start.
    fn story(&self) -> String {
        let lines = self.log.lines().into_iter();
        lines.filter(|line| !line.contains("\"setting ")).collect::<Vec<_>>().join("\n")
    }

    /// The log lines, read.
    pub fn events(&self) -> Vec<Value> {
        self.log.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Where health and metrics are, as soon as it says so.
    #[track_caller]
    pub fn admin(&self) -> String {
        let found = xtask::wait::until(crate::PATIENCE, || {
            let events = self.events();
            let line = events.iter().find(|event| event["message"] == "admin");
            let address = line.and_then(|line| line["address"].as_str()).map(str::to_owned);
            (address.is_some() || !self.is_running()).then_some(address)
        });
        let address = found.flatten();
        address.unwrap_or_else(|| panic!("no admin address in the log:\n{}", self.story()))
    }

    /// `/api/v1/status` of one source; `None` while nobody answers.
    pub fn status(&self, source: &str) -> Option<Value> {
        let answer = http::get(&self.admin(), "/api/v1/status").ok()?;
        let status: Value = serde_json::from_str(&answer.body).ok()?;
        status["sources"].as_array()?.iter().find(|found| found["source"] == source).cloned()
    }

    #[track_caller]
    pub fn wait_state(&self, source: &str, state: &str) -> Value {
        let mut last = None;
        let found = xtask::wait::until(crate::PATIENCE, || {
            last = self.status(source);
            let found = last.clone().filter(|status| status["state"] == state);
            (found.is_some() || !self.is_running()).then_some(found)
        });
        match found.flatten() {
            Some(status) => status,
            None => panic!("{source} is not {state} but {last:?}; its log:\n{}", self.story()),
        }
    }

    /// Waits until the source waits or has stopped with this code; its status.
    #[track_caller]
    pub fn wait_fault(&self, source: &str, code: &str) -> Value {
        let mut last = None;
        let found = xtask::wait::until(crate::PATIENCE, || {
            last = self.status(source);
            let found = last.clone().filter(|status| status["fault"]["code"] == code);
            (found.is_some() || !self.is_running()).then_some(found)
        });
        match found.flatten() {
            Some(status) => status,
            None => panic!("{source} has no fault {code} but {last:?}; its log:\n{}", self.story()),
        }
    }

    /// The metrics by name and labels as they are printed.
    #[track_caller]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = http::get(&self.admin(), "/metrics").expect("metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.rsplit_once(' '));
        pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap_or(f64::NAN))).collect()
    }

    /// A metric that must be there.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        match metrics.get(name) {
            Some(value) => *value,
            None => panic!("no {name} among {metrics:#?}"),
        }
    }

    pub fn signal(&self, signal: Signal) {
        self.identity.signal(signal);
    }

    /// The most memory it ever had, in kB.
    #[track_caller]
    pub fn peak_rss_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.identity.pid));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// How many clients of librdkafka it has open: each has one main thread.
    #[track_caller]
    pub fn kafka_clients(&self) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.identity.pid));
        let names = tasks.expect("it runs").flatten().map(|task| task.path().join("comm"));
        // A thread may end while it is looked at.
        let names = names.filter_map(|path| std::fs::read_to_string(path).ok());
        names.filter(|name| name.trim_end() == "rdk:main").count()
    }

    pub fn is_running(&self) -> bool {
        self.identity.is_alive()
    }

    /// SIGTERM, then its end.
    #[track_caller]
    pub fn terminate(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait_end()
    }

    /// SIGKILL, then its end: nothing was tidied.
    #[track_caller]
    pub fn kill9(self) -> Ended {
        self.signal(Signal::KILL);
        self.wait_end()
    }

    /// Waits until it ends; checks that it told no secrets.
    #[track_caller]
    pub fn wait_end(mut self) -> Ended {
        let start = Instant::now();
        let status = xtask::wait::until(END_DEADLINE, || self.child.try_wait().ok().flatten());
        let took = start.elapsed();
        if status.is_some() {
            self.log.wait_whole();
        }
        let log = self.log();
        let Some(status) = status else { panic!("walpost still runs:\n{log}") };
        let by_signal = status.signal().filter(|signal| *signal != Signal::KILL.as_raw());
        assert_eq!(by_signal, None, "walpost crashed:\n{log}");
        assert!(!log.contains(PANIC), "a task of walpost panicked:\n{log}");
        assert!(!log.contains(CANARY), "walpost told a secret:\n{log}");
        Ended { code: status.code(), took, stdout: String::new(), log }
    }

    /// Waits for an end with exit code 4 whose last error has this code; the error's text.
    #[track_caller]
    pub fn wait_stop(self, code: &str) -> String {
        let ended = self.wait_end();
        assert_eq!(ended.code, Some(4), "{}", ended.log);
        ended.error(code)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- walpost said:\n{}", self.story());
        } else {
            assert!(!self.log().contains(CANARY), "walpost told a secret:\n{}", self.log());
            assert!(!self.log().contains(PANIC), "a task panicked:\n{}", self.log());
        }
    }
}

impl Ended {
    /// The text of the ERROR with this code.
    #[track_caller]
    pub fn error(&self, code: &str) -> String {
        let lines = self.log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut errors = lines.filter(|line| line["level"] == "ERROR" && line["code"] == code);
        match errors.next() {
            Some(error) => error["message"].as_str().unwrap_or_default().to_owned(),
            None => panic!("no error {code} in:\n{}", self.log),
        }
    }
}

/// Runs a verb to its end. `stdin` is what it reads.
#[track_caller]
pub fn verb(arguments: &[&str], config: Option<&str>, stdin: &str) -> Ended {
    verb_with(arguments, config, stdin, &[])
}

/// As [`verb`], with environment variables.
#[track_caller]
pub fn verb_with(
    arguments: &[&str],
    config: Option<&str>,
    stdin: &str,
    environment: &[(&str, &str)],
) -> Ended {
    let kept = config.map(written);
    let path = kept.as_ref().map(|(_, path)| path.as_path());
    let start = Instant::now();
    let mut command = walpost(arguments, path);
    command.envs(environment.iter().copied());
    let mut child = command.stdin(Stdio::piped()).spawn().expect("walpost starts");
    {
        use std::io::Write;
        let mut input = child.stdin.take().expect("a pipe");
        // A verb that does not read its input closes it.
        let _ = input.write_all(stdin.as_bytes());
    }
    let output = child.wait_with_output().expect("walpost ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, log) = (text(&output.stdout), text(&output.stderr));
    Ended { code: output.status.code(), took: start.elapsed(), stdout, log }
}

/// The binary with nothing of our environment that it would take for a setting.
fn walpost(arguments: &[&str], config: Option<&Path>) -> Command {
    let mut command = Command::new(&stack().walpost);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("WALPOST_") || name.starts_with("PG") {
            command.env_remove(&*name);
        }
    }
    command.args(arguments);
    if let Some(path) = config {
        command.arg("--config").arg(path);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn written(config: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("walpost.toml");
    std::fs::write(&path, config).expect("a file");
    (dir, path)
}

/// Waits until the slot has passed everything that is in the WAL now; fails at once when the relay
/// ended before that.
#[track_caller]
pub fn wait_confirmed(database: &crate::Database, relay: &Relay, within: Duration) {
    let target = database.wal_end();
    let mut last = 0;
    let passed = xtask::wait::until(within, || {
        let is_running = relay.is_running();
        last = database.confirmed();
        (last >= target || !is_running).then_some(last >= target)
    });
    assert_eq!(passed, Some(true), "confirmed {last:X} is not past {target:X} in {within:?}");
}

/// Waits until nobody streams from the slot.
#[track_caller]
pub fn wait_released(database: &crate::Database) {
    wait_for("the slot to be free", || database.walsender().is_none().then_some(()));
}

/// Waits until at least `count` records stand in the topics of a prefix.
#[track_caller]
pub fn wait_records(cluster: &crate::Cluster, prefix: &str, count: i64) {
    wait_within(Duration::from_secs(120), &format!("{count} records"), || {
        (cluster.count(prefix) >= count).then_some(())
    });
}
