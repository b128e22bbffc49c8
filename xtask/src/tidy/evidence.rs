//! Tests that a page names as what shows a claim. In: the pages and the code. Out: names that no
//! test has, or that stand in another file than the page says.
//!
//! A name counts where it stands in the last column of a table whose head says `shown by`, and
//! before its path: `` `name` (`tests/it/order.rs`) `` or `` `name` in `tests/it/order.rs` ``.

use std::path::Path;

use super::functions::functions;
use super::source::Source;
use super::{Finding, Tree};

const PAGES: [&str; 3] = ["docs/guarantees.md", "docs/operations.md", "tests/README.md"];

const COLUMN: &str = "shown by";

pub(super) fn look(tree: &Tree, findings: &mut Vec<Finding>) {
    for page in PAGES {
        let Some(text) = tree.text(page) else { continue };
        let tests = Tests::of(tree);
        let mut is_evidence = false;
        for (number, line) in text.lines().enumerate() {
            let cell = last_cell(line);
            is_evidence = cell.is_some_and(|cell| is_evidence || cell == COLUMN);
            let mut report = |text| {
                findings.push(Finding::new(Path::new(page), number + 1, "evidence", text));
            };
            for name in cell.filter(|_| is_evidence).into_iter().flat_map(names) {
                if !tests.has(name, "") {
                    report(format!("no test is called `{name}`"));
                }
            }
            for (name, place) in placed(line) {
                if !tests.has(name, place) {
                    report(format!("no test is called `{name}` in {place}"));
                }
            }
        }
    }
}

/// The last column of a table's row.
fn last_cell(line: &str) -> Option<&str> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    row.rsplit('|').next().map(str::trim)
}

/// Words in ticks that can be names of tests; paths are none.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|word| is_name(word))
}

fn is_name(word: &str) -> bool {
    let fits =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    word.contains('_') && word.chars().all(fits)
}

/// Names with the file or folder that follows them in brackets.
fn placed(line: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = line.split('`').collect();
    let mut found = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    for pair in parts.chunks(2) {
        let [between, word] = pair else { continue };
        if matches!(*between, " (" | " in ") && word.contains('/') {
            found.extend(open.drain(..).map(|name| (name, *word)));
        } else if is_name(word) {
            if !matches!(*between, ", " | " and ") {
                open.clear();
            }
            open.push(word);
        } else {
            open.clear();
        }
    }
    found
}

/// The tests of the checkout: file and name.
struct Tests<'a>(Vec<(&'a Path, String)>);

impl<'a> Tests<'a> {
    fn of(tree: &'a Tree) -> Self {
        let of_file = |source: &'a Source| {
            let tests = functions(source).into_iter();
            let tests = tests.filter(|function| is_test(source, function.first));
            tests.map(|function| (source.path.as_path(), function.name))
        };
        Self(tree.sources.iter().flat_map(of_file).collect())
    }

    fn has(&self, name: &str, place: &str) -> bool {
        self.0.iter().any(|(file, test)| test == name && file.starts_with(place))
    }
}

/// Whether one of the attributes above says so.
fn is_test(source: &Source, first: usize) -> bool {
    let above = source.code.get(..first).unwrap_or_default().iter().rev();
    let mut attributes = above.map(|line| line.trim()).take_while(|line| {
        // What is a comment there is blank here.
        line.is_empty() || line.starts_with("#[") || line.ends_with(")]")
    });
    attributes.any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree;

    const CODE: (&str, &str) = (
        "tests/it/order.rs",
        "#[test]\n/// Why.\nfn it_is_kept() {}\n\nfn no_test() {}\n\
         #[tokio::test]\nasync fn a_b() {}",
    );

    fn check(line: &str) -> usize {
        let text = format!("# a\n\n| promise | shown by |\n|---|---|\n{line}\n");
        let mut findings = Vec::new();
        look(&tree(&[CODE, ("docs/guarantees.md", &text)]), &mut findings);
        findings.len()
    }

    #[test]
    fn a_named_test_is_in_the_code() {
        assert_eq!(check("| `x_y` | `it_is_kept`, `a_b` (`tests/it/order.rs`) |"), 0);
        assert_eq!(check("| x | `it_is_kept`, `tests/it` |"), 0);
        assert_eq!(check("| x | `it_was_kept` |"), 1);
        assert_eq!(check("| x | `no_test` |"), 1);
    }

    #[test]
    fn a_named_test_is_where_the_page_says() {
        assert_eq!(check("\nTest: `it_is_kept` and `a_b` (`tests/it/order.rs`)."), 0);
        assert_eq!(check("\nTest: `it_is_kept`, `gone_b` (`tests/it/order.rs`)."), 1);
        assert_eq!(check("\nTest: `it_is_kept` (`tests/it/faults.rs`)."), 1);
        assert_eq!(check("\nThe metric `some_total` and (`tests/it/order.rs`)."), 0);
    }
}
