//! What a consumer asks of its database beside its batches; each on a connection of its own.

use super::batch::Shared;
use crate::message::Place;
use crate::store::StoreError;
use crate::store::floor::{self, Floor};
use crate::store::parked::{self, Lot};
use crate::store::release::{self, SequenceName};
use crate::store::window::{self, Upkeep};

pub(super) async fn read_floor<S>(
    shared: &Shared<S>,
    place: &Place,
) -> Result<Option<Floor>, StoreError> {
    let link = shared.database.link().await?;
    let floor = floor::read(&*link, &shared.consumer, place).await?;
    shared.database.keep(link);
    Ok(floor)
}

pub(super) async fn widen<S>(
    shared: &Shared<S>,
    floors: Vec<(Place, Floor)>,
) -> Result<(), StoreError> {
    if floors.is_empty() {
        return Ok(());
    }
    let link = shared.database.link().await?;
    for (place, floor) in floors {
        floor::widen(&*link, &shared.consumer, &place, floor).await?;
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
