//! What was checked and what came of it, before it takes a form.

use std::sync::{Arc, OnceLock};

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
    /// Made when a place is looked for: thousands of findings may stand in megabytes of text.
    index: Arc<OnceLock<Index>>,
}

/// Where lines begin, and how many characters stand before every [`MARK_BYTES`]th byte.
#[derive(Debug)]
struct Index {
    lines: Vec<usize>,
    marks: Vec<usize>,
}

const MARK_BYTES: usize = 256;

/// Bytes of a value that are looked at to see where it ends: enough for a line of people.
const VALUE_BYTES_MAX: usize = 4096;

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

impl Document {
    pub(super) fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into(), index: Arc::default() }
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let bytes = self.text.as_bytes();
            let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
            let marks = bytes.chunks(MARK_BYTES).scan(0, |count, chunk| {
                let before = *count;
                *count += characters(chunk);
                Some(before)
            });
            Index { lines, marks: marks.collect() }
        })
    }

    fn characters_before(&self, offset: usize) -> usize {
        let mark = offset / MARK_BYTES;
        let rest = self.text.as_bytes().get(mark * MARK_BYTES..offset).unwrap_or_default();
        self.index().marks.get(mark).map_or(0, |before| before + characters(rest))
    }

    /// Bytes before a place that is counted in lines and characters.
    fn offset(&self, line: u32, column: u32) -> usize {
        let index = self.index();
        let start = index.lines.get(line.saturating_sub(1) as usize).copied();
        let start = start.unwrap_or(self.text.len());
        let wanted = self.characters_before(start) + column.saturating_sub(1) as usize;
        let mark = index.marks.partition_point(|before| *before <= wanted).saturating_sub(1);
        // A mark may stand within a character, which then counts to the part before it.
        let from = (mark * MARK_BYTES..self.text.len()).find(|at| self.text.is_char_boundary(*at));
        let from = from.unwrap_or(self.text.len());
        let skipped = wanted.saturating_sub(self.characters_before(from));
        let rest = self.text.get(from..).unwrap_or_default();
        from + rest.char_indices().nth(skipped).map_or(rest.len(), |(at, _)| at)
    }

    fn line_and_column(&self, offset: usize) -> (u32, u32) {
        let line = self.index().lines.partition_point(|start| *start <= offset);
        let start = self.index().lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.characters_before(offset) - self.characters_before(start) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }
}

/// Characters that begin in these bytes of UTF-8.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

impl Source {
    pub(super) fn document(&self, place: &Place) -> Option<&Document> {
        self.documents.get(place.document as usize)
    }

    /// A place as people look for it: of an object over several lines its name, not its brace.
    pub(super) fn spot(&self, place: &Place) -> Option<Spot<'_>> {
        let document = self.document(place)?;
        let start = document.offset(place.line, place.column);
        let rest = document.text.get(start..).unwrap_or_default();
        let end = (0..=VALUE_BYTES_MAX.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at));
        let window = rest.get(..end.unwrap_or(0)).unwrap_or_default();
        if let Some(end) = value_end(window)
            && !window.get(..end).is_some_and(|value| value.contains('\n'))
        {
            let (line, column) = (place.line, place.column);
            return Some(Spot { document, line, column, start, length: end.max(1) });
        }
        let (start, length) = match name_in(window) {
            Some((at, length)) => (start + at, length),
            None => (start, 1),
        };
        let (line, column) = document.line_and_column(start);
        Some(Spot { document, line, column, start, length })
    }
}

/// One past the JSON value that a text starts with; None if it does not end in it.
fn value_end(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut is_escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => {
                in_string = !in_string;
                if !in_string && depth == 0 {
                    return Some(at + 1);
                }
            }
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                if depth <= 1 {
                    return Some(at + usize::from(depth == 1));
                }
                depth -= 1;
            }
            b',' | b' ' | b'\n' | b'\t' | b'\r' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// Where the text of the member `name` stands in an object.
fn name_in(object: &str) -> Option<(usize, usize)> {
    let key = object.find("\"name\"")? + "\"name\"".len();
    let value = object.get(key..)?.find('"')? + key;
    Some((value, value_end(object.get(value..)?)?))
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
    /// A pair by itself: no subject and no level, and the reader is what is being changed.
    pub(super) fn of_pair(
        reader: Arc<Source>,
        writer: Arc<Source>,
        victim: String,
        report: Report,
    ) -> Self {
        let candidate = Side::Reader;
        Self { subject: None, level: None, reader, writer, candidate, victim, report }
    }

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
        let document = Document::new("a.avsc", text);
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
