use environment_operator::api::{ObjectRef, Reason};
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{Grant, GrantOutcome};
use environment_operator::store::environments::EnvironmentSync;
use environment_operator::store::lease_object::{EnvironmentChoice, LeaseQuery, RunLook};
use serde_json::{Value, json};
use sqlx::Connection;
use uuid::Uuid;

use crate::support::*;

#[tokio::test]
async fn a_grant_writes_row_activity_and_context_at_one_moment() {
    let world = TestEnvironment::new().await;
    let (environment, run) = (world.environment().await, world.run("running").await);
    sqlx::query("UPDATE heartbeat_runs SET context_snapshot = '{\"kept\": 1}'")
        .execute(world.pool())
        .await
        .unwrap();
    let claim = Grant {
        run_id: Some(run),
        metadata: object(json!({"a": {"b": [1]}})),
        context: object(json!({"host": "h"})),
        ..world.claim(environment)
    };
    let GrantOutcome::Granted {
        row,
        fencing_token,
        context,
        free,
    } = world.grant(&claim).await
    else {
        panic!()
    };
    assert_eq!(free, None, "the environment is not limited");
    assert_eq!(row.id, claim.id);
    assert_eq!(row.status, LeaseState::Active);
    assert_eq!(row.metadata, Some(json!({"a": {"b": [1]}, "driver": "sandbox"})));
    assert_eq!(row.heartbeat_run_id, Some(run));
    for moment in [row.last_used_at, row.created_at, row.updated_at] {
        assert_eq!(moment, row.acquired_at);
    }
    assert_eq!(row.acquired_at.as_nanosecond() % 1_000_000, 0, "whole milliseconds");
    assert_eq!(
        row.expires_at.unwrap(),
        row.acquired_at + jiff::SignedDuration::from_secs(3600)
    );
    let remembered = world
        .count("SELECT fencing_token FROM environment_operator.lease_object")
        .await;
    assert_eq!(fencing_token, remembered);
    let expected = json!({"id": environment, "name": "box", "driver": "sandbox", "leaseId": claim.id, "host": "h"});
    assert_eq!(Value::Object(context), expected);
    let snapshot = world.rows("SELECT context_snapshot FROM heartbeat_runs").await;
    assert_eq!(snapshot, [json!({"kept": 1, "paperclipEnvironment": expected})]);
    let activity = world
        .rows("SELECT to_jsonb(a) - 'id' - 'created_at' FROM activity_log a")
        .await;
    assert_eq!(
        activity,
        [json!({
            "company_id": world.company, "actor_type": "agent", "actor_id": world.agent, "agent_id": world.agent,
            "action": "environment.lease_acquired", "entity_type": "environment_lease", "entity_id": claim.id,
            "run_id": run, "details": {
                "environmentId": environment, "driver": "sandbox", "leasePolicy": "ephemeral", "provider": "kubernetes",
                "executionWorkspaceId": null, "issueId": null
            }
        })]
    );
}

#[tokio::test]
async fn a_context_that_is_no_object_is_replaced() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    for (text, kept) in [("null", false), ("[1]", false), ("{\"k\": 1}", true)] {
        let run = world.run("queued").await;
        sqlx::query("UPDATE heartbeat_runs SET context_snapshot = $2::jsonb WHERE id = $1")
            .bind(run)
            .bind(text)
            .execute(world.pool())
            .await
            .unwrap();
        granted(
            world
                .grant(&Grant {
                    run_id: Some(run),
                    ..world.claim(environment)
                })
                .await,
        );
        let snapshot: Value = sqlx::query_scalar("SELECT context_snapshot FROM heartbeat_runs WHERE id = $1")
            .bind(run)
            .fetch_one(world.pool())
            .await
            .unwrap();
        assert!(snapshot["paperclipEnvironment"].is_object(), "{text}");
        assert_eq!(snapshot.get("k").is_some(), kept, "{text}");
    }
}

#[tokio::test]
async fn a_claim_is_granted_once_and_never_again() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let claim = world.claim(environment);
    granted(world.grant(&claim).await);
    assert_eq!(world.grant(&claim).await, GrantOutcome::AlreadySo);
    ended(
        world
            .end(claim.id, LeaseState::Released, Reason::ReleaseRequested)
            .await,
    );
    assert_eq!(world.grant(&claim).await, GrantOutcome::EndedMeanwhile);
    sqlx::query("DELETE FROM environment_leases")
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(
        world.grant(&claim).await,
        GrantOutcome::EndedMeanwhile,
        "a deleted row is never inserted again"
    );
}

