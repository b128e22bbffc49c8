//! The files of a PostgreSQL server. In: options and a folder. Out: a cluster in it that belongs to
//! the user who will run the server.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::postgres::{NAME, PostgresOptions};
use crate::machine::User;
use crate::process;

/// A unix socket's path holds 107 bytes; the server adds `/.s.PGSQL.65535`.
const SOCKET_FOLDER_BYTES_MAX: usize = 90;

/// Makes a folder that only `user` may use otherwise, but everybody may look into.
pub(super) fn give(folder: &Path, user: Option<User>) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if let Some(user) = user {
        chown(folder, Some(user.uid), Some(user.gid))
            .with_context(|| format!("cannot give {} to the server's user", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

pub(super) fn socket_folder(dir: &Path, port: u16, user: Option<User>) -> Result<PathBuf> {
    let folder = dir.join("sockets");
    let is_short = folder.as_os_str().len() <= SOCKET_FOLDER_BYTES_MAX;
    let folder = if is_short {
        folder
    } else {
        std::env::temp_dir().join(format!("walpost-sockets-{port}"))
    };
    give(&folder, user)?;
    Ok(folder)
}

/// Writes a file that belongs to the server's user and that nobody else reads.
fn write_private(file: &Path, text: &str, user: Option<User>) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
    if let Some(user) = user {
        chown(file, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}

pub(super) fn as_user(program: &Path, dir: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env("LC_ALL", "C");
    for (name, _) in std::env::vars_os() {
        // PGDATA, PGPORT and their like would reach the server and initdb.
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

pub(super) fn make_cluster(bin: &Path, dir: &Path, user: Option<User>) -> Result<()> {
    let password = dir.join("password");
    write_private(&password, NAME, user)?;
    let data = dir.join("data");
    let mut command = as_user(&bin.join("initdb"), dir, user);
    command.args([
        "--username",
        NAME,
        "--encoding",
        "UTF8",
        "--locale",
        "C",
        "--no-sync",
        "--no-instructions",
    ]);
    command.args(["--auth-local", "trust", "--auth-host", "scram-sha-256"]);
    command.arg("--pwfile").arg(&password).arg("--pgdata").arg(&data);
    process::output(&mut command)?;
    fs::remove_file(&password).context("cannot remove the password file")?;
    let file = data.join("postgresql.conf");
    let mut text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    text.push_str("include = 'walpost.conf'\n");
    write_private(&file, &text, user)
}

pub(super) fn write_settings(
    options: &PostgresOptions,
    dir: &Path,
    sockets: &Path,
    user: Option<User>,
) -> Result<()> {
    let data = dir.join("data");
    let sockets = sockets.display().to_string();
    let fsync = if options.fsync { "on" } else { "off" };
    let ours = [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", &sockets),
        ("wal_level", "logical"),
        ("max_replication_slots", "64"),
        ("max_wal_senders", "64"),
        ("max_connections", "200"),
        ("password_encryption", "scram-sha-256"),
        ("fsync", fsync),
    ];
    let mut text: String = ours.iter().map(|(name, value)| line(name, value)).collect();
    if let Some(tls) = &options.tls {
        write_private(&data.join("server.crt"), &tls.certificate, user)?;
        write_private(&data.join("server.key"), &tls.key, user)?;
        text.push_str("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n");
        if let Some(authority) = &tls.client_authority {
            write_private(&data.join("root.crt"), authority, user)?;
            text.push_str("ssl_ca_file = 'root.crt'\n");
        }
    }
    text.extend(options.settings.iter().map(|(name, value)| line(name, value)));
    write_private(&data.join("walpost.conf"), &text, user)
}

fn line(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_setting_stays_inside_it() {
        assert_eq!(line("search_path", "a'b"), "search_path = 'a''b'\n");
    }
}
