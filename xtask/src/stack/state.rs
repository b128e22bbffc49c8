//! What runs of the shared stack. In: servers as they start. Out: `.stack/state.json`, from which a
//! later command knows them again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::process::Identity;

/// What runs, as kept in `.stack/state.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Pids and start times mean nothing after a restart of the machine.
    pub(super) boot: String,
    pub(super) servers: BTreeMap<String, Running>,
    /// A folder outside `.stack/` for servers whose user cannot get there.
    pub(super) outside: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) identity: Identity,
    pub(super) port: u16,
    /// The signal that ends this kind of server fast and in order.
    pub(super) stop: StopWith,
    pub(super) log: PathBuf,
    pub(super) variables: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum StopWith {
    Quit,
    Term,
}

impl State {
    pub(super) fn load(root: &Path) -> Result<Self> {
        let file = folder(root).join("state.json");
        let boot = boot()?;
        let empty = Self { boot: boot.clone(), ..Self::default() };
        let Ok(text) = fs::read(&file) else {
            return Ok(empty);
        };
        let state: Self = serde_json::from_slice(&text).with_context(|| {
            format!("{} does not parse: end its servers by hand and remove .stack", file.display())
        })?;
        if state.boot == boot {
            return Ok(state);
        }
        Ok(Self { outside: state.outside, ..empty })
    }

    /// Written beside and renamed: a reader never sees half of it.
    pub(super) fn save(&self, root: &Path) -> Result<()> {
        let file = folder(root).join("state.json");
        let new = folder(root).join("state.json.new");
        fs::write(&new, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &file).with_context(|| format!("cannot write {}", file.display()))
    }

    pub(super) fn is_live(&self, name: &str) -> bool {
        self.servers.get(name).is_some_and(|running| running.identity.is_alive())
    }

    /// The folder for PostgreSQL, which runs as another user when we are root.
    pub(super) fn reachable(&mut self, root: &Path) -> PathBuf {
        if !machine::is_root() || machine::open_to_all(&folder(root)) {
            return folder(root);
        }
        let name = format!("walpost-stack-{}", std::process::id());
        self.outside.get_or_insert_with(|| Path::new("/var/tmp").join(name)).clone()
    }
}

fn boot() -> Result<String> {
    let text =
        fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read the boot id")?;
    Ok(text.trim().to_owned())
}

pub(super) fn folder(root: &Path) -> PathBuf {
    root.join(".stack")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KAFKA: &str = "kafka";

    #[test]
    fn a_state_of_an_earlier_boot_names_no_process() {
        let root = std::env::temp_dir().join(format!("xtask-shared-{}", std::process::id()));
        fs::create_dir_all(folder(&root)).expect("a folder");
        let me = Identity::of(std::process::id()).expect("this process");
        let running = Running {
            identity: me,
            port: 1,
            stop: StopWith::Term,
            log: PathBuf::new(),
            variables: BTreeMap::new(),
        };
        let servers = BTreeMap::from([(KAFKA.to_owned(), running)]);
        let mut state = State { boot: boot().expect("a boot id"), servers, outside: None };
        state.save(&root).expect("saved");
        assert!(State::load(&root).expect("loaded").is_live(KAFKA));
        state.boot = "another".to_owned();
        state.save(&root).expect("saved");
        assert!(!State::load(&root).expect("loaded").is_live(KAFKA));
        fs::remove_dir_all(root).expect("removed");
    }
}
