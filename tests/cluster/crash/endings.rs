//! Killed around an ending.

use environment_operator::api::{LeasePhase, Reason};
use kube::ResourceExt;

use super::{kill_and_start_again, phase, start_through};
use crate::support::proxy::{Fault, writes_status_of};
use crate::support::{Expected, TestEnvironment, id_of, lease};

#[tokio::test]
async fn a_kill_before_an_endings_transaction_ends_the_lease_once_for_its_reason() {
    let world = TestEnvironment::new("crash").await;
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let run = world.insert_run().await;
    let finished = world
        .granted(lease("finished").environment("box").heartbeat_run(run))
        .await;
    let deleted = world.granted(lease("deleted").environment("box")).await;
    let mut obstruction = world.obstruct("environment_leases").await;
    world.set_run_status(&[run], "failed").await;
    world.delete_lease("deleted").await;
    obstruction.wait_for_operator().await;
    kill_and_start_again(&world, &mut operator, async || {
        obstruction.discard_operator().await;
        for lease in [&finished, &deleted] {
            assert_eq!(world.lease_row(id_of(lease)).await.unwrap()["status"], "active");
        }
    })
    .await;
    let failed = Expected {
        phase: LeasePhase::Failed,
        reason: Reason::RunFailed,
        message: &format!("run/{} failed", &run.to_string()[..8]),
    };
    failed.of(&world, "finished").await;
    world.lease_row_is(id_of(&deleted), "released").await;
    assert_eq!(world.record(id_of(&deleted)).await.unwrap()["reason"], "LeaseDeleted");
    world.settles().await;
}

#[tokio::test]
async fn a_kill_between_the_archiving_of_an_environment_and_the_end_of_its_leases_ends_them_all() {
    let world = TestEnvironment::new("crash").await;
    let mut operator = world.start().await;
    let environment = world.ssh_environment("box").await;
    for name in ["first", "second"] {
        world.granted(lease(name).environment("box")).await;
    }
    let mut obstruction = world.obstruct("environment_leases").await;
    world.delete_environment("box").await;
    obstruction.wait_for_operator().await;
    kill_and_start_again(&world, &mut operator, async || {
        obstruction.discard_operator().await;
        let row = world.environment_row(environment.uid().unwrap().parse().unwrap()).await;
        assert_eq!(row.unwrap()["status"], "archived");
    })
    .await;
    for name in ["first", "second"] {
        world
            .lease_because(name, LeasePhase::Failed, Reason::EnvironmentDeleted)
            .await;
    }
    world.settles().await;
}

#[tokio::test]
async fn an_ending_that_was_committed_but_not_shown_keeps_its_reason_after_the_kill() {
    let world = TestEnvironment::new("crash").await;
    let proxy = world.proxy().await;
    let mut operator = start_through(&proxy, &world).await;
    world.ssh_environment("box").await;
    let runs = [world.insert_run().await, world.insert_run().await];
    for (name, run) in ["released-later", "changed-later"].into_iter().zip(runs) {
        world.granted(lease(name).environment("box").heartbeat_run(run)).await;
    }
    let unshown = proxy.spoil(Fault::Withhold, writes_status_of("environmentleases"));
    world.set_run_status(&runs, "failed").await;
    unshown.wait_for_hits(2).await;
    kill_and_start_again(&world, &mut operator, async || {
        unshown.discard();
        for name in ["released-later", "changed-later"] {
            assert_eq!(phase(&world, name).await, Some(LeasePhase::Active), "nothing was shown");
        }
        // Causes that would have gone before, or had another status, had they come first.
        world.release("released-later").await;
        world.set_run_status(&runs[1..], "succeeded").await;
    })
    .await;
    for name in ["released-later", "changed-later"] {
        world.lease_because(name, LeasePhase::Failed, Reason::RunFailed).await;
    }
    world.settles().await;
}

#[tokio::test]
async fn an_ending_that_was_shown_is_not_told_again_after_the_kill() {
    let world = TestEnvironment::new("crash").await;
    let proxy = world.proxy().await;
    let mut operator = start_through(&proxy, &world).await;
    world.ssh_environment("box").await;
    world.granted(lease("ended").environment("box")).await;
    let unheard = proxy.spoil(Fault::KeepAnswer, writes_status_of("environmentleases"));
    world.release("ended").await;
    unheard.wait_for_hits(1).await;
    let ended = world
        .lease_because("ended", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    let row = world.lease_row(id_of(&ended)).await;
    kill_and_start_again(&world, &mut operator, async || unheard.lift()).await;
    world.granted(lease("later").environment("box")).await;
    world.settles().await;
    assert_eq!(
        world.leases().get("ended").await.unwrap().resource_version(),
        ended.resource_version()
    );
    assert_eq!(world.lease_row(id_of(&ended)).await, row);
}
