//! A PostgreSQL server. In: a major version and settings. Out: a URL that answers.
//!
//! PostgreSQL refuses to run as root, so a root process runs it as `postgres` or `nobody`, in
//! folders of that user. TCP wants the password of [`Postgres::url`] (SCRAM), the local socket
//! trusts. Superuser: `postgres`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Place;
use super::cluster::{as_user, give, make_cluster, socket_folder, write_settings};
use crate::fetch;
use crate::machine::{self, User};
use crate::process::{Server, Signal};

/// Superuser, its password and its database.
pub(super) const NAME: &str = "postgres";

/// A start is a second; recovery after a kill may take longer on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Longer than any wait of the server's own at shutdown that a test would accept.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// What server to start.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// One of [`fetch::POSTGRES_MAJORS`].
    pub major: u16,
    /// Where data, socket and log live; a temporary folder if absent. A cluster found there is used
    /// again.
    pub dir: Option<PathBuf>,
    /// A free one if absent.
    pub port: Option<u16>,
    /// Lines of the configuration file, after ours, so that they win over ours; ALTER SYSTEM wins
    /// over both.
    pub settings: Vec<(String, String)>,
    /// Certificate and key; no TLS if absent.
    pub tls: Option<Tls>,
    /// Whether a commit reaches the disk: off for tests, on for benchmarks and for tests that kill
    /// the machine.
    pub fsync: bool,
    /// Further variables of the server, such as LOCPATH.
    pub environment: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            major: fetch::POSTGRES_MAJOR_DEFAULT,
            dir: None,
            port: None,
            settings: Vec::new(),
            tls: None,
            fsync: false,
            environment: Vec::new(),
        }
    }
}

/// A server certificate, as PEM text.
#[derive(Debug, Clone)]
pub struct Tls {
    pub certificate: String,
    pub key: String,
    /// The authority that client certificates must come from.
    pub client_authority: Option<String>,
}

/// How a server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Waits for clients to leave.
    Smart,
    /// Ends sessions and waits for walsenders to have sent everything, as `pg_ctl stop` does.
    Fast,
    /// Without checkpoint: the next start recovers.
    Immediate,
}

impl Mode {
    fn signal(self) -> Signal {
        match self {
            Self::Smart => Signal::TERM,
            Self::Fast => Signal::INT,
            Self::Immediate => Signal::QUIT,
        }
    }
}

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct Postgres {
    options: PostgresOptions,
    bin: PathBuf,
    port: u16,
    sockets: PathBuf,
    user: Option<User>,
    server: Server,
    place: Place,
}

/// It is asked, frozen, killed and detached as any server process of ours.
impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

impl Postgres {
    /// Starts a server and waits until it answers.
    pub fn start(options: PostgresOptions) -> Result<Self> {
        let mut postgres = Self::spawn(options)?;
        postgres.wait_ready()?;
        Ok(postgres)
    }

    /// Starts a server; [`Self::wait_ready`] is still due.
    pub(crate) fn spawn(options: PostgresOptions) -> Result<Self> {
        let bin = fetch::postgres(options.major)?;
        let user = User::for_servers()?;
        let place = Place::open(options.dir.as_deref(), "postgres")?;
        let dir = &place.path;
        let parent = dir.parent().unwrap_or(dir);
        ensure!(
            user.is_none() || machine::open_to_all(parent),
            "{} is closed to the user that runs PostgreSQL (root may not): choose another folder",
            parent.display()
        );
        give(dir, user)?;
        let port = options.port.map_or_else(machine::free_port, Ok)?;
        let sockets = socket_folder(dir, port, user)?;
        if !dir.join("data/PG_VERSION").exists() {
            make_cluster(&bin, dir, user)?;
        }
        write_settings(&options, dir, &sockets, user)?;
        let server = serve(&bin, dir, port, user, &options.environment)?;
        Ok(Self { options, bin, port, sockets, user, server, place })
    }

    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let port = self.port;
        self.server.wait_until(START_DEADLINE, || accepts(port).unwrap_or(false))
    }

    /// `postgres://postgres:postgres@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// The URL of another database of this server.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{NAME}:{NAME}@127.0.0.1:{}/{database}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the unix socket, which trusts whoever connects.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The folder of `postgres` and `initdb`; for major 15 of all tools.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.place.path.join("data")
    }

    /// Stops the server and returns how long it took; data and port are kept for
    /// [`Self::start_again`].
    pub fn stop(&mut self, mode: Mode) -> Result<Duration> {
        self.server.stop(mode.signal(), STOP_DEADLINE)
    }

    /// Starts the stopped server on the same data and port.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(!self.server.is_running(), "PostgreSQL on port {} still runs", self.port);
        let (bin, dir) = (&self.bin, &self.place.path);
        self.server = serve(bin, dir, self.port, self.user, &self.options.environment)?;
        self.wait_ready()
    }

    /// Replaces the settings given at the start; they hold after [`Self::reload`] or
    /// [`Self::start_again`].
    pub fn set(&mut self, settings: Vec<(String, String)>) -> Result<()> {
        self.options.settings = settings;
        write_settings(&self.options, &self.place.path, &self.sockets, self.user)
    }

    /// Makes the server read its configuration again.
    pub fn reload(&self) {
        self.server.signal(Signal::HUP);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A killed server leaves shared memory behind, so it gets the chance to tidy up; `Server`
        // does the rest.
        if !self.server.is_detached() && self.server.is_running() {
            let _ = self.server.stop(Signal::QUIT, Duration::from_secs(5));
        }
        if self.place.is_temporary && !self.sockets.starts_with(&self.place.path) {
            let _ = fs::remove_dir_all(&self.sockets);
        }
    }
}

fn serve(
    bin: &Path,
    dir: &Path,
    port: u16,
    user: Option<User>,
    environment: &[(String, String)],
) -> Result<Server> {
    let mut command = as_user(&bin.join("postgres"), dir, user);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.arg("-D").arg(dir.join("data")).arg("-p").arg(port.to_string());
    Server::start(&format!("PostgreSQL on port {port}"), &mut command, &dir.join("log"))
}

/// Whether the server takes sessions: it answers a startup message with a question for the password
/// (`R`). While it starts or recovers it answers with an error (`E`).
fn accepts(port: u16) -> Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Protocol 3.0: https://www.postgresql.org/docs/current/protocol-message-formats.html
    // (StartupMessage).
    let body = [&196_608_u32.to_be_bytes()[..], b"user\0postgres\0database\0postgres\0\0"].concat();
    let length = u32::try_from(body.len() + 4)?;
    stream.write_all(&[&length.to_be_bytes()[..], &body].concat())?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    Ok(kind == *b"R")
}
