//! A batch in; its transaction committed, or nothing of it, out.
//!
//! ```text
//!   decode  ->  BEGIN + claim + look  ->  handlers of the fresh, in order
//!           ->  outbox rows  ->  append of the parked  ->  COMMIT
//! ```
//!
//! A claim commits only with its own effects or its parking: whatever fails, all of the batch rolls
//! back, and the end says which event is to blame, or that none is (I10).

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tracing::{Instrument, warn};
use uuid::Uuid;
use walpost_outbox::append_all;

use super::aside;
use super::crash::{CrashPoint, CrashPoints};
use super::lanes::{Batch, Fate, Key, Work};
use super::settings::Settings;
use super::stats::Counters;
use super::suspects::Care;
use crate::handler::Route;
use crate::handler::{Boxed, Cx, Error, Handled, Outcome, Prepared, Routes, WriterSchemas};
use crate::message::MessageRef;
use crate::store::fault::is_aborted;
use crate::store::{
    Blame, Claim, Claims, Consumer, Database, Link, StoreError, Transaction, parked, tenure,
};

/// What all batches of a consumer share.
pub(crate) struct Shared<S> {
    pub(crate) database: Database,
    pub(crate) consumer: Consumer,
    pub(crate) routes: Routes<S>,
    pub(crate) schemas: Arc<dyn WriterSchemas>,
    pub(crate) state: Arc<S>,
    pub(crate) settings: Settings,
    pub(crate) counters: Arc<Counters>,
    pub(crate) crash: CrashPoints,
    /// This run of this instance.
    pub(crate) runner: Uuid,
}

impl<S> Shared<S> {
    /// Waits for the database, and not for ever. What is dropped then is rolled back, and its
    /// connection closed.
    pub(crate) async fn answer<T>(
        &self,
        asking: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let deadline = self.settings.answer_deadline;
        match tokio::time::timeout(deadline, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::NoAnswer(deadline)),
        }
    }
}

/// How a batch ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It is committed; these keys had slow handlers.
    Committed { slow: Vec<Key> },
    /// The event at this place is to blame.
    Failed { at: usize, verdict: Verdict },
    /// One of several is to blame, and it cannot be said which: one by one.
    Narrow,
    /// Another transaction was in the way.
    Contention(String),
    /// The database is away, or gave no answer to a COMMIT.
    Database(String),
    /// The registry is away.
    Registry(String),
    /// A person has to look.
    Stop(super::error::RunError),
}

/// What becomes of an event that is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another attempt, if any is left.
    Attempt {
        reason: String,
        after: Option<Duration>,
    },
    Park(String),
    DeadLetter(String),
}

impl End {
    /// Of an error that no event is to blame for.
    pub(crate) fn of_store(error: &StoreError) -> Self {
        let text = crate::handler::chain(error);
        match error.blame() {
            Blame::Contention => Self::Contention(text),
            // A statement of the inbox's own that fails is not the event's fault: a missing table,
            // missing rights. It is waited for.
            Blame::Database | Blame::Event => Self::Database(text),
        }
    }
}

/// Runs a batch to its end. Dropped, its transaction is rolled back.
pub(crate) fn run<'a, S: Send + Sync + 'static>(
    shared: &'a Shared<S>,
    batch: &'a Batch,
) -> Boxed<'a, End> {
    Box::pin(shared.crash.guard(run_now(shared, batch)))
}

async fn run_now<S: Send + Sync + 'static>(shared: &Shared<S>, batch: &Batch) -> End {
    if batch.care == Care::Quiet {
        return run_noted(shared, batch).await;
    }
    // Before anything of the events is looked at: reading one may be what ends the process.
    if let Err(error) = shared.answer(note(shared, batch)).await {
        return End::of_store(&error);
    }
    let end = run_noted(shared, batch).await;
    if !matches!(end, End::Committed { .. })
        && let Err(error) = shared.answer(undo(shared, batch)).await
    {
        warn!(error = crate::handler::chain(&error), "note of a start stays");
    }
    end
}

async fn note<S>(shared: &Shared<S>, batch: &Batch) -> Result<(), StoreError> {
    let Some(first) = batch.works.first() else { return Ok(()) };
    let (consumer, place) = (&shared.consumer, &first.message.place);
    let link = shared.database.link().await?;
    if let Care::Alone { .. } = batch.care {
        tenure::note_alone(&*link, consumer, place, first.message.id, shared.runner).await?;
    } else {
        tenure::note(&*link, consumer, place, &ids(&batch.works)).await?;
    }
    shared.database.keep(link);
    Ok(())
}

