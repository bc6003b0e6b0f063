//! From claim to lease: what a grant leaves in the cluster and in the database.

use environment_operator::api::{
    ConditionStatus, ConditionType, Driver, EnvironmentLease, EnvironmentPhase, LeasePhase, Reason,
};
use futures::future::join_all;
use kube::ResourceExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{TestEnvironment, lease, moment};

fn uid(lease: &EnvironmentLease) -> Uuid {
    lease.uid().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_lease_in_an_empty_namespace_is_granted_on_a_local_that_is_made_for_it() {
    let world = TestEnvironment::new("grant").await;
    let _operator = world.start().await;
    let mark = world.mark();
    let held = world
        .granted(lease("first").set("metadata", json!({ "deep": { "er": { "est": 1 } } })))
        .await;

    let local = world.environment_in("local", EnvironmentPhase::Active).await;
    let environment = local.uid().unwrap();
    assert_eq!(json!(local.spec), json!({ "driver": "Local" }));
    assert_eq!(
        world
            .environments()
            .list(&Default::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );

    let rows = world.environment_rows(world.company()).await;
    let [row] = rows.as_slice() else {
        panic!("one environment row, not {rows:#?}")
    };
    assert_eq!(row["id"], environment);
    assert_eq!(
        (&row["name"], &row["driver"], &row["status"]),
        (&json!("Local"), &json!("local"), &json!("active"))
    );
    assert_eq!(
        row["description"],
        "Default execution environment for Paperclip runs on this machine."
    );
    assert_eq!(row["config"], json!({}));
    assert_eq!(
        row["metadata"],
        json!({ "managedByPaperclip": true, "defaultForCompany": true })
    );

    let company = world.company_row(world.company()).await.unwrap();
    assert_eq!(company["name"], world.namespace.name());

    let status = held.status.clone().unwrap();
    let context = json!({ "id": environment, "name": "Local", "driver": "local", "leaseId": uid(&held) });
    assert_eq!(json!(status.context), context);
    assert_eq!(
        (status.lease_id, status.company_id),
        (Some(uid(&held)), Some(world.company()))
    );
    let leased = status.environment.unwrap();
    assert_eq!(
        (leased.id.to_string(), leased.driver),
        (environment.clone(), Driver::Local)
    );
    assert_eq!(
        (status.run, status.released_at, status.reason),
        (None, None, Some(Reason::Granted))
    );
    assert_eq!(status.observed_generation, held.metadata.generation);
    let conditions = [
        ConditionType::Decided,
        ConditionType::Active,
        ConditionType::Finished,
        ConditionType::Mirrored,
    ];
    let said = conditions.map(|type_| status.conditions.iter().find(|one| one.type_ == type_).unwrap().status);
    assert_eq!(
        said,
        [
            ConditionStatus::True,
            ConditionStatus::True,
            ConditionStatus::False,
            ConditionStatus::True
        ]
    );

    let rows = world.lease_rows(world.company()).await;
    let [row] = rows.as_slice() else {
        panic!("one lease row, not {rows:#?}")
    };
    assert_eq!(
        (&row["id"], &row["environment_id"]),
        (&json!(uid(&held)), &json!(environment))
    );
    let words = (
        &row["status"],
        &row["lease_policy"],
        &row["provider"],
        &row["heartbeat_run_id"],
    );
    assert_eq!(
        words,
        (&json!("active"), &json!("ephemeral"), &json!("local"), &Value::Null)
    );
    assert_eq!(
        row["metadata"],
        json!({ "deep": { "er": { "est": 1 } }, "driver": "local" })
    );
    assert_eq!(moment(&row["acquired_at"]), status.acquired_at.map(|at| at.get()));
    assert_eq!(moment(&row["expires_at"]), status.expires_at.map(|at| at.get()));
    let held_for = moment(&row["expires_at"])
        .unwrap()
        .duration_since(moment(&row["acquired_at"]).unwrap());
    assert_eq!(held_for.as_secs(), 86_400);
    for column in ["last_used_at", "created_at", "updated_at"] {
        assert_eq!(row[column], row["acquired_at"], "{column}");
    }
    let record = world.record(uid(&held)).await.unwrap();
    assert_eq!(record["fencing_token"], json!(status.fencing_token));

    let activity = world.activity(uid(&held)).await;
    let [acquired] = activity.as_slice() else {
        panic!("one activity row, not {activity:#?}")
    };
    assert_eq!(acquired["action"], "environment.lease_acquired");
    assert_eq!(
        (&acquired["actor_type"], &acquired["actor_id"]),
        (&json!("system"), &json!("environment-operator"))
    );
    let details = json!({
        "environmentId": environment, "driver": "local", "leasePolicy": "ephemeral", "provider": "local",
        "executionWorkspaceId": null, "issueId": null,
    });
    assert_eq!(acquired["details"], details);

    assert_eq!(world.events_once_told("first", Reason::Granted).await.len(), 1);
    let mut writes = world.writes_since(mark);
    writes.retain(|write| {
        write
            .object_ref
            .as_ref()
            .is_some_and(|object| object.resource == "environmentleases")
    });
    let asked: Vec<_> = writes
        .iter()
        .map(|write| (write.verb.as_str(), write.request_uri.as_str()))
        .collect();
    assert!(
        !asked.is_empty() && asked.len() <= 2,
        "one patch says Active, one may say that Local is on its way: {asked:?}"
    );
}

#[tokio::test]
async fn a_heartbeat_run_is_told_its_environment_beside_what_its_context_held() {
    let world = TestEnvironment::new("grant-run").await;
    let _operator = world.start().await;
    let run = world.insert_run().await;
    let before = world.run_row(run).await.unwrap();
    let held = world.granted(lease("of-a-run").heartbeat_run(run)).await;

    let row = world.lease_row(uid(&held)).await.unwrap();
    assert_eq!(row["heartbeat_run_id"], json!(run));
    let mut expected = before.clone();
    expected["context_snapshot"]["paperclipEnvironment"] = json!({
        "id": row["environment_id"], "name": "Local", "driver": "local", "leaseId": uid(&held),
    });
    // Whole: the context was merged, and nothing else of the run was touched, updated_at included.
    assert_eq!(world.run_row(run).await.unwrap(), expected);
    assert_eq!(
        json!(held.status.as_ref().unwrap().context),
        expected["context_snapshot"]["paperclipEnvironment"]
    );
    let leased_run = held.status.clone().unwrap().run.unwrap();
    assert_eq!(
        (leased_run.kind, leased_run.name, leased_run.uid),
        (None, None, Some(run.to_string()))
    );
    assert_eq!(leased_run.display, format!("run/{}", &run.simple().to_string()[..8]));

    let activity = world.activity(uid(&held)).await;
    assert_eq!(activity[0]["run_id"], json!(run));
    let actor = (
        &activity[0]["actor_type"],
        &activity[0]["actor_id"],
        &activity[0]["agent_id"],
    );
    assert_eq!(actor, (&json!("agent"), &before["agent_id"], &before["agent_id"]));
}

#[tokio::test]
async fn eight_claims_at_once_share_one_local() {
    let world = TestEnvironment::new("grant-race").await;
    let _operator = world.start().await;
    let names: Vec<String> = (0..8).map(|number| format!("racer-{number}")).collect();
    let held = join_all(names.iter().map(|name| world.granted(lease(name)))).await;

    let environments: Vec<Uuid> = held
        .iter()
        .map(|held| held.status.as_ref().unwrap().environment.as_ref().unwrap().id)
        .collect();
    assert!(environments.iter().all(|id| *id == environments[0]), "{environments:?}");
    assert_eq!(world.environment_rows(world.company()).await.len(), 1);
    assert_eq!(
        world
            .environments()
            .list(&Default::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    assert_eq!(world.lease_rows(world.company()).await.len(), 8);
    let mut tokens: Vec<_> = held
        .iter()
        .map(|held| held.status.as_ref().unwrap().fencing_token.unwrap())
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 8, "each grant has a token of its own");
}

#[tokio::test]
async fn objects_in_any_order_settle_to_the_same_end() {
    let world = TestEnvironment::new("grant-order").await;
    let _operator = world.start().await;
    world.claim(lease("early").environment("later").job("later")).await;
    let waiting = world
        .lease_because("early", LeasePhase::Pending, Reason::RunNotFound)
        .await;
    assert_eq!(world.lease_row(uid(&waiting)).await, None);
    world.job("later", json!({})).await;
    world
        .lease_because("early", LeasePhase::Pending, Reason::EnvironmentNotFound)
        .await;
    world.ssh_environment("later").await;
    let held = world.lease_in("early", LeasePhase::Active).await;
    assert_eq!(held.status.unwrap().run.unwrap().display, "job/later");

    let run = Uuid::new_v4();
    world.claim(lease("before-its-row").heartbeat_run(run)).await;
    world
        .lease_because("before-its-row", LeasePhase::Pending, Reason::RunNotFound)
        .await;
    let agent = world.insert_agent(world.company()).await;
    sqlx::query("INSERT INTO heartbeat_runs (id, company_id, agent_id) VALUES ($1, $2, $3)")
        .bind(run)
        .bind(world.company())
        .bind(agent)
        .execute(&world.pool)
        .await
        .unwrap();
    world.lease_in("before-its-row", LeasePhase::Active).await;
}

#[tokio::test]
async fn a_change_of_time_and_metadata_reaches_the_row_and_keeps_what_others_wrote() {
    let world = TestEnvironment::new("grant-sync").await;
    let _operator = world.start().await;
    let held = world
        .granted(lease("changing").set("metadata", json!({ "mine": 1, "old": 2 })))
        .await;
    sqlx::query("UPDATE environment_leases SET metadata = metadata || '{\"theirs\": 3}' WHERE id = $1")
        .bind(uid(&held))
        .execute(&world.pool)
        .await
        .unwrap();
    let patch = json!({ "spec": { "ttlSeconds": 600, "metadata": { "mine": 4, "old": null } } });
    let leases = world.leases();
    leases
        .patch("changing", &Default::default(), &kube::api::Patch::Merge(patch))
        .await
        .unwrap();
    harness::wait::eventually("row and object are in step", crate::support::LIMIT, async || {
        let row = world.lease_row(uid(&held)).await.unwrap();
        let status = world.leases().get("changing").await.unwrap().status.unwrap();
        let held_for = moment(&row["expires_at"])
            .unwrap()
            .duration_since(moment(&row["acquired_at"]).unwrap());
        let so = held_for.as_secs() == 600
            && row["metadata"] == json!({ "mine": 4, "theirs": 3, "driver": "local" })
            && status.expires_at.map(|at| at.get()) == moment(&row["expires_at"])
            && status.observed_generation == Some(2);
        if so {
            Ok(())
        } else {
            Err(format!("{row} {}", json!(status)))
        }
    })
    .await;
}
