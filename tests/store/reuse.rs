//! The policies that take over what an earlier lease has left at its provider.

use environment_operator::store::lease_object::MarkGone;
use std::collections::HashSet;
use std::time::Duration;

use environment_operator::api::{LeasePolicy, Reason};
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{self, ExternalEnding, Grant, GrantOutcome, LeaseRow};
use environment_operator::store::{lead, retention};
use sqlx::{Connection, Executor};
use uuid::Uuid;

use crate::support::*;

/// A lease that has ended in its time, with what its provider calls it.
struct Earlier<'a> {
    environment: Uuid,
    workspace: Option<Uuid>,
    provider_lease: Option<&'a str>,
    status: &'a str,
    cleanup: Option<&'a str>,
    /// Seconds ago.
    used: i32,
}

fn earlier(environment: Uuid, provider_lease: &str, used: i32) -> Earlier<'_> {
    Earlier {
        environment,
        workspace: None,
        provider_lease: Some(provider_lease),
        status: "released",
        cleanup: None,
        used,
    }
}

impl Earlier<'_> {
    /// A lease of an object.
    async fn insert(self, world: &TestEnvironment) -> Uuid {
        let id = self.insert_unmanaged(world).await;
        world.record(&[id]).await;
        id
    }

    /// A row of another writer's.
    async fn insert_unmanaged(self, world: &TestEnvironment) -> Uuid {
        sqlx::query_scalar(
            "INSERT INTO environment_leases (company_id, environment_id, execution_workspace_id, status, provider,
               provider_lease_id, cleanup_status, last_used_at)
             VALUES ($1, $2, $3, $4, 'their-provider', $5, $6, now() - make_interval(secs => $7)) RETURNING id",
        )
        .bind(world.company)
        .bind(self.environment)
        .bind(self.workspace)
        .bind(self.status)
        .bind(self.provider_lease)
        .bind(self.cleanup)
        .bind(self.used)
        .fetch_one(world.pool())
        .await
        .unwrap()
    }
}

fn claim_by_environment(world: &TestEnvironment, environment: Uuid) -> Grant {
    Grant {
        policy: LeasePolicy::ReuseByEnvironment,
        ..world.claim(environment)
    }
}

fn claim_by_workspace(world: &TestEnvironment, environment: Uuid, workspace: Uuid) -> Grant {
    Grant {
        policy: LeasePolicy::ReuseByExecutionWorkspace,
        execution_workspace_id: Some(workspace),
        ..world.claim(environment)
    }
}

fn of_provider(row: &LeaseRow) -> (Option<&str>, Option<&str>) {
    (row.provider.as_deref(), row.provider_lease_id.as_deref())
}

#[tokio::test]
async fn a_claim_takes_over_what_the_newest_ended_lease_of_its_environment_has_left() {
    let world = TestEnvironment::new().await;
    let (environment, other) = (world.environment().await, world.environment().await);
    earlier(environment, "older", 20).insert(&world).await;
    earlier(environment, "newest", 10).insert(&world).await;
    earlier(other, "elsewhere", 1).insert(&world).await;
    let nothing_left = Earlier {
        provider_lease: None,
        ..earlier(environment, "", 5)
    };
    nothing_left.insert(&world).await;
    let row = granted(world.grant(&claim_by_environment(&world, environment)).await);
    assert_eq!(of_provider(&row), (Some("their-provider"), Some("newest")));
    let told = world.rows("SELECT details->'provider' FROM activity_log").await;
    assert_eq!(told, ["their-provider"]);
    let ephemeral = granted(world.grant(&world.claim(environment)).await);
    assert_eq!(
        of_provider(&ephemeral),
        (Some("kubernetes"), None),
        "an ephemeral lease takes nothing over"
    );
}

#[tokio::test]
async fn a_claim_takes_over_what_its_own_workspace_has_left_and_no_other() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (ours, theirs) = (Uuid::new_v4(), Uuid::new_v4());
    for (workspace, provider_lease, used) in [
        (Some(ours), "ours", 20),
        (Some(theirs), "theirs", 10),
        (None, "none", 5),
    ] {
        let row = Earlier {
            workspace,
            ..earlier(environment, provider_lease, used)
        };
        row.insert(&world).await;
    }
    let row = granted(world.grant(&claim_by_workspace(&world, environment, ours)).await);
    assert_eq!(row.provider_lease_id.as_deref(), Some("ours"));
    let stranger = granted(
        world
            .grant(&claim_by_workspace(&world, environment, Uuid::new_v4()))
            .await,
    );
    assert_eq!(of_provider(&stranger), (Some("kubernetes"), None));
    let without = Grant {
        execution_workspace_id: None,
        ..claim_by_workspace(&world, environment, ours)
    };
    let without = granted(world.grant(&without).await);
    assert_eq!(
        of_provider(&without),
        (Some("kubernetes"), None),
        "no workspace, nothing of its own"
    );
}

