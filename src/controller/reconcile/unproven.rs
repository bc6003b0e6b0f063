//! What must not be decided for good upon facts that are out of date, or that nobody has proven, on a fake cluster and a fake
//! database.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::Reason;
use crate::cache::object::{EnvironmentObject, LeaseObject, NamespaceObject, RunObject, Watched};
use crate::cache::{Key, RunKey};
use crate::controller::fake::{FakeReconcilers, claim, environment, namespace, reconciler, uid};
use crate::lifecycle::ResourceVersion;

/// For so long nothing may be ready for a world to count as settled.
const REST: Duration = Duration::from_millis(400);

/// A Namespace that is its own company, and in it the environment `box`.
async fn world() -> Arc<FakeReconcilers> {
    world_of(environment("team", "box", 2)).await
}

async fn world_of(environment: Value) -> Arc<FakeReconcilers> {
    let world = reconciler();
    world.make_namespace(namespace("team", 1));
    world.make_environment(environment);
    world.settle(REST).await;
    world
}

/// Phase and reason of a lease.
fn stands(world: &FakeReconcilers, name: &str) -> Option<(String, String)> {
    world.shown("team", name).map(|[phase, reason, _]| (phase, reason))
}

fn words(phase: &str, reason: &str) -> Option<(String, String)> {
    Some((phase.to_owned(), reason.to_owned()))
}

/// The cache hears that the Namespace is being deleted.
fn terminate(world: &FakeReconcilers) {
    let mut going = namespace("team", 1);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.make_namespace(going);
}

