//! For CI servers that show tests: a test case for each pair, a failure for each finding.

use std::fmt::Write as _;

use walpost_schema::compat::{Finding, Verdict};

use super::{is_error, sentence};
use crate::cli::schema::judged::{Judged, Outcome};

pub(super) fn render(title: &str, outcome: &Outcome) -> String {
    let failures = outcome.findings().filter(|(_, finding)| is_error(finding)).count();
    let undecided = outcome.judged.iter().filter(|one| one.is_compatible().is_none()).count();
    let errors = outcome.unjudged.len() + undecided;
    let tests = outcome.judged.len() + outcome.unjudged.len();
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    let title = escaped(title);
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  \
         <testsuite name=\"{title}\" {counts}>\n"
    );
    for judged in &outcome.judged {
        case(judged, &mut out);
    }
    for one in &outcome.unjudged {
        let name = one.subject.as_deref().or(one.file.as_deref()).unwrap_or("schemas");
        let help = one.help.as_deref().unwrap_or_default();
        let _ = writeln!(
            out,
            "    <testcase classname=\"{}\" name=\"could be judged\">\n      \
             <error message=\"{}\">{}</error>\n    </testcase>",
            escaped(name),
            escaped(&one.text()),
            escaped(help)
        );
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn case(judged: &Judged, out: &mut String) {
    let class = judged.subject.as_deref().unwrap_or(&judged.source(judged.candidate).name);
    let name = format!("{} reads {}", judged.reader.name, judged.writer.name);
    let (class, name) = (escaped(class), escaped(&name));
    let _ = write!(out, "    <testcase classname=\"{class}\" name=\"{name}\"");
    if judged.report.findings.is_empty() && judged.is_compatible() == Some(true) {
        out.push_str("/>\n");
        return;
    }
    out.push_str(">\n");
    if let Verdict::Undecided(reason) = judged.report.verdict {
        let _ = writeln!(out, "      <error message=\"{}\"/>", escaped(&reason.to_string()));
    }
    let mut notes = String::new();
    for finding in &judged.report.findings {
        let text = details(judged, finding);
        if is_error(finding) {
            let _ = writeln!(
                out,
                "      <failure type=\"{}\" message=\"{}\">{}</failure>",
                finding.code,
                escaped(&sentence(judged, finding)),
                escaped(&text)
            );
        } else {
            let _ = writeln!(notes, "{}: {}\n{text}", finding.code, sentence(judged, finding));
        }
    }
    if !notes.is_empty() {
        let _ = writeln!(out, "      <system-out>{}</system-out>", escaped(&notes));
    }
    out.push_str("    </testcase>\n");
}

fn details(judged: &Judged, finding: &Finding) -> String {
    let mut text = String::new();
    if let Some(spot) = judged.spot(finding, judged.candidate) {
        let _ = writeln!(text, "at: {}:{}:{}", spot.document.name, spot.line, spot.column);
    }
    let _ = writeln!(text, "rule: {} ({})", finding.code.rule(), finding.severity());
    let _ = writeln!(text, "breaks: {}", judged.victim);
    for one in &finding.because {
        let _ = writeln!(text, "because: {} {}: {}", one.code, one.path, one.message);
    }
    let _ = write!(text, "help: {}", finding.help(judged.candidate));
    text
}

/// Text that XML holds: its five characters escaped, and no control characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}
