//! The containers of a Pod side by side, after its init containers: started, probed, started again, ended.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Container;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::container::Started;
use super::images::Image;
use super::pod::{BACK_OFF, LOOK, Life, Outcome, Progress};
use super::probe::{Checks, Probing};
use super::status::State;

/// A container's place among the running ones.
struct Slot<'a> {
    container: &'a Container,
    image: &'a Image,
    started: Started,
    probing: Probing,
    pause: Duration,
    /// When it is started again; absent while it runs and once it has ended for good.
    next: Option<Instant>,
}

impl Life {
    /// Runs all containers until each has ended for good.
    pub(super) async fn main_containers(
        &self,
        containers: &[Container],
        images: &[Image],
        progress: &mut Progress,
    ) -> Result<Outcome> {
        let mut slots = Vec::new();
        // From the end: sidecars are started before the containers that they serve.
        for (index, (container, image)) in containers.iter().zip(images).enumerate().rev() {
            let Some((started, probing)) = self.start_probed(index, container, image, progress).await? else {
                return Ok(Outcome::Deleted);
            };
            slots.push(Slot {
                container,
                image,
                started,
                probing,
                pause: BACK_OFF.0,
                next: None,
            });
        }
        slots.reverse();
        self.report("Running", progress).await?;
        let mut renewed = Instant::now();
        loop {
            let mut changed = false;
            if self.token_age.is_some_and(|age| renewed.elapsed() >= age) {
                // An API server that is away is asked again after as long, well before the old token's end.
                if let Err(error) = self.volumes().await {
                    eprintln!("node agent: the tokens of a Pod could not be renewed: {error:#}");
                }
                renewed = Instant::now();
            }
            for (index, slot) in slots.iter_mut().enumerate() {
                changed |= self.look(index, slot, progress).await?;
            }
            if self.is_deleted() {
                self.stop_all(&mut slots, 0, progress).await?;
                return Ok(Outcome::Deleted);
            }
            let ends: Vec<Option<i32>> = progress.awaited().iter().map(|known| known.state.exit_code()).collect();
            if slots[..ends.len()].iter().all(|slot| slot.next.is_none()) && ends.iter().all(Option::is_some) {
                self.stop_all(&mut slots[ends.len()..], ends.len(), progress).await?;
                let succeeded = ends.iter().all(|code| *code == Some(0));
                return Ok(if succeeded { Outcome::Succeeded } else { Outcome::Failed });
            }
            if changed {
                self.report("Running", progress).await?;
            }
            self.deleted_within(LOOK).await;
        }
    }

    /// Looks at one container, and starts it again where its time has come. Whether there is news of it.
    async fn look(&self, index: usize, slot: &mut Slot<'_>, progress: &mut Progress) -> Result<bool> {
        if let Some(next) = slot.next {
            if next > Instant::now() {
                return Ok(false);
            }
            progress.main[index].restarts += 1;
            let again = self.start_probed(index, slot.container, slot.image, progress).await?;
            // Deleted meanwhile: the caller sees that too.
            let Some((started, probing)) = again else {
                return Ok(false);
            };
            (slot.started, slot.probing, slot.next) = (started, probing, None);
            return Ok(true);
        }
        if !matches!(progress.main[index].state, State::Running(_)) {
            return Ok(false);
        }
        let health = slot.probing.health();
        if health.failed && slot.started.process.is_running() {
            let seconds = self
                .pod
                .spec
                .as_ref()
                .and_then(|spec| spec.termination_grace_period_seconds);
            let grace = Duration::from_secs(seconds.and_then(|seconds| seconds.try_into().ok()).unwrap_or(30));
            slot.started.process.stop(grace).await?;
        }
        let Some(status) = slot.started.process.try_wait() else {
            let before = std::mem::replace(&mut progress.main[index].health, health);
            return Ok(before != health);
        };
        let ended = slot.started.ended(status, slot.container, &progress.main[index]);
        let code = ended.exit_code();
        progress.main[index].become_state(ended);
        let again = match self.restart_policy() {
            _ if index >= progress.awaited().len() => true,
            "Never" => false,
            "OnFailure" => code != Some(0),
            _ => true,
        };
        if again {
            let message = format!("back-off {:?} restarting failed container", slot.pause);
            progress.main[index].become_state(State::Waiting("CrashLoopBackOff", message));
            slot.next = Some(Instant::now() + slot.pause);
            slot.pause = (slot.pause * 2).min(BACK_OFF.1);
        }
        Ok(true)
    }

    /// Starts a container and its probes. `None`: deleted meanwhile.
    async fn start_probed(
        &self,
        index: usize,
        container: &Container,
        image: &Image,
        progress: &mut Progress,
    ) -> Result<Option<(Started, Probing)>> {
        let Some(started) = self
            .start(container, image, progress, |progress| &mut progress.main[index])
            .await?
        else {
            return Ok(None);
        };
        // Such as it could not be started with.
        let probing = Probing::start(Checks::of(container, self.address.local())?);
        progress.main[index].health = probing.health();
        Ok(Some((started, probing)))
    }

    /// SIGTERM to all, then SIGKILL to what is left after the grace period. `first` is the place of the first slot among all.
    async fn stop_all(&self, slots: &mut [Slot<'_>], first: usize, progress: &mut Progress) -> Result<()> {
        for slot in slots.iter_mut() {
            // What has ended needs no signal.
            let _ = slot.started.process.signal(Signal::SIGTERM);
        }
        let deadline = Instant::now() + self.grace_period();
        for (index, slot) in (first..).zip(slots.iter_mut()) {
            let left = deadline.saturating_duration_since(Instant::now());
            let status = match slot.started.process.wait(left).await {
                Some(status) => status,
                None => slot.started.process.kill()?,
            };
            if matches!(progress.main[index].state, State::Running(_)) {
                let ended = slot.started.ended(status, slot.container, &progress.main[index]);
                progress.main[index].become_state(ended);
            }
        }
        Ok(())
    }
}
