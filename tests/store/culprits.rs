//! One request that the database refuses, for whatever reason, and its neighbours, which land.

use environment_operator::store::lease_object::MarkGone;
use std::sync::Arc;
use std::time::Duration;

use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::mirror::{Aside, Mirror};
use environment_operator::store::environment_leases::{End, Grant};
use environment_operator::store::environments::{EnvironmentOutcome, EnvironmentSync};
use environment_operator::store::{Leader, StoreError};
use futures::future::join_all;
use sqlx::{AssertSqlSafe, Executor};
use tokio::sync::watch;
use uuid::Uuid;

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

/// The Paperclip server's own trigger, which raises for one row.
async fn raise(world: &TestEnvironment, table: &str, event: &str, condition: &str, code: &str) {
    let make = format!(
        "CREATE OR REPLACE FUNCTION raise_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'the licence is used up' USING ERRCODE = '{code}'; END $$;
         DROP TRIGGER IF EXISTS raise ON {table};
         CREATE TRIGGER raise BEFORE {event} ON {table} FOR EACH ROW WHEN ({condition})
           EXECUTE FUNCTION raise_{table}()"
    );
    world.pool().execute(sqlx::raw_sql(AssertSqlSafe(make))).await.unwrap();
}

#[tokio::test]
async fn a_claim_that_a_trigger_a_policy_or_an_index_refuses_waits_and_says_why_and_its_neighbours_are_granted() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (mirror, _lead) = mirror(&world);
    let claims = |culprit: Grant| {
        (0..20)
            .map(|_| world.claim(environment))
            .chain([culprit])
            .collect::<Vec<Grant>>()
    };
    let named = || Grant {
        provider: Some("culprit".to_owned()),
        ..world.claim(environment)
    };
    let told = async |culprit: Grant| {
        let mut outcomes = join_all(claims(culprit).into_iter().map(|claim| mirror.ask(claim))).await;
        let culprit = refusal(outcomes.pop().unwrap().unwrap());
        for outcome in outcomes {
            granted(outcome.unwrap());
        }
        culprit
    };
    // The last three are what a database that does not fit answers: a look tells that this one does.
    for code in ["P0001", "55000", "MYAPP", "99999", "42703", "42P01", "42501"] {
        raise(&world, "environment_leases", "INSERT", "NEW.provider = 'culprit'", code).await;
        let (reason, message) = told(named()).await;
        assert_eq!(reason, Reason::StoreUnavailable, "{code}");
        assert!(message.contains("the licence is used up"), "{message}");
    }
    // It is not for good: as soon as the database takes it, it is granted.
    world
        .pool()
        .execute("DROP TRIGGER raise ON environment_leases")
        .await
        .unwrap();
    granted(mirror.ask(named()).await.unwrap());
    // An index of somebody else's: one such lease at a time.
    world
        .pool()
        .execute("CREATE UNIQUE INDEX single_flight ON environment_leases (provider) WHERE provider = 'culprit'")
        .await
        .unwrap();
    let (reason, message) = told(named()).await;
    assert_eq!(reason, Reason::StoreUnavailable);
    assert!(message.contains("single_flight"), "{message}");
    world
        .pool()
        .execute("UPDATE environment_leases SET provider = NULL")
        .await
        .unwrap();
    granted(mirror.ask(named()).await.unwrap());
}

#[tokio::test]
async fn an_ending_or_an_environment_that_a_trigger_refuses_is_told_so_alone() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (mirror, _lead) = mirror(&world);
    let mut leases = Vec::new();
    for _ in 0..10 {
        leases.push(granted(world.grant(&world.claim(environment)).await).id);
    }
    let condition = format!("OLD.id = '{}'", leases[3]);
    raise(&world, "environment_leases", "UPDATE", &condition, "P0001").await;
    let end = |id: Uuid| End {
        id,
        leaves: LeaseState::Active,
        ending: ending(LeaseState::Released, Reason::ReleaseRequested),
        only_if_expired: false,
        run_ended_at: None,
    };
    for (place, outcome) in join_all(leases.iter().map(|id| mirror.ask(end(*id))))
        .await
        .into_iter()
        .enumerate()
    {
        match outcome {
            Err(StoreError::Refused { message }) => {
                assert_eq!(place, 3);
                assert!(message.ends_with("the licence is used up"), "{message}");
            }
            outcome => drop(ended(outcome.unwrap())),
        }
    }

    raise(&world, "environments", "INSERT", "NEW.name = 'culprit'", "P0001").await;
    let named = |name: &str| EnvironmentSync {
        name: Some(name.to_owned()),
        ..world.sandbox("object")
    };
    let syncs = [named("one"), named("culprit"), named("two")];
    let mut outcomes = join_all(syncs.map(|sync| mirror.ask(sync))).await;
    let EnvironmentOutcome::Refused(refusal) = outcomes.remove(1).unwrap() else {
        panic!("not refused")
    };
    assert_eq!(refusal.reason, Reason::StoreUnavailable);
    assert!(
        refusal.message.contains("the licence is used up"),
        "{}",
        refusal.message
    );
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(EnvironmentOutcome::Inserted(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_row_that_the_database_does_not_let_go_keeps_no_other_old_row_from_being_removed() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (mirror, _lead) = mirror(&world);
    let mut leases = Vec::new();
    for _ in 0..8 {
        let id = granted(world.grant(&world.claim(environment)).await).id;
        ended(world.end(id, LeaseState::Released, Reason::ReleaseRequested).await);
        mirror.ask(MarkGone(id)).await.unwrap();
        leases.push(id);
    }
    world
        .pool()
        .execute("UPDATE environment_operator.lease_object SET ended_at = ended_at - interval '2 d'")
        .await
        .unwrap();
    // The oldest is what another table of the Paperclip server's refers to.
    let refer = format!(
        "UPDATE environment_operator.lease_object SET ended_at = ended_at - interval '1 d' WHERE id = '{0}';
         CREATE TABLE invoices (lease_id uuid REFERENCES environment_leases (id));
         INSERT INTO invoices VALUES ('{0}')",
        leases[5]
    );
    world.pool().execute(sqlx::raw_sql(AssertSqlSafe(refer))).await.unwrap();
    let day = Duration::from_secs(86_400);
    let mut aside = Aside::default();
    let removed = mirror.remove_ended(day, &mut aside).await.unwrap();
    assert_eq!((removed.leases, removed.records), (7, 7));
    assert_eq!(
        aside.leases.iter().map(|lease| lease.id).collect::<Vec<_>>(),
        [leases[5]]
    );
    assert!(
        aside.leases[0].error.to_string().contains("invoices"),
        "{}",
        aside.leases[0].error
    );
    let again = mirror.remove_ended(day, &mut aside).await.unwrap();
    assert_eq!((again.records, aside.leases.len()), (0, 1), "it is passed over");
    // The next round begins with none set aside, and finds it free.
    world.pool().execute("DELETE FROM invoices").await.unwrap();
    let removed = mirror.remove_ended(day, &mut Aside::default()).await.unwrap();
    assert_eq!(removed.leases, 1);
}
