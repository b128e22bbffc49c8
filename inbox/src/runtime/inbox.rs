//! A consumer as its service writes it down in; running until it is asked to end, out.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::backoff::{Backoff, chance};
use super::batch::Shared;
use super::clock::Clock;
use super::crash::CrashPoints;
use super::error::RunError;
use super::kafka::KafkaSource;
use super::run::Loop;
use super::settings::{Kafka, Settings};
use super::stats::{Counters, Stats};
use crate::handler::{FixedSchemas, Routes, Topic, WriterSchemas, chain};
use crate::store::{Consumer, Database};

/// A consumer: its name, its database, its handlers.
///
/// ```no_run
/// use walpost_inbox::store::Database;
/// use walpost_inbox::{Cx, Error, Event, Inbox, Kafka, Outcome};
///
/// #[derive(serde::Deserialize)]
/// struct OrderPlaced { sku: String }
///
/// impl Event for OrderPlaced {
///     const TYPE: &'static str = "shop.OrderPlaced";
/// }
///
/// async fn reserve(order: OrderPlaced, cx: &mut Cx<()>) -> Result<Outcome, Error> {
///     let sql = "UPDATE stock SET reserved = reserved + 1 WHERE sku = $1";
///     cx.tx().execute(sql, &[&order.sku]).await?;
///     Ok(Outcome::Done)
/// }
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let database = Database::new("postgres://localhost/stock".parse()?, tokio_postgres::NoTls);
/// Inbox::new("stock", database, ())
///     .topic("events.order", |topic| topic.on(reserve))
///     .run(Kafka::new("localhost:9092", "stock"), std::future::pending())
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Inbox<S> {
    pub(crate) name: String,
    pub(crate) database: Database,
    pub(crate) state: Arc<S>,
    pub(crate) routes: Routes<S>,
    pub(crate) schemas: Arc<dyn WriterSchemas>,
    pub(crate) settings: Settings,
    counters: Arc<Counters>,
}

impl<S> std::fmt::Debug for Inbox<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads a running consumer's counters.
#[derive(Clone, Debug)]
pub struct StatsReader {
    counters: Arc<Counters>,
}

impl StatsReader {
    /// What they are now.
    ///
    /// ```
    /// # fn f(stats: walpost_inbox::StatsReader) {
    /// let handled = stats.read().handled;
    /// # }
    /// ```
    #[must_use]
    pub fn read(&self) -> Stats {
        self.counters.snapshot()
    }
}

