//! An Apache Kafka broker: one node that is broker and controller (KRaft), plain text. In:
//! settings. Out: an address.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Place;
use crate::fetch;
use crate::machine;
use crate::process::{self, Identity, Server, Signal};

/// Two seconds on an idle machine; two cores that also compile need far more.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// A controlled shutdown of one node is done in a second.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Enough for the tests' topics, small enough for three servers beside a compiler.
const HEAP_MB: u32 = 512;

/// Kafka logs through log4j, which prints nothing below ERROR until told.
const LOG_SETTINGS: &str = "rootLogger.level = info
rootLogger.appenderRef.out.ref = OUT
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1.} %m%n
";

/// The line a broker logs once it is registered and takes requests.
const STARTED: &[u8] = b"Kafka Server started";

/// What broker to start.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Where data, settings and log live; a temporary folder if absent. Data found there is used
    /// again.
    pub dir: Option<PathBuf>,
    /// A free one if absent.
    pub port: Option<u16>,
    /// Broker properties that win over ours.
    pub settings: Vec<(String, String)>,
    pub heap_mb: u32,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self { dir: None, port: None, settings: Vec::new(), heap_mb: HEAP_MB }
    }
}

/// A running broker; ended when dropped.
#[derive(Debug)]
pub struct Kafka {
    java: PathBuf,
    libs: PathBuf,
    heap_mb: u32,
    port: u16,
    server: Server,
    place: Place,
}

impl Kafka {
    /// Starts a broker and waits until it answers.
    pub fn start(options: KafkaOptions) -> Result<Self> {
        let mut kafka = Self::spawn(options)?;
        kafka.wait_ready()?;
        Ok(kafka)
    }

    /// Starts a broker; [`Self::wait_ready`] is still due.
    pub(crate) fn spawn(options: KafkaOptions) -> Result<Self> {
        let java = fetch::java()?;
        let libs = fetch::kafka()?;
        let place = Place::open(options.dir.as_deref(), "kafka")?;
        let dir = &place.path;
        let port = options.port.map_or_else(machine::free_port, Ok)?;
        let settings = settings(dir, port, machine::free_port()?, &options.settings);
        write(&dir.join("server.properties"), &settings)?;
        write(&dir.join("log4j2.properties"), LOG_SETTINGS)?;
        if !dir.join("data/meta.properties").exists() {
            format(&java, &libs, dir)?;
        }
        let server = serve(&java, &libs, dir, port, options.heap_mb)?;
        Ok(Self { java, libs, heap_mb: options.heap_mb, port, server, place })
    }

    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let (log, port) = (self.server.log().to_owned(), self.port);
        self.server
            .wait_until(START_DEADLINE, || has_started(&log) && answers(port).unwrap_or(false))
    }

    /// `127.0.0.1:PORT`, for `bootstrap.servers`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the jars: broker, command line tools and Java client, for `java -cp 'LIBS/*'`.
    pub fn libs(&self) -> &Path {
        &self.libs
    }

    /// The program that runs it.
    pub fn java(&self) -> &Path {
        &self.java
    }

    pub fn log(&self) -> &Path {
        self.server.log()
    }

    pub fn identity(&self) -> Identity {
        self.server.identity()
    }

    pub fn is_running(&mut self) -> bool {
        self.server.is_running()
    }

    /// Controlled shutdown; data and port are kept for [`Self::start_again`].
    pub fn stop(&mut self) -> Result<Duration> {
        self.server.stop(Signal::TERM, STOP_DEADLINE)
    }

    /// Ends the broker at once.
    pub fn kill9(&mut self) {
        self.server.kill9();
    }

    /// Freezes the broker: connections stay open and nothing answers, until [`Self::resume`].
    pub fn freeze(&self) {
        self.server.freeze();
    }

    pub fn resume(&self) {
        self.server.resume();
    }

    /// Starts the stopped broker on the same data and port.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(!self.server.is_running(), "Kafka on port {} still runs", self.port);
        // The line that says it started would be found again in the old log.
        fs::rename(self.server.log(), self.place.path.join("log.before"))
            .context("cannot keep the log")?;
        self.server = serve(&self.java, &self.libs, &self.place.path, self.port, self.heap_mb)?;
        self.wait_ready()
    }

    pub(crate) fn detach(&mut self) {
        self.server.detach();
    }
}

