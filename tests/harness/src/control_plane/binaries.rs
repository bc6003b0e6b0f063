//! Where the programs of the control plane are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::OnceCell;

/// The script that builds them once, and prints their folder.
const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/control-plane.sh");

static BUILT: OnceCell<PathBuf> = OnceCell::const_new();

/// The path of `etcd`, `kube-apiserver`, `kube-controller-manager`, `kubectl` or `helm`: from `KUBEBUILDER_ASSETS`, where
/// that is set and holds the name, else from the project's own build, which is made now if it is missing.
///
/// # Errors
/// When the build fails; its own words stand on standard error.
pub async fn find(name: &str) -> Result<PathBuf> {
    if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") {
        let path = Path::new(&assets).join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let path = BUILT.get_or_try_init(build).await?.join(name);
    ensure!(
        path.is_file(),
        "the built control plane has no {name}: {} is missing",
        path.display()
    );
    Ok(path)
}

async fn build() -> Result<PathBuf> {
    let output = tokio::task::spawn_blocking(|| Command::new(BUILD).stderr(Stdio::inherit()).output())
        .await
        .context("wait for the build of the control plane")?
        .with_context(|| format!("run {BUILD}"))?;
    if !output.status.success() {
        bail!("the control plane could not be built: {}", output.status);
    }
    let folder = String::from_utf8(output.stdout).context("read the folder of the control plane")?;
    Ok(PathBuf::from(folder.trim_end()))
}
