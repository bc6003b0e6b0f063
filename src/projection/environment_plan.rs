//! What is to be done about the row of an environment that is there. Pure.

use uuid::Uuid;

use crate::api::{CompactObject, Driver, Reason};
use crate::cache::LOCAL_NAME;
use crate::cache::object::{EnvironmentObject, NamespaceObject};
use crate::lifecycle::EnvironmentState;
use crate::projection::company::{self, Company};
use crate::projection::driver;
use crate::store::environment_object::EnvironmentSnapshot;
use crate::store::environments::EnvironmentSync;
use crate::store::{Mode, NamespaceBinding, ObjectVersion};

/// What is to be done about the row of an environment that is there.
pub enum Plan {
    /// The spec can't be mirrored; the last good row stays.
    Fault(Reason, String),
    /// The row says what the spec says.
    InStep,
    /// The row is to be written.
    Sync(Box<EnvironmentSync>),
}

/// Plans the row. Pure.
pub fn plan(
    environment: &EnvironmentObject,
    view: &EnvironmentSnapshot,
    namespace: Option<&NamespaceObject>,
    mode: Mode,
) -> Plan {
    if let Err(message) = environment.check() {
        return Plan::Fault(Reason::InvalidSpec, message);
    }
    let (company_id, binding) = match (&view.object, namespace) {
        (Some(object), _) => (object.company_id, None),
        (None, Some(namespace)) if namespace.meta.deleting => {
            return Plan::Fault(Reason::Waiting, "the namespace is being deleted".to_owned());
        }
        (None, Some(namespace)) => {
            match company::of_new_object(namespace, view.recorded_company, view.company_exists, mode) {
                Company::Known(id, binding) => (id, binding),
                Company::Doubt(reason, message) => return Plan::Fault(reason, message),
            }
        }
        (None, None) => return Plan::Fault(Reason::Waiting, "the namespace is gone".to_owned()),
    };
    let sync = wanted(environment, company_id, binding);
    if in_step(&sync, view) {
        Plan::InStep
    } else {
        Plan::Sync(Box::new(sync))
    }
}

fn wanted(environment: &EnvironmentObject, company_id: Uuid, binding: Option<NamespaceBinding>) -> EnvironmentSync {
    let (meta, spec) = (&environment.meta, &environment.spec);
    let local = spec.driver == Driver::Local;
    let state = |archived| {
        if archived {
            EnvironmentState::Archived
        } else {
            EnvironmentState::Active
        }
    };
    EnvironmentSync {
        id: meta.uid,
        version: ObjectVersion {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            resource_version: meta.resource_version.clone(),
            generation: meta.generation,
        },
        company_id,
        binding,
        driver: spec.driver,
        name: spec
            .display_name
            .clone()
            .or_else(|| (!local).then(|| meta.name.clone())),
        description: spec.description.clone(),
        // For a Local what is absent writes nothing: the row belongs to the company, not to the object.
        status: if local {
            spec.archived.map(state)
        } else {
            Some(state(spec.archived.unwrap_or(false)))
        },
        config: driver::config(spec),
        metadata: spec.metadata.as_ref().map(CompactObject::members),
        max_active_leases: spec.max_active_leases,
        created_at: meta.created_at,
        local_intent: meta.local_intent.filter(|_| local && meta.name == LOCAL_NAME),
    }
}

/// Whether row and record say what is wanted. A Local's fields are never repaired: two clusters would fight over them.
fn in_step(sync: &EnvironmentSync, view: &EnvironmentSnapshot) -> bool {
    let (Some(row), Some(object)) = (&view.row, &view.object) else {
        return false;
    };
    if object.generation < sync.version.generation
        || object.deleted_at.is_some()
        || object.environment_id != row.id
        || row.driver != sync.driver
        || !view.is_chosen(sync.driver, sync.version.generation)
    {
        return false;
    }
    let metadata = sync.metadata.clone().map(serde_json::Value::Object);
    sync.driver == Driver::Local
        || (Some(&row.name) == sync.name.as_ref()
            && row.description == sync.description
            && Some(row.status) == sync.status
            && row.config == sync.config
            && row.metadata == metadata
            && object.max_active_leases == sync.max_active_leases)
}
