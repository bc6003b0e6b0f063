//! What an environment object shows: its `status`, projected from the committed row.

use uuid::Uuid;

use super::EnvironmentState;
use super::lease_status::carry_transition_times;
use crate::api::{Condition, ConditionStatus, ConditionType, EnvironmentPhase, EnvironmentStatus, Reason, Timestamp};

/// The row that an environment object stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct MirroredEnvironment {
    /// Id of the row: the object's uid, or an adopted Local's own.
    pub environment_id: Uuid,
    /// The company that the row belongs to.
    pub company_id: Uuid,
    /// The name in the row.
    pub name: String,
    /// The row's status.
    pub state: EnvironmentState,
    /// How many leases on it are active, whoever made them.
    pub active_leases: i32,
}

/// What has become of an environment object.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The row, where there is one; it stays the last good one while the spec is at fault.
    pub row: Option<MirroredEnvironment>,
    /// Why the spec is not mirrored, where it is not.
    pub fault: Option<(Reason, String)>,
}

/// The complete status of an environment object. `now` is the database's clock.
pub fn environment_status(
    previous: Option<&EnvironmentStatus>,
    generation: i64,
    verdict: &Verdict,
    now: Timestamp,
) -> EnvironmentStatus {
    let mut status = previous.cloned().unwrap_or_default();
    if let Some(row) = &verdict.row {
        status.environment_id = Some(row.environment_id);
        status.company_id = Some(row.company_id);
        status.name = Some(row.name.clone());
        status.active_leases = Some(row.active_leases);
    }
    let state = verdict.row.as_ref().map(|row| row.state);
    status.phase = Some(match state {
        None => EnvironmentPhase::Pending,
        Some(EnvironmentState::Active) => EnvironmentPhase::Active,
        Some(EnvironmentState::Archived) => EnvironmentPhase::Archived,
    });
    let fault = verdict.fault.clone();
    let mirrored = "the row in the database says what the spec says".to_owned();
    let accepting = match (state, &fault) {
        (Some(EnvironmentState::Active), _) => (true, Reason::Ready, "leases are granted".to_owned()),
        (Some(EnvironmentState::Archived), _) => (
            false,
            Reason::Archived,
            "archived: leases that are held run out, new ones are refused".to_owned(),
        ),
        (None, Some((reason, message))) => (false, *reason, message.clone()),
        (None, None) => (false, Reason::Waiting, "not in the database yet".to_owned()),
    };
    let good = |reason| match &fault {
        Some((fault, message)) => (false, *fault, message.clone()),
        None => (true, reason, mirrored.clone()),
    };
    let condition = |type_, (value, reason, message): (bool, Reason, String)| Condition {
        type_,
        status: if value {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        },
        reason,
        message,
        last_transition_time: now,
        observed_generation: Some(generation),
    };
    let mut conditions = vec![
        condition(ConditionType::Ready, good(Reason::Ready)),
        condition(ConditionType::Accepting, accepting),
        condition(ConditionType::Mirrored, good(Reason::Mirrored)),
    ];
    // A probe's result is not this projection's to judge.
    let others = [ConditionType::Canonical, ConditionType::Reachable];
    conditions.extend(
        status
            .conditions
            .iter()
            .filter(|condition| others.contains(&condition.type_))
            .cloned(),
    );
    status.conditions = carry_transition_times(conditions, &status.conditions);
    status.observed_generation = Some(generation);
    status
}