#[tokio::test]
async fn a_live_lease_is_never_shared_and_neither_is_what_was_removed() {
    let world = TestEnvironment::new().await;
    let (environment, other) = (world.environment().await, world.environment().await);
    earlier(environment, "free", 90).insert(&world).await;
    for (provider_lease, status) in [("active", "active"), ("retained", "retained")] {
        // It was released once, and somebody holds it again: in whichever environment.
        earlier(environment, provider_lease, 20).insert(&world).await;
        let live = Earlier {
            status,
            ..earlier(other, provider_lease, 30)
        };
        match status {
            "active" => live.insert(&world).await,
            _ => live.insert_unmanaged(&world).await,
        };
    }
    for (provider_lease, cleanup) in [("removed", "success"), ("being-removed", "pending")] {
        earlier(environment, provider_lease, 15).insert(&world).await;
        let removed = Earlier {
            cleanup: Some(cleanup),
            ..earlier(environment, provider_lease, 10)
        };
        removed.insert(&world).await;
    }
    let first = granted(world.grant(&claim_by_environment(&world, environment)).await);
    assert_eq!(first.provider_lease_id.as_deref(), Some("free"));
    let second = granted(world.grant(&claim_by_environment(&world, environment)).await);
    assert_eq!(
        of_provider(&second),
        (Some("kubernetes"), None),
        "what is held is not handed out"
    );
    ended(world.end(first.id, LeaseState::Retained, Reason::RunFailed).await);
    let third = granted(world.grant(&claim_by_environment(&world, environment)).await);
    assert_eq!(third.provider_lease_id, None, "nor what is retained");
    ended(
        world
            .end(first.id, LeaseState::Released, Reason::ReleaseRequested)
            .await,
    );
    let fourth = granted(world.grant(&claim_by_environment(&world, environment)).await);
    assert_eq!(
        of_provider(&fourth),
        (Some("their-provider"), Some("free")),
        "from lease to lease"
    );
}

#[tokio::test]
async fn what_another_company_has_left_is_taken_over_by_nobody() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let stranger = Uuid::new_v4();
    world.make_company(stranger, Uuid::new_v4()).await;
    let id = earlier(environment, "strange", 10).insert(&world).await;
    sqlx::query("UPDATE environment_leases SET company_id = $2 WHERE id = $1")
        .bind(id)
        .bind(stranger)
        .execute(world.pool())
        .await
        .unwrap();
    let row = granted(world.grant(&claim_by_environment(&world, environment)).await);
    assert_eq!(row.provider_lease_id, None);
}

#[tokio::test]
async fn what_the_driver_itself_provides_stands() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    earlier(environment, "ssh://u@old:22/w", 10).insert(&world).await;
    let claim = Grant {
        provider: Some("ssh".to_owned()),
        provider_lease_id: Some("ssh://u@new:22/w".to_owned()),
        ..claim_by_environment(&world, environment)
    };
    let row = granted(world.grant(&claim).await);
    assert_eq!(of_provider(&row), (Some("ssh"), Some("ssh://u@new:22/w")));
}

#[tokio::test]
async fn claims_that_are_granted_at_once_each_take_something_else_over() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let workspace = Uuid::new_v4();
    for number in 0..24 {
        let left = format!("left-{number}");
        let row = Earlier {
            workspace: Some(workspace),
            ..earlier(environment, &left, number)
        };
        row.insert(&world).await;
    }
    let other = lead::acquire(&world.store, "another cluster", "default", HOLDER)
        .await
        .unwrap()
        .unwrap();
    let leaders = [world.leader.clone(), other];
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let (store, leader) = (world.store.clone(), leaders[number % 2].clone());
            let mut claims = vec![claim_by_workspace(&world, environment, workspace)];
            claims.extend((0..2).map(|_| claim_by_environment(&world, environment)));
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while !claims.is_empty() {
                    let outcomes = Grant::carry_out(&store, &leader, &claims).await.unwrap();
                    let mut busy = Vec::new();
                    for (claim, outcome) in claims.into_iter().zip(outcomes) {
                        match outcome {
                            GrantOutcome::Granted { row, .. } => taken.push(row.provider_lease_id.unwrap()),
                            GrantOutcome::Busy => busy.push(claim),
                            other => panic!("{other:?}"),
                        }
                    }
                    claims = busy;
                }
                taken
            })
        })
        .collect();
    let mut taken = HashSet::new();
    for task in tasks {
        for provider_lease in task.await.unwrap() {
            assert!(taken.insert(provider_lease), "shared");
        }
    }
    assert_eq!(taken.len(), 24);
}

