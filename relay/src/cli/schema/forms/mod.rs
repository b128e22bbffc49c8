//! The outcome of a check in each of its forms. Every form names rule, victim, line and mend.

mod github;
mod json;
mod junit;
mod sarif;
mod text;

pub(in crate::cli) use json::{check_json, outcome_json};

use walpost_schema::compat::{Finding, Severity};

use super::super::output::print;
use super::super::{Failure, Form};
use super::judged::{Judged, Outcome};

/// Writes the answer to stdout; what could not be judged also to stderr, where people look for it.
pub(in crate::cli) fn show(title: &str, outcome: &Outcome, form: Form) -> Result<(), Failure> {
    for one in &outcome.unjudged {
        eprintln!("error: {}", one.text());
        if let Some(help) = &one.help {
            eprintln!("  help: {help}");
        }
    }
    print(&rendered(title, outcome, form))?;
    if form == Form::Github {
        github::append_summary(title, outcome)?;
    }
    Ok(())
}

fn rendered(title: &str, outcome: &Outcome, form: Form) -> String {
    match form {
        Form::Text => text::render(outcome),
        Form::Json => format!("{}\n", outcome_json(outcome)),
        Form::Junit => junit::render(title, outcome),
        Form::Github => github::render(outcome),
        Form::Sarif => format!("{}\n", sarif::render(outcome)),
    }
}

/// A finding in one line: what, where by names, who breaks.
fn sentence(judged: &Judged, finding: &Finding) -> String {
    let path = if finding.path.is_empty() { "the schema" } else { &finding.path };
    format!("{path}: {} ({})", finding.code.sentence(&finding.message), judged.victim)
}

/// Whether a finding stops a pipeline by itself.
fn is_error(finding: &Finding) -> bool {
    matches!(finding.severity(), Severity::Gate | Severity::Decode)
}
