//! An Apache Kafka broker: one node that is broker and controller (KRaft). In: settings. Out: an
//! address, and two more where TLS is asked for.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Place, Tls};
use crate::fetch;
use crate::machine;
use crate::process::{self, Server, Signal};

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
    /// Beside plain text, a listener with TLS and one with TLS and SASL.
    pub secure: Option<Secure>,
    /// One of several brokers; a cluster of its own if absent. See [`Kafka::start_cluster`].
    pub member: Option<Member>,
}

/// A broker's place among others.
#[derive(Debug, Clone)]
pub struct Member {
    /// From 1.
    id: u16,
    cluster: String,
    /// The ports of the voters' controllers; the first brokers are the voters.
    voters: Vec<u16>,
}

/// Who the broker is, and whom it lets in.
#[derive(Debug, Clone)]
pub struct Secure {
    /// Certificate and key; where an authority for clients is given, the listener without SASL
    /// wants a certificate of it.
    pub tls: Tls,
    /// The one user of SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN, with the password.
    pub user: (String, String),
}

impl Default for KafkaOptions {
    fn default() -> Self {
        let (dir, port, secure, member) = (None, None, None, None);
        Self { dir, port, settings: Vec::new(), heap_mb: HEAP_MB, secure, member }
    }
}

/// The listeners' ports.
#[derive(Debug, Clone, Copy)]
struct Ports {
    plain: u16,
    controller: u16,
    ssl: u16,
    sasl_ssl: u16,
}

/// A running broker; ended when dropped.
#[derive(Debug)]
pub struct Kafka {
    java: PathBuf,
    libs: PathBuf,
    heap_mb: u32,
    ports: Ports,
    server: Server,
    place: Place,
}

/// It is asked, frozen, killed and detached as any server process of ours.
impl Deref for Kafka {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Kafka {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
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
        let ports = Ports {
            plain: port,
            controller: match options.member.as_ref().and_then(Member::voter) {
                Some(port) => port,
                None => machine::free_port()?,
            },
            ssl: machine::free_port()?,
            sasl_ssl: machine::free_port()?,
        };
        let settings = settings(dir, ports, &options)?;
        write(&dir.join("server.properties"), &settings)?;
        write(&dir.join("log4j2.properties"), LOG_SETTINGS)?;
        if !dir.join("data/meta.properties").exists() {
            format(&java, &libs, dir, &options)?;
        }
        let server = serve(&java, &libs, dir, port, options.heap_mb)?;
        Ok(Self { java, libs, heap_mb: options.heap_mb, ports, server, place })
    }

    /// Starts `count` brokers, of which the first `voters` elect the cluster's controller, and
    /// waits until all answer. Their ids count from 1.
    pub fn start_cluster(count: u16, voters: u16, options: &KafkaOptions) -> Result<Vec<Self>> {
        let ports = (0..voters).map(|_| machine::free_port()).collect::<Result<Vec<_>>>()?;
        let cluster = cluster_id()?;
        let member = |id| Member { id, cluster: cluster.clone(), voters: ports.clone() };
        let spawned = (1..=count)
            .map(|id| Self::spawn(KafkaOptions { member: Some(member(id)), ..options.clone() }));
        let mut brokers = spawned.collect::<Result<Vec<_>>>()?;
        brokers.iter_mut().try_for_each(Self::wait_ready)?;
        Ok(brokers)
    }

    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let (log, port) = (self.server.log().to_owned(), self.ports.plain);
        self.server
            .wait_until(START_DEADLINE, || has_started(&log) && answers(port).unwrap_or(false))
    }

    /// `127.0.0.1:PORT`, for `bootstrap.servers`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain)
    }

    /// The address with TLS; nobody listens there unless it was asked for.
    pub fn ssl_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.ssl)
    }

    /// The address with TLS and SASL; nobody listens there unless it was asked for.
    pub fn sasl_ssl_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.sasl_ssl)
    }

    pub fn port(&self) -> u16 {
        self.ports.plain
    }

    /// The folder of the jars: broker, command line tools and Java client, for `java -cp 'LIBS/*'`.
    pub fn libs(&self) -> &Path {
        &self.libs
    }

    /// The program that runs it.
    pub fn java(&self) -> &Path {
        &self.java
    }

    /// Controlled shutdown; data and port are kept for [`Self::start_again`].
    pub fn stop(&mut self) -> Result<Duration> {
        self.server.stop(Signal::TERM, STOP_DEADLINE)
    }

    /// Gives the user of [`Secure`] another password for PLAIN; it holds after
    /// [`Self::start_again`].
    pub fn set_password(&self, password: &str) -> Result<()> {
        let file = self.place.path.join("server.properties");
        let text = fs::read_to_string(&file).context("cannot read the settings")?;
        let changed = text.lines().map(|line| match line.split_once("=\"") {
            Some((start, _)) if line.contains("PlainLoginModule") => {
                format!("{start}=\"{password}\";\n")
            }
            _ => format!("{line}\n"),
        });
        write(&file, &changed.collect::<String>())
    }

    /// Starts the stopped broker on the same data and port.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(!self.server.is_running(), "Kafka on port {} still runs", self.port());
        // The line that says it started would be found again in the old log.
        fs::rename(self.server.log(), self.place.path.join("log.before"))
            .context("cannot keep the log")?;
        self.server = serve(&self.java, &self.libs, &self.place.path, self.port(), self.heap_mb)?;
        self.wait_ready()
    }
}

