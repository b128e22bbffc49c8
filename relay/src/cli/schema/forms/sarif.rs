//! For code scanning: SARIF 2.1.0, one rule for each code, fingerprints that outlive a move.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use walpost_schema::compat::{Code, Finding, Severity, Verdict};

use super::sentence;
use crate::cli::schema::judged::{Judged, Outcome, Spot, Unjudged};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/\
                      sarif-schema-2.1.0.json";

/// The rule of what could not be judged.
const UNJUDGED: &str = "COULD_NOT_BE_JUDGED";

pub(super) fn render(outcome: &Outcome) -> Value {
    let mut rules: Vec<Value> = Code::ALL.iter().map(|code| rule(*code)).collect();
    rules.push(json!({
        "id": UNJUDGED,
        "shortDescription": {"text": "a schema that cannot be judged is not compatible"},
        "defaultConfiguration": {"level": "error"},
    }));
    let mut results: Vec<Value> = outcome.unjudged.iter().map(unjudged).collect();
    for judged in &outcome.judged {
        if let Verdict::Undecided(reason) = judged.report.verdict {
            let name = judged.source(judged.candidate).name.clone();
            let one = crate::cli::schema::judged::Unjudged::unknown(reason.to_string());
            results.push(unjudged(&one.of_file(name)));
        }
    }
    results.extend(outcome.findings().map(|(judged, finding)| result(judged, finding)));
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "walpost",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Gate | Severity::Decode => "error",
        Severity::Meaning => "warning",
        Severity::Hygiene => "note",
    }
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.as_str(),
        "shortDescription": {"text": code.rule()},
        "defaultConfiguration": {"level": level(code.severity())},
        "properties": {"severity": code.severity().as_str()},
    })
}

fn result(judged: &Judged, finding: &Finding) -> Value {
    let mut related = Vec::new();
    if let Some(spot) = judged.spot(finding, judged.other()) {
        let text = format!("the other side: {}", judged.source(judged.other()).name);
        let mut location = location(&spot);
        if let Some(members) = location.as_object_mut() {
            members.insert("message".to_owned(), json!({"text": text}));
        }
        related.push(location);
    }
    let spot = judged.spot(finding, judged.candidate);
    let mut locations: Vec<Value> = spot.iter().map(location).collect();
    if let Some(members) = locations.first_mut().and_then(Value::as_object_mut) {
        let logical = json!([{"fullyQualifiedName": finding.path}]);
        members.insert("logicalLocations".to_owned(), logical);
    }
    let because = finding.because.iter();
    let because =
        because.map(|one| format!("\nbecause: {} {}: {}", one.code, one.path, one.message));
    let text = format!(
        "{}{}\nhelp: {}",
        sentence(judged, finding),
        because.collect::<String>(),
        finding.help(judged.candidate)
    );
    json!({
        "ruleId": finding.code.as_str(),
        "level": level(finding.severity()),
        "message": {"text": text},
        "locations": locations,
        "relatedLocations": related,
        "partialFingerprints": {"walpost/v1": fingerprint(judged, finding)},
        "properties": {
            "severity": finding.severity().as_str(),
            "breaks": judged.victim,
            "help": finding.help(judged.candidate),
            "javaLocation": finding.location,
        },
    })
}

fn location(spot: &Spot<'_>) -> Value {
    json!({"physicalLocation": {
        "artifactLocation": {"uri": uri(&spot.document.name)},
        "region": {"startLine": spot.line, "startColumn": spot.column},
    }})
}

fn unjudged(one: &Unjudged) -> Value {
    let help = one.help.as_ref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    let file = one.file.as_ref().map(|file| {
        let region =
            json!({"startLine": one.line.unwrap_or(1), "startColumn": one.column.unwrap_or(1)});
        json!({"physicalLocation": {"artifactLocation": {"uri": uri(file)}, "region": region}})
    });
    json!({
        "ruleId": UNJUDGED,
        "level": "error",
        "message": {"text": format!("{}{help}", one.reason)},
        "locations": file.into_iter().collect::<Vec<_>>(),
    })
}

/// A path as a relative URI.
fn uri(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.trim_start_matches("./").bytes().map(one).collect()
}

/// Rule, subject and path by names: the same finding after fields were moved about.
fn fingerprint(judged: &Judged, finding: &Finding) -> String {
    let subject = judged.subject.as_deref();
    let subject = subject.unwrap_or(&judged.source(judged.candidate).name);
    let hash = Sha256::digest(format!("{}\n{subject}\n{}", finding.code, finding.path));
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
