//! Which environment a claim chooses, and what is known of it. Pure.

use std::sync::Arc;

use uuid::Uuid;

use super::observed::ObservedLease;
use crate::api::{ConditionStatus, Driver, Reason};
use crate::cache::object::EnvironmentObject;
use crate::cache::{Cache, Key, LOCAL_NAME};
use crate::lifecycle::EnvironmentState;
use crate::lifecycle::lease::Environment;
use crate::store::lease_object::{EnvironmentChoice, LeaseSnapshot, RunLook};

/// Which environment a claim chooses; none where it names one that is not there.
///
/// Asked once for each observation: the look answers for what was chosen before it, and the cache may say something else after.
pub fn choice(cache: &Cache, observed: &ObservedLease) -> Option<EnvironmentChoice> {
    let lease = observed.object.as_ref()?;
    let Some(reference) = &lease.spec.environment_ref else {
        return Some(EnvironmentChoice::Default);
    };
    match cache.environments.named(&lease.meta.namespace, &reference.name) {
        Some(environment) => Some(EnvironmentChoice::Object(environment.meta.uid)),
        None if reference.name == LOCAL_NAME => Some(EnvironmentChoice::Local),
        None => None,
    }
}

/// What is known of the environment: of the row where there is one, else of the one that was chosen before the look.
pub fn environment(
    cache: &Cache,
    observed: &ObservedLease,
    view: &LeaseSnapshot,
    choice: Option<EnvironmentChoice>,
    was_gone: bool,
) -> Environment {
    if view.object.is_none() {
        match choice {
            None => return Environment::NotFound,
            Some(EnvironmentChoice::Default) if !agent_is_known(observed, view) => return Environment::Unsettled,
            Some(EnvironmentChoice::Default | EnvironmentChoice::Local | EnvironmentChoice::Object(_)) => {}
        }
    }
    match (&view.environment, choice) {
        _ if view.environment_deleted => Environment::Deleted,
        (Some(row), _) if view.object.is_some() && (was_gone || is_gone(cache, row.id, row.driver)) => {
            Environment::Deleted
        }
        (Some(row), Some(EnvironmentChoice::Object(id)))
            if row.status == EnvironmentState::Archived && is_to_be_active(cache, id) =>
        {
            Environment::NotMirrored
        }
        (Some(row), Some(EnvironmentChoice::Object(id)))
            if view.object.is_none() && is_of_another_driver(cache, id, row.driver) =>
        {
            Environment::NotMirrored
        }
        (Some(row), _) if row.status == EnvironmentState::Archived => Environment::Archived,
        (Some(_), _) => Environment::Active,
        (None, Some(EnvironmentChoice::Object(_))) => Environment::NotMirrored,
        (None, _) if local_object(cache, observed, view).is_some() => Environment::NotMirrored,
        (None, _) => Environment::LocalMissing,
    }
}

/// Whether the object wants its row to be active: a row that is not yet, or that another writer has archived, will be.
fn is_to_be_active(cache: &Cache, id: Uuid) -> bool {
    cache.environments.get(id).is_some_and(|environment| {
        let spec = &environment.spec;
        // A Local's row belongs to the company: what the spec leaves out is not written, and nothing is repaired.
        spec.driver != Driver::Local && spec.archived != Some(true) && environment.check().is_ok()
    })
}

/// Whether another writer has given the row another driver than its object has: a grant would be of something else.
fn is_of_another_driver(cache: &Cache, id: Uuid, driver: Driver) -> bool {
    let environment = cache.environments.get(id);
    environment.is_some_and(|environment| environment.spec.driver != driver)
}

/// The Environment object whose reconcile makes the row that a claim waits for.
pub fn awaited_object(cache: &Cache, observed: &ObservedLease, view: &LeaseSnapshot) -> Option<Uuid> {
    match choice(cache, observed) {
        Some(EnvironmentChoice::Object(id)) => Some(id),
        Some(EnvironmentChoice::Local | EnvironmentChoice::Default) => local_object(cache, observed, view),
        None => None,
    }
}

/// Whether the environment's object is gone, though its row may not say so yet. A Local's row has an id of its own.
fn is_gone(cache: &Cache, id: Uuid, driver: Driver) -> bool {
    driver != Driver::Local && (cache.environments.gone(id).is_some() || cache.is_missed_deletion(Key::Environment(id)))
}

/// The same of the environment that the lease shows. Asked before the look, like the choice: after a look that came too early
/// for the archived row the cache may have forgotten that the object is gone.
pub fn shown_is_gone(cache: &Cache, observed: &ObservedLease) -> bool {
    let status = observed.object.as_ref().and_then(|lease| lease.status.as_ref());
    let shown = status.and_then(|status| status.environment.as_ref());
    shown.is_some_and(|shown| is_gone(cache, shown.id, shown.driver))
}

/// Whether the agent whose default environment counts is there: that of the spec, else the run's.
fn agent_is_known(observed: &ObservedLease, view: &LeaseSnapshot) -> bool {
    let named = observed
        .object
        .as_ref()
        .is_some_and(|lease| lease.spec.agent_id.is_some());
    if named {
        !view.agent_missing
    } else {
        view.run != RunLook::Missing
    }
}

/// An object that stands for the Local of the lease's company, or will as soon as it is mirrored.
pub fn local_object(cache: &Cache, observed: &ObservedLease, view: &LeaseSnapshot) -> Option<Uuid> {
    if view.local_object.is_some() {
        return view.local_object;
    }
    let lease = observed.object.as_ref()?;
    let company_of = |namespace: &str| cache.namespaces.get(namespace)?.company().ok();
    let company = view.recorded_company.or_else(|| company_of(&lease.meta.namespace))?;
    // The Namespace's label may have been changed since the object was mirrored: then it stays its former company's.
    let is_of_another = |environment: &EnvironmentObject| {
        let shown = environment.status.as_ref().and_then(|status| status.company_id);
        shown.is_some_and(|shown| shown != company)
    };
    let promising = |environment: &&Arc<EnvironmentObject>| {
        environment.spec.driver == Driver::Local
            && !environment.meta.deleting
            && fault(environment).is_none()
            && !is_of_another(environment)
    };
    let local = cache.environments_of_company(company).find(promising);
    local.map(|environment| environment.meta.uid)
}

/// Why an object can't be mirrored, where it says so.
pub fn fault(environment: &EnvironmentObject) -> Option<String> {
    let ready = environment.status.as_ref()?.conditions.first()?;
    let passing = matches!(ready.reason, Reason::Waiting | Reason::StoreUnavailable);
    (ready.status == ConditionStatus::False && !passing).then(|| {
        let (namespace, name) = (&environment.meta.namespace, &environment.meta.name);
        format!("environment {name} of namespace {namespace}: {}", ready.message)
    })
}

#[cfg(test)]
mod tests;
