//! A secret as configured in, the secret as it is now out: one that stands in a file may be rotated
//! while the process runs, so the file is read again whenever the secret is used.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// A password or a token. Debug shows neither it nor its length.
#[derive(Debug, Clone)]
pub struct Secret {
    /// As it was when the settings were read.
    first: SecretString,
    file: Option<PathBuf>,
}

impl Secret {
    /// One that stands in the configuration itself.
    pub fn written(text: SecretString) -> Self {
        Self { first: text, file: None }
    }

    /// One that stands in a file, without the line end at its end; an error where the file cannot
    /// be read.
    pub fn in_file(path: PathBuf) -> std::io::Result<Self> {
        Ok(Self { first: read(&path)?, file: Some(path) })
    }

    /// The secret as it is now; the first one while its file cannot be read.
    pub fn now(&self) -> SecretString {
        let read = self.file.as_deref().and_then(|path| read(path).ok());
        read.unwrap_or_else(|| self.first.clone())
    }
}

fn read(path: &Path) -> std::io::Result<SecretString> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim_end_matches(['\n', '\r']).into())
}
