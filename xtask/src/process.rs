//! Processes: run one to its end, or start a server and know it again later.
//!
//! A server is known by pid *and* start time, as `/proc` tells them: a pid that was given to
//! another process since is never signalled. Nothing is ever ended by name.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

pub use rustix::process::Signal;

use crate::wait;

/// The kernel ends a killed process at once, unless it hangs in a device.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// Set by Ctrl-C and its like once [`catch_interrupts`] was called.
static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on Ctrl-C, a hang-up and SIGTERM do not end this process: it looks at
/// [`is_interrupted`] and tidies up.
pub fn catch_interrupts() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED))
            .context("cannot catch signals")?;
    }
    Ok(())
}

pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Runs a command to its end with our terminal, in a process group of its own. An interrupt is
/// passed on to the whole group, and what does not end then is killed.
pub fn run(command: &mut Command) -> Result<ExitStatus> {
    let line = command_line(command);
    let mut child = command.stdin(Stdio::null()).process_group(0).spawn();
    let child = child
        .as_mut()
        .map_err(|error| anyhow::anyhow!("cannot run `{line}`: {error}"))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.context("a process has a pid")?;
    let mut told: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match told {
            None if is_interrupted() => {
                told = Some(Instant::now());
                let _ = kill_process_group(group, Signal::INT);
            }
            Some(since) if since.elapsed() > INTERRUPT_DEADLINE => {
                let _ = kill_process_group(group, Signal::KILL);
            }
            _ => wait::pause(),
        }
    }
}

/// Long enough for tests to stop servers of their own.
const INTERRUPT_DEADLINE: Duration = Duration::from_secs(10);

/// Lines of a server's log that an error shows.
const TAIL_LINES: usize = 25;

