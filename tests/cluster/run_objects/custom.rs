//! Leases of objects of configured kinds: one that is judged by its conditions, one by its phase.

use std::collections::BTreeSet;

use environment_operator::api::{LeasePhase, Reason};
use harness::wait::eventually;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{failed, gone, still_held, succeeded};
use crate::support::custom::Kind;
use crate::support::release::RunKind;
use crate::support::{Expected, LIMIT, TestEnvironment, lease};

fn condition(type_: &str, status: &str) -> Value {
    json!({ "conditions": [{ "type": "Ready", "status": "False" }, { "type": type_, "status": status, "reason": "Told" }] })
}

#[tokio::test]
async fn objects_of_configured_kinds_are_over_by_their_conditions_or_their_phase() {
    let world = TestEnvironment::new("kinds").await;
    let (task, workflow) = (Kind::of(&world, "Task"), Kind::of(&world, "Workflow"));
    task.install(&world).await;
    workflow.install(&world).await;
    let kinds = [RunKind::jobs(), task.run_kind(), workflow.run_kind()];
    let kinds = world.run_kinds(&kinds).await;
    let _operator = world.start_with(&[&kinds]).await;
    let phase = |phase: &str| json!({ "phase": phase });
    let table = [
        (&task, "good", condition("Succeeded", "True"), "task/good succeeded"),
        (
            &task,
            "complete",
            condition("Complete", "True"),
            "task/complete succeeded",
        ),
        (&task, "bad", condition("Succeeded", "False"), "task/bad failed"),
        (&task, "broken", condition("Failed", "True"), "task/broken failed"),
        (&task, "going-on", condition("Succeeded", "Unknown"), ""),
        (&task, "incomplete", condition("Complete", "False"), ""),
        (&workflow, "done", phase("Succeeded"), "workflow/done succeeded"),
        (
            &workflow,
            "completed",
            phase("Completed"),
            "workflow/completed succeeded",
        ),
        (&workflow, "fails", phase("Failed"), "workflow/fails failed"),
        (&workflow, "errs", phase("Error"), "workflow/errs failed"),
        (
            &workflow,
            "called-off",
            phase("Cancelled"),
            "workflow/called-off was cancelled",
        ),
        (&workflow, "runs", phase("Running"), ""),
        // A status that no workflow engine would write tells nothing, and blinds the operator to nothing else.
        (&workflow, "odd", json!({ "phase": 7, "conditions": "none" }), ""),
    ];
    for (kind, name, ..) in &table {
        kind.create(&world, name).await;
        world.granted(kind.claim(name)).await;
    }
    for (kind, name, status, _) in &table {
        kind.set_status(&world, name, status.clone()).await;
    }
    for (_, name, _, message) in &table {
        let lease = format!("of-{name}");
        let expected = match message.rsplit(' ').next() {
            Some("succeeded") => succeeded(message),
            Some("failed") => failed(message),
            Some("cancelled") => Expected {
                phase: LeasePhase::Expired,
                reason: Reason::RunCancelled,
                message,
            },
            _ => {
                still_held(&world, &lease).await;
                continue;
            }
        };
        expected.of(&world, &lease).await;
    }
}

#[tokio::test]
async fn the_uid_of_a_run_object_is_pinned_at_the_grant_and_another_one_under_its_name_is_another_run() {
    let world = TestEnvironment::new("kinds-uid").await;
    let task = Kind::of(&world, "Task");
    task.install(&world).await;
    let kinds = world.run_kinds(&[RunKind::jobs(), task.run_kind()]).await;
    let _operator = world.start_with(&[&kinds]).await;
    let first = task.create(&world, "build").await.uid().unwrap();
    let pinned = world.granted(task.claim("build")).await;
    assert_eq!(pinned.status.unwrap().run.unwrap().uid.as_ref(), Some(&first));
    let given = lease("given").set("run", task.reference("build", &first));
    let given = world.granted(given).await;
    assert_eq!(given.status.unwrap().run.unwrap().uid.as_ref(), Some(&first));

    task.delete(&world, "build").await;
    let second = task.create(&world, "build").await.uid().unwrap();
    for name in ["of-build", "given"] {
        gone("task/build is gone, and its outcome was not seen")
            .of(&world, name)
            .await;
    }
    world
        .claim(lease("too-late").set("run", task.reference("build", &first)))
        .await;
    world
        .lease_because("too-late", LeasePhase::Failed, Reason::RunGone)
        .await;
    let next = world
        .granted(lease("of-the-second").set("run", task.reference("build", &second)))
        .await;
    assert_eq!(next.status.unwrap().run.unwrap().uid, Some(second));
    task.set_status(&world, "build", condition("Succeeded", "True")).await;
    succeeded("task/build succeeded").of(&world, "of-the-second").await;
}

