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
use crate::catalog::{self, CatalogQuery, SourceRow};
use crate::clock::Clock;
use crate::decode::Oid;
use crate::encode::Encoder;
use crate::error::{Fault, PositionHistory, SourceError};
use crate::instance::Instance;
use crate::kafka::BrokerError;
use crate::limits;
use crate::park::{OutboxIds, Parker, ParkerSettings};
use crate::pipeline::{Input, Pipeline, StreamStart};
use crate::position::{self, PositionError, PositionTopic, Present, ReadBack, Recorded};
use crate::progress;
use crate::publish::{Delivery, Publisher};
use crate::route::Router;
use crate::run::{Session, Shutdown, Tools, ordered_to_end};
use crate::settings::SourceSettings;
use crate::status::{State, Status};
use crate::survey::Survey;
use crate::wal::{Connection, History, ServerIdentity, WalError, WalStream};

/// Idle sign of life, answered by the server: it shows both sides alive and moves an idle slot.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How long the reason of a producer's unusable state may be behind it.
const REASON_MAX: Duration = Duration::from_millis(500);

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
    /// Opened and given up with the producer: what is on its way to either is not known then.
    parker: Option<Parker>,
    batch_bytes: usize,
    pipeline: Option<Pipeline>,
    identity: Option<ServerIdentity>,
    instance: Instance,
}

