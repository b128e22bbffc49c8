//! A Rust file, taken apart as far as the rules need. In: text. Out: views of equal shape: code
//! only, code with literals, comments only; and which lines are test code.
//!
//! This is a lexer, not a parser: it knows comments, strings and braces. Views keep every line and
//! column, so that a place in one is the same place in the others.

use std::path::{Path, PathBuf};

/// Folders whose code is all test code.
const TEST_FOLDERS: [&str; 4] = ["tests", "benches", "xtask", "examples"];

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) raw: Vec<String>,
    /// Comments and the insides of literals are blank.
    pub(crate) code: Vec<String>,
    /// Comments are blank.
    pub(crate) literals: Vec<String>,
    /// All but comments is blank.
    pub(crate) comments: Vec<String>,
    is_test: Vec<bool>,
}

impl Source {
    pub(crate) fn read(path: &Path, text: &str) -> Self {
        let kinds = kinds(text);
        let view = |keep: fn(Kind) -> bool| -> Vec<String> {
            let letters = text.chars().zip(&kinds);
            let kept = letters.map(
                |(letter, kind)| {
                    if keep(*kind) || letter == '\n' { letter } else { ' ' }
                },
            );
            kept.collect::<String>().lines().map(str::to_owned).collect()
        };
        let code = view(|kind| kind == Kind::Code);
        let is_test = test_lines(path, &code);
        Self {
            path: path.to_owned(),
            raw: text.lines().map(str::to_owned).collect(),
            literals: view(|kind| kind != Kind::Comment),
            comments: view(|kind| kind == Kind::Comment),
            code,
            is_test,
        }
    }

