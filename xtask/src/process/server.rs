//! A server process: started apart from the terminal, waited for with a deadline, ended with its
//! owner.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::identity::KILL_DEADLINE;
use super::notes::Note;
use super::{Identity, command_line, is_interrupted, tail};
use crate::wait;

/// A server process of ours. Dropping it ends it, unless it was detached.
#[derive(Debug)]
pub struct Server {
    name: String,
    identity: Identity,
    child: Option<Child>,
    log: PathBuf,
    is_detached: bool,
    _note: Note,
}

impl Server {
    /// Starts a server in a process group of its own, so that Ctrl-C in the terminal does not reach
    /// it; without stdin; with stdout and stderr appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let line = command_line(command);
        let out = open_log(log)?;
        let err = out.try_clone().context("cannot share the log file")?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}: `{line}`"))?;
        let identity = Identity::of(child.id())
            .with_context(|| format!("{name} is not in /proc: is /proc mounted?"))?;
        Ok(Self {
            name: name.to_owned(),
            identity,
            child: Some(child),
            log: log.to_owned(),
            is_detached: false,
            _note: Note::server(identity),
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
        format!("; the end of {}:\n{}", self.log.display(), tail(&String::from_utf8_lossy(&text)))
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

    /// Freezes it and its children: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.identity.signal_all(Signal::STOP);
    }

    pub fn resume(&self) {
        self.identity.signal_all(Signal::CONT);
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
        let error = server.wait_until(Duration::from_secs(5), || false).expect_err("it ended");
        fs::remove_file(log).expect("the log is removed");
        let text = error.to_string();
        assert!(text.starts_with("broker ended at start (exit status: 3)"), "{text}");
        assert!(text.ends_with("port taken"), "{text}");
    }
}
