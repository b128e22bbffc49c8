//! An address as written in; the same without the TLS options that tokio-postgres does not read, and
//! these, out.

use std::path::PathBuf;

/// The TLS options that were cut out of an address.
#[derive(Default)]
pub(super) struct TlsOptions {
    pub(super) mode: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
}

impl TlsOptions {
    /// Takes `key` when it is one of ours; says whether it was.
    fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" => self.ca_file = Some(PathBuf::from(value)),
            _ => return false,
        }
        true
    }
}

pub(super) fn take_tls_options(text: &str) -> (String, TlsOptions) {
    let mut options = TlsOptions::default();
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let keep = |options: &mut TlsOptions, pair: &str| {
        !pair.split_once('=').is_some_and(|(key, value)| options.take(key.trim(), value))
    };
    let rest = if !is_url {
        let pairs = text.split_whitespace();
        pairs.filter(|pair| keep(&mut options, pair)).collect::<Vec<_>>().join(" ")
    } else if let Some((base, query)) = text.split_once('?') {
        let query: Vec<_> = query.split('&').filter(|pair| keep(&mut options, pair)).collect();
        if query.is_empty() { base.to_owned() } else { format!("{base}?{}", query.join("&")) }
    } else {
        text.to_owned()
    };
    (rest, options)
}
