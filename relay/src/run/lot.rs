//! The parking lot's part of the loop: orders handed to its task, replies taken from it, released
//! events handed to the producer. None of it keeps the stream waiting.

use super::Session;
use crate::error::SourceError;
use crate::kafka::BrokerError;
use crate::lookup::Question;
use crate::park::LotReply;
use crate::pipeline::{Effect, Input};
use crate::publish::Sent;

impl Session<'_> {
    /// Hands the order over that is due, if any.
    pub(super) fn hand_over_orders(&mut self) {
        let Some(order) = self.order.take().or_else(|| self.pipeline.order_due()) else { return };
        if self.parker.hand_over(order.clone()) == Sent::QueueFull {
            self.order = Some(order);
        }
    }

    /// Takes a reply, and those that have come since.
    pub(super) fn take_replies(&mut self, first: LotReply) -> Result<(), SourceError> {
        self.pipeline.handle(Input::Reply(first))?;
        while let Some(reply) = self.parker.take_reply() {
            self.pipeline.handle(Input::Reply(reply))?;
        }
        Ok(())
    }

    /// Hands released events to the producer until there is none, or one has to wait.
    pub(super) fn take_releases(&mut self) -> Result<(), SourceError> {
        while self.pipeline.has_release() {
            match self.pipeline.release()? {
                Effect::Release { seq, record } => match self.publisher.release(seq, &record) {
                    Ok(Sent::QueueFull) => return Ok(()),
                    Ok(Sent::Taken) => {
                        self.pipeline.handle(Input::ReleaseTaken)?;
                    }
                    Err(BrokerError::RecordRefused { .. }) => {
                        self.pipeline.handle(Input::RecordRefused)?;
                    }
                    Err(error) => return Err(error.into()),
                },
                Effect::Ask(question) => {
                    self.ask_for_release(question);
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// No frame waits for the answer. One question is open at a time.
    fn ask_for_release(&mut self, question: Question) {
        if self.question.is_none() {
            self.ask_aside(question);
        }
    }
}
