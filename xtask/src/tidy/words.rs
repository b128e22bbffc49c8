//! Words, calls and file names that may not appear, each with its reason. In: a file. Out: where
//! they stand.

use std::path::Path;

use super::source::{Source, find_word};
use super::{Finding, Tree};

/// Which part of a file a rule reads.
#[derive(Clone, Copy)]
enum View {
    Code,
    /// Code and strings: for SQL.
    Literals,
}

/// Which lines a rule reads.
#[derive(Clone, Copy)]
enum Scope {
    Everywhere,
    /// Not in test code.
    Product,
    /// Only in test code.
    Tests,
    /// Only in files below the first folder, but not in those whose path starts with the second.
    Below(&'static str, &'static str),
}

struct Rule {
    name: &'static str,
    words: &'static [&'static str],
    view: View,
    scope: Scope,
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        name: "unwrap",
        // A parser's own `expect(b':', ..)` is another thing: ours take a text.
        words: &[
            ".unwrap()",
            ".unwrap_err()",
            ".expect(\"",
            ".expect(&",
            ".expect(\n",
            ".expect_err(\"",
            ".expect_err(\n",
        ],
        view: View::Code,
        scope: Scope::Product,
        reason: "a panic ends every pipeline: return an error, or assert an invariant by number",
    },
    Rule {
        name: "unfinished",
        words: &["todo!", "unimplemented!"],
        view: View::Code,
        scope: Scope::Everywhere,
        reason: "what is not built is refused by name and stands in docs/gaps.md",
    },
    Rule {
        name: "ignore",
        words: &["#[ignore"],
        view: View::Code,
        scope: Scope::Everywhere,
        reason: "a test that does not run proves nothing: long ones ask for WALPOST_LONG",
    },
    Rule {
        name: "should-panic",
        words: &["#[should_panic"],
        view: View::Code,
        scope: Scope::Everywhere,
        reason: "it passes for any panic: catch it and look at the message",
    },
    Rule {
        name: "sleep",
        words: &["thread::sleep", "time::sleep", "time::sleep_until"],
        view: View::Code,
        scope: Scope::Tests,
        reason: "register the waiter before the act and wait with a deadline",
    },
    Rule {
        name: "unsafe",
        words: &["unsafe"],
        view: View::Code,
        scope: Scope::Everywhere,
        reason: "no crate here needs it",
    },
    Rule {
        name: "boxed-error",
        words: &["Result<(), Box<dyn", ", Box<dyn Error", ", Box<dyn std::error::Error"],
        view: View::Code,
        scope: Scope::Product,
        reason: "a caller cannot tell what happened: one enum per room",
    },
    Rule {
        name: "slot-advance",
        words: &["pg_replication_slot_advance"],
        view: View::Literals,
        scope: Scope::Below("relay/", "relay/src/catch_up"),
        reason: "only a confirmed position may move the slot, and only feedback sends it",
    },
];

/// Marks of unfinished work; each needs an entry in docs/gaps.md: `MARK(entry)`.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// File names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] =
    ["utils.rs", "util.rs", "common.rs", "helpers.rs", "manager.rs", "misc.rs"];

/// Hosts of package registries, in halves so that this file does not hold them. Ordinary clients
/// know their own.
const HOSTS: [(&str, &str); 12] = [
    ("crates", ".io"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("repo.maven", ".apache.org"),
    ("repo1.maven", ".org"),
    ("search.maven", ".org"),
    ("registry.npmjs", ".org"),
    ("deb.debian", ".org"),
    ("archive.ubuntu", ".com"),
    ("proxy.golang", ".org"),
    ("registry-1.docker", ".io"),
    ("apt.postgresql", ".org"),
];

pub(super) fn look(source: &Source, tree: &Tree, findings: &mut Vec<Finding>) {
    for rule in RULES {
        let lines = match rule.view {
            View::Code => &source.code,
            View::Literals => &source.literals,
        };
        for (number, line) in lines.iter().enumerate() {
            let line = format!("{line}\n");
            let word = rule.words.iter().find(|word| find_word(&line, word).is_some());
            let Some(word) = word else { continue };
            if rule.scope.holds(source, number) && !source.allows(number, rule.name) {
                let text = format!("`{}`: {}", word.trim_end(), rule.reason);
                findings.push(Finding::new(&source.path, number + 1, rule.name, text));
            }
        }
    }
    marks(source, tree.text("docs/gaps.md").unwrap_or_default(), findings);
    file_name(&source.path, findings);
}

impl Scope {
    fn holds(self, source: &Source, line: usize) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Product => !source.is_test(line),
            // A benchmark keeps a pace and samples; it waits for no event by sleeping.
            Self::Tests => source.is_test(line) && !source.path.starts_with("benches"),
            Self::Below(folder, except) => {
                let path = source.path.to_string_lossy();
                path.starts_with(folder) && !path.starts_with(except)
            }
        }
    }
}

