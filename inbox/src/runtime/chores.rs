//! What a consumer asks of its database beside its batches; each on a connection of its own.

use std::time::Duration;

use tracing::warn;

use super::batch::Shared;
use crate::handler::chain;
use crate::message::Place;
use crate::store::StoreError;
use crate::store::floor::{self, Floor, Landmark};
use crate::store::parked::{self, Lot};
use crate::store::release::{self, SequenceName};
use crate::store::tenure::{self, Left};
use crate::store::window::{self, Upkeep};

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

/// Gives partitions back in good order, unless the database takes too long: then the next owner is
/// careful without need.
pub(super) async fn close_tenures<S>(shared: &Shared<S>, places: &[Place]) {
    let closing = async {
        let link = shared.database.link().await?;
        let mut closed = Ok(());
        for place in places {
            closed = closed.and(tenure::end(&*link, &shared.consumer, place, shared.runner).await);
        }
        shared.database.keep(link);
        closed
    };
    match tokio::time::timeout(CLOSE_MAX, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(error = chain(&error), "tenures cannot be closed"),
        Err(_) => warn!("tenures cannot be closed in time"),
    }
}

/// Widens floors, and forgets the suspects of partitions in which everything is finished that a
/// dead owner had.
pub(super) async fn widen<S>(
    shared: &Shared<S>,
    floors: Vec<(Place, Floor, Option<Landmark>)>,
    settled: Vec<Place>,
) -> Result<(), StoreError> {
    if floors.is_empty() && settled.is_empty() {
        return Ok(());
    }
    let link = shared.database.link().await?;
    for (place, floor, landmark) in floors {
        floor::widen(&*link, &shared.consumer, &place, floor).await?;
        if let Some(landmark) = landmark {
            floor::set_landmark(&*link, &shared.consumer, &place, landmark).await?;
        }
    }
    for place in settled {
        tenure::settle(&*link, &shared.consumer, &place).await?;
    }
    shared.database.keep(link);
    Ok(())
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
