//! One source's loop: it turns the world into [`Input`]s and [`Effect`]s into the world, and
//! decides nothing about events.
//!
//! ```text
//!            +--------------------------- pipeline ---------------------------+
//!   stream --| Frame -> Next / Publish / Ask / Feedback     Delivered, Answered |-- publisher
//!            +-----------------------------------------------------------------+
//! ```
//!
//! The one `select!` (in `Session::wait`) is biased; its branches in order of priority:
//! 1. the order to end, because a supervisor counts the seconds;
//! 2. an alarm of the survey, because what the stream rests on is gone;
//! 3. the answer to an open question, because frames wait for it;
//! 4. feedback or a position record that is due, whatever else goes on (the server gives up on a
//!    silent client);
//! 5. deliveries, because they make room;
//! 6. replies of the parking lot, for the same reason;
//! 7. more bytes of the stream, only while there is room and no question is open.
//!
//! The parking lot's part is in `run/lot.rs`.

mod lot;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::ask::Asker;
use crate::backoff::Backoff;
use crate::clock::{Clock, unix_ms};
use crate::confirm::ConfirmedLsn;
use crate::error::{Fault, SourceError};
use crate::instance::Instance;
use crate::kafka::BrokerError;
use crate::lookup::{Answer, Question};
use crate::park::{LotReply, Order, Parker};
use crate::pipeline::{Effect, Input, Pipeline};
use crate::progress::{self, Awaited, Published};
use crate::publish::{Delivery, Publisher, Sent};
use crate::settings::SourceSettings;
use crate::status::{State, Status};
use crate::wal::{Frame, Reply, WalError, WalStream};

/// A server that answers none of so many heartbeats is gone, whatever TCP believes.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// With the farewell below, the end comes within a second.
const DRAIN_MAX: Duration = Duration::from_millis(700);
const FAREWELL_MAX: Duration = Duration::from_millis(200);
/// A missing topic or schema is asked for again at this interval while frames wait for it.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often the status for the outside is renewed.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// A server that shuts down ends the stream as soon as all of it is confirmed; longer than this it
/// is not kept waiting.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(3);

/// The order to end, shared by all sources.
pub type Shutdown = watch::Receiver<bool>;

type Asking = Pin<Box<dyn Future<Output = (Question, Result<Answer, SourceError>)> + Send>>;

/// A question under way.
struct OpenQuestion {
    asking: Asking,
    /// Whether the frame in the buffer waits for it.
    is_blocking: bool,
}

/// What a session works with: all of it but the stream outlives the session.
pub(crate) struct Tools<'a> {
    pub(crate) settings: &'a SourceSettings,
    pub(crate) asker: &'a Asker,
    pub(crate) status: &'a Status,
    pub(crate) pipeline: &'a mut Pipeline,
    pub(crate) publisher: &'a mut Publisher,
    pub(crate) parker: &'a mut Parker,
    /// Where the position is recorded.
    pub(crate) instance: &'a mut Instance,
    /// The size of the producer's batches; made smaller for a topic that takes less.
    pub(crate) batch_bytes: &'a mut usize,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
    pub(crate) alarm: oneshot::Receiver<SourceError>,
    pub(crate) heartbeat: Duration,
}

/// The loop while a stream runs.
pub(crate) struct Session<'a> {
    stream: WalStream,
    settings: &'a SourceSettings,
    asker: &'a Asker,
    status: &'a Status,
    pipeline: &'a mut Pipeline,
    publisher: &'a mut Publisher,
    parker: &'a mut Parker,
    /// An order that the parker had no room for.
    order: Option<Order>,
    instance: &'a mut Instance,
    batch_bytes: &'a mut usize,
    clock: Clock,
    shutdown: Shutdown,
    alarm: Option<oneshot::Receiver<SourceError>>,
    /// The server shuts down: when to leave it, and why.
    leave_at: Option<(Instant, SourceError)>,
    heartbeat: Duration,
    question: Option<OpenQuestion>,
    deliveries: Vec<Delivery>,
    feedback_at: Instant,
    last_confirmed: ConfirmedLsn,
    last_bytes_at: Instant,
    status_at: Instant,
    published: Published,
}

/// What the loop waits for after it has done all it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Idle {
    /// More bytes.
    Bytes,
    /// Deliveries that make room.
    Room,
    /// The answer to a question.
    Answer,
}

