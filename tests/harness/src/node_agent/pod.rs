//! The life of one Pod on the node: init containers in order, then all others, until they end or are told to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::watch;

use super::container::{self, Ground};
use super::images::{Image, Images};
use super::source::Source;
use super::status::{Known, State, pod_status};
use super::volumes;
use crate::process::Process;

/// How often processes are looked at.
const LOOK: Duration = Duration::from_millis(25);

/// The first and the longest pause before a container is started again; a kubelet's are 10 s and 5 min.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// How long to wait before something that a Pod names and that is missing is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What the agent tells a Pod's task.
pub(super) type Grace = watch::Receiver<Option<Duration>>;

/// Everything that a Pod's task needs.
pub(super) struct Life {
    pub(super) client: kube::Client,
    pub(super) images: Images,
    pub(super) pod: Pod,
    pub(super) directory: PathBuf,
    pub(super) api_server_port: u16,
    /// Set once the Pod is to end, to the time that its processes have for it.
    pub(super) grace: Grace,
}

/// How a Pod's containers went.
enum Outcome {
    Succeeded,
    Failed,
    /// It was deleted meanwhile.
    Deleted,
}

struct Progress {
    started: Timestamp,
    init: Vec<Known>,
    main: Vec<Known>,
}

impl Life {
    /// Runs the Pod to its end, and confirms its deletion where that is asked for.
    pub(super) async fn run(mut self) -> Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let spec = self.pod.spec.clone().unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let known = |containers: &[Container]| containers.iter().map(|one| Known::of(one, "PodInitializing")).collect();
        let mut progress = Progress {
            started: Timestamp::now(),
            init: known(&init),
            main: known(&spec.containers),
        };
        let outcome = self.containers(&init, &spec.containers, &mut progress).await?;
        let failed = |known: &Known| !matches!(known.state, State::Terminated { code: 0, .. });
        let phase = match outcome {
            Outcome::Succeeded => "Succeeded",
            Outcome::Deleted if !progress.main.iter().any(failed) => "Succeeded",
            Outcome::Failed | Outcome::Deleted => "Failed",
        };
        self.report(phase, &progress).await?;
        // A finished Pod stays until somebody deletes it.
        if self.grace.wait_for(Option::is_some).await.is_ok() {
            confirm_deletion(&self.client, &self.pod).await?;
        }
        Ok(())
    }

    async fn containers(&mut self, init: &[Container], main: &[Container], progress: &mut Progress) -> Result<Outcome> {
        let mut images = Vec::new();
        for (index, one) in init.iter().chain(main).enumerate() {
            match self.images.find(one.image.as_deref().unwrap_or_default()) {
                Some(image) => images.push(image.clone()),
                None => {
                    let message = format!(
                        "Back-off pulling image \"{}\"",
                        one.image.as_deref().unwrap_or_default()
                    );
                    let known = progress.init.iter_mut().chain(&mut progress.main).nth(index);
                    known.context("a container has no status")?.state = State::Waiting("ImagePullBackOff", message);
                    self.report("Pending", progress).await?;
                    self.deleted().await;
                    return Ok(Outcome::Deleted);
                }
            }
        }
        let (init_images, main_images) = images.split_at(init.len());
        for (index, (one, image)) in init.iter().zip(init_images).enumerate() {
            match self.init_container(index, one, image, progress).await? {
                Outcome::Succeeded => {}
                other => return Ok(other),
            }
        }
        self.main_containers(main, main_images, progress).await
    }

    /// Runs one init container until it succeeds, or fails for good.
    async fn init_container(
        &mut self,
        index: usize,
        container: &Container,
        image: &Image,
        progress: &mut Progress,
    ) -> Result<Outcome> {
        let mut pause = BACK_OFF.0;
        loop {
            let Some(mut process) = self
                .start(container, image, progress, |progress| &mut progress.init[index])
                .await?
            else {
                return Ok(Outcome::Deleted);
            };
            self.report("Pending", progress).await?;
            let code = self.end_of(&mut process).await?;
            let state = ended(code, &progress.init[index]);
            progress.init[index].become_state(state);
            if self.is_deleted() {
                return Ok(Outcome::Deleted);
            }
            match code {
                0 => return Ok(Outcome::Succeeded),
                _ if self.restart_policy() == "Never" => return Ok(Outcome::Failed),
                _ => {}
            }
            self.report("Pending", progress).await?;
            progress.init[index].restarts += 1;
            if self.deleted_within(pause).await {
                return Ok(Outcome::Deleted);
            }
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    /// Runs all containers side by side until each has ended for good.
    async fn main_containers(
        &mut self,
        containers: &[Container],
        images: &[Image],
        progress: &mut Progress,
    ) -> Result<Outcome> {
        let mut running = Vec::new();
        for (index, (one, image)) in containers.iter().zip(images).enumerate() {
            let Some(process) = self
                .start(one, image, progress, |progress| &mut progress.main[index])
                .await?
            else {
                return Ok(Outcome::Deleted);
            };
            running.push(Slot {
                process,
                pause: BACK_OFF.0,
                next: None,
            });
        }
        self.report("Running", progress).await?;
        loop {
            let mut changed = false;
            for (index, slot) in running.iter_mut().enumerate() {
                if slot.next.is_none() && matches!(progress.main[index].state, State::Running(_)) {
                    let Some(status) = slot.process.try_wait() else {
                        continue;
                    };
                    let code = container::exit_code(status);
                    let state = ended(code, &progress.main[index]);
                    progress.main[index].become_state(state);
                    changed = true;
                    let again = match self.restart_policy() {
                        "Never" => false,
                        "OnFailure" => code != 0,
                        _ => true,
                    };
                    if again {
                        slot.next = Some(tokio::time::Instant::now() + slot.pause);
                        slot.pause = (slot.pause * 2).min(BACK_OFF.1);
                    }
                }
                if slot.next.is_some_and(|next| next <= tokio::time::Instant::now()) {
                    progress.main[index].restarts += 1;
                    let (one, image) = (&containers[index], &images[index]);
                    match self
                        .start(one, image, progress, |progress| &mut progress.main[index])
                        .await?
                    {
                        Some(process) => slot.process = process,
                        None => break,
                    }
                    slot.next = None;
                    changed = true;
                }
            }
            if self.is_deleted() {
                self.stop_all(&mut running, progress).await?;
                return Ok(Outcome::Deleted);
            }
            let over = running.iter().all(|slot| slot.next.is_none())
                && progress
                    .main
                    .iter()
                    .all(|known| matches!(known.state, State::Terminated { .. }));
            if over {
                let succeeded = progress
                    .main
                    .iter()
                    .all(|known| matches!(known.state, State::Terminated { code: 0, .. }));
                return Ok(if succeeded { Outcome::Succeeded } else { Outcome::Failed });
            }
            if changed {
                self.report("Running", progress).await?;
            }
            self.deleted_within(LOOK).await;
        }
    }

    /// Starts a container; waits, visibly, for what it names and what is not there yet. `None`: deleted meanwhile.
    async fn start(
        &self,
        container: &Container,
        image: &Image,
        progress: &mut Progress,
        known: impl Fn(&mut Progress) -> &mut Known,
    ) -> Result<Option<Process>> {
        loop {
            match self.try_start(container, image).await {
                Ok(process) => {
                    known(progress).become_state(State::Running(Timestamp::now()));
                    return Ok(Some(process));
                }
                Err(error) => {
                    let state = State::Waiting("CreateContainerConfigError", format!("{error:#}"));
                    known(progress).become_state(state);
                    self.report("Pending", progress).await?;
                }
            }
            if self.deleted_within(LOOK_AGAIN).await {
                return Ok(None);
            }
        }
    }

    async fn try_start(&self, container: &Container, image: &Image) -> Result<Process> {
        let source = || Source {
            client: &self.client,
            pod: &self.pod,
        };
        let folders = volumes::make(&source(), &self.directory.join("volumes")).await?;
        let ground = Ground {
            source: source(),
            directory: &self.directory,
            volumes: &folders,
            api_server_port: self.api_server_port,
        };
        container::start(container, image, &ground).await
    }

    /// Waits for a process's end, and ends it when the Pod is deleted.
    async fn end_of(&self, process: &mut Process) -> Result<i32> {
        loop {
            if let Some(status) = process.try_wait() {
                return Ok(container::exit_code(status));
            }
            if self.deleted_within(LOOK).await && process.is_running() {
                return Ok(container::exit_code(process.stop(self.grace_period()).await?));
            }
        }
    }

    /// SIGTERM to all, then SIGKILL to what is left after the grace period.
    async fn stop_all(&self, running: &mut [Slot], progress: &mut Progress) -> Result<()> {
        for slot in running.iter_mut() {
            // What has ended needs no signal.
            let _ = slot.process.signal(Signal::SIGTERM);
        }
        let deadline = tokio::time::Instant::now() + self.grace_period();
        for (index, slot) in running.iter_mut().enumerate() {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let status = match slot.process.wait(left).await {
                Some(status) => status,
                None => slot.process.kill()?,
            };
            if matches!(progress.main[index].state, State::Running(_)) {
                let state = ended(container::exit_code(status), &progress.main[index]);
                progress.main[index].become_state(state);
            }
        }
        Ok(())
    }

    async fn report(&self, phase: &str, progress: &Progress) -> Result<()> {
        let status = pod_status(phase, progress.started, &progress.init, &progress.main);
        let (pods, name) = pods_of(&self.client, &self.pod);
        let patch = Patch::Merge(json!({ "metadata": { "uid": self.pod.metadata.uid }, "status": status }));
        match pods.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            // Deleted by force, perhaps made anew under its name: nobody waits for this status.
            Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("write the status of Pod {name}")),
        }
    }

    fn restart_policy(&self) -> &str {
        self.pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref())
            .unwrap_or("Always")
    }

    fn is_deleted(&self) -> bool {
        self.grace.borrow().is_some()
    }

    fn grace_period(&self) -> Duration {
        self.grace.borrow().unwrap_or(Duration::from_secs(30))
    }

    async fn deleted(&self) {
        // An agent that is gone ends its Pods too.
        let _ = self.grace.clone().wait_for(Option::is_some).await;
    }

    /// Waits, and says whether the Pod was deleted before the time was over.
    async fn deleted_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.deleted()).await.is_ok()
    }
}

/// A container's place among the running ones.
struct Slot {
    process: Process,
    pause: Duration,
    /// When it is started again; absent while it runs and once it has ended for good.
    next: Option<tokio::time::Instant>,
}

fn ended(code: i32, known: &Known) -> State {
    let finished = Timestamp::now();
    let started = if let State::Running(started) = known.state {
        started
    } else {
        finished
    };
    State::Terminated {
        code,
        started,
        finished,
    }
}

/// Tells the API server that the Pod's processes are gone: only then the object goes.
pub(super) async fn confirm_deletion(client: &kube::Client, pod: &Pod) -> Result<()> {
    let (pods, name) = pods_of(client, pod);
    let preconditions = Preconditions {
        uid: pod.metadata.uid.clone(),
        resource_version: None,
    };
    let parameters = DeleteParams::default().grace_period(0).preconditions(preconditions);
    match pods.delete(&name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("confirm the deletion of Pod {name}")),
    }
}

fn pods_of(client: &kube::Client, pod: &Pod) -> (Api<Pod>, String) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    (
        Api::namespaced(client.clone(), namespace),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}
