//! One container as a process: its file system, its program, its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Container;

use super::images::Image;
use super::source::{ADDRESS, Source};
use super::{environment, volumes};
use crate::process::Process;

/// Where the programs of an image without its own are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What all containers of one Pod share.
pub(super) struct Ground<'a> {
    pub(super) source: Source<'a>,
    pub(super) directory: &'a Path,
    pub(super) volumes: &'a BTreeMap<String, PathBuf>,
    pub(super) api_server_port: u16,
}

/// Starts the container's process. An error is the Pod's fault or of what it names (CreateContainerConfigError).
pub(super) async fn start(container: &Container, image: &Image, ground: &Ground<'_>) -> Result<Process> {
    let variables = environment::of(container, &ground.source, base(image, ground)).await?;
    let mut mounts = volumes::mounts(container, ground.volumes)?;
    // The programs may lie where the container has a folder of its own, in /tmp for example.
    for folder in &image.programs {
        mounts.push((folder.clone(), folder.display().to_string()));
    }
    let root = ground.directory.join(format!("{}.root", container.name));
    std::fs::create_dir_all(&root).with_context(|| format!("make {}", root.display()))?;
    let mut command = Process::command("/usr/bin/unshare");
    command.args(["--mount", "--propagation=private"]);
    if !nix::unistd::Uid::effective().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["/bin/sh", "-c", include_str!("container.sh"), "container"])
        .arg(&root);
    command
        .arg(container.working_dir.as_deref().unwrap_or("/"))
        .arg(mounts.len().to_string());
    for (source, path) in mounts {
        command.arg(source).arg(path);
    }
    for word in words(container, image) {
        command.arg(environment::expand(&word, &variables));
    }
    command.env_clear().envs(&variables);
    Process::start(&container.name, command, &log(ground.directory, &container.name))
}

/// The file that a container's output goes to.
pub(super) fn log(directory: &Path, container: &str) -> PathBuf {
    directory.join(format!("{container}.log"))
}

/// The exit code as a kubelet reports it: 128 and the signal's number for a killed one.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// What runs: the container's command and arguments, or the image's where it names none.
fn words(container: &Container, image: &Image) -> Vec<String> {
    match (&container.command, &container.args) {
        (Some(command), arguments) => command.iter().chain(arguments.iter().flatten()).cloned().collect(),
        (None, Some(arguments)) => image.entrypoint.iter().chain(arguments).cloned().collect(),
        (None, None) => image.entrypoint.iter().chain(&image.arguments).cloned().collect(),
    }
}

fn base(image: &Image, ground: &Ground<'_>) -> BTreeMap<String, String> {
    let programs = image.programs.iter().map(|folder| folder.display().to_string());
    let path: Vec<String> = programs.chain([PATH.to_owned()]).collect();
    let name = ground.source.pod.metadata.name.clone().unwrap_or_default();
    let port = ground.api_server_port.to_string();
    let pairs = [
        ("PATH", path.join(":")),
        ("HOME", "/tmp".to_owned()),
        ("HOSTNAME", name),
        ("KUBERNETES_SERVICE_HOST", ADDRESS.to_owned()),
        ("KUBERNETES_SERVICE_PORT", port.clone()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", port),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
