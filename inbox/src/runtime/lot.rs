//! A parked sequence that is due in; its events handled in order, as far as they can be, out.

use std::sync::Arc;

use super::batch::{End, Shared, Verdict, call_alone};
use super::gate::{self, Pass};
use super::lanes::Work;
use super::stats::add;
use super::suspects::{Care, verdict};
use crate::handler::chain;
use crate::message::MessageRef;
use crate::store::release::{self, SequenceName, Start};
use crate::store::{Link, StoreError, Transaction};

/// What a step of a release came to.
enum Step {
    /// One event is handled; there may be more.
    Released,
    /// The sequence is empty, gone, or somebody else's.
    Over,
}

/// Handles the events of a sequence one by one until it is empty or one fails. A failed one stays
/// first, with its reason, and waits for a person, or as long as its handler asks.
pub(crate) async fn release<S: Send + Sync + 'static>(
    shared: &Shared<S>,
    name: &SequenceName,
) -> Result<(), StoreError> {
    loop {
        let Some((deaths, _pass)) = start(shared, name).await? else { return Ok(()) };
        // The first of them had others beside it.
        if deaths > shared.settings.deaths_max.max(1) {
            let verdict = Verdict::Park(verdict(deaths - 1));
            let end = End::Failed { at: 0, verdict };
            return shared.answer(give_up(shared, name, end)).await;
        }
        match step(shared, name).await? {
            Ok(Step::Released) => add(&shared.counters.released, 1),
            Ok(Step::Over) => return Ok(()),
            Err(end) => return shared.answer(give_up(shared, name, end)).await,
        }
    }
}

/// Notes a start: the process may end by it. One that somebody died of goes alone.
async fn start<S>(
    shared: &Shared<S>,
    name: &SequenceName,
) -> Result<Option<(u32, Pass)>, StoreError> {
    let pass = gate::pass(Care::Quiet).await;
    let deaths = shared.answer(note(shared, name, Start::Beside)).await?;
    let Some(deaths) = deaths.filter(|deaths| *deaths > 0) else {
        return Ok(deaths.map(|deaths| (deaths, pass)));
    };
    drop(pass);
    let pass = gate::pass(Care::Alone { deaths }).await;
    let deaths = shared.answer(note(shared, name, Start::Alone)).await?;
    Ok(deaths.map(|deaths| (deaths, pass)))
}

async fn note<S>(
    shared: &Shared<S>,
    name: &SequenceName,
    start: Start,
) -> Result<Option<u32>, StoreError> {
    let link = shared.database.link().await?;
    let deaths = release::start(&*link, &shared.consumer, name, shared.runner, start).await?;
    shared.database.keep(link);
    Ok(deaths)
}

async fn step<S: Send + Sync + 'static>(
    shared: &Shared<S>,
    name: &SequenceName,
) -> Result<Result<Step, End>, StoreError> {
    let begun = shared.answer(async {
        let tx = Transaction::begin_bare(shared.database.link().await?).await?;
        let event = release::head(&*tx, &shared.consumer, name).await?;
        Ok((tx, event))
    });
    let (tx, event) = begun.await?;
    let Some(event) = event else {
        shared.database.keep(shared.answer(tx.rollback()).await?);
        return Ok(Ok(Step::Over));
    };
    let message = MessageRef::of(&event.record, shared.consumer.cluster());
    let work = Work { record: Arc::new(event.record), message };
    let tx: Transaction<Link> = match call_alone(shared, &work, tx).await {
        Ok(tx) => tx,
        Err(End::Failed { verdict: Verdict::DeadLetter(reason), .. }) => {
            // What the handler wrote is gone; the letter takes its place under a lock of its own.
            return shared.answer(letter(shared, name, &work, &reason)).await.map(Ok);
        }
        Err(end) => return Ok(Err(end)),
    };
    let done = shared.answer(async {
        release::done(&*tx, &shared.consumer, name, event.n).await?;
        tx.commit().await
    });
    shared.database.keep(done.await?);
    Ok(Ok(Step::Released))
}

async fn letter<S>(
    shared: &Shared<S>,
    name: &SequenceName,
    work: &Work,
    reason: &str,
) -> Result<Step, StoreError> {
    let link = shared.database.link().await?;
    let tx = Transaction::begin_bare(link).await?;
    let head = release::head(&*tx, &shared.consumer, name).await?;
    let Some(event) = head.filter(|event| event.id == work.message.id) else {
        return Ok(Step::Over);
    };
    let letter = super::aside::letter(shared.consumer.name(), &work.record, reason);
    walpost_outbox::append(&*tx, &letter).await?;
    release::done(&*tx, &shared.consumer, name, event.n).await?;
    shared.database.keep(tx.commit().await?);
    add(&shared.counters.dead_lettered, 1);
    Ok(Step::Released)
}

async fn give_up<S>(shared: &Shared<S>, name: &SequenceName, end: End) -> Result<(), StoreError> {
    let (reason, after) = match end {
        End::Failed { verdict: Verdict::Attempt { reason, after }, .. } => (reason, after),
        End::Failed { verdict: Verdict::Park(reason), .. } => (reason, None),
        End::Stop(error) => (chain(&error), None),
        // Nobody is to blame: it stays due, and is tried again at the next look.
        _ => return Ok(()),
    };
    add(&shared.counters.failures, 1);
    let link = shared.database.link().await?;
    release::failed(&*link, &shared.consumer, name, &reason, after).await?;
    shared.database.keep(link);
    Ok(())
}
