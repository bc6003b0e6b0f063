//! What a replica knows of leadership, as the loop that asks for it says and as readiness takes it.

/// Who leads, as far as this replica knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadershipState {
    /// Nobody is known to lead: the row could not be read yet, or not any more, or nobody's term runs.
    Unknown,
    /// Another replica leads: its term runs by the database's clock.
    Following,
    /// This replica leads.
    Leading {
        /// The epoch of its term.
        epoch: i64,
    },
    /// This replica led until it could not renew its term, or found that the database does not fit. It grants and ends nothing,
    /// but it may still tell claims that wait that the store cannot be reached, or is refused.
    Lapsed {
        /// The epoch of its last term.
        epoch: i64,
    },
}
