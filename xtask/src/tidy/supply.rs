//! Where dependencies come from and under which licence. In: cargo's metadata, Cargo.lock,
//! deny.toml. Out: what deny.toml does not allow. `cargo deny check licenses sources` reads the
//! same file.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::{Finding, Tree};
use crate::process;
use crate::run::cargo;

const FILE: &str = "deny.toml";

/// What cargo calls the one registry, in halves: no file names its host.
const REGISTRY: (&str, &str) = ("registry+https://github.com/rust-lang/crates", ".io-index");

#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

/// What cargo knows of all packages that are built for Linux, where the relay runs: the others need
/// not be fetched.
pub(super) fn metadata(root: &Path) -> Result<Value> {
    let mut command: Command = cargo(root);
    command.args([
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]);
    let text = process::output(&mut command)?;
    serde_json::from_str(&text).context("cargo metadata printed no JSON")
}

pub(super) fn look(metadata: &Value, tree: &Tree, findings: &mut Vec<Finding>) -> Result<()> {
    let deny = tree.text(FILE).context("deny.toml is missing")?;
    let deny: Deny = toml::from_str(deny).context("deny.toml does not parse")?;
    let allowed: BTreeSet<&str> = deny.licenses.allow.iter().map(String::as_str).collect();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or("?");
        let verdict = match package["license"].as_str() {
            Some(expression) => is_allowed(expression, &allowed)
                .with_context(|| format!("licence of {name}"))?
                .then_some(())
                .ok_or_else(|| {
                    format!("{name} is licensed `{expression}`, which deny.toml does not allow")
                }),
            None => Err(format!("{name} names no licence")),
        };
        if let Err(text) = verdict {
            findings.push(Finding::new(Path::new(FILE), 0, "licence", text));
        }
    }
    sources(tree.text("Cargo.lock").unwrap_or_default(), findings);
    Ok(())
}

/// Cargo.lock names the dependencies of all platforms.
fn sources(lock: &str, findings: &mut Vec<Finding>) {
    let registry = format!("{}{}", REGISTRY.0, REGISTRY.1);
    for (number, line) in lock.lines().enumerate() {
        let source = line.strip_prefix("source = \"").and_then(|rest| rest.strip_suffix('"'));
        if let Some(source) = source.filter(|source| *source != registry) {
            let text =
                format!("a dependency comes from {source}: only the crates registry may be used");
            findings.push(Finding::new(Path::new("Cargo.lock"), number + 1, "source", text));
        }
    }
}

/// Whether an SPDX expression can be met with these licences.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> Result<bool> {
    // Crates older than SPDX wrote `MIT/Apache-2.0`.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { rest: &words, allowed };
    let verdict = reader.any()?;
    match reader.rest.first() {
        None => Ok(verdict),
        Some(word) => bail!("`{expression}` has `{word}` where it should end"),
    }
}

struct Reader<'a> {
    rest: &'a [&'a str],
    allowed: &'a BTreeSet<&'a str>,
}

impl<'a> Reader<'a> {
    fn eat(&mut self, word: &str) -> bool {
        let is_there = self.rest.first() == Some(&word);
        if is_there {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        is_there
    }

    fn any(&mut self) -> Result<bool> {
        let mut verdict = self.all()?;
        while self.eat("OR") {
            verdict |= self.all()?;
        }
        Ok(verdict)
    }

    fn all(&mut self) -> Result<bool> {
        let mut verdict = self.one()?;
        while self.eat("AND") {
            verdict &= self.one()?;
        }
        Ok(verdict)
    }

    fn one(&mut self) -> Result<bool> {
        if self.eat("(") {
            let verdict = self.any()?;
            anyhow::ensure!(self.eat(")"), "an opened bracket is not closed");
            return Ok(verdict);
        }
        let name = self.name()?;
        if self.eat("WITH") {
            let exception = self.name()?;
            return Ok(self.allowed.contains(format!("{name} WITH {exception}").as_str()));
        }
        Ok(self.allowed.contains(name))
    }

    fn name(&mut self) -> Result<&'a str> {
        let name = self.rest.first().copied();
        let name = name.filter(|name| !["AND", "OR", "WITH", "(", ")"].contains(name));
        self.rest = self.rest.get(1..).unwrap_or_default();
        name.context("a licence name is missing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree;
    use serde_json::json;

    fn allowed(expression: &str) -> Option<bool> {
        let list = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
        is_allowed(expression, &list.into_iter().collect()).ok()
    }

    #[test]
    fn expressions_are_judged_as_spdx_says() {
        assert_eq!(allowed("MIT OR GPL-3.0"), Some(true));
        assert_eq!(allowed("MIT AND GPL-3.0"), Some(false));
        assert_eq!(allowed("MIT AND (GPL-3.0 OR Apache-2.0)"), Some(true));
        assert_eq!(allowed("GPL-3.0 OR MIT AND GPL-2.0"), Some(false));
        assert_eq!(allowed("GPL-3.0/MIT"), Some(true));
        assert_eq!(allowed("Apache-2.0 WITH LLVM-exception"), Some(true));
        assert_eq!(allowed("MIT WITH LLVM-exception"), Some(false));
        for broken in ["", "(MIT", "MIT AND", "MIT Apache-2.0", "OR"] {
            assert_eq!(allowed(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_licence_or_a_source_that_is_not_allowed_is_found() {
        let lock = "source = \"git+https://example.org/x\"\n";
        let tree = tree(&[("deny.toml", "[licenses]\nallow = [\"MIT\"]\n"), ("Cargo.lock", lock)]);
        let metadata = json!({"packages": [
            {"name": "fine", "license": "MIT"},
            {"name": "copyleft", "license": "GPL-3.0"},
            {"name": "silent", "license": null},
        ]});
        let mut findings = Vec::new();
        look(&metadata, &tree, &mut findings).expect("deny.toml parses");
        let rules: Vec<&str> = findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, ["licence", "licence", "source"]);
    }

    #[test]
    fn the_crates_registry_is_a_source() {
        let mut findings = Vec::new();
        sources(&format!("source = \"{}{}\"\n", REGISTRY.0, REGISTRY.1), &mut findings);
        assert_eq!(findings, []);
    }
}