#[tokio::test]
async fn a_claim_whose_environment_another_transaction_holds_is_busy() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let mut other = world.connect().await;
    let mut held = other.begin().await.unwrap();
    held.execute("SELECT FROM environments FOR NO KEY UPDATE")
        .await
        .unwrap();
    let claim = claim_by_environment(&world, environment);
    assert_eq!(world.grant(&claim).await, GrantOutcome::Busy);
    held.rollback().await.unwrap();
    granted(world.grant(&claim).await);
}

async fn taken_by(world: &TestEnvironment, environment: Uuid) -> Option<String> {
    granted(world.grant(&claim_by_environment(world, environment)).await).provider_lease_id
}

/// Time passes until what was held, or being removed, is looked at again.
async fn a_minute_passes(world: &TestEnvironment) {
    sqlx::query("UPDATE environment_operator.provider_lease SET look_after = '-infinity' WHERE look_after IS NOT NULL")
        .execute(world.pool())
        .await
        .unwrap();
}

async fn set(world: &TestEnvironment, id: Uuid, what: &str) {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "UPDATE environment_leases SET {what} WHERE id = $1"
    )))
    .bind(id)
    .execute(world.pool())
    .await
    .unwrap();
}

#[tokio::test]
async fn what_a_row_of_another_writer_names_is_taken_over_by_nobody_in_either_mode() {
    for world in [TestEnvironment::new().await, TestEnvironment::attached().await] {
        let environment = world.environment().await;
        let failed = Earlier {
            cleanup: Some("failed"),
            ..earlier(environment, "theirs", 10)
        };
        failed.insert_unmanaged(&world).await;
        assert_eq!(taken_by(&world, environment).await, None, "its maker may resume it");
        earlier(environment, "ours", 20).insert(&world).await;
        assert_eq!(taken_by(&world, environment).await.as_deref(), Some("ours"));
    }
}

#[tokio::test]
async fn what_was_named_after_the_grant_is_left_whoever_ends_the_lease() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let first = granted(world.grant(&world.claim(environment)).await).id;
    set(&world, first, "provider_lease_id = 'made'").await;
    assert_eq!(taken_by(&world, environment).await, None, "it is held");
    ended(world.end(first, LeaseState::Released, Reason::ReleaseRequested).await);
    let second = granted(world.grant(&claim_by_environment(&world, environment)).await);
    assert_eq!(of_provider(&second), (Some("kubernetes"), Some("made")));
    set(&world, second.id, "status = 'expired'").await;
    assert_eq!(taken_by(&world, environment).await, None, "nobody has heard of the end");
    let end = ExternalEnding {
        id: second.id,
        ending: ending(LeaseState::Expired, Reason::EndedInDatabase),
        run_ended_at: None,
    };
    ExternalEnding::carry_out(&world.store, &world.leader, &[end])
        .await
        .unwrap();
    assert_eq!(taken_by(&world, environment).await.as_deref(), Some("made"));
}

#[tokio::test]
async fn what_another_writer_does_to_it_after_the_end_counts_at_the_claim() {
    let world = TestEnvironment::attached().await;
    let environment = world.environment().await;
    let ours = earlier(environment, "ours", 30).insert(&world).await;
    set(&world, ours, "cleanup_status = 'pending'").await;
    assert_eq!(taken_by(&world, environment).await, None, "it is being removed");
    set(&world, ours, "cleanup_status = 'failed'").await;
    a_minute_passes(&world).await;
    let resumed = Earlier {
        status: "active",
        ..earlier(environment, "ours", 60)
    };
    let resumed = resumed.insert_unmanaged(&world).await;
    assert_eq!(taken_by(&world, environment).await, None, "another writer holds it");
    set(&world, resumed, "status = 'released'").await;
    a_minute_passes(&world).await;
    let again = granted(world.grant(&claim_by_environment(&world, environment)).await);
    assert_eq!(again.provider_lease_id.as_deref(), Some("ours"), "until it has let go");
    ended(
        world
            .end(again.id, LeaseState::Released, Reason::ReleaseRequested)
            .await,
    );
    set(
        &world,
        resumed,
        "last_used_at = now() + interval '1 s', cleanup_status = 'success'",
    )
    .await;
    assert_eq!(
        taken_by(&world, environment).await,
        None,
        "and was used after us, and removed"
    );
}

