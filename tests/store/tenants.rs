//! What SQL alone decides between companies: whose rows are locked, and whose rows are made.

use environment_operator::api::Reason;
use environment_operator::store::environment_leases::Grant;
use environment_operator::store::environments::{EnvironmentOutcome, EnvironmentSync};
use environment_operator::store::lease_object::LeaseQuery;
use environment_operator::store::{Mode, NamespaceBinding, Store};
use serde_json::Value;
use sqlx::Executor;
use uuid::Uuid;

use crate::support::*;

/// Another company with an agent, a running run and an environment.
struct Stranger {
    run: Uuid,
    environment: Uuid,
}

impl Stranger {
    async fn in_world(world: &TestEnvironment) -> Self {
        let (company, agent) = (Uuid::new_v4(), Uuid::new_v4());
        world.make_company(company, agent).await;
        let run = world.run_of(company, agent, "running").await;
        let sync = EnvironmentSync {
            company_id: company,
            binding: None,
            ..world.sandbox("theirs")
        };
        world.sync_environment(&sync).await;
        Self {
            run,
            environment: sync.id,
        }
    }
}

/// All rows of both tables as they stand, whoever has last written or locked them among it.
async fn rows_with_their_locks(world: &TestEnvironment) -> Vec<Value> {
    world
        .rows(
            "SELECT to_jsonb(r) || jsonb_build_object('xmin', r.xmin::text, 'xmax', r.xmax::text) FROM heartbeat_runs r
             UNION ALL
             SELECT to_jsonb(e) || jsonb_build_object('xmin', e.xmin::text, 'xmax', e.xmax::text) FROM environments e",
        )
        .await
}

#[tokio::test]
async fn a_refused_grant_neither_locks_nor_writes_what_is_another_companys() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let stranger = Stranger::in_world(&world).await;
    let before = rows_with_their_locks(&world).await;
    let on_theirs = world.claim(stranger.environment);
    assert_eq!(refusal(world.grant(&on_theirs).await).0, Reason::EnvironmentNotFound);
    assert_eq!(rows_with_their_locks(&world).await, before);
    for environment_id in [stranger.environment, Uuid::new_v4()] {
        let for_their_run = Grant {
            run_id: Some(stranger.run),
            ..world.claim(environment_id)
        };
        refusal(world.grant(&for_their_run).await);
    }
    assert_eq!(rows_with_their_locks(&world).await, before);

    // Held by its own company, it is still as if it were not there: not even that it is busy is told.
    let mut theirs = world.connect().await;
    theirs
        .execute(
            "BEGIN; SELECT FROM heartbeat_runs FOR UPDATE; SELECT FROM environments WHERE name = 'theirs' FOR UPDATE",
        )
        .await
        .unwrap();
    let for_their_run = Grant {
        run_id: Some(stranger.run),
        ..world.claim(environment)
    };
    assert_eq!(refusal(world.grant(&for_their_run).await).0, Reason::RunNotFound);
    assert_eq!(refusal(world.grant(&on_theirs).await).0, Reason::EnvironmentNotFound);
}

#[tokio::test]
async fn a_company_that_is_gone_is_not_made_again_for_a_namespace_that_had_it() {
    let world = TestEnvironment::new().await;
    let (company_id, namespace_uid) = (Uuid::new_v4(), Uuid::new_v4());
    let first = EnvironmentSync {
        company_id,
        binding: Some(NamespaceBinding {
            namespace_uid,
            ..world.settle()
        }),
        ..world.sandbox("first")
    };
    let made = world.sync_environment(&first).await;
    assert!(matches!(made, EnvironmentOutcome::Inserted(_)), "{made:?}");
    sqlx::query("DELETE FROM companies WHERE id = $1")
        .bind(company_id)
        .execute(world.pool())
        .await
        .unwrap();
    // One that was looked at before the first had its row, and is written only now.
    let late = EnvironmentSync {
        id: Uuid::new_v4(),
        version: version("late", 11, 1),
        ..first.clone()
    };
    for sync in [first, late] {
        let EnvironmentOutcome::Refused(refusal) = world.sync_environment(&sync).await else {
            panic!("the company was made again")
        };
        assert_eq!(refusal.reason, Reason::CompanyNotFound);
    }
    let made_again = world
        .rows("SELECT to_jsonb(id) FROM companies WHERE name <> 'Acme'")
        .await;
    assert_eq!(made_again, Vec::<Value>::new());
}

#[tokio::test]
async fn issues_and_workspaces_of_another_company_are_missed_and_refused_like_none() {
    let mut world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (company, agent) = (Uuid::new_v4(), Uuid::new_v4());
    world.make_company(company, agent).await;
    for table in ["issues", "execution_workspaces"] {
        let statement = format!("CREATE TABLE public.{table} (id uuid PRIMARY KEY, company_id uuid NOT NULL)");
        world.pool().execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
    // Which tables there are is found when the store is opened.
    world.store = Store::open(&address(world.database.url()), Mode::Standalone, 4)
        .await
        .unwrap();
    let mut ids = Vec::new();
    for company in [world.company, company] {
        let id = Uuid::new_v4();
        for statement in [
            "INSERT INTO issues (id, company_id) VALUES ($1, $2)",
            "INSERT INTO execution_workspaces (id, company_id) VALUES ($1, $2)",
        ] {
            sqlx::query(statement)
                .bind(id)
                .bind(company)
                .execute(world.pool())
                .await
                .unwrap();
        }
        ids.push(id);
    }
    let (ours, theirs, nobodys) = (ids[0], ids[1], Uuid::new_v4());
    type Names = fn(Uuid) -> (Option<Uuid>, Option<Uuid>);
    let kinds: [Names; 2] = [|id| (Some(id), None), |id| (None, Some(id))];
    for names in kinds {
        let missing = async |id: Uuid| {
            let (issue_id, execution_workspace_id) = names(id);
            let view = world
                .look(LeaseQuery {
                    issue_id,
                    execution_workspace_id,
                    ..world.look_at(Uuid::new_v4())
                })
                .await;
            (view.issue_missing, view.execution_workspace_missing)
        };
        assert_eq!(missing(ours).await, (false, false));
        assert_eq!(missing(theirs).await, missing(nobodys).await);
        assert_ne!(missing(theirs).await, (false, false));
        let grant = |id: Uuid| {
            let (issue_id, execution_workspace_id) = names(id);
            Grant {
                issue_id,
                execution_workspace_id,
                ..world.claim(environment)
            }
        };
        granted(world.grant(&grant(ours)).await);
        let answers = (
            refusal(world.grant(&grant(theirs)).await),
            refusal(world.grant(&grant(nobodys)).await),
        );
        // Word for word, but for the id that each has named.
        let plain = |(reason, message): (Reason, String), id: Uuid| (reason, message.replace(&id.to_string(), "ID"));
        assert!(answers.0.1.contains(&theirs.to_string()), "{answers:?}");
        assert_eq!(answers.0.0, Reason::ReferenceNotFound);
        assert_eq!(plain(answers.0, theirs), plain(answers.1, nobodys));
    }
}
