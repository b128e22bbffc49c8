//! The gate. In: a checkout. Out: one line for each step with its time, the findings of those that
//! failed.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Result;

use crate::machine::say;
use crate::process;
use crate::run::cargo;
use crate::tidy;

/// Steps that are a cargo command.
const COMMANDS: [(&str, &[&str]); 5] = [
    ("format", &["fmt", "--all", "--check"]),
    (
        "lints",
        &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
    ),
    ("documentation", &["doc", "--workspace", "--no-deps", "--all-features"]),
    ("unit tests", &["test", "--workspace", "--lib"]),
    ("short simulation", &["test", "-p", "walpost-tests", "--test", "sim"]),
];

/// Runs all steps, even after one failed: one run tells everything.
pub fn check(root: &Path) -> Result<ExitCode> {
    let start = Instant::now();
    let mut failed = Vec::new();
    step("tidy", &mut failed, || Ok(tidy::report(root)? == ExitCode::SUCCESS));
    for (name, words) in COMMANDS {
        step(name, &mut failed, || {
            let mut command = cargo(root);
            command.args(words).env("RUSTDOCFLAGS", "-D warnings");
            succeeds(&mut command)
        });
    }
    let seconds = start.elapsed().as_secs();
    if failed.is_empty() {
        say(format!("check passed in {seconds} s"));
        return Ok(ExitCode::SUCCESS);
    }
    say(format!("check failed in {seconds} s: {}", failed.join(", ")));
    Ok(ExitCode::FAILURE)
}

fn succeeds(command: &mut Command) -> Result<bool> {
    process::run(command).map(|status| status.success())
}

fn step(name: &'static str, failed: &mut Vec<&'static str>, work: impl FnOnce() -> Result<bool>) {
    if process::is_interrupted() {
        return failed.push(name);
    }
    say(format!("{name} ..."));
    let start = Instant::now();
    let is_fine = work().unwrap_or_else(|error| {
        say(format!("{name}: {error:#}"));
        false
    });
    let word = if is_fine { "ok" } else { "FAILED" };
    say(format!("{name}: {word} ({:.1} s)", start.elapsed().as_secs_f64()));
    if !is_fine {
        failed.push(name);
    }
}
