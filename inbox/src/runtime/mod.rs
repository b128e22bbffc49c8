//! L2
pub mod backoff;
pub mod breaker;
pub mod lanes;
pub mod offsets;
pub use backoff::Backoff;
