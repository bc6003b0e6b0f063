//! When the object of a finished lease is removed: `spec.ttlSecondsAfterFinished` after its end.

use crate::api::{ConditionStatus, ConditionType, EnvironmentLeaseStatus, LeasePhase};

/// When the object has had its time, once it shows its end; `None` before, and for a lease whose provider's resources still
/// wait for their removal.
///
/// `recorded` is the end that the database remembers. A claim that failed never had a row: its own status tells when.
pub fn removal_at(
    status: &EnvironmentLeaseStatus,
    recorded: Option<jiff::Timestamp>,
    ttl_seconds: i32,
) -> Option<jiff::Timestamp> {
    match status.phase? {
        LeasePhase::Released | LeasePhase::Expired | LeasePhase::Failed => {}
        LeasePhase::Pending | LeasePhase::Active | LeasePhase::Retained | LeasePhase::PendingCleanup => return None,
    }
    let shown = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::Finished && condition.status == ConditionStatus::True);
    let finished = recorded.or(shown.map(|condition| condition.last_transition_time.get()))?;
    Some(kept_until(finished, ttl_seconds))
}

/// When an object that has finished at a moment has had its time.
pub fn kept_until(finished: jiff::Timestamp, ttl_seconds: i32) -> jiff::Timestamp {
    let ttl = jiff::SignedDuration::from_secs(ttl_seconds.into());
    finished.saturating_add(ttl).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;
    use crate::api::{Reason, Timestamp};
    use crate::lifecycle::lease_status::{StatusUpdate, lease_status};
    use crate::lifecycle::{Ending, LeaseState};

    fn second(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    fn ended(state: LeaseState) -> EnvironmentLeaseStatus {
        let ending = Ending {
            state,
            reason: Reason::RunFinished,
            message: String::new(),
        };
        let update = StatusUpdate::Ended {
            grant: None,
            ending,
            released_at: None,
            cleanup_status: None,
            fault: None,
        };
        lease_status(None, 1, None, &update, Timestamp::cut(second(100)))
    }

    #[test]
    fn each_final_phase_is_removed_and_no_other() {
        for state in LeaseState::VARIANTS {
            let removed = matches!(state, LeaseState::Released | LeaseState::Expired | LeaseState::Failed);
            assert_eq!(
                removal_at(&ended(*state), Some(second(90)), 5).is_some(),
                removed,
                "{state:?}"
            );
        }
        assert_eq!(
            removal_at(&EnvironmentLeaseStatus::default(), Some(second(90)), 5),
            None
        );
    }

    #[test]
    fn the_time_counts_from_the_recorded_end_else_from_the_one_that_is_shown() {
        let released = ended(LeaseState::Released);
        assert_eq!(removal_at(&released, Some(second(90)), 5), Some(second(95)));
        assert_eq!(removal_at(&released, None, 5), Some(second(105)));
        let refused = StatusUpdate::Refused(Reason::RunGone, String::new());
        let refused = lease_status(None, 1, None, &refused, Timestamp::cut(second(100)));
        assert_eq!(
            removal_at(&refused, None, 0),
            Some(second(100)),
            "nothing means at once"
        );
    }
}
