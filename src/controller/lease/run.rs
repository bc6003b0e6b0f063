//! What is known of a lease's run: by its row, or by its object.

use jiff::Timestamp;
use uuid::Uuid;

use super::LeaseReconciler;
use crate::api::{ObjectRef, Reason};
use crate::cache::{KnownRun, RunKey, RunKindState};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::lifecycle::RunEnd;
use crate::lifecycle::lease::{Obstacle, Run};
use crate::projection::facts::quoted;
use crate::projection::observed::ObservedLease;
use crate::runtime::configuration::RunKind;
use crate::store::lease_object::{LeaseSnapshot, RunLook};

/// What a run turned out to be.
pub(super) struct SeenRun {
    pub run: Run,
    /// The uid of its object, as far as it is known.
    pub pinned: Option<Uuid>,
    /// When it ended, as far as it tells.
    pub ended_at: Option<Timestamp>,
    /// Why a claim can't be granted for it.
    pub obstacle: Option<Obstacle>,
}

fn seen(run: Run) -> SeenRun {
    SeenRun {
        run,
        pinned: None,
        ended_at: None,
        obstacle: None,
    }
}

fn over(end: RunEnd) -> SeenRun {
    SeenRun {
        ended_at: end.at,
        ..seen(Run::Over(end.outcome))
    }
}

/// Of a run that can't be looked at nothing is known: what is held goes on, and a claim has an obstacle.
fn unseen(obstacle: Option<Obstacle>) -> SeenRun {
    SeenRun {
        obstacle,
        ..seen(Run::Unknown)
    }
}

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    pub(super) async fn run(
        &self,
        observed: &ObservedLease,
        view: &LeaseSnapshot,
        object: Option<&ObjectRef>,
    ) -> SeenRun {
        let Some(object) = object else {
            return by_row(observed, view);
        };
        let namespace = observed.object.as_ref().map(|lease| lease.meta.namespace.as_str());
        let namespace = namespace
            .or(view.object.as_ref().map(|row| row.namespace.as_str()))
            .unwrap_or_default();
        let key = RunKey::of(namespace, object);
        let Some(kind) = self.context.settings.run_kind(&key) else {
            return unseen(Some(not_watched(object)));
        };
        let Ok(pinned) = object.uid.as_deref().map(Uuid::parse_str).transpose() else {
            let uid = quoted(object.uid.as_deref().unwrap_or_default());
            let message = format!("spec.run.objectRef.uid {uid} is no uuid: copy it from the object's metadata.uid");
            return unseen(Some(Obstacle::Refuses(Reason::InvalidSpec, message)));
        };
        let (known, state, over_since) = {
            let cache = self.context.cache();
            let over_since = cache.run_over_since(&key, pinned);
            (cache.run(&key, pinned), cache.run_kind(&key), over_since)
        };
        let pinned_anew = match known {
            KnownRun::Present { uid, .. } => Some(uid),
            KnownRun::Vanished(_) | KnownRun::Unknown => pinned,
        };
        let seen = match (known, state) {
            (KnownRun::Present { end: Some(end), .. } | KnownRun::Vanished(Some(end)), _) => over(end),
            (KnownRun::Vanished(None), _) => seen(Run::Gone),
            (_, None) => unseen(None), // not listed yet: at the start, for a moment
            (KnownRun::Present { end: None, .. }, Some(RunKindState::Listed)) => seen(Run::Live),
            (KnownRun::Unknown, Some(RunKindState::Listed)) => match pinned {
                Some(uid) => self.run_by_live_read(kind, &key, uid).await,
                None => seen(Run::NotFound),
            },
            (_, Some(state)) => unseen(obstacle_of_kind(state, kind, object)),
        };
        // One that does not tell when it ended, or is gone, ended when that was seen.
        let seen_at = over_since.and_then(|since| view.now.checked_sub(since.elapsed()).ok());
        SeenRun {
            pinned: pinned_anew,
            ended_at: seen.ended_at.or(seen_at),
            ..seen
        }
    }

    /// Absence in the cache proves nothing: a read does, by a 404 that names the object or by another uid.
    async fn run_by_live_read(&self, kind: &RunKind, key: &RunKey, uid: Uuid) -> SeenRun {
        match self.cluster.read_run(&kind.version, key).await {
            Ok(Some(run)) if run.meta.uid == uid => run.end.map_or_else(|| seen(Run::Live), over),
            Ok(_) => seen(Run::Gone),
            Err(error) => {
                tracing::warn!(kind = key.kind, namespace = key.namespace, name = key.name, %error, "run can't be read");
                let (kind, name) = (key.kind.to_lowercase(), &key.name);
                let message = format!("{kind}/{name} can't be read: {}", error.sentence());
                unseen(Some(Obstacle::Waits(Reason::RunNotFound, message)))
            }
        }
    }
}

/// What the row of a run tells.
fn by_row(observed: &ObservedLease, view: &LeaseSnapshot) -> SeenRun {
    match view.run {
        RunLook::None => seen(Run::None),
        RunLook::Missing => seen(Run::NotFound),
        RunLook::Unknown => {
            let id = observed
                .object
                .as_ref()
                .and_then(|lease| lease.spec.run.as_ref()?.heartbeat_run_id);
            let id = id.map(|id| format!("/{id}")).unwrap_or_default();
            let message = format!("the row of run{id} has a status that this version does not know");
            unseen(Some(Obstacle::Waits(Reason::RunNotFound, message)))
        }
        RunLook::Found {
            status, finished_at, ..
        } => status.outcome().map_or_else(
            || seen(Run::Live),
            |outcome| {
                over(RunEnd {
                    outcome,
                    at: finished_at,
                })
            },
        ),
    }
}

fn not_watched(object: &ObjectRef) -> Obstacle {
    let message = format!(
        "spec.run.objectRef names a {} of {}, which is none of the operator's run kinds (--run-kinds)",
        object.kind, object.api_version
    );
    Obstacle::Refuses(Reason::InvalidSpec, message)
}

/// What a claim meets whose run is of a kind that can't be looked at.
fn obstacle_of_kind(state: RunKindState, kind: &RunKind, object: &ObjectRef) -> Option<Obstacle> {
    let waits = |message| Some(Obstacle::Waits(Reason::RunNotFound, message));
    match state {
        RunKindState::Listed => None,
        RunKindState::NotServed => waits(format!("the API server does not serve run kind {kind} (yet)")),
        RunKindState::Unreadable => waits(format!("objects of run kind {kind} can't be listed at the moment")),
        RunKindState::ClusterScoped => Some(Obstacle::Refuses(
            Reason::InvalidSpec,
            format!(
                "spec.run.objectRef names a {} of {}, which is in no namespace: a run is an object in the lease's own",
                object.kind, object.api_version
            ),
        )),
    }
}
