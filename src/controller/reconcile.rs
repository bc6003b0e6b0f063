//! The two reconcilers, and what they share.

use std::sync::Arc;

use super::context::Context;
use super::environment::EnvironmentReconciler;
use super::error::ReconcileError;
use super::lease::LeaseReconciler;
use super::outside::cluster::Cluster;
use super::outside::database::Database;
use crate::cache::Key;

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

#[cfg(test)]
mod churn;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unproven;
