//! `walpost can-i-deploy`: consumer contracts against what is written, computed by resolving
//! schemas. No consumer needs to have run a test.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::schema::deploy;
use super::{Answer, ConfigSource, Form};

const EXAMPLES: &str = "\
Examples:
  walpost can-i-deploy --as producer --contracts contracts
                              may the schemas of this checkout be written, for every consumer?
  walpost can-i-deploy --as consumer --contract walpost-consumer.toml
                              does this consumer read everything the registry has of its subjects?
  walpost can-i-deploy --as consumer --contract walpost-consumer.toml --dir ../producer/schemas
                              the same against schema files, without network

Exit codes: 0 yes, 1 no, 2 a contract or schema cannot be used, 3 could not tell.";

/// Says whether a producer or a consumer may go out, and if not, which consumer breaks, in which
/// version and on which field.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Who wants to go out.
    #[arg(long = "as", value_enum, value_name = "ROLE")]
    role: Role,
    /// The folder of all consumers' contracts, for producers.
    #[arg(long, value_name = "PATH", default_value = "contracts")]
    contracts: PathBuf,
    /// The consumer's own contract, for consumers.
    #[arg(long, value_name = "FILE", default_value = "walpost-consumer.toml")]
    contract: PathBuf,
    /// The folder of the writers' schema files. Producers: instead of [schemas].dir. Consumers:
    /// instead of the registry.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// The schemas of this checkout will be written.
    Producer,
    /// The schemas of the contract will read.
    Consumer,
}

pub(super) fn run(arguments: &Arguments, config: &ConfigSource, form: Form) -> Answer {
    let dir = arguments.dir.as_deref();
    match arguments.role {
        Role::Producer => deploy::producer(&arguments.contracts, dir, config, form),
        Role::Consumer => deploy::consumer(&arguments.contract, dir, config, form),
    }
}
