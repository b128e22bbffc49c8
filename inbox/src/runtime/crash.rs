//! Points at which a test may end the process, as a power cut would.
//!
//! Built only with the feature `testkit`. `WALPOST_INBOX_CRASH=after_claim:37` ends the process at
//! the 37th time that the point is passed, `WALPOST_INBOX_FREEZE=after_claim:37` stops it there
//! (SIGSTOP), `WALPOST_INBOX_CRASH_EVENT=<id>` ends it whenever the handler of that event is to be
//! called. Without the feature nothing reads these variables.

use std::future::Future;
#[cfg(feature = "testkit")]
use std::sync::Arc;

#[cfg(feature = "testkit")]
use crate::testkit::Fuse;

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(feature = "testkit"), expect(unreachable_pub, reason = "the test kit shows it"))]
pub enum CrashPoint {
    /// Events are read and decoded; nothing was sent to the database.
    BeforeBegin,
    /// They are claimed in an open transaction.
    AfterClaim,
    /// The business SQL is done; nothing is committed.
    AfterHandler,
    /// The transaction has committed; no offset has.
    AfterCommit,
}

#[cfg(feature = "testkit")]
impl CrashPoint {
    /// All of them, in their order.
    pub const ALL: [CrashPoint; 4] =
        [Self::BeforeBegin, Self::AfterClaim, Self::AfterHandler, Self::AfterCommit];

    /// As the environment spells it.
    ///
    /// ```
    /// use walpost_inbox::testkit::CrashPoint;
    /// assert_eq!(CrashPoint::AfterClaim.name(), "after_claim");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeBegin => "before_begin",
            Self::AfterClaim => "after_claim",
            Self::AfterHandler => "after_handler",
            Self::AfterCommit => "after_commit",
        }
    }
}

/// Counts passages.
#[derive(Debug, Default)]
pub(crate) struct CrashPoints {
    #[cfg(feature = "testkit")]
    crash: Option<Chosen>,
    #[cfg(feature = "testkit")]
    freeze: Option<Chosen>,
    #[cfg(feature = "testkit")]
    deadly: Option<uuid::Uuid>,
    #[cfg(feature = "testkit")]
    fuse: Option<Arc<Fuse>>,
}

/// A point, and how often it may still be passed.
#[cfg(feature = "testkit")]
#[derive(Debug)]
struct Chosen {
    point: CrashPoint,
    left: std::sync::atomic::AtomicU64,
}

#[cfg(feature = "testkit")]
impl Chosen {
    fn of_environment(name: &str) -> Option<Self> {
        let text = std::env::var(name).ok()?;
        let (point, count) = text.split_once(':')?;
        let point = CrashPoint::ALL.into_iter().find(|found| found.name() == point)?;
        Some(Self { point, left: std::sync::atomic::AtomicU64::new(count.parse().ok()?) })
    }

    fn is_now(&self, point: CrashPoint) -> bool {
        use std::sync::atomic::Ordering;
        self.point == point && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[cfg(feature = "testkit")]
impl CrashPoints {
    pub(crate) fn of_environment() -> Self {
        Self {
            crash: Chosen::of_environment("WALPOST_INBOX_CRASH"),
            freeze: Chosen::of_environment("WALPOST_INBOX_FREEZE"),
            deadly: std::env::var("WALPOST_INBOX_CRASH_EVENT").ok().and_then(|id| id.parse().ok()),
            fuse: None,
        }
    }

    pub(crate) fn burn_with(&mut self, fuse: Arc<Fuse>) {
        self.fuse = Some(fuse);
    }

    pub(crate) async fn pass(&self, point: CrashPoint) {
        if self.crash.as_ref().is_some_and(|chosen| chosen.is_now(point)) {
            // No destructor runs, no buffer is written.
            std::process::abort();
        }
        if self.freeze.as_ref().is_some_and(|chosen| chosen.is_now(point)) {
            let pid = std::process::id().to_string();
            // Waits for the answer of a program that stops us: gone on with after SIGCONT.
            let _ = std::process::Command::new("kill").args(["-STOP", &pid]).status();
        }
        if let Some(fuse) = &self.fuse {
            fuse.pass(point).await;
        }
    }

    /// The handler of an event is to be called.
    pub(crate) fn meet(&self, id: uuid::Uuid) {
        if self.deadly == Some(id) {
            std::process::abort();
        }
    }

    /// Runs a batch as long as nothing burns.
    pub(crate) async fn guard<T>(&self, future: impl Future<Output = T>) -> T {
        match &self.fuse {
            Some(fuse) => fuse.guard(future).await,
            None => future.await,
        }
    }
}

#[cfg(not(feature = "testkit"))]
impl CrashPoints {
    pub(crate) fn of_environment() -> Self {
        Self::default()
    }

    pub(crate) fn pass(&self, _: CrashPoint) -> std::future::Ready<()> {
        std::future::ready(())
    }

    pub(crate) fn meet(&self, _: uuid::Uuid) {}

    pub(crate) fn guard<T, F: Future<Output = T>>(&self, future: F) -> F {
        future
    }
}
