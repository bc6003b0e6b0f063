//! Killed around a grant.

use environment_operator::api::{LeasePhase, Reason};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use super::{kill_and_start_again, phase, start_through};
use crate::support::proxy::{Fault, creates, writes_status_of};
use crate::support::{TestEnvironment, id_of, lease};

#[tokio::test]
async fn a_kill_before_the_grants_transaction_leaves_nothing_behind() {
    let world = TestEnvironment::new("crash").await;
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let mut obstruction = world.obstruct("environment_leases").await;
    let kept = world.claim(lease("kept").environment("box")).await;
    let withdrawn = world.claim(lease("withdrawn").environment("box")).await;
    obstruction.wait_for_operator().await;
    kill_and_start_again(&world, &mut operator, async || {
        obstruction.discard_operator().await;
        for lease in [&kept, &withdrawn] {
            assert_eq!(world.lease_row(id_of(lease)).await, None);
            assert_eq!(world.record(id_of(lease)).await, None);
        }
        world.delete_lease("withdrawn").await;
    })
    .await;
    world.lease_in("kept", LeasePhase::Active).await;
    world.settles().await;
    assert_eq!(world.lease_row(id_of(&withdrawn)).await, None, "it was never granted");
    assert_eq!(world.activity(id_of(&withdrawn)).await, Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn a_dead_leaders_transaction_that_goes_on_grants_nothing_twice() {
    let world = TestEnvironment::new("crash").await;
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let mut obstruction = world.obstruct("environment_leases").await;
    for number in 0..3 {
        world.claim(lease(&format!("claim-{number}")).environment("box")).await;
    }
    obstruction.wait_for_operator().await;
    // Postgres does not know yet that nobody waits for the answer: the statement is carried out once it can be.
    kill_and_start_again(&world, &mut operator, async || obstruction.clear().await).await;
    for number in 0..3 {
        world.lease_in(&format!("claim-{number}"), LeasePhase::Active).await;
    }
    world.settles().await;
}

#[tokio::test]
async fn a_grant_that_was_committed_but_not_shown_is_shown_or_ended_after_the_kill() {
    let world = TestEnvironment::new("crash").await;
    let proxy = world.proxy().await;
    let mut operator = start_through(&proxy, &world).await;
    world.ssh_environment("box").await;
    let run = world.insert_run().await;
    let unshown = proxy.spoil(Fault::Withhold, writes_status_of("environmentleases"));
    let kept = world.claim(lease("kept").environment("box")).await;
    let deleted = world.claim(lease("deleted").environment("box")).await;
    let finished = world
        .claim(lease("finished").environment("box").heartbeat_run(run))
        .await;
    for lease in [&kept, &deleted, &finished] {
        world.lease_row_is(id_of(lease), "active").await;
    }
    unshown.wait_for_hits(3).await;
    kill_and_start_again(&world, &mut operator, async || {
        unshown.discard();
        for name in ["kept", "deleted", "finished"] {
            assert_ne!(phase(&world, name).await, Some(LeasePhase::Active), "nothing was shown");
        }
        world.delete_lease("deleted").await;
        world.set_run_status(&[run], "failed").await;
    })
    .await;
    let token = world.record(id_of(&kept)).await.unwrap()["fencing_token"].clone();
    let status = world.lease_in("kept", LeasePhase::Active).await.status.unwrap();
    assert_eq!(json!(status.fencing_token), token, "it is the same grant");
    world.lease_row_is(id_of(&deleted), "released").await;
    assert_eq!(world.record(id_of(&deleted)).await.unwrap()["reason"], "LeaseDeleted");
    world
        .lease_because("finished", LeasePhase::Failed, Reason::RunFailed)
        .await;
    world.settles().await;
}

#[tokio::test]
async fn a_grant_that_was_shown_is_not_shown_again_after_the_kill() {
    let world = TestEnvironment::new("crash").await;
    let proxy = world.proxy().await;
    let mut operator = start_through(&proxy, &world).await;
    world.ssh_environment("box").await;
    let unheard = proxy.spoil(Fault::KeepAnswer, writes_status_of("environmentleases"));
    world.claim(lease("shown").environment("box")).await;
    unheard.wait_for_hits(1).await;
    let shown = world.lease_in("shown", LeasePhase::Active).await;
    let mark = world.mark();
    kill_and_start_again(&world, &mut operator, async || unheard.lift()).await;
    // A later lease's grant: by then the first has been looked at.
    world.granted(lease("later").environment("box")).await;
    world.settles().await;
    let again = world.leases().get("shown").await.unwrap();
    assert_eq!(again.resource_version(), shown.resource_version());
    let written = world.control_plane().audit().writes(mark, |event| {
        let object = event.object_ref.clone().unwrap_or_default();
        object.namespace == world.namespace.name() && object.name == "shown"
    });
    assert_eq!(written.unwrap().len(), 0);
}

#[tokio::test]
async fn a_kill_between_the_object_local_and_its_row_makes_neither_twice() {
    let world = TestEnvironment::new("crash").await;
    let proxy = world.proxy().await;
    let mut operator = start_through(&proxy, &world).await;
    // The object is made, the operator is not answered; what its watch tells it gets it no further than to the row.
    let mut obstruction = world.obstruct("environments").await;
    let unheard = proxy.spoil(Fault::KeepAnswer, creates("environments"));
    world.claim(lease("first")).await;
    unheard.wait_for_hits(1).await;
    let made = world.environments().get("local").await.unwrap();
    // The next one knows of the object and waits for the row.
    kill_and_start_again(&world, &mut operator, async || {
        unheard.lift();
        obstruction.cut_operator().await;
        assert_eq!(world.environment_rows(world.company()).await.len(), 0, "no row yet");
    })
    .await;
    obstruction.wait_for_operator().await;
    // The one after it has written the row, and not shown it.
    let unshown = proxy.spoil(Fault::Withhold, writes_status_of("environments"));
    kill_and_start_again(&world, &mut operator, async || obstruction.discard_operator().await).await;
    unshown.wait_for_hits(1).await;
    kill_and_start_again(&world, &mut operator, async || unshown.discard()).await;
    world.lease_in("first", LeasePhase::Active).await;
    world.settles().await;
    let objects = world.environments().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(objects.len(), 1, "one object: {objects:#?}");
    assert_eq!(objects[0].uid(), made.uid(), "the first one");
    assert_eq!(world.environment_rows(world.company()).await.len(), 1);
}
