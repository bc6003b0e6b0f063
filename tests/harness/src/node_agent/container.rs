//! One container as a process: its file system, its program, its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::jiff::Timestamp;

use super::images::{FOLDER, Image};
use super::source::{NODE_ADDRESS, Source};
use super::status::{Known, State};
use super::{environment, user, volumes};
use crate::process::Process;

/// Where the programs of an image without its own are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many bytes of a log become a message.
const MESSAGE: usize = 2048;

/// What all containers of one Pod share.
pub(super) struct Ground<'a> {
    pub(super) source: Source<'a>,
    pub(super) directory: &'a Path,
    pub(super) volumes: &'a BTreeMap<String, PathBuf>,
    pub(super) api_server_port: u16,
}

/// A container's process.
pub(super) struct Started {
    pub(super) process: Process,
    /// Where in its log this run of it begins.
    begin: u64,
}

impl Started {
    /// What it has become with its end.
    pub(super) fn ended(&self, status: ExitStatus, container: &Container, known: &Known) -> State {
        let (code, finished) = (exit_code(status), Timestamp::now());
        let started = if let State::Running(started) = known.state {
            started
        } else {
            finished
        };
        let asks = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        let message = (asks && code != 0).then(|| self.last_words());
        State::Terminated {
            code,
            started,
            finished,
            message,
        }
    }

    /// The end of what it has printed, at most as much as a kubelet takes of it.
    fn last_words(&self) -> String {
        let printed = std::fs::read(self.process.log()).unwrap_or_default();
        let own = printed
            .get(usize::try_from(self.begin).unwrap_or_default()..)
            .unwrap_or_default();
        String::from_utf8_lossy(&own[own.len().saturating_sub(MESSAGE)..]).into_owned()
    }
}

/// Starts the container's process. An error is the Pod's fault or of what it names (CreateContainerConfigError).
pub(super) async fn start(container: &Container, image: &Image, ground: &Ground<'_>) -> Result<Started> {
    let variables = environment::of(container, &ground.source, base(image, ground)).await?;
    let mut mounts = volumes::mounts(container, ground.volumes)?;
    // Each by itself: the folders above it may be closed to the container's user.
    for program in &image.programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        mounts.push((program.clone(), format!("{FOLDER}/{name}")));
    }
    let pod = ground.source.pod.spec.clone().unwrap_or_default();
    let security = container.security_context.clone().unwrap_or_default();
    let access = if security.read_only_root_filesystem == Some(true) {
        "ro"
    } else {
        "rw"
    };
    let root = ground.directory.join(format!("{}.root", container.name));
    std::fs::create_dir_all(&root).with_context(|| format!("make {}", root.display()))?;
    let mut command = Process::command("/usr/bin/unshare");
    command.args(["--mount", "--propagation=private"]);
    if !nix::unistd::Uid::effective().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["/bin/sh", "-c", include_str!("container.sh"), "container"])
        .arg(&root)
        .arg(access)
        .arg(container.working_dir.as_deref().unwrap_or("/"))
        .arg(mounts.len().to_string());
    for (source, path) in mounts {
        command.arg(source).arg(path);
    }
    command.args(user::prefix(container, &pod)?);
    for word in words(container, image) {
        command.arg(environment::expand(&word, &variables));
    }
    command.env_clear().envs(&variables);
    let log = ground.directory.join(format!("{}.log", container.name));
    let begin = std::fs::metadata(&log).map_or(0, |log| log.len());
    Ok(Started {
        process: Process::start(&container.name, command, &log)?,
        begin,
    })
}

/// The exit code as a kubelet reports it: 128 and the signal's number for a killed one.
fn exit_code(status: ExitStatus) -> i32 {
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
    let name = ground.source.pod.metadata.name.clone().unwrap_or_default();
    let port = ground.api_server_port.to_string();
    let pairs = [
        ("PATH", format!("{FOLDER}:{PATH}")),
        ("HOME", "/tmp".to_owned()),
        ("HOSTNAME", name),
        ("KUBERNETES_SERVICE_HOST", NODE_ADDRESS.to_owned()),
        ("KUBERNETES_SERVICE_PORT", port.clone()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", port),
    ];
    let mut variables: BTreeMap<String, String> = pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let address = BTreeMap::from([("POD_IP".to_owned(), ground.source.address.to_string())]);
    for (name, value) in &image.environment {
        variables.insert(name.clone(), environment::expand(value, &address));
    }
    variables
}
