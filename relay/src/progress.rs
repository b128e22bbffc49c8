//! What the loop reports: the ledger and the counters in, the [`Status`] and a log line out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::unix_ms;
use crate::confirm::Acknowledged;
use crate::error::{Peer, SourceError, broken_invariant_code, with_causes};
use crate::lookup::Question;
use crate::pipeline::{Counts, Pipeline};
use crate::position::{Offsets, TopicId};
use crate::status::{LastFault, LotSample, Snapshot, State, Status};

/// A backlog shows by the age of what is being published.
const CATCHING_UP_AFTER_MS: i64 = 5_000;

/// A bad deployment refuses thousands of events for one reason.
const REFUSALS_INTERVAL_MS: i64 = 60_000;

/// Writes what a stream has reached; the state to enter, where it changes.
pub(crate) fn write(
    status: &Status,
    pipeline: &Pipeline,
    published: &mut Published,
    awaited: Awaited,
) -> Option<State> {
    let ledger = pipeline.ledger();
    let now = unix_ms();
    status.update(|snapshot| {
        let confirmed = ledger.confirmed().lsn();
        if confirmed > snapshot.confirmed || ledger.held() == 0 {
            snapshot.progress_unix_ms = now;
        }
        snapshot.turned_unix_ms = now;
        snapshot.confirmed = snapshot.confirmed.max(confirmed);
        snapshot.pending_events = ledger.undelivered() as u64;
        snapshot.oldest_commit_unix_ms = ledger.oldest_commit_unix_ms();
        published.write_to(snapshot, ledger.offsets());
        write_counts(snapshot, pipeline.counts());
        published.write_refusals(snapshot, pipeline, now);
        let lot = pipeline.lot();
        snapshot.lot = LotSample {
            events: lot.rows(),
            keys: lot.keys(),
            keys_max: lot.limits().keys,
            bytes: lot.bytes(),
            parked: pipeline.counts().parked,
            released: pipeline.counts().released,
            dead_lettered: pipeline.counts().dead_lettered,
        };
        state_of(snapshot, awaited, now)
    })
}

/// Says whom a source waits for: in the status at once, in the log when it is news.
pub(crate) fn report_wait(status: &Status, source: &str, peer: Peer, error: &SourceError) {
    let fault = last_fault(error);
    let (code, text) = (fault.code, fault.text.clone());
    let is_news = status.update(|snapshot| {
        let is_news = snapshot.fault.as_ref().is_none_or(|last| last.text != fault.text);
        count_fault(snapshot, error);
        snapshot.fault = Some(fault);
        is_news
    });
    status.enter(State::waiting_for(peer));
    if is_news {
        tracing::warn!(source, code, "waiting for {}: {text}", peer.as_str());
    }
}

/// Says that a source will not go on.
pub(crate) fn report_stop(status: &Status, source: &str, error: &SourceError) {
    let fault = last_fault(error);
    let code = fault.code;
    tracing::error!(source, code, "stopped: {} (see docs/errors/{code}.md)", fault.text);
    status.update(|snapshot| {
        count_fault(snapshot, error);
        snapshot.fault = Some(fault);
    });
    status.enter(State::Stopped);
}

/// Says that a source ended by a mistake of ours.
pub(crate) fn report_panic(status: &Status, text: &str) {
    let (source, code) = (status.snapshot().source, broken_invariant_code());
    tracing::error!(source, code, "stopped by a broken invariant, please report it: {text}");
    status.update(|snapshot| {
        let (text, at_unix_ms) = (text.to_owned(), unix_ms());
        snapshot.fault = Some(LastFault { code, text, at_unix_ms });
    });
    status.enter(State::Stopped);
}

/// Says that a topic or a schema is missing and asked for again, while a frame waits for it.
pub(crate) fn report_missing(status: &Status, source: &str, question: &Question) {
    let (peer, code, text) = match question {
        Question::Topic { topic } => {
            (Peer::Kafka, "topic_missing", format!("topic \"{topic}\" does not exist"))
        }
        // Nothing waits for it.
        Question::Partitions { .. } => return,
        Question::Latest { subject, .. } | Question::History { subject } => {
            let text = format!("subject \"{subject}\" has no registered schema");
            (Peer::Registry, "schema_not_registered", text)
        }
        Question::Version { subject, version } => {
            let text = format!("subject \"{subject}\" has no version {version}");
            (Peer::Registry, "schema_version_missing", text)
        }
        Question::SchemaOfId { subject, id } => {
            let text = format!("schema id {id} does not belong to subject \"{subject}\"");
            (Peer::Registry, "passthrough_invalid", text)
        }
    };
    let fault = LastFault { code, text: text.clone(), at_unix_ms: unix_ms() };
    status.update(|snapshot| snapshot.fault = Some(fault));
    if status.enter(State::waiting_for(peer)) {
        tracing::warn!(source, code, "waiting for {}: {text}", peer.as_str());
    }
}

