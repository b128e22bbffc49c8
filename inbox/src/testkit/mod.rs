//! L4: a service's own handlers and database, and a broker in memory, in; the effects after kills
//! at every await, out.
//!
//! The handlers, the transactions and the loop are the real ones. Only Kafka and the clock are
//! replaced: [`Broker`] keeps records and committed offsets, and the clock jumps to the next moment
//! that anybody waits for, so that retries with waits of seconds take none.
//!
//! ```no_run
//! use walpost_inbox::testkit::{Broker, Ended, run_killed};
//! # use walpost_inbox::{Cx, Error, Event, Inbox, Outcome, store::Database};
//! # #[derive(serde::Deserialize)]
//! # struct OrderPlaced {}
//! # impl Event for OrderPlaced { const TYPE: &'static str = "shop.OrderPlaced"; }
//! # async fn reserve(_: OrderPlaced, _: &mut Cx<()>) -> Result<Outcome, Error> {
//! #     Ok(Outcome::Done)
//! # }
//! # async fn f(database: Database) -> Result<(), walpost_inbox::RunError> {
//!
//! let broker = Broker::new(&[("events.order", 1)]);
//! broker.produce("events.order", "42", "shop.OrderPlaced", &serde_json::json!({}));
//! for step in 0.. {
//!     let inbox = Inbox::new("stock", database.clone(), ())
//!         .topic("events.order", |topic| topic.on(reserve));
//!     // Killed at its step-th await; the next one starts from the committed offsets.
//!     if run_killed(inbox, &broker, step).await? == Ended::Finished {
//!         break;
//!     }
//! }
//! // Here the database shows each effect once.
//! # Ok(())
//! # }
//! ```

mod broker;
mod fuse;

use std::sync::Arc;

pub use crate::runtime::CrashPoint;
use crate::runtime::RunError;
use crate::runtime::memory::{Clock, Inbox, Loop, open_consumer};
pub use broker::Broker;
pub(crate) use fuse::Fuse;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything in the broker is finished and committed.
    Finished,
    /// At the chosen moment: its connections were closed, nothing was tidied.
    Killed,
}

/// Runs a consumer until everything in the broker is finished and its offsets are committed.
///
/// ```no_run
/// # use walpost_inbox::{Inbox, testkit::{Broker, run}};
/// # async fn f(inbox: Inbox<()>, broker: Broker) -> Result<(), walpost_inbox::RunError> {
/// run(inbox, &broker).await
/// # }
/// ```
pub async fn run<S: Send + Sync + 'static>(
    inbox: Inbox<S>,
    broker: &Broker,
) -> Result<(), RunError> {
    start(inbox, broker, Arc::new(Fuse::unburnable())).await.map(drop)
}

/// Runs a consumer that is killed when its batches have come to their `step`-th await, from 0.
///
/// ```
/// # use walpost_inbox::{Inbox, RunError, testkit::{Broker, run_killed}};
/// # async fn f(inbox: Inbox<()>, broker: Broker) -> Result<(), RunError> {
/// let ended = run_killed(inbox, &broker, 3).await?;
/// # Ok(())
/// # }
/// ```
pub async fn run_killed<S: Send + Sync + 'static>(
    inbox: Inbox<S>,
    broker: &Broker,
    step: u64,
) -> Result<Ended, RunError> {
    start(inbox, broker, Arc::new(Fuse::after_polls(step))).await
}

/// Runs a consumer that is killed the `count`-th time that a batch passes a point, from 1.
///
/// ```no_run
/// # use walpost_inbox::{Inbox, testkit::{Broker, CrashPoint, Ended, run_killed_at}};
/// # async fn f(inbox: Inbox<()>, broker: Broker) -> Result<(), walpost_inbox::RunError> {
/// let ended = run_killed_at(inbox, &broker, CrashPoint::AfterCommit, 1).await?;
/// assert_eq!(ended, Ended::Killed);
/// # Ok(())
/// # }
/// ```
pub async fn run_killed_at<S: Send + Sync + 'static>(
    inbox: Inbox<S>,
    broker: &Broker,
    point: CrashPoint,
    count: u64,
) -> Result<Ended, RunError> {
    start(inbox, broker, Arc::new(Fuse::at(point, count))).await
}

async fn start<S: Send + Sync + 'static>(
    inbox: Inbox<S>,
    broker: &Broker,
    fuse: Arc<Fuse>,
) -> Result<Ended, RunError> {
    let deadline = inbox.settings.answer_deadline;
    let consumer = open_consumer(&inbox.database, &inbox.name, broker::CLUSTER, deadline).await;
    let mut shared = inbox.share(consumer);
    shared.crash.burn_with(Arc::clone(&fuse));
    // The kit's kills are no event's fault, though they meet the same one again and again.
    shared.settings.deaths_max = u32::MAX;
    let source = broker.source(shared.routes.topics());
    let finished = broker.clone();
    let running = Loop::new(Arc::new(shared), source, Clock::Virtual(Arc::default()));
    tokio::select! {
        biased;
        () = fuse.burnt() => Ok(Ended::Killed),
        result = running.run(async move { finished.finished().await }) => {
            result.map(|()| Ended::Finished)
        }
    }
}