async fn undo<S>(shared: &Shared<S>, batch: &Batch) -> Result<(), StoreError> {
    let link = shared.database.link().await?;
    tenure::undo(&*link, &shared.consumer, &ids(&batch.works), shared.runner).await?;
    shared.database.keep(link);
    Ok(())
}

/// The notes of a batch leave with its commit.
pub(super) async fn clear_notes<S>(
    shared: &Shared<S>,
    works: &[Work],
    care: Care,
    tx: &Transaction<Link>,
) -> Result<(), StoreError> {
    if care == Care::Quiet {
        return Ok(());
    }
    tenure::clear(&**tx, &shared.consumer, &ids(works)).await
}

fn ids(works: &[Work]) -> Vec<Uuid> {
    works.iter().map(|work| work.message.id).collect()
}

async fn run_noted<S: Send + Sync + 'static>(shared: &Shared<S>, batch: &Batch) -> End {
    let care = batch.care;
    match (&batch.fate, batch.works.first()) {
        (Fate::Handle, _) => match handle(shared, &batch.works, care).await {
            Ok(end) | Err(end) => end,
        },
        (Fate::Park(reason), Some(work)) => aside::park(shared, work, care, reason).await,
        (Fate::DeadLetter(reason), Some(work)) => {
            aside::dead_letter(shared, work, care, reason).await
        }
        (_, None) => End::Committed { slow: Vec::new() },
    }
}

/// An event and its handler; `None` is ignored.
type Ready<S> = Option<(Arc<dyn Handled<S>>, Prepared)>;

async fn handle<S: Send + Sync + 'static>(
    shared: &Shared<S>,
    works: &[Work],
    care: Care,
) -> Result<End, End> {
    let mut ready = Vec::with_capacity(works.len());
    for (at, work) in works.iter().enumerate() {
        ready.push(prepare(shared, at, work).await?);
    }
    shared.crash.pass(CrashPoint::BeforeBegin).await;
    let of_store = |error| End::of_store(&error);
    let messages: Vec<MessageRef> = works.iter().map(|work| work.message.clone()).collect();
    let begun = shared.answer(async {
        let link = shared.database.link().await?;
        let statements = link.statements.clone();
        Transaction::begin(link, &statements, &shared.consumer, &messages).await
    });
    let (tx, claims) = begun.await.map_err(of_store)?;
    shared.crash.pass(CrashPoint::AfterClaim).await;
    let mut slow = Vec::new();
    let tx = call_all(shared, works, plan(&claims, &mut ready), tx, &mut slow).await?;
    shared.crash.pass(CrashPoint::AfterHandler).await;
    let after_handlers = |error| after_handlers(&error, works.len());
    if claims.count(Claim::Parked) > 0 {
        let appending = append_parked(shared, works, &claims, &tx);
        shared.answer(appending).await.map_err(after_handlers)?;
        aside::check_lot(shared, &tx).await?;
    }
    let clearing = clear_notes(shared, works, care, &tx);
    shared.answer(clearing).await.map_err(after_handlers)?;
    let link =
        shared.answer(tx.commit()).await.map_err(|error| refused_commit(&error, works.len()))?;
    shared.crash.pass(CrashPoint::AfterCommit).await;
    shared.database.keep(link);
    tally(shared, &claims, &ready);
    Ok(End::Committed { slow })
}

/// A statement of the inbox's own that is refused because a handler hid a failure is that event's
/// fault.
fn after_handlers(error: &StoreError, count: usize) -> End {
    if is_aborted(error) { refused_commit(error, count) } else { End::of_store(error) }
}

/// A COMMIT that the event's own statements spoilt, or one without an answer.
fn refused_commit(error: &StoreError, count: usize) -> End {
    match error.blame() {
        Blame::Event if count > 1 => End::Narrow,
        Blame::Event => {
            let reason = crate::handler::chain(error);
            End::Failed { at: 0, verdict: Verdict::Attempt { reason, after: None } }
        }
        _ => End::of_store(error),
    }
}

