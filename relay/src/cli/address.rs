//! Where the configuration is: named, in the working folder, in /etc, or of a running
//! `walpost dev`, whose addresses the other verbs then find by themselves.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::settings::{ContractSettings, Environment, Settings, SourceSettings};

/// The configuration as the command line names it.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    named: Option<PathBuf>,
}

/// A configuration and how it was found.
enum Found {
    /// Named, or in a usual place.
    Usual(PathBuf),
    /// Of a running `walpost dev`.
    OfDev(PathBuf),
}

impl ConfigSource {
    pub(super) fn new(named: Option<PathBuf>) -> Self {
        Self { named }
    }

    fn find(&self) -> Option<Found> {
        let usual = [Path::new("walpost.toml"), Path::new("/etc/walpost/walpost.toml")];
        let usual = usual.into_iter().find(|path| path.exists()).map(Path::to_owned);
        let of_dev = || super::dev::running_config().map(Found::OfDev);
        self.named.clone().or(usual).map(Found::Usual).or_else(of_dev)
    }

    /// The file to read, by the rule of `walpost help environment`.
    pub(super) fn path(&self) -> Result<PathBuf, Failure> {
        match self.find() {
            Some(Found::Usual(path)) => return Ok(path),
            Some(Found::OfDev(path)) => {
                eprintln!("using the running walpost dev ({})", path.display());
                return Ok(path);
            }
            None => {}
        }
        Err(Failure::usage(anyhow::anyhow!(
            "no configuration: neither ./walpost.toml nor /etc/walpost/walpost.toml exists and no \
             walpost dev runs; name one with --config PATH"
        )))
    }

    /// What the schema commands need: the file where there is one, else the environment alone.
    pub(super) fn load_contract(&self) -> Result<ContractSettings, Failure> {
        let path = match self.find() {
            Some(Found::Usual(path)) => Some(path),
            Some(Found::OfDev(path)) => {
                eprintln!("using the running walpost dev ({})", path.display());
                Some(path)
            }
            None => None,
        };
        let environment = Environment::of_process();
        ContractSettings::load(path.as_deref(), &environment).map_err(Failure::usage)
    }

    /// Reads and checks it.
    pub(super) fn load(&self) -> Result<Settings, Failure> {
        Settings::load(&self.path()?, &Environment::of_process()).map_err(Failure::usage)
    }
}

/// The source that a verb is about: the named one, or the only one.
pub(super) fn pick_source<'a>(
    settings: &'a Settings,
    name: Option<&str>,
) -> Result<&'a SourceSettings, Failure> {
    let names = || {
        let names: Vec<_> = settings.sources.iter().map(|source| source.name.as_str()).collect();
        names.join(", ")
    };
    match (name, settings.sources.as_slice()) {
        (Some(name), sources) => {
            let found = sources.iter().find(|source| source.name == name);
            found.ok_or_else(|| {
                Failure::usage(anyhow::anyhow!(
                    "no source is named \"{name}\"; there are: {}",
                    names()
                ))
            })
        }
        (None, [only]) => Ok(only),
        (None, []) => Err(Failure::usage(anyhow::anyhow!("no [[source]] is configured"))),
        (None, _) => Err(Failure::usage(anyhow::anyhow!(
            "several sources are configured, name one with --source: {}",
            names()
        ))),
    }
}
