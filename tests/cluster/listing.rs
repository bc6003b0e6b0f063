//! A listing is never taken for a deletion: one that breaks or that is refused ends nothing.
//!
//! Each test ends by showing the opposite: what was really deleted meanwhile ends as soon as a complete list says so.

use environment_operator::api::{LeasePhase, Reason};
use harness::control_plane::ControlPlane;
use harness::guard;
use harness::operator::Operator;
use harness::postgres::Postgres;
use harness::wait::eventually;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use serde_json::json;
use uuid::Uuid;

use crate::support::proxy::{Fault, lists_further_page_of};
use crate::support::{GRACE, LIMIT, TestEnvironment, install_definitions, lease};

/// Lists come often, so that a test sees many.
const OFTEN: [&str; 2] = ["--resync-interval=1s", "--watch-timeout=2s"];

/// The kinds that are listed in pages of several objects.
const KINDS: [&str; 3] = ["environmentleases", "environments", "jobs"];

/// The metric that counts complete lists.
const LISTS: &str = "environment_operator_watch_lists_total";

/// Five environments, five leases and five Jobs that the leases are for: more than one page of each.
async fn populate(world: &TestEnvironment<'_>) -> Vec<Uuid> {
    let mut leases = Vec::new();
    for number in 0..5 {
        let (environment, job) = (format!("box-{number}"), format!("job-{number}"));
        world.ssh_environment(&environment).await;
        world.job(&job, json!({})).await;
        let claim = lease(&format!("lease-{number}")).environment(&environment).job(&job);
        leases.push(world.granted(claim).await.uid().unwrap().parse().unwrap());
    }
    leases
}