impl Member {
    /// The port of its controller, if it votes.
    fn voter(&self) -> Option<u16> {
        self.voters.get(usize::from(self.id) - 1).copied()
    }

    fn settings(&self, ports: Ports) -> Vec<(&'static str, String)> {
        let voters: Vec<String> = (1..)
            .zip(&self.voters)
            .map(|(id, port): (u16, _)| format!("{id}@127.0.0.1:{port}"))
            .collect();
        let mut lines =
            vec![("node.id", self.id.to_string()), ("controller.quorum.voters", voters.join(","))];
        if self.voter().is_none() {
            lines.push(("process.roles", "broker".into()));
            lines.push(("listeners", format!("PLAINTEXT://127.0.0.1:{}", ports.plain)));
        }
        lines
    }
}

fn settings(dir: &Path, ports: Ports, options: &KafkaOptions) -> Result<String> {
    let mut lines = plain_settings(dir, ports);
    if let Some(secure) = &options.secure {
        lines.extend(secure_settings(dir, ports, secure)?);
    }
    if let Some(member) = &options.member {
        lines.extend(member.settings(ports));
    }
    for (name, value) in &options.settings {
        lines.push((name, value.clone()));
    }
    // Of two with one name Kafka takes the last.
    Ok(lines.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect())
}

fn plain_settings(dir: &Path, ports: Ports) -> Vec<(&'static str, String)> {
    let listener = format!("PLAINTEXT://127.0.0.1:{}", ports.plain);
    let controller_port = ports.controller;
    let data = dir.join("data").display().to_string();
    vec![
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
    ]
}

/// Two more listeners. The user of PLAIN stands in the settings, those of SCRAM in the cluster's
/// metadata (see `format`).
fn secure_settings(
    dir: &Path,
    ports: Ports,
    secure: &Secure,
) -> Result<Vec<(&'static str, String)>> {
    let Tls { certificate, key, client_authority } = &secure.tls;
    write(&dir.join("broker.pem"), &format!("{key}{certificate}"))?;
    let (user, password) = &secure.user;
    let module = "org.apache.kafka.common.security";
    let scram = format!("{module}.scram.ScramLoginModule required;");
    let plain = format!("{module}.plain.PlainLoginModule required user_{user}=\"{password}\";");
    let listeners = format!(
        "PLAINTEXT://127.0.0.1:{},SSL://127.0.0.1:{},SASL_SSL://127.0.0.1:{}",
        ports.plain, ports.ssl, ports.sasl_ssl
    );
    let protocols = ["CONTROLLER:PLAINTEXT", "PLAINTEXT:PLAINTEXT", "SSL:SSL", "SASL_SSL:SASL_SSL"];
    let mut lines = vec![
        ("listeners", format!("{listeners},CONTROLLER://127.0.0.1:{}", ports.controller)),
        ("advertised.listeners", listeners),
        ("listener.security.protocol.map", protocols.join(",")),
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", dir.join("broker.pem").display().to_string()),
        ("sasl.enabled.mechanisms", "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN".to_owned()),
        ("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config", scram.clone()),
        ("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config", scram),
        ("listener.name.sasl_ssl.plain.sasl.jaas.config", plain),
    ];
    if let Some(authority) = client_authority {
        write(&dir.join("clients.pem"), authority)?;
        lines.push(("ssl.truststore.type", "PEM".to_owned()));
        lines.push(("ssl.truststore.location", dir.join("clients.pem").display().to_string()));
        lines.push(("listener.name.ssl.ssl.client.auth", "required".to_owned()));
    }
    Ok(lines)
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

fn format(java: &Path, libs: &Path, dir: &Path, options: &KafkaOptions) -> Result<()> {
    let cluster = options.member.as_ref().map(|member| Ok(member.cluster.clone()));
    let mut command = jvm(java, libs, dir, 256);
    command.args(["kafka.tools.StorageTool", "format", "-t"]);
    command.arg(cluster.unwrap_or_else(cluster_id)?);
    command.arg("-c").arg(dir.join("server.properties"));
    if let Some(Secure { user: (user, password), .. }) = &options.secure {
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            command.arg("--add-scram");
            command.arg(format!("{mechanism}=[name={user},password={password}]"));
        }
    }
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
        let more = vec![("num.partitions".to_owned(), "7".to_owned())];
        let options = KafkaOptions { settings: more, ..KafkaOptions::default() };
        let ports = Ports { plain: 1, controller: 2, ssl: 3, sasl_ssl: 4 };
        let text = settings(Path::new("/d"), ports, &options).expect("settings");
        let last = text.lines().rfind(|line| line.starts_with("num.partitions="));
        assert_eq!(last, Some("num.partitions=7"));
    }

    #[test]
    fn a_cluster_id_has_the_shape_kafka_wants() {
        let id = cluster_id().expect("an id");
        assert_eq!(id.len(), 22);
        assert_ne!(id, cluster_id().expect("an id"));
    }
}
