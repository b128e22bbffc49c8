//! Rows of a type, a JSON text and what is to come of it: the bytes in hex, or the errors as
//! `kind pointer`.

use std::fmt::Write as _;

use walpost_schema::avro::Schema;
use walpost_schema::encode::{EncodeErrors, EncodeOptions, Plan};

pub(crate) fn plan(schema: &str, options: &EncodeOptions) -> Plan {
    let schema = Schema::parse(schema, &[]).unwrap_or_else(|error| panic!("{schema}: {error}"));
    Plan::compile(&schema, options).unwrap()
}

pub(crate) fn encode(schema: &str, json: &str) -> Result<Vec<u8>, EncodeErrors> {
    let mut out = b"before".to_vec();
    let result = plan(schema, &EncodeOptions::default()).encode(json, &mut out);
    assert!(out.starts_with(b"before"));
    if result.is_err() {
        assert_eq!(out, b"before", "an error leaves the output as it was");
    }
    result.map(|()| out.split_off(6))
}

pub(crate) fn answer(result: Result<Vec<u8>, EncodeErrors>) -> String {
    let mut text = String::new();
    match result {
        Ok(bytes) => bytes.iter().for_each(|byte| _ = write!(text, "{byte:02x}")),
        Err(errors) => {
            let lines = errors.iter().map(|error| format!("{} {}", error.kind, error.pointer));
            text = lines.collect::<Vec<_>>().join("; ");
        }
    }
    text
}

#[track_caller]
pub(crate) fn check(schema: &str, rows: &[(&str, &str)]) {
    for (json, expected) in rows {
        assert_eq!(answer(encode(schema, json)), *expected, "{json} as {schema}");
    }
}

#[track_caller]
pub(crate) fn check_with(options: &EncodeOptions, schema: &str, rows: &[(&str, &str)]) {
    for (json, expected) in rows {
        let mut out = Vec::new();
        let result = plan(schema, options).encode(json, &mut out).map(|()| out);
        assert_eq!(answer(result), *expected, "{json} as {schema}");
    }
}

pub(crate) fn with(change: impl FnOnce(&mut EncodeOptions)) -> EncodeOptions {
    let mut options = EncodeOptions::default();
    change(&mut options);
    options
}

pub(crate) fn first_error(schema: &str, json: &str) -> String {
    encode(schema, json).unwrap_err().as_slice()[0].to_string()
}
