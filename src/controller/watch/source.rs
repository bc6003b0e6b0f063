//! What is watched: the objects of one kind, in one Namespace or in all.

use kube::core::{ApiResource, GroupVersionKind};

use crate::api::{Environment, EnvironmentLease};
use crate::runtime::configuration::RunKind;

/// What a watch watches.
#[derive(Clone, Debug)]
pub struct Source {
    /// Group, version and kind.
    pub kind: GroupVersionKind,
    /// The resource where it is known beforehand; else it is asked of the API server before every list, so that a kind
    /// whose CRD comes later, goes and comes back is found.
    pub resource: Option<ApiResource>,
    /// One Namespace, or all.
    pub namespace: Option<String>,
    /// One object of that name only (a Namespace, where the operator may not list them all).
    pub name: Option<String>,
}

impl Source {
    /// How readiness calls the watch: the kind, for one that is not the operator's own with its group, and the Namespace.
    pub fn display(&self) -> String {
        let GroupVersionKind { group, kind, .. } = &self.kind;
        let mut display = kind.clone();
        if self.resource.is_none() && !group.is_empty() {
            display = format!("{kind}.{group}");
        }
        match self.namespace.as_ref().or(self.name.as_ref()) {
            Some(namespace) => format!("{display}/{namespace}"),
            None => display,
        }
    }
}

/// The source of a kind that is known beforehand.
pub fn known<K: kube::Resource<DynamicType = ()>>(namespace: Option<&str>) -> Source {
    let resource = ApiResource::erase::<K>(&());
    let kind = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
    Source {
        kind,
        resource: Some(resource),
        namespace: namespace.map(str::to_owned),
        name: None,
    }
}

/// The Environments of a Namespace, or all.
pub fn environments(namespace: Option<&str>) -> Source {
    known::<Environment>(namespace)
}

/// The leases of a Namespace, or all.
pub fn leases(namespace: Option<&str>) -> Source {
    known::<EnvironmentLease>(namespace)
}

/// All Namespaces, or the one of this name.
pub fn namespaces(name: Option<&str>) -> Source {
    Source {
        name: name.map(str::to_owned),
        ..known::<k8s_openapi::api::core::v1::Namespace>(None)
    }
}

/// The run objects of a configured kind.
pub fn runs(kind: &RunKind, namespace: Option<&str>) -> Source {
    let kind = GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind);
    Source {
        kind,
        resource: None,
        namespace: namespace.map(str::to_owned),
        name: None,
    }
}
