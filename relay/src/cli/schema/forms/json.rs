//! For programs: the contract of `walpost schema check --output json`. Fields may be added.

use serde_json::{Map, Value, json};
use walpost_schema::compat::{Because, Finding, Side};

use crate::cli::schema::judged::{Judged, Outcome, Source, Unjudged};

pub(in crate::cli) fn outcome_json(outcome: &Outcome) -> Value {
    let checks: Vec<Value> = outcome.judged.iter().map(check_json).collect();
    let mut answer = json!({"compatible": outcome.is_compatible(), "checks": checks});
    if !outcome.unjudged.is_empty()
        && let Some(members) = answer.as_object_mut()
    {
        let errors = outcome.unjudged.iter().map(error_json).collect();
        members.insert("errors".to_owned(), errors);
    }
    answer
}

fn error_json(one: &Unjudged) -> Value {
    json!({"subject": one.subject, "file": one.file, "line": one.line, "column": one.column,
        "error": one.reason, "help": one.help})
}

pub(in crate::cli) fn check_json(judged: &Judged) -> Value {
    let findings: Vec<Value> =
        judged.report.findings.iter().map(|finding| finding_json(judged, finding)).collect();
    let mut check = json!({
        "subject": judged.subject,
        "level": judged.level.map(|level| level.as_str()),
        "reader": judged.reader.name,
        "writer": judged.writer.name,
        "compatible": judged.is_compatible(),
        "breaks": judged.victim,
        "findings": findings,
    });
    if judged.report.omitted > 0 {
        add(&mut check, "omitted", judged.report.omitted.into());
    }
    if let walpost_schema::compat::Verdict::Undecided(reason) = judged.report.verdict {
        add(&mut check, "error", reason.to_string().into());
    }
    check
}

fn add(value: &mut Value, key: &str, member: Value) {
    if let Some(members) = value.as_object_mut() {
        members.insert(key.to_owned(), member);
    }
}

fn finding_json(judged: &Judged, finding: &Finding) -> Value {
    let mut value = json!({
        "code": finding.code.as_str(),
        "location": finding.location,
        "message": finding.message,
        "severity": finding.severity().as_str(),
        "rule": finding.code.rule(),
        "breaks": judged.victim,
        "path": finding.path,
        "help": finding.help(judged.candidate),
        "reader": side_json(judged, finding, Side::Reader),
        "writer": side_json(judged, finding, Side::Writer),
        "because": finding.because.iter().map(|one| because_json(judged, one)).collect::<Vec<_>>(),
    });
    let spot = judged.spot(finding, judged.candidate);
    let place = spot.map_or((Value::Null, Value::Null, Value::Null), |spot| {
        (spot.document.name.clone().into(), spot.line.into(), spot.column.into())
    });
    for (key, member) in [("file", place.0), ("line", place.1), ("column", place.2)] {
        add(&mut value, key, member);
    }
    value
}

fn side_json(judged: &Judged, finding: &Finding, side: Side) -> Value {
    match judged.spot(finding, side) {
        Some(_) => place_json(judged.source(side), finding.place(side)),
        None => json!({"pointer": &*finding.place(side).pointer}),
    }
}

fn because_json(judged: &Judged, one: &Because) -> Value {
    json!({
        "code": one.code.as_str(),
        "message": one.message,
        "path": one.path,
        "reader": place_json(&judged.reader, &one.reader),
        "writer": place_json(&judged.writer, &one.writer),
    })
}

fn place_json(source: &Source, place: &walpost_schema::avro::Place) -> Value {
    let mut members = Map::new();
    members.insert("pointer".to_owned(), (*place.pointer).into());
    if let Some(spot) = source.spot(place) {
        members.insert("file".to_owned(), spot.document.name.clone().into());
        members.insert("line".to_owned(), spot.line.into());
        members.insert("column".to_owned(), spot.column.into());
    }
    members.into()
}
