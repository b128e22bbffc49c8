//! The commands that build walpost and run something with it: demo, tests, benchmarks, fuzzing.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::machine::{self, say};
use crate::process;
use crate::stack::shared;

/// How long tests may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// No wait of a minute for its own sake.
    Short,
    /// Minute-long waits too.
    Long,
}

/// Builds walpost with progress visible, then becomes `walpost dev --demo`.
pub fn demo(root: &Path, rest: &[String]) -> Result<ExitCode> {
    say("building walpost (minutes the first time)");
    succeed(cargo(root).args(["build", "--profile", "demo", "-p", "walpost"]))?;
    let mut command = Command::new(target(root).join("demo/walpost"));
    command.args(["dev", "--demo"]).args(rest).current_dir(root);
    let line = process::command_line(&command);
    Err(command.exec()).with_context(|| format!("cannot run `{line}`"))
}

/// Runs every test against real servers and stops what it started, whatever happens.
pub fn test(root: &Path, extent: Extent, majors: &[u16], rest: &[String]) -> Result<ExitCode> {
    let start = Instant::now();
    if machine::program("kcat").is_none() {
        machine::install(&["kcat"], "kcat, which the tests read Kafka with,")?;
    }
    say("building walpost");
    succeed(cargo(root).args(["build", "-p", "walpost"]))?;
    let started = shared::up(root, majors)?;
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    // One test that fails does not leave the rest untold.
    let all = ["--workspace", "--no-fail-fast"];
    let status = run_tests(root, extent, &[&all, &words[..]].concat(), &[]);
    let down = shared::down_only(root, &started);
    say(format!("took {} s", start.elapsed().as_secs()));
    let code = code(status?);
    down.map(|()| code)
}

/// Runs the chaos suite in its long form and prints its table.
pub fn chaos(root: &Path, case: &str) -> Result<ExitCode> {
    succeed(cargo(root).args(["build", "-p", "walpost"]))?;
    let started = shared::up(root, &[crate::fetch::POSTGRES_MAJOR_DEFAULT])?;
    let table = target(root).join("chaos-table");
    // There may be none from an earlier run.
    let _ = std::fs::remove_file(&table);
    let words = ["-p", "walpost-tests", "--test", "chaos", case, "--", "--test-threads", "2"];
    let variables = [("CHAOS_TABLE", table.display().to_string())];
    let status = run_tests(root, Extent::Long, &words, &variables);
    let down = shared::down_only(root, &started);
    let mut lines: Vec<String> = std::fs::read_to_string(&table)
        .context("no case came to its end")?
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort_unstable();
    println!("{CHAOS_HEAD}\n{}", lines.join("\n"));
    let code = code(status?);
    down.map(|()| code)
}

const CHAOS_HEAD: &str = "\
| case | events | lost | reordered | duplicated | parked | recovery s |
|---|---|---|---|---|---|---|";

fn run_tests(
    root: &Path,
    extent: Extent,
    words: &[&str],
    variables: &[(&str, String)],
) -> Result<ExitStatus> {
    let notes = root.join(".stack/notes");
    std::fs::create_dir_all(&notes).context("cannot create .stack/notes")?;
    let mut command = cargo(root);
    command.arg("test").args(words.iter().filter(|word| !word.is_empty()));
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    surround(&mut command, root, extent)?;
    let status = process::run(command.env(process::NOTES, &notes));
    let left = process::end_noted(&notes);
    if left > 0 {
        say(format!("ended {left} servers that the tests left behind"));
    }
    // What is still noted here is gone: the next run starts without.
    let _ = std::fs::remove_dir_all(&notes);
    status
}

/// How many tests of a program run at a time. Most of their time they wait for a server to notice
/// something, so twice as many as there are cores; cargo's own variable overrules it.
const THREADS: &str = "RUST_TEST_THREADS";

/// Gives a command the variables that the tests read.
fn surround(command: &mut Command, root: &Path, extent: Extent) -> Result<()> {
    command.envs(shared::variables(root)?);
    command.env("WALPOST_BIN", binary(root)?);
    if std::env::var_os(THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        command.env(THREADS, (2 * cores).to_string());
    }
    if extent == Extent::Long {
        command.env("WALPOST_LONG", "1");
    }
    Ok(())
}

/// The programs of `benches/`.
const BENCHES: [&str; 2] = ["load", "inbox"];

/// Runs a program of `benches/` in release mode. It starts servers of its own, with fsync on.
pub fn bench(root: &Path, name: &str, rest: &[String]) -> Result<ExitCode> {
    if !BENCHES.contains(&name) {
        bail!("`{name}` is not one of {BENCHES:?} (micro benches: `cargo bench`)");
    }
    succeed(cargo(root).args(["build", "--release", "-p", "walpost"]))?;
    let notes = root.join(".stack/notes");
    std::fs::create_dir_all(&notes).context("cannot create .stack/notes")?;
    let mut command = cargo(root);
    command.args(["run", "--release", "-p", "walpost-benches", "--bin", name, "--"]).args(rest);
    command.env("WALPOST_BIN", target(root).join("release/walpost"));
    let status = process::run(command.env(process::NOTES, &notes));
    process::end_noted(&notes);
    status.map(code)
}

/// Runs the fuzz tests at length; they need no server.
pub fn fuzz(root: &Path, rest: &[String]) -> Result<ExitCode> {
    for (words, variable, value) in FUZZ {
        let mut command = cargo(root);
        command.args(["test", "--release"]).args(words).args(rest).env(variable, value);
        let status = process::run(&mut command)?;
        if !status.success() {
            return Ok(code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the simulation; it needs no server.
pub fn sim(root: &Path, seeds: u64, first: u64, plan: Option<&str>) -> Result<ExitCode> {
    let mut command = cargo(root);
    command.args(["test", "-p", "walpost-tests", "--test", "sim"]);
    command.args(["nothing_is_lost", "--", "--nocapture"]);
    command.env("WALPOST_SIM_SEEDS", seeds.to_string());
    command.env("WALPOST_SIM_FIRST", first.to_string());
    if let Some(plan) = plan {
        command.env("WALPOST_SIM_PLAN", plan).env("WALPOST_SIM_STORY", "1");
    }
    Ok(code(process::run(&mut command)?))
}

/// The fuzz tests: cargo's words for each, and the variable that makes it long.
const FUZZ: [(&[&str], &str, &str); 2] = [
    (&["-p", "walpost-tests", "fuzz"], "WALPOST_LONG", "1"),
    (&["-p", "walpost-schema", "--test", "fuzz"], "WALPOST_FUZZ_SECONDS", "180"),
];

/// Cargo, in the checkout.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder))
}

fn binary(root: &Path) -> Result<PathBuf> {
    let file = target(root).join("debug/walpost");
    if machine::is_executable(&file) {
        return Ok(file);
    }
    bail!("cargo built walpost, and {} is not there", file.display())
}

fn succeed(command: &mut Command) -> Result<()> {
    let line = process::command_line(command);
    let status = process::run(command)?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// The exit code of a child, as a shell would give it.
pub(crate) fn code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A value as a shell reads it back.
pub fn quoted(value: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/:@._-".contains(letter);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_blanks_or_quotes_is_one_word() {
        assert_eq!(quoted("http://127.0.0.1:1/a"), "http://127.0.0.1:1/a");
        assert_eq!(quoted("/home/a b/it's"), r"'/home/a b/it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
