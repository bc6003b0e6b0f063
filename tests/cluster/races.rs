//! What ends while it is being granted: whichever comes first, nothing is left held.

use environment_operator::api::{COMPANY_LABEL, LeasePhase, Reason};
use futures::future::join_all;
use harness::namespace::Namespace;
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{LIMIT, TestEnvironment, lease};

/// How many times each race is run.
const RACERS: usize = 32;

/// Lets a moment pass that differs from racer to racer: so many answers of the API server.
async fn moment_of(world: &TestEnvironment<'_>, racer: usize) {
    for _ in 0..racer % 8 {
        world.leases().get_opt("nobody").await.unwrap();
    }
}

/// Waits until no row is active, and each that there is has ended for this reason. How many there are.
async fn nothing_is_held(world: &TestEnvironment<'_>, reason: Reason) -> usize {
    eventually("nothing is held", LIMIT, async || {
        let rows = world.lease_rows(world.company()).await;
        match rows.iter().find(|row| row["status"] == "active") {
            Some(row) => Err(row.to_string()),
            None => Ok(()),
        }
    })
    .await;
    let rows = world.lease_rows(world.company()).await;
    for row in &rows {
        let id: Uuid = row["id"].as_str().unwrap().parse().unwrap();
        let record = world.record(id).await.unwrap();
        assert_eq!(record["reason"], json!(reason), "{record}");
        let actions: Vec<Value> = world
            .activity(id)
            .await
            .iter()
            .map(|entry| entry["action"].clone())
            .collect();
        assert_eq!(actions, ["environment.lease_acquired", "environment.lease_released"]);
    }
    rows.len()
}

#[tokio::test]
async fn runs_that_end_while_their_leases_are_granted_leave_none_behind() {
    let world = TestEnvironment::new("race-run").await;
    // Nobody but the listener: what it misses stays.
    let _operator = world.start_with(&["--notice-by=runs"]).await;
    world.granted(lease("first")).await;
    let agent = world.insert_agent(world.company()).await;
    join_all((0..RACERS).map(async |racer| {
        let run = world.insert_run_of(world.company(), agent, "running", json!({})).await;
        let name = format!("racer-{racer}");
        world.claim(lease(&name).heartbeat_run(run)).await;
        moment_of(&world, racer).await;
        world.set_run_status(&[run], "succeeded").await;
        eventually(&format!("{name} has ended"), LIMIT, async || {
            let status = world
                .leases()
                .get(&name)
                .await
                .map_err(|error| error.to_string())?
                .status
                .unwrap_or_default();
            match (status.phase, status.reason) {
                (Some(LeasePhase::Released), Some(Reason::RunFinished)) => Ok(()),
                (Some(LeasePhase::Failed), Some(Reason::RunAlreadyFinished)) => Ok(()),
                _ => Err(json!(status).to_string()),
            }
        })
        .await;
    }))
    .await;
    let active = "SELECT count(*) FROM environment_leases WHERE status = 'active'";
    let active: i64 = sqlx::query_scalar(active).fetch_one(&world.pool).await.unwrap();
    assert_eq!(active, 1, "the lease without a run");
}

#[tokio::test]
async fn leases_that_are_deleted_while_they_are_granted_leave_no_row_held() {
    let world = TestEnvironment::new("race-lease").await;
    let _operator = world.start_with(&["--notice-by=watches"]).await;
    join_all((0..RACERS).map(async |racer| {
        let name = format!("racer-{racer}");
        world.claim(lease(&name)).await;
        moment_of(&world, racer).await;
        world.delete_lease(&name).await;
    }))
    .await;
    // Granted last, so that all that came before it has been looked at.
    let marker = world.granted(lease("marker")).await;
    world.delete_lease(&marker.name_any()).await;
    let granted = nothing_is_held(&world, Reason::LeaseDeleted).await;
    assert!(granted >= 1, "the marker at least");
}

