//! Processes: run one to its end ([`output`], [`run`]), or start a server and know it again later
//! ([`Server`], [`Identity`]).

mod identity;
mod notes;
mod server;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

pub use identity::Identity;
pub(crate) use notes::Note;
pub use notes::{NOTES, end_noted};
pub use rustix::process::Signal;
pub use server::Server;

use crate::wait;

/// Long enough for tests to stop servers of their own.
const INTERRUPT_DEADLINE: Duration = Duration::from_secs(10);

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
    let child = child.as_mut().map_err(|error| anyhow::anyhow!("cannot run `{line}`: {error}"))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.context("a process has a pid")?;
    let mut told: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        // The group may be gone between the look and the signal.
        match told {
            None if is_interrupted() => {
                told = Some(Instant::now());
                let _ = kill_process_group(group, Signal::INT);
            }
            Some(since) if since.elapsed() > INTERRUPT_DEADLINE => {
                let _ = kill_process_group(group, Signal::KILL);
            }
            _ => {}
        }
        wait::pause();
    }
}

/// Lines of a server's log that an error shows.
const TAIL_LINES: usize = 25;

/// Runs a command to its end and returns its stdout; an error holds the command line and what it
/// said.
pub fn output(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{line}`"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    bail!("`{line}` failed ({}):\n{}", output.status, tail(&String::from_utf8_lossy(&said)))
}

/// The command as a person would type it.
pub fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The last lines of a text.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
