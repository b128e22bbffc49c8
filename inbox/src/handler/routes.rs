//! A record in, the handler for it out, or what is done without one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use walpost_schema::envelope;

use crate::handler::call::{Gone, Several, Single};
use crate::handler::{BatchHandler, Event, Handled, Handler, TombstoneHandler};
use crate::message::Record;

/// What is done with records that no handler is for: another event type, or a tombstone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// They are claimed and counted. A consumer reads what it knows.
    #[default]
    Ignore,
    /// They are put aside with their keys.
    Park,
    /// The consumer ends.
    Stop,
}

/// The handlers of one topic.
pub struct Topic<S> {
    by_type: HashMap<&'static str, Arc<dyn Handled<S>>>,
    any: Option<Arc<dyn Handled<S>>>,
    tombstone: Option<Arc<dyn Handled<S>>>,
    unknown: Unknown,
}

impl<S> fmt::Debug for Topic<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<_> = self.by_type.keys().collect();
        f.debug_struct("Topic").field("types", &types).finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static> Topic<S> {
    pub(crate) fn new() -> Self {
        Self { by_type: HashMap::new(), any: None, tombstone: None, unknown: Unknown::default() }
    }

    /// A handler for one type of event, which is that of its argument.
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error, Event, Outcome, Topic};
    /// # #[derive(serde::Deserialize)]
    /// # struct OrderPlaced {}
    /// # impl Event for OrderPlaced { const TYPE: &'static str = "shop.OrderPlaced"; }
    /// async fn reserve(_event: OrderPlaced, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    ///     cx.tx().execute("UPDATE stock SET reserved = reserved + 1", &[]).await?;
    ///     Ok(Outcome::Done)
    /// }
    /// # fn f(topic: Topic<()>) -> Topic<()> {
    /// topic.on(reserve)
    /// # }
    /// ```
    #[must_use]
    pub fn on<E: Event, H: Handler<E, S>>(mut self, handler: H) -> Self {
        self.by_type.insert(E::TYPE, Arc::new(Single::<E, S, H>::new(handler)));
        self
    }

    /// A handler that takes the neighbouring events of its type in a batch at once.
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error, Event, Outcome, Received, Topic};
    /// # #[derive(serde::Deserialize)]
    /// # struct Line { sku: String }
    /// # impl Event for Line { const TYPE: &'static str = "shop.Line"; }
    /// async fn lines(lines: Vec<Received<Line>>, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    ///     let skus: Vec<&str> = lines.iter().map(|line| line.event.sku.as_str()).collect();
    ///     cx.tx().execute("INSERT INTO line SELECT unnest($1::text[])", &[&skus]).await?;
    ///     Ok(Outcome::Done)
    /// }
    /// # fn f(topic: Topic<()>) -> Topic<()> {
    /// topic.on_batch(lines)
    /// # }
    /// ```
    #[must_use]
    pub fn on_batch<E: Event, H: BatchHandler<E, S>>(mut self, handler: H) -> Self {
        self.by_type.insert(E::TYPE, Arc::new(Several::<E, S, H>::new(handler)));
        self
    }

    /// A handler for the events of all types that have none of their own: for a topic of one type,
    /// whose producers name it in their own way or not at all.
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error, Event, Outcome, Topic};
    /// # #[derive(serde::Deserialize)]
    /// # struct OrderPlaced {}
    /// # impl Event for OrderPlaced { const TYPE: &'static str = "shop.OrderPlaced"; }
    /// # async fn reserve(_: OrderPlaced, _: &mut Cx<()>) -> Result<Outcome, Error> {
    /// #     Ok(Outcome::Done)
    /// # }
    /// # fn f(topic: Topic<()>) -> Topic<()> {
    /// topic.on_any(reserve)
    /// # }
    /// ```
    #[must_use]
    pub fn on_any<E: Event, H: Handler<E, S>>(mut self, handler: H) -> Self {
        self.any = Some(Arc::new(Single::<E, S, H>::new(handler)));
        self
    }

    /// A handler for records without a value, whatever their type.
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error, Outcome, Tombstone, Topic};
    /// async fn forget(gone: Tombstone, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    ///     cx.tx().execute("DELETE FROM customer WHERE id = $1", &[&gone.key]).await?;
    ///     Ok(Outcome::Done)
    /// }
    /// # fn f(topic: Topic<()>) -> Topic<()> {
    /// topic.on_tombstone(forget)
    /// # }
    /// ```
    #[must_use]
    pub fn on_tombstone<H: TombstoneHandler<S>>(mut self, handler: H) -> Self {
        self.tombstone = Some(Arc::new(Gone::<S, H>::new(handler)));
        self
    }

    /// What is done with the rest.
    ///
    /// ```
    /// # use walpost_inbox::{Topic, Unknown};
    /// # fn f(topic: Topic<()>) -> Topic<()> {
    /// topic.unknown(Unknown::Park)
    /// # }
    /// ```
    #[must_use]
    pub fn unknown(mut self, unknown: Unknown) -> Self {
        self.unknown = unknown;
        self
    }
}

/// What is done with a record.
pub(crate) enum Route<S> {
    Handler(Arc<dyn Handled<S>>),
    /// Claimed and counted.
    Ignore,
    Park(String),
    Stop(String),
}

/// The handlers of all topics.
pub(crate) struct Routes<S> {
    topics: HashMap<String, Topic<S>>,
}

impl<S: Send + Sync + 'static> Routes<S> {
    pub(crate) fn new() -> Self {
        Self { topics: HashMap::new() }
    }

    pub(crate) fn add(&mut self, name: &str, topic: Topic<S>) {
        self.topics.insert(name.to_owned(), topic);
    }

    pub(crate) fn topics(&self) -> Vec<&str> {
        self.topics.keys().map(String::as_str).collect()
    }

    /// The first handler that cannot work.
    pub(crate) fn fault(&self) -> Option<crate::handler::DecodeError> {
        let handlers =
            self.topics.values().flat_map(|topic| topic.by_type.values().chain(&topic.any));
        handlers.into_iter().find_map(|handler| handler.fault())
    }

    pub(crate) fn route(&self, record: &Record) -> Route<S> {
        let Some(topic) = self.topics.get(&*record.topic) else {
            return Route::Stop(format!("nobody asked for topic {}", record.topic));
        };
        let event_type = record.header(envelope::HEADER_TYPE).unwrap_or("");
        let handler = match record.value {
            None => topic.tombstone.as_ref(),
            Some(_) => topic.by_type.get(event_type).or(topic.any.as_ref()),
        };
        if let Some(handler) = handler {
            return Route::Handler(Arc::clone(handler));
        }
        let what = if record.value.is_none() { "a tombstone" } else { "an event" };
        let said = format!("no handler for {what} of type {event_type:?}");
        match topic.unknown {
            Unknown::Ignore => Route::Ignore,
            Unknown::Park => Route::Park(said),
            Unknown::Stop => Route::Stop(said),
        }
    }
}
