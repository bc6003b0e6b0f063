//! Leases of Pods, where the operator is told to watch them.

use environment_operator::api::LeasePhase;
use harness::node_agent::{Images, NodeAgent};
use harness::operator::Operator;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::{failed, gone, still_held, succeeded};
use crate::support::release::RunKind;
use crate::support::{TestEnvironment, lease};

/// A started operator that watches Pods too.
async fn start(world: &TestEnvironment<'_>) -> Operator {
    let kinds = world.run_kinds(&[RunKind::jobs(), RunKind::pods()]).await;
    world.start_with(&[&kinds]).await
}

#[tokio::test]
async fn pods_are_runs_where_the_operator_is_told_so() {
    let world = TestEnvironment::new("pods").await;
    let _operator = start(&world).await;
    for name in ["good", "bad", "evicted", "deleted"] {
        world.pod(name, json!({})).await;
        world
            .granted(lease(&format!("of-{name}")).run_object("v1", "Pod", name))
            .await;
    }
    world.set_pod_status("good", json!({ "phase": "Succeeded" })).await;
    world.set_pod_status("bad", json!({ "phase": "Failed" })).await;
    let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." });
    world.set_pod_status("evicted", evicted).await;
    world.pods().delete("deleted", &DeleteParams::default()).await.unwrap();
    succeeded("pod/good succeeded").of(&world, "of-good").await;
    failed("pod/bad failed").of(&world, "of-bad").await;
    failed("pod/evicted failed").of(&world, "of-evicted").await;
    gone("pod/deleted is gone, and its outcome was not seen")
        .of(&world, "of-deleted")
        .await;
}

#[tokio::test]
async fn a_container_that_is_restarted_is_not_the_end_of_its_pod() {
    let world = TestEnvironment::new("pods-restart").await;
    let _operator = start(&world).await;
    world.pod("flaky", json!({})).await;
    world.granted(lease("of-flaky").run_object("v1", "Pod", "flaky")).await;
    let container = |restarts: u32, state: Value| {
        let container = json!({
            "name": "run", "image": "run", "imageID": "run", "ready": false, "restartCount": restarts, "state": state,
            "lastState": { "terminated": { "exitCode": 1 } },
        });
        json!({
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "False", "reason": "ContainersNotReady" }],
            "containerStatuses": [container],
        })
    };
    for restarts in 1..4 {
        let state = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        world.set_pod_status("flaky", container(restarts, state)).await;
    }
    still_held(&world, "of-flaky").await;
    world.set_pod_status("flaky", json!({ "phase": "Succeeded" })).await;
    succeeded("pod/flaky succeeded").of(&world, "of-flaky").await;
}

#[tokio::test]
async fn a_pod_that_is_deleted_with_grace_is_not_over_before_it_is_gone_and_its_last_word_counts() {
    let world = TestEnvironment::new("pods-grace").await;
    let _operator = start(&world).await;
    let names = ["silent", "speaking"];
    for name in names {
        // On a node: without one it would be gone at once.
        world
            .pod(
                name,
                json!({ "nodeName": "by-hand", "terminationGracePeriodSeconds": 600 }),
            )
            .await;
        world
            .granted(lease(&format!("of-{name}")).run_object("v1", "Pod", name))
            .await;
        world.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }
    for name in names {
        still_held(&world, &format!("of-{name}")).await;
    }
    // The kubelet writes how the containers ended before it lets the Pod go; one whose node is lost tells nothing.
    world.set_pod_status("speaking", json!({ "phase": "Failed" })).await;
    world.remove_terminating_pods().await;
    failed("pod/speaking failed").of(&world, "of-speaking").await;
    gone("pod/silent is gone, and its outcome was not seen")
        .of(&world, "of-silent")
        .await;
}

#[tokio::test]
async fn a_real_pod_holds_its_lease_over_a_restart_and_tells_how_it_ended_when_it_is_deleted() {
    let world = TestEnvironment::new("pods-real").await;
    let namespace = world.namespace.name();
    let _node = NodeAgent::start(world.control_plane(), Some(namespace), Images::usual().await.unwrap())
        .await
        .unwrap();
    let _operator = start(&world).await;
    // Its first process fails, the next one goes on until it is killed.
    let script = "if [ ! -e /kept/tried ]; then touch /kept/tried; exit 1; fi; exec sleep 600";
    let container = json!({
        "name": "run", "image": "busybox", "command": ["sh", "-c", script],
        "volumeMounts": [{ "name": "work", "mountPath": "/kept" }],
    });
    let volumes = json!([{ "name": "work", "emptyDir": {} }]);
    let spec = json!({ "restartPolicy": "OnFailure", "containers": [container], "volumes": volumes });
    let real = serde_json::from_value(json!({ "metadata": { "name": "real" }, "spec": spec })).unwrap();
    world.pods().create(&PostParams::default(), &real).await.unwrap();
    world.granted(lease("of-real").run_object("v1", "Pod", "real")).await;
    world.pod_is_ready_after_restart("real").await;
    world.lease_in("of-real", LeasePhase::Active).await;
    world.pods().delete("real", &DeleteParams::default()).await.unwrap();
    failed("pod/real failed").of(&world, "of-real").await;
}
