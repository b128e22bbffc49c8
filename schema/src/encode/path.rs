//! Where in the payload the encoder stands, kept on the stack and spelled out only for an error.

use crate::encode::plan::RecordPlan;
use crate::json::{Cursor, Quoted};

#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a RecordPlan, usize),
    Item(usize),
    /// A key of a map, a tag, or a key that is no field.
    Key(Quoted),
    /// A member of a value that has no record in the schema.
    Member(&'static str),
}

impl<'a> Path<'a> {
    pub(super) fn root() -> Self {
        Path { parent: None, step: Step::Root }
    }

    pub(super) fn field(&'a self, record: &'a RecordPlan, at: usize) -> Self {
        Path { parent: Some(self), step: Step::Field(record, at) }
    }

    pub(super) fn item(&'a self, at: usize) -> Self {
        Path { parent: Some(self), step: Step::Item(at) }
    }

    pub(super) fn key(&'a self, key: Quoted) -> Self {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    pub(super) fn member(&'a self, name: &'static str) -> Self {
        Path { parent: Some(self), step: Step::Member(name) }
    }

    /// As a JSON pointer.
    pub(super) fn pointer(&self, cursor: &Cursor<'_>) -> String {
        let mut steps = Vec::new();
        let mut path = Some(self);
        while let Some(here) = path {
            steps.push(here.step);
            path = here.parent;
        }
        let mut pointer = String::new();
        for step in steps.iter().rev() {
            match step {
                Step::Root => {}
                Step::Field(record, at) => {
                    let name = record.fields.get(*at).map_or("", |field| &field.name);
                    push(&mut pointer, name);
                }
                Step::Item(at) => push(&mut pointer, &at.to_string()),
                Step::Key(key) => push(&mut pointer, &cursor.string_value(*key)),
                Step::Member(name) => push(&mut pointer, name),
            }
        }
        pointer
    }

    /// The nearest field above, as errors name it.
    pub(super) fn schema_place(&self) -> Option<String> {
        let mut path = Some(self);
        while let Some(here) = path {
            if let Step::Field(record, at) = here.step {
                let field = record.fields.get(at)?;
                return Some(format!("field {} of {}", field.name, record.name));
            }
            path = here.parent;
        }
        None
    }
}

fn push(pointer: &mut String, step: &str) {
    pointer.push('/');
    for c in step.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}
