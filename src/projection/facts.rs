//! What a decision about a lease is made of, from what was found out about it: the one place in which facts are gathered.

use crate::api::{LeasePolicy, ObjectRef, Reason, cut};
use crate::cache::Cache;
use crate::cache::object::{LeaseObject, NamespaceObject};
use crate::lifecycle::capacity::Capacity;
use crate::lifecycle::lease::{Environment, Facts, Object, Obstacle, Row, Run};
use crate::lifecycle::lease_status::{display_of_object, display_of_row, shown_ending};
use crate::projection::agreement::expired;
use crate::projection::choice::environment;
use crate::projection::company::Company;
use crate::projection::observed::{Choice, ObservedLease};
use crate::store::lease_object::{EnvironmentChoice, LeaseSnapshot, RunLook};

/// The most bytes of what is quoted of a spec.
const QUOTED_BYTES: usize = 128;

/// What was found out about a lease, beside what the cache holds of its environment.
pub struct Findings<'a> {
    /// The lease as the watches know it.
    pub lease: &'a ObservedLease,
    /// What the database knows of it.
    pub snapshot: &'a LeaseSnapshot,
    /// The environment that a claim chose before the database was asked, and whether that of the lease was gone then.
    pub chosen: Choice,
    /// The Namespace, where it is known.
    pub namespace: Option<&'a NamespaceObject>,
    /// Why the Namespace could not be read: of a claim nothing is decided for good then.
    pub unread: Option<String>,
    /// Which company a claim belongs to.
    pub company: Option<&'a Company>,
    /// What its run turned out to be.
    pub run: Run,
    /// Why a claim can't be granted for its run.
    pub run_obstacle: Option<Obstacle>,
    /// The object of its run.
    pub run_object: Option<&'a ObjectRef>,
    /// Whether it has been silent for too long, as far as the watch tells.
    pub heartbeat_missed: bool,
}

impl Findings<'_> {
    /// The lease, where it is a claim: it is there, and the database has never had a lease of it.
    fn claim(&self) -> Option<&LeaseObject> {
        self.lease.present().filter(|_| is_of_claim(self.snapshot))
    }

    /// What a decision is made of. Of a claim there is room, until that is looked at.
    pub fn facts(&self, cache: &Cache) -> Facts {
        let (lease, snapshot, claim) = (self.lease, self.snapshot, self.claim());
        let unread = self.unread.as_ref().map(|why| {
            let message = format!("its namespace can't be read: {why}");
            Obstacle::Waits(Reason::CompanyNotFound, message)
        });
        let of_run = self.run_obstacle.clone().or(unread);
        let terminating = |namespace: &NamespaceObject| namespace.meta.deleting;
        // What was found in a Namespace that can't be read may be another company's: nothing is refused for it.
        let (run, environment) = match &self.unread {
            Some(_) => (Run::Unknown, Environment::NotMirrored),
            None => {
                let Choice {
                    environment: chosen,
                    was_gone,
                } = self.chosen;
                (self.run, environment(cache, lease, snapshot, chosen, was_gone))
            }
        };
        Facts {
            object: object(lease),
            row: row(snapshot, lease.present()),
            run,
            environment,
            namespace_terminating: self
                .namespace
                .map_or(claim.is_some() && self.unread.is_none(), terminating),
            obstacle: claim.and_then(|claim| obstacle(claim, snapshot, of_run, self.company)),
            capacity: Capacity::Free,
            policy: policy(lease, snapshot),
            run_display: run_display(lease, snapshot, self.run_object),
            run_named: claim.and_then(run_named),
            environment_display: environment_display(lease, snapshot, self.chosen.environment),
            expired: expired(snapshot, lease.present()),
            heartbeat_missed: self.heartbeat_missed,
            acquire_timed_out: claim.is_some_and(|claim| acquire_deadline(claim) <= snapshot.now),
        }
    }
}

/// Whether the database has never had a lease of this object.
pub const fn is_of_claim(snapshot: &LeaseSnapshot) -> bool {
    snapshot.row.is_none() && snapshot.object.is_none()
}

/// What is known of the lease object itself.
fn object(observed: &ObservedLease) -> Object {
    match &observed.object {
        Some(lease) if !observed.deleted => Object::Present {
            release: lease.spec.release,
            deleting: lease.meta.deleting,
            shown: lease.status.as_ref().and_then(shown_ending),
        },
        _ if observed.deleted => Object::Deleted,
        _ => Object::Unseen,
    }
}

/// The row. `object` is the lease object, where it is there.
fn row(view: &LeaseSnapshot, object: Option<&LeaseObject>) -> Row {
    let recorded = view.object.as_ref().and_then(|object| object.ending());
    match (&view.row, &view.object) {
        (Some(row), _) => Row::Present {
            state: row.status,
            recorded,
        },
        (None, Some(_)) => Row::Deleted { recorded },
        (None, None) if object.is_some_and(LeaseObject::shows_own_grant) => Row::Lost,
        (None, None) => Row::Never,
    }
}

