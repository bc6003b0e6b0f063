//! Objects that are deleted: while the operator looks, and while nobody does.

use environment_operator::api::{EnvironmentLease, LeasePhase, Reason};
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Expected, GRACE, LIMIT, TestEnvironment, lease};

const LEASE_DELETED: Expected<'_> = Expected {
    phase: LeasePhase::Released,
    reason: Reason::LeaseDeleted,
    message: "the lease object was deleted",
};

const ENVIRONMENT_DELETED: Expected<'_> = Expected {
    phase: LeasePhase::Failed,
    reason: Reason::EnvironmentDeleted,
    message: "environment builder was deleted",
};

fn uid(lease: &EnvironmentLease) -> Uuid {
    lease.uid().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_deleted_lease_releases_its_row_and_no_other() {
    let world = TestEnvironment::new("delete-lease").await;
    let _operator = world.start().await;
    let (deleted, kept) = (
        world.granted(lease("deleted")).await,
        world.granted(lease("kept")).await,
    );
    let untouched = world.lease_row(uid(&kept)).await;
    world.delete_lease("deleted").await;
    LEASE_DELETED.of_row(&world, uid(&deleted)).await;
    assert_eq!(world.lease_row(uid(&kept)).await, untouched);
}

#[tokio::test]
async fn a_lease_that_a_finalizer_holds_ends_when_its_deletion_is_asked_for() {
    let world = TestEnvironment::new("delete-held").await;
    let _operator = world.start().await;
    world.granted(lease("held-back")).await;
    let finalizers = |list: serde_json::Value| Patch::Merge(json!({ "metadata": { "finalizers": list } }));
    let leases = world.leases();
    leases
        .patch(
            "held-back",
            &PatchParams::default(),
            &finalizers(json!(["example.test/hold"])),
        )
        .await
        .unwrap();
    leases.delete("held-back", &Default::default()).await.unwrap();
    let ended = LEASE_DELETED.of(&world, "held-back").await;
    assert_eq!(
        ended.finalizers(),
        ["example.test/hold"],
        "the operator adds none of its own"
    );
    leases
        .patch("held-back", &PatchParams::default(), &finalizers(json!(null)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deleted_environment_fails_its_leases_and_keeps_an_archived_row() {
    let world = TestEnvironment::new("delete-environment").await;
    let _operator = world.start().await;
    let environment = world.ssh_environment("builder").await;
    for name in ["one", "two"] {
        world.granted(lease(name).environment("builder")).await;
    }
    world.granted(lease("elsewhere")).await;
    world.delete_environment("builder").await;
    for name in ["one", "two"] {
        ENVIRONMENT_DELETED.of(&world, name).await;
    }
    let row = world
        .environment_row(environment.uid().unwrap().parse().unwrap())
        .await
        .unwrap();
    assert_eq!((&row["name"], &row["status"]), (&json!("builder"), &json!("archived")));
    world.lease_in("elsewhere", LeasePhase::Active).await;
}

#[tokio::test]
async fn a_deleted_local_leaves_its_row_and_leases_as_they_are_and_is_made_again() {
    let world = TestEnvironment::new("delete-local").await;
    let _operator = world.start().await;
    let held = world.granted(lease("held")).await;
    let (rows, lease_row) = (
        world.environment_rows(world.company()).await,
        world.lease_row(uid(&held)).await,
    );
    let first = world.environments().get("local").await.unwrap();
    world.delete_environment("local").await;
    world.environments_are_known_to_be_gone().await;
    let next = world.granted(lease("next")).await;
    let again = world.environments().get("local").await.unwrap();
    assert_ne!(first.uid(), again.uid());
    assert_eq!(
        world.environment_rows(world.company()).await,
        rows,
        "the row is the company's, and untouched"
    );
    assert_eq!(world.lease_row(uid(&held)).await, lease_row);
    assert_eq!(next.status.unwrap().environment, held.status.unwrap().environment);
    world.lease_in("held", LeasePhase::Active).await;
}

#[tokio::test]
async fn what_was_deleted_while_no_operator_ran_is_found_by_the_next_one() {
    let world = TestEnvironment::new("delete-unseen").await;
    let mut operator = world.start().await;
    let environment = world.ssh_environment("builder").await;
    world.granted(lease("orphaned").environment("builder")).await;
    let deleted = world.granted(lease("deleted")).await;
    let both = world.granted(lease("both").environment("builder")).await;
    let kept = world.granted(lease("kept")).await;
    let untouched = world.lease_row(uid(&kept)).await;
    operator.stop(GRACE).await.unwrap();
    for name in ["deleted", "both"] {
        world.delete_lease(name).await;
    }
    world.delete_environment("builder").await;
    operator.start_again().unwrap();
    LEASE_DELETED.of_row(&world, uid(&deleted)).await;
    LEASE_DELETED.of_row(&world, uid(&both)).await;
    ENVIRONMENT_DELETED.of(&world, "orphaned").await;
    let row = world
        .environment_row(environment.uid().unwrap().parse().unwrap())
        .await
        .unwrap();
    assert_eq!(row["status"], "archived");
    assert_eq!(world.lease_row(uid(&kept)).await, untouched);
}

#[tokio::test]
async fn a_deleted_namespace_releases_everything_in_it_as_deleted() {
    let world = TestEnvironment::new("delete-namespace").await;
    let _operator = world.start().await;
    namespace_story(&world, async || world.delete_namespace().await).await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_while_no_operator_runs_releases_everything_too() {
    let world = TestEnvironment::new("delete-unseen-ns").await;
    let mut operator = world.start().await;
    namespace_story(&world, async || {
        operator.stop(GRACE).await.unwrap();
        world.delete_namespace().await;
        operator.start_again().unwrap();
    })
    .await;
}

/// Leases of each kind of run and environment, of which a deletion of the Namespace may delete the parts in any order.
async fn namespace_story(world: &TestEnvironment<'_>, delete: impl AsyncFnOnce()) {
    world.ssh_environment("builder").await;
    // With retries left: a Job whose last Pod the deletion takes first would fail, and a failed run goes before a deletion.
    world.job("build", json!({ "backoffLimit": 6 })).await;
    let run = world.insert_run().await;
    let mut leases = Vec::new();
    for claim in [
        lease("on-local"),
        lease("on-builder").environment("builder"),
        lease("of-a-job").job("build"),
        lease("of-both").environment("builder").job("build"),
        lease("of-a-row").heartbeat_run(run),
    ] {
        leases.push(uid(&world.granted(claim).await));
    }
    let environments = world.environment_rows(world.company()).await;
    delete().await;
    for id in leases {
        eventually("the row is released", LIMIT, async || match world.lease_row(id).await {
            Some(row) if row["status"] != "active" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        let (row, record) = (world.lease_row(id).await.unwrap(), world.record(id).await.unwrap());
        assert_eq!(
            (&row["status"], &record["reason"]),
            (&json!("released"), &json!("LeaseDeleted")),
            "{row} {record}"
        );
    }
    eventually("builder is archived, and the Local is not", LIMIT, async || {
        let rows = world.environment_rows(world.company()).await;
        let archived: Vec<_> = rows
            .iter()
            .filter(|row| row["status"] == "archived")
            .map(|row| &row["name"])
            .collect();
        if archived == [&json!("builder")] && rows.len() == environments.len() {
            Ok(())
        } else {
            Err(format!("{rows:?}"))
        }
    })
    .await;
    assert!(
        world.company_row(world.company()).await.is_some(),
        "history stays readable"
    );
}
