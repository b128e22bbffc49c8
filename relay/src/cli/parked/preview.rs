//! `walpost parked retry --dry-run`: rows of the lot in; how many of them would be published as
//! things are, and what stands against the others, out. Each row takes the way of a released event
//! up to its record, and goes no further: nothing is written, made or registered.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use walpost_schema::envelope::SourceId;

use crate::ask::Asker;
use crate::cli::Failure;
use crate::encode::{Copy, Encoder, Obstacle, TOPIC_GRACE};
use crate::error::{EventFault, SourceError};
use crate::kafka::{KafkaSettings, TopicFinder};
use crate::lookup::{Answer, Question, TopicFacts};
use crate::park::{ParkedEvent, Reason, Selection, SequenceId, Store};
use crate::position::TopicId;
use crate::registry;
use crate::route::Router;
use crate::settings::{Settings, SourceSettings};

/// The relay may be at the rows meanwhile. The session ends with the command.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Rows that are read at once.
const PAGE: i64 = 100;
/// Questions for one event: its topic, its schema in some ways, each once more.
const QUESTIONS_MAX: usize = 20;

/// What a retry would come to.
#[derive(Debug, Default)]
pub(super) struct Preview {
    /// Events that would be published.
    pub passes: u64,
    /// Heads that would fail again, and what would stay behind them, by code.
    pub stays: BTreeMap<String, u64>,
}

/// Looks at all that a retry of the selection takes: each selected aggregate from its head on, as
/// it is in one moment.
pub(super) async fn preview(
    settings: &Settings,
    source: &SourceSettings,
    store: &Store<'_>,
    selection: &Selection,
) -> Result<Preview, Failure> {
    let mut rehearsal = Rehearsal::new(settings, source)?;
    let mut preview = Preview::default();
    let mut stopped: HashSet<SequenceId> = HashSet::new();
    let mut skip = 0;
    let begun = store.client.batch_execute(SNAPSHOT).await;
    begun.map_err(|error| super::failed(&error))?;
    loop {
        let rows = store.list_whole(selection, skip, PAGE).await;
        let rows = rows.map_err(|error| super::failed(&error))?;
        if rows.is_empty() {
            return Ok(preview);
        }
        for row in &rows {
            skip += 1;
            let sequence = row.event.sequence();
            let code = if stopped.contains(&sequence) {
                Some(Reason::behind().code)
            } else {
                rehearsal.refusal(&row.event).await?.map(Into::into)
            };
            match code {
                None => preview.passes += 1,
                Some(code) => {
                    stopped.insert(sequence);
                    *preview.stays.entry(code.into_owned()).or_default() += 1;
                }
            }
        }
    }
}

/// The pure rooms of the relay, and whom they may ask.
struct Rehearsal {
    router: Router,
    encoder: Encoder,
    asker: Asker,
    kafka: KafkaSettings,
    /// Moves when a question is asked again: what the relay would wait for is not there.
    now: Duration,
}

impl Rehearsal {
    fn new(settings: &Settings, source: &SourceSettings) -> Result<Self, Failure> {
        let kafka = KafkaSettings { create_topics: false, ..source.kafka.clone() };
        let topics = TopicFinder::open(&kafka).map_err(Failure::could_not_tell)?;
        let client = registry::client(settings.registry.as_ref())
            .map_err(|reason| Failure::could_not_tell(anyhow::anyhow!("{reason}")))?;
        let registry_at = registry::address(settings.registry.as_ref());
        // The timeline is each event's own.
        let id = SourceId::try_new(&source.name, 1).map_err(Failure::could_not_tell)?;
        Ok(Self {
            router: Router::new(source.routes.clone()),
            encoder: Encoder::new(id, source.naming.clone(), source.refresh_interval),
            asker: Asker::new(Arc::new(topics), client, registry_at, None),
            kafka: source.kafka.clone(),
            now: Duration::ZERO,
        })
    }

    /// The code of what keeps an event from being published, if anything does.
    async fn refusal(&mut self, parked: &ParkedEvent) -> Result<Option<&'static str>, Failure> {
        let position = parked.identity.position;
        let of = |error| SourceError::Event { id: None, position, error: Box::new(error) }.code();
        let event = match parked.row.event(position, parked.commit_time) {
            Ok(event) => event,
            Err(error) => return Ok(Some(of(EventFault::Row(error)))),
        };
        let destination = match self.router.route(&event.aggregate_type, &event.event_type) {
            Ok(destination) => destination,
            Err(error) => return Ok(Some(of(EventFault::Route(error)))),
        };
        self.encoder.set_timeline(parked.identity.timeline);
        let mut asked = HashSet::new();
        for _ in 0..QUESTIONS_MAX {
            match self.encoder.prepare(&event, &destination, Copy::Released, self.now) {
                Ok(_) => return Ok(None),
                Err(Obstacle::Refuse(error)) => return Ok(Some(of(EventFault::Encode(error)))),
                Err(Obstacle::Ask(question)) => {
                    if asked.contains(&question) {
                        self.now += TOPIC_GRACE;
                    }
                    self.ask(&question).await?;
                    asked.insert(question);
                }
            }
        }
        let place = parked.identity;
        Err(Failure::could_not_tell(anyhow::anyhow!(
            "the event at {place} raises no end of questions"
        )))
    }

    async fn ask(&mut self, question: &Question) -> Result<(), Failure> {
        let answer = self.asker.ask(question).await.map_err(Failure::could_not_tell)?;
        let Question::Topic { topic } = question else {
            self.encoder.learn(question, answer, self.now);
            return Ok(());
        };
        let facts = match answer {
            Answer::Topic { facts, .. } => Some(facts),
            // The relay would make it.
            _ if self.kafka.create_topics => Some(TopicFacts {
                partitions: self.kafka.partitions,
                message_bytes_max: crate::kafka::MESSAGE_BYTES_MAX_DEFAULT,
            }),
            _ => None,
        };
        let found = facts.map(|facts| (TopicId::NONE, facts));
        self.encoder.learn_topic(topic, found, self.now);
        Ok(())
    }
}
