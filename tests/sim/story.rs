//! What happened, step by step, for who looks into a failing seed: `WALPOST_SIM_STORY=1` prints it.

use std::sync::OnceLock;

pub(crate) fn tell(what: impl FnOnce() -> String) {
    static IS_TOLD: OnceLock<bool> = OnceLock::new();
    if *IS_TOLD.get_or_init(|| std::env::var_os("WALPOST_SIM_STORY").is_some()) {
        eprintln!("{}", what());
    }
}