fn marks(source: &Source, gaps: &str, findings: &mut Vec<Finding>) {
    for (number, line) in source.comments.iter().enumerate() {
        for mark in MARKS {
            let Some(at) = find_word(line, mark) else {
                continue;
            };
            let entry = line
                .get(at + mark.len()..)
                .and_then(|rest| rest.strip_prefix('('))
                .and_then(|rest| rest.split_once(')'))
                .map(|(entry, _)| entry.trim());
            if !entry.is_some_and(|entry| !entry.is_empty() && gaps.contains(entry)) {
                let text = format!(
                    "`{mark}` without an entry: write {mark}(name) and name it in docs/gaps.md"
                );
                findings.push(Finding::new(&source.path, number + 1, "mark", text));
            }
        }
    }
}

fn file_name(path: &Path, findings: &mut Vec<Finding>) {
    let name = path.file_name().and_then(|name| name.to_str());
    if let Some(name) = name.filter(|name| EMPTY_NAMES.contains(name)) {
        let text = format!("`{name}` says nothing about what is inside: name it after its noun");
        findings.push(Finding::new(path, 0, "file-name", text));
    }
}

/// Registry hosts, in every text file but cargo's own lock file.
pub(super) fn hosts(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.texts.iter().filter(|(path, _)| !path.ends_with("Cargo.lock")) {
        for (number, line) in text.lines().enumerate() {
            for (first, second) in HOSTS {
                if line.contains(&format!("{first}{second}")) {
                    let text = format!(
                        "names the package registry {first}: fetch through its ordinary client"
                    );
                    findings.push(Finding::new(path, number + 1, "registry-host", text));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree;

    fn rules_with(path: &str, text: &str, gaps: &str) -> Vec<&'static str> {
        let tree = tree(&[(path, text), ("docs/gaps.md", gaps)]);
        let mut findings = Vec::new();
        tree.sources.iter().for_each(|source| look(source, &tree, &mut findings));
        hosts(&tree, &mut findings);
        findings.into_iter().map(|finding| finding.rule).collect()
    }

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        rules_with(path, text, "# Gaps\n")
    }

    #[test]
    fn every_rule_fires_on_its_words_and_not_on_a_comment() {
        for rule in RULES {
            let path = match rule.scope {
                Scope::Tests => "tests/src/a.rs",
                _ => "relay/src/a.rs",
            };
            for word in rule.words {
                let found = rules(path, &format!("x {word} y\n"));
                assert!(found.contains(&rule.name), "{word}");
                assert_eq!(rules(path, &format!("// x {word} y\n")), [""; 0], "{word}");
                let allowed = format!("// tidy: allow {}: shown here\nx {word} y\n", rule.name);
                assert!(!rules(path, &allowed).contains(&rule.name), "{word}");
            }
        }
    }

    #[test]
    fn test_code_may_unwrap_and_product_code_may_sleep() {
        assert_eq!(rules("tests/src/a.rs", "x.unwrap();"), [""; 0]);
        assert_eq!(rules("relay/src/a.rs", "#[cfg(test)]\nmod t { x.unwrap(); }"), [""; 0]);
        assert_eq!(rules("relay/src/a.rs", "tokio::time::sleep(x)"), [""; 0]);
        assert_eq!(rules("relay/src/a.rs", "x.unwrap_or_default()"), [""; 0]);
        assert_eq!(rules("relay/src/a.rs", "cursor.expect(b':', \"x\")?"), [""; 0]);
    }

    #[test]
    fn sql_in_a_string_is_read() {
        let text = "f(\"select pg_replication_slot_advance()\")";
        assert_eq!(rules("relay/src/wal/slot.rs", text), ["slot-advance"]);
        assert_eq!(rules("relay/src/catch_up/copy.rs", text), [""; 0]);
        assert_eq!(rules("tests/src/slot.rs", text), [""; 0]);
    }

    #[test]
    fn a_mark_needs_its_entry() {
        let mark = MARKS[0];
        assert_eq!(rules("relay/src/a.rs", &format!("// {mark}: later")), ["mark"]);
        let text = format!("// {mark}(proto2): later");
        assert_eq!(rules_with("relay/src/a.rs", &text, "# Gaps\n"), ["mark"]);
        assert_eq!(rules_with("relay/src/a.rs", &text, "- proto2: waits\n"), [""; 0]);
    }

    #[test]
    fn an_empty_file_name_is_found() {
        assert_eq!(rules("relay/src/helpers.rs", ""), ["file-name"]);
        assert_eq!(rules("relay/src/slot.rs", ""), [""; 0]);
    }

    #[test]
    fn a_registry_host_is_found_in_any_file() {
        let (first, second) = HOSTS[0];
        let text = format!("see https://{first}{second}/x\n");
        assert_eq!(rules("docs/a.md", &text), ["registry-host"]);
        assert_eq!(rules("Cargo.lock", &text), [""; 0]);
        assert_eq!(rules("docs/a.md", "see the registry\n"), [""; 0]);
    }
}
