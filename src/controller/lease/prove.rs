//! Decides about a lease, and proves what the decision is not carried out without.

use super::LeaseReconciler;
use super::observation::Observation;
use crate::controller::error::{At as _, READ_NAMESPACE, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::outside::error::ClusterError;
use crate::lifecycle::lease::{Decision, Environment, Proof, decide};
use crate::projection::choice::{choice, environment};
use crate::projection::observed::{Choice, ObservedLease};
use crate::store::lease_object::{EnvironmentChoice, LeaseSnapshot};

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// The decision, all that it needs proven. What is proven replaces what was observed, and may lead to another decision; each
    /// proof is asked for once.
    pub(super) async fn decide(
        &self,
        observed: &ObservedLease,
        observation: &mut Observation,
    ) -> Result<Decision, ReconcileError> {
        let mut proven = Vec::new();
        let decision = loop {
            let decision = decide(&observation.facts);
            match decision.needs_proof(&observation.facts) {
                Some(proof) if !proven.contains(&proof) => {
                    self.prove(proof, observed, observation).await?;
                    proven.push(proof);
                }
                _ => break decision,
            }
        };
        // Something else holds it back: it holds up nobody in the wait queue.
        if observation.is_claim(observed) && !proven.contains(&Proof::Room) {
            self.context.stand_aside(observed.looked());
        }
        Ok(decision)
    }

    async fn prove(
        &self,
        proof: Proof,
        observed: &ObservedLease,
        observation: &mut Observation,
    ) -> Result<(), ReconcileError> {
        let facts = &mut observation.facts;
        match (proof, observed.present()) {
            (Proof::Room, Some(lease)) => facts.capacity = self.room_for(observed, lease, &observation.view),
            (Proof::Silence, Some(lease)) => facts.heartbeat_missed = self.is_silent(lease).await,
            (Proof::Room | Proof::Silence, None) => {}
            (Proof::Namespace, _) => {
                facts.namespace_terminating = self.namespace_is_going(observed, &observation.view).await?;
            }
            (Proof::Environment, _) => {
                facts.environment = self
                    .environment_now(observed, &observation.view, observation.chosen)
                    .await;
            }
        }
        Ok(())
    }

    /// What is known of the environment after a live read of it.
    async fn environment_now(&self, observed: &ObservedLease, view: &LeaseSnapshot, chosen: Choice) -> Environment {
        let read = self.read_environment(chosen.environment).await;
        let cache = self.context.cache();
        match read {
            Err(error) => {
                tracing::warn!(lease = %observed.id, %error, "an environment can't be read");
                Environment::NotMirrored // whether it is to be archived is not known
            }
            Ok(true) if choice(&cache, observed) == chosen.environment => {
                environment(&cache, observed, view, chosen.environment, chosen.was_gone)
            }
            Ok(_) => Environment::NotFound, // it is gone, or another one has its name: to be looked at
        }
    }

    /// Tells the cache what a live read says of the environment that a claim names; whether there is still one of its name, as
    /// far as it names one.
    async fn read_environment(&self, chosen: Option<EnvironmentChoice>) -> Result<bool, ClusterError> {
        let Some(EnvironmentChoice::Object(id)) = chosen else {
            return Ok(true);
        };
        let Some(known) = self.context.cache().environments.get(id).cloned() else {
            return Ok(false);
        };
        let read = self
            .cluster
            .read_environment(&known.meta.namespace, &known.meta.name)
            .await?;
        let is_there = read.is_some();
        if let Some(environment) = read {
            self.context.learn(|cache| cache.read_environment(environment));
        }
        Ok(is_there)
    }

    async fn namespace_is_going(&self, observed: &ObservedLease, view: &LeaseSnapshot) -> Result<bool, ReconcileError> {
        let of_object = observed.object.as_ref().map(|lease| &lease.meta.namespace);
        let Some(name) = of_object.or(view.object.as_ref().map(|row| &row.namespace)) else {
            return Ok(false);
        };
        Ok(self
            .cluster
            .read_namespace(name)
            .await
            .at(READ_NAMESPACE)?
            .is_none_or(|namespace| namespace.meta.deleting))
    }
}
