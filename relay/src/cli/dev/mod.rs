//! stub
use super::{Answer, Exit, Output};
use clap::Args;
/// Try it.
#[derive(Debug, Args)]
pub(super) struct Arguments {}
pub(super) async fn run(_a: Arguments, _o: Output) -> Answer {
    Ok(Exit::Fine)
}
pub(super) fn running_config() -> Option<std::path::PathBuf> {
    None
}
