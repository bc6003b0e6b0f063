//! The life of one Pod on the node: init containers in order, then sidecars and all others, until the others end or are told to.
//!
//! A sidecar (an init container that is always restarted) has to come after all other init containers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::sync::watch;

use super::address::PodAddress;
use super::container::{self, Ground, Started};
use super::images::{Image, Images};
use super::probe::Checks;
use super::source::Source;
use super::status::{Known, State, pod_status};
use super::volumes;

/// How often processes are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(25);

/// The first and the longest pause before a container is started again; a kubelet's are 10 s and 5 min.
pub(super) const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

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
    pub(super) address: PodAddress,
    /// How long the Pod's tokens are used before they are replaced; absent where it has none.
    pub(super) token_age: Option<Duration>,
    /// Set once the Pod is to end, to the time that its processes have for it.
    pub(super) grace: Grace,
}

/// How a Pod's containers went.
pub(super) enum Outcome {
    Succeeded,
    Failed,
    /// It was deleted meanwhile.
    Deleted,
}

/// How far its containers are.
pub(super) struct Progress {
    started: Timestamp,
    init: Vec<Known>,
    /// The Pod's containers, then its sidecars.
    pub(super) main: Vec<Known>,
    /// How many of them are sidecars: they are restarted whatever their end, and the Pod does not wait for it.
    pub(super) sidecars: usize,
}

impl Progress {
    /// The containers for whose end the Pod waits.
    pub(super) fn awaited(&self) -> &[Known] {
        &self.main[..self.main.len() - self.sidecars]
    }
}

impl Life {
    /// Runs the Pod to its end, and confirms its deletion where that is asked for.
    pub(super) async fn run(mut self) -> Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let spec = self.pod.spec.clone().unwrap_or_default();
        let mut init = spec.init_containers.unwrap_or_default();
        let is_sidecar = |one: &Container| one.restart_policy.as_deref() == Some("Always");
        let sidecars = init.split_off(init.iter().position(is_sidecar).unwrap_or(init.len()));
        ensure!(
            sidecars.iter().all(is_sidecar),
            "an init container comes after a sidecar, which is not known here"
        );
        let main = [spec.containers, sidecars.clone()].concat();
        let known = |containers: &[Container]| containers.iter().map(|one| Known::of(one, "PodInitializing")).collect();
        let mut progress = Progress {
            started: Timestamp::now(),
            init: known(&init),
            main: known(&main),
            sidecars: sidecars.len(),
        };
        let outcome = self.containers(&init, &main, &mut progress).await?;
        let failed = |known: &Known| known.state.exit_code() != Some(0);
        let phase = match outcome {
            Outcome::Succeeded => "Succeeded",
            Outcome::Deleted if !progress.awaited().iter().any(failed) => "Succeeded",
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
            let Some(mut started) = self
                .start(container, image, progress, |progress| &mut progress.init[index])
                .await?
            else {
                return Ok(Outcome::Deleted);
            };
            self.report("Pending", progress).await?;
            let status = self.end_of(&mut started).await?;
            let ended = started.ended(status, container, &progress.init[index]);
            let succeeded = ended.exit_code() == Some(0);
            progress.init[index].become_state(ended);
            if self.is_deleted() {
                return Ok(Outcome::Deleted);
            }
            if succeeded {
                return Ok(Outcome::Succeeded);
            }
            if self.restart_policy() == "Never" {
                return Ok(Outcome::Failed);
            }
            self.report("Pending", progress).await?;
            progress.init[index].restarts += 1;
            if self.deleted_within(pause).await {
                return Ok(Outcome::Deleted);
            }
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    /// Starts a container; waits, visibly, for what it names and what is not there yet. `None`: deleted meanwhile.
    pub(super) async fn start(
        &self,
        container: &Container,
        image: &Image,
        progress: &mut Progress,
        known: impl Fn(&mut Progress) -> &mut Known,
    ) -> Result<Option<Started>> {
        loop {
            match self.try_start(container, image).await {
                Ok(started) => {
                    known(progress).become_state(State::Running(Timestamp::now()));
                    return Ok(Some(started));
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

    /// Makes the Pod's volumes, or brings them up to date, their tokens among them.
    pub(super) async fn volumes(&self) -> Result<BTreeMap<String, PathBuf>> {
        volumes::make(&self.source(), &self.directory.join("volumes")).await
    }

    fn source(&self) -> Source<'_> {
        Source {
            client: &self.client,
            pod: &self.pod,
            address: self.address.local(),
        }
    }

    async fn try_start(&self, container: &Container, image: &Image) -> Result<Started> {
        // Probes that are not known here are said before anything runs.
        Checks::of(container, self.address.local())?;
        let folders = self.volumes().await?;
        let ground = Ground {
            source: self.source(),
            directory: &self.directory,
            volumes: &folders,
            api_server_port: self.api_server_port,
        };
        container::start(container, image, &ground).await
    }

    /// Waits for a process's end, and ends it when the Pod is deleted.
    async fn end_of(&self, started: &mut Started) -> Result<ExitStatus> {
        loop {
            if let Some(status) = started.process.try_wait() {
                return Ok(status);
            }
            if self.deleted_within(LOOK).await && started.process.is_running() {
                return started.process.stop(self.grace_period()).await;
            }
        }
    }

    pub(super) async fn report(&self, phase: &str, progress: &Progress) -> Result<()> {
        let status = pod_status(
            phase,
            self.address.shown(),
            progress.started,
            &progress.init,
            &progress.main,
            progress.sidecars,
        );
        let (pods, name) = pods_of(&self.client, &self.pod);
        let patch = Patch::Merge(json!({ "metadata": { "uid": self.pod.metadata.uid }, "status": status }));
        match pods.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            // Deleted by force, perhaps made anew under its name: nobody waits for this status.
            Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("write the status of Pod {name}")),
        }
    }

    pub(super) fn restart_policy(&self) -> &str {
        self.pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref())
            .unwrap_or("Always")
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.grace.borrow().is_some()
    }

    pub(super) fn grace_period(&self) -> Duration {
        self.grace.borrow().unwrap_or(Duration::from_secs(30))
    }

    async fn deleted(&self) {
        // An agent that is gone ends its Pods too.
        let _ = self.grace.clone().wait_for(Option::is_some).await;
    }

    /// Waits, and says whether the Pod was deleted before the time was over.
    pub(super) async fn deleted_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.deleted()).await.is_ok()
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
