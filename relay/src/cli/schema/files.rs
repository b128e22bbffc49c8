//! Schema files in, parsed schemas with their references out.
//!
//! A file may use types of other files in the same set by their full names; which ones is found by
//! parsing: the first name that is unknown says which file is missing.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use walpost_schema::avro::{Schema, SchemaError, SchemaFault};

use super::judged::{Document, Source, Unjudged};

/// Files that one file may use, through all levels.
const REFERENCES_MAX: usize = 500;

/// Larger files are not read.
const FILE_BYTES_MAX: u64 = walpost_schema::avro::SCHEMA_BYTES_MAX as u64;

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, Unjudged> {
    let name = path.display().to_string();
    let unreadable = |reason: String| Unjudged::unusable(reason).of_file(name.clone());
    let metadata = std::fs::metadata(path);
    let metadata = metadata.map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    if metadata.len() > FILE_BYTES_MAX {
        let reason = format!("has {} bytes, more than {FILE_BYTES_MAX}", metadata.len());
        return Err(unreadable(reason));
    }
    let bytes = std::fs::read(path);
    let bytes = bytes.map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    utf8(bytes, &name)
}

/// Bytes as text, or where they stop being UTF-8.
pub(super) fn utf8(bytes: Vec<u8>, name: &str) -> Result<String, Unjudged> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default());
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Unjudged::unusable("not UTF-8").at(name, count(line), count(column))
    })
}

/// A schema by itself.
pub(super) fn parse(name: &str, text: &str) -> Result<Source, Unjudged> {
    let schema = Schema::parse(text, &[]).map_err(|error| unparsable(name, &error))?;
    Ok(source(name, text, schema, &[]))
}

/// A schema file by itself, or with the files it refers to, referred ones first.
pub(super) fn load(path: &Path, references: &[Arc<Source>]) -> Result<Arc<Source>, Unjudged> {
    let text = read(path)?;
    let name = path.display().to_string();
    let schemas: Vec<&Schema> = references.iter().map(|one| &one.schema).collect();
    let schema = Schema::parse(&text, &schemas).map_err(|error| unparsable(&name, &error))?;
    Ok(Arc::new(source(&name, &text, schema, references)))
}

fn unparsable(name: &str, error: &SchemaError) -> Unjudged {
    let place = error.place();
    let one = Unjudged::unusable(error.fault().to_string());
    let one = one.at(name, place.line, place.column);
    match error.fault() {
        SchemaFault::UnknownType { name } => {
            one.with_help(format!("define {name} in a file that is read too, or correct its name"))
        }
        _ => one,
    }
}

fn source(name: &str, text: &str, schema: Schema, references: &[Arc<Source>]) -> Source {
    let own = Document::new(name, text);
    let inner = references.iter().flat_map(|one| one.documents.iter().cloned());
    Source { name: name.to_owned(), schema, documents: std::iter::once(own).chain(inner).collect() }
}

/// Texts that may use each other's types, such as all schema files of a folder.
#[derive(Debug, Default)]
pub(super) struct Set {
    texts: BTreeMap<String, Arc<str>>,
    /// Full names to the file that defines them at its top.
    definitions: HashMap<String, String>,
    parsed: HashMap<String, Result<Arc<Source>, Unjudged>>,
    /// What each file uses directly.
    uses: HashMap<String, Vec<String>>,
}

impl Set {
    pub(super) fn new(texts: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut set = Self::default();
        for (name, text) in texts {
            if let Some(full_name) = crate::schema_files::full_name_of(&text) {
                set.definitions.entry(full_name).or_insert_with(|| name.clone());
            }
            set.texts.insert(name, text.into());
        }
        set
    }

