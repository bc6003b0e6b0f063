//! The operator's rights: the chart's, as every operator of this layer has them.

use environment_operator::api::{LeasePhase, Reason};
use harness::operator::Operator;
use harness::wait::eventually;
use serde_json::json;

use crate::support::{Expected, GRACE, LIMIT, TestEnvironment, id_of, lease, scope};

#[tokio::test]
async fn the_chart_s_rights_suffice_for_a_whole_lease_and_nothing_else_is_asked_for() {
    let world = TestEnvironment::new("rights").await;
    let mark = world.mark();
    let mut operator = world.start().await;

    world.job("build", json!({})).await;
    world.granted(lease("whole").job("build")).await;
    world.ssh_environment("builder").await;
    world.granted(lease("orphan").environment("builder")).await;
    world.end_job("build", "Succeeded").await;
    let message = "job/build succeeded";
    Expected {
        phase: LeasePhase::Released,
        reason: Reason::RunFinished,
        message,
    }
    .of(&world, "whole")
    .await;
    world.delete_environment("builder").await;
    let message = "environment builder was deleted";
    Expected {
        phase: LeasePhase::Failed,
        reason: Reason::EnvironmentDeleted,
        message,
    }
    .of(&world, "orphan")
    .await;
    world
        .claim(lease("brief").set("release", true).set("ttlSecondsAfterFinished", 0))
        .await;
    eventually("the failed claim is removed", LIMIT, async || {
        match world.leases().get_opt("brief").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // A user's own Local makes the operator's one spare.
    world.environment("mine", json!({ "driver": "Local" })).await;
    eventually("the operator's Local is deleted", LIMIT, async || {
        match world.environments().get_opt("local").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    operator.stop(GRACE).await.unwrap();

    let mut asked = world.requests_since(mark);
    assert!(!asked.is_empty(), "it speaks as its ServiceAccount");
    asked.retain(|event| event.is_forbidden());
    assert!(asked.is_empty(), "{asked:#?}");
}

#[tokio::test]
async fn a_namespace_that_goes_with_its_role_holds_up_no_other_one() {
    let world = TestEnvironment::new("rights-gone").await;
    let other = world.beside(world.control_plane(), "rights-stays", []).await;
    let worlds = [world, other];
    let mut operator = worlds[0].start_with(&[&scope(&worlds)]).await;
    let [world, other] = &worlds;
    let lost = id_of(&world.granted(lease("lost")).await);
    operator.stop(GRACE).await.unwrap();
    world.delete_namespace().await;
    operator.start_again().unwrap();
    // Its lists are forbidden, for the Role was in it; that it does not exist is all that there is to know.
    operator.wait_ready().await;
    other.granted(lease("held")).await;
    world.lease_row_is(lost, "released").await;
    assert_eq!(world.record(lost).await.unwrap()["reason"], "LeaseDeleted");
}

/// Short, so that rights are asked for again soon.
const OFTEN: [&str; 2] = ["--resync-interval=1s", "--watch-timeout=2s"];

/// Waits until readiness and the log say in the API server's words which right is missing.
async fn says_what_it_lacks(operator: &Operator, what: &str) {
    eventually(&format!("readiness says: {what}"), LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        let mut lines = answer.body.lines();
        let told = lines.any(|line| line.starts_with("right: ") && line.contains(what));
        if answer.status == 503 && told {
            Ok(())
        } else {
            Err(answer.body)
        }
    })
    .await;
    let log = operator.log().replace("\\\"", "\"");
    let told = |line: &&str| line.contains("ERROR") && line.contains("a right is missing") && line.contains(what);
    assert!(log.lines().any(|line| told(&line)), "{log}");
}

/// Stops the operator and starts it anew, without waiting until it is ready.
async fn restart(operator: &mut Operator) {
    operator.stop(GRACE).await.unwrap();
    operator.start_again().unwrap();
}

#[tokio::test]
async fn without_the_right_to_write_a_lease_s_status_it_says_so_grants_once_and_shows_it_later() {
    let world = TestEnvironment::new("lacking-status").await;
    let mut operator = world.start_with(&OFTEN).await;
    world.ssh_environment("box").await;
    let (right, sentence) = (
        "environmentleases/status",
        "cannot patch resource \"environmentleases/status\"",
    );
    world.lack(&[(right, &["patch"])]).await;
    let claim = id_of(&world.claim(lease("claim").environment("box")).await);
    says_what_it_lacks(&operator, sentence).await;
    world.lease_row_is(claim, "active").await;
    let (row, record) = (world.lease_row(claim).await, world.record(claim).await);
    restart(&mut operator).await;
    says_what_it_lacks(&operator, sentence).await;
    let failed = operator.metric("environment_operator_reconciles_total", "result=\"forbidden\"");
    assert!(failed.await.unwrap() > 0.0);
    assert_eq!(world.lease_row(claim).await, row, "granted once");
    assert_eq!(world.record(claim).await, record);
    world.lack(&[]).await;
    world.lease_in("claim", LeasePhase::Active).await;
    operator.wait_ready().await;
    world.settles().await;
}

#[tokio::test]
async fn a_lease_that_the_database_has_lost_is_counted_once_however_often_its_end_can_not_be_shown() {
    let world = TestEnvironment::new("lacking-lost").await;
    let operator = world.start_with(&OFTEN).await;
    world.ssh_environment("box").await;
    let lost = id_of(&world.granted(lease("lost").environment("box")).await);
    world.lack(&[("environmentleases/status", &["patch"])]).await;
    for statement in [
        "DELETE FROM environment_leases WHERE id = $1",
        "DELETE FROM environment_operator.lease_object WHERE id = $1",
    ] {
        sqlx::query(statement).bind(lost).execute(&world.pool).await.unwrap();
    }
    eventually("its end was tried to be shown again and again", LIMIT, async || {
        let tries = operator.metric("environment_operator_reconciles_total", "result=\"forbidden\"");
        match tries.await {
            Ok(tries) if tries >= 3.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.lack(&[]).await;
    world
        .lease_because("lost", LeasePhase::Expired, Reason::EndedInDatabase)
        .await;
    eventually("it is counted", LIMIT, async || {
        let counted = operator.metric("environment_operator_lease_endings_total", "reason=\"EndedInDatabase\"");
        match counted.await {
            Ok(counted) if (counted - 1.0).abs() < f64::EPSILON => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn without_the_right_to_list_jobs_it_says_so_ends_nothing_and_goes_on_with_the_rest() {
    let world = TestEnvironment::new("lacking-jobs").await;
    let mut operator = world.start_with(&OFTEN).await;
    world.job("build", json!({})).await;
    let held = id_of(&world.granted(lease("held").job("build")).await);
    let sentence = "cannot list resource \"jobs\" in API group \"batch\"";
    world.lack(&[("jobs", &["get", "list", "watch"])]).await;
    says_what_it_lacks(&operator, sentence).await;
    restart(&mut operator).await;
    says_what_it_lacks(&operator, sentence).await;
    world.end_job("build", "Succeeded").await;
    world.granted(lease("without-run")).await;
    assert_eq!(world.lease_row(held).await.unwrap()["status"], "active");
    world.lack(&[]).await;
    world
        .lease_because("held", LeasePhase::Released, Reason::RunFinished)
        .await;
    operator.wait_ready().await;
}

#[tokio::test]
async fn without_the_right_to_make_a_local_it_says_so_to_claims_too_and_makes_it_later() {
    let world = TestEnvironment::new("lacking-local").await;
    let mut operator = world.start_with(&OFTEN).await;
    let sentence = "cannot create resource \"environments\"";
    world.lack(&[("environments", &["create"])]).await;
    world.claim(lease("claim")).await;
    says_what_it_lacks(&operator, sentence).await;
    let waiting = world
        .lease_because("claim", LeasePhase::Pending, Reason::EnvironmentNotActive)
        .await;
    let message = waiting.status.unwrap().message.unwrap();
    assert!(message.contains(sentence), "{message}");
    restart(&mut operator).await;
    says_what_it_lacks(&operator, sentence).await;
    world.lack(&[]).await;
    world.lease_in("claim", LeasePhase::Active).await;
    operator.wait_ready().await;
    world.settles().await;
}

#[tokio::test]
async fn without_the_right_to_write_events_it_says_so_and_leases_live_and_end() {
    let world = TestEnvironment::new("lacking-events").await;
    let mut operator = world.start_with(&OFTEN).await;
    let sentence = "cannot create resource \"events\" in API group \"events.k8s.io\"";
    world.lack(&[("events", &["create"])]).await;
    world.granted(lease("first")).await;
    says_what_it_lacks(&operator, sentence).await;
    restart(&mut operator).await;
    operator.wait_ready().await; // nothing waits for an Event
    world.granted(lease("second")).await;
    says_what_it_lacks(&operator, sentence).await;
    let failed = operator.metric("environment_operator_events_failed_total", "").await;
    assert!(failed.unwrap() > 0.0);
    world.lack(&[]).await;
    world.release("second").await;
    world
        .lease_because("second", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    operator.wait_ready().await;
}