fn last_fault(error: &SourceError) -> LastFault {
    LastFault { code: error.code(), text: with_causes(error), at_unix_ms: unix_ms() }
}

/// What a running stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// Nothing in particular.
    Nothing,
    /// The answer to a question; the state says already whose.
    Answer,
    /// A broker.
    Kafka,
    /// The parking tables; the state says so already.
    Lot,
}

/// The state while a stream runs, where it changes.
fn state_of(snapshot: &Snapshot, awaited: Awaited, now: i64) -> Option<State> {
    let old = snapshot.oldest_commit_unix_ms;
    match (snapshot.state, awaited) {
        (State::Draining | State::Stopped, _) | (_, Awaited::Answer | Awaited::Lot) => None,
        (_, Awaited::Kafka) => Some(State::WaitingKafka),
        _ if old.is_some_and(|commit| now - commit > CATCHING_UP_AFTER_MS) => {
            Some(State::CatchingUp)
        }
        _ => Some(State::Streaming),
    }
}

fn write_counts(snapshot: &mut Snapshot, counts: Counts) {
    let skipped = [
        ("already_recorded", counts.skipped_recorded),
        ("found_in_kafka", counts.skipped_found),
        ("already_enqueued", counts.skipped_enqueued),
        ("already_delivered", counts.skipped_delivered),
        ("parked_before", counts.skipped_parked),
        ("not_an_insert_of_ours", counts.ignored_changes),
        ("foreign_message", counts.foreign_messages),
        ("non_transactional_message", counts.refused_messages),
        ("reserved_header", counts.dropped_headers),
    ];
    snapshot.skipped.extend(skipped);
    let resent =
        [("producer_replaced", counts.resent), ("read_back_full", counts.resent_forgotten)];
    snapshot.resent.extend(resent);
}

fn count_fault(snapshot: &mut Snapshot, error: &SourceError) {
    match error {
        SourceError::Kafka(_) => {
            *snapshot.publish_errors.entry(error.code()).or_default() += 1;
        }
        SourceError::Registry { .. } | SourceError::Event { .. } => {
            *snapshot.schema_errors.entry(error.code()).or_default() += 1;
        }
        _ => {}
    }
}

/// Acknowledged events since the status was last written, by topic.
#[derive(Debug, Default)]
pub(crate) struct Published {
    topic: Option<TopicId>,
    count: u64,
    others: Vec<(TopicId, u64)>,
    ages_ms: Vec<i64>,
    /// What was said of refused events: how many there were then, and when that was.
    refusals: BTreeMap<&'static str, (u64, i64)>,
}

impl Published {
    /// Counting goes on after what was reported of a pipeline in an earlier stream.
    pub(crate) fn after(pipeline: &Pipeline) -> Self {
        let refusals = pipeline.refusals().iter();
        let refusals = refusals.map(|(code, (count, _))| (*code, (*count, 0))).collect();
        Self { refusals, ..Self::default() }
    }

    pub(crate) fn count(&mut self, event: Acknowledged, now_unix_ms: i64) {
        self.ages_ms.push(now_unix_ms - event.commit_unix_ms);
        if self.topic != Some(event.topic) {
            if let Some(topic) = self.topic.replace(event.topic) {
                self.others.push((topic, self.count));
            }
            self.count = 0;
        }
        self.count += 1;
    }

    /// Counts refused events by code, and says so at most once a minute for each.
    fn write_refusals(&mut self, snapshot: &mut Snapshot, pipeline: &Pipeline, now: i64) {
        for (code, (count, text)) in pipeline.refusals() {
            let (known, said_at) = self.refusals.entry(code).or_default();
            if count == known {
                continue;
            }
            *snapshot.schema_errors.entry(code).or_default() += count - *known;
            if now - *said_at >= REFUSALS_INTERVAL_MS {
                *said_at = now;
                let source = &snapshot.source;
                tracing::warn!(source, code, "an event cannot be published: {text}");
            }
            *known = *count;
        }
    }

    fn write_to(&mut self, snapshot: &mut Snapshot, offsets: &Offsets) {
        let current = self.topic.map(|topic| (topic, self.count));
        let mut sum = 0;
        for (topic, count) in self.others.drain(..).chain(current) {
            *snapshot.published.entry(Arc::clone(offsets.name(topic))).or_default() += count;
            sum += count;
        }
        snapshot.rate.add(sum, unix_ms());
        self.count = 0;
        snapshot.commit_to_ack.observe_all(self.ages_ms.drain(..));
    }
}
