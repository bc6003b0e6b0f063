//! A claim whose snapshot can't be read: what its status shows, and how it ends.

use super::lease::Decision;
use crate::api::Reason;

/// What is known of such a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Whether it has, or had, a row; `None` where not even that can be asked.
    pub granted: Option<bool>,
    /// `spec.release`.
    pub release: bool,
    /// It carries a deletion timestamp.
    pub deleting: bool,
    /// Whether its `acquireTimeoutSeconds` has passed since its creation.
    pub acquire_timed_out: bool,
}

/// Decides about a claim whose look has failed, as `reason` and `message` say. It fails only where it is proven that no row was
/// ever granted to it: else a row would be held of which the object says that it never was. Until then it says that its time is out.
pub fn decide(unseen: Unseen, reason: Reason, message: &str) -> Decision {
    match (unseen.granted, unseen.acquire_timed_out) {
        (Some(false), _) if unseen.deleting => {
            Decision::Refuse(Reason::LeaseDeleted, "the lease object is being deleted".to_owned())
        }
        (Some(false), _) if unseen.release => Decision::Refuse(
            Reason::ReleaseRequested,
            "spec.release was set before the lease was granted".to_owned(),
        ),
        (Some(false), true) => Decision::Refuse(Reason::AcquireTimedOut, super::lease::timed_out(message)),
        (_, false) => Decision::Wait(reason, message.to_owned()),
        (Some(true), true) => Decision::Wait(
            reason,
            format!(
                "{message}; spec.acquireTimeoutSeconds has passed, and a row of this lease is in the database: it is shown as it \
                 stands as soon as it can be read"
            ),
        ),
        (None, true) => Decision::Wait(
            reason,
            format!(
                "{message}; spec.acquireTimeoutSeconds has passed, and whether a row of this lease is in the database cannot be \
                 told: it fails, or is shown as held, as soon as it can"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_can_not_be_looked_at_fails_only_where_it_is_proven_to_have_no_row() {
        for granted in [None, Some(true), Some(false)] {
            for flags in 0..8 {
                let unseen = Unseen {
                    granted,
                    release: flags & 1 != 0,
                    deleting: flags & 2 != 0,
                    acquire_timed_out: flags & 4 != 0,
                };
                let over = flags != 0;
                match decide(unseen, Reason::StoreUnavailable, "no") {
                    Decision::Refuse(reason, _) => {
                        assert!(granted == Some(false) && over, "{unseen:?}");
                        assert_eq!(reason == Reason::AcquireTimedOut, flags == 4, "{unseen:?}");
                    }
                    Decision::Wait(reason, message) => {
                        assert!(granted != Some(false) || !over, "{unseen:?}");
                        assert_eq!(reason, Reason::StoreUnavailable);
                        let says = message.contains("spec.acquireTimeoutSeconds has passed");
                        assert_eq!(says, unseen.acquire_timed_out, "{message}");
                        assert!(message.starts_with("no"), "{message}");
                    }
                    other => panic!("{unseen:?} gives {other:?}"),
                }
            }
        }
    }
}