fn tally<S>(shared: &Shared<S>, claims: &Claims, ready: &[Ready<S>]) {
    use super::stats::add;
    let handled = claims.fresh(ready).filter(|ready| ready.is_none()).count();
    let (fresh, ignored) = (claims.count(Claim::Fresh), handled);
    add(&shared.counters.handled, fresh - ignored);
    add(&shared.counters.ignored, ignored);
    add(&shared.counters.duplicates, claims.count(Claim::Duplicate));
    add(&shared.counters.appended, claims.count(Claim::Parked));
}

/// Finds the handler and reads the event.
async fn prepare<S: Send + Sync + 'static>(
    shared: &Shared<S>,
    at: usize,
    work: &Work,
) -> Result<Ready<S>, End> {
    let handler = match shared.routes.route(&work.record) {
        Route::Handler(handler) => handler,
        Route::Ignore => return Ok(None),
        Route::Park(reason) => return Err(End::Failed { at, verdict: Verdict::Park(reason) }),
        Route::Stop(reason) => {
            let place = work.message.place.clone();
            let offset = work.record.offset;
            return Err(End::Stop(super::error::RunError::Unknown { place, offset, reason }));
        }
    };
    match handler.prepare(&work.record, &work.message, &*shared.schemas).await {
        Ok(event) => Ok(Some((handler, event))),
        Err(error) if error.is_away() => Err(End::Registry(crate::handler::chain(&error))),
        Err(error) => {
            let reason = format!("cannot be read: {}", crate::handler::chain(&error));
            Err(End::Failed { at, verdict: Verdict::Park(reason) })
        }
    }
}

/// One call of a handler: its events, the first of them at a place in the batch.
struct Call<S> {
    at: usize,
    handler: Arc<dyn Handled<S>>,
    events: Vec<Prepared>,
}

/// The calls for the fresh events, in order; neighbours for the same handler are one call if it
/// takes several.
fn plan<S>(claims: &Claims, ready: &mut [Ready<S>]) -> Vec<Call<S>> {
    let mut calls: Vec<Call<S>> = Vec::new();
    let fresh = ready.iter_mut().zip(claims.verdicts()).enumerate();
    for (at, (slot, _)) in fresh.filter(|(_, (_, claim))| **claim == Claim::Fresh) {
        let Some((handler, event)) = slot.as_mut() else { continue };
        let event = std::mem::replace(event, Box::new(()));
        match calls.last_mut() {
            Some(call) if handler.takes_batches() && Arc::ptr_eq(handler, &call.handler) => {
                call.events.push(event);
            }
            _ => calls.push(Call { at, handler: Arc::clone(handler), events: vec![event] }),
        }
    }
    calls
}

/// Calls the handlers of the fresh events in order, and appends what they emitted.
async fn call_all<S: Send + Sync + 'static>(
    shared: &Shared<S>,
    works: &[Work],
    calls: Vec<Call<S>>,
    tx: Transaction<Link>,
    slow: &mut Vec<Key>,
) -> Result<Transaction<Link>, End> {
    let Some(first) = calls.first().and_then(|call| works.get(call.at)) else { return Ok(tx) };
    let state = Arc::clone(&shared.state);
    let mut cx = Cx::new(tx, state, Arc::clone(&first.record), &first.message);
    for Call { at, handler, events } in calls {
        let Some(work) = works.get(at) else { continue };
        cx.turn_to(Arc::clone(&work.record), &work.message);
        let (count, begun) = (events.len(), Instant::now());
        shared.crash.meet(work.message.id);
        let answer = call(&*handler, events, &mut cx, shared.settings.handler_deadline).await;
        if begun.elapsed() > shared.settings.slow_after && count == 1 {
            slow.push(Arc::clone(&work.message.sequence));
        }
        if let Some(end) = judge(at, (count, works.len()), answer) {
            roll_back(shared, cx, &end).await;
            return Err(end);
        }
    }
    emit(shared, cx, works.len()).await
}

/// Rolls back on the same connection; after a missed deadline the statement under way is cancelled
/// and the connection closed.
async fn roll_back<S>(shared: &Shared<S>, cx: Cx<S>, end: &End) {
    let (tx, _) = cx.into_parts();
    let missed = matches!(end, End::Failed { verdict: Verdict::Attempt { reason, .. }, .. }
        if reason.starts_with(MISSED));
    if missed {
        let cancel = tx.canceller();
        drop(tx);
        return cancel.await;
    }
    // An error here is the connection's: it is closed.
    if let Ok(link) = shared.answer(tx.rollback()).await {
        shared.database.keep(link);
    }
}

