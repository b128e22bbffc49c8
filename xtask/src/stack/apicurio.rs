//! Apicurio Registry, for its Confluent API. In: a port. Out: the URL that a registry client is
//! given.
//!
//! Its schemas are in memory: a registry started again is empty.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Place;
use crate::fetch;
use crate::machine;
use crate::process::{Server, Signal};

/// Where Apicurio speaks the Confluent API.
const API: &str = "/apis/ccompat/v7";

/// Five seconds on an idle machine; two cores that also compile need far more.
const START_DEADLINE: Duration = Duration::from_secs(180);

const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What registry to start.
#[derive(Debug, Clone, Default)]
pub struct ApicurioOptions {
    /// Where the log lives; a temporary folder if absent.
    pub dir: Option<PathBuf>,
    /// A free one if absent.
    pub port: Option<u16>,
    /// Java system properties.
    pub settings: Vec<(String, String)>,
}

/// A running registry; ended when dropped.
#[derive(Debug)]
pub struct Apicurio {
    java: PathBuf,
    home: PathBuf,
    settings: Vec<(String, String)>,
    port: u16,
    server: Server,
    place: Place,
}

/// It is asked, frozen, killed and detached as any server process of ours.
impl Deref for Apicurio {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Apicurio {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

impl Apicurio {
    /// Starts a registry and waits until it answers.
    pub fn start(options: ApicurioOptions) -> Result<Self> {
        let mut apicurio = Self::spawn(options)?;
        apicurio.wait_ready()?;
        Ok(apicurio)
    }

    /// Starts a registry; [`Self::wait_ready`] is still due.
    pub(crate) fn spawn(options: ApicurioOptions) -> Result<Self> {
        let java = fetch::java()?;
        let home = fetch::apicurio()?;
        let place = Place::open(options.dir.as_deref(), "apicurio")?;
        let port = options.port.map_or_else(machine::free_port, Ok)?;
        let server = serve(&java, &home, &place.path, port, &options.settings)?;
        Ok(Self { java, home, settings: options.settings, port, server, place })
    }

    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let port = self.port;
        self.server.wait_until(START_DEADLINE, || answers(port).unwrap_or(false))
    }

    /// `http://127.0.0.1:PORT/apis/ccompat/v7`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn stop(&mut self) -> Result<Duration> {
        self.server.stop(Signal::TERM, STOP_DEADLINE)
    }

    /// Starts the stopped registry on the same port, without its schemas.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(!self.server.is_running(), "Apicurio on port {} still runs", self.port);
        self.server = serve(&self.java, &self.home, &self.place.path, self.port, &self.settings)?;
        self.wait_ready()
    }
}

fn serve(
    java: &Path,
    home: &Path,
    dir: &Path,
    port: u16,
    settings: &[(String, String)],
) -> Result<Server> {
    let mut command = Command::new(java);
    command.args([
        "-Xmx512m",
        "-Dquarkus.http.host=127.0.0.1",
        "-Dquarkus.management.host=127.0.0.1",
    ]);
    // The health pages have a port of their own, which nothing here asks for; its default could be
    // taken.
    command.arg(format!("-Dquarkus.management.port={}", machine::free_port()?));
    command.arg(format!("-Dquarkus.http.port={port}"));
    command.args(settings.iter().map(|(name, value)| format!("-D{name}={value}")));
    command.arg("-jar").arg(home.join("quarkus-run.jar")).current_dir(dir);
    command.env_remove("JAVA_TOOL_OPTIONS").env_remove("CLASSPATH");
    Server::start(&format!("Apicurio on port {port}"), &mut command, &dir.join("log"))
}

/// Whether the Confluent API lists its subjects.
fn answers(port: u16) -> Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request =
        format!("GET {API}/subjects HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status == *b"HTTP/1.1 200")
}
