//! `walpost health`: asks a running relay, for images without a shell.

use clap::Args;

use super::status::get;
use super::{Answer, ConfigSource, Exit};

/// Exit 0 when every source streams, 1 when one does not, 3 when nobody answers.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ask whether the loops turn (/livez) instead of whether every source streams (/readyz).
    #[arg(long)]
    live: bool,
}

pub(super) async fn run(arguments: Arguments, config: &ConfigSource) -> Answer {
    let settings = config.load()?;
    let path = if arguments.live { "/livez" } else { "/readyz" };
    let (status, body) = get(&settings.admin, path).await?;
    eprint!("{body}");
    Ok(if status.is_success() { Exit::Fine } else { Exit::Findings })
}
