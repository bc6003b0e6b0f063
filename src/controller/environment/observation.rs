//! What is known of an environment when it is decided upon.

use super::EnvironmentReconciler;
use crate::cache::object::{EnvironmentObject, NamespaceObject};
use crate::controller::error::{At as _, READ_NAMESPACE, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::store::environment_object::{EnvironmentQuery, EnvironmentSnapshot};
use crate::store::{Request as _, StoreError};

/// An environment and its Namespace, looked at.
pub(super) struct Observation {
    /// What the database holds.
    pub(super) view: EnvironmentSnapshot,
    /// The Namespace, if it is there: read live until the object is recorded.
    pub(super) namespace: Option<NamespaceObject>,
}

impl<D: Database, C: Cluster> EnvironmentReconciler<D, C> {
    /// Looks into the database. Until the object is recorded its Namespace is read live, for that is what decides its
    /// company: the watch may not have heard yet that another Namespace has taken the name.
    pub(super) async fn observe(&self, environment: &EnvironmentObject) -> Result<Observation, ReconcileError> {
        let observation = self.look(environment).await?;
        match observation.view.unreadable {
            // It is there, whatever it says: to go on as without one would show it as gone.
            Some(message) => Err(StoreError::Refused { message }).at(EnvironmentQuery::NAME),
            None => Ok(observation),
        }
    }

    async fn look(&self, environment: &EnvironmentObject) -> Result<Observation, ReconcileError> {
        let question = |namespace: Option<&NamespaceObject>| EnvironmentQuery {
            id: environment.meta.uid,
            namespace_uid: namespace.map(|namespace| namespace.meta.uid),
            company_id: namespace.and_then(|namespace| namespace.company().ok()),
            driver: environment.spec.driver,
        };
        let cached = self
            .context
            .cache()
            .namespaces
            .get(&environment.meta.namespace)
            .cloned();
        let view = self
            .database
            .ask(question(cached.as_ref()))
            .await
            .at(EnvironmentQuery::NAME)?;
        if !view.leading {
            return Err(ReconcileError::NotLeading);
        }
        if view.object.is_some() {
            return Ok(Observation {
                view,
                namespace: cached,
            });
        }
        let live = self
            .cluster
            .read_namespace(&environment.meta.namespace)
            .await
            .at(READ_NAMESPACE)?;
        if live.as_ref().map(NamespaceObject::decides_company) == cached.as_ref().map(NamespaceObject::decides_company)
        {
            return Ok(Observation { view, namespace: live });
        }
        let view = self
            .database
            .ask(question(live.as_ref()))
            .await
            .at(EnvironmentQuery::NAME)?;
        Ok(Observation { view, namespace: live })
    }
}
