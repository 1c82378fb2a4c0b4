//! The command line: one file per verb. Called by `main` with the I/O runtime; every verb ends in an exit code.
//!
//! 0 done, 1 failed, 2 typed wrongly, 78 bad configuration, 130 interrupted. Answers for people and `--json` go to stdout, everything else
//! to stderr. No verb prints a secret, except the one that makes it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Handle;

use crate::config::ConfigError;
use crate::telemetry::ErrorChain;

mod bodies;
mod caller;
mod check;
mod client;
mod completions;
mod dev;
mod evict;
mod healthcheck;
mod inspect;
mod journal;
mod keys;
mod migrate;
mod output;
mod replay;
mod serve;
#[cfg(feature = "rule-switches")]
pub mod switches;

/// Which organizations does this Clerk user belong to: answered from memory, right within a second.
#[derive(Parser)]
#[command(name = "rollcall", version = VERSION, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[cfg(not(feature = "rule-switches"))]
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ROLLCALL_COMMIT"), ")");
#[cfg(feature = "rule-switches")]
const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("ROLLCALL_COMMIT"), ", for tests: its rules can be switched off)");

#[derive(Subcommand)]
enum Verb {
    /// Answers reads and takes webhooks, until told to stop
    Serve(serve::Args),
    /// Runs the service beside a stand-in for Clerk, to try it without an account
    Dev(dev::Args),
    /// Signs webhook bodies from files and sends them; or applies what the journal holds once more
    Replay(replay::Args),
    /// Looks at the journal: what was received, and what became of it
    #[command(subcommand)]
    Journal(journal::Verb),
    /// Looks whether a service could start here, and says what to do where not
    Check(check::Args),
    /// Brings the journal's database to the form of this release
    Migrate(migrate::Args),
    /// Makes service keys
    #[command(subcommand)]
    Keys(keys::Verb),
    /// Shows what every tier and Clerk say of a user, side by side
    Inspect(inspect::Args),
    /// Forgets what is remembered of users, on every node
    Evict(evict::Args),
    /// Asks the running service whether it lives, for containers
    Healthcheck(healthcheck::Args),
    /// Prints completions for a shell
    Completions(completions::Args),
}

/// What was typed cannot be meant: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// The BSD exit code for a configuration error (`EX_CONFIG`): a supervisor can tell it from a crash.
const BAD_CONFIGURATION: u8 = 78;

impl Cli {
    /// Runs the verb. What goes wrong is printed here, once.
    pub fn run(self, io: &Handle) -> ExitCode {
        #[cfg(feature = "rule-switches")]
        if let Err(error) = switches::take_out_as_told() {
            return fail(&error);
        }
        let outcome = match self.verb {
            Verb::Serve(args) => serve::run(args, io),
            Verb::Dev(args) => dev::run(args, io),
            Verb::Replay(args) => replay::run(args, io),
            Verb::Journal(verb) => journal::run(verb, io),
            Verb::Check(args) => check::run(args, io),
            Verb::Migrate(args) => migrate::run(args, io),
            Verb::Keys(verb) => keys::run(verb),
            Verb::Inspect(args) => inspect::run(args, io),
            Verb::Evict(args) => evict::run(args, io),
            Verb::Healthcheck(args) => healthcheck::run(args, io),
            Verb::Completions(args) => completions::run(args),
        };
        outcome.unwrap_or_else(|error| fail(&error))
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        eprintln!("error: {error}");
        return ExitCode::from(BAD_CONFIGURATION);
    }
    if error.chain().any(is_broken_pipe) {
        return ExitCode::FAILURE;
    }
    eprintln!("error: {}", ErrorChain(error.as_ref()));
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// Whoever read our output has gone: nobody is left to be told.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_tells_its_exit_codes() {
        fn check(verb: &clap::Command) {
            let help = verb.clone().render_long_help().to_string();
            assert!(verb.has_subcommands() || help.contains("Exit codes:"), "{}: {help}", verb.get_name());
            verb.get_subcommands().for_each(check);
        }
        Cli::command().get_subcommands().for_each(check);
    }
}
