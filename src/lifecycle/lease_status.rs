//! What a lease object shows: its `status`, projected from the committed row.

use uuid::Uuid;

use super::condition::{MESSAGE_BYTES, Stamp, carry_transition_times};
use super::{Ending, LeaseState};
use crate::api::{
    CompactObject, Condition, ConditionStatus, ConditionType, EnvironmentLeaseStatus, FreeObject, LeasePhase,
    LeasedEnvironment, LeasedRun, ObjectRef, Reason, RunRef, Timestamp, cut,
};

/// What the grant has fixed: it stands in the status as long as the object lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Id of the row, which is the object's uid.
    pub lease_id: Uuid,
    /// The company that the row belongs to.
    pub company_id: Uuid,
    /// The environment that is held.
    pub environment: LeasedEnvironment,
    /// The run that it is held for.
    pub run: Option<LeasedRun>,
    /// When it was granted, by the database's clock.
    pub acquired_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Option<Timestamp>,
    /// Rises with every grant of the installation's database.
    pub fencing_token: Option<i64>,
    /// The run's `paperclipEnvironment`.
    pub context: Option<FreeObject>,
}

/// What has become of a lease.
#[derive(Clone, Debug, PartialEq)]
pub enum StatusUpdate {
    /// The claim waits.
    Pending(Reason, String),
    /// The claim has failed: it never had a row.
    Refused(Reason, String),
    /// The row is there and active.
    Held {
        /// What the row tells of the grant; none where it is not the row any more that was granted.
        grant: Option<Box<Grant>>,
        /// What row and object do not agree about.
        fault: Option<Fault>,
    },
    /// The row has been ended (or deleted: then there is no grant to read any more).
    Ended {
        /// What the row still tells of the grant.
        grant: Option<Box<Grant>>,
        /// How it ended.
        ending: Ending,
        /// When, by the database's clock; none while it is retained.
        released_at: Option<Timestamp>,
        /// The row's `cleanup_status`, as found.
        cleanup_status: Option<String>,
        /// What row and object do not agree about.
        fault: Option<Fault>,
    },
}

/// Why a row does not say what its object says and will not: the reason and the sentence of the condition `Mirrored`.
pub type Fault = (Reason, String);

/// The complete status of a lease object.
///
/// `previous` is what the object shows: transition times of unchanged conditions stay, and so does an ending that is shown
/// (the first one stands, whatever the row says later; how the cleanup goes on is copied, and how it ended follows it).
/// `asked` is the run of the spec: without a grant it is what there is to show. `now` is the database's clock.
pub fn lease_status(
    previous: Option<&EnvironmentLeaseStatus>,
    generation: i64,
    asked: Option<&RunRef>,
    update: &StatusUpdate,
    now: Timestamp,
) -> EnvironmentLeaseStatus {
    if let Some(shown) = previous.filter(|status| shown_ending(status).is_some()) {
        return follow_cleanup(shown, update);
    }
    let mut status = previous.cloned().unwrap_or_default();
    show_row(&mut status, asked, update);
    let summary = Summary::of(update, status.environment.as_ref());
    let conditions = summary.conditions(Stamp { generation, now });
    status.conditions = carry_transition_times(conditions.into(), &status.conditions);
    status.phase = Some(summary.phase);
    status.observed_generation = Some(generation);
    status.reason = Some(summary.reason);
    status.message = Some(cut(&summary.message, MESSAGE_BYTES));
    status
}

/// What the row tells; of a claim, which has none, the run that it asks for.
fn show_row(status: &mut EnvironmentLeaseStatus, asked: Option<&RunRef>, update: &StatusUpdate) {
    match update {
        StatusUpdate::Pending(..) | StatusUpdate::Refused(..) => {
            status.run = status.run.take().or_else(|| asked.and_then(asked_run));
        }
        StatusUpdate::Held { grant, .. } => show_grant(status, grant.as_deref()),
        StatusUpdate::Ended {
            grant,
            released_at,
            cleanup_status,
            ..
        } => {
            show_grant(status, grant.as_deref());
            status.released_at = *released_at;
            status.cleanup_status.clone_from(cleanup_status);
        }
    }
}

/// What has become of a lease, as its phase and its conditions say it.
struct Summary {
    phase: LeasePhase,
    active: bool,
    finished: bool,
    reason: Reason,
    message: String,
    fault: Option<Fault>,
}

impl Summary {
    fn of(update: &StatusUpdate, environment: Option<&LeasedEnvironment>) -> Self {
        match update {
            StatusUpdate::Pending(reason, message) => Self::of_claim(LeasePhase::Pending, *reason, message),
            StatusUpdate::Refused(reason, message) => Self::of_claim(LeasePhase::Failed, *reason, message),
            StatusUpdate::Held { fault, .. } => Self {
                phase: LeasePhase::Active,
                active: true,
                finished: false,
                reason: Reason::Granted,
                message: environment.map_or_else(
                    || "is held".to_owned(),
                    |environment| format!("holds environment {}", environment.name),
                ),
                fault: fault.clone(),
            },
            StatusUpdate::Ended { ending, fault, .. } => {
                let phase = phase(ending.state);
                Self {
                    phase,
                    active: false,
                    finished: phase != LeasePhase::Retained,
                    reason: ending.reason,
                    message: ending.message.clone(),
                    fault: fault.clone(),
                }
            }
        }
    }

