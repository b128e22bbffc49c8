//! `walpost parked retry` and `discard`: what is selected is shown and counted, a person agrees, a
//! request is written, and the relay's answer is waited for.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::preview::{Preview, preview};
use super::{Which, failed, open};
use crate::cli::output::{print, print_json};
use crate::cli::{Answer, Exit, Failure, Output};
use crate::park::Store;
use crate::settings::Settings;

/// How often the answer is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Which events, and what to do without asking.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  walpost parked retry --aggregate order/42
  walpost parked retry --code schema_not_registered --yes
  walpost parked discard --at 1/0/16B3748:3 --reason 'test order, agreed with sales' --yes

Without a selection nothing is done; --all takes everything. Exit 3 when no relay has answered
within --wait: the request stays, and is carried out when one runs.")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Everything that is parked.
    #[arg(long, conflicts_with_all = ["aggregate", "event", "at", "code"])]
    all: bool,
    /// Why, for those who look later. discard demands it.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do nothing; say what is selected, and of a retry how much of it would be published by the
    /// schemas and topics of this moment. What only a broker can refuse is not foreseen.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Wait so many seconds for the relay's answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
}

/// What is wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Retry,
    Discard,
}

impl Wish {
    fn verb(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Discard => "discard",
        }
    }
}

pub(super) async fn run(
    arguments: &Arguments,
    wish: Wish,
    settings: &Settings,
    output: Output,
) -> Answer {
    let selection = arguments.which.selection();
    if selection.is_everything() && !arguments.all {
        let hint = "select events with --aggregate, --event, --at or --code, or take --all";
        return Err(Failure::usage(anyhow::anyhow!("nothing is selected: {hint}")));
    }
    if wish == Wish::Discard && arguments.reason.as_deref().is_none_or(str::is_empty) {
        let hint = "discard needs --reason: what is given up is never published";
        return Err(Failure::usage(anyhow::anyhow!(hint)));
    }
    let (source, session) = open(settings, arguments.which.source.as_deref()).await?;
    let store = Store { client: &session, source: &source.name };
    let count = store.count(&selection).await.map_err(|error| failed(&error))?;
    if arguments.dry_run && wish == Wish::Retry && count > 0 {
        let found = preview(settings, source, &store, &selection).await?;
        say_preview(output, count, &found)?;
        return Ok(Exit::Fine);
    }
    if count == 0 || arguments.dry_run {
        say(output, wish, count, None)?;
        return Ok(Exit::Fine);
    }
    if !arguments.yes && !agrees(wish, count)? {
        return Err(Failure::usage(anyhow::anyhow!("nothing was done: --yes does not ask")));
    }
    let reason = arguments.reason.as_deref();
    let request = store.request(wish.verb(), &selection, reason);
    let request = request.await.map_err(|error| failed(&error))?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(arguments.wait);
    loop {
        let answer = store.answer_to(request).await.map_err(|error| failed(&error))?;
        if let Some(answer) = answer {
            say(output, wish, count, Some(&answer))?;
            return Ok(Exit::Fine);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Failure::could_not_tell(anyhow::anyhow!(
                "no relay has answered request {} yet: it stays and is carried out when walpost \
                 run has the source \"{}\"",
                request.0,
                source.name
            )));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn say(output: Output, wish: Wish, count: i64, answer: Option<&str>) -> Result<(), Failure> {
    let verb = wish.verb();
    match (output, answer) {
        (Output::Json, _) => {
            print_json(&json!({"verb": verb, "selected": count, "answer": answer}))
        }
        (Output::Text, None) => print(&format!("{count} events selected, nothing was done\n")),
        (Output::Text, Some(answer)) => print(&format!("{count} events selected: {answer}\n")),
    }
}

fn say_preview(output: Output, count: i64, found: &Preview) -> Result<(), Failure> {
    let Preview { passes, stays } = found;
    if output == Output::Json {
        let (verb, would_stay) = (Wish::Retry.verb(), stays);
        return print_json(&json!({
            "verb": verb, "selected": count, "would_pass": passes, "would_stay": would_stay,
            "answer": null,
        }));
    }
    let taken = passes + stays.values().sum::<u64>();
    let mut text = format!(
        "{count} events selected, {taken} in their aggregates: {passes} would be published\n"
    );
    for (code, events) in stays {
        text += &format!("  {events} would stay: {code}\n");
    }
    print(&(text + "nothing was done\n"))
}

/// Asks a person; where nobody can answer, the answer is no.
fn agrees(wish: Wish, count: i64) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut err = std::io::stderr().lock();
    write!(err, "{} {count} events? [y/N] ", wish.verb())
        .and_then(|()| err.flush())
        .map_err(Failure::could_not_tell)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(Failure::could_not_tell)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
