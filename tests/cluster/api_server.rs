//! The API server away for a while: what the database tells still ends leases, and the objects follow when it is back.

use environment_operator::api::{LeasePhase, Reason};
use harness::control_plane::ControlPlane;
use harness::guard;
use harness::operator::Operator;
use harness::postgres::Postgres;
use harness::wait::eventually;

use crate::support::{LIMIT, TestEnvironment, id_of, lease};

#[tokio::test]
async fn a_run_that_ends_while_the_api_server_is_away_ends_its_lease_in_both_places() {
    let control_plane = ControlPlane::start(&guard::fresh_directory("cluster").unwrap())
        .await
        .unwrap();
    let world = TestEnvironment::on(&control_plane, Postgres::shared().await, "away", []).await;
    let operator = world.start_with(&["--watch-timeout=2s"]).await;
    world.ssh_environment("box").await;
    let runs = [world.insert_run().await, world.insert_run().await];
    let killed = world
        .granted(lease("killed").environment("box").heartbeat_run(runs[0]))
        .await;
    let paused = world
        .granted(lease("paused").environment("box").heartbeat_run(runs[1]))
        .await;

    control_plane.kill_api_server().await.unwrap();
    world.set_run_status(&runs[..1], "failed").await;
    world.lease_row_is(id_of(&killed), "failed").await;
    readiness_names_the_feeds(&operator).await;
    control_plane.start_api_server().await.unwrap();
    world
        .lease_because("killed", LeasePhase::Failed, Reason::RunFailed)
        .await;
    operator.wait_ready().await;

    // Halted it keeps its connections open and says nothing: no watch breaks off by itself.
    control_plane.pause_api_server().await.unwrap();
    world.set_run_status(&runs[1..], "cancelled").await;
    world.lease_row_is(id_of(&paused), "expired").await;
    readiness_names_the_feeds(&operator).await;
    control_plane.resume_api_server().await.unwrap();
    world
        .lease_because("paused", LeasePhase::Expired, Reason::RunCancelled)
        .await;
    operator.wait_ready().await;
    world.granted(lease("after").environment("box")).await;
    world.settles().await;
}

async fn readiness_names_the_feeds(operator: &Operator) {
    eventually("readiness names the watches", LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        let named = answer.status == 503 && answer.body.contains("watch EnvironmentLease");
        if named { Ok(()) } else { Err(answer.body) }
    })
    .await;
}
