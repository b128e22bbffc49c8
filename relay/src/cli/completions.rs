//! `walpost completions SHELL`: made from the same tree as parser and help.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::output::print;
use super::{Answer, Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// bash, zsh, fish, elvish or powershell.
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let mut script = Vec::new();
    let mut command = super::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "walpost", &mut script);
    print(&String::from_utf8(script).map_err(Failure::could_not_tell)?)?;
    Ok(Exit::Fine)
}
