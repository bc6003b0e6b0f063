//! Run kinds that the API server does not serve: not yet, or not any more.

use environment_operator::api::{LeasePhase, Reason};
use harness::operator::Operator;
use harness::wait::eventually;
use serde_json::json;

use super::{gone, still_held, succeeded};
use crate::support::custom::Kind;
use crate::support::release::RunKind;
use crate::support::{GRACE, LIMIT, TestEnvironment, lease};

/// A started operator that watches Jobs and this kind.
async fn start(world: &TestEnvironment<'_>, kind: &Kind) -> Operator {
    let kinds = world.run_kinds(&[RunKind::jobs(), kind.run_kind()]).await;
    world.start_with(&[&kinds]).await
}

/// Waits until the claim says why it waits, in these words.
async fn waits_because(world: &TestEnvironment<'_>, name: &str, message: &str) {
    eventually(&format!("{name} says why it waits"), LIMIT, async || {
        let lease = world
            .lease_because(name, LeasePhase::Pending, Reason::RunNotFound)
            .await;
        match lease.status.unwrap().message {
            Some(said) if said == message => Ok(()),
            said => Err(format!("{said:?}")),
        }
    })
    .await;
}

async fn is_remarked_upon(operator: &Operator, remarked: bool) {
    eventually("readiness says whether the kind is served", LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        let so = answer.body.contains("does not serve this kind") == remarked;
        match answer.status == 200 && so {
            true => Ok(()),
            false => Err(format!("{} {}", answer.status, answer.body)),
        }
    })
    .await;
}

#[tokio::test]
async fn a_kind_whose_definition_comes_later_is_waited_for_and_picked_up() {
    let world = TestEnvironment::new("kinds-later").await;
    let task = Kind::of(&world, "Task");
    let operator = start(&world, &task).await; // it is ready
    world.claim(task.claim("build")).await;
    let not_served = format!(
        "the API server does not serve run kind {} (yet)",
        task.run_kind().flag()
    );
    waits_because(&world, "of-build", &not_served).await;
    is_remarked_upon(&operator, true).await;
    let impatient = task.claim("never").set("acquireTimeoutSeconds", 1);
    world.claim(impatient).await;
    let refused = world
        .lease_because("of-never", LeasePhase::Failed, Reason::AcquireTimedOut)
        .await;
    let message = refused.status.unwrap().message.unwrap();
    assert!(message.ends_with(&not_served), "{message}");
    // Nothing else waits for it.
    world.job("job", json!({})).await;
    world.granted(lease("of-job").job("job")).await;

    task.install(&world).await;
    is_remarked_upon(&operator, false).await;
    waits_because(&world, "of-build", "task/build does not exist (yet)").await;
    task.create(&world, "build").await;
    world.lease_in("of-build", LeasePhase::Active).await;
    task.set_status(&world, "build", json!({ "phase": "Succeeded" })).await;
    succeeded("task/build succeeded").of(&world, "of-build").await;
}

#[tokio::test]
async fn a_kind_that_goes_and_comes_back_takes_no_lease_with_it() {
    let world = TestEnvironment::new("kinds-back").await;
    let task = Kind::of(&world, "Task");
    task.install(&world).await;
    let mut operator = start(&world, &task).await;
    for name in ["one", "two", "three"] {
        task.create(&world, name).await;
        world.granted(task.claim(name)).await;
    }
    // Not served any more: its objects are there, and nobody can read them.
    task.serve(&world, false).await;
    is_remarked_upon(&operator, true).await;
    // A new claim waits: that the object was there when it could last be read says little.
    let late = lease("late").set("run", task.claim("one").run());
    world.claim(late).await;
    let not_served = format!(
        "the API server does not serve run kind {} (yet)",
        task.run_kind().flag()
    );
    waits_because(&world, "late", &not_served).await;
    for name in ["of-one", "of-two", "of-three"] {
        still_held(&world, name).await;
    }
    // Nor is one started anew that has never seen them.
    operator.stop(GRACE).await.unwrap();
    operator.start_again().unwrap();
    is_remarked_upon(&operator, true).await;
    for name in ["of-one", "of-two", "of-three"] {
        still_held(&world, name).await;
    }
    // What needs no run ends all the same.
    world.release("of-three").await;
    world
        .lease_because("of-three", LeasePhase::Released, Reason::ReleaseRequested)
        .await;

    task.serve(&world, true).await;
    world.lease_in("late", LeasePhase::Active).await;
    task.set_status(&world, "one", json!({ "phase": "Succeeded" })).await;
    succeeded("task/one succeeded").of(&world, "of-one").await;
    task.delete(&world, "two").await;
    gone("task/two is gone, and its outcome was not seen")
        .of(&world, "of-two")
        .await;
}

#[tokio::test]
async fn a_kind_that_is_not_configured_any_more_leaves_its_leases_to_other_causes() {
    let world = TestEnvironment::new("kinds-dropped").await;
    let task = Kind::of(&world, "Task");
    task.install(&world).await;
    let mut before = start(&world, &task).await;
    for name in ["one", "two"] {
        task.create(&world, name).await;
        world.granted(task.claim(name)).await;
    }
    before.stop(GRACE).await.unwrap();
    let mut without = world.start().await;
    task.set_status(&world, "one", json!({ "phase": "Succeeded" })).await;
    for name in ["of-one", "of-two"] {
        still_held(&world, name).await;
    }
    world.release("of-two").await;
    world
        .lease_because("of-two", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    without.stop(GRACE).await.unwrap();
    let _again = start(&world, &task).await;
    succeeded("task/one succeeded").of(&world, "of-one").await;
}

#[tokio::test]
async fn a_kind_that_is_deleted_takes_its_objects_with_it_and_that_is_seen_now_or_once_it_is_back() {
    let world = TestEnvironment::new("kinds-deleted").await;
    let task = Kind::of(&world, "Task");
    task.install(&world).await;
    let mut operator = start(&world, &task).await;
    task.create(&world, "watched").await;
    world.granted(task.claim("watched")).await;
    // The objects of a kind are deleted before it: their deletion is heard of.
    task.remove(&world).await;
    gone("task/watched is gone, and its outcome was not seen")
        .of(&world, "of-watched")
        .await;

    task.install(&world).await;
    task.create(&world, "unwatched").await;
    world.granted(task.claim("unwatched")).await;
    operator.stop(GRACE).await.unwrap();
    task.remove(&world).await;
    operator.start_again().unwrap();
    is_remarked_upon(&operator, true).await;
    still_held(&world, "of-unwatched").await;
    task.install(&world).await;
    gone("task/unwatched is gone, and its outcome was not seen")
        .of(&world, "of-unwatched")
        .await;
}
