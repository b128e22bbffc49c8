//! For GitHub Actions: an annotation at the line of each finding, and the job's summary.

use std::fmt::Write as _;
use std::io::Write as _;

use walpost_schema::compat::{Severity, Verdict};

use super::sentence;
use crate::cli::Failure;
use crate::cli::schema::judged::Outcome;

pub(super) fn render(outcome: &Outcome) -> String {
    let mut out = String::new();
    for one in &outcome.unjudged {
        let mut place = one.file.as_deref().map(property_file).unwrap_or_default();
        if let (Some(line), Some(column)) = (one.line, one.column) {
            place.push_str(&format!("line={line},col={column},"));
        }
        let help = one.help.as_ref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
        let text = data(&format!("{}{help}", one.reason));
        let _ = writeln!(out, "::error {place}title=could not be judged::{text}");
    }
    for judged in &outcome.judged {
        if let Verdict::Undecided(reason) = judged.report.verdict {
            let text =
                data(&format!("{} reads {}: {reason}", judged.reader.name, judged.writer.name));
            let _ = writeln!(out, "::error title=could not be judged::{text}");
        }
    }
    for (judged, finding) in outcome.findings() {
        let word = match finding.severity() {
            Severity::Gate | Severity::Decode => "error",
            Severity::Meaning => "warning",
            Severity::Hygiene => "notice",
        };
        let place = judged.spot(finding, judged.candidate).map(|spot| {
            let file = property_file(&spot.document.name);
            format!("{file}line={},col={},", spot.line, spot.column)
        });
        let text = format!(
            "{}\nrule: {} ({})\nhelp: {}",
            sentence(judged, finding),
            finding.code.rule(),
            finding.severity(),
            finding.help(judged.candidate)
        );
        let place = place.unwrap_or_default();
        let _ = writeln!(out, "::{word} {place}title={}::{}", finding.code, data(&text));
    }
    out
}

/// Annotations are capped at ten of a kind; the summary has them all.
pub(super) fn append_summary(title: &str, outcome: &Outcome) -> Result<(), Failure> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(summary(title, outcome).as_bytes()));
    written.map_err(Failure::could_not_tell)
}

fn summary(title: &str, outcome: &Outcome) -> String {
    let mut out = format!("### {title}\n\n");
    if outcome.findings().next().is_none() && outcome.unjudged.is_empty() {
        let _ = writeln!(out, "{} checks, no findings.\n", outcome.judged.len());
        return out;
    }
    out.push_str("| rule | where | what | who breaks | mend |\n|---|---|---|---|---|\n");
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;");
    for one in &outcome.unjudged {
        let help = one.help.as_deref().unwrap_or_default();
        let file = one.file.as_deref().unwrap_or_default();
        let reason = cell(&one.reason);
        let _ =
            writeln!(out, "| could not be judged | {} | {reason} | | {} |", cell(file), cell(help));
    }
    for (judged, finding) in outcome.findings() {
        let place = judged.spot(finding, judged.candidate);
        let place = place.map(|spot| format!("{}:{}", spot.document.name, spot.line));
        let _ = writeln!(
            out,
            "| {} ({}) | {} | {} | {} | {} |",
            finding.code,
            finding.severity(),
            cell(&place.unwrap_or_default()),
            cell(&format!("{}: {}", finding.path, finding.message)),
            cell(&judged.victim),
            cell(finding.help(judged.candidate))
        );
    }
    out.push('\n');
    out
}

fn property_file(name: &str) -> String {
    format!("file={},", data(name).replace(':', "%3A").replace(',', "%2C"))
}

/// Text behind `::`, on one line.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}
