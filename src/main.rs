//! The binary: hands the command line to [`environment_operator::cli`] and its outcome to the shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    environment_operator::cli::main()
}
