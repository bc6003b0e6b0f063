//! The closed sets of values as the Paperclip server's tables spell them (DOMAIN: "Closed sets of values").

use strum::{EnumString, IntoStaticStr, VariantArray};

/// `heartbeat_runs.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(const_into_str, serialize_all = "snake_case")]
pub enum RunStatus {
    /// Waits for its turn.
    Queued,
    /// Waits for another try.
    ScheduledRetry,
    /// Executes.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Was called off.
    Cancelled,
    /// Took too long.
    TimedOut,
    /// Was stopped half-way and may be taken up by another run.
    Interrupted,
}

impl RunStatus {
    /// Whether a run in this status is over for good.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::ScheduledRetry | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut | Self::Interrupted => true,
        }
    }
}

/// `environment_leases.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(const_into_str, serialize_all = "snake_case")]
pub enum LeaseState {
    /// Held.
    Active,
    /// Ended in good order.
    Released,
    /// Ended by time, cancellation or disappearance.
    Expired,
    /// Ended because its run failed or its environment went.
    Failed,
    /// Kept for inspection after a failed run; holds no slot.
    Retained,
    /// Ended; its provider's resources wait for their removal (newer origins only).
    PendingCleanup,
}

impl LeaseState {
    /// Whether nothing follows any more: not for a lease that is held or retained, nor for one whose provider's resources
    /// wait for their removal.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Released | Self::Expired | Self::Failed => true,
            Self::Active | Self::Retained | Self::PendingCleanup => false,
        }
    }
}

/// `environments.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(const_into_str, serialize_all = "snake_case")]
pub enum EnvironmentState {
    /// Grants leases.
    Active,
    /// Grants nothing new.
    Archived,
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::str::FromStr;

    use super::*;

    fn words<T>() -> Vec<&'static str>
    where
        T: Copy + Debug + FromStr<Err: Debug> + PartialEq + VariantArray + Into<&'static str>,
    {
        let read_again = |value: &T| {
            let word: &'static str = (*value).into();
            assert_eq!(word.parse::<T>().unwrap(), *value);
            word
        };
        T::VARIANTS.iter().map(read_again).collect()
    }

    #[test]
    fn the_words_of_the_tables_are_the_origin_s_and_are_read_again() {
        assert_eq!(
            words::<RunStatus>().join(" "),
            "queued scheduled_retry running succeeded failed cancelled timed_out interrupted"
        );
        assert_eq!(
            words::<LeaseState>().join(" "),
            "active released expired failed retained pending_cleanup"
        );
        assert_eq!(words::<EnvironmentState>().join(" "), "active archived");
        assert!("Active".parse::<LeaseState>().is_err());
    }
}
