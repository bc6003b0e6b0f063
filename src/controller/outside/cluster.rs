//! The seam to the cluster: the few reads and writes that reconcilers make, and their implementation by a Kubernetes client.
//!
//! Every request has a timeout. A read answers "not there" only to a 404 whose body names the object: the 404 of a missing
//! CRD is an error (I5).

use axum::http;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use kube::api::{Api, DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::request::Request;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, Resource as _};
use serde_json::{Value, json};

use super::error::{ClusterError, REQUEST_TIMEOUT};
use super::event::{Emitter, Notice};
use super::turns::Turns;
use crate::api::{Environment, EnvironmentLease, LOCAL_INTENT_ANNOTATION};
use crate::cache::object::{DecodeError, EnvironmentObject, LeaseObject, Meta, NamespaceObject, RunObject, Watched};
use crate::cache::{LOCAL_NAME, RunKey};
use crate::controller::outside::permissions::Permissions;
use crate::runtime::NAME;
use crate::store::local_intent::LocalIntent;

/// What reconcilers ask of the cluster. Nothing else of it is known to them.
pub trait Cluster: Send + Sync + 'static {
    /// Writes a lease's status if the object still has the version that was decided upon.
    fn patch_lease_status(
        &self,
        of: &Meta,
        status: StatusPatch,
    ) -> impl Future<Output = Result<LeaseObject, ClusterError>> + Send;

    /// Writes an environment's status if the object still has the version that was decided upon.
    fn patch_environment_status(
        &self,
        of: &Meta,
        status: StatusPatch,
    ) -> impl Future<Output = Result<EnvironmentObject, ClusterError>> + Send;

    /// Deletes a lease if the object still is the one, in the version, that was decided upon.
    fn delete_lease(&self, of: &Meta) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// Makes the Environment `local` that was intended; the one that is there already is as good.
    fn create_local(
        &self,
        intent: &LocalIntent,
    ) -> impl Future<Output = Result<EnvironmentObject, ClusterError>> + Send;

    /// Deletes an environment if it is still the one and has still the version that was decided upon.
    fn delete_environment(&self, of: &Meta) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// Reads a lease afresh; `None` where it certainly does not exist.
    fn read_lease(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<LeaseObject>, ClusterError>> + Send;

    /// Reads an environment afresh; `None` where it certainly does not exist.
    fn read_environment(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<EnvironmentObject>, ClusterError>> + Send;

    /// Reads a Namespace afresh; `None` where it certainly does not exist.
    fn read_namespace(&self, name: &str) -> impl Future<Output = Result<Option<NamespaceObject>, ClusterError>> + Send;

    /// Reads a run object afresh; `None` where it certainly does not exist.
    fn read_run(
        &self,
        version: &str,
        key: &RunKey,
    ) -> impl Future<Output = Result<Option<RunObject>, ClusterError>> + Send;

    /// Publishes an Event. Best effort: an Event that can't be written is counted, never retried.
    fn notify(&self, notice: Notice) -> impl Future<Output = ()> + Send;
}

/// The cluster behind a Kubernetes client.
#[derive(Clone)]
pub struct KubeCluster {
    client: Client,
    events: Emitter,
    permissions: Permissions,
    turns: Turns,
}

impl KubeCluster {
    /// A cluster that is reached through `client`.
    pub fn new(client: Client, events: Emitter, permissions: Permissions) -> Self {
        Self {
            client,
            events,
            permissions,
            turns: Turns::default(),
        }
    }

    async fn patch_status<T: Watched>(
        &self,
        resource: &ApiResource,
        of: &Meta,
        status: StatusPatch,
    ) -> Result<T, ClusterError> {
        let request = Request::new(DynamicObject::url_path(resource, Some(&of.namespace)));
        // The version is the only guard there is: a uid in the patch of a status is ignored by the API server.
        let version = of.resource_version.as_str();
        let parameters = PatchParams {
            field_manager: Some(NAME.to_owned()),
            ..PatchParams::default()
        };
        let request = match status {
            StatusPatch::Merge(status) => {
                let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
                request.patch_subresource("status", &of.name, &parameters, &Patch::Merge(&patch))
            }
            StatusPatch::Replace(status) => {
                let operation = |path: &str, value: Value| json!({ "op": "add", "path": path, "value": value });
                let version = operation("/metadata/resourceVersion", version.into());
                let patch = json!([version, operation("/status", status)]);
                let request = request.patch_subresource("status", &of.name, &parameters, &Patch::Merge(&patch));
                request.map(|mut request| {
                    let of_operations = HeaderValue::from_static("application/json-patch+json");
                    request.headers_mut().insert(CONTENT_TYPE, of_operations);
                    request
                })
            }
        };
        let patched = self.ask(&of.namespace, request).await;
        self.permissions
            .note("patch", &format!("{}/status", resource.plural), &patched);
        read(resource, &patched?)
    }

    /// Sends a request about an object of a Namespace, in its turn; the answer as text, for a tree of its values may take a hundred
    /// times the room.
    async fn ask(
        &self,
        namespace: &str,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<String, ClusterError> {
        let request = request.map_err(kube::Error::BuildRequest)?;
        let _turn = self.turns.take(namespace).await;
        within(self.client.request_text(request)).await
    }

    async fn delete(&self, resource: &ApiResource, of: &Meta) -> Result<(), ClusterError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &of.namespace, resource);
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: Some(of.uid.to_string()),
            resource_version: Some(of.resource_version.as_str().to_owned()),
        });
        let _turn = self.turns.take(&of.namespace).await;
        let deleted = within(api.delete(&of.name, &parameters)).await;
        self.permissions.note("delete", &resource.plural, &deleted);
        deleted.map(drop)
    }

    async fn read<T: Watched>(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, ClusterError> {
        // A Namespace is in none, and is read for the objects that are in it.
        let (inside, of) = if namespace.is_empty() {
            (None, name)
        } else {
            (Some(namespace), namespace)
        };
        let request = Request::new(DynamicObject::url_path(resource, inside));
        let answer = self.ask(of, request.get(name, &GetParams::default())).await;
        self.permissions.note("get", &resource.plural, &answer);
        match answer {
            Ok(object) => read(resource, &object).map(Some),
            Err(ClusterError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Cluster for KubeCluster {
    async fn patch_lease_status(&self, of: &Meta, status: StatusPatch) -> Result<LeaseObject, ClusterError> {
        self.patch_status(&ApiResource::erase::<EnvironmentLease>(&()), of, status)
            .await
    }

    async fn patch_environment_status(
        &self,
        of: &Meta,
        status: StatusPatch,
    ) -> Result<EnvironmentObject, ClusterError> {
        self.patch_status(&ApiResource::erase::<Environment>(&()), of, status)
            .await
    }

    async fn delete_lease(&self, of: &Meta) -> Result<(), ClusterError> {
        self.delete(&ApiResource::erase::<EnvironmentLease>(&()), of).await
    }

    async fn delete_environment(&self, of: &Meta) -> Result<(), ClusterError> {
        self.delete(&ApiResource::erase::<Environment>(&()), of).await
    }

    async fn create_local(&self, intent: &LocalIntent) -> Result<EnvironmentObject, ClusterError> {
        let resource = ApiResource::erase::<Environment>(&());
        let request = Request::new(DynamicObject::url_path(&resource, Some(&intent.namespace)));
        let mut local = DynamicObject::new(LOCAL_NAME, &resource).data(json!({ "spec": { "driver": "Local" } }));
        let annotation = (LOCAL_INTENT_ANNOTATION.to_owned(), intent.nonce.to_string());
        local.metadata.annotations = Some([annotation].into());
        let parameters = PostParams {
            field_manager: Some(NAME.to_owned()),
            ..PostParams::default()
        };
        let local = serde_json::to_vec(&local).map_err(DecodeError::Field)?;
        let created = self.ask(&intent.namespace, request.create(&parameters, local)).await;
        self.permissions.note("create", &resource.plural, &created);
        match created {
            Ok(created) => read(&resource, &created),
            Err(ClusterError::Api(kube::Error::Api(status))) if status.reason == "AlreadyExists" => self
                .read(&resource, &intent.namespace, LOCAL_NAME)
                .await?
                .ok_or(ClusterError::Conflict),
            Err(error) => Err(error),
        }
    }

    async fn read_lease(&self, namespace: &str, name: &str) -> Result<Option<LeaseObject>, ClusterError> {
        self.read(&ApiResource::erase::<EnvironmentLease>(&()), namespace, name)
            .await
    }

    async fn read_environment(&self, namespace: &str, name: &str) -> Result<Option<EnvironmentObject>, ClusterError> {
        self.read(&ApiResource::erase::<Environment>(&()), namespace, name)
            .await
    }

    async fn read_namespace(&self, name: &str) -> Result<Option<NamespaceObject>, ClusterError> {
        self.read(
            &ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&()),
            "",
            name,
        )
        .await
    }

    async fn read_run(&self, version: &str, key: &RunKey) -> Result<Option<RunObject>, ClusterError> {
        let kind = GroupVersionKind::gvk(&key.group, version, &key.kind);
        let (resource, _) = within(kube::discovery::pinned_kind(&self.client, &kind)).await?;
        self.read(&resource, &key.namespace, &key.name).await
    }

    async fn notify(&self, notice: Notice) {
        self.events.emit(notice).await;
    }
}

fn read<T: Watched>(resource: &ApiResource, object: &str) -> Result<T, ClusterError> {
    Ok(T::read(&resource.group, &resource.kind, object)?)
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ClusterError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ClusterError::Timeout),
    }
}

/// How a status is written.
#[derive(Clone, Debug, PartialEq)]
pub enum StatusPatch {
    /// As the difference from what is shown.
    Merge(Value),
    /// As a whole, whatever is shown: not all of that could be read.
    Replace(Value),
}

impl StatusPatch {
    /// What turns the status that is shown into another; `unreadable`: not all that is shown could be read.
    pub fn between(shown: &Value, unreadable: bool, wanted: Value) -> Self {
        if unreadable {
            Self::Replace(wanted)
        } else {
            Self::Merge(complete_patch(shown, &wanted))
        }
    }
}

/// The merge patch that turns one status into the other: what is not there any more becomes null.
fn complete_patch(before: &Value, after: &Value) -> Value {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let kept = after.iter().map(|(key, value)| {
                let patched = before
                    .get(key)
                    .map_or_else(|| value.clone(), |old| complete_patch(old, value));
                (key.clone(), patched)
            });
            let dropped = before
                .keys()
                .filter(|key| !after.contains_key(*key))
                .map(|key| (key.clone(), Value::Null));
            Value::Object(kept.chain(dropped).collect())
        }
        _ => after.clone(),
    }
}