/// What ended the waiting.
enum Woken {
    Shutdown,
    Alarm(SourceError),
    Answered(Question, Result<Answer, SourceError>),
    /// Feedback or a position record.
    Due,
    Deliveries,
    Reply(LotReply),
    Bytes(Result<usize, WalError>),
}

impl<'a> Session<'a> {
    pub(crate) fn new(stream: WalStream, tools: Tools<'a>) -> Self {
        let now = Instant::now();
        let published = Published::after(tools.pipeline);
        Self {
            stream,
            settings: tools.settings,
            asker: tools.asker,
            status: tools.status,
            pipeline: tools.pipeline,
            publisher: tools.publisher,
            parker: tools.parker,
            order: None,
            instance: tools.instance,
            batch_bytes: tools.batch_bytes,
            clock: tools.clock,
            shutdown: tools.shutdown,
            alarm: Some(tools.alarm),
            leave_at: None,
            heartbeat: tools.heartbeat,
            question: None,
            deliveries: Vec::new(),
            feedback_at: now,
            last_confirmed: ConfirmedLsn::NOTHING,
            last_bytes_at: now,
            status_at: now,
            published,
        }
    }

    /// Runs until the stream is lost or the order to end is carried out (`Ok`).
    ///
    /// Not cancellation-safe: a dropped future forgets what is in flight.
    pub(crate) async fn run(mut self) -> Result<(), SourceError> {
        let ended = self.turn().await;
        if let Err(error) = &ended
            && matches!(error.fault(), Fault::Park | Fault::Stop)
            && !matches!(error, SourceError::Kafka(_))
        {
            // What was sent before the event or the frame at fault is still confirmed, so that a
            // restart does not send it again.
            self.drain().await;
        }
        self.write_status();
        ended
    }

    async fn turn(&mut self) -> Result<(), SourceError> {
        self.status.enter(State::Streaming);
        loop {
            self.pipeline.set_now(self.clock.now());
            self.take_deliveries()?;
            let idle = self.take_frames().await?;
            self.take_releases()?;
            self.hand_over_orders();
            self.record_position()?;
            self.renew_status();
            match self.wait(idle).await {
                Woken::Shutdown => {
                    self.status.enter(State::Draining);
                    self.drain().await;
                    return Ok(());
                }
                Woken::Alarm(error) => self.alarmed(error)?,
                Woken::Answered(question, answer) => self.answered(&question, answer).await?,
                Woken::Due => {
                    if let Some((_, error)) = self.leave_at.take_if(|(at, _)| *at <= Instant::now())
                    {
                        return Err(error);
                    }
                    self.feedback_if_due().await?;
                }
                Woken::Deliveries => {}
                Woken::Reply(reply) => self.take_replies(reply)?,
                Woken::Bytes(read) => {
                    if read? > 0 {
                        self.last_bytes_at = Instant::now();
                    }
                }
            }
        }
    }

    /// A server that shuts down keeps the stream until all of it is confirmed. If Kafka is there,
    /// that is done in a moment and the slot is left fully consumed; if not, the shutdown would
    /// wait for Kafka, so the stream is left at once.
    fn alarmed(&mut self, error: SourceError) -> Result<(), SourceError> {
        let is_shutdown = matches!(&error, SourceError::Wal(WalError::ShuttingDown { .. }));
        if !is_shutdown || self.publisher.away().is_some() {
            return Err(error);
        }
        self.leave_at = Some((Instant::now() + SHUTDOWN_PATIENCE, error));
        Ok(())
    }