#[tokio::test]
async fn environments_that_are_deleted_and_made_again_under_their_claims_fail_a_lease_or_wait_for_the_next() {
    let world = TestEnvironment::new("race-environment").await;
    let _operator = world.start_with(&["--notice-by=watches"]).await;
    let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
    let spec = json!({ "driver": "SSH", "ssh": ssh });
    let outcomes = join_all((0..RACERS).map(async |racer| {
        let name = format!("racer-{racer}");
        world.environment(&name, spec.clone()).await;
        world.claim(lease(&name).environment(&name)).await;
        moment_of(&world, racer).await;
        world.delete_environment(&name).await;
        moment_of(&world, racer / 8).await;
        let next = world.environment(&name, spec.clone()).await;
        eventually(&format!("{name} is settled"), LIMIT, async || {
            let status = world
                .leases()
                .get(&name)
                .await
                .map_err(|error| error.to_string())?
                .status;
            let status = status.unwrap_or_default();
            let held = status
                .environment
                .as_ref()
                .map(|environment| environment.id.to_string());
            match (status.phase, status.reason) {
                (Some(LeasePhase::Failed), Some(Reason::EnvironmentDeleted)) => Ok(false),
                (Some(LeasePhase::Active), _) if held == next.uid() => Ok(true),
                _ => Err(json!(status).to_string()),
            }
        })
        .await
    }))
    .await;
    assert_eq!(outcomes.len(), RACERS);
    world.settles().await;
}

#[tokio::test]
async fn jobs_that_are_deleted_while_their_leases_are_granted_leave_no_row_held() {
    let world = TestEnvironment::new("race-job").await;
    let _operator = world.start_with(&["--notice-by=objects"]).await;
    join_all((0..RACERS).map(async |racer| {
        let name = format!("racer-{racer}");
        world.job(&name, json!({ "suspend": true })).await;
        world.claim(lease(&name).job(&name)).await;
        moment_of(&world, racer).await;
        world.delete_job(&name).await;
        // Granted in time and ended, or not granted and waiting for a Job of that name.
        eventually(&format!("{name} is settled"), LIMIT, async || {
            let status = world
                .leases()
                .get(&name)
                .await
                .map_err(|error| error.to_string())?
                .status
                .unwrap_or_default();
            match (status.phase, status.reason) {
                (Some(LeasePhase::Expired), Some(Reason::RunGone)) => Ok(()),
                (Some(LeasePhase::Pending), Some(Reason::RunNotFound)) => Ok(()),
                _ => Err(json!(status).to_string()),
            }
        })
        .await;
    }))
    .await;
    nothing_is_held(&world, Reason::RunGone).await;
}

#[tokio::test]
async fn two_namespaces_of_one_company_share_one_local_row() {
    let company = Uuid::new_v4();
    let label = company.to_string();
    let world = TestEnvironment::with_labels("race-company", [(COMPANY_LABEL, &label)]).await;
    let other = Namespace::create_with_labels(&world.client, "race-other", [(COMPANY_LABEL, label.as_str())])
        .await
        .unwrap();
    world.look_after(&other).await;
    let namespaces = format!("--namespaces={},{}", world.namespace.name(), other.name());
    let _operator = world.start_with(&[&namespaces]).await;
    let elsewhere: Api<environment_operator::api::EnvironmentLease> =
        Api::namespaced(world.client.clone(), other.name());
    for number in 0..4 {
        let claim = lease(&format!("racer-{number}"));
        let object = claim.object();
        let here = world.claim(claim);
        let parameters = PostParams::default();
        let there = elsewhere.create(&parameters, &object);
        let (_, there) = futures::join!(here, there);
        there.unwrap();
    }
    eventually("all eight are active", LIMIT, async || {
        let rows = world.lease_rows(company).await;
        let active = rows.iter().filter(|row| row["status"] == "active").count();
        if active == 8 { Ok(()) } else { Err(format!("{active}")) }
    })
    .await;
    assert_eq!(world.environment_rows(company).await.len(), 1);
    for number in 0..4 {
        world.lease_in(&format!("racer-{number}"), LeasePhase::Active).await;
    }
}
