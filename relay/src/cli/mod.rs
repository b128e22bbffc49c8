//! The command line: one verb a file. stdout holds the answer and nothing else; everything else
//! goes to stderr. Exit codes: `walpost help exit-codes`.

mod address;
mod can_i_deploy;
mod completions;
mod config;
pub mod dev;
mod emit;
mod health;
mod init;
mod output;
mod parked;
mod run;
mod schema;
mod status;
mod tail;
mod topics;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

pub use address::ConfigSource;
use output::is_broken_pipe;
pub use schema::batch_answer;

/// What a supervisor or a script learns from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, nothing found.
    Fine,
    /// Findings: incompatible, verification failed, a bad line.
    Findings,
    /// Usage or configuration.
    Usage,
    /// A server is away.
    CouldNotTell,
    /// No source is left running.
    NoSourceLeft,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Findings => 1,
            Self::Usage => 2,
            Self::CouldNotTell => 3,
            Self::NoSourceLeft => 4,
        }
    }
}

/// A verb failed: the exit code and what to say.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, error: error.into() }
    }

    fn of(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    fn could_not_tell(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::CouldNotTell, error: error.into() }
    }
}

type Answer = Result<Exit, Failure>;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: stdout is JSON and nothing but JSON.
    Json,
}

/// The form of an answer as it is asked for. Findings about schemas have more forms than others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
enum Form {
    #[default]
    Text,
    Json,
    /// For CI servers that show tests.
    Junit,
    /// Annotations of GitHub Actions.
    Github,
    /// For code scanning.
    Sarif,
}

impl Form {
    /// The form of verbs that have no findings.
    fn plain(self) -> Result<Output, Failure> {
        match self {
            Self::Text => Ok(Output::Text),
            Self::Json => Ok(Output::Json),
            Self::Junit | Self::Github | Self::Sarif => Err(Failure::usage(anyhow::anyhow!(
                "this verb writes --output text or json; junit, github and sarif are for `walpost \
                 schema check` and `walpost can-i-deploy`"
            ))),
        }
    }
}

/// The form of log lines on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

const EXAMPLES: &str = "\
Examples:
  walpost dev --demo                  try it: servers, events and a check, all on this machine
  walpost init --dry-run              show the SQL that prepares the databases of walpost.toml
  walpost run                         relay
  walpost tail events.order --no-follow --from beginning

Exit codes: 0 fine, 1 findings, 2 usage or configuration, 3 could not tell (a server is away),
4 no source is left running. More: walpost help exit-codes | environment | output";

/// Transactional outbox relay: rows committed in PostgreSQL become Avro records in Kafka, in order
/// per aggregate, none lost.
#[derive(Debug, Parser)]
#[command(name = "walpost", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Arguments {
    /// The configuration; without it ./walpost.toml, then /etc/walpost/walpost.toml.
    #[arg(long, global = true, value_name = "PATH", env = "WALPOST_CONFIG")]
    config: Option<PathBuf>,
    /// The form of log lines on stderr.
    #[arg(long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    log_format: LogFormat,
    /// The form of the answer on stdout.
    #[arg(long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    output: Form,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Try it: PostgreSQL, Kafka, a registry and the relay in one process tree.
    Dev(dev::Arguments),
    /// Prepare databases and topics: outbox table, publication, slot.
    Init(init::Arguments),
    /// Relay until told to end.
    Run(run::Arguments),
    /// Show what a running relay is doing.
    Status(status::Arguments),
    /// Show the events of a topic, decoded.
    Tail(tail::Arguments),
    /// Look at events that could not be published, retry them in order, or give them up.
    #[command(subcommand)]
    Parked(parked::Verb),
    /// Compare the outbox with the topics: lost, duplicated, out of order.
    Verify(verify::Arguments),
    /// Write one event as a service would.
    Emit(emit::Arguments),
    /// Ask a running relay whether it is ready; for images without a shell.
    Health(health::Arguments),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(config::Verb),
    /// Work with schemas.
    #[command(subcommand)]
    Schema(schema::Verb),
    /// Say whether a producer or consumer may go out, by its consumers' contracts.
    CanIDeploy(can_i_deploy::Arguments),
    /// Print a completion script.
    Completions(completions::Arguments),
    /// Explain a topic: exit-codes, environment, output; or a verb.
    Help(topics::Arguments),
}

/// Runs the program.
pub fn main() -> ExitCode {
    // librdkafka's threads may still speak TLS when the process ends: without this OpenSSL would be
    // torn down under them at exit, and an end in good order be a crash. The first call decides.
    openssl_sys::init();
    let arguments = Arguments::parse();
    start_log(arguments.log_format, matches!(arguments.verb, Verb::Run(_)));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // Only a second installation fails, and there is none.
    let _ = provider.install_default();
    match dispatch(arguments) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) if is_broken_pipe(&failure.error) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {:#}", failure.error);
            ExitCode::from(failure.exit.code())
        }
    }
}

fn dispatch(arguments: Arguments) -> Answer {
    let config = ConfigSource::new(arguments.config);
    let form = arguments.output;
    // Findings come in more forms than other answers; a verb without them refuses those forms.
    let plain = || form.plain();
    match arguments.verb {
        Verb::Schema(verb) => schema::run(&verb, &config, form),
        Verb::CanIDeploy(arguments) => can_i_deploy::run(&arguments, &config, form),
        Verb::Config(verb) => config::run(&verb, &config, plain()?),
        Verb::Completions(arguments) => plain().and_then(|_| completions::run(&arguments)),
        Verb::Help(arguments) => plain().and_then(|_| topics::run(&arguments)),
        Verb::Dev(arguments) => in_runtime(dev::run(arguments, plain()?)),
        Verb::Init(arguments) => in_runtime(init::run(arguments, &config, plain()?)),
        Verb::Run(arguments) => plain().and_then(|_| in_runtime(run::run(arguments, &config))),
        Verb::Status(arguments) => in_runtime(status::run(arguments, &config, plain()?)),
        Verb::Tail(arguments) => in_runtime(tail::run(arguments, &config, plain()?)),
        Verb::Parked(verb) => in_runtime(parked::run(verb, &config, plain()?)),
        Verb::Verify(arguments) => in_runtime(verify::run(arguments, &config, plain()?)),
        Verb::Emit(arguments) => in_runtime(emit::run(arguments, &config, plain()?)),
        Verb::Health(arguments) => {
            plain().and_then(|_| in_runtime(health::run(arguments, &config)))
        }
    }
}

fn in_runtime(verb: impl Future<Output = Answer>) -> Answer {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::could_not_tell)?;
    let answer = runtime.block_on(verb);
    // A question to a broker that is away may still block a thread; nobody waits for it.
    runtime.shutdown_background();
    answer
}

fn start_log(format: LogFormat, is_daemon: bool) {
    use tracing_subscriber::EnvFilter;
    let default = if is_daemon { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("WALPOST_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output::is_coloured())
        .with_target(false);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only a second subscriber fails, and there is none.
    let _ = started;
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_tree_is_sound_and_every_verb_teaches() {
        Arguments::command().debug_assert();
        for verb in Arguments::command().get_subcommands() {
            assert!(verb.get_about().is_some(), "{} has no description", verb.get_name());
        }
    }
}
