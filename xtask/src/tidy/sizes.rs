//! Sizes of files, functions and lines. In: a Rust file. Out: what is too large.

use super::functions::functions;
use super::source::Source;
use super::{Finding, Report};

/// A file this long should be looked at; one above the wall does not pass.
const FILE_LINES_REVIEW: usize = 400;
const FILE_LINES_MAX: usize = 700;
/// What fits on a screen.
const FUNCTION_LINES_MAX: usize = 70;
/// rustfmt keeps code inside; comments and literals are up to the writer.
const LINE_COLUMNS_MAX: usize = 100;

pub(super) fn look(source: &Source, report: &mut Report) {
    if source.is_generated() {
        return;
    }
    let lines = source.raw.len();
    if lines > FILE_LINES_MAX {
        let text = format!("{lines} lines, at most {FILE_LINES_MAX}: split it by responsibility");
        report.findings.push(Finding::new(&source.path, 0, "file-size", text));
    } else if lines > FILE_LINES_REVIEW {
        let text = format!("{lines} lines, about {FILE_LINES_REVIEW} is what we aim at");
        report.warnings.push(Finding::new(&source.path, 0, "file-size", text));
    }
    for function in functions(source) {
        let lines = function.lines();
        if lines > FUNCTION_LINES_MAX && !source.allows(function.first, "function-size") {
            let text = format!(
                "fn {} has {lines} lines, at most {FUNCTION_LINES_MAX}: split it",
                function.name
            );
            let line = function.first + 1;
            report.findings.push(Finding::new(&source.path, line, "function-size", text));
        }
    }
    for (number, line) in source.raw.iter().enumerate() {
        let columns = line.chars().count();
        if columns > LINE_COLUMNS_MAX && !source.allows(number, "line-size") {
            let text = format!("{columns} columns, at most {LINE_COLUMNS_MAX}");
            report.findings.push(Finding::new(&source.path, number + 1, "line-size", text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn rules(text: &str) -> (Vec<&'static str>, Vec<&'static str>) {
        let mut report = Report::default();
        look(&Source::read(Path::new("relay/src/a.rs"), text), &mut report);
        let names = |list: Vec<Finding>| list.into_iter().map(|finding| finding.rule).collect();
        (names(report.findings), names(report.warnings))
    }

    #[test]
    fn a_long_file_is_found_and_a_longish_one_named() {
        assert_eq!(rules(&"\n".repeat(400)), (vec![], vec![]));
        assert_eq!(rules(&"\n".repeat(401)), (vec![], vec!["file-size"]));
        assert_eq!(rules(&"\n".repeat(701)), (vec!["file-size"], vec![]));
    }

    #[test]
    fn a_generated_table_may_be_long() {
        let text = format!("// tidy: generated table\n{}", "\n".repeat(900));
        assert_eq!(rules(&text), (vec![], vec![]));
    }

    #[test]
    fn a_function_of_seventy_one_lines_is_found() {
        let function = |lines: usize| format!("fn a() {{{}}}\n", "\n".repeat(lines - 1));
        assert_eq!(rules(&function(70)), (vec![], vec![]));
        assert_eq!(rules(&function(71)), (vec!["function-size"], vec![]));
    }

    #[test]
    fn a_line_is_measured_in_characters() {
        assert_eq!(rules(&"ä".repeat(100)), (vec![], vec![]));
        assert_eq!(rules(&"a".repeat(101)), (vec!["line-size"], vec![]));
    }
}
