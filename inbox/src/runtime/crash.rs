//! Points at which a test may end the process, as a power cut would.
//!
//! Built only with the feature `testkit`. `WALPOST_INBOX_CRASH=after_claim:37` ends the process at
//! the 37th time that the point is passed; without the feature nothing reads the variable.

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    chosen: Option<(CrashPoint, std::sync::atomic::AtomicU64)>,
}

#[cfg(feature = "testkit")]
impl CrashPoints {
    pub(crate) fn of_environment() -> Self {
        let chosen = std::env::var("WALPOST_INBOX_CRASH").ok().and_then(|text| {
            let (name, count) = text.split_once(':')?;
            let point = CrashPoint::ALL.into_iter().find(|point| point.name() == name)?;
            Some((point, std::sync::atomic::AtomicU64::new(count.parse().ok()?)))
        });
        Self { chosen }
    }

    pub(crate) fn pass(&self, point: CrashPoint) {
        use std::sync::atomic::Ordering;
        let Some((chosen, left)) = &self.chosen else { return };
        if *chosen == point && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // No destructor runs, no buffer is written.
            std::process::abort();
        }
    }
}

#[cfg(not(feature = "testkit"))]
impl CrashPoints {
    pub(crate) fn of_environment() -> Self {
        Self::default()
    }

    pub(crate) fn pass(&self, _: CrashPoint) {}
}
