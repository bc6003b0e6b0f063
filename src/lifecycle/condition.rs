//! The conditions of a status, as both kinds of objects write them.

use crate::api::{Condition, ConditionStatus, ConditionType, Reason, Timestamp, cut};

/// The most bytes of a message in a status. What others say (the API server, a policy, the database) may be of any length.
pub(super) const MESSAGE_BYTES: usize = 2048;

/// Whether something is so, and why: the reason and the sentence of a condition.
pub(super) type Finding = (bool, Reason, String);

/// When conditions are written, and of which spec they speak.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// The generation of the object's spec.
    pub(super) generation: i64,
    /// The database's clock.
    pub(super) now: Timestamp,
}

impl Stamp {
    /// The condition that says this.
    pub(super) fn condition(self, type_: ConditionType, (holds, reason, message): Finding) -> Condition {
        let status = if holds {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        Condition {
            type_,
            status,
            reason,
            message: cut(&message, MESSAGE_BYTES),
            last_transition_time: self.now,
            observed_generation: Some(self.generation),
        }
    }
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