    /// The one `select!`; see the module's doc for its priorities.
    ///
    /// Cancellation-safe in each branch: bytes, deliveries and answers stay where they are.
    async fn wait(&mut self, idle: Idle) -> Woken {
        if idle != Idle::Bytes {
            // While nothing is read, the server's silence proves nothing.
            self.last_bytes_at = Instant::now();
        }
        let dues = [self.pipeline.position_due_at(), self.pipeline.order_due_at()];
        let dues = dues.into_iter().flatten().map(|due| self.clock.at(due));
        let leave_at = self.leave_at.as_ref().map_or(self.feedback_at, |(at, _)| *at);
        let due_at = dues.fold(self.feedback_at.min(leave_at), Instant::min);
        let reads_late = idle == Idle::Bytes && self.stream.late_until().is_some();
        let question = self.question.as_mut();
        let answer = async {
            match question {
                Some(open) => open.asking.as_mut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ordered_to_end(&mut self.shutdown) => Woken::Shutdown,
            error = alarm_of(&mut self.alarm) => Woken::Alarm(error),
            (question, answer) = answer => {
                self.question = None;
                Woken::Answered(question, answer)
            }
            () = tokio::time::sleep_until(due_at.into()) => Woken::Due,
            // A wake-up for each batch of them would undo the reading in large pieces.
            () = self.publisher.arrival(), if !reads_late => Woken::Deliveries,
            reply = self.parker.reply(), if !reads_late => Woken::Reply(reply),
            read = self.stream.fill(), if idle == Idle::Bytes => Woken::Bytes(read),
        }
    }

    fn take_deliveries(&mut self) -> Result<(), SourceError> {
        self.publisher.take_deliveries(&mut self.deliveries);
        let mut failed = None;
        let now = unix_ms();
        for delivery in self.deliveries.drain(..) {
            match delivery {
                Delivery::Acknowledged { seq, offset } => {
                    if let Effect::Acknowledged(event) =
                        self.pipeline.handle(Input::Delivered(seq, offset))?
                    {
                        self.published.count(event, now);
                    }
                }
                Delivery::Released(seq) => {
                    self.pipeline.handle(Input::ReleaseDelivered(seq))?;
                }
                Delivery::PositionAcknowledged => {
                    self.pipeline.handle(Input::PositionAcknowledged)?;
                    self.instance.release_predecessors(self.publisher)?;
                }
                // The rest of the batch still counts what was acknowledged.
                Delivery::Failed { error } => failed = failed.or(Some(error)),
            }
        }
        // What a delivery says tells more than the state that the producer is in because of it.
        let failed = failed.or_else(|| self.publisher.fatal());
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Offers frames until the buffer is empty, the pipeline is full, or something must be asked.
    async fn take_frames(&mut self) -> Result<Idle, SourceError> {
        if self.question.as_ref().is_some_and(|open| open.is_blocking) {
            return Ok(Idle::Answer);
        }
        loop {
            if !self.pipeline.has_room() {
                return Ok(Idle::Room);
            }
            let Some(frame) = self.stream.peek()? else { return Ok(Idle::Bytes) };
            let is_keepalive = matches!(frame, Frame::Keepalive { .. });
            match self.pipeline.handle(Input::Frame(frame))? {
                Effect::Next | Effect::Acknowledged(_) => self.stream.consume(),
                Effect::Publish { seq, record } => match self.publisher.send(seq, &record) {
                    Ok(Sent::QueueFull) => return Ok(Idle::Room),
                    Ok(Sent::Taken) => {
                        self.pipeline.handle(Input::Enqueued)?;
                        self.stream.consume();
                    }
                    // The same frame is offered again, and decided otherwise.
                    Err(BrokerError::RecordRefused { .. }) => {
                        self.pipeline.handle(Input::RecordRefused)?;
                    }
                    Err(error) => return Err(error.into()),
                },
                Effect::Park { seq, event } => {
                    match self.parker.hand_over(Order::Park { seq, event }) {
                        Sent::QueueFull => return Ok(Idle::Room),
                        Sent::Taken => {
                            self.pipeline.handle(Input::Enqueued)?;
                            self.stream.consume();
                        }
                    }
                }
                Effect::Ask(question) => {
                    self.ask_for_frame(question);
                    return Ok(Idle::Answer);
                }
                // The pipeline releases when it is asked to, and not for a frame.
                Effect::Release { .. } | Effect::AwaitPosition | Effect::AwaitDeliveries => {
                    return Ok(Idle::Room);
                }
                Effect::Feedback => {
                    self.stream.consume();
                    self.send_feedback().await?;
                }
                Effect::StreamEnded => return Err(self.stream.ended_by_server().into()),
            }
            if is_keepalive {
                self.note_caught_up();
            }
        }
    }

    /// Hands the position record that is due to the producer. A full queue is no error: the record
    /// stays due.
    fn record_position(&mut self) -> Result<(), SourceError> {
        let Some(write) = self.pipeline.position_due() else { return Ok(()) };
        if self.instance.record(self.publisher, &write.value)? == Sent::Taken {
            self.pipeline.handle(Input::PositionTaken(write.stamp))?;
        }
        Ok(())
    }

    fn ask_for_frame(&mut self, question: Question) {
        match &mut self.question {
            // A refresh is under way: the frame is offered again after it and asks then.
            Some(open) => open.is_blocking = true,
            None => {
                let (asker, status) = (self.asker.clone(), self.status.clone());
                let source = self.settings.name.clone();
                let asking = Box::pin(ask_until_answered(asker, status, source, question));
                self.question = Some(OpenQuestion { asking, is_blocking: true });
            }
        }
    }

    fn ask_for_refresh(&mut self) {
        if self.question.is_some() {
            return;
        }
        if let Some(question) = self.pipeline.refresh_due() {
            self.ask_aside(question);
        }
    }

    /// Asks for what no frame waits for: without an answer things stay as they are known.
    fn ask_aside(&mut self, question: Question) {
        let asker = self.asker.clone();
        let asking = async move {
            let answer = asker.ask(&question).await.unwrap_or(Answer::Unavailable);
            if matches!(answer, Answer::Missing | Answer::Unavailable) {
                // Whoever wants it asks again.
                tokio::time::sleep(ASK_AGAIN).await;
            }
            (question, Ok(answer))
        };
        self.question = Some(OpenQuestion { asking: Box::pin(asking), is_blocking: false });
    }

    async fn answered(
        &mut self,
        question: &Question,
        answer: Result<Answer, SourceError>,
    ) -> Result<(), SourceError> {
        let answer = answer?;
        if let Answer::Topic { facts, .. } = &answer {
            self.fit_batches(facts.message_bytes_max).await?;
        }
        self.pipeline.set_now(self.clock.now());
        let is_missing = matches!(answer, Answer::Missing);
        self.pipeline.handle(Input::Answered(question, answer))?;
        if !is_missing && self.status.enter(State::Streaming) {
            tracing::info!(source = self.settings.name, "streaming again");
        }
        Ok(())
    }

    /// `max.message.bytes` limits a whole batch: a topic that takes less than our batches needs a
    /// producer with smaller ones. It is replaced when nothing is in flight, no position record
    /// either, so nothing is lost.
    async fn fit_batches(&mut self, message_bytes_max: usize) -> Result<(), SourceError> {
        if message_bytes_max >= *self.batch_bytes {
            return Ok(());
        }
        while self.pipeline.has_in_flight() {
            self.last_bytes_at = Instant::now();
            tokio::select! {
                biased;
                () = ordered_to_end(&mut self.shutdown) => return Ok(()),
                () = tokio::time::sleep_until(self.feedback_at.into()) => {
                    self.feedback_if_due().await?;
                }
                () = self.publisher.arrival() => self.take_deliveries()?,
                reply = self.parker.reply() => self.take_replies(reply)?,
            }
        }
        *self.batch_bytes = message_bytes_max.max(1);
        let settings = &self.settings;
        let config = settings.kafka.producer(&settings.name, *self.batch_bytes);
        let old = std::mem::replace(self.publisher, Publisher::open(&config)?);
        let _ = tokio::task::spawn_blocking(move || old.purge()).await;
        Ok(())
    }

    async fn feedback_if_due(&mut self) -> Result<(), SourceError> {
        if Instant::now() < self.feedback_at {
            return Ok(());
        }
        self.send_feedback().await
    }

    async fn send_feedback(&mut self) -> Result<(), SourceError> {
        if self.last_bytes_at.elapsed() > SILENCE_MAX {
            return Err(self.stream.silent(SILENCE_MAX).into());
        }
        let confirmed = self.pipeline.confirmed();
        self.stream.send_feedback(confirmed, Reply::Wanted).await?;
        let now = Instant::now();
        self.last_confirmed = confirmed;
        self.feedback_at = now + self.heartbeat;
        Ok(())
    }

    /// Stops reading, waits for what is in flight as long as the order to end allows, records and
    /// confirms it and leaves in good order.
    async fn drain(&mut self) {
        let deadline = tokio::time::Instant::now() + DRAIN_MAX;
        loop {
            if self.pipeline.ledger().undelivered() == 0 {
                if self.pipeline.is_recorded() {
                    break;
                }
                self.pipeline.demand_position();
                if self.record_position().is_err() {
                    break;
                }
            }
            tokio::select! {
                biased;
                () = self.publisher.arrival() => {}
                reply = self.parker.reply() => {
                    if self.take_replies(reply).is_err() {
                        break;
                    }
                }
                () = tokio::time::sleep_until(deadline) => break,
            }
            if self.take_deliveries().is_err() {
                break;
            }
        }
        let left = self.pipeline.ledger().undelivered();
        let confirmed = self.pipeline.confirmed();
        // A server that is gone keeps its slot where it was: the events come again.
        let told = self.stream.send_feedback(confirmed, Reply::Unneeded).await;
        self.stream.close(FAREWELL_MAX).await;
        tracing::info!(
            source = self.settings.name,
            confirmed = %confirmed.lsn(),
            told_server = told.is_ok(),
            undelivered = left,
            "drained"
        );
    }

    fn note_caught_up(&self) {
        if self.pipeline.ledger().held() == 0 {
            let now = unix_ms();
            self.status.update(|snapshot| snapshot.caught_up_unix_ms = now);
        }
    }

    /// What is due from time to time: the status for the outside, a refresh of the schemas in use.
    /// Feedback follows each position record that is acknowledged.
    fn renew_status(&mut self) {
        let now = Instant::now();
        if self.pipeline.confirmed() > self.last_confirmed {
            self.feedback_at = now;
        }
        if now >= self.status_at {
            self.status_at = now + STATUS_INTERVAL;
            self.write_status();
            self.ask_for_refresh();
        }
    }

    fn write_status(&mut self) {
        // An idle producer is not told when a broker comes back, and it waits for none.
        let away = self.publisher.away().filter(|_| self.pipeline.ledger().undelivered() > 0);
        let awaited = match (&self.question, &away) {
            (Some(open), _) if open.is_blocking => Awaited::Answer,
            (_, Some(_)) => Awaited::Kafka,
            _ if self.parker.is_waiting() => Awaited::Lot,
            _ => Awaited::Nothing,
        };
        let state = progress::write(self.status, self.pipeline, &mut self.published, awaited);
        if let Some(state) = state
            && self.status.enter(state)
        {
            let source = &self.settings.name;
            match away {
                Some(reason) => tracing::warn!(source, "waiting for kafka: {reason}"),
                None => tracing::info!(source, "{}", state.as_str()),
            }
        }
    }
}

/// Asks until there is an answer, saying whom it waits for. A topic or a schema that is missing is
/// an answer, given after a moment so that asking again does not spin.
async fn ask_until_answered(
    asker: Asker,
    status: Status,
    source: String,
    question: Question,
) -> (Question, Result<Answer, SourceError>) {
    let mut backoff = Backoff::new();
    loop {
        let error = match asker.ask(&question).await {
            Ok(Answer::Missing) => {
                progress::report_missing(&status, &source, &question);
                tokio::time::sleep(ASK_AGAIN).await;
                return (question, Ok(Answer::Missing));
            }
            Ok(answer) => return (question, Ok(answer)),
            Err(error) => error,
        };
        let Fault::Retry(peer) = error.fault() else { return (question, Err(error)) };
        progress::report_wait(&status, &source, peer, &error);
        tokio::time::sleep(backoff.next_wait(Duration::ZERO)).await;
    }
}

/// Resolves when the order to end is given, or when nobody is left to give it.
pub(crate) async fn ordered_to_end(shutdown: &mut Shutdown) {
    let _ = shutdown.wait_for(|is_ordered| *is_ordered).await;
}

/// Resolves with the one alarm there can be.
async fn alarm_of(alarm: &mut Option<oneshot::Receiver<SourceError>>) -> SourceError {
    let Some(receiver) = alarm else { return std::future::pending().await };
    let raised = receiver.await.ok();
    *alarm = None;
    match raised {
        Some(error) => error,
        // Nobody would notice any more that rows are left out.
        None => panic!("I13: the survey ended without an alarm"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_survey_that_ends_without_an_alarm_ends_the_stream() {
        let (sender, receiver) = oneshot::channel();
        drop(sender);
        let waiting = tokio::spawn(async { alarm_of(&mut Some(receiver)).await });
        let panic = waiting.await.expect_err("it does not stream on").into_panic();
        let message = panic.downcast_ref::<&str>();
        assert_eq!(message, Some(&"I13: the survey ended without an alarm"));
    }
}
