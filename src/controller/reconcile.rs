//! A reconcile: by whom, how it can fail, and when the key is looked at again.

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::environment::EnvironmentReconciler;
use super::lease::LeaseReconciler;
use super::outside::cluster::{Cluster, ClusterError};
use super::outside::database::Database;
use super::work::trouble::HELD;
use crate::cache::Key;
use crate::cache::object::NamespaceObject;
use crate::runtime::metrics::Cause;
use crate::store::StoreError;

/// The two reconcilers, and what they share.
pub struct Reconcilers<D, C> {
    /// What they share.
    pub context: Arc<Context>,
    /// The way to the database.
    pub database: Arc<D>,
    /// The way to the API server.
    pub cluster: Arc<C>,
    /// That of leases.
    pub leases: LeaseReconciler<D, C>,
    /// That of Environments.
    pub environments: EnvironmentReconciler<D, C>,
}

impl<D: Database, C: Cluster> Reconcilers<D, C> {
    /// Reconcilers between a database and a cluster.
    pub fn new(context: Arc<Context>, database: D, cluster: C) -> Self {
        let (database, cluster) = (Arc::new(database), Arc::new(cluster));
        Self {
            leases: LeaseReconciler::new(context.clone(), database.clone(), cluster.clone()),
            environments: EnvironmentReconciler::new(context.clone(), database.clone(), cluster.clone()),
            context,
            database,
            cluster,
        }
    }

    /// Brings the object of a key to where it should be.
    ///
    /// # Errors
    /// When the database or the API server does not answer: nothing is lost, the same reconcile is run again.
    pub async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        match key {
            Key::Environment(id) => self.environments.reconcile(id).await,
            Key::Lease(id) => self.leases.reconcile(id).await,
        }
    }
}

/// A Namespace from the cache, or read where the cache has not heard of it yet.
///
/// # Errors
/// When the API server does not answer.
pub(super) async fn namespace<C: Cluster>(
    context: &Context,
    cluster: &C,
    name: &str,
) -> Result<Option<NamespaceObject>, ClusterError> {
    let known = context.index().namespaces.get(name).cloned();
    match known {
        Some(known) => Ok(Some(known)),
        None => cluster.read_namespace(name).await,
    }
}

/// Another look at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Later {
    /// After how long.
    pub pause: Duration,
    /// What for.
    pub cause: Cause,
}

impl Later {
    /// Another look for a cause.
    pub const fn new(cause: Cause, pause: Duration) -> Self {
        Self { pause, cause }
    }

    /// Another look at what could not be settled now.
    pub const fn look(pause: Duration) -> Self {
        Self::new(Cause::Look, pause)
    }
}

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
            Self::Store(error) => error.category().as_str(),
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

#[cfg(test)]
mod churn;
#[cfg(test)]
mod tests;
