//! The layers of the configuration as one tree: file, then environment; each value keeps its
//! origin, for errors and for `walpost config show`.
//!
//! Environment values are raw strings. figment's own provider would parse them, so that a password
//! of digits becomes a number, fails as text and is printed in the error.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::SettingsError;

/// The environment variables that may concern us, injectable for tests.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Our variables start with this.
const PREFIX: &str = "WALPOST_";

/// Variables with our prefix that are no settings: the program itself, tests and tools own them.
const NOT_SETTINGS: [&str; 5] =
    ["WALPOST_BIN", "WALPOST_BLESS", "WALPOST_CONFIG", "WALPOST_LOG", "WALPOST_LONG"];
/// Variables that start so belong to tests.
const TEST_PREFIX: &str = "WALPOST_TEST_";

impl Environment {
    /// The process's own.
    pub fn of_process() -> Self {
        Self::from_pairs(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// These variables; others than ours are dropped.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_ours = |name: &str| {
            let is_other = name.starts_with(TEST_PREFIX) || NOT_SETTINGS.contains(&name);
            name.starts_with(PREFIX) && !is_other
        };
        Self(pairs.into_iter().filter(|(name, _)| is_ours(name)).collect())
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// Line and column in the file.
    File {
        /// The file's name.
        name: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// The merged tree and the origin of each of its values by path (`source.0.url`).
#[derive(Debug)]
pub(super) struct Layers {
    tree: Dict,
    origins: BTreeMap<String, Origin>,
    name: String,
}

impl Layers {
    pub(super) fn read(
        text: &str,
        name: &str,
        environment: &Environment,
    ) -> Result<Self, SettingsError> {
        let document = toml::de::DeTable::parse(text).map_err(|error| SettingsError::Syntax {
            place: place_in(name, text, error.span().unwrap_or(0..0)),
            reason: error.message().to_owned(),
        })?;
        let mut layers =
            Self { tree: Dict::new(), origins: BTreeMap::new(), name: name.to_owned() };
        layers.tree = layers.table(document.get_ref(), "", text);
        for (variable, value) in &environment.0 {
            layers.set_variable(variable, value)?;
        }
        Ok(layers)
    }

    /// For figment, which turns the tree into settings.
    pub(super) fn figment(&self) -> Figment {
        Figment::from(Tree(self.tree.clone()))
    }

    /// Where the value at `path` came from; for a table that stands nowhere itself, where the first
    /// of its values did.
    pub(super) fn origin(&self, path: &str) -> Origin {
        let inside = format!("{path}.");
        let below = || self.origins.range(inside.clone()..).next();
        let first =
            || below().filter(|(key, _)| key.starts_with(&inside)).map(|(_, origin)| origin);
        self.origins.get(path).or_else(first).cloned().unwrap_or(Origin::Default)
    }

    /// The origin as the start of an error; the nearest enclosing table's, where there is no value.
    pub(super) fn place(&self, path: &str) -> String {
        let mut path = path;
        loop {
            if let Some(origin) = self.origins.get(path) {
                return origin.to_string();
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => return self.name.clone(),
            }
        }
    }

    fn table(&mut self, table: &toml::de::DeTable<'_>, path: &str, text: &str) -> Dict {
        let mut dict = Dict::new();
        for (key, value) in table {
            let child = join(path, key.get_ref());
            let (line, column) = line_and_column(text, key.span());
            let name = self.name.clone();
            self.origins.insert(child.clone(), Origin::File { name, line, column });
            dict.insert(key.get_ref().to_string(), self.value(value.get_ref(), &child, text));
        }
        dict
    }

    fn value(&mut self, value: &toml::de::DeValue<'_>, path: &str, text: &str) -> Value {
        use toml::de::DeValue;
        match value {
            DeValue::String(string) => Value::from(string.to_string()),
            DeValue::Integer(integer) => {
                let number = i64::from_str_radix(integer.as_str(), integer.radix());
                number.map_or_else(|_| Value::from(integer.to_string()), Value::from)
            }
            DeValue::Float(float) => {
                let number = float.as_str().parse::<f64>();
                number.map_or_else(|_| Value::from(float.to_string()), Value::from)
            }
            DeValue::Boolean(boolean) => Value::from(*boolean),
            DeValue::Datetime(time) => Value::from(time.to_string()),
            DeValue::Array(array) => {
                let items = array.iter().enumerate().map(|(index, item)| {
                    let child = join(path, &index.to_string());
                    let (line, column) = line_and_column(text, item.span());
                    let name = self.name.clone();
                    self.origins.insert(child.clone(), Origin::File { name, line, column });
                    self.value(item.get_ref(), &child, text)
                });
                Value::from(items.collect::<Vec<_>>())
            }
            DeValue::Table(table) => Value::from(self.table(table, path, text)),
        }
    }

    /// `WALPOST_KAFKA__BOOTSTRAP_SERVERS` sets `kafka.bootstrap_servers`; a source is named by its
    /// name: `WALPOST_SOURCE__ORDERS__URL`. `.._FILE` reads the value from a file, unless the key
    /// itself ends in `_file`.
    fn set_variable(&mut self, variable: &str, value: &str) -> Result<(), SettingsError> {
        let path = variable.strip_prefix(PREFIX).unwrap_or(variable).to_ascii_lowercase();
        let mut segments: Vec<String> = path.split("__").map(str::to_owned).collect();
        let mut value = value.to_owned();
        if let Some(last) = segments.last_mut()
            && !KEYS_OF_FILES.contains(&last.as_str())
            && let Some(base) = last.strip_suffix("_file").map(str::to_owned)
        {
            let file = std::path::PathBuf::from(&value);
            let text = std::fs::read_to_string(&file).map_err(|error| {
                let (key, reason) = (variable.to_owned(), error.to_string());
                SettingsError::SecretFile { key, path: file, reason }
            })?;
            value = text.trim_end_matches(['\n', '\r']).to_owned();
            *last = base;
        }
        let origin = Origin::Variable(variable.to_owned());
        let mut tree = std::mem::take(&mut self.tree);
        let set = set_in(&mut tree, &segments, value);
        self.tree = tree;
        match set {
            Some(path) => {
                self.origins.insert(path, origin);
                Ok(())
            }
            None => Err(SettingsError::UnknownKey {
                place: variable.to_owned(),
                key: segments.join("."),
                nearest: None,
            }),
        }
    }
}

/// Keys that name a file by themselves.
pub(super) const KEYS_OF_FILES: [&str; 3] = ["password_file", "token_file", "tls_ca_file"];

/// Sets a value, making tables on the way; its path in the tree, or `None` where there is no way.
fn set_in(tree: &mut Dict, segments: &[String], value: String) -> Option<String> {
    let (first, rest) = segments.split_first()?;
    if rest.is_empty() {
        tree.insert(first.clone(), Value::from(value));
        return Some(first.clone());
    }
    if first == "source" {
        let (name, rest) = rest.split_first()?;
        let Some(Value::Array(_, sources)) = tree.get_mut("source") else { return None };
        let index = sources.iter().position(|source| has_name(source, name))?;
        let Some(Value::Dict(_, source)) = sources.get_mut(index) else { return None };
        let path = set_in(source, rest, value)?;
        return Some(format!("source.{index}.{path}"));
    }
    let child = tree.entry(first.clone()).or_insert_with(|| Value::from(Dict::new()));
    let Value::Dict(_, child) = child else { return None };
    set_in(child, rest, value).map(|path| join(first, &path))
}

/// Whether a source has the name that a variable spells: lower case, `_` for what a variable's
/// name cannot hold.
fn has_name(source: &Value, spelled: &str) -> bool {
    let Value::Dict(_, source) = source else { return false };
    let name = source.get("name").and_then(Value::as_str).unwrap_or_default();
    let as_variable =
        |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    name.chars().map(as_variable).eq(spelled.chars())
}

/// Hands the tree to figment as it is.
struct Tree(Dict);

impl Provider for Tree {
    fn metadata(&self) -> Metadata {
        Metadata::named("settings")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

fn place_in(name: &str, text: &str, span: Range<usize>) -> String {
    let (line, column) = line_and_column(text, span);
    format!("{name}:{line}:{column}")
}

fn line_and_column(text: &str, span: Range<usize>) -> (usize, usize) {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count();
    (before.matches('\n').count() + 1, column + 1)
}
