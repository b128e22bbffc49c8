//! What this machine has: the repository, the cache folder, programs, users, free ports, and apt
//! where it may be used.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

use crate::process;

/// Prints one step of progress; stdout stays free for answers.
pub fn say(step: impl AsRef<str>) {
    // Nobody is there to read a failed write to stderr.
    let _ = writeln!(std::io::stderr(), "  {}", step.as_ref());
}

/// The root of the checkout this command runs in: the nearest folder above the current one that
/// holds the workspace.
pub fn repository() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the current folder is gone")?;
    let root = here.ancestors().find(|folder| {
        fs::read_to_string(folder.join("Cargo.toml"))
            .is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
    });
    match root {
        Some(root) => Ok(root.to_owned()),
        None => bail!("{} is not inside a checkout of walpost", here.display()),
    }
}

/// The user's cache folder for fetched archives; made if absent.
pub fn cache() -> Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(folder), _) if Path::new(&folder).is_absolute() => PathBuf::from(folder),
        (_, Some(home)) => Path::new(&home).join(".cache"),
        _ => bail!("neither XDG_CACHE_HOME nor HOME is set: no place to keep fetched archives"),
    };
    let folder = base.join("walpost");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Where unpacked servers live: beside the archives, unless the user that runs the server cannot
/// get there (PostgreSQL refuses to run as root, and root's home is closed to others).
pub fn unpacked() -> Result<PathBuf> {
    let cache = cache()?;
    let folder =
        if is_root() && !open_to_all(&cache) { PathBuf::from("/var/cache/walpost") } else { cache };
    let folder = folder.join("unpacked");
    create_open(&folder)?;
    Ok(folder)
}

/// Makes a folder that everybody may look into, whatever the umask says.
pub fn create_open(folder: &Path) -> Result<()> {
    for part in folder.ancestors().collect::<Vec<_>>().into_iter().rev() {
        if part.as_os_str().is_empty() || part.exists() {
            continue;
        }
        let open = fs::Permissions::from_mode(0o755);
        fs::create_dir(part)
            .and_then(|()| fs::set_permissions(part, open))
            .with_context(|| format!("cannot create {}", part.display()))?;
    }
    Ok(())
}

/// Whether every user may pass through this folder and all above it.
pub fn open_to_all(folder: &Path) -> bool {
    folder.ancestors().all(|part| {
        part.as_os_str().is_empty()
            || fs::metadata(part).is_ok_and(|meta| meta.mode() & 0o001 == 0o001)
    })
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A user and its group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// Who runs a server that refuses root: nobody special when we are not root, else `postgres`,
    /// else `nobody`.
    pub fn for_servers() -> Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let user = ["postgres", "nobody"].iter().find_map(|name| Self::parse(&passwd, name));
        user.map(Some)
            .context("neither user postgres nor nobody exists: PostgreSQL cannot run as root")
    }

    fn parse(passwd: &str, name: &str) -> Option<Self> {
        let mut fields = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then_some(fields)
        })?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }
}

/// The program of this name on the PATH.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

pub fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

/// A free TCP port on 127.0.0.1, below the range from which the kernel serves outgoing connections:
/// a port from inside it can be taken between our look and the server's bind.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Several test processes look at the same time: each starts elsewhere.
    let offset = u16::try_from(u64::from(std::process::id()) * 101 % u64::from(COUNT))?;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (offset.wrapping_add(step)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {} on 127.0.0.1", FIRST + COUNT)
}

/// Makes sure that Debian packages are installed: by apt when root, else by telling the reader what
/// to type.
pub fn install(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    if !is_root() || program("apt-get").is_none() {
        bail!(
            "{why} is missing: install it (on Debian: `apt-get install {list}`) and run this again"
        );
    }
    say(format!("installing {list} ({why})"));
    let _cluster = packages.iter().any(|name| name.starts_with("postgresql")).then(NoCluster::set);
    if apt(&["install", "-y", "-q", "--no-install-recommends"], packages).is_ok() {
        return Ok(());
    }
    // The package lists are absent on a new machine and stale on an old one.
    apt(&["update", "-q"], &[])?;
    apt(&["install", "-y", "-q", "--no-install-recommends"], packages)
        .with_context(|| format!("cannot install {list}: install it by hand and run this again"))
}

fn apt(words: &[&str], packages: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(words).args(packages);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("UCF_FORCE_CONFFOLD", "1");
    process::output(&mut command).map(drop)
}

/// While this lives, installing a PostgreSQL package makes no cluster and so starts no server;
/// the administrator's own choice is put back at the end.
struct NoCluster {
    before: Option<Vec<u8>>,
}

const CLUSTER_CHOICE: &str = "/etc/postgresql-common/createcluster.conf";
const CLUSTER_DEFAULT: &str = "/usr/share/postgresql-common/createcluster.conf";

impl NoCluster {
    fn set() -> Self {
        let before = fs::read(CLUSTER_CHOICE).ok();
        if let Some(folder) = Path::new(CLUSTER_CHOICE).parent() {
            // If this fails, apt's own failure or a cluster nobody asked for will show it.
            let _ = fs::create_dir_all(folder);
        }
        let _ = fs::write(CLUSTER_CHOICE, "create_main_cluster = false\n");
        Self { before }
    }
}

impl Drop for NoCluster {
    fn drop(&mut self) {
        let text = self.before.take().or_else(|| fs::read(CLUSTER_DEFAULT).ok());
        let _ = match text {
            Some(text) => fs::write(CLUSTER_CHOICE, text),
            None => fs::remove_file(CLUSTER_CHOICE),
        };
    }
}

/// Runs a shell-free command line for its output, trimmed.
pub fn answer(program: impl AsRef<OsStr>, words: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    process::output(&mut command).map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "nobody2:x:7:8::/:/x\nnobody:x:65534:65533:n:/:/x\n";
        assert_eq!(User::parse(passwd, "nobody"), Some(User { uid: 65534, gid: 65533 }));
        assert_eq!(User::parse(passwd, "postgres"), None);
    }

    #[test]
    fn two_ports_asked_for_in_a_row_differ() {
        assert_ne!(free_port().expect("a port"), free_port().expect("a port"));
    }
}
