//! Kinds of the tests' own making: custom resources that stand for those of a workflow engine.

use harness::objects;
use harness::wait::eventually;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::release::RunKind;
use super::{Claim, LIMIT, TestEnvironment, lease};

/// A kind in a group of the world's own, so that no other test meets it.
#[derive(Clone, Debug)]
pub struct Kind {
    group: String,
    kind: &'static str,
    scope: &'static str,
}

impl Kind {
    /// A kind whose objects are in Namespaces.
    pub fn of(world: &TestEnvironment<'_>, kind: &'static str) -> Self {
        Self {
            group: format!("{}.example.test", world.namespace.name()),
            kind,
            scope: "Namespaced",
        }
    }

    /// The same for objects that are in none.
    #[must_use]
    pub fn cluster_scoped(self) -> Self {
        Self {
            scope: "Cluster",
            ..self
        }
    }

    /// As the operator is told of it.
    pub fn run_kind(&self) -> RunKind {
        RunKind::of(&self.version("v1"), self.kind, &self.plural())
    }

    /// Lower-case plural.
    pub fn plural(&self) -> String {
        format!("{}s", self.kind.to_lowercase())
    }

    /// A claim called `of-<run>` for the object `run` of this kind.
    pub fn claim(&self, run: &str) -> Claim {
        self.claim_through("v1", run)
    }

    /// The same, naming another version.
    pub fn claim_through(&self, version: &str, run: &str) -> Claim {
        lease(&format!("of-{run}")).run_object(&self.version(version), self.kind, run)
    }

    /// The apiVersion of a version.
    pub fn version(&self, version: &str) -> String {
        format!("{}/{version}", self.group)
    }

    /// A reference with a uid.
    pub fn reference(&self, run: &str, uid: &str) -> Value {
        json!({ "objectRef": { "apiVersion": self.version("v1"), "kind": self.kind, "name": run, "uid": uid } })
    }

    /// Installs the kind and waits until it is served.
    pub async fn install(&self, world: &TestEnvironment<'_>) {
        self.define(world, true).await;
        self.is_served(world, true).await;
    }

    /// Has the API server serve the kind, or not any more: its objects stay where they are.
    pub async fn serve(&self, world: &TestEnvironment<'_>, served: bool) {
        self.define(world, served).await;
        self.is_served(world, served).await;
    }

    /// Deletes the kind, and with it all its objects.
    pub async fn remove(&self, world: &TestEnvironment<'_>) {
        let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
        let name = format!("{}.{}", self.plural(), self.group);
        definitions.delete(&name, &DeleteParams::default()).await.unwrap();
        self.is_served(world, false).await;
    }

    /// Makes an object of this kind.
    pub async fn create(&self, world: &TestEnvironment<'_>, name: &str) -> DynamicObject {
        let object = DynamicObject::new(name, &self.resource()).data(json!({ "spec": {} }));
        let created = self.objects(world).create(&PostParams::default(), &object).await;
        created.unwrap()
    }

    /// Writes an object's status, as its controller would.
    pub async fn set_status(&self, world: &TestEnvironment<'_>, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.objects(world)
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Deletes an object.
    pub async fn delete(&self, world: &TestEnvironment<'_>, name: &str) {
        self.objects(world)
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    fn objects(&self, world: &TestEnvironment<'_>) -> Api<DynamicObject> {
        match self.scope {
            "Cluster" => Api::all_with(world.client.clone(), &self.resource()),
            _ => Api::namespaced_with(world.client.clone(), world.namespace.name(), &self.resource()),
        }
    }

    fn resource(&self) -> ApiResource {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&self.group, "v1", self.kind), &self.plural())
    }

    async fn define(&self, world: &TestEnvironment<'_>, served: bool) {
        let version = |name: &str, storage: bool| {
            let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
            json!({
                "name": name, "served": served, "storage": storage, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": schema },
            })
        };
        let singular = self.kind.to_lowercase();
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{}.{}", self.plural(), self.group) },
            "spec": {
                "group": self.group,
                "scope": self.scope,
                "names": { "kind": self.kind, "plural": self.plural(), "singular": singular },
                "versions": [version("v1", true), version("v1beta1", false)],
            },
        });
        objects::apply(&world.client, "default", &definition.to_string())
            .await
            .unwrap();
    }

    async fn is_served(&self, world: &TestEnvironment<'_>, served: bool) {
        let what = format!("{} is {}served", self.kind, if served { "" } else { "not " });
        eventually(&what, LIMIT, async || {
            match self.objects(world).list(&Default::default()).await {
                Ok(_) if served => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 && !served => Ok(()),
                other => Err(format!("{:?}", other.map(|list| list.items.len()))),
            }
        })
        .await;
    }
}
