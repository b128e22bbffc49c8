//! What several test binaries share.

pub(crate) mod pairs;
pub(crate) mod random;
pub(crate) mod rules;

use std::path::PathBuf;

use serde_json::Value;

/// Rows of a conformance file. A missing file fails the test: nothing passes by comparing nothing.
pub(crate) fn conformance(file: &str) -> Vec<Value> {
    let folder = std::env::var_os("WALPOST_CONFORMANCE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance"),
        PathBuf::from,
    );
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("conformance rows {}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A schema of a row: JSON itself, or a text that holds JSON.
pub(crate) fn schema_text(value: &Value) -> String {
    match value {
        Value::String(text) if text.starts_with(['{', '[', '"']) => text.clone(),
        other => other.to_string(),
    }
}
