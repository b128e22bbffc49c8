//! Handlers as people write them in, one form that the runtime calls out.
//!
//! Plain `async fn(E, &mut Cx<S>)` items are handlers, and so are closures that return such a
//! future and capture nothing. What a handler needs comes from [`Cx::state`].

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use crate::handler::decode::Decoder;
use crate::handler::{
    Cx, DecodeError, Error, Event, Outcome, Prepared, Received, Tombstone, WriterSchemas,
};
use crate::message::{MessageRef, Record};

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Answer = Result<Outcome, Error>;

/// Names the future of a handler for one lifetime, so that it can be required to be `Send`.
#[doc(hidden)]
pub trait Call<'a, E, S: 'a>: Send + Sync {
    type Answer: Future<Output = Answer> + Send + 'a;
    fn call(&self, event: E, cx: &'a mut Cx<S>) -> Self::Answer;
}

impl<'a, E, S: 'a, F, A> Call<'a, E, S> for F
where
    F: Fn(E, &'a mut Cx<S>) -> A + Send + Sync,
    A: Future<Output = Answer> + Send + 'a,
{
    type Answer = A;

    fn call(&self, event: E, cx: &'a mut Cx<S>) -> A {
        self(event, cx)
    }
}

/// Handles one event at a time: `async fn(E, &mut Cx<S>) -> Result<Outcome, Error>`.
pub trait Handler<E, S>: for<'a> Call<'a, E, S> + 'static {}
impl<E, S, H> Handler<E, S> for H where H: for<'a> Call<'a, E, S> + 'static {}

/// Handles several events with one statement:
/// `async fn(Vec<Received<E>>, &mut Cx<S>) -> Result<Outcome, Error>`. When it fails, each event is
/// tried alone, to find the one to blame.
pub trait BatchHandler<E, S>: for<'a> Call<'a, Vec<Received<E>>, S> + 'static {}
impl<E, S, H> BatchHandler<E, S> for H where H: for<'a> Call<'a, Vec<Received<E>>, S> + 'static {}

/// Handles records without a value: `async fn(Tombstone, &mut Cx<S>) -> Result<Outcome, Error>`.
pub trait TombstoneHandler<S>: for<'a> Call<'a, Tombstone, S> + 'static {}
impl<S, H> TombstoneHandler<S> for H where H: for<'a> Call<'a, Tombstone, S> + 'static {}

/// A handler of any kind.
pub(crate) trait Handled<S>: Send + Sync {
    /// Reads the event, before BEGIN. Cancellation-safe.
    fn prepare<'a>(
        &'a self,
        record: &'a Record,
        message: &'a MessageRef,
        schemas: &'a dyn WriterSchemas,
    ) -> Boxed<'a, Result<Prepared, DecodeError>>;

    /// Calls it with what it prepared: one event, or several if it takes batches.
    fn call<'a>(&'a self, events: Vec<Prepared>, cx: &'a mut Cx<S>) -> Boxed<'a, Answer>;

    fn takes_batches(&self) -> bool {
        false
    }

    /// What is wrong with it, to be said at the start.
    fn fault(&self) -> Option<DecodeError> {
        None
    }
}

fn only<T: 'static>(events: Vec<Prepared>) -> Result<T, Error> {
    let event = events.into_iter().next().and_then(|event| event.downcast::<T>().ok());
    event.map(|event| *event).ok_or_else(|| Error::new("handler was given another's event"))
}

fn key_text(record: &Record) -> String {
    String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned()
}

/// A handler of one type of event; `K` says how many at once.
pub(crate) struct Typed<E, S, H, K> {
    handler: H,
    decoder: Decoder<E>,
    _kind: PhantomData<fn() -> (S, K)>,
}

/// One event a call.
pub(crate) struct One;
/// Neighbours of a batch in one call.
pub(crate) struct Many;

pub(crate) type Single<E, S, H> = Typed<E, S, H, One>;
pub(crate) type Several<E, S, H> = Typed<E, S, H, Many>;

impl<E: Event, S, H, K> Typed<E, S, H, K> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler, decoder: Decoder::new(), _kind: PhantomData }
    }
}

impl<E: Event, S: Send + Sync + 'static, H: Handler<E, S>> Handled<S> for Single<E, S, H> {
    fn prepare<'a>(
        &'a self,
        record: &'a Record,
        _: &'a MessageRef,
        schemas: &'a dyn WriterSchemas,
    ) -> Boxed<'a, Result<Prepared, DecodeError>> {
        Box::pin(async move {
            let event = self.decoder.decode(record, schemas).await?;
            Ok(Box::new(event) as Prepared)
        })
    }

    fn call<'a>(&'a self, events: Vec<Prepared>, cx: &'a mut Cx<S>) -> Boxed<'a, Answer> {
        match only::<E>(events) {
            Ok(event) => Box::pin(self.handler.call(event, cx)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn fault(&self) -> Option<DecodeError> {
        self.decoder.fault()
    }
}

impl<E: Event, S: Send + Sync + 'static, H: BatchHandler<E, S>> Handled<S> for Several<E, S, H> {
    fn prepare<'a>(
        &'a self,
        record: &'a Record,
        message: &'a MessageRef,
        schemas: &'a dyn WriterSchemas,
    ) -> Boxed<'a, Result<Prepared, DecodeError>> {
        Box::pin(async move {
            let event = self.decoder.decode(record, schemas).await?;
            let received = Received { id: message.id, key: key_text(record), event };
            Ok(Box::new(received) as Prepared)
        })
    }

    fn call<'a>(&'a self, events: Vec<Prepared>, cx: &'a mut Cx<S>) -> Boxed<'a, Answer> {
        let one = |event: Prepared| only::<Received<E>>(vec![event]);
        match events.into_iter().map(one).collect::<Result<Vec<_>, _>>() {
            Ok(events) => Box::pin(self.handler.call(events, cx)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn takes_batches(&self) -> bool {
        true
    }

    fn fault(&self) -> Option<DecodeError> {
        self.decoder.fault()
    }
}

pub(crate) struct Gone<S, H> {
    handler: H,
    _state: PhantomData<fn() -> S>,
}

impl<S, H> Gone<S, H> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler, _state: PhantomData }
    }
}

impl<S: Send + Sync + 'static, H: TombstoneHandler<S>> Handled<S> for Gone<S, H> {
    fn prepare<'a>(
        &'a self,
        record: &'a Record,
        message: &'a MessageRef,
        _: &'a dyn WriterSchemas,
    ) -> Boxed<'a, Result<Prepared, DecodeError>> {
        let event_type = record.header(walpost_schema::envelope::HEADER_TYPE).unwrap_or("");
        let event_type = event_type.to_owned();
        let gone = Tombstone { id: message.id, key: key_text(record), event_type };
        Box::pin(std::future::ready(Ok(Box::new(gone) as Prepared)))
    }

    fn call<'a>(&'a self, events: Vec<Prepared>, cx: &'a mut Cx<S>) -> Boxed<'a, Answer> {
        match only::<Tombstone>(events) {
            Ok(gone) => Box::pin(self.handler.call(gone, cx)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}