/// Longer than anybody waits, and no more than a clock can tell.
const RETRY_MAX: Duration = Duration::from_secs(366 * 86_400);

const MISSED: &str = "handler missed its deadline";

/// One call, with a bound on its time and on its panics.
async fn call<S: Send + Sync + 'static>(
    handler: &dyn Handled<S>,
    events: Vec<Prepared>,
    cx: &mut Cx<S>,
    deadline: Duration,
) -> Result<Outcome, Error> {
    let span = tracing::debug_span!(
        "handle",
        id = %cx.id(),
        topic = %cx.record().topic,
        partition = cx.record().partition,
        offset = cx.record().offset,
        traceparent = cx.trace().map(tracing::field::display),
    );
    let mut future = handler.call(events, cx);
    // What a panic leaves behind is a transaction that is rolled back, and the event, dropped.
    let caught = std::future::poll_fn(|context| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => Poll::Ready(answer),
            Err(panic) => Poll::Ready(Ok(Outcome::Park(panic_text(&*panic)))),
        }
    });
    match tokio::time::timeout(deadline, caught.instrument(span)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(format!("{MISSED} of {deadline:?}"))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("handler panicked: {}", text.unwrap_or("no message"))
}

/// What an answer to a call with `count` of the batch's `all` events means; `None` goes on.
fn judge(at: usize, (count, all): (usize, usize), answer: Result<Outcome, Error>) -> Option<End> {
    let verdict = match answer {
        Ok(Outcome::Done | Outcome::Ignore) => return None,
        Ok(Outcome::Retry(after)) => {
            let reason = "handler asks to be called again".to_owned();
            Verdict::Attempt { reason, after: Some(after.min(RETRY_MAX)) }
        }
        Ok(Outcome::Park(reason)) => Verdict::Park(reason),
        Ok(Outcome::DeadLetter(reason)) => Verdict::DeadLetter(reason),
        Err(error) => match error.blame() {
            Blame::Contention => return Some(End::Contention(error.to_string())),
            Blame::Database => return Some(End::Database(error.to_string())),
            // A handler before it may have hidden a failure.
            Blame::Event if all > 1 && error.is_aborted() => return Some(End::Narrow),
            Blame::Event => Verdict::Attempt { reason: error.to_string(), after: None },
        },
    };
    // Of several it cannot be said which one.
    Some(if count > 1 { End::Narrow } else { End::Failed { at, verdict } })
}

/// The outbox rows of all handlers, in one statement.
async fn emit<S>(shared: &Shared<S>, cx: Cx<S>, count: usize) -> Result<Transaction<Link>, End> {
    let (tx, events) = cx.into_parts();
    let appending = async { Ok(append_all(&*tx, &events).await?) };
    match shared.answer(appending).await {
        Ok(()) => Ok(tx),
        Err(error) => Err(refused_commit(&error, count)),
    }
}

async fn append_parked<S>(
    shared: &Shared<S>,
    works: &[Work],
    claims: &Claims,
    tx: &Transaction<Link>,
) -> Result<(), StoreError> {
    let events: Vec<_> =
        claims.with(works, Claim::Parked).map(|work| (&work.message, &*work.record)).collect();
    parked::append(&**tx, &shared.consumer, &events).await
}

/// A handler's call outside a batch: for a release. The transaction comes back where it may be
/// committed.
pub(crate) async fn call_alone<S: Send + Sync + 'static>(
    shared: &Shared<S>,
    work: &Work,
    tx: Transaction<Link>,
) -> Result<Transaction<Link>, End> {
    let Some((handler, event)) = prepare(shared, 0, work).await? else { return Ok(tx) };
    let state = Arc::clone(&shared.state);
    let mut cx = Cx::new(tx, state, Arc::clone(&work.record), &work.message);
    shared.crash.meet(work.message.id);
    let answer = call(&*handler, vec![event], &mut cx, shared.settings.handler_deadline).await;
    match judge(0, (1, 1), answer) {
        None => emit(shared, cx, 1).await,
        Some(end) => {
            roll_back(shared, cx, &end).await;
            Err(end)
        }
    }
}
