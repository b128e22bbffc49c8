//! The table of faults. In: the functions that give an error its class and its code, and the page.
//! Out: rows that are missing, or that say something else than the code.
//!
//! A variant is classified in functions called `fault` or `.._fault` (`E::Away => Fault::Stop`) and
//! named in functions called `code` or `.._code` (`E::Away => "away"`). What an operator sees
//! follows from the class, and stands in the page once for each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::documents::{CODES, is_snake_case};
use super::functions::functions;
use super::source::Source;
use super::{Finding, Tree};

const PAGE: &str = "docs/operations.md";

/// Errors that get their class as a whole, by the variant that holds them.
const HELD: [(&str, &str); 6] = [
    ("EncodeError", "EventFault::Encode"),
    ("SchemaError", "EventFault::Encode"),
    ("HeadersError", "EventFault::Encode"),
    ("RouteError", "EventFault::Route"),
    ("LotError", "SourceError::Lot"),
    ("PositionHistory", "SourceError::PositionMissing"),
];

/// What a function without variants names ends the source; a variant without class is a mistake.
const WITHOUT_VARIANTS: &str = "Stop";
const UNCLASSIFIED: &str = "unclassified";

type Values = BTreeMap<String, BTreeSet<String>>;

pub(super) fn look(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(page) = tree.text(PAGE) else { return };
    let classes = classes_of_codes(tree);
    let rows: BTreeMap<&str, (usize, &str)> = rows(page).collect();
    for (code, classes) in &classes {
        let wanted = classes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let (line, text) = match rows.get(code.as_str()) {
            None => (0, format!("has no row for the fault `{code}`, which is `{wanted}`")),
            Some((line, said)) if *said != wanted => {
                (*line, format!("`{code}` is `{wanted}` and not `{said}`"))
            }
            Some(_) => continue,
        };
        findings.push(Finding::new(Path::new(PAGE), line, "fault", text));
    }
    for (code, (line, _)) in rows.iter().filter(|(code, _)| !classes.contains_key(**code)) {
        let text = format!("no error has the code `{code}` (any more)");
        findings.push(Finding::new(Path::new(PAGE), *line, "fault", text));
    }
}

/// Rows that begin with the link to an error's page: code, line and second column.
fn rows(page: &str) -> impl Iterator<Item = (&str, (usize, &str))> {
    page.lines().enumerate().filter_map(|(number, line)| {
        let (code, rest) = line.strip_prefix("| [")?.split_once("](errors/")?;
        let class = rest.split('|').nth(1)?.trim();
        Some((code, (number + 1, class)))
    })
}

/// Each code with the classes of the variants that have it.
fn classes_of_codes(tree: &Tree) -> Values {
    let (mut classes, mut codes) = (Values::new(), Values::new());
    let is_theirs = |path: &Path| CODES.iter().any(|code| path == Path::new(code));
    for source in tree.sources.iter().filter(|source| is_theirs(&source.path)) {
        for function in functions(source) {
            let to = match function.name.rsplit('_').next() {
                Some("fault") => &mut classes,
                Some("code") => &mut codes,
                _ => continue,
            };
            let lines = source.literals.get(function.first..=function.last).unwrap_or_default();
            let owner = owner(source, function.first);
            read_arms(&lines.join("\n"), &owner, to);
        }
    }
    let mut found = Values::new();
    for (variant, names) in codes {
        let of_variant = classes_of(&variant, &classes);
        for code in names.into_iter().filter(|code| is_snake_case(code)) {
            found.entry(code).or_default().extend(of_variant.iter().cloned());
        }
    }
    found
}

fn classes_of(variant: &str, classes: &Values) -> BTreeSet<String> {
    let error = variant.split("::").next().unwrap_or_default();
    let holder = HELD.iter().find(|(held, _)| *held == error).map(|(_, holder)| *holder);
    let found = classes.get(variant).or_else(|| classes.get(holder?));
    let default = if variant.is_empty() { WITHOUT_VARIANTS } else { UNCLASSIFIED };
    found.cloned().unwrap_or_else(|| BTreeSet::from([default.to_owned()]))
}

/// The type whose `impl` a function stands in.
fn owner(source: &Source, line: usize) -> String {
    let above = source.code.get(..line).unwrap_or_default().iter().rev();
    let mut heads = above.filter_map(|line| line.strip_prefix("impl ")?.strip_suffix(" {"));
    heads.next().unwrap_or_default().to_owned()
}

