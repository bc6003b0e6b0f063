//! The binary: runs [`environment_operator::cli`] and exits with its exit code.
#![deny(clippy::expect_used, clippy::panic, clippy::unreachable, clippy::unwrap_used)]

use std::process::ExitCode;

fn main() -> ExitCode {
    environment_operator::cli::main()
}
