//! What a process costs, and on what machine: read from /proc.

use std::path::PathBuf;

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