/// Reads the arms of a function: variants, an arrow, and a class or a text.
fn read_arms(text: &str, owner: &str, to: &mut Values) {
    let mut open: Vec<String> = Vec::new();
    let mut is_arrow_seen = false;
    for token in tokens(text) {
        match token {
            Token::Arrow => is_arrow_seen = true,
            Token::Path { held, name } => {
                if is_arrow_seen {
                    // The arm before led to another function.
                    open.clear();
                    is_arrow_seen = false;
                }
                if held {
                    // `A::B(C::D)` is about `C::D`.
                    open.pop();
                }
                open.push(name.replace("Self::", &format!("{owner}::")));
            }
            Token::Value(value) => {
                if open.is_empty() {
                    open.push(String::new());
                }
                for variant in open.drain(..) {
                    to.entry(variant).or_default().insert(value.clone());
                }
                is_arrow_seen = false;
            }
        }
    }
}

enum Token {
    Arrow,
    /// `held`: directly inside the brackets of the one before.
    Path {
        held: bool,
        name: String,
    },
    /// A class, or what stands in quotes.
    Value(String),
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut last = ' ';
    while let Some(letter) = rest.chars().next() {
        let word_end =
            rest.find(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter));
        let (word, behind) = rest.split_at(word_end.unwrap_or(rest.len()));
        if let Some(behind) = rest.strip_prefix("=>") {
            found.push(Token::Arrow);
            (rest, last) = (behind, '>');
        } else if letter == '"' {
            let (value, behind) = rest[1..].split_once('"').unwrap_or((&rest[1..], ""));
            found.push(Token::Value(value.to_owned()));
            (rest, last) = (behind, '"');
        } else if let Some(class) = word.strip_prefix("Fault::") {
            let peer = behind.strip_prefix("(Peer::").and_then(|peer| peer.split_once(')'));
            let value = peer.map_or(class.to_owned(), |(peer, _)| format!("{class}: {peer}"));
            found.push(Token::Value(value));
            (rest, last) = (peer.map_or(behind, |(_, behind)| behind), ' ');
        } else if is_variant(word) {
            found.push(Token::Path { held: last == '(', name: word.to_owned() });
            (rest, last) = (behind, ' ');
        } else {
            let step = word.len().max(letter.len_utf8());
            if !letter.is_whitespace() {
                last = letter;
            }
            rest = &rest[step..];
        }
    }
    found
}

/// `Type::Variant`, and not a function of a type.
fn is_variant(word: &str) -> bool {
    let starts_upper = |part: &str| part.starts_with(|letter: char| letter.is_ascii_uppercase());
    word.split_once("::").is_some_and(|(left, right)| starts_upper(left) && starts_upper(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree;

    const CODE: &str = "\
impl SourceError {
    fn fault(&self) -> Fault {
        match self {
            Self::Wal(error) => wal_fault(error),
            Self::Event { error } => match error {
                EventFault::Encode(_) => Fault::Park,
            },
            Self::Topic(TopicError::Record { .. } | TopicError::Policy)
            | Self::Phantoms => Fault::Stop,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Wal(error) => wal_code(error),
            Self::Topic(TopicError::Record { .. }) => \"unreadable\",
            Self::Topic(TopicError::Policy) | Self::Phantoms => \"ahead\",
            Self::Event { error } => match error {
                EventFault::Encode(EncodeError::Form) => \"payload_form\",
            },
        }
    }
}
pub fn broken_code() -> &'static str { \"broken\" }
fn wal_fault(error: &WalError) -> Fault {
    match error { WalError::Away | WalError::Lost => Fault::Retry(Peer::Postgres) }
}
fn wal_code(error: &WalError) -> &'static str {
    match error { WalError::Away | WalError::Lost => { \"away\" } }
}
";

    fn check(rows: &str) -> Vec<String> {
        let page = format!("# a\n{rows}");
        let mut findings = Vec::new();
        look(&tree(&[(CODES[0], CODE), (PAGE, &page)]), &mut findings);
        findings.into_iter().map(|finding| finding.text).collect()
    }

    const ROWS: &str = "\
| [ahead](errors/ahead.md) | Stop | x |
| [away](errors/away.md) | Retry: Postgres | x |
| [broken](errors/broken.md) | Stop | x |
| [payload_form](errors/payload_form.md) | Park | x |
| [unreadable](errors/unreadable.md) | Stop | x |
";

    #[test]
    fn each_fault_has_a_row_with_its_class() {
        assert_eq!(check(ROWS), [""; 0]);
    }

    #[test]
    fn a_row_that_is_missing_wrong_or_left_over_is_named() {
        let missing = ROWS.replace("| [broken]", "| broken");
        assert_eq!(check(&missing), ["has no row for the fault `broken`, which is `Stop`"]);
        let wrong = ROWS.replace("Retry: Postgres", "Retry: Kafka");
        assert_eq!(check(&wrong), ["`away` is `Retry: Postgres` and not `Retry: Kafka`"]);
        let more = format!("{ROWS}| [gone](errors/gone.md) | Stop | x |\n");
        assert_eq!(check(&more), ["no error has the code `gone` (any more)"]);
    }
}