/// That nothing at all has ended or been archived.
async fn nothing_has_ended(world: &TestEnvironment<'_>, leases: &[Uuid]) {
    for lease in leases {
        let row = world.lease_row(*lease).await.unwrap();
        assert_eq!(row["status"], "active", "{row}");
        assert_eq!(world.record(*lease).await.unwrap()["ended_status"], json!(null));
    }
    let archived: i64 = sqlx::query_scalar("SELECT count(*) FROM environments WHERE status <> 'active'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(archived, 0, "no environment was archived");
}

/// Waits until the lease has ended because its object is gone, and sees that it is the only one.
async fn only_the_first_has_ended(world: &TestEnvironment<'_>, leases: &[Uuid]) {
    eventually("the deleted lease has ended", LIMIT, async || {
        match world.lease_row(leases[0]).await {
            Some(row) if row["status"] == "released" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(world.record(leases[0]).await.unwrap()["reason"], "LeaseDeleted");
    nothing_has_ended(world, &leases[1..]).await;
}

fn start_often(world: &TestEnvironment<'_>, kubeconfig: &std::path::Path) -> Operator {
    let options = world.operator().kubeconfig(kubeconfig);
    OFTEN
        .iter()
        .fold(options, |options, argument| options.arg(*argument))
        .start()
        .unwrap()
}

/// Waits until each kind has been listed completely, from now on, twice.
async fn complete_lists(operator: &Operator) {
    let mut counted = Vec::new();
    for kind in ["EnvironmentLease", "Environment", "Job.batch"] {
        counted.push((kind, operator.metric(LISTS, &format!("kind=\"{kind}\"")).await.unwrap()));
    }
    for (kind, before) in counted {
        eventually(&format!("{kind} is listed completely"), LIMIT, async || {
            let lists = operator.metric(LISTS, &format!("kind=\"{kind}\"")).await.unwrap() - before;
            if lists >= 2.0 { Ok(()) } else { Err(lists) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_second_page_that_breaks_ends_nothing() {
    let world = TestEnvironment::new("pages").await;
    let proxy = world.proxy_with_pages(Some(2)).await;
    let mut operator = start_often(&world, proxy.kubeconfig());
    operator.wait_ready().await;
    let leases = populate(&world).await;
    for fault in [Fault::Answer(410), Fault::Answer(500), Fault::Tear] {
        // All at once, and while the operator knows all objects from its watches.
        let spoiled = KINDS.map(|kind| proxy.spoil(fault, lists_further_page_of(kind)));
        for spoiled in &spoiled {
            spoiled.wait_for_hits(2).await;
        }
        nothing_has_ended(&world, &leases).await;
        drop(spoiled);
        complete_lists(&operator).await;
        nothing_has_ended(&world, &leases).await;
    }
    operator.stop(GRACE).await.unwrap();
    // Now it knows nothing: the broken list is its first.
    let spoiled = KINDS.map(|kind| proxy.spoil(Fault::Answer(410), lists_further_page_of(kind)));
    world.delete_lease("lease-0").await;
    operator.start_again().unwrap();
    for spoiled in &spoiled {
        spoiled.wait_for_hits(2).await;
    }
    let readiness = operator.get("/readyz").await.unwrap();
    assert_eq!(readiness.status, 503, "{}", readiness.body);
    assert!(readiness.body.contains("EnvironmentLease"), "{}", readiness.body);
    nothing_has_ended(&world, &leases).await;
    drop(spoiled);
    only_the_first_has_ended(&world, &leases).await;
}

/// What it takes to read objects of a kind.
const READ: &[&str] = &["get", "list", "watch"];

/// Waits until lists of this kind have been answered with this code so often.
async fn wait_for_lists(world: &TestEnvironment<'_>, resource: &str, code: u16, times: usize) {
    let mark = world.mark();
    eventually(
        &format!("lists of {resource} are answered with {code}"),
        LIMIT,
        async || {
            let mut events = world.requests_since(mark);
            events.retain(|event| {
                let about = event
                    .object_ref
                    .as_ref()
                    .is_some_and(|object| object.resource == resource);
                let answered = event.response_status.as_ref().is_some_and(|status| status.code == code);
                event.verb == "list" && about && answered
            });
            if events.len() >= times {
                Ok(())
            } else {
                Err(format!("{} of {times}", events.len()))
            }
        },
    )
    .await;
}

#[tokio::test]
async fn rights_that_are_lost_on_one_kind_end_nothing() {
    let world = TestEnvironment::new("lacking").await;
    let mut operator = world.start_with(&OFTEN).await;
    let leases = populate(&world).await;
    for kind in ["jobs", "environments", "environmentleases", "namespaces"] {
        world.lack(&[(kind, READ)]).await;
        wait_for_lists(&world, kind, 403, 2).await;
        nothing_has_ended(&world, &leases).await;
        world.lack(&[]).await;
        wait_for_lists(&world, kind, 200, 1).await;
        nothing_has_ended(&world, &leases).await;
    }
    operator.stop(GRACE).await.unwrap();
    world.lack(&[("jobs", READ), ("environmentleases", READ)]).await;
    world.delete_lease("lease-0").await;
    operator.start_again().unwrap();
    for kind in ["jobs", "environmentleases"] {
        wait_for_lists(&world, kind, 403, 2).await;
    }
    nothing_has_ended(&world, &leases).await;
    world.lack(&[("jobs", READ)]).await;
    only_the_first_has_ended(&world, &leases).await;
}

#[tokio::test]
async fn a_claim_of_a_kind_that_may_not_be_listed_says_so_and_is_granted_once_it_may() {
    let world = TestEnvironment::new("lacking-run").await;
    world.lack(&[("jobs", READ)]).await;
    let options = world.operator();
    let options = OFTEN.iter().fold(options, |options, argument| options.arg(*argument));
    let _operator = options.start().unwrap();
    world.job("build", json!({})).await;
    world.claim(lease("of-build").job("build")).await;
    let waiting = world
        .lease_because("of-build", LeasePhase::Pending, Reason::RunNotFound)
        .await;
    assert_eq!(
        waiting.status.unwrap().message.as_deref(),
        Some("objects of run kind batch/v1/Job can't be listed at the moment")
    );
    world.lack(&[]).await;
    world.lease_in("of-build", LeasePhase::Active).await;
}

#[tokio::test]
async fn a_definition_that_goes_ends_leases_only_when_the_deletions_are_seen() {
    let control_plane = ControlPlane::start(&guard::fresh_directory("cluster").unwrap())
        .await
        .unwrap();
    let world = TestEnvironment::on(&control_plane, Postgres::shared().await, "definition", []).await;
    let mut operator = world.start_with(&OFTEN).await;
    let stopped: Uuid = world.granted(lease("stopped")).await.uid().unwrap().parse().unwrap();
    operator.stop(GRACE).await.unwrap();
    delete_definition(&world).await;
    operator.start_again().unwrap();
    let told = eventually("readiness names the missing kind", LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        let mut lines = answer
            .body
            .lines()
            .filter(|line| line.contains("EnvironmentLease") && line.contains("does not serve this kind"));
        lines.next_back().map(str::to_owned).ok_or(answer.body.clone())
    });
    told.await;
    nothing_has_ended(&world, &[stopped]).await;

    // It is there again and empty: that is a complete list.
    install_definitions(&world.client).await;
    only_the_first_has_ended(&world, &[stopped]).await;
    let running = world.granted(lease("running")).await;
    assert_eq!(running.status.unwrap().phase, Some(LeasePhase::Active));
    let running: Uuid = running.metadata.uid.unwrap().parse().unwrap();
    // While the operator runs, every deletion is seen.
    delete_definition(&world).await;
    only_the_first_has_ended(&world, &[running]).await;
}

/// Deletes the leases' definition; its objects go with it.
async fn delete_definition(world: &TestEnvironment<'_>) {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let name = "environmentleases.paperclip.ing";
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("the definition is gone", LIMIT, async || {
        match definitions.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("it is there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}
