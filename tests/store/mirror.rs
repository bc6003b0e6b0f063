use environment_operator::store::lease_object::MarkGone;
use std::sync::Arc;

use environment_operator::api::{FreeObject, Reason};
use environment_operator::lifecycle::LeaseState;
use environment_operator::mirror::Mirror;
use environment_operator::store::environment_leases::{End, EndOutcome, Grant, GrantOutcome};
use environment_operator::store::environments::{EnvironmentOutcome, EnvironmentSync};
use environment_operator::store::{Leader, StoreError};
use futures::future::join_all;
use serde_json::json;
use sqlx::Executor;
use tokio::sync::watch;

use crate::support::*;

fn mirror(world: &TestEnvironment) -> (Mirror, watch::Sender<Option<Leader>>) {
    let (lead, leader) = watch::channel(Some(world.leader.clone()));
    (
        Mirror::start(
            world.store.clone(),
            leader,
            Arc::new(|_, _, _| {}),
            examine(&world.store),
        ),
        lead,
    )
}

#[tokio::test]
async fn a_poisoned_row_is_told_what_to_change_and_its_neighbours_land_in_the_same_flush() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    sqlx::query("ALTER TABLE environment_leases ADD CONSTRAINT poison CHECK (provider <> 'poison')")
        .execute(world.pool())
        .await
        .unwrap();
    let (mirror, _lead) = mirror(&world);
    let with_metadata = |value| Grant {
        metadata: object(json!({"a": value})),
        ..world.claim(environment)
    };
    let deep = (0..70).fold(json!(1), |value, _| json!([value]));
    let poisoned = [
        (
            with_metadata(json!("x\0y")),
            Reason::InvalidSpec,
            "spec.metadata.a: remove the NUL character (\\u0000)",
        ),
        (
            with_metadata(deep),
            Reason::InvalidSpec,
            "spec.metadata.a: nest it at most 64 levels deep",
        ),
        (
            Grant {
                provider_lease_id: Some("x".repeat(600)),
                ..world.claim(environment)
            },
            Reason::InvalidSpec,
            "the provider's lease id: shorten it to 512 bytes (it has 600)",
        ),
        (
            Grant {
                provider: Some("poison".to_owned()),
                ..world.claim(environment)
            },
            Reason::StoreUnavailable,
            "the database refuses it: new row for relation \"environment_leases\" violates check constraint \"poison\"",
        ),
    ];
    for (culprit, reason, sentence) in poisoned {
        let before = world.count("SELECT count(*) FROM environment_leases").await;
        let neighbours: Vec<Grant> = (0..199).map(|_| world.claim(environment)).collect();
        let all = neighbours
            .iter()
            .cloned()
            .chain([culprit])
            .map(|grant| mirror.ask(grant));
        let mut outcomes = join_all(all).await;
        assert_eq!(refusal(outcomes.pop().unwrap().unwrap()), (reason, sentence.to_owned()));
        for outcome in outcomes {
            granted(outcome.unwrap());
        }
        assert_eq!(
            world.count("SELECT count(*) FROM environment_leases").await,
            before + 199
        );
    }
}

#[tokio::test]
async fn what_passes_the_first_look_is_still_sorted_by_the_databases_own_refusal() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    for (grant, start) in [
        (
            Grant {
                metadata: object(json!({"a": "x\0y"})),
                ..world.claim(environment)
            },
            "remove the NUL character",
        ),
        (
            Grant {
                provider: Some("x\0".to_owned()),
                ..world.claim(environment)
            },
            "remove the NUL character",
        ),
    ] {
        let Err(StoreError::Data { message }) = world.try_grant(&grant).await else {
            panic!("{grant:?}")
        };
        assert!(message.starts_with(start), "{message}");
    }
    // Random enough not to be compressed under the limit of an index entry.
    let long: String = (0..300).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    let grant = Grant {
        provider_lease_id: Some(long),
        ..world.claim(environment)
    };
    let Err(StoreError::Data { message }) = world.try_grant(&grant).await else {
        panic!()
    };
    assert!(message.starts_with("shorten the text"), "{message}");
}

