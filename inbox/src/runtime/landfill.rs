//! What a consumer has done in, whether it puts too much aside out. Pure.
//!
//! A handler that is wrong about everything would move a whole topic into the lot, key by key, and
//! the commit of its offsets would say that all is well. Above a part of the last events the
//! consumer ends instead, and a person looks (I7).

use super::error::RunError;
use super::stats::Stats;

/// Events that are looked back at; then as many again.
const EVENTS: u64 = 10_000;
/// Fewer prove nothing.
const ASIDE_MIN: u64 = 100;

#[derive(Debug)]
pub(crate) struct Landfill {
    ratio_max: f64,
    /// The counts at which looking began.
    since: (u64, u64),
}

impl Landfill {
    pub(crate) fn new(ratio_max: f64) -> Self {
        Self { ratio_max, since: (0, 0) }
    }

    /// Refuses to go on when too much of the last events was put aside.
    pub(crate) fn look(&mut self, stats: Stats) -> Result<(), RunError> {
        // Those that wait behind a parked one say nothing about the handler.
        let aside = stats.parked + stats.dead_lettered;
        let all = aside + stats.handled + stats.ignored;
        let (aside_since, all_since) = self.since;
        let (recent, of) = (aside.saturating_sub(aside_since), all.saturating_sub(all_since));
        if recent >= ASIDE_MIN && recent as f64 > of as f64 * self.ratio_max {
            return Err(RunError::AsideTooMany { aside: recent, of });
        }
        if of >= EVENTS {
            self.since = (aside, all);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(handled: u64, parked: u64) -> Stats {
        Stats { handled, parked, ..Stats::default() }
    }

    #[test]
    fn a_hundred_put_aside_are_too_many_only_among_few_others() {
        let mut landfill = Landfill::new(0.5);
        assert!(landfill.look(stats(0, 99)).is_ok());
        assert!(landfill.look(stats(100, 100)).is_ok());
        let refused = landfill.look(stats(100, 101)).unwrap_err();
        assert!(matches!(refused, RunError::AsideTooMany { aside: 101, of: 201 }), "{refused}");
    }

    #[test]
    fn what_was_long_ago_does_not_hide_what_goes_wrong_now() {
        let mut landfill = Landfill::new(0.5);
        assert!(landfill.look(stats(1_000_000, 0)).is_ok());
        assert!(landfill.look(stats(1_000_000, 99)).is_ok());
        assert!(landfill.look(stats(1_000_000, 100)).is_err());
    }

    #[test]
    fn one_key_that_stands_still_is_no_landfill() {
        let stats = Stats { appended: 50_000, ..stats(200, 1) };
        assert!(Landfill::new(0.5).look(stats).is_ok());
    }

    #[test]
    fn a_ratio_of_one_allows_everything() {
        assert!(Landfill::new(1.0).look(stats(0, 5_000)).is_ok());
    }
}
