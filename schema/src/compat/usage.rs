//! The fields that a consumer really uses in, those that a writer does not write out.
//!
//! A reader whose field has a default reads on when the field is no longer written, and sees the
//! default for ever: nothing fails, and the consumer is broken all the same.

use crate::avro::{Field, Kind, PlaceId, Schema, TypeRef};
use crate::compat::finding::{Code, Finding, Help};

/// A path that the reader's schema does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader's schema has no field {path}: {step} is not there")]
pub struct UnknownField {
    /// The path as given.
    pub path: String,
    /// The first step that is not there.
    pub step: String,
}

/// Used fields that are not written. Paths are as in findings: `lines[].qty`, `prices{}.cents`.
pub fn unwritten(
    reader: &Schema,
    writer: &Schema,
    used: &[String],
) -> Result<Vec<Finding>, UnknownField> {
    let mut found = Vec::new();
    for path in used {
        let unknown = |step: &str| UnknownField { path: path.clone(), step: step.to_owned() };
        let mut reads = reader.root();
        // None once the writer lacks a step: the rest is only looked for in the reader.
        let mut writes = Some(writer.root());
        let mut lost: Option<(PlaceId, PlaceId, String)> = None;
        for step in steps(path) {
            let field = step_into(reader, reads, &Names::Own(&step));
            let (target, field) = field.ok_or_else(|| unknown(&step))?;
            if let Some(from) = writes {
                let names = Names::Of { step: &step, field };
                writes = step_into(writer, from, &names).map(|(target, _)| target);
                if writes.is_none() {
                    let place = field.map_or(target.place, |field| field.place);
                    lost = Some((place, writer.node(from.node).place, step.clone()));
                }
            }
            reads = target;
        }
        if let Some((reader_place, writer_place, step)) = lost {
            found.push(finding(reader, writer, path, &step, (reader_place, writer_place)));
        }
    }
    Ok(found)
}

fn finding(
    reader: &Schema,
    writer: &Schema,
    path: &str,
    step: &str,
    places: (PlaceId, PlaceId),
) -> Finding {
    let place = reader.place(places.0).clone();
    Finding {
        code: Code::UsedFieldNotWritten,
        location: if place.pointer.is_empty() { "/".into() } else { place.pointer.to_string() },
        message: format!("{path} is used and not written: the consumer would see its default"),
        path: path.to_owned(),
        reader: place,
        writer: writer.place(places.1).clone(),
        because: Vec::new(),
        help: Help {
            reader: format!("stop using {path}, or wait until it is written"),
            writer: format!("keep writing {step} until no consumer lists {path} in its contract"),
        },
    }
}

/// `lines[].qty` is `lines`, `[]`, `qty`.
fn steps(path: &str) -> Vec<String> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let at = part.find(['[', '{']).unwrap_or(part.len());
        let (name, rest) = part.split_at(at);
        if !name.is_empty() {
            steps.push(name.to_owned());
        }
        let mut rest = rest;
        while let Some(inner) = rest.get(..2).filter(|inner| *inner == "[]" || *inner == "{}") {
            steps.push(inner.to_owned());
            rest = rest.get(2..).unwrap_or_default();
        }
        if !rest.is_empty() {
            steps.push(rest.to_owned());
        }
    }
    steps
}

/// By which names a step is looked for.
enum Names<'a> {
    Own(&'a str),
    /// The reader's field with its aliases.
    Of {
        step: &'a str,
        field: Option<&'a Field>,
    },
}

impl Names<'_> {
    fn step(&self) -> &str {
        match self {
            Names::Own(step) | Names::Of { step, .. } => step,
        }
    }

    fn is(&self, name: &str) -> bool {
        let is_alias = match self {
            Names::Of { field: Some(field), .. } => field.aliases.iter().any(|one| one == name),
            _ => false,
        };
        self.step() == name || is_alias
    }
}

/// One step down from a type; through the branches of a union, the first that has it.
fn step_into<'a>(
    schema: &'a Schema,
    from: TypeRef,
    names: &Names<'_>,
) -> Option<(TypeRef, Option<&'a Field>)> {
    match (&schema.node(from.node).kind, names.step()) {
        (Kind::Array(inner), "[]") | (Kind::Map(inner), "{}") => Some((*inner, None)),
        (Kind::Record(record), _) => {
            let field = record.fields.iter().find(|field| names.is(&field.name))?;
            Some((field.schema, Some(field)))
        }
        // No union is directly inside a union.
        (Kind::Union(branches), _) => {
            branches.iter().find_map(|branch| step_into(schema, *branch, names))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reader: &str, writer: &str, used: &[&str]) -> Result<Vec<String>, UnknownField> {
        let parse = |text| Schema::parse(text, &[]).unwrap();
        let used: Vec<String> = used.iter().map(|path| (*path).to_owned()).collect();
        let found = unwritten(&parse(reader), &parse(writer), &used)?;
        Ok(found.into_iter().map(|finding| finding.path).collect())
    }

    #[test]
    fn a_used_field_that_is_not_written_is_found_through_arrays_unions_and_aliases() {
        let order = |fields: &str, more: &str| {
            format!(
                r#"{{"type":"record","name":"O","fields":[{{"name":"lines","type":["null",{{
                "type":"array","items":{{
                "type":"record","name":"L","fields":[{fields}]}}}}]}}{more}]}}"#
            )
        };
        let qty = r#"{"name":"qty","type":"int","default":1}"#;
        let reader = order(qty, r#",{"name":"new","aliases":["old"],"type":"int"}"#);
        let writer = order("", r#",{"name":"old","type":"int"}"#);
        let used = ["lines[].qty", "new", "lines"];
        assert_eq!(told(&reader, &writer, &used), Ok(vec!["lines[].qty".to_owned()]));
        assert_eq!(told(&reader, &reader, &used), Ok(Vec::new()));
        let unknown = told(&reader, &writer, &["lines[].price"]).unwrap_err();
        assert_eq!(unknown.step, "price");
    }
}
