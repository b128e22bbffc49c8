//! Any number of sources in one process: settings in, an exit out. One failing source never stops
//! another; the process ends when it is told to, or when no source is left running.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use walpost_schema::registry::Registry;

use crate::admin::{self, AdminListener};
use crate::ask::Asker;
use crate::kafka::{BrokerError, TopicFinder};
use crate::progress;
use crate::registry;
use crate::settings::Settings;
use crate::source::{self, Ended, Source};
use crate::status::Status;

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was told to.
    Ordered,
    /// Every source stopped at something that a person must decide.
    NoSourceLeft,
}

/// The daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nothing to do.
    #[error("no [[source]] is configured")]
    NoSource,
    /// The Kafka client refused its settings.
    #[error(transparent)]
    Kafka(#[from] BrokerError),
    /// The registry client refused its settings.
    #[error("schema registry client: {reason}")]
    Registry {
        /// Why, without secrets.
        reason: String,
    },
}

/// Runs all sources until `shutdown` turns true or none is left.
///
/// Not cancellation-safe: sources are told to end by `shutdown`, not by dropping the future.
pub async fn run(
    settings: &Settings,
    listener: AdminListener,
    topics: Arc<TopicFinder>,
    shutdown: watch::Receiver<bool>,
) -> Result<Exit, StartError> {
    if settings.sources.is_empty() {
        return Err(StartError::NoSource);
    }
    let registry = registry::client(settings.registry.as_ref())
        .map_err(|reason| StartError::Registry { reason: reason.to_string() })?;
    let statuses: Vec<Status> =
        settings.sources.iter().map(|source| Status::new(&source.name)).collect();
    let admin = admin::serve(listener, &settings.admin, statuses.clone());
    let (mut sources, by_task) = start_sources(settings, &topics, &registry, statuses, &shutdown);
    let mut is_all_stopped = true;
    while let Some(ended) = sources.join_next().await {
        match ended {
            Ok(Ended::Drained) => is_all_stopped = false,
            Ok(Ended::Stopped(_)) => {}
            Err(error) => {
                // A broken invariant: the source's position is as it was last confirmed.
                if let Some(status) = by_task.get(&error.id()) {
                    progress::report_panic(status, &error.to_string());
                }
            }
        }
    }
    admin.stop().await;
    Ok(if is_all_stopped && !*shutdown.borrow() { Exit::NoSourceLeft } else { Exit::Ordered })
}

fn start_sources(
    settings: &Settings,
    topics: &Arc<TopicFinder>,
    client: &Arc<dyn Registry>,
    statuses: Vec<Status>,
    shutdown: &watch::Receiver<bool>,
) -> (JoinSet<Ended>, HashMap<Id, Status>) {
    let auto_register = settings.schemas.auto_register.then(|| settings.schemas.dir.clone());
    let registry_at = registry::address(settings.registry.as_ref());
    let mut sources = JoinSet::new();
    let mut by_task = HashMap::new();
    for (settings, status) in settings.sources.iter().zip(statuses) {
        let asker = Asker::new(
            Arc::clone(topics),
            Arc::clone(client),
            registry_at.clone(),
            auto_register.clone(),
        );
        let source = Source { settings: settings.clone(), asker, status: status.clone() };
        let task = sources.spawn(source::run(source, shutdown.clone()));
        by_task.insert(task.id(), status);
    }
    (sources, by_task)
}
