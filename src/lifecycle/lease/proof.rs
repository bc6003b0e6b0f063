//! What has to be proven before a decision is carried out: what the watches tell may be late, or of another object.

use super::{Decision, Facts, Object};
use crate::api::Reason;

/// What a decision is not carried out without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// That there is room in the environment, and nobody waits who came before.
    Room,
    /// Whether the Namespace is being deleted: one deletion of a Namespace deletes what is in it in random order, so what went first
    /// says nothing; and the Namespace of which the watch tells may be one that had the name before.
    Namespace,
    /// That the environment is archived: a refusal is for good, and the edit that takes the environment back may be on its way.
    Environment,
    /// That no heartbeat came: the watch may have stalled without a sign.
    Silence,
}

impl Decision {
    /// What has to be proven before this is carried out, if anything.
    pub fn needs_proof(&self, facts: &Facts) -> Option<Proof> {
        match self {
            Self::Grant => Some(Proof::Room),
            Self::Refuse(Reason::EnvironmentArchived, _) => Some(Proof::Environment),
            Self::End(ending) => match ending.reason {
                Reason::EnvironmentDeleted | Reason::RunGone => Some(Proof::Namespace),
                Reason::LeaseDeleted if matches!(facts.object, Object::Present { deleting: false, .. }) => {
                    Some(Proof::Namespace)
                }
                Reason::HeartbeatMissed => Some(Proof::Silence),
                _ => None,
            },
            _ => None,
        }
    }
}
