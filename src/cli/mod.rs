//! The command line: one file per subcommand.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::runtime::configuration::LogSettings;
use crate::runtime::{NAME, telemetry};

mod crds;
mod uninstall_database;

/// Mirrors the environments and leases of AI agents into Postgres and ends leases when their runs are over
#[derive(Debug, Parser)]
#[command(name = NAME, version, max_term_width = 120)]
struct CommandLine {
    #[command(flatten)]
    log: LogSettings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the SQL that removes the operator from its database; changes nothing by itself
    UninstallDatabase(uninstall_database::Arguments),
    /// Print the CustomResourceDefinitions of both kinds as YAML
    Crds,
}

/// Why a subcommand failed, each a sentence for standard error.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the log cannot be set up: {0}")]
    Log(String),
    #[error("standard output cannot be written: {0}")]
    Output(#[source] io::Error),
}

/// Reads the command line and does what it says; the exit code is 0 for success, 1 for failure, 2 for a bad command line.
pub fn main() -> ExitCode {
    match execute(CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(line: CommandLine) -> Result<(), Error> {
    telemetry::install(&line.log).map_err(Error::Log)?;
    match line.command {
        Command::UninstallDatabase(arguments) => print(&uninstall_database::sql(&arguments)),
        Command::Crds => print(&crds::yaml()),
    }
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Error> {
    match io::Write::write_all(&mut io::stdout(), text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
