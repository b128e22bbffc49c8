//! Where functions begin and end. In: the code of a file. Out: name and lines of each function with
//! a body.

use super::source::{Source, is_word};

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// First line, counted from 0.
    pub(crate) first: usize,
    /// Last line.
    pub(crate) last: usize,
}

impl Function {
    pub(crate) fn lines(&self) -> usize {
        self.last - self.first + 1
    }
}

/// All functions of a file, inner ones too.
pub(crate) fn functions(source: &Source) -> Vec<Function> {
    let text = source.code.join("\n");
    let letters: Vec<char> = text.chars().collect();
    let mut line = 0;
    let mut found = Vec::new();
    for (at, letter) in letters.iter().enumerate() {
        if *letter == '\n' {
            line += 1;
        }
        let is_alone =
            at.checked_sub(1).and_then(|at| letters.get(at)).is_none_or(|l| !is_word(*l));
        if !is_alone || !letters.get(at..).unwrap_or_default().starts_with(&['f', 'n', ' ']) {
            continue;
        }
        let rest = letters.get(at + 3..).unwrap_or_default();
        let name: String = rest.iter().take_while(|letter| is_word(**letter)).collect();
        let end = body_end(rest).filter(|_| !name.is_empty());
        if let Some(end) = end {
            let breaks = rest.iter().take(end).filter(|letter| **letter == '\n').count();
            found.push(Function { name, first: line, last: line + breaks });
        }
    }
    found
}

/// Where the body closes; none for a declaration. Semicolons inside brackets (`[u8; 4]`) belong to
/// the signature.
fn body_end(rest: &[char]) -> Option<usize> {
    let mut brackets = 0_i32;
    let mut braces = 0_i32;
    for (at, letter) in rest.iter().enumerate() {
        match letter {
            '(' | '[' if braces == 0 => brackets += 1,
            ')' | ']' if braces == 0 => brackets -= 1,
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' => braces -= 1,
            _ => continue,
        }
        if *letter == '}' && braces == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_function_reaches_from_its_signature_to_its_brace() {
        let text = "fn a(x: [u8; 4])\n-> u8 {\n  if x { 1 } else { 2 }\n}\ntrait T { fn b(); }\n";
        let found = functions(&Source::read(Path::new("a.rs"), text));
        assert_eq!(found, [Function { name: "a".into(), first: 0, last: 3 }]);
        assert_eq!(found[0].lines(), 4);
    }

    #[test]
    fn a_function_pointer_is_no_function() {
        assert_eq!(functions(&Source::read(Path::new("a.rs"), "type F = fn (u8) -> u8;")), []);
    }
}
