//! `walpost dev`: a first contact that works, beside others, and leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use serde_json::Value;
use walpost_tests::relay::verb;
use walpost_tests::{stack, wait_for};
use xtask::process::{Identity, Signal};

/// A running `walpost dev --output json`.
struct Dev {
    child: Child,
    identity: Identity,
    /// What it said on stdout as soon as it was ready.
    facts: Value,
    _dir: tempfile::TempDir,
}

/// An instance that looks for free ports may take one that another has just left: who looks whether
/// its ports were closed is alone.
static PORTS: RwLock<()> = RwLock::new(());

const PLACED: &str = r#"{"total": "12.50", "currency": "EUR", "customer": "c"}"#;

impl Dev {
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut child = command(dir.path())
            .args(["dev", "--output", "json"])
            .args(more)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("walpost starts");
        let identity = Identity::of(child.id()).expect("a process");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let facts = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        Self { child, identity, facts, _dir: dir }
    }

    fn fact(&self, name: &str) -> &str {
        let value = self.facts[name].as_str();
        value.unwrap_or_else(|| panic!("no {name} in {}", self.facts))
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.fact("config")).expect("a configuration")
    }

    /// Ctrl-C, and how long the end took.
    fn interrupt(mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.identity.signal(Signal::INT);
        let status = wait_for("the end", || self.child.try_wait().ok().flatten());
        (status, start.elapsed())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.identity.signal(Signal::INT);
        let _ = self.child.wait();
    }
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(&stack().walpost);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WALPOST_") {
            command.env_remove(name);
        }
    }
    command.current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn beside_others() -> RwLockReadGuard<'static, ()> {
    PORTS.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    PORTS.write().unwrap_or_else(PoisonError::into_inner)
}

fn port_of(address: &str) -> u16 {
    let host = address.split("//").last().unwrap_or_default();
    let host = host.split('/').next().and_then(|host| host.rsplit('@').next()).unwrap_or_default();
    host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
}

#[test]
fn the_demo_ends_with_a_table_without_loss_and_says_what_to_try() {
    let _ports = beside_others();
    let ended = verb(&["dev", "--demo"], None, "");
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let table: Vec<&str> = ended.stdout.lines().rev().take(2).collect();
    let head: Vec<&str> = table[1].split_whitespace().collect();
    assert_eq!(head.join(" "), "COMMITTED DELIVERED LOST DUPLICATED OUT OF ORDER", "{table:?}");
    let numbers: Vec<u64> = table[0].split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [committed, delivered, lost, _, reordered] = numbers[..] else { panic!("{table:?}") };
    assert!(committed > 0 && committed == delivered && lost + reordered == 0, "{table:?}");
    assert!(ended.stdout.contains("shop.OrderPlaced"), "events are shown decoded");
    assert!(ended.log.contains("walpost emit ") || ended.log.contains(" emit "), "{}", ended.log);
    let data = ended.log.split("data in ").nth(1).and_then(|rest| rest.split(' ').next());
    assert!(!Path::new(data.expect("a folder")).exists(), "the data is removed");
}

#[test]
fn dev_says_where_it_is_takes_an_event_and_leaves_nothing_behind() {
    let _ports = alone();
    let dev = Dev::start(&[]);
    let config = dev.config();
    let emit = ["emit", "order", "42", "shop.OrderPlaced", PLACED];
    assert_eq!(verb(&emit, Some(&config), "").code, Some(0));
    let tail = ["tail", "events.order", "--from", "beginning", "-n", "1", "--output", "json"];
    // The topic is made when its first event goes there.
    let event: Value = wait_for("the event", || {
        let tail = verb(&tail, Some(&config), "");
        serde_json::from_str(&tail.stdout).ok()
    });
    assert_eq!((&event["key"], &event["value"]["total"]), (&"42".into(), &"12.50".into()));
    let (data, path) = (dev.fact("data").to_owned(), dev.fact("config").to_owned());
    let ports = ["postgres", "kafka", "registry", "admin"].map(|name| port_of(dev.fact(name)));
    for port in ports {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok(), "port {port}");
    }
    let (status, took) = dev.interrupt();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "Ctrl-C took {took:?}");
    assert!(!Path::new(&data).exists() && !Path::new(&path).exists(), "{data} {path}");
    for port in ports {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "port {port} is still open");
    }
}

#[test]
fn two_instances_run_side_by_side_and_a_given_port_that_is_taken_is_named() {
    let _ports = beside_others();
    let (one, two) = (Dev::start(&[]), Dev::start(&[]));
    for name in ["postgres", "kafka", "registry", "admin"] {
        assert_ne!(port_of(one.fact(name)), port_of(two.fact(name)), "{name}");
    }
    for (flag, name) in [
        ("--postgres-port", "postgres"),
        ("--registry-port", "registry"),
        ("--admin-port", "admin"),
    ] {
        let port = port_of(one.fact(name)).to_string();
        let ended = verb(&["dev", flag, &port], None, "");
        assert_ne!(ended.code, Some(0));
        assert!(ended.log.contains(flag) && ended.log.contains(&port), "{flag}: {}", ended.log);
    }
}

#[test]
fn four_started_in_the_same_instant_all_run_each_on_ports_of_its_own() {
    let _ports = beside_others();
    for _ in 0..3 {
        let together = std::sync::Barrier::new(4);
        let instances: Vec<Dev> = std::thread::scope(|scope| {
            let start = || {
                together.wait();
                Dev::start(&[])
            };
            let starting: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            starting.into_iter().map(|one| one.join().expect("it runs")).collect()
        });
        for name in ["postgres", "kafka", "registry", "admin"] {
            let ports = instances.iter().map(|dev| port_of(dev.fact(name)));
            let ports: std::collections::BTreeSet<u16> = ports.collect();
            assert_eq!(ports.len(), 4, "{name}: {ports:?}");
        }
        for (number, dev) in instances.iter().enumerate() {
            let emit = ["emit", "order", &number.to_string(), "shop.OrderPlaced", PLACED];
            assert_eq!(verb(&emit, Some(&dev.config()), "").code, Some(0));
        }
    }
}

#[test]
fn kept_data_is_there_again() {
    let _ports = beside_others();
    let dir = tempfile::tempdir().expect("a folder");
    // PostgreSQL runs as another user when we are root, and must get in.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).expect("open");
    let keep = dir.path().join("data").display().to_string();
    let count = |dev: &Dev| {
        let url = dev.fact("postgres");
        let mut client = walpost_tests::postgres::connect(url);
        let row = client.query_one("SELECT count(*) FROM outbox", &[]).expect("a count");
        row.get::<_, i64>(0)
    };
    let dev = Dev::start(&["--keep", &keep]);
    let emit = ["emit", "order", "1", "shop.OrderPlaced", PLACED];
    assert_eq!(verb(&emit, Some(&dev.config()), "").code, Some(0));
    assert_eq!(count(&dev), 1);
    assert_eq!(dev.interrupt().0.code(), Some(0));
    let dev = Dev::start(&["--keep", &keep]);
    assert_eq!(count(&dev), 1);
}
