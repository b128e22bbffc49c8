//! Batches and releases in, one that has to be alone in its process out.
//!
//! When a process dies, what was alone in it is to blame; so nothing of any consumer in the process
//! may run beside a suspect. The others pass beside each other, which costs them nothing. Who waits
//! here has no transaction open, and is let in in order.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::suspects::Care;

static GATE: RwLock<()> = RwLock::const_new(());

/// Held while a batch or a release runs.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
pub(crate) enum Pass {
    Beside(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// Waits until it may run. Cancellation-safe.
pub(crate) async fn pass(care: Care) -> Pass {
    match care {
        Care::Quiet | Care::Noted => Pass::Beside(GATE.read().await),
        Care::Alone { .. } => Pass::Alone(GATE.write().await),
    }
}