    /// Names of the files, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.texts.keys().cloned().collect()
    }

    /// Whether a file is in the set.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.texts.contains_key(name)
    }

    /// Full names and their files.
    pub(super) fn file_of(&self, full_name: &str) -> Option<&str> {
        self.definitions.get(full_name).map(String::as_str)
    }

    /// Files that a file uses directly; known once it is parsed.
    pub(super) fn uses_of(&self, name: &str) -> &[String] {
        self.uses.get(name).map_or(&[], Vec::as_slice)
    }

    /// A file with everything it uses.
    pub(super) fn get(&mut self, name: &str) -> Result<Arc<Source>, Unjudged> {
        self.resolve(name, &mut Vec::new())
    }

    /// A text that is none of the set's, with the set's types.
    pub(super) fn parse_as(&mut self, name: &str, text: &str) -> Result<Source, Unjudged> {
        let source = self.parse_with_references(name, &text.into(), &mut vec![name.to_owned()])?;
        Ok(Arc::unwrap_or_clone(source))
    }

    // As deep as files use each other, which is bounded.
    fn resolve(&mut self, name: &str, open: &mut Vec<String>) -> Result<Arc<Source>, Unjudged> {
        if let Some(known) = self.parsed.get(name) {
            return known.clone();
        }
        let Some(text) = self.texts.get(name).cloned() else {
            return Err(Unjudged::unusable("is not there").of_file(name));
        };
        if let Some(at) = open.iter().position(|one| one == name) {
            let cycle: Vec<&str> = open.iter().skip(at).map(String::as_str).collect();
            let reason = format!("a cycle of references: {} -> {name}", cycle.join(" -> "));
            let help = "put types that use each other into one file";
            return Err(Unjudged::unusable(reason).of_file(name).with_help(help));
        }
        if open.len() >= REFERENCES_MAX {
            let reason = format!("uses files more than {REFERENCES_MAX} levels deep");
            return Err(Unjudged::unusable(reason).of_file(name));
        }
        open.push(name.to_owned());
        let parsed = self.parse_with_references(name, &text, open);
        open.pop();
        self.parsed.insert(name.to_owned(), parsed.clone());
        parsed
    }

    fn parse_with_references(
        &mut self,
        name: &str,
        text: &Arc<str>,
        open: &mut Vec<String>,
    ) -> Result<Arc<Source>, Unjudged> {
        let mut used: Vec<Arc<Source>> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        loop {
            let schemas: Vec<&Schema> = used.iter().map(|one| &one.schema).collect();
            let error = match Schema::parse(text, &schemas) {
                Ok(schema) => {
                    self.uses.insert(name.to_owned(), names);
                    return Ok(Arc::new(source(name, text, schema, &used)));
                }
                Err(error) => error,
            };
            let SchemaFault::UnknownType { name: missing } = error.fault() else {
                return Err(unparsable(name, &error));
            };
            let file = self.definitions.get(missing).cloned();
            let file = file.filter(|file| file != name && !names.contains(file));
            let Some(file) = file.filter(|_| names.len() < REFERENCES_MAX) else {
                return Err(unparsable(name, &error));
            };
            used.push(self.resolve(&file, open)?);
            names.push(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, field: &str) -> String {
        format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"f","type":"{field}"}}]}}"#)
    }

    fn set(files: &[(&str, String)]) -> Set {
        Set::new(files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())))
    }

    #[test]
    fn files_use_each_others_types_through_all_levels() {
        let mut set = set(&[
            ("a.avsc", record("s.A", "s.B")),
            ("b.avsc", record("s.B", "s.C")),
            ("c.avsc", record("s.C", "int")),
        ]);
        let source = set.get("a.avsc").expect("parsed");
        let names: Vec<&str> = source.documents.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a.avsc", "b.avsc", "c.avsc"]);
        assert_eq!(set.uses_of("a.avsc"), ["b.avsc"]);
    }

    #[test]
    fn a_cycle_and_an_unknown_type_are_named_with_their_file() {
        let mut cycle = set(&[("a.avsc", record("s.A", "s.B")), ("b.avsc", record("s.B", "s.A"))]);
        let error = cycle.get("a.avsc").expect_err("a cycle").text();
        assert!(error.contains("a.avsc -> b.avsc -> a.avsc"), "{error}");
        let mut unknown = set(&[("a.avsc", record("s.A", "s.Nowhere"))]);
        let error = unknown.get("a.avsc").expect_err("unknown").text();
        assert!(error.starts_with("a.avsc:1:") && error.contains("s.Nowhere"), "{error}");
    }

    #[test]
    fn text_that_is_not_utf8_is_named_with_line_and_column() {
        let error = utf8(b"{\n  \"\xC3\xBC\xFF\"}".to_vec(), "a.avsc").expect_err("not utf-8");
        assert_eq!(error.text(), "a.avsc:2:5: not UTF-8");
    }
}
