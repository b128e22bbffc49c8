//! The folder of schema files: a full name in, the text of the file that defines it out.

use std::path::{Path, PathBuf};

/// Folders this deep are looked into; a link that leads back is not followed for ever.
const DEPTH_MAX: usize = 8;

/// The `.avsc` files under a folder, in the order of their paths.
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(folder, DEPTH_MAX, &mut files);
    files.sort();
    files
}

/// The text of the first file whose schema has this full name. Files that cannot be read or parsed
/// are passed: they are reported where schemas are checked.
pub fn find(folder: &Path, full_name: &str) -> Option<String> {
    list(folder).iter().find_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        (full_name_of(&text)? == full_name).then_some(text)
    })
}

/// The full name that a schema text gives its top type, read without its references.
pub fn full_name_of(text: &str) -> Option<String> {
    let schema: serde_json::Value = serde_json::from_str(text).ok()?;
    let name = schema.get("name")?.as_str()?;
    match schema.get("namespace").and_then(serde_json::Value::as_str) {
        Some(namespace) if !name.contains('.') && !namespace.is_empty() => {
            Some(format!("{namespace}.{name}"))
        }
        _ => Some(name.to_owned()),
    }
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, files);
        } else if path.extension().is_some_and(|extension| extension == "avsc") {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_found_by_its_full_name_in_any_folder() {
        let folder = tempfile::tempdir().expect("folder");
        let inner = folder.path().join("shop");
        std::fs::create_dir(&inner).expect("folder");
        let text = r#"{"type": "record", "name": "Placed", "namespace": "shop", "fields": []}"#;
        std::fs::write(inner.join("a.avsc"), text).expect("write");
        std::fs::write(inner.join("b.avsc"), "not json").expect("write");
        assert_eq!(find(folder.path(), "shop.Placed").as_deref(), Some(text));
        assert_eq!(find(folder.path(), "Placed"), None);
    }
}
