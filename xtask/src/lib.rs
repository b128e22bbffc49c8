//! `cargo x`: what the project does to itself. In: a checkout and a machine that holds Rust, git
//! and a C compiler. Out: servers to test against ([`stack`]), gates ([`check`], [`tidy`]) and the
//! commands that rest on both.
//!
//! Blocking, std only: the integration tests start and kill private servers through [`stack`] from
//! any runtime.

pub mod check;
pub mod deny;
pub mod fetch;
pub mod machine;
pub mod mutants;
pub mod process;
pub mod run;
pub mod stack;
pub mod tidy;
pub mod wait;
