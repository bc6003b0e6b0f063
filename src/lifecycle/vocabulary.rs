//! The closed sets of values as the origin's tables spell them (DOMAIN: "Closed sets of values").

/// Declares a closed set with its spelling in the tables.
macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All values, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The spelling in the tables.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// Reads the spelling of the tables; `None` for a value that is not in the set.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

closed_set! {
    /// `heartbeat_runs.status`.
    RunStatus {
        /// Waits for its turn.
        Queued = "queued",
        /// Waits for another try.
        ScheduledRetry = "scheduled_retry",
        /// Executes.
        Running = "running",
        /// Ended well.
        Succeeded = "succeeded",
        /// Ended badly.
        Failed = "failed",
        /// Was called off.
        Cancelled = "cancelled",
        /// Took too long.
        TimedOut = "timed_out",
        /// Was stopped half-way and may be taken up by another run.
        Interrupted = "interrupted",
    }
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

closed_set! {
    /// `environment_leases.status`.
    LeaseState {
        /// Held.
        Active = "active",
        /// Ended in good order.
        Released = "released",
        /// Ended by time, cancellation or disappearance.
        Expired = "expired",
        /// Ended because its run failed or its environment went.
        Failed = "failed",
        /// Kept for inspection after a failed run; holds no slot.
        Retained = "retained",
        /// Ended; its provider's resources wait for their removal (newer origins only).
        PendingCleanup = "pending_cleanup",
    }
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

closed_set! {
    /// `environments.status`.
    EnvironmentState {
        /// Grants leases.
        Active = "active",
        /// Grants nothing new.
        Archived = "archived",
    }
}
