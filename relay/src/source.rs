//! A source from start to end: connects, hands the stream to the loop (`run.rs`), and decides by
//! the class of the fault whether to wait and connect again or to stop.
//!
//! A lost stream keeps producer and ledger, and what the new stream repeats is skipped. A lost
//! producer, or a server on another timeline, starts over from the slot.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use walpost_schema::envelope::SourceId;

use crate::ask::Asker;
use crate::backoff::Backoff;
use crate::catalog::{self, CatalogQuery};
use crate::clock::Clock;
use crate::encode::Encoder;
use crate::error::{Fault, SourceError};
use crate::limits;
use crate::pipeline::{Input, Pipeline};
use crate::progress;
use crate::publish::{Delivery, Publisher};
use crate::route::Router;
use crate::run::{Session, Shutdown, Tools, ordered_to_end};
use crate::settings::SourceSettings;
use crate::status::{State, Status};
use crate::survey::Survey;
use crate::wal::{Connection, ServerIdentity, WalError, WalStream};

/// Idle sign of life, answered by the server: it shows both sides alive and moves an idle slot.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How a source ended.
#[derive(Debug)]
pub enum Ended {
    /// It was told to, and what was in flight is confirmed or will come again.
    Drained,
    /// It cannot go on.
    Stopped(SourceError),
}

/// A source: its settings and whom it asks.
#[derive(Debug)]
pub struct Source {
    /// As configured.
    pub settings: SourceSettings,
    /// Brokers and registry.
    pub asker: Asker,
    /// What the outside sees.
    pub status: Status,
}

/// What outlives a lost connection: the producer, the ledger and who the server was.
struct Life {
    source: Source,
    shutdown: Shutdown,
    clock: Clock,
    publisher: Option<Publisher>,
    batch_bytes: usize,
    pipeline: Option<Pipeline>,
    identity: Option<ServerIdentity>,
}

/// Runs a source until it is told to end or cannot go on.
///
/// Not cancellation-safe: a dropped future forgets what is in flight, which then comes again.
pub async fn run(source: Source, shutdown: Shutdown) -> Ended {
    let mut life = Life {
        source,
        shutdown,
        clock: Clock::start(),
        publisher: None,
        batch_bytes: limits::BATCH_BYTES,
        pipeline: None,
        identity: None,
    };
    let mut backoff = Backoff::new();
    let ended = loop {
        let started = Instant::now();
        let error = match life.session().await {
            Ok(()) => break Ended::Drained,
            Err(error) => error,
        };
        match error.fault() {
            Fault::Park | Fault::Stop => break Ended::Stopped(error),
            Fault::Retry(peer) => {
                if matches!(error, SourceError::Kafka(_)) {
                    life.lose_producer().await;
                }
                let wait = backoff.next_wait(started.elapsed());
                let Source { settings, status, .. } = &life.source;
                status.update(|snapshot| {
                    *snapshot.reconnects.entry(peer.as_str()).or_default() += 1;
                });
                progress::report_wait(status, &settings.name, peer, &error);
                if life.sleep_or_shutdown(wait).await {
                    break Ended::Drained;
                }
            }
        }
    };
    life.lose_producer().await;
    match &ended {
        Ended::Drained => {}
        Ended::Stopped(error) => {
            progress::report_stop(&life.source.status, &life.source.settings.name, error);
        }
    }
    ended
}

impl Life {
    /// From connecting to the end of the stream. `Ok` means that the order to end was carried out.
    async fn session(&mut self) -> Result<(), SourceError> {
        let mut shutdown = self.shutdown.clone();
        let stream = tokio::select! {
            biased;
            () = ordered_to_end(&mut shutdown) => return Ok(()),
            connected = self.connect() => connected,
        };
        let (stream, survey) = stream?;
        let (Some(pipeline), Some(publisher)) = (self.pipeline.as_mut(), self.publisher.as_mut())
        else {
            return Err(SourceError::NotStarted { message: "stream" });
        };
        let (sender, alarm) = oneshot::channel();
        let survey = AbortOnDrop(tokio::spawn(survey.run(self.source.status.clone(), sender)));
        let tools = Tools {
            settings: &self.source.settings,
            asker: &self.source.asker,
            status: &self.source.status,
            pipeline,
            publisher,
            batch_bytes: &mut self.batch_bytes,
            clock: self.clock,
            shutdown,
            alarm,
            heartbeat: self.identity.as_ref().map_or(HEARTBEAT_INTERVAL, heartbeat_of),
        };
        let ended = Session::new(stream, tools).run().await;
        drop(survey);
        if ended.is_err() {
            // A lost stream keeps producer and ledger (DESIGN 2); what it repeats is skipped.
            pipeline_input(self.pipeline.as_mut(), Input::StreamLost);
        }
        ended
    }