#[tokio::test(start_paused = true)]
async fn a_lease_goes_on_that_is_not_in_the_namespace_whose_deletion_was_heard_of() {
    let world = world().await;
    terminate(&world);
    // Another one takes the name, and its watch does not tell.
    world
        .cluster
        .make::<NamespaceObject>("namespaces", namespace("team", 3));
    world.make_environment(environment("team", "new", 20));
    world.make_lease(claim("team", "x", 10, "new"));
    world.settle(REST).await;
    assert_eq!(stands(&world, "x"), words("Active", "Granted"));
    assert_eq!(world.database.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_whose_own_namespace_is_being_deleted() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "box"));
    world.settle(REST).await;
    assert_eq!(stands(&world, "x"), words("Active", "Granted"));
    terminate(&world);
    world.settle(REST).await;
    assert_eq!(stands(&world, "x"), words("Released", "LeaseDeleted"));
    assert_eq!(world.database.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_went_with_its_namespace_is_not_granted_in_the_next_one_of_the_name() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "later"));
    world.settle(REST).await;
    assert_eq!(stands(&world, "x"), words("Pending", "EnvironmentNotFound"));
    // The Namespace is made again, for another company, with an environment of that name; of the lease's end nothing is heard.
    world.cluster.remove::<LeaseObject>("leases", "team", "x").unwrap();
    world.make_namespace(namespace("team", 3));
    world.make_environment(environment("team", "later", 20));
    world.settle(REST).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    world.settle(REST).await;
    assert_eq!(world.database.active(), 0, "the claim was another company's");
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_not_refused_for_what_stands_in_a_company_that_was_not_proven() {
    let mut archived = environment("team", "box", 2);
    archived["spec"]["archived"] = json!(true);
    let world = world_of(archived).await;
    terminate(&world);
    world.cluster.fail("get namespaces");
    world.make_lease(claim("team", "x", 10, "box"));
    world.settle(REST).await;
    assert_eq!(stands(&world, "x"), words("Pending", "CompanyNotFound"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_with_its_run_though_its_namespace_can_not_be_read() {
    let world = world().await;
    let mut job = json!({ "metadata": { "namespace": "team", "name": "job", "uid": uid(30) } });
    let run = |job: Value| world.cluster.make::<RunObject>("jobs", job);
    let kind = kube::core::GroupVersionKind::gvk("batch", "v1", "Job");
    let (live, version) = (run(job.clone()), ResourceVersion::parse("1").unwrap());
    world
        .context
        .learn(|cache| cache.reset_runs(&kind, None, vec![live], &version));
    let mut held = claim("team", "x", 10, "box");
    held["spec"]["run"] = json!({ "objectRef": { "apiVersion": "batch/v1", "kind": "Job", "name": "job" } });
    world.make_lease(held);
    world.settle(REST).await;
    assert_eq!(stands(&world, "x"), words("Active", "Granted"));
    let gone = NamespaceObject::decode("", "", world.cluster.get("namespaces", "", "team").unwrap()).unwrap();
    world.context.learn(|cache| cache.delete_namespace(&gone));
    world.cluster.fail("get namespaces");
    job["status"] = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
    world.cluster.make::<RunObject>("jobs", job);
    let over = world.cluster.get("jobs", "team", "job").unwrap();
    let over = RunObject::decode("batch", "Job", over).unwrap();
    world
        .context
        .learn(|cache| cache.apply_run(&RunKey::at(&kind, &over.meta), over));
    world.settle(REST).await;
    assert_eq!(stands(&world, "x"), words("Released", "RunFinished"));
    assert_eq!(world.database.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_not_refused_for_an_archived_environment_that_is_not_there_any_more() {
    let mut archived = environment("team", "box", 2);
    archived["spec"]["archived"] = json!(true);
    let world = world_of(archived).await;
    // Its deletion is on its way; another one of its name may come.
    world
        .cluster
        .remove::<EnvironmentObject>("environments", "team", "box")
        .unwrap();
    world.make_lease(claim("team", "x", 10, "box"));
    world.settle(REST).await;
    assert_eq!(stands(&world, "x"), words("Pending", "EnvironmentNotFound"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_granted_in_its_last_round_is_not_refused_for_being_late() {
    let world = world().await;
    // Others' leases come and go between look and grant.
    world.database.set_full(4);
    let mut late = claim("team", "x", 10, "box");
    late["spec"]["acquireTimeoutSeconds"] = json!(0);
    world.make_lease(late);
    world.settle(REST).await;
    assert_eq!(stands(&world, "x"), words("Active", "Granted"));
    assert_eq!(world.database.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_phase_is_a_newer_version_s_is_not_told_that_it_waits() {
    let world = world().await;
    let status = json!({ "phase": "Suspended", "leaseId": uid(10), "acquiredAt": "2026-01-01T00:00:00.000Z" });
    let mut held = claim("team", "x", 10, "box");
    held["status"] = status;
    let lease: LeaseObject = world.cluster.make("leases", held);
    world.context.learn(|cache| cache.apply_lease(lease));
    let before = world.cluster.patches();
    let key = Key::Lease(uid(10));
    world.report_store_unavailable(key, None).await.unwrap();
    world.database.set_hidden(uid(10), true);
    let reason = Reason::StoreUnavailable;
    world.report_refused(key, reason, "no").await.unwrap();
    assert_eq!(world.cluster.patches(), before, "{:?}", world.shown("team", "x"));
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_an_environment_shows_no_more_than_it_did() {
    let world = world().await;
    let shown = |phase: &str, reason: &str| {
        let accepting = json!({
            "type": "Accepting", "status": "False", "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00.000Z",
        });
        json!({
            "phase": phase, "environmentId": uid(1), "companyId": uid(1), "name": "x", "activeLeases": 0,
            "observedGeneration": 1, "conditions": [accepting],
        })
    };
    for (number, phase, reason) in [(50, "Pending", "CompanyNotFound"), (51, "Duplicate", "Archived")] {
        let name = phase.to_lowercase();
        let mut object = environment("team", &name, number);
        object["metadata"]["generation"] = json!(2);
        object["status"] = shown(phase, reason);
        if phase == "Duplicate" {
            object["status"]["canonicalRef"] = json!({ "namespace": "other", "name": "local" });
        }
        world.make_environment(object);
        let key = Key::Environment(uid(number));
        world.report_store_unavailable(key, None).await.unwrap();
        let status = world.cluster.get("environments", "team", &name).unwrap()["status"].clone();
        let accepting = &status["conditions"][1];
        assert_eq!(
            (&status["phase"], &accepting["status"]),
            (&json!(phase), &json!("False")),
            "{status}"
        );
    }
}
