//! `walpost help TOPIC`: what belongs to no single verb.

use clap::{Args, CommandFactory};

use super::output::print;
use super::{Answer, Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// exit-codes, environment, output, or the name of a verb.
    topic: Option<String>,
}

const EXIT_CODES: &str = "\
Exit codes, the same for every verb

  0  fine
  1  findings: an incompatible schema, a line that does not fit, a verification that failed
  2  usage or configuration: the command line, walpost.toml or a schema file is wrong
  3  could not tell: a server is away or did not answer, a clone is shallow
  4  walpost run: no source is left running; a person must decide (see the log)

A supervisor should not restart after 2 or 4 (systemd: RestartPreventExitStatus=2 4).
";

const ENVIRONMENT: &str = "\
Configuration and environment

  walpost.toml < environment. The file is --config PATH (or WALPOST_CONFIG), else
  ./walpost.toml, else /etc/walpost/walpost.toml, else that of a running walpost dev.

  WALPOST_KAFKA__BOOTSTRAP_SERVERS    kafka.bootstrap_servers: the path joined with two underscores
  WALPOST_SOURCE__ORDERS__URL         url of the source named \"orders\"
  WALPOST_SOURCE__ORDERS__PASSWORD_FILE, WALPOST_..._FILE
                                      the value is read from this file
  Values are texts as they are: a password of digits stays a password.

  WALPOST_LOG                         log filter, such as info or walpost=debug
  NO_COLOR, CLICOLOR_FORCE, TERM=dumb whether there is colour, for each stream by itself
";

const OUTPUT: &str = "\
Output

  stdout holds the answer and nothing else, stderr everything else. schema check and can-i-deploy
  also write --output junit, github and sarif. --output json prints JSON only,
  one document, or one a line for streams; fields may be added, so ignore unknown ones. Positions
  are texts such as \"0/16B3748\" with their bytes beside them, times RFC 3339 in UTC, durations
  seconds.
";

pub(super) fn run(arguments: &Arguments) -> Answer {
    let mut command = super::Arguments::command();
    match arguments.topic.as_deref() {
        Some("exit-codes") => print(EXIT_CODES)?,
        Some("environment") => print(ENVIRONMENT)?,
        Some("output") => print(OUTPUT)?,
        None => print(&command.render_long_help().to_string())?,
        Some(name) => {
            let verb = command.find_subcommand_mut(name).ok_or_else(|| {
                Failure::usage(anyhow::anyhow!(
                    "there is no help on \"{name}\": try exit-codes, environment, output or a verb"
                ))
            })?;
            print(&verb.render_long_help().to_string())?;
        }
    }
    Ok(Exit::Fine)
}