/// Runs a source until it is told to end or cannot go on.
///
/// Not cancellation-safe: a dropped future forgets what is in flight, which then comes again.
pub async fn run(source: Source, shutdown: Shutdown) -> Ended {
    let instance = Instance::new(&source.settings.name);
    let mut life = Life {
        source,
        shutdown,
        clock: Clock::start(),
        publisher: None,
        parker: None,
        batch_bytes: limits::BATCH_BYTES,
        pipeline: None,
        identity: None,
        instance,
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
                if let SourceError::Kafka(broker) = &error {
                    if life.is_batch_refused(broker).await {
                        pipeline_input(life.pipeline.as_mut(), Input::BatchRefused);
                    }
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
        let (Some(pipeline), Some(publisher), Some(parker)) =
            (self.pipeline.as_mut(), self.publisher.as_mut(), self.parker.as_mut())
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
            parker,
            instance: &mut self.instance,
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
        if self.publisher.is_none() {
            // Without a broker there is nobody to publish to: WAL is not even asked for.
            self.source.asker.topics().ping().await?;
        }
        self.source.status.enter(State::Connecting);
        let address = self.source.settings.address.clone();
        let application = format!("walpost-{}", self.source.settings.name);
        let mut connection = Connection::open(&address, &application).await?;
        let identity = connection.identify().await?;
        if let Some(position) = self.pipeline.as_ref().and_then(Pipeline::recorded_position) {
            position::check_cluster(&position, &identity)?;
        }
        self.accept_timeline(&identity).await;
        let settings = self.source.settings.clone();
        catalog::refuse_standby(&mut connection, address.database()).await?;
        let history = connection.history(identity.timeline).await?;
        let slot = connection.inspect_slot(&settings.slot).await?;
        let query = CatalogQuery {
            database: address.database(),
            table: &settings.table,
            publication: &settings.publication,
            columns: &settings.columns,
            version_num: identity.version_num,
        };
        let table = catalog::look(&mut connection, &query).await?;
        let row = catalog::source_row(&mut connection, &settings.name).await?;
        let oids = catalog::source_oids(&mut connection, &settings.publication, table.oid).await?;
        let present = Present {
            identity: &identity,
            history: &history,
            slot: &settings.slot,
            confirmed: slot.confirmed,
            oids,
        };
        self.go_on_from_position(&present, row).await?;
        self.open_lot(identity.timeline, table.oid).await?;
        self.open_producer(&history).await?;
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
            source: settings.name.clone(),
            address,
            slot: settings.slot.clone(),
            publication: settings.publication,
            table: table.clone(),
            oids,
        };
        if let Some(pipeline) = &mut self.pipeline {
            let (system_id, slot) = (identity.system_id.clone(), settings.slot);
            let start = StreamStart { table, history, system_id, slot, oids };
            pipeline.handle(Input::StreamStarted(Box::new(start)))?;
        }
        self.identity = Some(identity);
        Ok((stream, survey))
    }

    /// On another timeline nothing in memory is trusted: producer and ledger start as after a
    /// crash.
    async fn accept_timeline(&mut self, found: &ServerIdentity) {
        let Some(known) = &self.identity else { return };
        if known.timeline != found.timeline {
            tracing::warn!(
                source = self.source.settings.name,
                from = known.timeline,
                to = found.timeline,
                "the server is on another timeline, starting over from the recorded position"
            );
            self.lose_producer().await;
            self.pipeline = None;
            self.identity = None;
        }
    }

    /// Compares the server with the position, at every connect (I13): with what this process has
    /// recorded, or after a start with what Kafka holds.
    async fn go_on_from_position(
        &mut self,
        present: &Present<'_>,
        row: Option<SourceRow>,
    ) -> Result<(), SourceError> {
        if let Some(position) = self.pipeline.as_ref().and_then(Pipeline::recorded_position) {
            match position::check(&position, present) {
                Ok(()) => return Ok(()),
                // Another relay had the slot meanwhile and has recorded more: nothing in memory is
                // worth anything any more.
                Err(PositionError::SlotAhead { confirmed, .. }) => {
                    tracing::warn!(
                        source = self.source.settings.name,
                        %confirmed,
                        "the slot was moved by another relay, going on from the recorded position"
                    );
                    self.lose_producer().await;
                    self.pipeline = None;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let settings = &self.source.settings;
        let topic = PositionTopic::of(&settings.name, &settings.kafka);
        let finder = self.source.asker.topics();
        let Recorded { birth, position, instances } = topic.read(finder).await?.unwrap_or_default();
        let missing = |what| missing(settings, &topic, what, row);
        let birth = birth.ok_or_else(|| missing("the birth record"))?;
        let position = position.ok_or_else(|| missing("the position"))?;
        let cluster_id = finder.cluster_id().await?;
        let in_database = row.map(|row| row.birth);
        position::check_birth(&birth, topic.name(), in_database, cluster_id.as_deref())?;
        position::check(&position, present)?;
        self.instance.follow(&instances);
        if finder.is_stand_in() {
            self.instance.repeat_birth(position::write_birth(&birth));
        }
        let source = SourceId::try_new(&settings.name, position.timeline).map_err(|error| {
            let (at, what) = (settings.address.to_string(), error.to_string());
            WalError::OutOfProtocol { at, step: "IDENTIFY_SYSTEM", what }
        })?;
        let encoder = Encoder::new(source, settings.naming.clone(), settings.refresh_interval);
        let router = Router::new(settings.routes.clone());
        let recorded = (position.frontier, &position.offsets);
        tracing::info!(
            source = settings.name,
            position = %position.frontier.mark,
            end = %position.frontier.end,
            "going on from the recorded position"
        );
        let (limits, now) = (settings.lot, self.clock.now());
        self.pipeline = Some(Pipeline::new(router, encoder, recorded, limits, now));
        Ok(())
    }

    /// Opens the parking lot where it is not: once it is, nothing of an earlier session can still
    /// change it.
    async fn open_lot(&mut self, timeline: u32, table: Oid) -> Result<(), SourceError> {
        let (None, Some(pipeline)) = (&self.parker, &mut self.pipeline) else { return Ok(()) };
        let Source { settings, status, .. } = &self.source;
        let (address, source) = (settings.address.clone(), settings.name.clone());
        let frontier = pipeline.ledger().frontier().mark;
        let slot = settings.slot.clone();
        let outbox = OutboxIds { table, column: settings.columns.id.clone() };
        let parker = ParkerSettings { address, source, slot, timeline, outbox };
        let (parker, contents) = Parker::open(parker, status.clone(), frontier).await?;
        pipeline.handle(Input::LotOpened(contents))?;
        let (rows, keys) = (pipeline.lot().rows(), pipeline.lot().keys());
        if rows > 0 {
            tracing::warn!(source = settings.name, events = rows, keys, "events are parked");
        }
        self.parker = Some(parker);
        Ok(())
    }

    /// Makes a producer where there is none, and looks what Kafka holds from the one before it.
    async fn open_producer(&mut self, history: &History) -> Result<(), SourceError> {
        let (None, Some(pipeline)) = (&self.publisher, &mut self.pipeline) else { return Ok(()) };
        let settings = &self.source.settings;
        let started = Instant::now();
        let read_back = ReadBack {
            settings: settings.kafka.clone(),
            source: settings.name.clone(),
            mark: pipeline.ledger().frontier().mark,
            history: history.clone(),
            lowest: pipeline.ledger().offsets().lowest(),
        };
        let found = read_back.run().await?;
        if let Some(first) = found.phantoms.first() {
            let (count, first) = (found.phantoms.len(), first.to_string());
            return Err(SourceError::Phantoms { count, first });
        }
        tracing::info!(
            source = settings.name,
            found = found.events.len(),
            partitions_without_offsets = found.offsets_gone,
            took_ms = started.elapsed().as_millis(),
            "read back what kafka holds beyond the position"
        );
        pipeline.handle(Input::ReadBack(found))?;
        let config = settings.kafka.producer(&settings.name, self.batch_bytes);
        self.publisher = Some(Publisher::open(&config)?);
        Ok(())
    }

    /// Whether the producer is lost because a broker refused a batch. A refusal makes the producer
    /// unusable, and that can be known before the deliveries that say why.
    ///
    /// Cancellation-safe: what was acknowledged meanwhile is put in.
    async fn is_batch_refused(&mut self, error: &BrokerError) -> bool {
        match error {
            BrokerError::BatchRefused { .. } => return true,
            BrokerError::Fatal { .. } => {}
            _ => return false,
        }
        let deadline = tokio::time::Instant::now() + REASON_MAX;
        let mut deliveries = Vec::new();
        while let Some(publisher) = &self.publisher {
            publisher.take_deliveries(&mut deliveries);
            let mut failed = None;
            for delivery in deliveries.drain(..) {
                match delivery {
                    Delivery::Failed { error } => failed = failed.or(Some(error)),
                    other => put_delivery(self.pipeline.as_mut(), &other),
                }
            }
            if let Some(error) = failed {
                return matches!(error, BrokerError::BatchRefused { .. });
            }
            if tokio::time::timeout_at(deadline, publisher.arrival()).await.is_err() {
                break;
            }
        }
        false
    }

    async fn lose_producer(&mut self) {
        self.parker = None;
        if let Some(publisher) = self.publisher.take() {
            // What was acknowledged up to now need not be sent again.
            let mut deliveries = Vec::new();
            publisher.take_deliveries(&mut deliveries);
            for delivery in deliveries {
                put_delivery(self.pipeline.as_mut(), &delivery);
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

fn missing(
    settings: &SourceSettings,
    topic: &PositionTopic,
    what: &'static str,
    row: Option<SourceRow>,
) -> SourceError {
    let (history, hint) = match row {
        Some(SourceRow { is_positioned: true, .. }) => {
            (PositionHistory::Lost, "it was there and is gone, see the page of position_lost")
        }
        _ => (PositionHistory::NeverMade, "walpost init makes it"),
    };
    let (source_name, topic) = (settings.name.clone(), topic.name().to_owned());
    SourceError::PositionMissing { what, source_name, topic, history, hint }
}

fn put_delivery(pipeline: Option<&mut Pipeline>, delivery: &Delivery) {
    match *delivery {
        Delivery::Acknowledged { seq, offset } => {
            pipeline_input(pipeline, Input::Delivered(seq, offset));
        }
        Delivery::Released(seq) => pipeline_input(pipeline, Input::ReleaseDelivered(seq)),
        Delivery::PositionAcknowledged => pipeline_input(pipeline, Input::PositionAcknowledged),
        Delivery::Failed { .. } => {}
    }
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
