//! `cargo x`: the project's own tasks. See `cargo x --help`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use xtask::machine::repository;
use xtask::stack::shared;
use xtask::{check, deny, fetch, mutants, process, run, tidy};

const DEFAULT: [u16; 1] = [fetch::POSTGRES_MAJOR_DEFAULT];

/// The project's own tasks.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo x", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Builds walpost and shows orders on their way from a table to a topic
    Demo {
        /// Passed on to `walpost dev --demo`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Starts real servers, runs all tests, stops what it started
    Test {
        /// The waits of minutes too
        #[arg(long)]
        long: bool,
        /// PostgreSQL majors to start
        #[arg(long, value_delimiter = ',', value_parser = major, default_values_t = DEFAULT)]
        postgres: Vec<u16>,
        /// Passed on to `cargo test --workspace`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// The gate: format, lints, documentation, tidy, unit tests
    Check,
    /// Sizes, banned words, arrows, licences, documents (a part of check)
    Tidy,
    /// Known vulnerabilities and licences, by cargo-deny; needs a network
    Deny {
        /// Checks of cargo-deny, such as `licenses`; all of them without
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Real servers on 127.0.0.1 that stay up between commands
    Stack {
        #[command(subcommand)]
        verb: Stack,
    },
    /// Benchmarks
    Bench {
        /// `load`: the relay, end to end; `inbox`: the consumer library; both on real servers
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// The fuzz tests for minutes instead of seconds
    Fuzz {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// The pipeline in a simulated world that fails at every step
    Sim {
        /// How many lives
        #[arg(long, default_value_t = 10_000)]
        seeds: u64,
        /// The first of them
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// One life, told step by step: seed,steps,faults as a failure prints them
        #[arg(long, conflicts_with_all = ["seeds", "first"])]
        plan: Option<String>,
    },
    /// Breaks each invariant's code in turn: the simulation or a unit test must notice
    Mutants,
    /// Faults on real servers under load, each ended by two judges; prints a table
    Chaos {
        /// Only cases whose names contain this
        #[arg(default_value = "")]
        case: String,
    },
}

#[derive(Debug, Subcommand)]
enum Stack {
    /// Starts what does not run yet
    Up {
        /// PostgreSQL majors
        #[arg(long, value_delimiter = ',', value_parser = major, default_values_t = DEFAULT)]
        postgres: Vec<u16>,
    },
    /// Prints `export NAME=value` lines for the tests
    Env,
    /// Lists the servers
    Status,
    /// Ends the servers and removes their data
    Down,
}

fn major(text: &str) -> Result<u16, String> {
    let known = fetch::POSTGRES_MAJORS;
    let major = text.parse().ok().filter(|major| known.contains(major));
    major.ok_or_else(|| format!("not one of {known:?}"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(arguments.task) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is there to read a failed write to stderr.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    process::catch_interrupts()?;
    let root = repository()?;
    match task {
        Task::Demo { rest } => run::demo(&root, &rest),
        Task::Test { long, postgres, rest } => {
            let extent = if long { run::Extent::Long } else { run::Extent::Short };
            run::test(&root, extent, &postgres, &rest)
        }
        Task::Check => check::check(&root),
        Task::Tidy => tidy::report(&root),
        Task::Deny { rest } => deny::deny(&root, &rest),
        Task::Stack { verb } => stack(&root, &verb),
        Task::Bench { name, rest } => run::bench(&root, &name, &rest),
        Task::Fuzz { rest } => run::fuzz(&root, &rest),
        Task::Sim { seeds, first, plan } => run::sim(&root, seeds, first, plan.as_deref()),
        Task::Mutants => mutants::mutants(&root),
        Task::Chaos { case } => run::chaos(&root, &case),
    }
}

fn stack(root: &std::path::Path, verb: &Stack) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match verb {
        Stack::Up { postgres } => shared::up(root, postgres).map(drop)?,
        Stack::Down => shared::down(root)?,
        Stack::Env => {
            for (name, value) in shared::variables(root)? {
                writeln!(out, "export {name}={}", run::quoted(&value))?;
            }
        }
        Stack::Status => {
            let lines = shared::status(root)?;
            if lines.is_empty() {
                writeln!(out, "nothing runs")?;
            }
            for line in lines {
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
