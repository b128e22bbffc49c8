//! `walpost parked`: the parking lot. Looking reads its tables; retry and discard only write a
//! request, because the relay is the only one who publishes and keeps the order.

mod ask;
mod list;
mod preview;

use clap::{Args, Subcommand};

use super::address::pick_source;
use super::{Answer, ConfigSource, Failure, Output};
use crate::database::SqlSession;
use crate::park::Selection;
use crate::settings::{Settings, SourceSettings};

/// The parking lot.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show what is parked and why.
    List(list::ListArguments),
    /// Show all of one event, without its payload unless asked for.
    Show(list::ShowArguments),
    /// Have the relay publish events again, each aggregate in order.
    ///
    /// An event that fails again keeps everything behind it parked.
    Retry(ask::Arguments),
    /// Give events up: they are never published. What is behind them stays parked.
    Discard(ask::Arguments),
}

/// Which events.
#[derive(Debug, Args)]
struct Which {
    /// Events of this aggregate type, or of one aggregate: order or order/42.
    #[arg(long, value_name = "TYPE[/ID]")]
    aggregate: Option<String>,
    /// The event with this id.
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// The event at this place, as list prints it: 1/0/16B3748:3.
    #[arg(long, value_name = "PLACE")]
    at: Option<String>,
    /// Events with this code, such as payload_unfit.
    #[arg(long)]
    code: Option<String>,
    /// The source, where several are configured.
    #[arg(long)]
    source: Option<String>,
}

impl Which {
    fn selection(&self) -> Selection {
        let (aggregate_type, aggregate_id) = match &self.aggregate {
            None => (None, None),
            Some(text) => match text.split_once('/') {
                Some((kind, id)) => (Some(kind.to_owned()), Some(id.to_owned())),
                None => (Some(text.clone()), None),
            },
        };
        Selection {
            aggregate_type,
            aggregate_id,
            event_id: self.event.clone(),
            identity: self.at.clone(),
            code: self.code.clone(),
        }
    }
}

pub(super) async fn run(verb: Verb, config: &ConfigSource, output: Output) -> Answer {
    let settings = config.load()?;
    match verb {
        Verb::List(arguments) => list::list(&arguments, &settings, output).await,
        Verb::Show(arguments) => list::show(&arguments, &settings, output).await,
        Verb::Retry(arguments) => ask::run(&arguments, ask::Wish::Retry, &settings, output).await,
        Verb::Discard(arguments) => {
            ask::run(&arguments, ask::Wish::Discard, &settings, output).await
        }
    }
}

/// The source that is meant, and a session in its database.
async fn open<'a>(
    settings: &'a Settings,
    name: Option<&str>,
) -> Result<(&'a SourceSettings, SqlSession), Failure> {
    let source = pick_source(settings, name)?;
    let session =
        source.address.connect_sql("walpost-parked").await.map_err(Failure::could_not_tell)?;
    Ok((source, session))
}

/// The server's words, or what is missing.
fn failed(error: &tokio_postgres::Error) -> Failure {
    use tokio_postgres::error::SqlState;
    let missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
    if error.code().is_some_and(|code| missing.contains(code)) {
        return Failure::could_not_tell(anyhow::anyhow!(
            "the parking tables are missing: walpost init makes them"
        ));
    }
    let words = error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
    Failure::could_not_tell(anyhow::anyhow!("the parking tables cannot be read: {words}"))
}
