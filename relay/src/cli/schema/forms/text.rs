//! For people: the schema's own lines with the place underlined, who breaks, and the mend.

use std::fmt::Write as _;
use std::sync::Arc;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource,
    Severity as Level,
};
use walpost_schema::compat::{Finding, Severity, Verdict};

use crate::cli::output::printable;
use crate::cli::schema::judged::{Judged, Outcome, Spot};

/// Findings shown in full; the others are counted, and every other form has them all.
const SHOWN_MAX: usize = 50;

/// Columns of the answer, whatever the terminal: it is often read in a log.
const WIDTH: usize = 100;

pub(super) fn render(outcome: &Outcome) -> String {
    let mut out = String::new();
    for (judged, finding) in outcome.findings().take(SHOWN_MAX) {
        show(judged, finding, &mut out);
    }
    let omitted: u64 = outcome.judged.iter().map(|one| one.report.omitted).sum();
    let total = outcome.findings().count();
    let hidden = omitted.saturating_add(total.saturating_sub(SHOWN_MAX) as u64);
    if hidden > 0 {
        let _ = writeln!(out, "and {hidden} more findings; --output json has them\n");
    }
    for judged in &outcome.judged {
        if let Verdict::Undecided(reason) = judged.report.verdict {
            let (reader, writer) = (&judged.reader.name, &judged.writer.name);
            let _ = writeln!(out, "could not tell: {reader} reads {writer}: {reason}");
        }
    }
    out.push_str(&summary(outcome));
    out
}

fn summary(outcome: &Outcome) -> String {
    let count =
        |severity| outcome.findings().filter(|(_, finding)| finding.severity() == severity).count();
    let counts: Vec<String> = Severity::ALL
        .into_iter()
        .filter_map(|severity| match count(severity) {
            0 => None,
            found => Some(format!("{found} {severity}")),
        })
        .collect();
    let found = if counts.is_empty() { "no findings".to_owned() } else { counts.join(", ") };
    let verdict = match outcome.is_compatible() {
        Some(true) if count(Severity::Decode) > 0 => "passes the gate, fails readers",
        Some(true) => "compatible",
        Some(false) => "incompatible",
        None => "could not tell",
    };
    let checks = match outcome.judged.len() {
        1 => "1 check".to_owned(),
        checks => format!("{checks} checks"),
    };
    format!("{verdict}: {checks}, {found}\n")
}

fn show(judged: &Judged, finding: &Finding, out: &mut String) {
    let severity = match finding.severity() {
        Severity::Gate | Severity::Decode => Level::Error,
        Severity::Meaning => Level::Warning,
        Severity::Hygiene => Level::Advice,
    };
    let mut message = printable(&finding.code.sentence(&finding.message));
    if finding.severity() == Severity::Gate && !finding.path.is_empty() {
        message = format!("{}: {message}", printable(&finding.path));
    }
    let spot = judged.spot(finding, judged.candidate);
    let excerpt = spot.as_ref().and_then(long_line);
    let mut help = details(judged, finding);
    if let (Some(spot), Some(excerpt)) = (&spot, &excerpt) {
        let (name, line, column) = (&spot.document.name, spot.line, spot.column);
        help = format!("at: {name}:{line}:{column} {excerpt}\n{help}");
    }
    let mut diagnostic = MietteDiagnostic::new(message)
        .with_code(format!("{} ({})", finding.code, finding.severity()))
        .with_severity(severity)
        .with_help(printable_lines(&help));
    let shown = spot.filter(|_| excerpt.is_none());
    if let Some(spot) = &shown {
        let label = finding.code.rule().to_owned();
        let span = LabeledSpan::new(Some(label), spot.start, spot.length);
        diagnostic = diagnostic.with_labels([span]);
    }
    let report = miette::Report::new(diagnostic);
    let report = match &shown {
        Some(spot) => report.with_source_code(NamedSource::new(
            printable(&spot.document.name),
            harmless(&spot.document.text),
        )),
        None => report,
    };
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(WIDTH)
        .with_wrap_lines(false)
        .with_context_lines(1)
        .with_links(false);
    // Only a failed write to a string fails, and a text that is no UTF-8, which it is.
    let _ = handler.render_report(out, report.as_ref());
    out.push('\n');
}

fn details(judged: &Judged, finding: &Finding) -> String {
    let mut help = String::new();
    for one in &finding.because {
        let sentence = one.code.sentence(&one.message);
        let _ = writeln!(help, "because: {} {}: {sentence}", one.code, one.path);
    }
    let _ = writeln!(help, "breaks: {}", judged.victim);
    if let Some(spot) = judged.spot(finding, judged.other()) {
        let (name, line, column) = (&spot.document.name, spot.line, spot.column);
        let _ = writeln!(help, "other side: {name}:{line}:{column}");
    }
    let _ = write!(help, "mend: {}", finding.help(judged.candidate));
    help
}

/// What stands at a place, when the lines around it are too long to be shown whole: generators
/// write megabytes on one line.
fn long_line(spot: &Spot<'_>) -> Option<String> {
    const LINE_BYTES_MAX: usize = 400;
    const EXCERPT_CHARS: usize = 80;
    let (before, after) = spot.document.text.split_at_checked(spot.start)?;
    let above: usize = before.rsplit('\n').take(2).map(str::len).sum();
    let below: usize = after.split('\n').take(2).map(str::len).sum();
    let is_long = above > LINE_BYTES_MAX || below > LINE_BYTES_MAX;
    is_long.then(|| after.chars().take(EXCERPT_CHARS).collect())
}

fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// A schema's text that cannot steer a terminal, byte for byte as long.
fn harmless(text: &Arc<str>) -> Arc<str> {
    let is_plain =
        |c: char| c == '\n' || c == '\t' || printable(c.encode_utf8(&mut [0; 4])).chars().eq([c]);
    if text.bytes().all(|byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~')) {
        return Arc::clone(text);
    }
    let one = |c: char| if is_plain(c) { c.to_string() } else { "?".repeat(c.len_utf8()) };
    text.chars().map(one).collect::<String>().into()
}
