//! A claim that can't be granted says why, and its time runs out.

use super::*;
use crate::controller::error::OWN_FAULT;
use crate::controller::fake::REFUSED;
use crate::controller::work::trouble::HELD;

/// Lets a minute and more pass, as a claim that nothing helps does.
async fn wait_in_vain(world: &FakeReconcilers) {
    for _ in 0..20 {
        world.settle(REST).await;
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    world.settle(REST).await;
}

/// A claim says this after a few seconds, and fails with the same words once its time is out.
async fn says_and_times_out(world: &FakeReconcilers, name: &str, reason: &str, message: &str) {
    world.settle(REST).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    world.settle(REST).await;
    let pending = ["Pending", reason, message].map(str::to_owned);
    assert_eq!(world.shown("team", name), Some(pending));
    let patches = world.cluster.patches();
    wait_in_vain(world).await;
    let [phase, reason, last] = world.shown("team", name).unwrap();
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Failed", "AcquireTimedOut"),
        "{last}"
    );
    assert!(last.ends_with(&format!("last: {message}")), "{last}");
    assert!(world.cluster.patches() <= patches + 1, "said once");
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_run_can_not_be_read_says_so_and_times_out() {
    let world = world().await;
    let kind = kube::core::GroupVersionKind::gvk("batch", "v1", "Job");
    let version = ResourceVersion::parse("1").unwrap();
    world
        .context
        .learn(|cache| cache.reset_runs(&kind, None, Vec::<RunObject>::new(), &version));
    world.cluster.fail("get jobs");
    let mut lease = claim("team", "x", 10, "box");
    let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "build", "uid": uid(99) });
    lease["spec"]["run"] = json!({ "objectRef": job });
    world.make_lease(lease);
    let message = "job/build can't be read: the API server did not answer within 10s";
    says_and_times_out(&world, "x", "RunNotFound", message).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_local_can_not_be_made_says_so_and_times_out() {
    let world = world().await;
    world.cluster.fail("create environments");
    let mut lease = claim("team", "x", 10, "box");
    lease["spec"].as_object_mut().unwrap().remove("environmentRef");
    world.make_lease(lease);
    let message = "the company's Local can't be made: the API server did not answer within 10s";
    says_and_times_out(&world, "x", "EnvironmentNotActive", message).await;
    assert_eq!(
        world
            .context
            .cache()
            .sizes()
            .iter()
            .find(|(name, _)| name.contains("making"))
            .unwrap()
            .1,
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_namespace_can_not_be_read_says_so_and_times_out() {
    let world = world().await;
    world.cluster.fail("get namespaces");
    world.make_lease(claim("team", "x", 10, "box"));
    let message = "its namespace can't be read: the API server did not answer within 10s";
    says_and_times_out(&world, "x", "CompanyNotFound", message).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_rows_another_transaction_holds_says_so_and_times_out() {
    let world = world().await;
    world.database.set_busy(uid(10));
    world.make_lease(claim("team", "x", 10, "box"));
    says_and_times_out(&world, "x", "StoreUnavailable", HELD).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_can_not_be_looked_at_says_so_times_out_and_is_removed() {
    let world = world().await;
    world.database.set_refusing(uid(10), true);
    let mut lease = claim("team", "x", 10, "box");
    lease["spec"]["ttlSecondsAfterFinished"] = json!(600);
    world.make_lease(lease);
    says_and_times_out(&world, "x", "StoreUnavailable", REFUSED).await;
    for _ in 0..10 {
        wait_in_vain(&world).await;
    }
    assert_eq!(world.shown("team", "x"), None, "its object has had its time");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_can_not_be_looked_at_ends_when_its_release_is_asked_for() {
    let world = world().await;
    world.database.set_refusing(uid(10), true);
    let mut lease = claim("team", "x", 10, "box");
    lease["spec"]["release"] = json!(true);
    world.make_lease(lease);
    world.settle(REST).await;
    let [phase, reason, _] = world.shown("team", "x").unwrap();
    assert_eq!((phase.as_str(), reason.as_str()), ("Failed", "ReleaseRequested"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_which_nothing_can_be_proven_says_that_its_time_is_out_and_ends_later() {
    let world = world().await;
    world.make_lease(claim("team", "holder", 9, "box"));
    world.settle(REST).await;
    world.database.set_hidden(uid(10), true);
    world.make_lease(claim("team", "x", 10, "box"));
    wait_in_vain(&world).await;
    let [phase, reason, message] = world.shown("team", "x").unwrap();
    assert_eq!((phase.as_str(), reason.as_str()), ("Pending", "StoreUnavailable"));
    let says = format!("{REFUSED}; spec.acquireTimeoutSeconds has passed");
    assert!(message.starts_with(&says), "{message}");
    world.database.set_hidden(uid(10), false);
    wait_in_vain(&world).await;
    let [phase, reason, _] = world.shown("team", "x").unwrap();
    assert_eq!((phase.as_str(), reason.as_str()), ("Failed", "AcquireTimedOut"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_at_which_the_operator_panics_says_so_and_times_out() {
    let world = world().await;
    world.database.set_panicking(uid(10), true);
    world.make_lease(claim("team", "x", 10, "box"));
    says_and_times_out(&world, "x", "Waiting", OWN_FAULT).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_local_the_database_refuses_says_so_and_times_out() {
    let world = world().await;
    world.database.refuse_locals();
    let mut lease = claim("team", "x", 10, "box");
    lease["spec"].as_object_mut().unwrap().remove("environmentRef");
    world.make_lease(lease);
    says_and_times_out(&world, "x", "StoreUnavailable", REFUSED).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_in_a_namespace_that_is_going_ends_though_a_finalizer_keeps_it() {
    let world = world().await;
    world.make_lease(claim("team", "holder", 9, "box"));
    world.make_lease(claim("team", "x", 10, "box"));
    let mut deleted = claim("team", "deleted", 11, "box");
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.make_lease(deleted);
    world.settle(REST).await;
    assert_eq!(phase(&world, "x").as_deref(), Some("Pending"));
    let mut going = namespace("team", 1);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.make_namespace(going);
    wait_in_vain(&world).await;
    for name in ["x", "deleted"] {
        let [phase, reason, _] = world.shown("team", name).unwrap();
        assert_eq!((phase.as_str(), reason.as_str()), ("Failed", "LeaseDeleted"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_waits_for_a_moment_warns_nobody_and_one_that_waits_for_long_once() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "late"));
    world.make_lease(claim("team", "y", 11, "never"));
    world.settle(REST).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    world.make_environment(environment("team", "late", 20));
    world.settle(REST).await;
    assert_eq!(phase(&world, "x").as_deref(), Some("Active"));
    wait_in_vain(&world).await;
    let told = world.cluster.events("x");
    assert!(told.iter().all(|(warning, _)| !warning), "{told:?}");
    let told = world.cluster.events("y");
    let waits = "EnvironmentNotFound";
    assert_eq!(told, [(false, waits), (true, waits), (true, "AcquireTimedOut")]);
}