#[tokio::test]
async fn what_does_not_exist_and_what_is_another_companys_are_refused_alike() {
    let world = TestEnvironment::new().await;
    let (other_company, other_agent) = (Uuid::new_v4(), Uuid::new_v4());
    world.make_company(other_company, other_agent).await;
    let other_run = world.run_of(other_company, other_agent, "running").await;
    let environment = world.environment().await;
    let EnvironmentSync {
        id: other_environment, ..
    } = {
        let sync = EnvironmentSync {
            company_id: other_company,
            binding: None,
            ..world.sandbox("theirs")
        };
        world.sync_environment(&sync).await;
        sync
    };
    let answers = async |theirs: Grant, nobodys: Grant| {
        (
            refusal(world.grant(&theirs).await),
            refusal(world.grant(&nobodys).await),
        )
    };
    let claim = || world.claim(environment);
    let (theirs, nobodys) = answers(world.claim(other_environment), world.claim(Uuid::new_v4())).await;
    assert_eq!((theirs.0, &theirs), (Reason::EnvironmentNotFound, &nobodys));
    let with_agent = |id| Grant {
        agent_id: Some(id),
        ..claim()
    };
    let nobody = Uuid::new_v4();
    let (theirs, nobodys) = answers(with_agent(other_agent), with_agent(nobody)).await;
    let said = |id| {
        (
            Reason::ReferenceNotFound,
            format!("spec.agentId {id} names no agent of this company"),
        )
    };
    assert_eq!((theirs, nobodys), (said(other_agent), said(nobody)));
    for id in [other_run, Uuid::new_v4()] {
        let refused = refusal(
            world
                .grant(&Grant {
                    run_id: Some(id),
                    ..claim()
                })
                .await,
        );
        let message = format!("run/{id} does not exist in this company");
        assert_eq!(refused, (Reason::RunNotFound, message));
        let view = world
            .look(LeaseQuery {
                run_id: Some(id),
                ..world.look_at(Uuid::new_v4())
            })
            .await;
        assert_eq!(view.run, RunLook::Missing);
    }
    assert_eq!(world.count("SELECT count(*) FROM environment_leases").await, 0);
}

#[tokio::test]
async fn an_archived_environment_a_finished_run_and_another_agent_are_refused() {
    let world = TestEnvironment::new().await;
    let (environment, run) = (world.environment().await, world.run("running").await);
    let archived = EnvironmentSync {
        status: ARCHIVED,
        ..world.sandbox("old")
    };
    world.sync_environment(&archived).await;
    assert_eq!(
        refusal(world.grant(&world.claim(archived.id)).await),
        (
            Reason::EnvironmentArchived,
            "Environment \"old\" is not active.".to_owned()
        )
    );
    let second = Uuid::new_v4();
    sqlx::query("INSERT INTO agents (id, company_id, name) VALUES ($1, $2, 'Bob')")
        .bind(second)
        .bind(world.company)
        .execute(world.pool())
        .await
        .unwrap();
    let mismatched = Grant {
        run_id: Some(run),
        agent_id: Some(second),
        ..world.claim(environment)
    };
    assert_eq!(refusal(world.grant(&mismatched).await).0, Reason::AgentMismatch);
    let matched = Grant {
        run_id: Some(run),
        agent_id: Some(world.agent),
        ..world.claim(environment)
    };
    granted(world.grant(&matched).await);
    for (status, ended) in [
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("cancelled", "was cancelled"),
        ("timed_out", "timed out"),
        ("interrupted", "was interrupted"),
    ] {
        world.set_run(run, status).await;
        let claim = Grant {
            run_id: Some(run),
            ..world.claim(environment)
        };
        let message = format!("run/{} {ended} before the lease was granted", &run.to_string()[..8]);
        assert_eq!(
            refusal(world.grant(&claim).await),
            (Reason::RunAlreadyFinished, message)
        );
    }
}

