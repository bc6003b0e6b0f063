//! Facts to begin tests with.

use super::facts::{Environment, Facts, Object, Row, Run};
use crate::api::LeasePolicy;
use crate::lifecycle::LeaseState;
use crate::lifecycle::capacity::Capacity;

impl Object {
    /// An object that asks for nothing.
    pub(crate) fn present() -> Self {
        Self::Present {
            release: false,
            deleting: false,
            shown: None,
        }
    }

    /// An object that asks for its release.
    pub(crate) fn released() -> Self {
        Self::Present {
            release: true,
            deleting: false,
            shown: None,
        }
    }
}

impl Facts {
    /// A claim that nothing stands against.
    pub(crate) fn claim() -> Self {
        Self {
            object: Object::present(),
            row: Row::Never,
            run: Run::Live,
            environment: Environment::Active,
            namespace_terminating: false,
            obstacle: None,
            capacity: Capacity::Free,
            policy: LeasePolicy::Ephemeral,
            run_display: Some("job/x".to_owned()),
            run_named: Some("job/x".to_owned()),
            environment_display: "builder".to_owned(),
            expired: false,
            heartbeat_missed: false,
            acquire_timed_out: false,
        }
    }

    /// A lease that nothing ends.
    pub(crate) fn held() -> Self {
        Self {
            row: Row::Present {
                state: LeaseState::Active,
                recorded: None,
            },
            ..Self::claim()
        }
    }
}
