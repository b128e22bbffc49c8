//! Arrows between crates. In: what cargo says of the workspace. Out: dependencies against the
//! arrows below, and crates that do not take the workspace's lints.

use std::path::Path;

use serde_json::Value;

use super::{Finding, Tree};

/// The crates that are shipped, each with those of them it may use.
const ARROWS: [(&str, &[&str]); 4] = [
    ("walpost", &["walpost-outbox", "walpost-schema"]),
    ("walpost-inbox", &["walpost-outbox", "walpost-schema"]),
    ("walpost-outbox", &["walpost-schema"]),
    ("walpost-schema", &[]),
];

/// Crates that use the shipped ones and are used by none of them.
const AROUND: [&str; 3] = ["walpost-tests", "walpost-benches", "xtask"];

const REASON: &str =
    "relay -> outbox, schema; inbox -> outbox, schema; outbox -> schema; nothing else";

pub(super) fn look(metadata: &Value, tree: &Tree, findings: &mut Vec<Finding>) {
    let file = Path::new("Cargo.toml");
    for package in packages(metadata) {
        let Some((name, allowed)) = ARROWS.iter().find(|(name, _)| package["name"] == *name) else {
            continue;
        };
        for dependency in dependencies(package) {
            let is_ours = ARROWS.iter().any(|(other, _)| *other == dependency)
                || AROUND.contains(&dependency);
            if is_ours && !allowed.contains(&dependency) {
                let text = format!("{name} uses {dependency}, but the arrows are: {REASON}");
                findings.push(Finding::new(file, 0, "crate-arrow", text));
            }
        }
    }
    lints(tree, findings);
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn dependencies(package: &Value) -> impl Iterator<Item = &str> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.filter_map(|dependency| dependency["name"].as_str())
}

/// Each crate takes the workspace's lints, and these forbid unsafe code.
fn lints(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let Ok(manifest) = text.parse::<toml::Table>() else {
            findings.push(Finding::new(path, 0, "lints", "does not parse"));
            continue;
        };
        if path == Path::new("Cargo.toml") {
            let level = at(&manifest, &["workspace", "lints", "rust", "unsafe_code"]);
            if level.and_then(toml::Value::as_str) != Some("forbid") {
                findings.push(Finding::new(
                    path,
                    0,
                    "lints",
                    "[workspace.lints.rust] unsafe_code is not forbid",
                ));
            }
        } else if at(&manifest, &["lints", "workspace"]).and_then(toml::Value::as_bool)
            != Some(true)
        {
            findings.push(Finding::new(
                path,
                0,
                "lints",
                "lacks [lints] workspace = true: unsafe code would pass",
            ));
        }
    }
}

fn at<'a>(table: &'a toml::Table, keys: &[&str]) -> Option<&'a toml::Value> {
    let (first, rest) = keys.split_first()?;
    rest.iter().try_fold(table.get(*first)?, |value, key| value.get(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree;
    use serde_json::json;

    fn findings(name: &str, uses: &str, manifest: &str) -> Vec<String> {
        let metadata = json!({"packages": [{"name": name, "dependencies": [{"name": uses}]}]});
        let mut findings = Vec::new();
        look(&metadata, &tree(&[("relay/Cargo.toml", manifest)]), &mut findings);
        findings.into_iter().map(|finding| finding.rule.to_owned()).collect()
    }

    const LINTED: &str = "[lints]\nworkspace = true\n";

    #[test]
    fn an_arrow_that_is_not_drawn_is_found() {
        assert_eq!(findings("walpost", "walpost-schema", LINTED), [""; 0]);
        assert_eq!(findings("walpost", "serde", LINTED), [""; 0]);
        assert_eq!(findings("walpost-tests", "walpost-inbox", LINTED), [""; 0]);
        assert_eq!(findings("walpost", "walpost-inbox", LINTED), ["crate-arrow"]);
        assert_eq!(findings("walpost-schema", "walpost-outbox", LINTED), ["crate-arrow"]);
        assert_eq!(findings("walpost-outbox", "xtask", LINTED), ["crate-arrow"]);
    }

    #[test]
    fn a_crate_without_the_workspaces_lints_is_found() {
        assert_eq!(findings("a", "b", "[package]\nname = \"a\"\n"), ["lints"]);
        assert_eq!(findings("a", "b", "[lints]\nworkspace = false\n"), ["lints"]);
    }
}