#[tokio::test]
async fn what_another_writer_has_used_since_is_not_taken_over_however_much_was_used_after_that() {
    let world = TestEnvironment::attached().await;
    let environment = world.environment().await;
    for (provider_lease, used) in [
        ("removed", 9_000),
        ("resumed", 9_001),
        ("left", 9_002),
        ("older", 9_003),
    ] {
        earlier(environment, provider_lease, used).insert(&world).await;
    }
    for (provider_lease, cleanup) in [("removed", Some("success")), ("resumed", None)] {
        let theirs = Earlier {
            cleanup,
            ..earlier(environment, provider_lease, 8_000)
        };
        theirs.insert_unmanaged(&world).await;
    }
    world.history(environment, 0, 1_000).await;
    let claims = [0; 2].map(|_| claim_by_environment(&world, environment));
    let outcomes = Grant::carry_out(&world.store, &world.leader, &claims).await;
    let taken: HashSet<_> = outcomes
        .unwrap()
        .into_iter()
        .map(|outcome| granted(outcome).provider_lease_id)
        .collect();
    assert_eq!(taken, ["left", "older"].map(|name| Some(name.to_owned())).into());
    let looked_at_again =
        "SELECT provider_lease_id FROM environment_operator.provider_lease WHERE look_after IS NOT NULL";
    assert!(world.rows(looked_at_again).await.is_empty());
}

#[tokio::test]
async fn what_is_gone_is_looked_at_once_and_hides_nothing_for_good() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    earlier(environment, "left", 900).insert(&world).await;
    for number in 0..100 {
        let gone = format!("gone-{number}");
        let id = earlier(environment, &gone, number).insert(&world).await;
        set(&world, id, "cleanup_status = 'success'").await;
    }
    assert_eq!(taken_by(&world, environment).await, None, "65 are looked at");
    assert_eq!(taken_by(&world, environment).await.as_deref(), Some("left"));
    let candidates = "SELECT count(*) FROM environment_operator.provider_lease WHERE look_after IS NOT NULL";
    assert_eq!(world.count(candidates).await, 0);
}

#[tokio::test]
async fn what_is_remembered_of_providers_leases_goes_with_the_leases() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let id = earlier(environment, "old", 10).insert(&world).await;
    let known = "SELECT count(*) FROM environment_operator.provider_lease";
    assert_eq!(world.count(known).await, 1);
    MarkGone::carry_out(&world.store, &world.leader, &[MarkGone(id)])
        .await
        .unwrap();
    let removed = retention::remove_ended(&world.store, &world.leader, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!((removed.leases, world.count(known).await), (1, 0));
    assert_eq!(taken_by(&world, environment).await, None);
}

#[tokio::test]
async fn a_name_that_is_too_long_to_be_remembered_hinders_no_ending() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let lease = granted(world.grant(&world.claim(environment)).await);
    let name = format!("provider_lease_id = repeat('{}', 60)", Uuid::new_v4());
    set(&world, lease.id, &name).await;
    ended(
        world
            .end(lease.id, LeaseState::Released, Reason::ReleaseRequested)
            .await,
    );
    assert_eq!(taken_by(&world, environment).await, None);
}

/// How many pages a statement reads, by its plan, which is returned as well.
async fn pages(world: &TestEnvironment, environment: Uuid) -> (i64, String) {
    let statement = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {}", environment_leases::LEFT);
    let plan: serde_json::Value = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .bind(vec![world.company])
        .bind(vec![environment])
        .bind(vec![None::<Uuid>])
        .bind(vec![1_i64])
        .fetch_one(world.pool())
        .await
        .unwrap();
    let top = &plan[0]["Plan"];
    // What only writes runs when the rest is done, and is not in the figures of the whole.
    let parts = top["Plans"].as_array().unwrap();
    let put_off = parts.iter().find(|part| part["Subplan Name"] == "CTE put_off").unwrap();
    let read = |part: &serde_json::Value| {
        ["Shared Hit Blocks", "Shared Read Blocks"]
            .map(|key| part[key].as_i64().unwrap())
            .iter()
            .sum::<i64>()
    };
    (read(top) + read(put_off), plan.to_string())
}

#[tokio::test]
async fn a_claim_reads_as_little_after_twenty_thousand_leases_of_one_sandbox_as_after_a_few() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    world.history(environment, 20, 0).await;
    let removing = Earlier {
        cleanup: Some("pending"),
        ..earlier(environment, "being-removed", 0)
    };
    removing.insert(&world).await;
    let (few, _) = pages(&world, environment).await;
    world.history(environment, 20_000, 20_000).await;
    world.remember_others(environment, 0, 20_000).await;
    for analyzed in [false, true] {
        a_minute_passes(&world).await;
        if analyzed {
            world.pool().execute("ANALYZE").await.unwrap();
        }
        let (many, plan) = pages(&world, environment).await;
        assert!(
            few < 40 && many < 60,
            "{few} pages before, {many} pages now (analyzed: {analyzed}): {plan}"
        );
    }
    let lease = granted(world.grant(&claim_by_environment(&world, environment)).await);
    assert_eq!(lease.provider_lease_id.as_deref(), Some("one"));
}
