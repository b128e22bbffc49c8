//! What a consumer asks of its database beside its batches; each on a connection of its own.

use std::time::Duration;

use tracing::warn;

use super::batch::Shared;
use crate::handler::chain;
use crate::message::Place;
use crate::store::floor::{self, Floor, Landmark};
use crate::store::parked::{self, Lot};
use crate::store::release::{self, SequenceName};
use crate::store::tenure::{self, Left};
use crate::store::window::{self, Upkeep};
use crate::store::{StoreError, Transaction};

/// For the rows of tenures when partitions are given back.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What is known of a partition that is taken over.
pub(super) struct Known {
    pub(super) floor: Option<Floor>,
    pub(super) landmark: Option<Landmark>,
    /// By its last owner.
    pub(super) left: Left,
}

/// Takes a partition over.
pub(super) async fn take_over<S>(shared: &Shared<S>, place: &Place) -> Result<Known, StoreError> {
    let link = shared.database.link().await?;
    let floor = floor::read(&*link, &shared.consumer, place).await?;
    let landmark = floor::landmark(&*link, &shared.consumer, place).await?;
    let left = tenure::begin(&*link, &shared.consumer, place, shared.runner).await?;
    shared.database.keep(link);
    Ok(Known { floor, landmark, left })
}

/// Gives partitions back in good order, their floors widened before; unless the database takes too
/// long: then the next owner is careful without need, and reads some again.
pub(super) async fn close_tenures<S>(
    shared: &Shared<S>,
    places: &[Place],
    floors: Vec<Widening>,
) -> Vec<Widening> {
    let mut widened = Vec::new();
    let closing = async {
        widened = widen(shared, floors, Vec::new()).await?;
        let link = shared.database.link().await?;
        let mut closed = Ok(());
        for place in places {
            closed = closed.and(tenure::end(&*link, &shared.consumer, place, shared.runner).await);
        }
        shared.database.keep(link);
        closed
    };
    let closed = tokio::time::timeout(CLOSE_MAX, closing).await;
    match closed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(error = chain(&error), "tenures cannot be closed"),
        Err(_) => warn!("tenures cannot be closed in time"),
    }
    widened
}

/// A floor that has moved.
pub(super) struct Widening {
    pub(super) place: Place,
    pub(super) generation: u64,
    pub(super) floor: Floor,
    /// If it is new.
    pub(super) landmark: Option<Landmark>,
}

/// Widens floors in one transaction, and forgets the suspects of partitions in which everything is
/// finished that a dead owner had. Gives back what is committed.
pub(super) async fn widen<S>(
    shared: &Shared<S>,
    mut floors: Vec<Widening>,
    settled: Vec<Place>,
) -> Result<Vec<Widening>, StoreError> {
    if floors.is_empty() && settled.is_empty() {
        return Ok(floors);
    }
    // In one direction only, for all who lock several.
    floors.sort_by(|one, other| one.place.cmp(&other.place));
    let tx = Transaction::begin_bare(shared.database.link().await?).await?;
    for Widening { place, floor, landmark, .. } in &floors {
        floor::widen(&*tx, &shared.consumer, place, *floor).await?;
        if let Some(landmark) = landmark {
            floor::set_landmark(&*tx, &shared.consumer, place, *landmark).await?;
        }
    }
    for place in settled {
        tenure::settle(&*tx, &shared.consumer, &place).await?;
    }
    shared.database.keep(tx.commit().await?);
    Ok(floors)
}

/// What may be released, and how much there is.
pub(super) async fn find_due<S>(
    shared: &Shared<S>,
    owned: &[Place],
) -> Result<(Vec<SequenceName>, Lot), StoreError> {
    let link = shared.database.link().await?;
    let (due, lot) = tokio::join!(
        biased;
        release::due(&*link, &shared.consumer, owned),
        parked::lot(&*link, &shared.consumer),
    );
    let found = (due?, lot?);
    shared.database.keep(link);
    Ok(found)
}

pub(super) async fn keep_window<S>(shared: &Shared<S>) -> Result<Upkeep, StoreError> {
    let link = shared.database.link().await?;
    let upkeep = window::keep(&*link, shared.settings.window_days).await?;
    shared.database.keep(link);
    Ok(upkeep)
}