#[tokio::test]
async fn what_the_owner_of_the_tables_may_mend_fails_no_claim_for_good() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (mirror, _lead) = mirror(&world);
    let claim = world.claim(environment);
    // A newer origin's column, a limit of the owner's, and a trigger with a fault in it: each of its own class.
    for (breaks, mends) in [
        (
            "ALTER TABLE environment_leases ADD CONSTRAINT theirs CHECK (acquired_at < '2000-01-01')",
            "ALTER TABLE environment_leases DROP CONSTRAINT theirs",
        ),
        (
            "ALTER TABLE environment_leases ADD COLUMN theirs text NOT NULL",
            "ALTER TABLE environment_leases DROP COLUMN theirs",
        ),
        (
            "CREATE FUNCTION faulty() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 / 0; RETURN NEW; END'; \
             CREATE TRIGGER faulty BEFORE INSERT ON environment_leases FOR EACH ROW EXECUTE FUNCTION faulty()",
            "DROP TRIGGER faulty ON environment_leases",
        ),
    ] {
        world.pool().execute(sqlx::raw_sql(breaks)).await.unwrap();
        let (reason, message) = refusal(mirror.ask(claim.clone()).await.unwrap());
        assert_eq!(reason, Reason::StoreUnavailable, "{message}");
        assert!(message.starts_with("the database refuses it: "), "{message}");
        world.pool().execute(sqlx::raw_sql(mends)).await.unwrap();
    }
    granted(mirror.ask(claim).await.unwrap());
}

#[tokio::test]
async fn an_environment_that_cannot_be_stored_is_refused_and_its_neighbour_lands() {
    let world = TestEnvironment::new().await;
    let (mirror, _lead) = mirror(&world);
    let long = EnvironmentSync {
        name: Some("x".repeat(600)),
        ..world.sandbox("long")
    };
    let (refused, landed) = tokio::join!(mirror.ask(long), mirror.ask(world.sandbox("sound")));
    let EnvironmentOutcome::Refused(refusal) = refused.unwrap() else {
        panic!()
    };
    assert_eq!(refusal.reason, Reason::InvalidSpec);
    assert_eq!(
        refusal.message,
        "spec.displayName: shorten it to 512 bytes (it has 600)"
    );
    assert!(matches!(landed.unwrap(), EnvironmentOutcome::Inserted(_)));
}

#[tokio::test]
async fn two_requests_for_one_lease_are_answered_one_after_the_other() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (mirror, _lead) = mirror(&world);
    let claim = world.claim(environment);
    let (first, second) = tokio::join!(mirror.ask(claim.clone()), mirror.ask(claim.clone()));
    granted(first.unwrap());
    assert_eq!(second.unwrap(), GrantOutcome::AlreadySo);
    let end = || {
        mirror.ask(End {
            id: claim.id,
            leaves: LeaseState::Active,
            ending: ending(LeaseState::Released, Reason::ReleaseRequested),
            only_if_expired: false,
            run_ended_at: None,
        })
    };
    let (first, second) = tokio::join!(end(), end());
    let row = ended(first.unwrap());
    assert_eq!(second.unwrap(), EndOutcome::AlreadyEnded(Box::new(row)));
}

#[tokio::test]
async fn a_thousand_leases_are_granted_looked_at_and_ended_by_many_callers() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (mirror, _lead) = mirror(&world);
    let tasks = (0..1000).map(|_| {
        let (mirror, claim) = (mirror.clone(), world.claim(environment));
        let look = world.look_at(claim.id);
        tokio::spawn(async move {
            let id = claim.id;
            let row = granted(mirror.ask(claim).await.unwrap());
            assert_eq!(mirror.ask(look).await.unwrap().row, Some(row));
            let ending = ending(LeaseState::Released, Reason::ReleaseRequested);
            ended(
                mirror
                    .ask(End {
                        id,
                        leaves: LeaseState::Active,
                        ending,
                        only_if_expired: false,
                        run_ended_at: None,
                    })
                    .await
                    .unwrap(),
            );
            mirror.ask(MarkGone(id)).await.unwrap();
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!(
        world
            .count("SELECT count(*) FROM environment_leases WHERE status = 'released'")
            .await,
        1000
    );
    let gone = "SELECT count(*) FROM environment_operator.lease_object WHERE deleted_at IS NOT NULL";
    assert_eq!(world.count(gone).await, 1000);
    assert_eq!(world.count("SELECT count(*) FROM activity_log").await, 2000);
}

#[tokio::test]
async fn a_deposed_mirror_tells_every_caller_and_changes_nothing() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (mirror, lead) = mirror(&world);
    let next = world.depose().await;
    let claims = || {
        (0..20).map(|_| Grant {
            metadata: FreeObject::new(),
            ..world.claim(environment)
        })
    };
    for outcome in join_all(claims().map(|claim| mirror.ask(claim))).await {
        assert!(matches!(outcome, Err(StoreError::Deposed)), "{outcome:?}");
    }
    assert_eq!(world.count("SELECT count(*) FROM environment_leases").await, 0);
    lead.send_replace(Some(next));
    for outcome in join_all(claims().map(|claim| mirror.ask(claim))).await {
        granted(outcome.unwrap());
    }
}