impl<S: Send + Sync + 'static> Inbox<S> {
    /// The name stands in the database beside every claim and is kept for ever; `state` is what all
    /// handlers share.
    ///
    /// ```
    /// # use walpost_inbox::Inbox;
    /// # use walpost_inbox::store::Database;
    /// # fn f(database: Database) {
    /// let inbox = Inbox::new("stock", database, ());
    /// # }
    /// ```
    pub fn new(name: impl Into<String>, database: Database, state: S) -> Self {
        Self {
            name: name.into(),
            database,
            state: Arc::new(state),
            routes: Routes::new(),
            schemas: Arc::new(FixedSchemas::default()),
            settings: Settings::default(),
            counters: Arc::default(),
        }
    }

    /// A topic and its handlers.
    ///
    /// ```
    /// # use walpost_inbox::Inbox;
    /// # use walpost_inbox::store::Database;
    /// # fn f(database: Database) {
    /// let inbox = Inbox::new("stock", database, ());
    /// let inbox = inbox.topic("events.order", |topic| topic);
    /// # }
    /// ```
    #[must_use]
    pub fn topic(mut self, name: &str, handlers: impl FnOnce(Topic<S>) -> Topic<S>) -> Self {
        self.routes.add(name, handlers(Topic::new()));
        self
    }

    /// Where the writers' schemas come from. Without it only JSON is read.
    ///
    /// ```
    /// # use walpost_inbox::{FixedSchemas, Inbox};
    /// # fn f(inbox: Inbox<()>) -> Result<Inbox<()>, walpost_inbox::SchemaFault> {
    /// Ok(inbox.schemas(FixedSchemas::try_new([(1, r#"{"type": "string"}"#)])?))
    /// # }
    /// ```
    #[must_use]
    pub fn schemas(mut self, schemas: impl WriterSchemas + 'static) -> Self {
        self.schemas = Arc::new(schemas);
        self
    }

    /// The registry at an address, without credentials; for others see
    /// [`RegistrySchemas`](crate::RegistrySchemas).
    ///
    /// ```
    /// # use walpost_inbox::Inbox;
    /// # fn f(inbox: Inbox<()>) -> Result<Inbox<()>, walpost_inbox::registry::RegistryError> {
    /// inbox.registry("http://localhost:8081")
    /// # }
    /// ```
    #[cfg(feature = "registry")]
    pub fn registry(self, url: &str) -> Result<Self, walpost_schema::registry::RegistryError> {
        use crate::handler::RegistrySchemas;
        let settings = walpost_schema::registry::HttpSettings::new(url);
        Ok(self.schemas(RegistrySchemas::http(&settings)?))
    }

    /// Other settings than the defaults.
    ///
    /// ```
    /// # use walpost_inbox::Inbox;
    /// # fn f(inbox: Inbox<()>) -> Inbox<()> {
    /// inbox.settings(|settings| settings.batch_max = 1)
    /// # }
    /// ```
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Counters that can be read while it runs.
    ///
    /// ```
    /// # use walpost_inbox::Inbox;
    /// # fn f(inbox: Inbox<()>) {
    /// let stats = inbox.stats();
    /// assert_eq!(stats.read().handled, 0);
    /// # }
    /// ```
    #[must_use]
    pub fn stats(&self) -> StatsReader {
        StatsReader { counters: Arc::clone(&self.counters) }
    }

    /// Consumes until `end` is ready, then drains: what is under way may end within
    /// `drain_deadline`, offsets are committed, the group is left.
    ///
    /// A cluster, a database or a registry that is away is waited for, also at the start. An error
    /// is something that a person has to look at. Dropped, it leaves what a crash leaves: nothing
    /// half done.
    ///
    /// ```
    /// # use walpost_inbox::{Inbox, Kafka, RunError};
    /// # async fn f(inbox: Inbox<()>) -> Result<(), RunError> {
    /// let terminated = async { drop(tokio::signal::ctrl_c().await) };
    /// inbox.run(Kafka::new("localhost:9092", "stock"), terminated).await
    /// # }
    /// ```
    pub async fn run(
        self,
        kafka: Kafka,
        end: impl Future<Output = ()> + Send,
    ) -> Result<(), RunError> {
        let topics: Vec<String> = self.routes.topics().into_iter().map(str::to_owned).collect();
        if topics.is_empty() {
            return Err(RunError::NoTopics);
        }
        if let Some(fault) = self.routes.fault() {
            return Err(fault.into());
        }
        let mut end = pin!(end);
        let opened = async {
            let (source, cluster) = KafkaSource::open(&kafka, &self.settings).await?;
            let deadline = self.settings.answer_deadline;
            let consumer = open_consumer(&self.database, &self.name, &cluster, deadline).await;
            Ok::<_, RunError>((source, consumer))
        };
        let (source, consumer) = tokio::select! {
            biased;
            () = &mut end => return Ok(()),
            opened = opened => opened?,
        };
        info!(consumer = self.name, cluster = %consumer.cluster(), "started");
        source.subscribe(topics);
        let shared = self.share(consumer);
        Loop::new(Arc::new(shared), source, Clock::System).run(end).await
    }

    pub(crate) fn share(mut self, consumer: Consumer) -> Shared<S> {
        self.settings.workers = self.settings.workers.max(1);
        let limits = self.settings.limits();
        Shared {
            database: self.database.with_limits(limits),
            consumer,
            routes: self.routes,
            schemas: self.schemas,
            state: self.state,
            settings: self.settings,
            counters: self.counters,
            crash: CrashPoints::of_environment(),
            runner: uuid::Uuid::new_v4(),
        }
    }
}

/// Waits for the database. Cancellation-safe.
pub(crate) async fn open_consumer(
    database: &Database,
    name: &str,
    cluster: &str,
    deadline: Duration,
) -> Consumer {
    let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) };
    let mut failures = 0;
    loop {
        let opened = async {
            let link = database.link().await?;
            let consumer = Consumer::open(&*link, name, cluster).await?;
            database.keep(link);
            Ok::<_, crate::store::StoreError>(consumer)
        };
        let opened = tokio::time::timeout(deadline, opened).await;
        match opened.unwrap_or(Err(crate::store::StoreError::NoAnswer(deadline))) {
            Ok(consumer) => return consumer,
            Err(error) => {
                failures += 1;
                warn!(error = chain(&error), "inbox's database is not ready");
                tokio::time::sleep(backoff.wait(failures, chance())).await;
            }
        }
    }
}
