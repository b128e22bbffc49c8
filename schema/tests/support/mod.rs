//! What several test binaries share.

pub(crate) mod random;
pub(crate) mod rules;

use std::path::PathBuf;

/// Rows of a conformance corpus. Without the folder the answer is empty and says so.
pub(crate) fn conformance(file: &str) -> Vec<serde_json::Value> {
    let folder = std::env::var_os("WALPOST_CONFORMANCE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"),
        PathBuf::from,
    );
    let path = folder.join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        Err(error) => {
            eprintln!("no conformance corpus at {}: {error}; nothing to compare", path.display());
            Vec::new()
        }
    }
}
