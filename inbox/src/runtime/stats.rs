//! What a consumer has done, as numbers for its service's own metrics. Ids and counts only (I12).

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters since the start, and gauges, at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)+
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

stats! {
    /// Events whose effects were committed.
    handled,
    /// Copies that were told by their claim or by the floor.
    duplicates,
    /// Events without a handler, and those that a handler ignored.
    ignored,
    /// Sequences that were parked for their first event.
    parked,
    /// Those of them whose event ended the process again and again.
    deadly,
    /// Events that were put behind a parked one of their key.
    appended,
    /// Events that left through the outbox.
    dead_lettered,
    /// Parked events that were handled.
    released,
    /// Attempts that failed.
    failures,
    /// Batches that met another transaction and went again.
    contentions,
    /// Batches that lost the database or the registry and went again.
    waits,
    /// Partitions that were assigned, again and again.
    assignments,
    /// Sequences of this consumer that are parked now, by whatever instance.
    parked_sequences,
    /// Bytes of their events.
    parked_bytes,
    /// How long the oldest of them is parked, in seconds; 0 when none is.
    parked_seconds,
    /// Partitions that were assigned while their topic kept records from before the window: a copy
    /// of one of those is told by the floor alone.
    beyond_window,
    /// Bytes of records in memory now.
    memory_bytes,
    /// Partitions assigned now.
    partitions,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
