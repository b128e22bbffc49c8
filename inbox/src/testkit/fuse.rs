//! A number of polls or a point in; the moment at which everything stands still, out.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use tokio::sync::Notify;

use crate::runtime::CrashPoint;

/// Burns once; whatever runs under it is never polled again.
#[derive(Debug, Default)]
pub(crate) struct Fuse {
    polls_left: Option<AtomicU64>,
    point: Option<(CrashPoint, AtomicU64)>,
    is_burnt: AtomicBool,
    burning: Notify,
}

impl Fuse {
    pub(crate) fn unburnable() -> Self {
        Self::default()
    }

    pub(crate) fn after_polls(count: u64) -> Self {
        Self { polls_left: Some(AtomicU64::new(count)), ..Self::default() }
    }

    pub(crate) fn at(point: CrashPoint, count: u64) -> Self {
        Self { point: Some((point, AtomicU64::new(count))), ..Self::default() }
    }

    fn burn(&self) {
        self.is_burnt.store(true, Ordering::Release);
        self.burning.notify_one();
    }

    /// Comes when it burns. One waits.
    pub(crate) async fn burnt(&self) {
        self.burning.notified().await;
    }

    /// A batch passes a point; it does not return where the fuse burns.
    pub(crate) async fn pass(&self, point: CrashPoint) {
        let Some((chosen, left)) = &self.point else { return };
        if *chosen == point && left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.burn();
            std::future::pending().await
        }
    }

    /// Polls the future as long as the fuse lasts.
    pub(crate) async fn guard<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            if self.is_burnt.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            if let Some(left) = &self.polls_left
                && left.fetch_sub(1, Ordering::AcqRel) == 0
            {
                self.burn();
                return Poll::Pending;
            }
            future.as_mut().poll(context)
        })
        .await
    }
}
