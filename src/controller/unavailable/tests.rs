//! What objects say of a database that is away or refused: the one sentence, once, and anew only where the cause is another.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::cache::object::{EnvironmentObject, LeaseObject, Watched};
use crate::controller::fake::{FakeReconcilers, claim, environment, namespace, reconciler, reconciler_of, uid};
use crate::lifecycle::ResourceVersion;

const REST: Duration = Duration::from_millis(400);
const CLAIM: Key = Key::Lease(Uuid::from_u128(10));
const BOX: Key = Key::Environment(Uuid::from_u128(2));

/// A company with the environment `box`, whose database is away from then on.
async fn world() -> Arc<FakeReconcilers> {
    let world = reconciler();
    world.make_namespace(namespace("team", 1));
    world.make_environment(environment("team", "box", 2));
    world.settle(REST).await;
    world.database.set_away(true);
    world
}

/// Another replica of the same cluster, which knows what the first one does.
fn another(of: &FakeReconcilers) -> Arc<FakeReconcilers> {
    let replica = reconciler_of(of.cluster.as_ref().clone());
    let listed = ResourceVersion::parse("1").unwrap();
    replica
        .context
        .learn(|cache| cache.reset_leases(None, Vec::new(), &listed));
    hear(&replica);
    replica
}

/// The watches tell what has changed.
fn hear(replica: &FakeReconcilers) {
    let read = |kind, name| replica.cluster.get(kind, "team", name);
    if let Some(lease) = read("leases", "x") {
        let lease = LeaseObject::decode("", "", lease).unwrap();
        replica.context.learn(|cache| cache.apply_lease(lease));
    }
    let environment = EnvironmentObject::decode("", "", read("environments", "box").unwrap()).unwrap();
    replica.context.learn(|cache| cache.apply_environment(environment));
}

async fn report(world: &FakeReconcilers, key: Key, refusal: Option<&str>) {
    world.report_store_unavailable(key, refusal).await.unwrap();
}

fn said(world: &FakeReconcilers) -> [String; 3] {
    world.shown("team", "x").unwrap()
}

fn status_of_box(world: &FakeReconcilers) -> Value {
    world.cluster.get("environments", "team", "box").unwrap()["status"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_claim_says_why_once_and_anew_where_it_is_another_reason() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "box"));
    world.context.note_lapse(true);
    let before = world.cluster.patches();
    for (patches, refusal) in [
        (1, None),
        (1, None),
        (2, Some("a table is gone")),
        (2, Some("a table is gone")),
        (3, Some("rows are hidden")),
        (4, None),
        (4, None),
    ] {
        report(&world, CLAIM, refusal).await;
        let [phase, reason, message] = said(&world);
        assert_eq!((phase.as_str(), reason.as_str()), ("Pending", "StoreUnavailable"));
        assert_eq!(message, super::message(refusal));
        assert_eq!(world.cluster.patches() - before, patches, "{refusal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_replicas_that_cannot_use_their_databases_none_contradicts_the_other() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "box"));
    world.context.note_lapse(true);
    let before = world.cluster.patches();
    report(&world, CLAIM, None).await;
    // Another replica led meanwhile, and refuses its database now.
    let other = another(&world);
    other.context.note_lapse(true);
    for _ in 0..5 {
        report(&other, CLAIM, Some("a table is gone")).await;
        hear(&world);
        report(&world, CLAIM, None).await;
        hear(&other);
    }
    assert_eq!(world.cluster.patches() - before, 2);
    assert!(
        said(&world)[2].ends_with("a table is gone"),
        "who led last has the word"
    );
}

#[tokio::test(start_paused = true)]
async fn an_environment_stays_as_it_is_mirrored_while_the_database_cannot_be_used() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "box"));
    let shown = status_of_box(&world);
    assert_eq!((&shown["phase"], &shown["activeLeases"]), (&json!("Active"), &json!(0)));
    let before = world.cluster.patches();
    for refusal in [None, Some("a table is gone")] {
        report(&world, BOX, refusal).await;
    }
    world.context.note_lapse(true);
    for refusal in [None, Some("a table is gone")] {
        report(&world, BOX, refusal).await;
    }
    assert_eq!((world.cluster.patches() - before, status_of_box(&world)), (0, shown));
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_not_mirrored_yet_says_why_and_anew_where_it_is_another_reason() {
    let world = reconciler();
    world.make_namespace(namespace("team", 1));
    world.make_environment(environment("team", "box", 2));
    world.context.note_lapse(true);
    for (patches, refusal) in [
        (1, None),
        (1, None),
        (2, Some("a table is gone")),
        (2, Some("a table is gone")),
    ] {
        report(&world, BOX, refusal).await;
        let ready = status_of_box(&world)["conditions"][0].clone();
        assert_eq!(ready["reason"], "StoreUnavailable");
        assert_eq!(ready["message"], super::message(refusal));
        assert_eq!(world.cluster.patches(), patches, "{refusal:?}");
    }
    // What another replica has said in the meantime is left to it.
    let other = another(&world);
    other.context.note_lapse(true);
    report(&other, BOX, None).await;
    assert_eq!(world.cluster.patches(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_environment_whose_row_cannot_be_read_keeps_what_it_shows_and_says_so() {
    let world = world().await;
    world.database.set_away(false);
    world.database.set_unreadable(uid(2));
    let shown = status_of_box(&world);
    let error = world.environments.reconcile(uid(2)).await.unwrap_err();
    let sentence = error.refusal_of_one().unwrap();
    for _ in 0..2 {
        world
            .report_refused(BOX, Reason::StoreUnavailable, &sentence)
            .await
            .unwrap();
    }
    let now = status_of_box(&world);
    for field in ["phase", "activeLeases", "environmentId"] {
        assert_eq!(now[field], shown[field], "{field}");
    }
    assert_eq!(now["conditions"][0]["reason"], "StoreUnavailable");
    assert_eq!(now["conditions"][0]["message"], "column config cannot be read");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_shown_as_gone_is_not_shown_as_there_while_the_database_cannot_be_used() {
    let world = reconciler();
    world.make_namespace(namespace("team", 1));
    let mut gone = environment("team", "box", 2);
    gone["status"] = json!({
        "phase": "Pending", "environmentId": uid(2), "companyId": uid(1), "name": "box", "activeLeases": 0,
        "observedGeneration": 0, "conditions": [],
    });
    world.make_environment(gone);
    report(&world, BOX, None).await;
    assert_eq!(status_of_box(&world)["phase"], "Pending");
}

#[tokio::test(start_paused = true)]
async fn who_shows_nothing_or_that_the_database_could_not_be_used_is_looked_at_where_the_reason_changes() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "box"));
    assert_eq!(world.context.cache().without_store(), [CLAIM]);
    report(&world, CLAIM, None).await;
    world.make_lease(claim("team", "y", 11, "box"));
    let mut held = claim("team", "held", 12, "box");
    held["status"] = json!({ "phase": "Active", "reason": "Granted", "conditions": [] });
    world.make_lease(held);
    world.make_environment(environment("team", "new", 3));
    let mut keys = world.context.cache().without_store();
    keys.sort();
    assert_eq!(keys, [Key::Environment(uid(3)), CLAIM, Key::Lease(uid(11))]);
}
