//! How a reconcile can fail.

use super::outside::error::ClusterError;
use super::work::trouble::HELD;
use crate::api::Reason;
use crate::store::StoreError;

/// What is told of an object at which the operator panics.
pub(super) const OWN_FAULT: &str =
    "the operator fails at this object, by a fault of its own of which its log tells more; it is tried again";

/// Why a reconcile broke off. The key is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The database refused or did not answer.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The API server refused or did not answer.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
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
            Self::Store(error) => error.category().into_str(),
            Self::Cluster(ClusterError::Conflict) => "conflict",
            Self::Cluster(ClusterError::Forbidden(_)) => "forbidden",
            Self::Cluster(_) => "cluster",
            Self::NotLeading => "deposed",
            Self::Panicked(_) => "panic",
        }
    }

    /// Whether leadership is lost.
    pub const fn is_deposed(&self) -> bool {
        matches!(self, Self::NotLeading | Self::Store(StoreError::Deposed))
    }

    /// Whether another object may well fare better.
    pub const fn is_of_one_object(&self) -> bool {
        match self {
            Self::Cluster(_) => true,
            Self::Store(error) => !error.is_of_all(),
            _ => false,
        }
    }

    /// What the database answered about this one object, as it may be told to its author.
    pub fn refusal_of_one(&self) -> Option<String> {
        match self {
            Self::Store(StoreError::Conflict(_)) => Some(HELD.to_owned()),
            Self::Store(error) if !error.is_of_all() => Some(error.to_string()),
            _ => None,
        }
    }

    /// What may be told of it on the one object that it is about: a reason and a sentence. Of a fault of the operator's own its log
    /// tells more, for what it panics with may speak of others.
    pub fn told(&self) -> Option<(Reason, String)> {
        match self {
            Self::Panicked(_) => Some((Reason::Waiting, OWN_FAULT.to_owned())),
            Self::Store(StoreError::Unfit(_)) => None, // of all objects
            error => error
                .refusal_of_one()
                .map(|sentence| (Reason::StoreUnavailable, sentence)),
        }
    }

    /// Whether the database can't be reached, or does not fit.
    pub const fn is_store_unavailable(&self) -> bool {
        matches!(self, Self::Store(StoreError::Unavailable(_) | StoreError::Unfit(_)))
    }

    /// Why the database does not fit, a sentence.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Store(StoreError::Unfit(sentence)) => Some(sentence),
            _ => None,
        }
    }
}
