//! The binary: hands the command line to [`environment_operator::cli`] and its outcome to the shell.
#![deny(clippy::expect_used, clippy::panic, clippy::unreachable, clippy::unwrap_used)]

use std::process::ExitCode;

fn main() -> ExitCode {
    environment_operator::cli::main()
}
