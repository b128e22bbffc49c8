//! A producer and the thread that takes its events, which calls the delivery callbacks.
//!
//! As rdkafka's `ThreadedProducer`, but for the length of one poll: what is left of it is handed to
//! librdkafka in whole milliseconds, rounded down, so a poll of whole milliseconds spends its last
//! one spinning (ADR 0007).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, ProducerContext};

/// One poll: bounds how long the end of the thread is waited for. The fraction is longer than the
/// way into librdkafka and shorter than the slack of the kernel's timers, so that an idle poll is
/// over when its wait is.
const POLL: Duration = Duration::from_micros(100_050);

/// The producer could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Client(#[from] KafkaError),
    #[error("its thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// A producer that is polled until it is dropped.
pub(super) struct Polled<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> Polled<C> {
    pub(super) fn open(config: &ClientConfig, context: C) -> Result<Self, OpenError> {
        let producer = Arc::new(BaseProducer::from_config_and_context(config, context)?);
        let ends = Arc::new(AtomicBool::new(false));
        let (polled, is_over) = (Arc::clone(&producer), Arc::clone(&ends));
        let thread = Builder::new().name("walpost-events".to_owned()).spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
        })?;
        Ok(Self { producer, ends, thread: Some(thread) })
    }

    pub(super) fn producer(&self) -> &BaseProducer<C> {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for Polled<C> {
    /// Blocks until the thread has ended.
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the producer's thread has panicked");
        }
    }
}
