//! Documents: that they exist, hang together and follow the code. In: the text files. Out: what is
//! missing or stale.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::functions::functions;
use super::source::Source;
use super::{Finding, Tree};
use crate::fetch::hex;

/// A document is owed once what it describes exists.
const OWED: [(&str, &str); 8] = [
    ("docs/gaps.md", "Cargo.toml"),
    ("ARCHITECTURE.md", "relay/src/main.rs"),
    ("README.md", "relay/src/main.rs"),
    ("docs/glossary.md", "relay/src/main.rs"),
    ("docs/guarantees.md", "relay/src/confirm.rs"),
    ("docs/wire-format.md", "schema/src/envelope.rs"),
    ("docs/operations.md", "relay/src/main.rs"),
    ("CHANGELOG.md", "relay/src/main.rs"),
];

/// Where the codes of operator-visible errors are, and where their pages are.
pub(super) const CODES: [&str; 2] = ["relay/src/error.rs", "relay/src/kafka.rs"];
const PAGES: &str = "docs/errors";

/// The code that decides the wire format, and the page that must be read again when it changes.
const ENVELOPE: &str = "schema/src/envelope.rs";
const WIRE_FORMAT: &str = "docs/wire-format.md";

pub(super) fn look(tree: &Tree, findings: &mut Vec<Finding>) {
    for (document, subject) in OWED {
        if tree.text(subject).is_some() && tree.text(document).is_none() {
            let text = format!("is missing, although {subject} exists");
            findings.push(Finding::new(Path::new(document), 0, "document", text));
        }
    }
    error_pages(tree, findings);
    wire_format(tree, findings);
    for (path, text) in &tree.texts {
        if path.extension().is_some_and(|extension| extension == "md") {
            links(tree, path, text, findings);
            headings(path, text, findings);
        }
    }
}

/// One page for each error code, and no page for a code that is gone.
fn error_pages(tree: &Tree, findings: &mut Vec<Finding>) {
    let is_theirs = |path: &Path| CODES.iter().any(|code| path == Path::new(code));
    let sources: Vec<_> = tree.sources.iter().filter(|source| is_theirs(&source.path)).collect();
    if sources.is_empty() {
        return;
    }
    let codes: BTreeSet<&str> = sources.into_iter().flat_map(codes_in).collect();
    for code in codes.iter().filter(|code| is_snake_case(code)) {
        let page = format!("{PAGES}/{code}.md");
        if tree.text(&page).is_none() {
            let text = format!("is missing, although there is an error with the code `{code}`");
            findings.push(Finding::new(Path::new(&page), 0, "error-page", text));
        }
    }
    let pages = tree.texts.iter().filter(|(path, _)| path.parent() == Some(Path::new(PAGES)));
    for (path, _) in pages {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if name != "README" && !codes.contains(name) {
            let text = format!("no error has the code `{name}` (any more)");
            findings.push(Finding::new(path, 0, "error-page", text));
        }
    }
}

/// The texts in functions called `code` or `.._code`.
fn codes_in(source: &Source) -> Vec<&str> {
    let gives_codes = |name: &str| name == "code" || name.ends_with("_code");
    let bodies = functions(source).into_iter().filter(|function| gives_codes(&function.name));
    let lines = bodies.flat_map(|body| body.first..=body.last);
    let texts = lines.filter_map(|line| source.literals.get(line));
    texts.flat_map(|text| text.split('"').skip(1).step_by(2)).collect()
}

pub(super) fn is_snake_case(code: &str) -> bool {
    let fits =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    !code.is_empty() && code.chars().all(fits)
}

/// The page carries the digest of the code it was last compared with.
fn wire_format(tree: &Tree, findings: &mut Vec<Finding>) {
    let (Some(code), Some(page)) = (tree.text(ENVELOPE), tree.text(WIRE_FORMAT)) else {
        return;
    };
    let digest: String = hex(&Sha256::digest(code)).chars().take(16).collect();
    let mark = format!("<!-- {ENVELOPE} {digest} -->");
    if !page.contains(&mark) {
        let text = format!(
            "{ENVELOPE} changed: compare the page with it, then put `{mark}` into the page"
        );
        findings.push(Finding::new(Path::new(WIRE_FORMAT), 0, "wire-format", text));
    }
}