fn settings(dir: &Path, port: u16, controller_port: u16, more: &[(String, String)]) -> String {
    let listener = format!("PLAINTEXT://127.0.0.1:{port}");
    let data = dir.join("data").display().to_string();
    let mut lines: Vec<(&str, String)> = vec![
        ("process.roles", "broker,controller".into()),
        ("node.id", "1".into()),
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller_port}")),
        ("listeners", format!("{listener},CONTROLLER://127.0.0.1:{controller_port}")),
        ("advertised.listeners", listener),
        ("controller.listener.names", "CONTROLLER".into()),
        ("inter.broker.listener.name", "PLAINTEXT".into()),
        ("log.dirs", data),
        ("auto.create.topics.enable", "false".into()),
        ("delete.topic.enable", "true".into()),
        ("num.partitions", "1".into()),
        ("offsets.topic.num.partitions", "1".into()),
        ("offsets.topic.replication.factor", "1".into()),
        ("transaction.state.log.num.partitions", "1".into()),
        ("transaction.state.log.replication.factor", "1".into()),
        ("transaction.state.log.min.isr", "1".into()),
        ("share.coordinator.state.topic.num.partitions", "1".into()),
        ("share.coordinator.state.topic.replication.factor", "1".into()),
        ("share.coordinator.state.topic.min.isr", "1".into()),
        // A killed broker may register again once its old session ran out: 3 s instead of 9.
        ("broker.session.timeout.ms", "3000".into()),
        ("broker.heartbeat.interval.ms", "500".into()),
        ("group.initial.rebalance.delay.ms", "0".into()),
    ];
    for (name, value) in more {
        lines.retain(|(ours, _)| ours != name);
        lines.push((name, value.clone()));
    }
    lines.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn jvm(java: &Path, libs: &Path, dir: &Path, heap_mb: u32) -> Command {
    let mut command = Command::new(java);
    command.arg(format!("-Xmx{heap_mb}m")).current_dir(dir);
    command.arg(format!("-Dlog4j2.configurationFile={}", dir.join("log4j2.properties").display()));
    command.arg("-cp").arg(libs.join("*"));
    // These would change a server that is meant to be the same everywhere.
    command.env_remove("JAVA_TOOL_OPTIONS").env_remove("CLASSPATH");
    command
}

fn format(java: &Path, libs: &Path, dir: &Path) -> Result<()> {
    let mut command = jvm(java, libs, dir, 256);
    command.args(["kafka.tools.StorageTool", "format", "-t"]).arg(cluster_id()?);
    command.arg("-c").arg(dir.join("server.properties"));
    process::output(&mut command).map(drop)
}

/// A random UUID in Kafka's spelling: 16 bytes as URL-safe base64, 22 letters.
fn cluster_id() -> Result<String> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; 22];
    let mut random = fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    random.read_exact(&mut bytes).context("cannot read /dev/urandom")?;
    let letter = |byte: u8| char::from(LETTERS[usize::from(byte % 64)]);
    let mut id: String = bytes.iter().map(|byte| letter(*byte)).collect();
    // 22 letters hold 132 bits: the last letter may use only its upper two. Kafka refuses an id
    // that starts with '-'.
    id.replace_range(21.., "A");
    id.replace_range(..1, "W");
    Ok(id)
}

fn serve(java: &Path, libs: &Path, dir: &Path, port: u16, heap_mb: u32) -> Result<Server> {
    let mut command = jvm(java, libs, dir, heap_mb);
    command.arg("kafka.Kafka").arg(dir.join("server.properties"));
    Server::start(&format!("Kafka on port {port}"), &mut command, &dir.join("log"))
}

fn has_started(log: &Path) -> bool {
    let text = fs::read(log).unwrap_or_default();
    text.windows(STARTED.len()).any(|part| part == STARTED)
}

/// Whether the broker answers an ApiVersions request (key 18, version 0) with our correlation id.
fn answers(port: u16) -> Result<bool> {
    const CORRELATION: [u8; 4] = *b"walp";
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = [&[0, 0, 0, 10, 0, 18, 0, 0][..], &CORRELATION, &[0xff, 0xff]].concat();
    stream.write_all(&request)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    Ok(answer.ends_with(&CORRELATION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_given_replaces_ours() {
        let more = [("num.partitions".to_owned(), "7".to_owned())];
        let text = settings(Path::new("/d"), 1, 2, &more);
        let lines: Vec<&str> =
            text.lines().filter(|line| line.starts_with("num.partitions")).collect();
        assert_eq!(lines, ["num.partitions=7"]);
    }

    #[test]
    fn a_cluster_id_has_the_shape_kafka_wants() {
        let id = cluster_id().expect("an id");
        assert_eq!(id.len(), 22);
        assert_ne!(id, cluster_id().expect("an id"));
    }
}
