//! The way out of the parking lot, and what is found after an interruption: replies of the lot and
//! what read-back found in, records of released events out.
//!
//! A released event takes the same way as one of the stream: routed, encoded, sent through the same
//! producer. It is no event of the open transaction and the frontier does not wait for it; that
//! nothing of it is lost or doubled rests on its row, which leaves the lot only when Kafka has the
//! record, and on the pinned offsets, by which read-back finds the record as long as the row is
//! there.

use std::time::Duration;

use walpost_schema::envelope::EventPosition;

use super::decide::Verdict;
use super::{Effect, Letter, Pipeline};
use crate::encode::{Copy, EncodeError};
use crate::error::{EventFault, SourceError, with_causes};
use crate::park::{Identity, Lot, LotReply, LotView, Order, ParkedEvent, Reason, ReleaseSeq, Turn};
use crate::position::{Found, Place};

impl Pipeline {
    /// The next order to the lot besides those that park. It must be handed over.
    pub fn order_due(&mut self) -> Option<Order> {
        self.started.as_ref()?;
        let dealt_with = self.ledger.frontier().mark;
        let view = LotView {
            rows: self.lot.rows(),
            recorded: self.recorder.recorded().mark,
            dealt_with,
            is_caught_up: dealt_with >= self.lot_horizon,
        };
        self.releases.order(&view, self.now.elapsed)
    }

    /// When [`Self::order_due`] has something by itself.
    pub fn order_due_at(&self) -> Option<Duration> {
        self.releases.due_at(self.lot.rows())
    }

    /// What is in the lot.
    pub fn lot(&self) -> &Lot {
        &self.lot
    }

    /// Whether an event waits to leave the lot.
    pub fn has_release(&self) -> bool {
        self.releases.has_row()
    }