    async fn connect(&mut self) -> Result<(WalStream, Survey), SourceError> {
        let settings = &self.source.settings;
        if self.publisher.is_none() {
            // Without a broker there is nobody to publish to: WAL is not even asked for.
            self.source.asker.topics().ping().await?;
            let config = settings.kafka.producer(&settings.name, self.batch_bytes);
            self.publisher = Some(Publisher::open(&config)?);
        }
        self.source.status.enter(State::Connecting);
        let application = format!("walpost-{}", settings.name);
        let mut connection = Connection::open(&settings.address, &application).await?;
        let identity = connection.identify().await?;
        self.accept_identity(&identity).await?;
        let settings = &self.source.settings;
        catalog::refuse_standby(&mut connection, settings.address.database()).await?;
        let slot = connection.inspect_slot(&settings.slot).await?;
        let query = CatalogQuery {
            database: settings.address.database(),
            table: &settings.table,
            publication: &settings.publication,
            columns: &settings.columns,
            version_num: identity.version_num,
        };
        let table = catalog::look(&mut connection, &query).await?;
        let stream = WalStream::start(connection, &settings.slot, &settings.publication).await?;
        tracing::info!(
            source = settings.name,
            slot = settings.slot,
            confirmed = %slot.confirmed,
            timeline = identity.timeline,
            encrypted = stream.is_encrypted(),
            "streaming"
        );
        let survey = Survey {
            address: settings.address.clone(),
            slot: settings.slot.clone(),
            publication: settings.publication.clone(),
            table: table.clone(),
        };
        if self.pipeline.is_none() {
            let made = new_pipeline(&self.source.settings, identity.timeline, &self.clock)?;
            self.pipeline = Some(made);
        }
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.handle(Input::StreamStarted(Box::new(table)))?;
        }
        self.identity = Some(identity);
        Ok((stream, survey))
    }

    /// Another cluster is refused. On another timeline nothing in memory is trusted: producer and
    /// ledger start as after a crash.
    async fn accept_identity(&mut self, found: &ServerIdentity) -> Result<(), SourceError> {
        let Some(known) = &self.identity else { return Ok(()) };
        if known.system_id != found.system_id {
            return Err(SourceError::OtherDatabase {
                expected: known.system_id.clone(),
                found: found.system_id.clone(),
            });
        }
        if known.timeline != found.timeline {
            tracing::warn!(
                source = self.source.settings.name,
                from = known.timeline,
                to = found.timeline,
                "the server is on another timeline, starting over from the slot"
            );
            self.lose_producer().await;
            self.pipeline = None;
            self.identity = None;
            let settings = &self.source.settings;
            let config = settings.kafka.producer(&settings.name, self.batch_bytes);
            self.publisher = Some(Publisher::open(&config)?);
        }
        Ok(())
    }

    async fn lose_producer(&mut self) {
        if let Some(publisher) = self.publisher.take() {
            // What was acknowledged up to now need not be sent again.
            let mut deliveries = Vec::new();
            publisher.take_deliveries(&mut deliveries);
            for delivery in deliveries {
                if let Delivery::Acknowledged(seq) = delivery {
                    pipeline_input(self.pipeline.as_mut(), Input::Delivered(seq));
                }
            }
            pipeline_input(self.pipeline.as_mut(), Input::ProducerLost);
            // It blocks for up to a second; its thread is joined there.
            let _ = tokio::task::spawn_blocking(move || publisher.purge()).await;
        }
    }

    /// Whether the order to end came while sleeping.
    async fn sleep_or_shutdown(&mut self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = ordered_to_end(&mut self.shutdown) => true,
            () = tokio::time::sleep(wait) => false,
        }
    }
}

fn new_pipeline(
    settings: &SourceSettings,
    timeline: u32,
    clock: &Clock,
) -> Result<Pipeline, SourceError> {
    let source = SourceId::try_new(&settings.name, timeline).map_err(|error| {
        let (at, what) = (settings.address.to_string(), error.to_string());
        WalError::OutOfProtocol { at, step: "IDENTIFY_SYSTEM", what }
    })?;
    let encoder = Encoder::new(source, settings.naming.clone(), settings.refresh_interval);
    Ok(Pipeline::new(Router::new(settings.routes.clone()), encoder, clock.now()))
}

fn pipeline_input(pipeline: Option<&mut Pipeline>, input: Input<'_>) {
    if let Some(pipeline) = pipeline {
        // Losing a stream or a producer cannot fail.
        let _ = pipeline.handle(input);
    }
}

/// A third of what the server tolerates, at most a second.
fn heartbeat_of(identity: &ServerIdentity) -> Duration {
    match identity.wal_sender_timeout_ms {
        0 => HEARTBEAT_INTERVAL,
        limit => HEARTBEAT_INTERVAL.min(Duration::from_millis(limit / 3)),
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
