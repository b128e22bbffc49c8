//! One contender drains the backlog: rate, CPU, memory; and `walpost verify` says what became of
//! it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::backlog::{Backlog, copy_slot, drop_slot};
use crate::process::{cpu_seconds, peak_rss_mb, relay_program};
use crate::servers::{Fit, Servers};

/// One drain.
pub(crate) struct Drain {
    contender: &'static str,
    rows_per_second: f64,
    cpu_per_million: f64,
    peak_rss_mb: f64,
    verdict: String,
}

/// Longer than any drain of a backlog that fits a disk.
const DRAIN_MAX: Duration = Duration::from_secs(600);

/// `pg_recvlogical` to /dev/null: as fast as one slot can be read by a client that reads as rows
/// come.
pub(crate) async fn ceiling(servers: &Servers, backlog: &Backlog, round: u32) -> Result<Drain> {
    let slot = format!("ceiling_{round}");
    copy_slot(servers, &slot).await?;
    let started = Instant::now();
    let mut child = Command::new(servers.postgres.bin().join("pg_recvlogical"))
        .args(["-d", &servers.postgres.url(), "--slot", &slot, "--start", "-f", "/dev/null"])
        .args(["-o", "proto_version=1", "-o", "publication_names=load", "-o", "messages=true"])
        .args(["--endpos", &backlog.end, "--no-loop"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("pg_recvlogical")?;
    let (mut cpu, mut rss) = (0.0, 0.0);
    while child.try_wait()?.is_none() {
        // The last sample before the end: at most 20 ms of CPU are missed.
        cpu = cpu_seconds(child.id()).unwrap_or(cpu);
        rss = peak_rss_mb(child.id()).unwrap_or(rss);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if started.elapsed() > DRAIN_MAX {
            child.kill()?;
            bail!("pg_recvlogical did not reach the end");
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    drop_slot(servers, &slot).await?;
    Ok(Drain {
        contender: "pg_recvlogical to /dev/null",
        rows_per_second: backlog.rows as f64 / seconds,
        cpu_per_million: cpu * 1e6 / backlog.rows as f64,
        peak_rss_mb: rss,
        verdict: String::new(),
    })
}

/// The relay, from a copy of the slot into a topic of its own; start-up included.
pub(crate) async fn relay(
    servers: &Servers,
    backlog: &Backlog,
    round: u32,
    fit: Fit,
) -> Result<Drain> {
    let (contender, name) = match fit {
        Fit::All => ("walpost into Kafka", "relay"),
        Fit::AllButOnePercent => ("walpost, 1 % of the keys parked", "parking"),
    };
    let (slot, topic) = (format!("{name}_{round}"), format!("{name}.{round}"));
    copy_slot(servers, &slot).await?;
    servers.register(&topic, fit)?;
    let relay = Relay::start(servers, &slot, &topic)?;
    let started = Instant::now();
    while relay.dealt_with().await? < backlog.rows {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if started.elapsed() > DRAIN_MAX {
            bail!("the relay did not publish the backlog");
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let (cpu, rss) = (cpu_seconds(relay.pid())?, peak_rss_mb(relay.pid())?);
    let verdict = relay.verify().await?;
    relay.stop()?;
    drop_slot(servers, &slot).await?;
    Ok(Drain {
        contender,
        rows_per_second: backlog.rows as f64 / seconds,
        cpu_per_million: cpu * 1e6 / backlog.rows as f64,
        peak_rss_mb: rss,
        verdict,
    })
}

/// A relay of its own process.
pub(crate) struct Relay {
    child: Child,
    folder: std::path::PathBuf,
    port: u16,
}

impl Relay {
    pub(crate) fn start(servers: &Servers, slot: &str, topic: &str) -> Result<Self> {
        let port = xtask::machine::free_port()?;
        let folder =
            std::env::temp_dir().join(format!("walpost-load-{}-{slot}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("walpost.toml");
        std::fs::write(&config, servers.configuration(slot, topic, port))?;
        let log = std::fs::File::create(folder.join("log"))?;
        let prepared = Command::new(relay_program()?)
            .arg("--config")
            .arg(&config)
            .arg("init")
            .stdout(Stdio::null())
            .status()
            .context("walpost init")?;
        anyhow::ensure!(prepared.success(), "walpost init: {prepared}");
        let child = Command::new(relay_program()?)
            .arg("--config")
            .arg(&config)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("walpost")?;
        Ok(Self { child, folder, port })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn settings(&self) -> Result<walpost::settings::Settings> {
        let environment = walpost::settings::Environment::default();
        Ok(walpost::settings::Settings::load(&self.folder.join("walpost.toml"), &environment)?)
    }

    /// What `walpost verify` says while the relay runs, how fast and in how much memory.
    async fn verify(&self) -> Result<String> {
        let mut child = Command::new(relay_program()?)
            .arg("--config")
            .arg(self.folder.join("walpost.toml"))
            .args(["verify", "--output", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("walpost verify")?;
        let mut rss = 0.0;
        while child.try_wait()?.is_none() {
            rss = peak_rss_mb(child.id()).unwrap_or(rss);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let output = child.wait_with_output()?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let source = &answer["sources"][0];
        let seconds = source["seconds"].as_f64().context("seconds")?;
        let committed = source["committed"].as_f64().context("committed")?;
        Ok(format!(
            "{} delivered, {} lost, {} duplicated, {} out of order\n{:<28} {:>9.0} events/s  \
             {:>27.1} MB peak  {:.0} MB on disk",
            source["delivered"],
            source["lost"],
            source["duplicated"],
            source["out_of_order"],
            "  walpost verify",
            committed / seconds,
            rss,
            source["spilled_bytes"].as_f64().unwrap_or_default() / 1e6
        ))
    }

    /// Events acknowledged so far; 0 while it starts.
    /// Events that are in Kafka or in the parking lot.
    pub(crate) async fn dealt_with(&self) -> Result<u64> {
        let url = format!("http://127.0.0.1:{}/api/v1/status", self.port);
        let Ok(answer) = reqwest::get(url).await else { return Ok(0) };
        let status: serde_json::Value = serde_json::from_str(&answer.text().await?)?;
        if status["sources"][0]["state"] == "stopped" {
            bail!("the relay stopped: {}", std::fs::read_to_string(self.folder.join("log"))?);
        }
        let count = |name: &str| status["sources"][0][name].as_u64().unwrap_or(0);
        Ok(count("published_events") + count("parked_events"))
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = self.child.id();
        if let Some(identity) = xtask::process::Identity::of(pid) {
            identity.signal(xtask::process::Signal::TERM);
        }
        self.child.wait()?;
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
    }
}

/// All drains, shown by contender with medians.
#[derive(Default)]
pub(crate) struct Table {
    drains: Vec<Drain>,
}

impl Table {
    pub(crate) fn add(&mut self, drain: Drain) {
        println!("{}", drain.line());
        self.drains.push(drain);
    }

    pub(crate) fn text(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for drain in &self.drains {
            if !names.contains(&drain.contender) {
                names.push(drain.contender);
            }
        }
        let median = |name: &str, of: fn(&Drain) -> f64| {
            let mut values: Vec<f64> =
                self.drains.iter().filter(|drain| drain.contender == name).map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(0.0)
        };
        let mut text = "\nmedians\n".to_owned();
        for name in &names {
            text.push_str(&format!(
                "{name:<31} {:>9.0} rows/s  {:>5.2} CPU s a million  {:>6.1} MB peak\n",
                median(name, |d| d.rows_per_second),
                median(name, |d| d.cpu_per_million),
                median(name, |d| d.peak_rss_mb)
            ));
        }
        if let [ceiling, relay, parking] = names[..] {
            let rate = |name: &str| median(name, |d| d.rows_per_second);
            text.push_str(&format!(
                "ratio to the ceiling {:.2}, with 1 % parked to without {:.2}\n",
                rate(relay) / rate(ceiling),
                rate(parking) / rate(relay)
            ));
        }
        text
    }
}

impl Drain {
    fn line(&self) -> String {
        format!(
            "{:<31} {:>9.0} rows/s  {:>5.2} CPU s a million  {:>6.1} MB peak  {}",
            self.contender,
            self.rows_per_second,
            self.cpu_per_million,
            self.peak_rss_mb,
            self.verdict
        )
    }
}