    /// Offers the next event that leaves the lot: [`Effect::Release`], a question, something to
    /// wait for, or [`Effect::Next`] when there is none for now. Nothing of it stands in the way of
    /// the stream.
    pub fn release(&mut self) -> Result<Effect<'_>, SourceError> {
        if !self.has_room() {
            return Ok(Effect::AwaitDeliveries);
        }
        loop {
            let Turn::Publish(parked) = self.releases.turn() else { return Ok(Effect::Next) };
            let is_dealt_with = self.ledger.frontier().mark.covers(parked.identity.position);
            assert!(is_dealt_with, "I6: no earlier event can still come before a released one");
            let parked = parked.clone();
            let verdict = self.decide_release(&parked);
            match verdict {
                Verdict::Publish(place) => return Ok(self.offer_release(place)),
                Verdict::Ask(question) => return Ok(Effect::Ask(question)),
                Verdict::AwaitDeliveries | Verdict::Behind => return Ok(Effect::AwaitDeliveries),
                Verdict::Refuse(fault) => {
                    let detail = with_causes(&*fault);
                    let Identity { position, .. } = parked.identity;
                    let error = SourceError::Event { id: None, position, error: fault };
                    self.releases.refuse(Reason { code: error.code().into(), detail });
                }
            }
        }
    }

    fn decide_release(&mut self, parked: &ParkedEvent) -> Verdict {
        let refuse = |fault| Verdict::Refuse(Box::new(fault));
        let position = parked.identity.position;
        let event = match parked.row.event(position, parked.commit_time) {
            Ok(event) => event,
            Err(error) => return refuse(EventFault::Row(error)),
        };
        let destination = match self.router.route(&event.aggregate_type, &event.event_type) {
            Ok(destination) => destination,
            Err(error) => return refuse(EventFault::Route(error)),
        };
        // Once: the next retry tries again.
        if self.condemned_release.take_if(|refused| *refused == parked.identity).is_some() {
            let topic = destination.topic.to_string();
            return refuse(EventFault::Encode(EncodeError::RefusedByBroker { topic }));
        }
        self.encoder.set_timeline(parked.identity.timeline);
        self.prepare(&event, destination, Copy::Released)
    }

    fn offer_release(&mut self, place: Place) -> Effect<'_> {
        if !self.ledger.offsets().is_secured(place) {
            self.recorder.demand();
            return Effect::AwaitPosition;
        }
        self.release_place = Some(place);
        Effect::Release { seq: self.releases.next_seq(), record: self.encoder.record() }
    }

    pub(super) fn release_taken(&mut self) -> Result<Effect<'_>, SourceError> {
        let place = self.release_place.take();
        assert!(place.is_some(), "I5: only an offered release is taken");
        if let Some(place) = place {
            self.ledger.offsets_mut().release(place);
            self.releases.taken(place);
        }
        Ok(Effect::Next)
    }

    pub(super) fn release_delivered(&mut self, seq: ReleaseSeq) -> Result<Effect<'_>, SourceError> {
        if let Some(place) = self.releases.delivered(seq) {
            self.ledger.offsets_mut().released(place);
            self.counts.released += 1;
        }
        Ok(Effect::Next)
    }

    /// An order to the lot is carried out, and what came of it is committed.
    pub(super) fn reply(&mut self, reply: LotReply) {
        match reply {
            LotReply::Parked { seqs, as_of } => {
                for seq in seqs {
                    self.ledger.park(seq, as_of);
                }
                self.leave_alone_mode();
            }
            LotReply::Moved { as_of, .. } => {
                self.ledger.rely_on(as_of);
                for moved in self.releases.reply(reply) {
                    self.lot.leave(&moved.sequence, moved.rows, moved.bytes);
                }
                self.are_releases_alone = false;
                if !self.releases.is_unsettled() && !self.releases.is_settling_found() {
                    self.ledger.offsets_mut().unpin_all();
                }
            }
            LotReply::Loaded(_) => {
                if self.releases.is_asked_for() {
                    self.encoder.doubt();
                }
                self.releases.reply(reply);
            }
            LotReply::Requests(_) | LotReply::Done => {
                self.releases.reply(reply);
            }
        }
    }

    /// What Kafka holds after an interruption. What was found keeps its place until the stream has
    /// repeated it. What is in the lot as well leaves it before anything else does.
    pub(super) fn read_back(&mut self, found: Found) {
        let in_both = found.events.iter().filter(|(position, _)| self.lot.knows(**position));
        let in_both = in_both.map(|(position, at)| {
            let timeline = at.timeline;
            Identity { timeline, position: *position }
        });
        let released: Vec<Identity> = found.released.iter().copied().chain(in_both).collect();
        let offsets = self.ledger.offsets_mut();
        if !released.is_empty() {
            offsets.pin_all();
        }
        for (position, at) in found.events {
            if let Some(place) = offsets.place(&at.topic, at.partition) {
                offsets.hold_found(place);
                self.found.insert(position, (place, at.offset));
            }
        }
        for (topic, ends) in &found.ends {
            offsets.move_idle(topic, ends);
        }
        self.counts.resent_forgotten += found.forgotten;
        self.releases.open(released);
    }

    /// The offered record is at fault, and nothing else.
    pub(super) fn record_refused(&mut self) {
        if self.release_place.take().is_some() {
            self.condemned_release = self.releases.offered();
        } else if let Some(offered) = self.offered.take() {
            self.condemn(offered.event.position);
        }
    }

    fn condemn(&mut self, position: EventPosition) {
        let was_condemned = self.condemned.is_some_and(|(known, _)| known == position);
        let letter = if was_condemned { Letter::Dead } else { Letter::Alive };
        self.condemned = Some((position, letter));
    }

    /// A broker refused a batch and does not say which record is at fault. If one was alone in
    /// flight, it is that one; otherwise all that was in flight is sent again one by one.
    pub(super) fn batch_refused(&mut self) {
        match (self.ledger.only_undelivered(), self.releases.in_flight()) {
            (Some(position), 0) => self.condemn(position),
            (None, 1) if self.ledger.undelivered() == 0 => {
                self.condemned_release = self.releases.only_in_flight();
            }
            _ => {}
        }
        self.are_releases_alone = self.releases.in_flight() > 0;
        self.alone_until = Some(self.ledger.enqueued().max(self.alone_until.unwrap_or_default()));
    }

    /// One record at a time is in flight until the frontier has passed all that was in the refused
    /// batch.
    pub(super) fn leave_alone_mode(&mut self) {
        let frontier = self.ledger.frontier().mark;
        self.alone_until = self.alone_until.filter(|until| frontier < *until);
    }
}
