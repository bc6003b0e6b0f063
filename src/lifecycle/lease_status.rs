//! What a lease object shows: its `status`, projected from the committed row.

use super::{Ending, LeaseState};
use crate::api::{
    CompactObject, Condition, ConditionStatus, ConditionType, EnvironmentLeaseStatus, FreeObject, LeasePhase,
    LeasedEnvironment, LeasedRun, Reason, Timestamp, cut,
};
use uuid::Uuid;

/// The most bytes of a message in a status. What others say (the API server, a policy, the database) may be of any length.
pub(super) const MESSAGE_BYTES: usize = 2048;

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
pub enum Verdict {
    /// The claim waits.
    Pending(Reason, String),
    /// The claim has failed: it never had a row.
    Refused(Reason, String),
    /// The row is there and active.
    Held(Box<Grant>),
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
    },
}

/// The complete status of a lease object.
///
/// `previous` is what the object shows: transition times of unchanged conditions stay, and so does an ending that is shown
/// (the first one stands, whatever the row says later; how the cleanup goes on is copied). `now` is the database's clock.
pub fn lease_status(
    previous: Option<&EnvironmentLeaseStatus>,
    generation: i64,
    verdict: &Verdict,
    now: Timestamp,
) -> EnvironmentLeaseStatus {
    if let Some(shown) = previous.filter(|status| shown_ending(status).is_some()) {
        let mut status = shown.clone();
        if let Verdict::Ended { cleanup_status, .. } = verdict {
            status.cleanup_status.clone_from(cleanup_status);
        }
        return status;
    }
    let mut status = previous.cloned().unwrap_or_default();
    let (phase, active, finished, mirrored, reason, message) = match verdict {
        Verdict::Pending(reason, message) => (LeasePhase::Pending, false, false, false, *reason, message.clone()),
        Verdict::Refused(reason, message) => (LeasePhase::Failed, false, true, false, *reason, message.clone()),
        Verdict::Held(grant) => {
            fill(&mut status, grant);
            let message = format!("holds environment {}", grant.environment.name);
            (LeasePhase::Active, true, false, true, Reason::Granted, message)
        }
        Verdict::Ended {
            grant,
            ending,
            released_at,
            cleanup_status,
        } => {
            if let Some(grant) = grant {
                fill(&mut status, grant);
            }
            status.released_at = *released_at;
            status.cleanup_status.clone_from(cleanup_status);
            let phase = phase(ending.state);
            (
                phase,
                false,
                phase != LeasePhase::Retained,
                true,
                ending.reason,
                ending.message.clone(),
            )
        }
    };
    let message = cut(&message, MESSAGE_BYTES);
    let condition = |type_, value: bool| Condition {
        type_,
        status: if value {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        },
        reason,
        message: message.clone(),
        last_transition_time: now,
        observed_generation: Some(generation),
    };
    let conditions = [
        condition(ConditionType::Decided, phase != LeasePhase::Pending),
        condition(ConditionType::Active, active),
        condition(ConditionType::Finished, finished),
        condition(ConditionType::Mirrored, mirrored),
    ];
    status.conditions = carry_transition_times(conditions.into(), &status.conditions);
    status.phase = Some(phase);
    status.observed_generation = Some(generation);
    status.reason = Some(reason);
    status.message = Some(message);
    status
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

/// Conditions whose status is the same as before keep their transition time (Kubernetes API conventions).
pub(super) fn carry_transition_times(mut conditions: Vec<Condition>, previous: &[Condition]) -> Vec<Condition> {
    for condition in &mut conditions {
        let same = previous
            .iter()
            .find(|old| old.type_ == condition.type_ && old.status == condition.status);
        if let Some(old) = same {
            condition.last_transition_time = old.last_transition_time;
        }
    }
    conditions
}

fn fill(status: &mut EnvironmentLeaseStatus, grant: &Grant) {
    status.lease_id = Some(grant.lease_id);
    status.company_id = Some(grant.company_id);
    status.environment = Some(grant.environment.clone());
    status.run.clone_from(&grant.run);
    status.acquired_at = Some(grant.acquired_at);
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
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_decided_once_it_is_granted_or_refused() {
        let decided = |verdict: &Verdict| {
            let now = Timestamp::cut(jiff::Timestamp::from_second(1).unwrap());
            let status = lease_status(None, 1, verdict, now);
            let found = status.conditions.iter().find(|one| one.type_ == ConditionType::Decided);
            found.map(|condition| condition.status)
        };
        let waits = Verdict::Pending(Reason::CapacityFull, String::new());
        assert_eq!(decided(&waits), Some(ConditionStatus::False));
        let refused = Verdict::Refused(Reason::AcquireTimedOut, String::new());
        assert_eq!(decided(&refused), Some(ConditionStatus::True));
    }
}
