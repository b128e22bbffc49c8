//! The running `walpost dev`: its configuration file, where other verbs find it, and its ports.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The configuration of this run, removed at the end.
pub(super) struct Instance {
    path: PathBuf,
}

impl Instance {
    pub(super) fn write(text: &str) -> anyhow::Result<Self> {
        let folder = cache_folder().join("dev");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("folder {} cannot be made", folder.display()))?;
        let path = folder.join(format!("{}.toml", std::process::id()));
        std::fs::write(&path, text)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A file that stays behind names a process that is gone, and is passed over.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The configuration of the `walpost dev` that was started last and still runs.
pub(in crate::cli) fn running_config() -> Option<PathBuf> {
    let entries = std::fs::read_dir(cache_folder().join("dev")).ok()?;
    let running = entries.flatten().filter_map(|entry| {
        let path = entry.path();
        let pid = path.file_stem()?.to_str()?.parse::<u32>().ok()?;
        let is_running = Path::new("/proc").join(pid.to_string()).exists();
        let started = entry.metadata().ok()?.modified().ok()?;
        is_running.then_some((started, path))
    });
    running.max().map(|(_, path)| path)
}

/// Where fetched programs and notes of running instances are kept. Root's home is closed to the
/// user that PostgreSQL runs as, so root keeps them in /var/cache.
pub(super) fn cache_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        return PathBuf::from(folder).join("walpost");
    }
    match std::env::var_os("HOME").filter(|home| home != "/root") {
        Some(home) => PathBuf::from(home).join(".cache/walpost"),
        None => PathBuf::from("/var/cache/walpost"),
    }
}

/// How a person calls this program: by name where the shell finds it, else by path.
pub(super) fn program() -> String {
    let on_path = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join("walpost").is_file())
    });
    match std::env::current_exe() {
        Ok(path) if !on_path => path.display().to_string(),
        _ => "walpost".to_owned(),
    }
}

/// A listener: on the port asked for, which must be free; else on the wished one if it is free;
/// else on any. It is kept and handed over, so that nobody else takes the port in between.
pub(super) fn listener(asked: Option<u16>, wished: u16, flag: &str) -> anyhow::Result<TcpListener> {
    let on = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
    match asked {
        Some(port) => on(port).with_context(|| format!("port {port} ({flag}) is taken")),
        None => on(wished).or_else(|| on(0)).context("no port is free on 127.0.0.1"),
    }
}

/// A port as [`listener`] finds it, for a process that listens by itself. Somebody else may be
/// quicker.
pub(super) fn port(asked: Option<u16>, wished: u16, flag: &str) -> anyhow::Result<u16> {
    Ok(listener(asked, wished, flag)?.local_addr()?.port())
}
