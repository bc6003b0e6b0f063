//! What may be changed of a lease without the verb `manage`.

use harness::control_plane::ControlPlane;
use harness::namespace::Namespace;
use harness::objects;
use harness::wait::eventually;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::installed::{LIMIT, User, installed, refused};

/// The controller that carries foreground and orphaning deletions out.
const GARBAGE_COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

/// A namespace with a lease `held` that has something of everything, its owner, and its uid.
struct Scene {
    control_plane: &'static ControlPlane,
    namespace: Namespace,
    admin: User,
}

impl Scene {
    async fn new() -> Self {
        let control_plane = installed().await;
        let client = control_plane.client().await.unwrap();
        let namespace = Namespace::create(&client, "leases").await.unwrap();
        let admin = User { client };
        let owner = admin_config_maps(&admin, &namespace)
            .create(&PostParams::default(), &config_map("owner", None))
            .await
            .unwrap();
        let object = json!({
            "apiVersion": "paperclip.ing/v1alpha1",
            "kind": "EnvironmentLease",
            "metadata": {
                "name": "held",
                "labels": { "team": "a" },
                "annotations": { "note": "x", "paperclip.ing/renew-time": "1" },
                "finalizers": ["example.com/first", "example.com/second"],
                "ownerReferences": [owner_reference("ConfigMap", "v1", "owner", &owner.uid().unwrap())],
            },
            "spec": { "heartbeatTimeoutSeconds": 60, "metadata": { "key": "value" } },
        });
        objects::apply(&admin.client, namespace.name(), &object.to_string())
            .await
            .unwrap();
        Self {
            control_plane,
            namespace,
            admin,
        }
    }

    async fn user(&self, role: &str) -> User {
        User::bound(self.control_plane, &self.admin.client, self.namespace.name(), role).await
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        admin_config_maps(&self.admin, &self.namespace)
    }
}

fn admin_config_maps(admin: &User, namespace: &Namespace) -> Api<ConfigMap> {
    Api::namespaced(admin.client.clone(), namespace.name())
}

fn config_map(name: &str, owner: Option<Value>) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: owner.map(|owner| vec![serde_json::from_value(owner).unwrap()]),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

