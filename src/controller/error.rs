//! How a reconcile can fail.

use super::outside::error::ClusterError;
use super::work::trouble::HELD;
use crate::api::Reason;
use crate::store::StoreError;

/// The step of a live read of a Namespace.
pub(super) const READ_NAMESPACE: &str = "read a Namespace";

/// What is told of an object at which the operator panics.
pub(super) const OWN_FAULT: &str =
    "the operator fails at this object, by a fault of its own of which its log tells more; it is tried again";

/// Why a reconcile broke off. The key is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The database refused or did not answer.
    #[error("{step}: {source}")]
    Store {
        /// What was asked of it: the name of the request.
        step: &'static str,
        source: StoreError,
    },
    /// The API server refused or did not answer.
    #[error("{step}: {source}")]
    Cluster {
        /// What was asked of it, in words.
        step: &'static str,
        source: ClusterError,
    },
    /// Another replica leads, or nobody knows who does.
    #[error("this replica is not the leader")]
    NotLeading,
    /// A fault of the operator's own.
    #[error("it panicked: {0}")]
    Panicked(String),
}

impl ReconcileError {
    /// The label of the metric.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Store { source, .. } => source.category().into_str(),
            Self::Cluster {
                source: ClusterError::Conflict,
                ..
            } => "conflict",
            Self::Cluster {
                source: ClusterError::Forbidden(_),
                ..
            } => "forbidden",
            Self::Cluster { .. } => "cluster",
            Self::NotLeading => "deposed",
            Self::Panicked(_) => "panic",
        }
    }

    /// Whether leadership is lost.
    pub const fn is_deposed(&self) -> bool {
        matches!(
            self,
            Self::NotLeading
                | Self::Store {
                    source: StoreError::Deposed,
                    ..
                }
        )
    }

    /// Whether another object may well fare better.
    pub const fn is_of_one_object(&self) -> bool {
        match self {
            Self::Cluster { .. } => true,
            Self::Store { source, .. } => !source.is_of_all(),
            _ => false,
        }
    }

    /// What the database answered about this one object, as it may be told to its author.
    pub fn refusal_of_one(&self) -> Option<String> {
        match self {
            Self::Store {
                source: StoreError::Conflict(_),
                ..
            } => Some(HELD.to_owned()),
            Self::Store { source, .. } if !source.is_of_all() => Some(source.to_string()),
            _ => None,
        }
    }

    /// What may be told of it on the one object that it is about: a reason and a sentence. Of a fault of the operator's own its log
    /// tells more, for what it panics with may speak of others.
    pub fn told(&self) -> Option<(Reason, String)> {
        match self {
            Self::Panicked(_) => Some((Reason::Waiting, OWN_FAULT.to_owned())),
            Self::Store {
                source: StoreError::Unfit(_),
                ..
            } => None, // of all objects
            error => error
                .refusal_of_one()
                .map(|sentence| (Reason::StoreUnavailable, sentence)),
        }
    }

    /// Whether the database can't be reached, or does not fit.
    pub const fn is_store_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Store {
                source: StoreError::Unavailable(_) | StoreError::Unfit(_),
                ..
            }
        )
    }

    /// Why the database does not fit, a sentence.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Store {
                source: StoreError::Unfit(sentence),
                ..
            } => Some(sentence),
            _ => None,
        }
    }
}

/// Names the step that has failed: there is no other way from its error to that of the reconcile.
pub trait At<T> {
    /// # Errors
    /// The same, with the step.
    fn at(self, step: &'static str) -> Result<T, ReconcileError>;
}

impl<T> At<T> for Result<T, StoreError> {
    fn at(self, step: &'static str) -> Result<T, ReconcileError> {
        self.map_err(|source| ReconcileError::Store { step, source })
    }
}

impl<T> At<T> for Result<T, ClusterError> {
    fn at(self, step: &'static str) -> Result<T, ReconcileError> {
        self.map_err(|source| ReconcileError::Cluster { step, source })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::Key;
    use crate::controller::fake::{REFUSED, claim, environment, namespace, reconciler, uid};

    #[tokio::test(start_paused = true)]
    async fn a_failed_reconcile_names_its_step_in_the_log_and_not_to_the_object_s_author() {
        let world = reconciler();
        world.make_namespace(namespace("team", 1));
        world.make_environment(environment("team", "box", 2));
        world.settle(Duration::from_millis(400)).await;
        world.make_lease(claim("team", "x", 10, "box"));
        let failure = async || world.reconcile(Key::Lease(uid(10))).await.unwrap_err();

        world.cluster.fail("patch leases");
        let (error, timeout) = (failure().await, ClusterError::Timeout);
        assert_eq!(error.to_string(), format!("patch the status of a lease: {timeout}"));

        world.database.set_refusing(uid(10), true);
        let error = failure().await;
        assert_eq!(error.to_string(), format!("look_lease: {REFUSED}"));
        assert_eq!(error.told(), Some((Reason::StoreUnavailable, REFUSED.to_owned())));

        world.database.set_away(true);
        let error = failure().await.to_string();
        assert!(
            error.starts_with("look_lease: the database is not available"),
            "{error}"
        );
    }
}