/// Runs a command to its end and returns its stdout; an error holds the command line and what it
/// said.
pub fn output(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{line}`"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    bail!(
        "`{line}` failed ({}):\n{}",
        output.status,
        tail(&String::from_utf8_lossy(&said))
    )
}

/// The command as a person would type it.
pub fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// A process, told apart from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// Clock ticks after boot.
    pub start_ticks: u64,
}

impl Identity {
    /// The process that has this pid now.
    pub fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        let stat = Stat::read(pid)?;
        Some(Self {
            pid,
            start_ticks: stat.start_ticks,
        })
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        Stat::read(self.pid)
            .is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.is_zombie)
    }

    /// Sends a signal, unless the process is gone.
    pub fn signal(self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_alive(), Pid::from_raw(self.pid)) {
            // It may end between the look and the signal; that is what was wanted.
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether it was gone within the deadline.
    pub fn is_gone_within(self, deadline: Duration) -> bool {
        wait::until(deadline, || (!self.is_alive()).then_some(())).is_some()
    }

    /// Ends it and its children at once and without a chance to tidy up, as a power cut would.
    pub fn kill9(self) {
        let children = self.children();
        self.signal(Signal::KILL);
        for child in &children {
            child.signal(Signal::KILL);
        }
        for process in std::iter::once(self).chain(children) {
            process.is_gone_within(KILL_DEADLINE);
        }
    }

    fn children(self) -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| Stat::read(pid).map(|stat| (pid, stat)))
            .filter(|(_, stat)| stat.parent == self.pid)
            .map(|(pid, stat)| Self {
                pid,
                start_ticks: stat.start_ticks,
            })
            .collect()
    }
}

struct Stat {
    is_zombie: bool,
    parent: i32,
    start_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Field 2 is the program's name in brackets and may hold anything, brackets included: count
    /// from the last one.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let is_zombie = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        // starttime is field 22 of proc(5): 17 fields after the parent's pid.
        let start_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self {
            is_zombie,
            parent,
            start_ticks,
        })
    }
}

/// A server process of ours. Dropping it ends it, unless it was detached.
#[derive(Debug)]
pub struct Server {
    name: String,
    identity: Identity,
    child: Option<Child>,
    log: PathBuf,
    is_detached: bool,
}

impl Server {
    /// Starts a server in a process group of its own, so that Ctrl-C in the terminal does not reach
    /// it; without stdin; with stdout and stderr appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let line = command_line(command);
        let out = open_log(log)?;
        let err = out.try_clone().context("cannot share the log file")?;
        command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}: `{line}`"))?;
        let identity = Identity::of(child.id())
            .with_context(|| format!("{name} is not in /proc: is /proc mounted?"))?;
        Ok(Self {
            name: name.to_owned(),
            identity,
            child: Some(child),
            log: log.to_owned(),
            is_detached: false,
        })
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Asks until `ready` says yes. The error names the server and shows the end of its log.
    pub fn wait_until(
        &mut self,
        deadline: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        enum Answer {
            Ready,
            Ended(ExitStatus),
            Interrupted,
        }
        let answer = wait::until(deadline, || match self.ended() {
            Some(status) => Some(Answer::Ended(status)),
            None if is_interrupted() => Some(Answer::Interrupted),
            None => ready().then_some(Answer::Ready),
        });
        match answer {
            Some(Answer::Ready) => Ok(()),
            Some(Answer::Interrupted) => bail!("interrupted while {} was starting", self.name),
            Some(Answer::Ended(status)) => {
                bail!("{} ended at start ({status}){}", self.name, self.log_end())
            }
            None => bail!(
                "{} did not answer within {} s{}",
                self.name,
                deadline.as_secs(),
                self.log_end()
            ),
        }
    }

    fn log_end(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        format!(
            "; the end of {}:\n{}",
            self.log.display(),
            tail(&String::from_utf8_lossy(&text))
        )
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.ended().is_none() && self.identity.is_alive()
    }

    pub fn signal(&self, signal: Signal) {
        self.identity.signal(signal);
    }

    /// Signals, then waits for the end; returns how long that took.
    pub fn stop(&mut self, signal: Signal, deadline: Duration) -> Result<Duration> {
        let start = Instant::now();
        self.signal(signal);
        match wait::until(deadline, || (!self.is_running()).then_some(())) {
            Some(()) => Ok(start.elapsed()),
            None => bail!(
                "{} still runs {} s after {signal:?}{}",
                self.name,
                deadline.as_secs(),
                self.log_end()
            ),
        }
    }

    /// See [`Identity::kill9`].
    pub fn kill9(&mut self) {
        self.identity.kill9();
        // Reaps it: a zombie counts as gone, but keeps its pid.
        let _ = wait::until(KILL_DEADLINE, || (!self.is_running()).then_some(()));
    }

    /// Leaves it running when this is dropped; whoever holds the identity ends it.
    pub fn detach(&mut self) {
        self.is_detached = true;
    }

    pub fn is_detached(&self) -> bool {
        self.is_detached
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_detached && self.is_running() {
            self.kill9();
        }
    }
}

fn open_log(log: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    file.with_context(|| format!("cannot write {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let stat = Stat::parse(text).expect("a stat line");
        assert_eq!(
            (stat.is_zombie, stat.parent, stat.start_ticks),
            (false, 7, 98765)
        );
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = Identity::of(std::process::id()).expect("this process");
        assert!(me.is_alive());
        assert!(
            !Identity {
                start_ticks: me.start_ticks + 1,
                ..me
            }
            .is_alive()
        );
    }

    #[test]
    fn a_dropped_server_is_ended_and_a_detached_one_is_not() {
        let log = std::env::temp_dir().join(format!("xtask-process-{}.log", std::process::id()));
        let start =
            || Server::start("sleep", Command::new("sleep").arg("60"), &log).expect("sleep starts");
        let dropped = start().identity();
        assert!(dropped.is_gone_within(Duration::from_secs(5)));

        let mut kept = start();
        kept.detach();
        let identity = kept.identity();
        drop(kept);
        assert!(identity.is_alive());
        identity.signal(Signal::KILL);
        assert!(identity.is_gone_within(Duration::from_secs(5)));
        fs::remove_file(log).expect("the log is removed");
    }

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_its_last_words() {
        let log = std::env::temp_dir().join(format!("xtask-words-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo port taken; exit 3"]);
        let mut server = Server::start("broker", &mut command, &log).expect("sh starts");
        let error = server
            .wait_until(Duration::from_secs(5), || false)
            .expect_err("it ended");
        fs::remove_file(log).expect("the log is removed");
        let text = error.to_string();
        assert!(
            text.starts_with("broker ended at start (exit status: 3)"),
            "{text}"
        );
        assert!(text.ends_with("port taken"), "{text}");
    }
}
