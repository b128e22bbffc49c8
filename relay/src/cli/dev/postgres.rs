//! The PostgreSQL of `walpost dev`: made in the data folder, started on a loopback port, stopped at
//! the end. It refuses to run as root, so root has it run as `postgres` or `nobody`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use secrecy::SecretString;

use super::fetch::Programs;
use crate::database::DatabaseAddress;

/// A new cluster starts within a second or two; a crashed one replays its WAL first.
const START_MAX: Duration = Duration::from_secs(60);

pub(super) struct Postgres {
    programs: Programs,
    data: PathBuf,
    port: u16,
    user: Option<(u32, u32)>,
    child: Child,
    is_stopped: bool,
}

impl Postgres {
    pub(super) async fn start(
        programs: &Programs,
        folder: &Path,
        asked_port: Option<u16>,
    ) -> anyhow::Result<Self> {
        // Between our look at a port and the server's own, another instance may take it.
        for wished in [54_321, 0] {
            let port = super::instance::port(asked_port, wished, "--postgres-port")?;
            let started = Self::start_on(port, programs, folder).await;
            if started.is_ok() || asked_port.is_some() {
                return started;
            }
        }
        let port = super::instance::port(asked_port, 0, "--postgres-port")?;
        Self::start_on(port, programs, folder).await
    }

    async fn start_on(port: u16, programs: &Programs, folder: &Path) -> anyhow::Result<Self> {
        let user = other_user()?;
        let root = folder.join("postgresql");
        let data = root.join("data");
        fs::create_dir_all(&root).with_context(|| format!("{}", root.display()))?;
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&root, Some(uid), Some(gid))?;
        }
        if !data.join("PG_VERSION").exists() {
            make_cluster(programs, &data, user)?;
        }
        let log = root.join("log");
        let mut command = command(programs, "postgres", user);
        command.arg("-D").arg(&data).args(settings(port, &root));
        // In a process group of its own: Ctrl-C at the terminal is for us, who end it in order.
        command.process_group(0).stdin(Stdio::null());
        command
            .stdout(fs::File::create(&log)?)
            .stderr(fs::File::options().append(true).open(&log)?);
        let child = command.spawn().context("postgres cannot be started")?;
        let mut started =
            Self { programs: programs.clone(), data, port, user, child, is_stopped: false };
        started.wait_until_up(&log).await?;
        Ok(started)
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://walpost@127.0.0.1:{}/shop", self.port)
    }

    pub(super) fn version(&self) -> &str {
        &self.programs.version
    }

    pub(super) fn stop(mut self) {
        // Blocking for a tenth of a second; nothing else runs any more.
        self.stop_now();
    }

    fn stop_now(&mut self) {
        if std::mem::replace(&mut self.is_stopped, true) {
            return;
        }
        let mut stop = command(&self.programs, "pg_ctl", self.user);
        stop.arg("stop").arg("-D").arg(&self.data).args(["-m", "fast", "-w", "-t", "10"]);
        let stopped = stop.stdin(Stdio::null()).output();
        if !stopped.is_ok_and(|output| output.status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }

    async fn wait_until_up(&mut self, log: &Path) -> anyhow::Result<()> {
        let started = Instant::now();
        let url = format!("postgres://walpost@127.0.0.1:{}/postgres", self.port);
        let address = DatabaseAddress::try_new(&SecretString::from(url), None, None, None)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("postgres ended at once ({status}): {}", last_lines(log));
            }
            if let Ok(session) = address.connect_sql("walpost-dev").await {
                // Another instance may have been quicker to take the port.
                let whose = "SELECT current_setting('data_directory')";
                let folder: String = session.query_one(whose, &[]).await?.get(0);
                if Path::new(&folder) != self.data {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                let sql = "SELECT FROM pg_database WHERE datname = 'shop'";
                if session.query_opt(sql, &[]).await?.is_none() {
                    session.batch_execute("CREATE DATABASE shop").await?;
                }
                return Ok(());
            }
            if started.elapsed() > START_MAX {
                bail!("postgres does not answer: {}", last_lines(log));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop_now();
    }
}

fn settings(port: u16, sockets: &Path) -> Vec<String> {
    let sockets = sockets.display().to_string();
    let pairs = [
        ("port", port.to_string()),
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("unix_socket_directories", sockets),
        ("wal_level", "logical".to_owned()),
        ("max_replication_slots", "10".to_owned()),
        ("max_wal_senders", "10".to_owned()),
        // A folder that is thrown away needs no waiting for its disk.
        ("fsync", "off".to_owned()),
        ("shared_buffers", "32MB".to_owned()),
    ];
    pairs
        .into_iter()
        .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
        .collect()
}

fn make_cluster(programs: &Programs, data: &Path, user: Option<(u32, u32)>) -> anyhow::Result<()> {
    let mut initdb = command(programs, "initdb", user);
    initdb.arg("-D").arg(data).args(["-U", "walpost", "-A", "trust", "-E", "UTF8"]);
    initdb.args(["--locale=C", "--no-sync"]).stdin(Stdio::null());
    let Output { status, stderr, .. } = initdb.output().context("initdb cannot be started")?;
    if !status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&stderr).trim());
    }
    Ok(())
}

fn command(programs: &Programs, name: &str, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(programs.folder.join(name));
    // The folder we were called from may be closed to the other user.
    command.current_dir("/").env_remove("PGDATA").env("LC_ALL", "C");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// For root, somebody else to run as: `postgres` where it exists, else `nobody`.
fn other_user() -> anyhow::Result<Option<(u32, u32)>> {
    let own = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own));
    if own.is_ok_and(|uid| uid != 0) {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = find("postgres").or_else(|| find("nobody"));
    found.map(Some).context("PostgreSQL refuses to run as root, and there is no user nobody")
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
