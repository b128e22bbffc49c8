//! One event that cannot be handled in; its claim committed with its parking, or with its dead
//! letter, out. Whatever its handler wrote was rolled back before.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tracing::warn;
use walpost_outbox::{NewEvent, append};

use super::batch::{End, Shared, clear_notes};
use super::error::RunError;
use super::lanes::Work;
use super::stats::add;
use super::suspects::Care;
use crate::handler::{Boxed, TraceParent};
use crate::message::Record;
use crate::store::{Claim, Link, StoreError, Transaction, parked};

/// The aggregate type of dead letters.
const DEAD_LETTER: &str = "dead_letter";

/// Puts an event aside with its sequence. An event that somebody else claimed meanwhile is not
/// parked: a lost claim parks nothing.
pub(crate) fn park<'a, S: Send + Sync + 'static>(
    shared: &'a Shared<S>,
    work: &'a Work,
    care: Care,
    reason: &'a str,
) -> Boxed<'a, End> {
    Box::pin(park_now(shared, work, care, reason))
}

async fn park_now<S: Send + Sync + 'static>(
    shared: &Shared<S>,
    work: &Work,
    care: Care,
    reason: &str,
) -> End {
    let (tx, claim) = match shared.answer(claim(shared, work)).await {
        Ok(claimed) => claimed,
        Err(error) => return End::of_store(&error),
    };
    let counter = match claim {
        Claim::Duplicate => &shared.counters.duplicates,
        Claim::Parked => &shared.counters.appended,
        Claim::Fresh => &shared.counters.parked,
    };
    let written = match claim {
        Claim::Duplicate => Ok(()),
        Claim::Parked => shared.answer(append_parked(shared, work, &tx)).await,
        Claim::Fresh => {
            let Work { record, message } = work;
            let parking = parked::park(&*tx, &shared.consumer, message, record, reason);
            shared.answer(parking).await
        }
    };
    if written.is_ok()
        && claim != Claim::Duplicate
        && let Err(end) = check_lot(shared, &tx).await
    {
        return end;
    }
    let is_deadly = claim == Claim::Fresh
        && matches!(care, Care::Alone { deaths } if deaths >= shared.settings.deaths_max.max(1));
    let end = end(shared, (work, care), tx, written, counter).await;
    if is_deadly && matches!(end, End::Committed { .. }) {
        warn!(id = %work.message.id, reason, "event is parked");
        add(&shared.counters.deadly, 1);
    }
    end
}

/// Sends an event away through the outbox. One whose sequence is parked stays in order: it is
/// appended there.
pub(crate) fn dead_letter<'a, S: Send + Sync + 'static>(
    shared: &'a Shared<S>,
    work: &'a Work,
    care: Care,
    reason: &'a str,
) -> Boxed<'a, End> {
    Box::pin(dead_letter_now(shared, work, care, reason))
}

async fn dead_letter_now<S: Send + Sync + 'static>(
    shared: &Shared<S>,
    work: &Work,
    care: Care,
    reason: &str,
) -> End {
    let (tx, claim) = match shared.answer(claim(shared, work)).await {
        Ok(claimed) => claimed,
        Err(error) => return End::of_store(&error),
    };
    let (written, counter) = match claim {
        Claim::Duplicate => (Ok(()), &shared.counters.duplicates),
        Claim::Parked => {
            let written = shared.answer(append_parked(shared, work, &tx)).await;
            if written.is_ok()
                && let Err(end) = check_lot(shared, &tx).await
            {
                return end;
            }
            (written, &shared.counters.appended)
        }
        Claim::Fresh => {
            let letter = letter(shared.consumer.name(), &work.record, reason);
            let written = shared.answer(async { Ok(append(&*tx, &letter).await?) }).await;
            (written, &shared.counters.dead_lettered)
        }
    };
    end(shared, (work, care), tx, written, counter).await
}

async fn claim<S>(
    shared: &Shared<S>,
    work: &Work,
) -> Result<(Transaction<Link>, Claim), StoreError> {
    let link = shared.database.link().await?;
    let statements = link.statements.clone();
    let messages = std::slice::from_ref(&work.message);
    let (tx, claims) = Transaction::begin(link, &statements, &shared.consumer, messages).await?;
    let verdict = claims.verdicts().first().copied().unwrap_or(Claim::Duplicate);
    Ok((tx, verdict))
}

async fn append_parked<S>(
    shared: &Shared<S>,
    work: &Work,
    tx: &Transaction<Link>,
) -> Result<(), StoreError> {
    parked::append(&**tx, &shared.consumer, &[(&work.message, &*work.record)]).await
}

/// Refuses a transaction that would make the lot larger than it may be.
pub(super) async fn check_lot<S>(shared: &Shared<S>, tx: &Transaction<Link>) -> Result<(), End> {
    let asking = parked::lot(&**tx, &shared.consumer);
    let lot = shared.answer(asking).await.map_err(|error| End::of_store(&error))?;
    let (max, bytes_max) = (shared.settings.parked_sequences_max, shared.settings.parked_bytes_max);
    if lot.sequences > u64::from(max) {
        return Err(End::Stop(RunError::ParkedTooMany { count: lot.sequences, max }));
    }
    if lot.bytes > bytes_max {
        return Err(End::Stop(RunError::ParkedTooLarge { bytes: lot.bytes, max: bytes_max }));
    }
    Ok(())
}

async fn end<S>(
    shared: &Shared<S>,
    (work, care): (&Work, Care),
    tx: Transaction<Link>,
    written: Result<(), StoreError>,
    counter: &std::sync::atomic::AtomicU64,
) -> End {
    let written = match written {
        Ok(()) => shared.answer(clear_notes(shared, std::slice::from_ref(work), care, &tx)).await,
        Err(error) => Err(error),
    };
    let committed = match written {
        Ok(()) => shared.answer(tx.commit()).await,
        Err(error) => Err(error),
    };
    match committed {
        Ok(link) => {
            shared.database.keep(link);
            add(counter, 1);
            End::Committed { slow: Vec::new() }
        }
        Err(error) => End::of_store(&error),
    }
}

/// The event as an event about it: everything that is needed to handle it elsewhere.
pub(super) fn letter(consumer: &str, record: &Record, reason: &str) -> NewEvent {
    // PostgreSQL's text and jsonb hold no zero character.
    let shown = |text: &str| text.replace('\0', "\u{FFFD}");
    let text = |bytes: &[u8]| shown(&String::from_utf8_lossy(bytes));
    let key = record.key.as_deref().map(text);
    let headers: Map<String, Value> = record
        .headers
        .iter()
        .map(|(name, value)| (shown(name), value.as_deref().map(text).into()))
        .collect();
    let payload = json!({
        "consumer": consumer,
        "topic": &*record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": key,
        "headers": headers,
        "value_base64": record.value.as_deref().map(|value| STANDARD.encode(value)),
        "reason": shown(reason),
    });
    let event = NewEvent::new(DEAD_LETTER, key.unwrap_or_default(), DEAD_LETTER, payload);
    match record.header("traceparent").and_then(TraceParent::parse) {
        Some(trace) => event.with_header("traceparent", trace.to_string()),
        None => event,
    }
}
