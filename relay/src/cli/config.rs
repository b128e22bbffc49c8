//! `walpost config show | check`: the settings as they will be used, without any network.

use clap::Subcommand;
use serde_json::json;

use super::output::{print, print_json};
use super::{Answer, ConfigSource, Exit, Output};
use crate::settings::show;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Print every setting with its value (secrets masked) and where it came from.
    Show,
    /// Check the configuration without any network; exit 2 with file, line and column if it is
    /// wrong.
    Check,
}

pub(super) fn run(verb: &Verb, config: &ConfigSource, output: Output) -> Answer {
    let settings = config.load()?;
    match (verb, output) {
        (Verb::Show, Output::Text) => print(&show(settings.shown()))?,
        (Verb::Show, Output::Json) => {
            let values = settings.shown().iter().map(|shown| {
                json!({"key": shown.key, "value": shown.value, "origin": shown.origin.to_string()})
            });
            print_json(&values.collect::<Vec<_>>())?;
        }
        (Verb::Check, Output::Text) => {
            let names: Vec<_> =
                settings.sources.iter().map(|source| source.name.as_str()).collect();
            let sources = if names.is_empty() { "no sources".to_owned() } else { names.join(", ") };
            print(&format!("ok: {} ({sources})\n", config.path()?.display()))?;
        }
        (Verb::Check, Output::Json) => print_json(&json!({"ok": true}))?,
    }
    Ok(Exit::Fine)
}
