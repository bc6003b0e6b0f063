//! An Environment that leases hold is deleted only by who may manage it; nothing that cleans up is held up.

use environment_operator::api::Environment;
use harness::control_plane::ControlPlane;
use harness::namespace::Namespace;
use harness::wait::eventually;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as NamespaceObject};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::installed::{LIMIT, OPERATOR, User, installed, refused};

/// A namespace with two Environments: leases hold `held`, and none holds `free`.
struct Scene {
    control_plane: &'static ControlPlane,
    namespace: Namespace,
    admin: User,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let control_plane = installed().await;
        let client = control_plane.client().await.unwrap();
        let scene = Self {
            control_plane,
            namespace: Namespace::create(&client, name).await.unwrap(),
            admin: User { client },
        };
        let environments = scene.environments(&scene.admin);
        for name in ["held", "free"] {
            let spec = serde_json::from_value(json!({ "driver": "Local" })).unwrap();
            let environment = Environment::new(name, spec);
            environments.create(&PostParams::default(), &environment).await.unwrap();
        }
        scene.count("held", 2).await;
        scene.count("free", 0).await;
        scene
    }

    fn environments(&self, user: &User) -> Api<Environment> {
        user.environments(self.namespace.name())
    }

    /// Says as the operator how many leases hold an Environment.
    async fn count(&self, name: &str, leases: i32) {
        let operator = User::named(self.control_plane, OPERATOR).await;
        let patch = Patch::Merge(json!({ "status": { "activeLeases": leases } }));
        let environments = self.environments(&operator);
        let shown = environments.patch_status(name, &PatchParams::default(), &patch).await;
        assert_eq!(shown.unwrap().status.unwrap().active_leases, Some(leases));
    }

    async fn user(&self, role: &str) -> User {
        User::bound(self.control_plane, &self.admin.client, self.namespace.name(), role).await
    }

    async fn is_gone(&self, name: &str) {
        let environments = self.environments(&self.admin);
        eventually(
            &format!("environment {name} is gone"),
            LIMIT,
            async || match environments.get_opt(name).await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await;
    }
}

#[tokio::test]
async fn an_environment_that_leases_hold_is_deleted_only_by_who_may_manage_it() {
    let scene = Scene::new("environments").await;
    let now = DeleteParams::default();
    for role in ["edit", "demo-environment-operator-environment-editor"] {
        let environments = scene.environments(&scene.user(role).await);
        let try_out = DeleteParams {
            dry_run: true,
            ..DeleteParams::default()
        };
        environments.delete("free", &try_out).await.unwrap();
        let said = refused(environments.delete("held", &now).await.map(drop)).unwrap();
        assert!(
            said.contains("leases hold this environment (2 active)"),
            "{role}: {said}"
        );
        assert!(said.contains("the verb manage"), "{role}: {said}");
    }
    let editor = scene.environments(&scene.user("edit").await);
    let all = editor.delete_collection(&now, &ListParams::default()).await.map(drop);
    refused(all).unwrap();
    scene
        .environments(&scene.user("admin").await)
        .delete("held", &now)
        .await
        .unwrap();
    scene.is_gone("held").await;
}

#[tokio::test]
async fn once_no_lease_holds_it_who_may_delete_it_does() {
    let scene = Scene::new("environments-free").await;
    let editor = scene.environments(&scene.user("edit").await);
    refused(editor.delete("held", &DeleteParams::default()).await.map(drop)).unwrap();
    scene.count("held", 0).await;
    editor.delete("held", &DeleteParams::default()).await.unwrap();
    scene.is_gone("held").await;
}

#[tokio::test]
async fn a_namespace_goes_with_environments_that_leases_hold() {
    let scene = Scene::new("environments-gone").await;
    let namespaces: Api<NamespaceObject> = Api::all(scene.admin.client.clone());
    let name = scene.namespace.name();
    namespaces.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", LIMIT, async || {
        match namespaces.get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn the_garbage_collector_takes_an_environment_that_leases_hold_with_its_owner() {
    let scene = Scene::new("environments-owned").await;
    let owners: Api<ConfigMap> = Api::namespaced(scene.admin.client.clone(), scene.namespace.name());
    let owner: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "owner" } })).unwrap();
    let owner = owners.create(&PostParams::default(), &owner).await.unwrap();
    let reference = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid().unwrap() });
    let patch = Patch::Merge(json!({ "metadata": { "ownerReferences": [reference] } }));
    let environments = scene.environments(&scene.admin);
    environments
        .patch("held", &PatchParams::default(), &patch)
        .await
        .unwrap();
    owners.delete("owner", &DeleteParams::default()).await.unwrap();
    scene.is_gone("held").await;
}
