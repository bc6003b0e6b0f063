//! After the end: the object goes when its time is over, the row stays.

use std::time::Duration;

use environment_operator::api::{EnvironmentLease, LeasePhase, Reason};
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::proxy::{Fault, deletes};
use crate::support::{Expected, GRACE, LIMIT, TestEnvironment, id_of, lease, moment};

const RELEASED: Expected<'_> = Expected {
    phase: LeasePhase::Released,
    reason: Reason::ReleaseRequested,
    message: "spec.release was set",
};

/// A lease that was granted and released, and stays for so long after that.
async fn released(world: &TestEnvironment<'_>, name: &str, ttl_seconds_after_finished: i32) -> EnvironmentLease {
    let claim = lease(name).set("ttlSecondsAfterFinished", ttl_seconds_after_finished);
    let granted = world.granted(claim).await;
    world.release(name).await;
    granted
}

async fn is_gone(world: &TestEnvironment<'_>, name: &str) {
    eventually(&format!("{name} is removed"), LIMIT, async || {
        match world.leases().get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(object)) => Err(json!(object.status).to_string()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

async fn patch(world: &TestEnvironment<'_>, name: &str, patch: Value) {
    let parameters = PatchParams::default();
    world
        .leases()
        .patch(name, &parameters, &Patch::Merge(patch))
        .await
        .unwrap();
}

fn ttl_after_finished(seconds: i32) -> Value {
    json!({ "spec": { "ttlSecondsAfterFinished": seconds } })
}

#[tokio::test]
async fn a_finished_lease_is_removed_in_time_and_its_row_keeps_the_ending() {
    let world = TestEnvironment::new("remove").await;
    let operator = world.start().await;
    let kept = released(&world, "kept", 3600).await;
    for (name, seconds) in [("at-once", 0), ("later", 2)] {
        let id = id_of(&released(&world, name, seconds).await);
        is_gone(&world, name).await;
        RELEASED.of_row(&world, id).await;
        eventually("the record tells that the object is gone", LIMIT, async || {
            let record = world.record(id).await.unwrap();
            let (ended, gone) = (moment(&record["ended_at"]), moment(&record["deleted_at"]));
            let gone = gone.ok_or_else(|| record.to_string())?;
            assert!(
                gone.duration_since(ended.unwrap()).as_secs() >= seconds.into(),
                "{record}"
            );
            Ok::<_, String>(())
        })
        .await;
    }
    assert_eq!(id_of(&world.lease_in("kept", LeasePhase::Released).await), id_of(&kept));
    let removed = operator.metric("environment_operator_removed_objects_total", "");
    assert_eq!(removed.await.unwrap(), 2.0);
    world.settles().await;
}

#[tokio::test]
async fn whoever_watches_sees_the_end_before_the_removal() {
    let world = TestEnvironment::new("remove-shown").await;
    let _operator = world.start().await;
    let mark = world.mark();
    released(&world, "brief", 0).await;
    is_gone(&world, "brief").await;
    let verbs: Vec<String> = world
        .writes_since(mark)
        .into_iter()
        .filter(|event| {
            let object = event.object_ref.as_ref();
            object.is_some_and(|object| object.resource == "environmentleases" && object.name == "brief")
        })
        .map(|event| event.verb)
        .collect();
    assert_eq!(verbs, ["patch", "patch", "delete"], "granted, released, removed");
}

#[tokio::test]
async fn a_claim_that_failed_is_removed_too_though_it_never_had_a_row() {
    let world = TestEnvironment::new("remove-claim").await;
    let mut operator = world.start().await;
    let never = |name: &str, seconds: i32| {
        let claim = lease(name).set("release", true); // refused at once
        claim.set("ttlSecondsAfterFinished", seconds)
    };
    world.claim(never("at-once", 0)).await;
    is_gone(&world, "at-once").await;
    world.claim(never("later", 2)).await;
    world.claim(never("kept", 3600)).await;
    for name in ["later", "kept"] {
        world
            .lease_because(name, LeasePhase::Failed, Reason::ReleaseRequested)
            .await;
    }
    // What it waits for is not in anybody's memory.
    operator.kill().unwrap();
    world.pass_term().await;
    operator.start_again().unwrap();
    is_gone(&world, "later").await;
    world.lease_in("kept", LeasePhase::Failed).await;
    world.settles().await;
}

#[tokio::test]
async fn what_came_due_while_no_operator_ran_is_removed_by_the_next_one() {
    let world = TestEnvironment::new("remove-restart").await;
    let mut operator = world.start().await;
    for (name, seconds) in [("due", 2), ("kept", 3600)] {
        released(&world, name, seconds).await;
        world.lease_in(name, LeasePhase::Released).await;
    }
    operator.stop(GRACE).await.unwrap();
    world
        .leases()
        .get("due")
        .await
        .expect("it is there as long as nobody removes it");
    operator.start_again().unwrap();
    is_gone(&world, "due").await;
    world.lease_in("kept", LeasePhase::Released).await;
    world.settles().await;
}

#[tokio::test]
async fn the_time_may_be_changed_after_the_end() {
    let world = TestEnvironment::new("remove-changed").await;
    let _operator = world.start().await;
    released(&world, "lowered", 3600).await;
    released(&world, "raised", 4).await;
    let last = released(&world, "last", 4).await;
    for name in ["lowered", "raised"] {
        world.lease_in(name, LeasePhase::Released).await;
    }
    patch(&world, "lowered", ttl_after_finished(0)).await;
    patch(&world, "raised", ttl_after_finished(3600)).await;
    is_gone(&world, "lowered").await;
    is_gone(&world, &last.name_any()).await;
    world.lease_in("raised", LeasePhase::Released).await;
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_being_removed_is_looked_at_again() {
    let world = TestEnvironment::new("remove-race").await;
    let proxy = world.proxy().await;
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;

    // It has more time now: it stays.
    let withheld = proxy.spoil(Fault::Withhold, deletes("environmentleases"));
    released(&world, "raised", 0).await;
    withheld.wait_for_hits(1).await;
    patch(&world, "raised", ttl_after_finished(3600)).await;
    withheld.lift();
    // A change that is none of its time: it goes.
    let withheld = proxy.spoil(Fault::Withhold, deletes("environmentleases"));
    released(&world, "labelled", 0).await;
    withheld.wait_for_hits(1).await;
    patch(
        &world,
        "labelled",
        json!({ "metadata": { "labels": { "note": "changed" } } }),
    )
    .await;
    withheld.lift();
    is_gone(&world, "labelled").await;
    world.lease_in("raised", LeasePhase::Released).await;

    // Another object under the same name is nobody's to remove.
    let withheld = proxy.spoil(Fault::Withhold, deletes("environmentleases"));
    let first = released(&world, "reborn", 0).await;
    withheld.wait_for_hits(1).await;
    world.delete_lease("reborn").await;
    let second = world.granted(lease("reborn")).await;
    withheld.lift();
    world.granted(lease("marker")).await;
    assert_ne!(id_of(&first), id_of(&second));
    assert_eq!(
        id_of(&world.lease_in("reborn", LeasePhase::Active).await),
        id_of(&second)
    );
    world.settles().await;
}

#[tokio::test]
async fn a_retained_lease_is_not_finished_and_stays() {
    let world = TestEnvironment::new("remove-retained").await;
    let _operator = world.start().await;
    let run = world.insert_run().await;
    let claim = lease("retained").heartbeat_run(run).set("policy", "RetainOnFailure");
    world.granted(claim.set("ttlSecondsAfterFinished", 0)).await;
    world.set_run_status(&[run], "failed").await;
    world.lease_in("retained", LeasePhase::Retained).await;
    released(&world, "marker", 0).await;
    is_gone(&world, "marker").await;
    world.lease_in("retained", LeasePhase::Retained).await;
    world.release("retained").await;
    is_gone(&world, "retained").await;
}

#[tokio::test]
async fn a_removal_that_the_api_server_refuses_is_tried_again() {
    let world = TestEnvironment::new("remove-refused").await;
    let proxy = world.proxy().await;
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    let refused = proxy.spoil(Fault::Answer(500), deletes("environmentleases"));
    released(&world, "stubborn", 0).await;
    tokio::time::timeout(Duration::from_secs(60), refused.wait_for_hits(2))
        .await
        .unwrap();
    world.lease_in("stubborn", LeasePhase::Released).await;
    refused.lift();
    is_gone(&world, "stubborn").await;
}

#[tokio::test]
async fn rows_are_kept_for_ever_unless_a_retention_is_set() {
    let world = TestEnvironment::new("retention").await;
    let mut operator = world.start().await;
    let gone = id_of(&released(&world, "gone", 0).await);
    let shown = id_of(&released(&world, "shown", 3600).await);
    let held = id_of(&world.granted(lease("held")).await);
    is_gone(&world, "gone").await;
    world.settles().await;
    operator.stop(GRACE).await.unwrap();
    // Never an object's: nobody's to remove.
    let unmanaged: Uuid = sqlx::query_scalar(
        "INSERT INTO environment_leases (company_id, environment_id, status, released_at)
         SELECT company_id, environment_id, 'released', now() FROM environment_leases LIMIT 1 RETURNING id",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();

    let keeping = world.start().await;
    assert!(world.lease_row(gone).await.is_some());
    let success = "environment_operator_retention_last_success_timestamp_seconds";
    assert_eq!(keeping.metric(success, "").await.unwrap(), 0.0);
    drop(keeping);
    world.pass_term().await;

    let operator = world.start_with(&["--retention=1ms"]).await;
    eventually("the old row is removed", LIMIT, async || {
        match (world.lease_row(gone).await, operator.metric(success, "").await.unwrap()) {
            (None, succeeded) if succeeded > 0.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(world.record(gone).await, None);
    assert_eq!(world.activity(gone).await.len(), 2, "what happened is still told");
    for kept in [shown, held, unmanaged] {
        assert!(world.lease_row(kept).await.is_some());
    }
    let rows = operator.metric("environment_operator_removed_rows_total", "").await;
    assert_eq!(rows.unwrap(), 1.0);
    world.lease_in("shown", LeasePhase::Released).await;
}
