//! A report in, the texts out that a Confluent registry puts into `messages`.

use crate::compat::Report;
use crate::compat::finding::{Code, Finding};
use crate::compat::level::Direction;

/// One text for each finding, in Confluent's words.
///
/// Its sentences name the candidate "new" and the registered version "old", whichever of them
/// reads. Differs from Confluent for an ambiguous alias only: its text ends there with the whole
/// schema.
#[must_use]
pub fn messages(report: &Report, direction: Direction) -> Vec<String> {
    let (reader, writer) = match direction {
        Direction::NewReadsOld => ("new", "old"),
        Direction::OldReadsNew => ("old", "new"),
    };
    report.findings.iter().filter_map(|finding| message(finding, reader, writer)).collect()
}

fn message(finding: &Finding, reader: &str, writer: &str) -> Option<String> {
    let Finding { code, location: path, message: info, .. } = finding;
    let description = match code {
        Code::FixedSizeMismatch => format!(
            "The size of FIXED type field at path '{path}' in the {reader} schema does not match \
             with the {writer} schema"
        ),
        Code::TypeMismatch => format!(
            "The type (path '{path}') of a field in the {reader} schema does not match with the \
             {writer} schema"
        ),
        Code::NameMismatch => format!("The name of the schema has changed (path '{path}')"),
        Code::MissingEnumSymbols => format!(
            "The {reader} schema is missing enum symbols '{info}' at path '{path}' in the \
             {writer} schema"
        ),
        Code::MissingUnionBranch => format!(
            "The {reader} schema is missing a type inside a union field at path '{path}' in the \
             {writer} schema"
        ),
        Code::ReaderFieldMissingDefaultValue => format!(
            "The field '{info}' at path '{path}' in the {reader} schema has no default value and \
             is missing in the {writer} schema"
        ),
        Code::AmbiguousAlias => {
            return Some(format!("Unexpected exception during compatibility check: {info}"));
        }
        // A registry knows no others.
        _ => return None,
    };
    Some(format!("{{errorType:'{code}', description:'{description}', additionalInfo:'{info}'}}"))
}