fn owner_reference(kind: &str, api_version: &str, name: &str, uid: &str) -> Value {
    json!({ "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "blockOwnerDeletion": true })
}

/// A merge patch that is tried and not kept.
async fn try_patch(user: &User, namespace: &Namespace, patch: &Value) -> kube::Result<()> {
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let leases = user.leases(namespace.name());
    leases.patch("held", &params, &Patch::Merge(patch)).await.map(drop)
}

/// What a runner must be able to do.
fn free() -> Vec<Value> {
    let annotations = |renew: Value| json!({ "metadata": { "annotations": { "paperclip.ing/renew-time": renew } } });
    vec![
        json!({ "spec": { "release": true } }),
        annotations(json!("2")),
        annotations(Value::Null),
        json!({ "metadata": { "finalizers": ["example.com/second"] } }),
        json!({ "metadata": { "finalizers": [] } }),
        json!({ "metadata": { "ownerReferences": null } }),
        json!({ "metadata": { "managedFields": [{}] } }),
    ]
}

/// What needs the verb, and what is said of it.
fn held_back(owner: &str) -> Vec<(Value, &'static str)> {
    let spec = "only spec.release of its spec";
    let annotations = "only paperclip.ing/renew-time of its annotations";
    let labels = "its labels may not be changed";
    let finalizers = "its finalizers may only be removed";
    let owners = "its owners may only be removed";
    let of = |references: Value| json!({ "metadata": { "ownerReferences": references } });
    let mut changed = owner_reference("ConfigMap", "v1", "owner", owner);
    changed["controller"] = json!(true);
    vec![
        (json!({ "spec": { "ttlSeconds": 2_592_000 } }), spec),
        (json!({ "spec": { "heartbeatTimeoutSeconds": 90 } }), spec),
        (json!({ "spec": { "heartbeatTimeoutSeconds": null } }), spec),
        (json!({ "spec": { "acquireTimeoutSeconds": 0 } }), spec),
        (json!({ "spec": { "ttlSecondsAfterFinished": 0 } }), spec),
        (json!({ "spec": { "metadata": { "other": 1 } } }), spec),
        (json!({ "spec": { "metadata": null } }), spec),
        (json!({ "spec": { "release": true, "ttlSeconds": 1 } }), spec),
        (json!({ "metadata": { "annotations": { "note": "y" } } }), annotations),
        (json!({ "metadata": { "annotations": { "note": null } } }), annotations),
        (json!({ "metadata": { "annotations": { "more": "z" } } }), annotations),
        (json!({ "metadata": { "annotations": null } }), annotations),
        (json!({ "metadata": { "labels": { "team": "b" } } }), labels),
        (json!({ "metadata": { "labels": null } }), labels),
        (
            json!({ "metadata": { "finalizers": ["example.com/first", "example.com/second", "example.com/third"] } }),
            finalizers,
        ),
        (of(json!([owner_reference("ConfigMap", "v1", "other", "0000")])), owners),
        (of(json!([changed])), owners),
    ]
}

#[tokio::test]
async fn without_manage_a_lease_is_released_and_renewed_and_freed_and_nothing_else() {
    let scene = Scene::new().await;
    let owner = scene.config_maps().get("owner").await.unwrap().uid().unwrap();
    for role in ["edit", "demo-environment-operator-runner"] {
        let user = scene.user(role).await;
        for patch in free() {
            let answer = try_patch(&user, &scene.namespace, &patch).await;
            answer.unwrap_or_else(|error| panic!("{role}: {patch}: {error}"));
        }
        for (patch, sentence) in held_back(&owner) {
            let answer = try_patch(&user, &scene.namespace, &patch).await;
            let said = refused(answer).unwrap_or_else(|error| panic!("{role}: {patch}: {error}"));
            assert!(said.contains(sentence), "{role}: {patch}: {said}");
        }
    }
    let manager = scene.user("admin").await;
    for patch in free()
        .into_iter()
        .chain(held_back(&owner).into_iter().map(|(patch, _)| patch))
    {
        let answer = try_patch(&manager, &scene.namespace, &patch).await;
        answer.unwrap_or_else(|error| panic!("{patch}: {error}"));
    }
}

#[tokio::test]
async fn a_foreground_deletion_of_a_lease_comes_to_its_end() {
    let scene = Scene::new().await;
    let leases = scene.admin.leases(scene.namespace.name());
    let free = Patch::Merge(json!({ "metadata": { "finalizers": [] } }));
    let lease = leases.patch("held", &PatchParams::default(), &free).await.unwrap();
    let owner = owner_reference(
        "EnvironmentLease",
        "paperclip.ing/v1alpha1",
        "held",
        &lease.uid().unwrap(),
    );
    let post = PostParams::default();
    scene
        .config_maps()
        .create(&post, &config_map("dependent", Some(owner)))
        .await
        .unwrap();

    let mark = scene.control_plane.audit().mark().unwrap();
    leases.delete("held", &DeleteParams::foreground()).await.unwrap();
    eventually("the lease is gone", LIMIT, async || {
        match leases.get_opt("held").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(scene.config_maps().get_opt("dependent").await.unwrap().is_none());
    assert!(
        collected(&scene, mark) > 0,
        "the garbage collector changes the lease, without the verb"
    );
}

#[tokio::test]
async fn a_foreground_deletion_of_an_owner_takes_its_lease_with_it() {
    let scene = Scene::new().await;
    let leases = scene.admin.leases(scene.namespace.name());
    let free = Patch::Merge(json!({ "metadata": { "finalizers": [] } }));
    leases.patch("held", &PatchParams::default(), &free).await.unwrap();
    scene
        .config_maps()
        .delete("owner", &DeleteParams::foreground())
        .await
        .unwrap();
    eventually("owner and lease are gone", LIMIT, async || {
        let left = (leases.get_opt("held").await, scene.config_maps().get_opt("owner").await);
        match left {
            (Ok(None), Ok(None)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn an_owner_that_leaves_its_lease_behind_is_taken_from_it() {
    let scene = Scene::new().await;
    let leases = scene.admin.leases(scene.namespace.name());
    let mark = scene.control_plane.audit().mark().unwrap();
    scene
        .config_maps()
        .delete("owner", &DeleteParams::orphan())
        .await
        .unwrap();
    eventually("the lease has no owner", LIMIT, async || {
        let lease = leases.get("held").await.map_err(|error| error.to_string())?;
        let owners = lease.owner_references();
        if owners.is_empty() {
            Ok(())
        } else {
            Err(format!("{owners:?}"))
        }
    })
    .await;
    assert!(collected(&scene, mark) > 0);
}

/// How many changes of the lease the garbage collector has asked for and got.
fn collected(scene: &Scene, mark: harness::control_plane::audit::Mark) -> usize {
    let writes = scene.control_plane.audit().writes(mark, |event| {
        let lease = event
            .object_ref
            .as_ref()
            .is_some_and(|object| object.resource == "environmentleases" && object.namespace == scene.namespace.name());
        let done = event.response_status.as_ref().is_some_and(|status| status.code == 200);
        event.user() == GARBAGE_COLLECTOR && event.verb != "delete" && lease && done
    });
    writes.unwrap().len()
}