    /// Whether a line, counted from 0, is test code.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.is_test.get(line).copied().unwrap_or(false)
    }

    /// Whether this line, counted from 0, or the one above allows a rule, with a reason.
    pub(crate) fn allows(&self, line: usize, rule: &str) -> bool {
        let mark = format!("tidy: allow {rule}: ");
        let has_mark = |line: usize| {
            let found = self.comments.get(line).and_then(|text| text.split_once(&mark));
            found.is_some_and(|(_, reason)| !reason.trim().is_empty())
        };
        has_mark(line) || line.checked_sub(1).is_some_and(has_mark)
    }

    /// Whether the file says that it is a table made by a program.
    pub(crate) fn is_generated(&self) -> bool {
        self.comments.iter().take(10).any(|line| line.contains("tidy: generated table"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Literal,
    Comment,
}

/// The kind of each character. Quotes count as code, so that a blanked string is still seen to be
/// one.
fn kinds(text: &str) -> Vec<Kind> {
    let letters: Vec<char> = text.chars().collect();
    let mut kinds = Vec::with_capacity(letters.len());
    while kinds.len() < letters.len() {
        let at = kinds.len();
        let rest = letters.get(at..).unwrap_or_default();
        let before = at.checked_sub(1).and_then(|at| letters.get(at)).copied();
        match rest {
            ['/', '/', ..] => fill(&mut kinds, Kind::Comment, line_end(rest)),
            ['/', '*', ..] => fill(&mut kinds, Kind::Comment, block_end(rest)),
            ['"', ..] => quoted(&mut kinds, string_end(rest)),
            ['r', '"' | '#', ..] if !before.is_some_and(is_word) || before == Some('b') => {
                raw_string(&mut kinds, rest);
            }
            ['\'', '\\', ..] => quoted(&mut kinds, char_end(rest)),
            ['\'', letter, '\'', ..] if *letter != '\'' => quoted(&mut kinds, 3),
            _ => kinds.push(Kind::Code),
        }
    }
    kinds
}

fn fill(kinds: &mut Vec<Kind>, kind: Kind, count: usize) {
    kinds.resize(kinds.len() + count, kind);
}

fn quoted(kinds: &mut Vec<Kind>, count: usize) {
    fill(kinds, Kind::Code, 1);
    fill(kinds, Kind::Literal, count.saturating_sub(2));
    fill(kinds, Kind::Code, 1.min(count.saturating_sub(1)));
}

fn line_end(rest: &[char]) -> usize {
    rest.iter().position(|letter| *letter == '\n').unwrap_or(rest.len())
}

fn block_end(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(pair) = rest.get(at..at + 2) {
        match pair {
            ['/', '*'] => (depth, at) = (depth + 1, at + 2),
            ['*', '/'] => (depth, at) = (depth.saturating_sub(1), at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string_end(rest: &[char]) -> usize {
    escaped_end(rest, '"')
}

fn char_end(rest: &[char]) -> usize {
    escaped_end(rest, '\'')
}

fn escaped_end(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while let Some(letter) = rest.get(at) {
        match letter {
            '\\' => at += 2,
            letter if *letter == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"..."`, `r#"..."#`; `r#name` is an identifier.
fn raw_string(kinds: &mut Vec<Kind>, rest: &[char]) {
    let hashes = rest.iter().skip(1).take_while(|letter| **letter == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return fill(kinds, Kind::Code, 1 + hashes);
    }
    let open = 2 + hashes;
    let is_end = |at: &usize| {
        let tail = rest.get(*at..=*at + hashes).unwrap_or_default();
        tail.split_first()
            .is_some_and(|(quote, tail)| *quote == '"' && tail.iter().all(|h| *h == '#'))
            && tail.len() == hashes + 1
    };
    let end = (open..rest.len()).find(is_end).unwrap_or(rest.len());
    fill(kinds, Kind::Code, open);
    fill(kinds, Kind::Literal, end - open);
    fill(kinds, Kind::Code, (hashes + 1).min(rest.len() - end));
}

/// Whether a character may stand inside a name.
pub(crate) fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Where a word stands in a line, not as a part of a longer one.
pub(crate) fn find_word(line: &str, word: &str) -> Option<usize> {
    let first = word.chars().next()?;
    let last = word.chars().next_back()?;
    line.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = line.get(..*at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        let is_open =
            |edge: char, beyond: Option<char>| is_word(edge) && beyond.is_some_and(is_word);
        !is_open(first, before) && !is_open(last, after)
    })
}

/// Marks each item that stands under `#[cfg(test)]`, and every line of a test file.
fn test_lines(path: &Path, code: &[String]) -> Vec<bool> {
    let in_folder =
        path.components().any(|part| TEST_FOLDERS.iter().any(|name| part.as_os_str() == *name));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if in_folder || name == "tests.rs" || name.ends_with("_tests.rs") {
        return vec![true; code.len()];
    }
    let mut is_test = vec![false; code.len()];
    for (line, text) in code.iter().enumerate() {
        let is_mark = text.contains("#[cfg(test)]") || text.contains("#[test]");
        if is_mark && is_test.get(line) == Some(&false) {
            let end = item_end(code, line);
            is_test.iter_mut().take(end + 1).skip(line).for_each(|mark| *mark = true);
        }
    }
    is_test
}

/// The last line of the item that follows the attribute on this line.
fn item_end(code: &[String], line: usize) -> usize {
    let mut depth = 0_usize;
    for (number, text) in code.iter().enumerate().skip(line) {
        // The attribute itself holds neither braces nor semicolons.
        for letter in text.chars() {
            match letter {
                '{' => depth += 1,
                '}' if depth <= 1 => return number,
                '}' => depth -= 1,
                ';' if depth == 0 => return number,
                _ => {}
            }
        }
    }
    code.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::read(Path::new("relay/src/a.rs"), text).code.join("\n")
    }

    #[test]
    fn comments_and_literals_are_blank_in_the_code() {
        assert_eq!(code("a /* b /* c */ d */ e // f"), "a                   e     ");
        assert_eq!(code(r#"f("x\"y", 'z', '\'', b"w")"#), r#"f("    ", ' ', '  ', b" ")"#);
        assert_eq!(code("f(r#\"a\"b\"#, r\"c\")"), "f(r#\"   \"#, r\" \")");
    }

    #[test]
    fn lifetimes_and_raw_names_are_code() {
        assert_eq!(code("fn f<'a>(x: &'a str) { r#type }"), "fn f<'a>(x: &'a str) { r#type }");
    }

    #[test]
    fn an_unfinished_literal_ends_with_the_file() {
        for text in ["\"a", "'\\", "r#\"a", "/* a", "r#", "'"] {
            assert_eq!(kinds(text).len(), text.len(), "{text}");
        }
    }

    #[test]
    fn items_under_cfg_test_are_test_code() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n";
        let source = Source::read(Path::new("relay/src/a.rs"), text);
        let lines: Vec<bool> = (0..6).map(|line| source.is_test(line)).collect();
        assert_eq!(lines, [false, true, true, true, true, false]);
    }

    #[test]
    fn a_word_is_not_found_inside_another() {
        assert_eq!(find_word("unsafe_code unsafe", "unsafe"), Some(12));
        assert_eq!(find_word("x.unwrap_or(y)", ".unwrap()"), None);
    }

    #[test]
    fn an_allowance_needs_a_reason() {
        let text = "// tidy: allow sleep: the one poll\na\n// tidy: allow sleep: \nb\n";
        let source = Source::read(Path::new("a.rs"), text);
        assert!(source.allows(1, "sleep"));
        assert!(!source.allows(1, "unwrap"));
        assert!(!source.allows(3, "sleep"));
    }
}
