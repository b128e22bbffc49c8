//! `walpost dev`: PostgreSQL, Kafka, a registry and the relay in one process tree, for trying out.
//!
//! PostgreSQL is a real one, the system's or a fetched one; Kafka is librdkafka's mock cluster on
//! real TCP; the registry is the one of `walpost_schema`. The relay runs from a `walpost.toml` like
//! anybody's, which the other verbs find by themselves while this runs.

mod broker;
mod demo;
mod fetch;
mod instance;
mod postgres;
mod registry;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::sync::watch;

use self::broker::MockKafka;
pub(super) use self::instance::running_config;
use super::output::print_json;
use super::{Answer, Exit, Failure, Output, init, run::order_on_signal, status};
use crate::admin::AdminListener;
use crate::daemon;
use crate::kafka::TopicFinder;
use crate::settings::{Environment, Settings};

/// Starts everything that is needed to try walpost on this machine, and prints the addresses and
/// what to do next. Ends with Ctrl-C; nothing is left running.
///
/// Ports are the ones asked for, or free ones. The data goes away at the end unless --keep is
/// given. Not for production.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Also write orders, show them as they come out of Kafka, verify that none is lost, and end.
    #[arg(long)]
    demo: bool,
    /// Keep PostgreSQL's data in this folder; Kafka's and the registry's are in memory anyway.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// PostgreSQL's port.
    #[arg(long, value_name = "PORT")]
    postgres_port: Option<u16>,
    /// The registry's port.
    #[arg(long, value_name = "PORT")]
    registry_port: Option<u16>,
    /// The port of health and metrics.
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Schema files to register on demand, instead of the ones that come with the demo.
    #[arg(long, value_name = "DIR")]
    schemas: Option<PathBuf>,
}

/// How long the relay may take until it streams.
const READY_MAX: Duration = Duration::from_secs(20);

pub(super) async fn run(arguments: Arguments, output: Output) -> Answer {
    let failed = |error: anyhow::Error| Failure::could_not_tell(error);
    let (order, shutdown) = watch::channel(false);
    let signals = tokio::spawn(order_on_signal(order.clone())?);
    let mut ended = shutdown.clone();
    // Ctrl-C while something is fetched or started: what was started ends with its owner.
    let (servers, admin) = tokio::select! {
        biased;
        _ = ended.wait_for(|is_ordered| *is_ordered) => return Ok(Exit::Fine),
        servers = Servers::start(&arguments) => servers.map_err(failed)?,
    };
    let admin = AdminListener::taken_over(admin).map_err(Failure::could_not_tell)?;
    let answer = servers.serve(admin, &arguments, output, order, shutdown).await;
    servers.stop().await;
    signals.abort();
    answer
}

/// Everything that was started, with the configuration that names it.
struct Servers {
    postgres: postgres::Postgres,
    kafka: MockKafka,
    registry: registry::DevRegistry,
    instance: instance::Instance,
    settings: Settings,
    folder: DataFolder,
}

/// Where the data is.
struct DataFolder {
    path: PathBuf,
    /// Removed when dropped; `None` when the data is kept.
    temporary: Option<tempfile::TempDir>,
}

impl DataFolder {
    fn open(keep: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = keep else {
            let mut builder = tempfile::Builder::new();
            let builder = builder.prefix("walpost-dev-");
            // PostgreSQL may run as another user, who must be able to pass through.
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            let folder = builder.permissions(permissions).tempdir()?;
            return Ok(Self { path: folder.path().canonicalize()?, temporary: Some(folder) });
        };
        std::fs::create_dir_all(path)
            .with_context(|| format!("folder {} cannot be made", path.display()))?;
        Ok(Self { path: path.canonicalize()?, temporary: None })
    }
}

impl Servers {
    /// Starts what the relay needs; also holds the port that the relay will serve.
    async fn start(arguments: &Arguments) -> anyhow::Result<(Self, TcpListener)> {
        let folder = DataFolder::open(arguments.keep.as_deref())?;
        let programs = fetch::programs().await?;
        let postgres =
            postgres::Postgres::start(&programs, &folder.path, arguments.postgres_port).await?;
        let kafka = MockKafka::start()?;
        let registry = registry::DevRegistry::start(arguments.registry_port)?;
        let schemas = match &arguments.schemas {
            Some(own) => own.canonicalize().context("--schemas")?,
            None => demo::write_schemas(&folder.path)?,
        };
        let admin = instance::listener(arguments.admin_port, 9464, "--admin-port")?;
        let admin_port = admin.local_addr()?.port();
        let text = format!(
            "# Written by walpost dev, for this run.\n\
             [admin]\nlisten = \"127.0.0.1:{admin_port}\"\n\
             [kafka]\nbootstrap_servers = \"{}\"\ncreate_topics = true\npartitions = 4\n\
             replication_factor = 1\n\
             [registry]\nurl = \"{}\"\n\
             [schemas]\ndir = {:?}\nnamespace = \"shop\"\nauto_register = true\n\
             [[source]]\nname = \"shop\"\nurl = \"{}\"\n",
            kafka.address(),
            registry.url(),
            schemas.display().to_string(),
            postgres.url()
        );
        let instance = instance::Instance::write(&text)?;
        let settings = Settings::load(instance.path(), &Environment::default())?;
        Ok((Self { postgres, kafka, registry, instance, settings, folder }, admin))
    }

