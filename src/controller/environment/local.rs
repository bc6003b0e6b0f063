//! Which Local object stands for its company's row, and which other objects are reconciled when that changes.

use super::EnvironmentReconciler;
use crate::api::{
    CanonicalRef, Condition, ConditionStatus, ConditionType, Driver, EnvironmentPhase, EnvironmentStatus,
};
use crate::cache::Key;
use crate::cache::object::EnvironmentObject;
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::outside::error::ClusterError;
use crate::lifecycle::environment_status::LocalRole;
use crate::store::Request as _;
use crate::store::environment_object::{EnvironmentQuery, EnvironmentSnapshot};
use crate::store::local::{IsSpareLocal, OtherLocals};
use uuid::Uuid;

/// The part of a Local object among those of its company in this cluster.
pub(super) fn role(view: &EnvironmentSnapshot) -> Option<LocalRole> {
    let canonical = view.canonical.as_ref()?;
    Some(if canonical.id == view.id {
        LocalRole::Canonical
    } else {
        LocalRole::Duplicate(CanonicalRef {
            namespace: canonical.namespace.clone(),
            name: canonical.name.clone(),
        })
    })
}

/// What tells of the change where a Local has become a duplicate, or is none any more, and nothing is wrong with it.
pub(super) fn change_of_part(was: Option<EnvironmentPhase>, status: &EnvironmentStatus) -> Option<&Condition> {
    let duplicate = Some(EnvironmentPhase::Duplicate);
    let ready = status.conditions.first()?.status == ConditionStatus::True;
    let canonical = |condition: &&Condition| condition.type_ == ConditionType::Canonical;
    let part = status.conditions.iter().find(canonical)?;
    (ready && (was == duplicate) != (status.phase == duplicate)).then_some(part)
}

impl<D: Database, C: Cluster> EnvironmentReconciler<D, C> {
    /// Where an object that does not show so is the canonical one, the others of its company are looked at again: they may
    /// show another one still. Where another one is, and its fields were not written yet, it is looked at.
    pub(super) async fn tell_other_locals(
        &self,
        environment: &EnvironmentObject,
        view: &EnvironmentSnapshot,
        role: Option<&LocalRole>,
    ) -> Result<(), ReconcileError> {
        let shown = environment.status.as_ref().and_then(LocalRole::shown);
        if role == Some(&LocalRole::Canonical) && shown.as_ref() != role {
            let others = self
                .database
                .ask(OtherLocals(environment.meta.uid))
                .await
                .at(OtherLocals::NAME)?;
            self.context.wake(others.into_iter().map(Key::Environment));
        }
        let unwritten = view
            .canonical
            .as_ref()
            .filter(|canonical| canonical.generation.is_none());
        if let Some(canonical) = unwritten.filter(|canonical| canonical.id != environment.meta.uid) {
            self.context.wake([Key::Environment(canonical.id)]);
        }
        Ok(())
    }

    /// An object is gone: if it was a Local, another one may stand for the company's row now.
    pub(super) async fn tell_next_local(&self, gone: Uuid) -> Result<(), ReconcileError> {
        let known = self
            .context
            .cache()
            .environments
            .gone(gone)
            .map(|object| object.spec.driver);
        if known.is_some_and(|driver| driver != Driver::Local) {
            return Ok(());
        }
        let look = EnvironmentQuery {
            id: gone,
            namespace_uid: None,
            company_id: None,
            driver: Driver::Local,
        };
        let view = self.database.ask(look).await.at(EnvironmentQuery::NAME)?;
        if let Some(canonical) = view.canonical {
            self.context.wake([Key::Environment(canonical.id)]);
        }
        Ok(())
    }

    /// Deletes a duplicate that the operator itself has made, that nobody has edited and that no lease names. Says whether it
    /// was deleted, or what is known of it is out of date.
    pub(super) async fn delete_spare_local(
        &self,
        environment: &EnvironmentObject,
        view: &EnvironmentSnapshot,
        role: Option<&LocalRole>,
    ) -> Result<bool, ReconcileError> {
        let (meta, own) = (
            &environment.meta,
            view.object.as_ref().is_some_and(|object| object.operator_made),
        );
        let duplicate = matches!(role, Some(LocalRole::Duplicate(_)));
        if !own || !duplicate || meta.generation > 1 || meta.deleting {
            return Ok(false);
        }
        if self.context.cache().is_named_by_a_lease(&meta.namespace, &meta.name)
            || !self.database.ask(IsSpareLocal(meta.uid)).await.at(IsSpareLocal::NAME)?
        {
            return Ok(false);
        }
        match self.cluster.delete_environment(meta).await {
            Ok(()) => tracing::info!(namespace = meta.namespace, name = meta.name, "duplicate Local deleted"),
            Err(ClusterError::NotFound) => {}
            Err(ClusterError::Conflict) => self.read_environment_again(environment).await?,
            Err(error) => return Err(error).at("delete a duplicate Local"),
        }
        Ok(true)
    }
}
