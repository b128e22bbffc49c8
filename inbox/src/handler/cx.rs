//! What a handler has besides its event: the transaction, its own state, the outbox, the record.

use std::fmt;
use std::sync::Arc;

use tokio_postgres::Client;
use uuid::Uuid;
use walpost_outbox::NewEvent;

use crate::handler::trace::{HEADER, STATE_HEADER};
use crate::handler::{Error, TraceParent};
use crate::message::{MessageRef, Record};
use crate::store::{Link, Transaction};

/// The context of one handler call. It owns the transaction that claimed the event; whatever is
/// written through it commits with the claim, or not at all (I10).
pub struct Cx<S> {
    transaction: Transaction<Link>,
    state: Arc<S>,
    record: Arc<Record>,
    id: Uuid,
    trace: Option<TraceParent>,
    emitted: Vec<NewEvent>,
}

impl<S> fmt::Debug for Cx<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").field("id", &self.id).field("record", &self.record).finish()
    }
}

impl<S> Cx<S> {
    pub(crate) fn new(
        transaction: Transaction<Link>,
        state: Arc<S>,
        record: Arc<Record>,
        message: &MessageRef,
    ) -> Self {
        let id = message.id;
        let mut cx = Self { transaction, state, record, id, trace: None, emitted: Vec::new() };
        cx.trace_anew();
        cx
    }

    /// The next event of the same transaction.
    pub(crate) fn turn_to(&mut self, record: Arc<Record>, message: &MessageRef) {
        self.record = record;
        self.id = message.id;
        self.trace_anew();
    }

    fn trace_anew(&mut self) {
        let parent = self.record.header(HEADER).and_then(TraceParent::parse);
        self.trace = parent.map(TraceParent::child);
    }

    pub(crate) fn into_parts(self) -> (Transaction<Link>, Vec<NewEvent>) {
        (self.transaction, self.emitted)
    }

    /// The transaction, for the business SQL. It is the runtime's to end: a handler that sends
    /// COMMIT or ROLLBACK through it breaks what this crate promises. Savepoints are fine.
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error};
    /// # async fn f(cx: &mut Cx<u32>) -> Result<(), Error> {
    /// cx.tx().execute("UPDATE stock SET reserved = reserved + 1", &[]).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tx(&self) -> &Client {
        &self.transaction
    }

    /// What was given to [`Inbox::new`](crate::Inbox::new).
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error};
    /// # async fn f(cx: &mut Cx<u32>) -> Result<(), Error> {
    /// let limit: u32 = *cx.state();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The event id. In a batch, that of its first event.
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error};
    /// # async fn f(cx: &mut Cx<u32>) -> Result<(), Error> {
    /// let id: uuid::Uuid = cx.id();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The record as it was read. In a batch, that of its first event.
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error};
    /// # async fn f(cx: &mut Cx<u32>) -> Result<(), Error> {
    /// let offset = cx.record().offset;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The handler's span in the trace of the event, if that has one.
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error};
    /// # async fn f(cx: &mut Cx<u32>) -> Result<(), Error> {
    /// let trace = cx.trace().map(|trace| trace.to_string());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn trace(&self) -> Option<TraceParent> {
        self.trace
    }

    /// Publishes an event if, and only if, this event is handled: a row of the table `outbox`,
    /// written in the same transaction, behind those emitted before. It carries the handler's
    /// `traceparent` unless it has one of its own.
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error};
    /// # async fn f(cx: &mut Cx<u32>) -> Result<(), Error> {
    /// use walpost_inbox::NewEvent;
    /// let payload = serde_json::json!({"sku": "a-1"});
    /// cx.emit(NewEvent::new("stock", "a-1", "stock.Reserved", payload));
    /// # Ok(())
    /// # }
    /// ```
    pub fn emit(&mut self, event: NewEvent) {
        let event = match self.trace {
            Some(trace) if event.header(HEADER).is_none() => {
                let event = event.with_header(HEADER, trace.to_string());
                match self.record.header(STATE_HEADER) {
                    Some(state) => event.with_header(STATE_HEADER, state),
                    None => event,
                }
            }
            _ => event,
        };
        self.emitted.push(event);
    }

    /// An error for `?` and `ok_or_else` in handlers.
    ///
    /// ```
    /// # use walpost_inbox::{Cx, Error};
    /// # async fn f(cx: &mut Cx<u32>) -> Result<(), Error> {
    /// let reserved = None;
    /// let reserved: u32 = reserved.ok_or_else(|| cx.error("nothing is reserved"))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn error(&self, text: impl fmt::Display) -> Error {
        Error::new(format!("event {}: {text}", self.id))
    }
}