    async fn serve(
        &self,
        admin: AdminListener,
        arguments: &Arguments,
        output: Output,
        order: watch::Sender<bool>,
        shutdown: watch::Receiver<bool>,
    ) -> Answer {
        let finder = TopicFinder::open(&self.settings.kafka).map_err(Failure::could_not_tell)?;
        let finder = Arc::new(finder.made_by(self.kafka.maker()));
        for source in &self.settings.sources {
            init::prepare(source, &finder).await.map_err(Failure::could_not_tell)?;
        }
        let settings = self.settings.clone();
        let mut relay = {
            let shutdown = shutdown.clone();
            tokio::spawn(async move { daemon::run(&settings, admin, finder, shutdown).await })
        };
        tokio::select! {
            answer = self.accompany(arguments, output, shutdown) => {
                order.send_replace(true);
                let ended = relay.await.map_err(Failure::could_not_tell)?;
                ended.map_err(Failure::could_not_tell)?;
                answer
            }
            // It ends by itself only when its source stopped; the reason is in the log line above.
            ended = &mut relay => {
                let ended = ended.map_err(Failure::could_not_tell)?;
                ended.map_err(Failure::could_not_tell)?;
                eprintln!("the relay has stopped, so this ends as well");
                Ok(Exit::NoSourceLeft)
            }
        }
    }

    /// Prints the addresses, runs the demo if asked to, and waits for the end.
    async fn accompany(
        &self,
        arguments: &Arguments,
        output: Output,
        mut shutdown: watch::Receiver<bool>,
    ) -> Answer {
        self.wait_until_ready().await?;
        match output {
            Output::Json => print_json(&self.addresses())?,
            Output::Text => eprint!("{}", self.banner(arguments.demo)),
        }
        if arguments.demo {
            return demo::run(&self.settings, self.kafka.maker().as_ref(), output, shutdown).await;
        }
        let _ = shutdown.wait_for(|is_ordered| *is_ordered).await;
        Ok(Exit::Fine)
    }

    async fn wait_until_ready(&self) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let asked = status::get(&self.settings.admin, "/readyz").await;
            if asked.is_ok_and(|(status, _)| status.is_success()) {
                return Ok(());
            }
            if started.elapsed() > READY_MAX {
                return Err(Failure::could_not_tell(anyhow::anyhow!(
                    "the relay does not stream after {} s",
                    READY_MAX.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn addresses(&self) -> serde_json::Value {
        json!({
            "postgres": self.postgres.url(),
            "kafka": self.kafka.address(),
            "registry": self.registry.url(),
            "admin": format!("http://{}", self.settings.admin.listen),
            "config": self.instance.path(),
            "data": self.folder.path,
        })
    }

    fn banner(&self, is_demo: bool) -> String {
        let program = instance::program();
        let kept = match self.folder.temporary {
            Some(_) => "removed at the end; --keep DIR to keep it",
            None => "kept",
        };
        let mut text = format!(
            "walpost {} dev        data in {} ({kept})\n\
             PostgreSQL {:<12} {}\n\
             Kafka (mock, memory)    {}\n\
             Registry                {}\n\
             Health and metrics      http://{}\n\
             Configuration           {}\n\
             For trying out, not for production.\n\n",
            env!("CARGO_PKG_VERSION"),
            self.folder.path.display(),
            self.postgres.version(),
            self.postgres.url(),
            self.kafka.address(),
            self.registry.url(),
            self.settings.admin.listen,
            self.instance.path().display(),
        );
        if !is_demo {
            text.push_str(&format!(
                "Write an event:   {program} emit order 42 shop.OrderPlaced \
                 '{{\"total\": 12.50}}'\n\
                 Watch it arrive:  {program} tail events.order --from beginning\n\
                 Break something:  {program} emit order 42 shop.OrderPlaced \
                 '{{\"total\": \"abc\"}}'\n\
                 See what waits:   {program} parked list\n\
                 What it does:     {program} status\n\
                 End:              Ctrl-C\n"
            ));
        }
        text
    }

    async fn stop(self) {
        self.registry.stop().await;
        self.postgres.stop();
        drop(self.instance);
        drop(self.kafka);
        drop(self.folder);
    }
}
