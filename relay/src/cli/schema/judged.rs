//! What was checked and what came of it, before it takes a form.

use std::sync::Arc;

use walpost_schema::avro::{Place, Schema};
use walpost_schema::compat::{Finding, Level, Report, Severity, Side, Verdict};

use super::super::Exit;

/// A schema with the texts it was made of.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As people know it: a path, `main:schemas/a.avsc`, `orders-value version 3`.
    pub(super) name: String,
    pub(super) schema: Schema,
    /// Its own text first, then those of its references, as [`Place::document`] counts them.
    pub(super) documents: Vec<Document>,
}

/// A text with its name.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// A path where there is one.
    pub(super) name: String,
    pub(super) text: Arc<str>,
}

/// Where something is in a text that people can open.
#[derive(Debug, Clone)]
pub(super) struct Spot<'a> {
    pub(super) document: &'a Document,
    pub(super) line: u32,
    pub(super) column: u32,
    /// Bytes from the start of the text.
    pub(super) start: usize,
    /// Bytes to underline.
    pub(super) length: usize,
}

impl Source {
    pub(super) fn document(&self, place: &Place) -> Option<&Document> {
        self.documents.get(place.document as usize)
    }

    /// A place as people look for it: of an object over several lines its name, not its brace.
    pub(super) fn spot(&self, place: &Place) -> Option<Spot<'_>> {
        let document = self.document(place)?;
        let text = &*document.text;
        let start = offset(text, place.line, place.column);
        let end = value_end(text, start);
        let value = text.get(start..end).unwrap_or_default();
        if !value.contains('\n') {
            let length = end.saturating_sub(start).max(1);
            return Some(Spot { document, line: place.line, column: place.column, start, length });
        }
        let (start, length) = match name_in(value) {
            Some((at, length)) => (start + at, length),
            None => (start, value.find('\n').unwrap_or(1).max(1)),
        };
        let (line, column) = line_and_column(text, start);
        Some(Spot { document, line, column, start, length })
    }
}

/// Bytes before a place that is counted in lines and characters.
fn offset(text: &str, line: u32, column: u32) -> usize {
    let before: usize =
        text.split_inclusive('\n').take(line.saturating_sub(1) as usize).map(str::len).sum();
    let rest = text.get(before..).unwrap_or_default();
    let within = rest.char_indices().nth(column.saturating_sub(1) as usize);
    before + within.map_or(rest.len(), |(at, _)| at)
}

fn line_and_column(text: &str, start: usize) -> (u32, u32) {
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// One past the JSON value that starts here. The text was parsed: brackets match.
fn value_end(text: &str, start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let (mut depth, mut in_string, mut is_escaped) = (0usize, false, false);
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => {
                in_string = !in_string;
                if !in_string && depth == 0 {
                    return start + at + 1;
                }
            }
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                if depth <= 1 {
                    return start + at + usize::from(depth == 1);
                }
                depth -= 1;
            }
            b',' | b' ' | b'\n' | b'\t' | b'\r' if depth == 0 => return start + at,
            _ => {}
        }
    }
    text.len()
}

/// Where the text of the member `name` stands in an object.
fn name_in(object: &str) -> Option<(usize, usize)> {
    let key = object.find("\"name\"")? + "\"name\"".len();
    let value = object.get(key..)?.find('"')? + key;
    let end = value_end(object, value);
    Some((value, end.saturating_sub(value)))
}

/// One pair, judged.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) subject: Option<String>,
    pub(super) level: Option<Level>,
    pub(super) reader: Arc<Source>,
    pub(super) writer: Arc<Source>,
    /// The side that is being changed, where a person can mend.
    pub(super) candidate: Side,
    /// Who breaks if it goes in.
    pub(super) victim: String,
    pub(super) report: Report,
}

impl Judged {
    /// None when it could not be told.
    pub(super) fn is_compatible(&self) -> Option<bool> {
        match self.report.verdict {
            Verdict::Compatible => Some(true),
            Verdict::Incompatible => Some(false),
            Verdict::Undecided(_) => None,
        }
    }

    pub(super) fn source(&self, side: Side) -> &Source {
        match side {
            Side::Reader => &self.reader,
            Side::Writer => &self.writer,
        }
    }

    pub(super) fn spot(&self, finding: &Finding, side: Side) -> Option<Spot<'_>> {
        // Hygiene is about the candidate by itself.
        if finding.severity() == Severity::Hygiene && side != self.candidate {
            return None;
        }
        self.source(side).spot(finding.place(side))
    }

    pub(super) fn other(&self) -> Side {
        match self.candidate {
            Side::Reader => Side::Writer,
            Side::Writer => Side::Reader,
        }
    }
}