/// The policy: of the row where there is one, else of the spec.
fn policy(observed: &ObservedLease, view: &LeaseSnapshot) -> LeasePolicy {
    let of_row = view.row.as_ref().map(|row| row.lease_policy);
    of_row
        .or(observed.object.as_ref().map(|lease| lease.spec.policy))
        .unwrap_or_default()
}

/// The run object: of a granted lease the one that was pinned, of a claim the one that it names.
pub fn run_object(observed: &ObservedLease, view: &LeaseSnapshot) -> Option<ObjectRef> {
    if let Some(row) = &view.object {
        return Some(ObjectRef {
            api_version: row.run_api_version.clone()?,
            kind: row.run_kind.clone()?,
            name: row.run_name.clone()?,
            uid: row.run_uid.clone(),
        });
    }
    observed.object.as_ref()?.spec.run.as_ref()?.object_ref.clone()
}

/// How the run is called in messages; none where the lease has none.
fn run_display(observed: &ObservedLease, view: &LeaseSnapshot, object: Option<&ObjectRef>) -> Option<String> {
    if let Some(object) = object {
        return Some(display_of_object(object));
    }
    let claimed = || observed.object.as_ref()?.spec.run.as_ref()?.heartbeat_run_id;
    let id = view.object.as_ref().and_then(|row| row.run_id).or_else(claimed)?;
    Some(display_of_row(id))
}

/// The run as the spec of a claim names it, whole: who reads of one that is not there looks for what was written.
fn run_named(claim: &LeaseObject) -> Option<String> {
    let run = claim.spec.run.as_ref()?;
    let Some(object) = &run.object_ref else {
        return run.heartbeat_run_id.map(|id| format!("run/{id}"));
    };
    let display = display_of_object(object);
    Some(match &object.uid {
        Some(uid) => format!("{display} with uid {}", quoted(uid)),
        None => display,
    })
}

/// What a spec says, in a message: in quotes, its control characters escaped, and no longer than anybody reads.
pub fn quoted(said: &str) -> String {
    format!("{:?}", cut(said, QUOTED_BYTES))
}

/// The environment's name. Of a claim whose choice is not there, the look has answered for another environment.
fn environment_display(observed: &ObservedLease, view: &LeaseSnapshot, choice: Option<EnvironmentChoice>) -> String {
    let named = || {
        observed
            .object
            .as_ref()?
            .spec
            .environment_ref
            .as_ref()
            .map(|reference| reference.name.clone())
    };
    view.environment
        .as_ref()
        .filter(|_| view.object.is_some() || choice.is_some())
        .map(|row| row.name.clone())
        .or_else(named)
        .unwrap_or_else(|| "Local".to_owned())
}

/// When a claim stops waiting.
pub fn acquire_deadline(lease: &LeaseObject) -> jiff::Timestamp {
    let timeout = jiff::SignedDuration::from_secs(lease.spec.acquire_timeout_seconds.into());
    lease
        .meta
        .created_at
        .saturating_add(timeout)
        .unwrap_or(jiff::Timestamp::MAX)
}

/// What stands between a claim and a grant besides run and environment: what never goes away before what may.
fn obstacle(
    lease: &LeaseObject,
    view: &LeaseSnapshot,
    of_run: Option<Obstacle>,
    company: Option<&Company>,
) -> Option<Obstacle> {
    if let Err(message) = lease.check() {
        return Some(Obstacle::Refuses(Reason::InvalidSpec, message));
    }
    if of_run.is_some() {
        return of_run;
    }
    if let Some(Company::Doubt(reason, message)) = company {
        return Some(Obstacle::Waits(*reason, message.clone()));
    }
    if let (Some(asked), RunLook::Found { agent_id, .. }) = (lease.spec.agent_id, view.run)
        && asked != agent_id
        && !view.agent_missing
    {
        let message = format!("spec.agentId {asked} is not the agent of the run: leave it out or name the run's");
        return Some(Obstacle::Refuses(Reason::AgentMismatch, message));
    }
    let spec = &lease.spec;
    let missing = [
        (view.agent_missing, "spec.agentId", spec.agent_id),
        (view.issue_missing, "spec.issueId", spec.issue_id),
        (
            view.execution_workspace_missing,
            "spec.executionWorkspaceId",
            spec.execution_workspace_id,
        ),
    ];
    let (_, field, id) = missing.into_iter().find(|(missing, ..)| *missing)?;
    let id = id.map(|id| format!(" {id}")).unwrap_or_default();
    Some(Obstacle::Waits(
        Reason::ReferenceNotFound,
        format!("{field}{id} names nothing that exists (yet) in this company"),
    ))
}

#[cfg(test)]
pub mod tests;
