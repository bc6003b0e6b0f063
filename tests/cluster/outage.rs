//! Postgres away for a while: nothing is granted, nothing is lost, and readiness says so.

use environment_operator::api::{LeasePhase, Reason};
use harness::control_plane::ControlPlane;
use harness::guard;
use harness::operator::Operator;
use harness::postgres::Postgres;
use harness::wait::eventually;
use kube::ResourceExt;
use uuid::Uuid;

use crate::support::{LIMIT, TestEnvironment, lease};

async fn readiness_names_the_database(operator: &Operator) {
    eventually("readiness names the database", LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        let named = answer.status == 503 && answer.body.contains("database: ");
        if named { Ok(()) } else { Err(answer.body) }
    })
    .await;
}

#[tokio::test]
async fn what_happens_while_postgres_is_stopped_is_neither_granted_nor_lost() {
    let postgres = Postgres::start(&guard::fresh_directory("postgres").unwrap())
        .await
        .unwrap();
    let world = TestEnvironment::on(ControlPlane::shared().await, &postgres, "outage", []).await;
    let operator = world.start().await;
    world.ssh_environment("box").await;
    let run = world.insert_run().await;
    world.granted(lease("kept").environment("box").heartbeat_run(run)).await;
    world.granted(lease("released").environment("box")).await;
    let deleted: Uuid = world
        .granted(lease("deleted").environment("box"))
        .await
        .uid()
        .unwrap()
        .parse()
        .unwrap();

    postgres.stop().await.unwrap();
    readiness_names_the_database(&operator).await;
    world.claim(lease("made").environment("box")).await;
    world.claim(lease("made-and-deleted").environment("box")).await;
    world.claim(lease("needs-local")).await;
    world.delete_lease("deleted").await;
    world.release("released").await;
    for name in ["made", "made-and-deleted", "needs-local"] {
        let claim = world
            .lease_because(name, LeasePhase::Pending, Reason::StoreUnavailable)
            .await;
        assert_eq!(claim.status.unwrap().acquired_at, None);
    }
    world.delete_lease("made-and-deleted").await;
    assert_eq!(phase(&world, "kept").await, LeasePhase::Active, "it ends no lease");
    assert_eq!(phase(&world, "released").await, LeasePhase::Active, "it ends no lease");

    postgres.run_again().await.unwrap();
    operator.wait_ready().await;
    for name in ["made", "needs-local", "kept"] {
        world.lease_in(name, LeasePhase::Active).await;
    }
    world
        .lease_because("released", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    eventually("the deleted lease has ended", LIMIT, async || {
        match world.lease_row(deleted).await {
            Some(row) if row["status"] == "released" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // It hears of runs again, too.
    world.set_run_status(&[run], "succeeded").await;
    world
        .lease_because("kept", LeasePhase::Released, Reason::RunFinished)
        .await;
    world.settles().await;
}

#[tokio::test]
async fn a_postgres_that_crashes_again_and_again_loses_and_doubles_nothing() {
    let postgres = Postgres::start(&guard::fresh_directory("postgres").unwrap())
        .await
        .unwrap();
    let world = TestEnvironment::on(ControlPlane::shared().await, &postgres, "outage", []).await;
    let operator = world.start().await;
    world.ssh_environment("box").await;
    for round in 0..3 {
        for number in 0..5 {
            world
                .claim(lease(&format!("lease-{round}-{number}")).environment("box"))
                .await;
        }
        if round > 0 {
            for number in 0..2 {
                world.release(&format!("lease-{}-{number}", round - 1)).await;
            }
            world.delete_lease(&format!("lease-{}-2", round - 1)).await;
        }
        // At once: what it cuts in half is whatever is on its way.
        postgres.kill().await.unwrap();
        postgres.run_again().await.unwrap();
    }
    operator.wait_ready().await;
    for round in 0..2 {
        for number in 0..2 {
            let name = format!("lease-{round}-{number}");
            // Its own grant may have come after the crash, and then it never was a lease.
            eventually("the released lease has ended", LIMIT, async || {
                let lease = world.leases().get(&name).await.map_err(|error| error.to_string())?;
                let status = lease.status.unwrap_or_default();
                let ended = status.reason == Some(Reason::ReleaseRequested);
                if ended { Ok(()) } else { Err(format!("{status:?}")) }
            })
            .await;
        }
        world.lease_in(&format!("lease-{round}-3"), LeasePhase::Active).await;
    }
    for number in 0..5 {
        world.lease_in(&format!("lease-2-{number}"), LeasePhase::Active).await;
    }
    world.settles().await;
}

async fn phase(world: &TestEnvironment<'_>, name: &str) -> LeasePhase {
    world.leases().get(name).await.unwrap().status.unwrap().phase.unwrap()
}