#[tokio::test]
async fn a_run_object_is_the_same_through_whichever_version_it_is_named() {
    let world = TestEnvironment::new("kinds-version").await;
    let task = Kind::of(&world, "Task");
    task.install(&world).await;
    let kinds = world.run_kinds(&[task.run_kind()]).await;
    let _operator = world.start_with(&[&kinds]).await;
    for (name, version) in [("old", "v1beta1"), ("unheard-of", "v9")] {
        let object = task.create(&world, name).await;
        let mut claim = task.claim_through(version, name);
        if version == "v9" {
            // With a uid that no watch has told of, it takes a live read to know that the object is gone.
            let mut run = task.reference(name, &object.uid().unwrap());
            run["objectRef"]["apiVersion"] = json!(task.version("v9"));
            claim = claim.set("run", run);
        }
        world.granted(claim).await;
        task.set_status(&world, name, condition("Failed", "True")).await;
        failed(&format!("task/{name} failed"))
            .of(&world, &format!("of-{name}"))
            .await;
    }
    let mut run = task.reference("never", &uuid::Uuid::new_v4().to_string());
    run["objectRef"]["apiVersion"] = json!(task.version("v9"));
    world.claim(lease("never").set("run", run)).await;
    world.lease_because("never", LeasePhase::Failed, Reason::RunGone).await;
}

#[tokio::test]
async fn a_kind_whose_objects_are_in_no_namespace_is_refused() {
    let world = TestEnvironment::new("kinds-scope").await;
    let planet = Kind::of(&world, "Planet").cluster_scoped();
    planet.install(&world).await;
    planet.create(&world, "mars").await;
    let kinds = world.run_kinds(&[RunKind::jobs(), planet.run_kind()]).await;
    let operator = world.operator().arg(kinds).start().unwrap();
    world.claim(planet.claim("mars")).await;
    let refused = world
        .lease_because("of-mars", LeasePhase::Failed, Reason::InvalidSpec)
        .await;
    let message = refused.status.unwrap().message.unwrap();
    assert!(
        message.ends_with("which is in no namespace: a run is an object in the lease's own"),
        "{message}"
    );
    // Whoever has configured it sees that it can't be.
    eventually("readiness names the kind", LIMIT, async || {
        let body = operator.get("/readyz").await.map_err(|error| error.to_string())?.body;
        match body.contains("watch Planet") && body.contains("in no namespace") {
            true => Ok(()),
            false => Err(body),
        }
    })
    .await;
}

#[tokio::test]
async fn no_kind_is_watched_but_those_that_are_configured() {
    let world = TestEnvironment::new("kinds-watched").await;
    let (task, workflow) = (Kind::of(&world, "Task"), Kind::of(&world, "Workflow"));
    task.install(&world).await;
    workflow.install(&world).await;
    let mark = world.mark();
    let kinds = world.run_kinds(&[task.run_kind()]).await;
    let _operator = world.start_with(&[&kinds]).await;
    task.create(&world, "build").await;
    workflow.create(&world, "release").await;
    world.granted(task.claim("build")).await;
    for claim in [
        workflow.claim("release"),
        lease("of-a-job").job("any"),
        lease("of-a-pod").run_object("v1", "Pod", "any"),
        // The same kind of another group.
        lease("of-a-stranger").run_object("tekton.dev/v1", "Task", "build"),
    ] {
        let name = world.claim(claim).await.name_any();
        let refused = world
            .lease_because(&name, LeasePhase::Failed, Reason::InvalidSpec)
            .await;
        let message = refused.status.unwrap().message.unwrap();
        assert!(message.contains("--run-kinds"), "{message}");
    }
    task.set_status(&world, "build", condition("Succeeded", "True")).await;
    succeeded("task/build succeeded").of(&world, "of-build").await;
    let requests = world.requests_since(mark);
    let watched: BTreeSet<String> = requests
        .iter()
        .filter(|event| event.verb == "list" || event.verb == "watch")
        .map(|event| event.object_ref.clone().unwrap().resource)
        .collect();
    assert_eq!(
        watched.into_iter().collect::<Vec<_>>(),
        ["environmentleases", "environments", "namespaces", "tasks"]
    );
    let read_one_by_one = requests
        .iter()
        .filter(|event| event.verb == "get")
        .filter_map(|event| Some(event.object_ref.clone()?.resource))
        .any(|resource| resource != "namespaces");
    assert!(!read_one_by_one, "never a read for each lease: {requests:#?}");
}
