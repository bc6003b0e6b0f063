//! Helm without a cluster: it renders and lints charts. With one, see [`crate::control_plane::ControlPlane::helm`].

use std::process::Stdio;

use anyhow::Result;
use tokio::process::Command;

use crate::control_plane::binaries;

/// Calls helm with these arguments; nothing of the caller's settings counts. `Err` inside is what it says on standard error.
///
/// # Errors
/// When the control plane's programs cannot be built or started.
pub async fn offline(arguments: &[&str]) -> Result<Result<String, String>> {
    let mut command = Command::new(binaries::find("helm").await?);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent");
    run(command.args(arguments)).await
}

/// Runs a command to its end and hands back its standard output. `Err` inside is what it says on standard error.
///
/// # Errors
/// When it cannot be started or what it says is no text.
pub async fn run(command: &mut Command) -> Result<Result<String, String>> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    Ok(if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        Err(String::from_utf8(output.stderr)?)
    })
}