    /// A claim has no row: why it has none is also why nothing is mirrored.
    fn of_claim(phase: LeasePhase, reason: Reason, message: &str) -> Self {
        Self {
            phase,
            active: false,
            finished: phase == LeasePhase::Failed,
            reason,
            message: message.to_owned(),
            fault: Some((reason, message.to_owned())),
        }
    }

    fn conditions(&self, stamp: Stamp) -> [Condition; 4] {
        let decided = self.phase != LeasePhase::Pending;
        let finding = |holds: bool| (holds, self.reason, self.message.clone());
        let mirrored = match &self.fault {
            None => finding(true),
            Some((reason, message)) => (false, *reason, message.clone()),
        };
        [
            stamp.condition(ConditionType::Decided, finding(decided)),
            stamp.condition(ConditionType::Active, finding(self.active)),
            stamp.condition(ConditionType::Finished, finding(self.finished)),
            stamp.condition(ConditionType::Mirrored, mirrored),
        ]
    }
}

/// What a claim shows of the run that it names: nothing is pinned before the grant.
fn asked_run(run: &RunRef) -> Option<LeasedRun> {
    let of_row = || run.heartbeat_run_id.map(display_of_row);
    Some(LeasedRun {
        display: run.object_ref.as_ref().map(display_of_object).or_else(of_row)?,
        kind: None,
        name: None,
        uid: None,
    })
}

/// A run object in a few characters, for instance job/build.
pub fn display_of_object(object: &ObjectRef) -> String {
    format!("{}/{}", object.kind.to_lowercase(), object.name)
}

/// A heartbeat run in a few characters, for instance run/1a2b3c4d.
pub fn display_of_row(id: Uuid) -> String {
    format!("run/{}", &id.to_string()[..8]) // a uuid's text has 36 characters, all of them ASCII
}

/// An ending that is shown stays, with its reason. Where the provider's resources waited for their removal, the final status
/// follows it.
fn follow_cleanup(shown: &EnvironmentLeaseStatus, update: &StatusUpdate) -> EnvironmentLeaseStatus {
    let mut status = shown.clone();
    if let StatusUpdate::Ended {
        ending,
        released_at,
        cleanup_status,
        ..
    } = update
    {
        status.cleanup_status.clone_from(cleanup_status);
        if shown.phase == Some(LeasePhase::PendingCleanup) && ending.state.is_final() {
            status.phase = Some(phase(ending.state));
            status.released_at = released_at.or(status.released_at);
        }
    }
    status
}

/// Why the row of a lease does not say what its object says, as far as the status tells. Of a claim that has no row the condition
/// says no more than all the others.
pub fn shown_fault(status: &EnvironmentLeaseStatus) -> Option<Fault> {
    let of_row = |condition: &&Condition| {
        condition.type_ == ConditionType::Mirrored && condition.status == ConditionStatus::False
    };
    let condition = status.conditions.iter().find(of_row)?;
    let is_the_claim_s = status.reason == Some(condition.reason) && status.message.as_ref() == Some(&condition.message);
    (!is_the_claim_s).then(|| (condition.reason, condition.message.clone()))
}

/// The ending that a status shows, if it shows one for good (Retained is no end yet).
pub fn shown_ending(status: &EnvironmentLeaseStatus) -> Option<Ending> {
    let state = match status.phase? {
        LeasePhase::Pending | LeasePhase::Active | LeasePhase::Retained => return None,
        LeasePhase::Released => LeaseState::Released,
        LeasePhase::Expired => LeaseState::Expired,
        LeasePhase::Failed => LeaseState::Failed,
        LeasePhase::PendingCleanup => LeaseState::PendingCleanup,
    };
    let reason = status.reason.unwrap_or(Reason::EndedInDatabase);
    Some(Ending {
        state,
        reason,
        message: status.message.clone().unwrap_or_default(),
    })
}

fn show_grant(status: &mut EnvironmentLeaseStatus, grant: Option<&Grant>) {
    let Some(grant) = grant else { return };
    // What the row says of it later is another writer's.
    let shown = status.acquired_at.filter(|_| status.lease_id == Some(grant.lease_id));
    status.acquired_at = shown.or(Some(grant.acquired_at));
    status.lease_id = Some(grant.lease_id);
    status.company_id = Some(grant.company_id);
    status.environment = Some(grant.environment.clone());
    status.run.clone_from(&grant.run);
    status.expires_at = grant.expires_at;
    status.fencing_token = grant.fencing_token;
    // Written once: the run's own copy may be rewritten by others, this one is the authority.
    if status.context.is_none() {
        status.context = grant.context.as_ref().map(CompactObject::from);
    }
}

fn phase(state: LeaseState) -> LeasePhase {
    match state {
        LeaseState::Active => LeasePhase::Active,
        LeaseState::Released => LeasePhase::Released,
        LeaseState::Expired => LeasePhase::Expired,
        LeaseState::Failed => LeasePhase::Failed,
        LeaseState::Retained => LeasePhase::Retained,
        LeaseState::PendingCleanup => LeasePhase::PendingCleanup,
    }
}

#[cfg(test)]
mod tests;
