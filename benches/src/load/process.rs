//! What a process costs, and on what machine: read from /proc.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks a second in /proc/PID/stat; 100 on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// A process's CPU seconds, user and system, with its ended threads.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything, so fields are counted after it.
    let rest = stat.rsplit_once(')').context("stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    Ok((ticks(11).context("utime")? + ticks(12).context("stime")?) / TICKS)
}

/// How long each living thread of a process has run, to the nanosecond: for what is little.
pub(crate) fn thread_times(pid: u32) -> Result<HashMap<OsString, Duration>> {
    let mut times = HashMap::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        // One may have ended since it was listed.
        let Ok(stat) = std::fs::read_to_string(thread.path().join("schedstat")) else { continue };
        let ran = stat.split_whitespace().next().and_then(|text| text.parse().ok());
        times.insert(thread.file_name(), Duration::from_nanos(ran.context("schedstat")?));
    }
    Ok(times)
}

/// What the threads of `after` have run since `before`.
pub(crate) fn ran_since(
    before: &HashMap<OsString, Duration>,
    after: &HashMap<OsString, Duration>,
) -> Duration {
    let since = |(thread, time): (&OsString, &Duration)| {
        time.saturating_sub(before.get(thread).copied().unwrap_or_default())
    };
    after.iter().map(since).sum()
}

/// A process's largest resident memory so far, in MB.
pub(crate) fn peak_rss_mb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("VmHWM")?;
    let kb: f64 = line.split_whitespace().nth(1).context("VmHWM")?.parse()?;
    Ok(kb / 1024.0)
}

/// The commit that is measured.
pub(crate) fn commit() -> String {
    let said = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    said.ok().map_or_else(String::new, |said| String::from_utf8_lossy(&said.stdout).trim().into())
}

/// Processor and cores.
pub(crate) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |line| line.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores of {model}")
}

/// The relay to measure: named by WALPOST_BIN, else beside this program.
pub(crate) fn relay_program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("WALPOST_BIN") {
        return Ok(named.into());
    }
    Ok(std::env::current_exe()?.with_file_name("walpost"))
}
