//! What is to be done about one lease.

use crate::api::Reason;
use crate::lifecycle::Ending;

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Make the company's Local, then look again.
    MakeLocal,
    /// Grant: write the row.
    Grant,
    /// The claim waits, for this reason.
    Wait(Reason, String),
    /// The claim has failed and never becomes a lease.
    Refuse(Reason, String),
    /// The lease is held: keep row and object in step.
    Hold,
    /// End the row.
    End(Ending),
    /// The row is ended: the object follows. `record` says that the ending is another writer's and not recorded yet.
    Follow {
        /// What row and object say.
        ending: Ending,
        /// The ending has still to be recorded in the operator's own table.
        record: bool,
    },
    /// The object is gone and nothing is left to end: forget it.
    Forget,
    /// Nothing: it is as it should be, or more has to be known first.
    Nothing,
}

impl Decision {
    /// Whether it leaves a claim a claim, for the time being.
    pub const fn is_of_claim(&self) -> bool {
        match self {
            Self::MakeLocal | Self::Grant | Self::Wait(..) | Self::Nothing => true,
            Self::Refuse(..) | Self::Hold | Self::End(_) | Self::Follow { .. } | Self::Forget => false,
        }
    }
}
