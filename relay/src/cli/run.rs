//! `walpost run`: the daemon.

use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{Answer, ConfigSource, Exit, Failure};
use crate::admin::AdminListener;
use crate::daemon::{self, StartError};
use crate::kafka::TopicFinder;

/// Relays until SIGTERM or Ctrl-C, then drains within a second.
///
/// Whatever another party can mend is waited for: a database, a broker or a registry that is away,
/// a wrong password, a slot in use. A source stops, and says why, when its position or its slot
/// cannot be trusted or an event can never be published; the others go on.
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) async fn run(_arguments: Arguments, config: &ConfigSource) -> Answer {
    let (order, shutdown) = watch::channel(false);
    let signals = tokio::spawn(order_on_signal(order)?);
    let settings = config.load()?;
    for shown in settings.shown() {
        tracing::info!(value = shown.value, origin = %shown.origin, "setting {}", shown.key);
    }
    if settings.schemas.auto_register {
        let folder = settings.schemas.dir.display();
        tracing::warn!(%folder, "schemas.auto_register is on: for development only");
    }
    let topics = Arc::new(TopicFinder::open(&settings.kafka).map_err(Failure::usage)?);
    let listener = AdminListener::open(&settings.admin).await.map_err(Failure::usage)?;
    let exit = daemon::run(&settings, listener, topics, shutdown).await;
    signals.abort();
    match exit {
        Ok(daemon::Exit::Ordered) => Ok(Exit::Fine),
        Ok(daemon::Exit::NoSourceLeft) => {
            tracing::error!("no source is left running");
            Ok(Exit::NoSourceLeft)
        }
        Err(
            error @ (StartError::NoSource | StartError::Registry { .. } | StartError::Kafka(_)),
        ) => Err(Failure::usage(error)),
    }
}

/// Turns `order` true at the first SIGTERM or SIGINT. From this call on, and not only once the
/// returned future runs, these signals end the process in order.
pub(super) fn order_on_signal(
    order: watch::Sender<bool>,
) -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::could_not_tell)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::could_not_tell)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end");
        order.send_replace(true);
        // Kept alive: an order that is dropped would look like another order.
        std::future::pending::<()>().await;
    })
}