#[tokio::test]
async fn a_held_run_or_environment_answers_busy_at_once_and_its_neighbours_land() {
    let world = TestEnvironment::new().await;
    let (environment, run) = (world.environment().await, world.run("running").await);
    let mut other = world.connect().await;
    let mut transaction = other.begin().await.unwrap();
    sqlx::query("SELECT FROM heartbeat_runs FOR UPDATE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let claims: Vec<Grant> = [Some(run), None]
        .into_iter()
        .map(|run_id| Grant {
            run_id,
            ..world.claim(environment)
        })
        .collect();
    let outcomes = Grant::carry_out(&world.store, &world.leader, &claims).await.unwrap();
    assert_eq!(outcomes[0], GrantOutcome::Busy);
    granted(outcomes[1].clone());
    transaction.rollback().await.unwrap();
    granted(world.grant(&claims[0]).await);
    let mut transaction = other.begin().await.unwrap();
    sqlx::query("SELECT FROM environments FOR UPDATE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(world.grant(&world.claim(environment)).await, GrantOutcome::Busy);
}

#[tokio::test]
async fn a_run_that_ends_during_a_grant_waits_and_is_heard_of_after_it() {
    let world = TestEnvironment::new().await;
    let (environment, run) = (world.environment().await, world.run("running").await);
    let mut listener = sqlx::postgres::PgListener::connect(world.database.url()).await.unwrap();
    listener.listen("environment_operator_run_end").await.unwrap();
    // Whoever ends the run first wins: the grant sees the end, or the end waits for the grant.
    let claim = Grant {
        run_id: Some(run),
        ..world.claim(environment)
    };
    let (outcome, ()) = tokio::join!(world.grant(&claim), world.set_run(run, "failed"));
    let heard = tokio::time::timeout(std::time::Duration::from_secs(5), listener.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard.payload(), run.to_string());
    match outcome {
        GrantOutcome::Granted { row, .. } => assert!(world.lease(row.id).await.is_some(), "committed when it is heard"),
        GrantOutcome::Refused(refusal) => assert_eq!(refusal.reason, Reason::RunAlreadyFinished),
        GrantOutcome::Busy => assert_eq!(refusal(world.grant(&claim).await).0, Reason::RunAlreadyFinished),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_namespace_is_settled_with_its_first_row_and_stays_so() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (company, agent, namespace_uid) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    world.make_company(company, agent).await;
    let settle = Some(environment_operator::store::NamespaceBinding {
        namespace_uid,
        ..world.settle()
    });
    granted(
        world
            .grant(&Grant {
                binding: settle.clone(),
                ..world.claim(environment)
            })
            .await,
    );
    let look = LeaseQuery {
        namespace_uid: Some(namespace_uid),
        company_id: Some(company),
        ..world.look_at(Uuid::new_v4())
    };
    assert_eq!(world.look(look).await.recorded_company, Some(world.company));
    let theirs = EnvironmentSync {
        company_id: company,
        binding: None,
        ..world.sandbox("theirs")
    };
    world.sync_environment(&theirs).await;
    let moved = Grant {
        binding: settle,
        company_id: company,
        ..world.claim(theirs.id)
    };
    assert_eq!(
        world.grant(&moved).await,
        GrantOutcome::Busy,
        "decided anew after another look"
    );
}

#[tokio::test]
async fn every_grant_has_a_higher_token_and_remembers_its_run_object() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let run_object = ObjectRef {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: "job".to_owned(),
        uid: Some("u".to_owned()),
    };
    let mut last = 0;
    for _ in 0..3 {
        let claim = Grant {
            run_object: Some(run_object.clone()),
            ..world.claim(environment)
        };
        let GrantOutcome::Granted { fencing_token, .. } = world.grant(&claim).await else {
            panic!()
        };
        assert!(fencing_token > last);
        last = fencing_token;
        let remembered = world.look(world.look_at(claim.id)).await.object.unwrap();
        assert_eq!(remembered.run_uid.as_deref(), Some("u"));
        assert_eq!(remembered.run_kind.as_deref(), Some("Job"));
        assert_eq!(remembered.fencing_token, fencing_token);
    }
}

#[tokio::test]
async fn a_claim_without_environment_gets_its_agents_default_else_the_companys_local() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let run = world.run("running").await;
    let look = LeaseQuery {
        run_id: Some(run),
        ..world.look_at(Uuid::new_v4())
    };
    assert_eq!(world.look(look.clone()).await.environment, None);
    let local = world.local();
    world.sync_environment(&local).await;
    assert_eq!(world.look(look.clone()).await.environment.unwrap().id, local.id);
    sqlx::query("UPDATE agents SET default_environment_id = $1")
        .bind(environment)
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(world.look(look.clone()).await.environment.unwrap().id, environment);
    let by_agent = LeaseQuery {
        agent_id: Some(world.agent),
        run_id: None,
        ..look.clone()
    };
    assert_eq!(world.look(by_agent).await.environment.unwrap().id, environment);
    let explicit = LeaseQuery {
        environment: EnvironmentChoice::Local,
        ..look
    };
    assert_eq!(world.look(explicit).await.environment.unwrap().id, local.id);
}
