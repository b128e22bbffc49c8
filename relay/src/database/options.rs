//! An address as written in; out the same without the TLS options that tokio-postgres does not
//! read, and these options.

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

/// Cuts the options out of a URL or of `key=value` pairs; everything else stays as it is written.
pub(super) fn take_tls_options(text: &str) -> (String, TlsOptions) {
    let mut options = TlsOptions::default();
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let keep = |options: &mut TlsOptions, pair: &str| {
        !pair.split_once('=').is_some_and(|(key, value)| options.take(key.trim(), value))
    };
    let rest = if !is_url {
        let keep = |options: &mut TlsOptions, pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            !options.take(key.trim(), &unquoted(value.trim_start()))
        };
        pairs(text)
            .into_iter()
            .filter(|pair| keep(&mut options, pair))
            .collect::<Vec<_>>()
            .join(" ")
    } else if let Some((base, query)) = text.split_once('?') {
        let query: Vec<_> = query.split('&').filter(|pair| keep(&mut options, pair)).collect();
        if query.is_empty() { base.to_owned() } else { format!("{base}?{}", query.join("&")) }
    } else {
        text.to_owned()
    };
    (rest, options)
}

/// `key = value` pairs as libpq reads them
/// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE>):
/// blanks may stand around the equals sign and, in single quotes or behind a backslash, in a value.
/// What is no pair is handed on, for the parser that refuses it.
fn pairs(text: &str) -> Vec<&str> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let before = rest.find('=').map_or(rest.len(), |equals| equals + 1);
        let value = rest.get(before..).unwrap_or_default();
        let blanks = value.len() - value.trim_start().len();
        let end = before + blanks + value_end(value.trim_start());
        let (pair, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
        pairs.push(pair);
        rest = tail.trim_start();
    }
    pairs
}

/// Where a value ends, its quotes included.
fn value_end(value: &str) -> usize {
    let is_quoted = value.starts_with('\'');
    let mut is_escaped = false;
    for (at, letter) in value.char_indices().skip(usize::from(is_quoted)) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\'' if is_quoted => return at + 1,
            letter if !is_quoted && letter.is_whitespace() => return at,
            _ => {}
        }
    }
    value.len()
}

/// A value without its quotes and backslashes.
fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let mut letters = inner.unwrap_or(value).chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        text.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_options_leave_an_address_and_values_keep_their_blanks() {
        for (text, rest, mode, file) in [
            ("postgres://u@h/d?sslmode=require&x=1", "postgres://u@h/d?x=1", "require", ""),
            ("postgres://u@h/d", "postgres://u@h/d", "", ""),
            ("host=h  password='a  b' user=u", "host=h password='a  b' user=u", "", ""),
            ("sslmode = 'verify-ca' password=a\\ \\ b", "password=a\\ \\ b", "verify-ca", ""),
            ("sslrootcert='/a b/it\\'s.pem' host=h", "host=h", "", "/a b/it's.pem"),
            ("host=h nonsense", "host=h nonsense", "", ""),
            ("password='open", "password='open", "", ""),
            ("", "", "", ""),
        ] {
            let (found, options) = take_tls_options(text);
            assert_eq!(found, rest, "{text}");
            assert_eq!(options.mode.unwrap_or_default(), mode, "{text}");
            assert_eq!(options.ca_file.unwrap_or_default(), PathBuf::from(file), "{text}");
        }
    }
}
