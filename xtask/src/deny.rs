//! Known vulnerabilities and licences, by cargo-deny and `deny.toml`. In: a checkout and a network.
//! Out: cargo-deny's report and exit code.
//!
//! `cargo x tidy` judges licences and sources without a network; this adds advisories, yanked
//! versions and what else cargo-deny knows.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::machine::{self, say};
use crate::process;
use crate::run::{cargo, code, target};

/// The version whose reading of `deny.toml` is known.
const VERSION: &str = "0.20.2";

/// Runs cargo-deny; one that is missing is built first, into the target folder.
pub fn deny(root: &Path, rest: &[String]) -> Result<ExitCode> {
    let program = match machine::program("cargo-deny") {
        Some(program) => program,
        None => built(root)?,
    };
    let mut command = std::process::Command::new(program);
    command.args(["--all-features", "check"]).args(rest).current_dir(root);
    process::run(&mut command).map(code)
}

fn built(root: &Path) -> Result<PathBuf> {
    let folder = target(root).join("tools");
    let program = folder.join("bin/cargo-deny");
    if machine::is_executable(&program) {
        return Ok(program);
    }
    say(format!("building cargo-deny {VERSION} (minutes, once)"));
    let mut command = cargo(root);
    command.args(["install", "cargo-deny", "--locked", "--version", VERSION, "--root"]);
    if !process::run(command.arg(&folder))?.success() {
        bail!("cargo-deny {VERSION} cannot be built: install it by hand and run this again");
    }
    Ok(program)
}