/// Lines of prose, without fenced code and without `code spans`, counted from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut is_fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            return None;
        }
        let spans: Vec<&str> = line.split('`').collect();
        // An odd number of ticks closes nothing: the line is taken as it is.
        let text = if spans.len() % 2 == 1 {
            spans.into_iter().step_by(2).collect()
        } else {
            line.to_owned()
        };
        (!is_fenced).then_some((number + 1, text))
    })
}

/// Relative links lead to a file of the checkout.
fn links(tree: &Tree, path: &Path, text: &str, findings: &mut Vec<Finding>) {
    for (line, text) in prose(text) {
        for part in text.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let resolved = resolve(path, file);
            if !resolved.is_some_and(|file| file.as_os_str().is_empty() || tree.has(&file)) {
                findings.push(Finding::new(
                    path,
                    line,
                    "link",
                    format!("`{target}` leads nowhere"),
                ));
            }
        }
    }
}

/// A link's target from the root of the checkout; none when it leads out of it.
fn resolve(from: &Path, link: &str) -> Option<PathBuf> {
    let base = if link.starts_with('/') { Path::new("") } else { from.parent()? };
    let mut file = PathBuf::new();
    for part in base.join(link.trim_start_matches('/')).components() {
        match part {
            Component::ParentDir => file.pop().then_some(())?,
            Component::Normal(name) => file.push(name),
            _ => {}
        }
    }
    Some(file)
}

fn headings(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    let count = prose(text).filter(|(_, line)| line.starts_with("# ")).count();
    if count != 1 {
        let text = format!("has {count} headings of the first level, a page has one");
        findings.push(Finding::new(path, 0, "heading", text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree;

    fn rules(files: &[(&str, &str)]) -> Vec<&'static str> {
        let mut findings = Vec::new();
        look(&tree(files), &mut findings);
        findings.into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_document_is_owed_once_its_subject_exists() {
        assert_eq!(rules(&[("schema/src/lib.rs", "")]), [""; 0]);
        assert_eq!(rules(&[("schema/src/envelope.rs", "")]), ["document"]);
    }

    #[test]
    fn each_error_code_has_its_page_and_each_page_its_code() {
        let code =
            "impl E { fn code(&self) -> &'static str {\n match self { A => \"slot_lost\", } } }";
        assert_eq!(rules(&[(CODES[0], code)]), ["error-page"]);
        assert_eq!(rules(&[(CODES[0], code), ("docs/errors/slot_lost.md", "# a\n")]), [""; 0]);
        let pages = [("docs/errors/slot_lost.md", "# a\n"), ("docs/errors/gone.md", "# a\n")];
        assert_eq!(rules(&[(CODES[0], code), pages[0], pages[1]]), ["error-page"]);
    }

    #[test]
    fn the_wire_format_page_follows_the_code() {
        let digest: String = hex(&Sha256::digest("x")).chars().take(16).collect();
        let page = format!("# Wire format\n<!-- {ENVELOPE} {digest} -->\n");
        assert_eq!(rules(&[(ENVELOPE, "x"), (WIRE_FORMAT, &page)]), [""; 0]);
        assert_eq!(rules(&[(ENVELOPE, "y"), (WIRE_FORMAT, &page)]), ["wire-format"]);
    }

    #[test]
    fn relative_links_resolve() {
        let page = |link: &str| format!("# a\n[x]({link})\n");
        let check = |link: &str| {
            rules(&[("docs/a.md", &page(link)), ("docs/adr/b.md", "# b\n"), ("c.rs", "")])
        };
        for good in ["adr/b.md", "adr", "../c.rs#L3", "#a", "https://example.org", "a.md", ".."] {
            assert_eq!(check(good), [""; 0], "{good}");
        }
        for bad in ["b.md", "../../c.rs", "adr/c.md"] {
            assert_eq!(check(bad), ["link"], "{bad}");
        }
        assert_eq!(rules(&[("a.md", "# a\n```\n[x](no.md)\n# b\n```\n`[x](no.md)`\n")]), [""; 0]);
    }

    #[test]
    fn a_page_has_one_heading_of_the_first_level() {
        assert_eq!(rules(&[("a.md", "## a\n")]), ["heading"]);
        assert_eq!(rules(&[("a.md", "# a\n# b\n")]), ["heading"]);
    }
}