/// What could not be judged, and why.
#[derive(Debug, Clone)]
pub(super) struct Unjudged {
    pub(super) subject: Option<String>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    pub(super) column: Option<u32>,
    pub(super) reason: String,
    pub(super) help: Option<String>,
    pub(super) exit: Exit,
}

impl Unjudged {
    /// Something that a person wrote cannot be used.
    pub(super) fn unusable(reason: impl Into<String>) -> Self {
        Self {
            subject: None,
            file: None,
            line: None,
            column: None,
            reason: reason.into(),
            help: None,
            exit: Exit::Usage,
        }
    }

    /// Somebody did not answer.
    pub(super) fn unknown(reason: impl Into<String>) -> Self {
        Self { exit: Exit::CouldNotTell, ..Self::unusable(reason) }
    }

    pub(super) fn at(self, file: impl Into<String>, line: u32, column: u32) -> Self {
        Self { file: Some(file.into()), line: Some(line), column: Some(column), ..self }
    }

    pub(super) fn of_file(self, file: impl Into<String>) -> Self {
        Self { file: Some(file.into()), ..self }
    }

    pub(super) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// `file:line:column: reason`, as far as it is known.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(file) = &self.file {
            text.push_str(file);
            if let (Some(line), Some(column)) = (self.line, self.column) {
                text.push_str(&format!(":{line}:{column}"));
            }
            text.push_str(": ");
        }
        text.push_str(&self.reason);
        text
    }
}

/// Everything a check came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) judged: Vec<Judged>,
    pub(super) unjudged: Vec<Unjudged>,
}

impl Outcome {
    /// None when something could not be told and nothing that could be told is incompatible.
    pub(super) fn is_compatible(&self) -> Option<bool> {
        if self.judged.iter().any(|one| one.is_compatible() == Some(false)) {
            return Some(false);
        }
        let is_known = self.judged.iter().all(|one| one.is_compatible().is_some());
        (is_known && self.unjudged.is_empty()).then_some(true)
    }

    /// What could not be told outweighs what was found.
    pub(super) fn exit(&self, fail_on: Severity) -> Exit {
        let is_undecided = self.judged.iter().any(|one| one.is_compatible().is_none());
        if is_undecided || self.unjudged.iter().any(|one| one.exit == Exit::CouldNotTell) {
            return Exit::CouldNotTell;
        }
        if self.unjudged.iter().any(|one| one.exit != Exit::Findings) {
            return Exit::Usage;
        }
        if !self.unjudged.is_empty() {
            return Exit::Findings;
        }
        let is_bad = |one: &Judged| {
            one.is_compatible() == Some(false)
                || one.report.findings.iter().any(|finding| finding.severity() <= fail_on)
        };
        if self.judged.iter().any(is_bad) { Exit::Findings } else { Exit::Fine }
    }

    pub(super) fn findings(&self) -> impl Iterator<Item = (&Judged, &Finding)> {
        self.judged.iter().flat_map(|one| one.report.findings.iter().map(move |f| (one, f)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        let document = Document { name: "a.avsc".to_owned(), text: text.into() };
        let schema = Schema::parse(text, &[]).expect("schema");
        Source { name: "a.avsc".to_owned(), schema, documents: vec![document] }
    }

    #[test]
    fn a_spot_is_the_value_or_the_name_of_an_object_over_several_lines() {
        let text = "{\"type\": \"record\", \"name\": \"R\", \"fields\": [\n  {\n    \
                    \"name\": \"ü\",\n    \"type\": \"int\"\n  },\n  \
                    {\"name\": \"b\", \"type\": \"int\"}]}";
        let source = source(text);
        let place = |line, column| Place { document: 0, pointer: "".into(), line, column };
        let shown = |line, column| {
            let spot = source.spot(&place(line, column)).expect("spot");
            (&text[spot.start..spot.start + spot.length], spot.line, spot.column)
        };
        assert_eq!(shown(2, 3), ("\"ü\"", 3, 13));
        assert_eq!(shown(4, 13), ("\"int\"", 4, 13));
        assert_eq!(shown(6, 3), ("{\"name\": \"b\", \"type\": \"int\"}", 6, 3));
        assert_eq!(shown(1, 1), ("\"R\"", 1, 28));
    }
}
