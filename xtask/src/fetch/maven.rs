//! Maven as a fetching client: one artifact, or a project's whole closure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::machine;
use crate::process;

/// Puts one artifact (`group:name:version[:type[:classifier]]`) into a folder.
pub(super) fn copy(plugin: &str, artifact: &str, into: &Path) -> Result<()> {
    machine::say(format!("fetching {artifact}"));
    let mut command = command()?;
    command.arg(goal(plugin, "copy")).arg(format!("-Dartifact={artifact}")).current_dir(into);
    command.arg(format!("-DoutputDirectory={}", into.display()));
    process::output(&mut command).map(drop)
}

/// Puts everything that the project file depends on at run time into a new folder.
pub(super) fn closure(plugin: &str, pom: &str) -> Result<PathBuf> {
    let libs = super::scratch(&machine::cache()?.join("closure"))?;
    let file = machine::cache()?.join("pom.xml");
    fs::write(&file, pom).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = command()?;
    command
        .arg("-f")
        .arg(&file)
        .arg(goal(plugin, "copy-dependencies"))
        .arg("-DincludeScope=runtime");
    command.arg(format!("-DoutputDirectory={}", libs.display()));
    process::output(&mut command)?;
    Ok(libs)
}

fn goal(plugin: &str, goal: &str) -> String {
    format!("org.apache.maven.plugins:maven-dependency-plugin:{plugin}:{goal}")
}

/// Maven in batch mode, quiet.
fn command() -> Result<Command> {
    if machine::program("mvn").is_none() {
        machine::install(&["maven"], "Maven")?;
    }
    let mut command = Command::new("mvn");
    command.args(["-B", "-q", "-ntp"]);
    Ok(command)
}
