//! A case is a value: what is done to a source under load, how long it lasts, how it is mended and
//! what must come of it. There is one frame for all of them.

use std::time::Duration;

use walpost_tests::is_long;

use crate::arena::{Arena, Expect};
use crate::stage::Stage;

/// A fault, and what must come of it.
pub(crate) struct Case {
    /// Its line of the table.
    pub(crate) name: &'static str,
    pub(crate) stage: Stage,
    pub(crate) fault: fn(&mut Arena),
    pub(crate) lasts: Lasts,
    pub(crate) mend: fn(&mut Arena),
    pub(crate) expect: Expect,
}

/// A fault of no server in particular after which everything has arrived.
pub(crate) const KEPT: Case = Case {
    name: "",
    stage: Stage::Shared,
    fault: |_| {},
    lasts: Lasts::ItsOwn,
    mend: |_| {},
    expect: Expect::Kept,
};

/// How long a fault lasts before it is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// As long as doing it takes.
    ItsOwn,
    /// A moment.
    Short,
    /// 90 seconds in the long form.
    Long,
}

impl Lasts {
    fn duration(self) -> Option<Duration> {
        match self {
            Self::ItsOwn => None,
            Self::Short => Some(Duration::from_secs(2)),
            Self::Long => Some(Duration::from_secs(if is_long() { 90 } else { 6 })),
        }
    }
}

impl Case {
    /// Load goes on all the while; recovery is timed from the mend on.
    #[track_caller]
    pub(crate) fn run(self) {
        assert!(!self.name.is_empty(), "a case has a line of its own");
        let mut arena = Arena::on(self.name, self.stage);
        (self.fault)(&mut arena);
        if let Some(duration) = self.lasts.duration() {
            arena.outlast(duration);
        }
        (self.mend)(&mut arena);
        arena.judge(self.expect);
    }
}
