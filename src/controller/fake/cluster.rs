//! The API server: objects by kind, Namespace and name, and versions that rise.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{EPOCH, decode, lock};
use crate::cache::object::{EnvironmentObject, LeaseObject, Meta, NamespaceObject, RunObject, Watched};
use crate::cache::{LOCAL_NAME, RunKey};
use crate::controller::outside::cluster::{Cluster, StatusPatch};
use crate::controller::outside::error::ClusterError;
use crate::controller::outside::event::Notice;
use crate::lifecycle::ResourceVersion;
use crate::random;
use crate::store::local_intent::LocalIntent;

/// What happens before a request is carried out, once.
type Before = Box<dyn FnOnce() + Send>;

/// The cluster; clones are the same one.
#[derive(Clone)]
pub struct FakeCluster {
    state: Arc<Mutex<State>>,
    begun: Instant,
}

impl Default for FakeCluster {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            begun: Instant::now(),
        }
    }
}

#[derive(Default)]
struct State {
    version: u64,
    objects: HashMap<(&'static str, String, String), Value>,
    /// Requests that time out, by verb and kind.
    failing: BTreeSet<&'static str>,
    before_patch: Option<Before>,
    patches: usize,
    notices: Vec<Notice>,
}

impl FakeCluster {
    /// Makes an object, or writes another one in its place.
    pub fn make<T: Watched>(&self, kind: &'static str, mut object: Value) -> T {
        let mut state = lock(&self.state);
        state.version += 1;
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert("resourceVersion".to_owned(), json!(state.version.to_string()));
        let seconds = i64::try_from(self.begun.elapsed().as_secs()).unwrap();
        let created = json!(jiff::Timestamp::from_second(EPOCH + seconds).unwrap().to_string());
        metadata.entry("creationTimestamp").or_insert(created);
        metadata.entry("generation").or_insert(json!(1));
        let key = key(kind, &object);
        state.objects.insert(key, object.clone());
        decode("", "", object)
    }

    /// Deletes an object; its last state, with the version of the deletion.
    pub fn remove<T: Watched>(&self, kind: &'static str, namespace: &str, name: &str) -> Option<T> {
        let mut state = lock(&self.state);
        state.version += 1;
        let version = state.version.to_string();
        let mut object = state.objects.remove(&(kind, namespace.to_owned(), name.to_owned()))?;
        object["metadata"]["resourceVersion"] = json!(version);
        Some(decode("", "", object))
    }

    /// All objects of a kind, and the version at which they are listed.
    pub fn list<T: Watched>(&self, kind: &'static str) -> (Vec<T>, ResourceVersion) {
        let state = lock(&self.state);
        let of_kind = state.objects.iter().filter(|((of, ..), _)| *of == kind);
        let objects = of_kind.map(|(_, object)| decode("", "", object.clone())).collect();
        let version = ResourceVersion::parse(&state.version.max(1).to_string()).unwrap();
        (objects, version)
    }

    /// An object as it stands.
    pub fn get(&self, kind: &'static str, namespace: &str, name: &str) -> Option<Value> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        lock(&self.state).objects.get(&key).cloned()
    }

    /// From here on such requests time out: "get namespaces", "create environments".
    pub fn fail(&self, request: &'static str) {
        lock(&self.state).failing.insert(request);
    }

    /// Does this right before the next status is written.
    pub fn before_next_patch(&self, before: impl FnOnce() + Send + 'static) {
        lock(&self.state).before_patch = Some(Box::new(before));
    }

    /// How many statuses were written.
    pub fn patches(&self) -> usize {
        lock(&self.state).patches
    }

    /// The Events of an object: whether it is a warning, and its reason.
    pub fn events(&self, name: &str) -> Vec<(bool, &'static str)> {
        let state = lock(&self.state);
        let of = state.notices.iter().filter(|notice| notice.regarding.name == name);
        of.map(|notice| (notice.warning, notice.reason)).collect()
    }

    fn try_to(&self, request: &str) -> Result<(), ClusterError> {
        if lock(&self.state).failing.contains(request) {
            return Err(ClusterError::Timeout);
        }
        Ok(())
    }

    fn read<T: Watched>(&self, kind: &'static str, namespace: &str, name: &str) -> Result<Option<T>, ClusterError> {
        self.try_to(&format!("get {kind}"))?;
        Ok(self
            .get(kind, namespace, name)
            .map(|object| decode("batch", "Job", object)))
    }

    fn patch<T: Watched>(&self, kind: &'static str, of: &Meta, status: StatusPatch) -> Result<T, ClusterError> {
        let before = lock(&self.state).before_patch.take();
        if let Some(before) = before {
            before();
        }
        self.try_to(&format!("patch {kind}"))?;
        let Some(mut object) = self.get(kind, &of.namespace, &of.name) else {
            return Err(ClusterError::NotFound);
        };
        if object["metadata"]["resourceVersion"] != of.resource_version.as_str() {
            return Err(ClusterError::Conflict);
        }
        lock(&self.state).patches += 1;
        match status {
            StatusPatch::Merge(status) => merge(&mut object["status"], status),
            StatusPatch::Replace(status) => object["status"] = status,
        }
        Ok(self.make(kind, object))
    }

    fn delete(&self, kind: &'static str, of: &Meta) -> Result<(), ClusterError> {
        let object = self.get(kind, &of.namespace, &of.name).ok_or(ClusterError::NotFound)?;
        if object["metadata"]["resourceVersion"] != of.resource_version.as_str() {
            return Err(ClusterError::Conflict);
        }
        lock(&self.state).objects.remove(&key(kind, &object));
        Ok(())
    }
}

fn key(kind: &'static str, object: &Value) -> (&'static str, String, String) {
    let field = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (kind, field("namespace"), field("name"))
}

/// A JSON merge patch.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(&key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

impl Cluster for FakeCluster {
    async fn patch_lease_status(&self, of: &Meta, status: StatusPatch) -> Result<LeaseObject, ClusterError> {
        self.patch("leases", of, status)
    }

    async fn patch_environment_status(
        &self,
        of: &Meta,
        status: StatusPatch,
    ) -> Result<EnvironmentObject, ClusterError> {
        self.patch("environments", of, status)
    }

    async fn delete_lease(&self, of: &Meta) -> Result<(), ClusterError> {
        self.delete("leases", of)
    }

    async fn create_local(&self, intent: &LocalIntent) -> Result<EnvironmentObject, ClusterError> {
        self.try_to("create environments")?;
        let metadata = json!({ "namespace": intent.namespace, "name": LOCAL_NAME, "uid": random::unique() });
        let local = json!({ "metadata": metadata, "spec": { "driver": "Local" } });
        Ok(self.make("environments", local))
    }

    async fn delete_environment(&self, of: &Meta) -> Result<(), ClusterError> {
        self.delete("environments", of)
    }

    async fn read_lease(&self, namespace: &str, name: &str) -> Result<Option<LeaseObject>, ClusterError> {
        self.read("leases", namespace, name)
    }

    async fn read_environment(&self, namespace: &str, name: &str) -> Result<Option<EnvironmentObject>, ClusterError> {
        self.read("environments", namespace, name)
    }

    async fn read_namespace(&self, name: &str) -> Result<Option<NamespaceObject>, ClusterError> {
        self.read("namespaces", "", name)
    }

    async fn read_run(&self, _version: &str, key: &RunKey) -> Result<Option<RunObject>, ClusterError> {
        self.read("jobs", &key.namespace, &key.name)
    }

    async fn notify(&self, notice: Notice) {
        lock(&self.state).notices.push(notice);
    }
}
