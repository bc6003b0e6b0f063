//! What must not be lost between watches, cache, queue and reconcilers, on a fake cluster and a fake database, with time that is
//! moved by hand.

use std::time::Duration;

use futures::FutureExt as _;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::cache::Class;
use crate::cache::Looked;
use crate::cache::object::{EnvironmentObject, LeaseObject, RunObject, Watched};
use crate::controller::error::OWN_FAULT;
use crate::controller::fake::{FakeReconcilers, REFUSED, claim, environment, namespace, reconciler, uid};
use crate::controller::work::trouble::HELD;
use crate::lifecycle::ResourceVersion;
use crate::runtime::metrics::Cause;

/// For so long nothing may be ready for a world to count as settled; shorter than a claim's patience with what it hears of.
const REST: Duration = Duration::from_millis(400);

/// A company with the environment `box`, which admits one lease at once.
async fn world() -> Arc<FakeReconcilers> {
    let world = reconciler();
    world.make_namespace(namespace("team", 1));
    world.make_environment(environment("team", "box", 2));
    world.settle(REST).await;
    world
}

fn phase(world: &FakeReconcilers, name: &str) -> Option<String> {
    world.shown("team", name).map(|[phase, ..]| phase)
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_made_again_under_its_name_while_a_status_is_written_is_decided_at_once() {
    let world = world().await;
    world.make_lease(claim("team", "again", 10, "box"));
    // Between the look and the write the object is deleted and made anew; the watch has not told yet.
    let cluster = world.cluster.clone();
    world.cluster.before_next_patch(move || {
        cluster.remove::<LeaseObject>("leases", "team", "again").unwrap();
        cluster.make::<LeaseObject>("leases", claim("team", "again", 11, "box"));
    });
    world.settle(REST).await;
    assert_eq!(phase(&world, "again").as_deref(), Some("Active"));
    // What the watch tells late of the first one touches the second no more.
    let mut late = claim("team", "again", 10, "box");
    late["metadata"]["resourceVersion"] = json!("4");
    late["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let late = LeaseObject::decode("", "", late).unwrap();
    let deleted = late.clone();
    world.context.learn(|cache| cache.apply_lease(late));
    world.context.learn(|cache| cache.delete_lease(deleted));
    world.settle(REST).await;
    assert_eq!(phase(&world, "again").as_deref(), Some("Active"));
    assert_eq!(world.database.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_made_again_under_its_name_while_a_status_is_written_is_mirrored_at_once() {
    let world = world().await;
    world.make_environment(environment("team", "again", 20));
    let cluster = world.cluster.clone();
    world.cluster.before_next_patch(move || {
        cluster
            .remove::<EnvironmentObject>("environments", "team", "again")
            .unwrap();
        cluster.make::<EnvironmentObject>("environments", environment("team", "again", 21));
    });
    world.settle(REST).await;
    world.make_lease(claim("team", "x", 10, "again"));
    world.settle(REST).await;
    assert_eq!(phase(&world, "x").as_deref(), Some("Active"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_the_deletion_was_dealt_with_brings_no_ghost_back() {
    let world = world().await;
    let version = ResourceVersion::parse("1").unwrap();
    world
        .context
        .learn(|cache| cache.reset_leases(None, Vec::new(), &version));
    let lease = world.make_lease(claim("team", "x", 10, "box"));
    world.delete_lease_object("team", "x");
    world.settle(REST).await;
    let before = world.context.cache().sizes();
    world.context.learn(|cache| cache.read_lease(lease));
    assert_eq!(world.context.cache().sizes(), before);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_can_not_be_decided_holds_up_no_claim_of_another_environment() {
    let world = world().await;
    world.make_namespace(namespace("other", 3));
    world.make_environment(environment("other", "box", 4));
    world.settle(REST).await;
    world.database.set_panicking(uid(10), true);
    // Seen and never looked at: as if its key had been lost.
    let stuck = claim("team", "stuck", 10, "box");
    let stuck: LeaseObject = world.cluster.make("leases", stuck);
    world.context.cache.note(|cache| drop(cache.apply_lease(stuck)));
    world.make_lease(claim("other", "x", 11, "box"));
    world.make_lease(claim("team", "behind", 12, "box"));
    world.settle(REST).await;
    let x = world.shown("other", "x").unwrap();
    assert_eq!(x[0], "Active", "another company's: {x:?}");
    // Behind it, in its own line, a claim says so after a moment, and times out.
    assert_eq!(phase(&world, "behind"), None);
    tokio::time::advance(Duration::from_secs(3)).await;
    world.settle(REST).await;
    let [phase, reason, message] = world.shown("team", "behind").unwrap();
    assert_eq!((phase.as_str(), reason.as_str()), ("Pending", "CapacityFull"));
    assert_eq!(message, "claims that came earlier are looked at first");
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(5)).await;
        world.settle(REST).await;
    }
    let [phase, reason, _] = world.shown("team", "behind").unwrap();
    assert_eq!((phase.as_str(), reason.as_str()), ("Failed", "AcquireTimedOut"));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_is_released_comes_back_later_and_holds_up_nobody() {
    let world = world().await;
    world.database.set_panicking(uid(10), true);
    world.make_lease(claim("team", "first", 10, "box"));
    world.make_lease(claim("team", "second", 11, "box"));
    world.settle(REST).await;
    assert_eq!(phase(&world, "second").as_deref(), Some("Active"));
    assert_eq!(world.context.queue.size(Instant::now()).timers[&Cause::Retry], 1);
    world.database.set_panicking(uid(10), false);
    tokio::time::advance(Duration::from_secs(10)).await;
    world.settle(REST).await;
    assert_eq!(
        phase(&world, "first").as_deref(),
        Some("Pending"),
        "it is its turn after the second"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_reconcile_of_a_former_leadership_has_found_out_moves_nobody_in_line() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "box"));
    let former = Looked {
        id: uid(10),
        term: world.context.cache().term(),
    };
    // The replica follows for a while, and leads again; meanwhile the claim is deleted, and a list has shown it.
    world.context.queue.close();
    let version = ResourceVersion::parse("100").unwrap();
    world.delete_lease_object("team", "x");
    world.context.learn(|cache| cache.forget_gone_leases(&version));
    world.context.queue.open();
    world.context.learn(|cache| cache.begin_term(Instant::now()));
    let limited = crate::cache::Limited {
        row: uid(2),
        company: uid(1),
        free: 1,
    };
    world.context.learn(|cache| cache.stand(former, limited).1);
    world
        .context
        .cache
        .note(|cache| cache.note_namespace(former.id, uid(1)));
    let sizes = world.context.cache().sizes();
    let line = sizes.iter().find(|(name, _)| *name == "wait queue: claims").unwrap();
    assert_eq!(line.1, 0, "{sizes:?}");
    // One that is there, and has not been looked at in this leadership, keeps its turn in doubt.
    world.make_lease(claim("team", "y", 11, "box"));
    let term = world.context.cache().term();
    world.context.learn(|cache| {
        cache.stand_aside(Looked {
            id: uid(11),
            term: term - 1,
        })
    });
    world.make_lease(claim("team", "z", 12, "box"));
    let z = Looked { id: uid(12), term };
    world.context.learn(|cache| {
        let (place, wakes) = cache.stand(z, limited);
        assert_eq!(place, crate::cache::wait_queue::Position::InDoubt);
        wakes
    });
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_granted_before_its_environment_is_shown_is_counted_there() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "new"));
    world.settle(REST).await;
    // Between the row of the environment and its first status a claim is granted that has waited for it.
    let other = world.clone();
    world.cluster.before_next_patch(move || {
        other.leases.reconcile(uid(10)).now_or_never().unwrap().unwrap();
        assert_eq!(phase(&other, "x").as_deref(), Some("Active"));
    });
    world.make_environment(environment("team", "new", 20));
    for _ in 0..3 {
        world.settle(REST).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let shown = world.cluster.get("environments", "team", "new").unwrap();
    assert_eq!(shown["status"]["activeLeases"], 1, "{shown}");
}

#[tokio::test(start_paused = true)]
async fn what_conflicts_although_nothing_newer_is_there_is_tried_later_and_later() {
    let world = world().await;
    // As after a restore of etcd beneath a running operator: what is read is older than what is known.
    let version = json!("1000000");
    let mut lease = claim("team", "x", 10, "box");
    let mut of_environment = environment("team", "other", 20);
    let _: LeaseObject = world.cluster.make("leases", lease.clone());
    let _: EnvironmentObject = world.cluster.make("environments", of_environment.clone());
    for object in [&mut lease, &mut of_environment] {
        object["metadata"]["resourceVersion"] = version.clone();
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let lease = LeaseObject::decode("", "", lease).unwrap();
    let of_environment = EnvironmentObject::decode("", "", of_environment).unwrap();
    world
        .context
        .learn(|cache| cache.apply_lease(lease).and(cache.apply_environment(of_environment)));
    let (mut tries, begun) = (0, Instant::now());
    while tries < 1_000 && begun.elapsed() < Duration::from_secs(60) {
        let key = world.context.queue.next().await;
        tries += 1;
        crate::controller::workers::reconcile(&*world, key).await.unwrap();
        world.context.queue.done(key);
    }
    assert!(tries < 200, "{tries} tries in {:?}", begun.elapsed());
}

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

#[tokio::test(start_paused = true)]
async fn an_event_costs_what_it_concerns_and_nothing_of_other_companies() {
    let world = reconciler();
    let mut number = 1_000;
    let mut next = || {
        number += 1;
        number
    };
    for company in 0..20 {
        let name = format!("team-{company}");
        world.make_namespace(namespace(&name, next()));
        for environment_name in ["box", "other"] {
            world.make_environment(environment(&name, environment_name, next()));
        }
        for claims in 0..5 {
            let mut free = claim(&name, &format!("default-{claims}"), next(), "box");
            free["spec"].as_object_mut().unwrap().remove("environmentRef");
            world.make_lease(free);
            world.make_lease(claim(&name, &format!("named-{claims}"), next(), "missing"));
        }
    }
    let cache = world.context.cache();
    let edited = cache.environments.named("team-7", "box").unwrap();
    assert_eq!(cache.claims_for(edited).len(), 5, "those of its company that name none");
    let row = edited.meta.uid;
    assert_eq!(cache.leases_of_row(row, Some(edited)).len(), 5);
    assert_eq!(
        cache
            .environments_of_company(cache.namespaces["team-7"].meta.uid)
            .count(),
        2
    );
    let mut changed = cache.namespaces["team-7"].clone();
    drop(cache);
    changed.meta.resource_version = ResourceVersion::parse("999999").unwrap();
    changed.company_label = Some(uid(5).to_string());
    let woken = world
        .context
        .cache
        .change(|cache| cache.apply_namespace(changed), |_, _| true);
    assert_eq!(woken.len(), 2 + 10, "what is in that namespace");
    assert!(
        woken
            .iter()
            .all(|(_, lane)| lane.company == uid(5) && lane.class == Class::Grant)
    );
}
