//! Installations of one cluster share no namespace.

use std::time::Duration;

use environment_operator::store::{StartError, StoreError, installation, lead};
use harness::wait::eventually;

use crate::support::*;

async fn enter(world: &TestEnvironment, cluster: &str, name: &str, namespaces: &[&str]) -> Result<(), String> {
    let namespaces: Vec<String> = namespaces.iter().map(|&name| name.to_owned()).collect();
    match installation::enter(&world.store, cluster, name, &namespaces).await {
        Ok(()) => Ok(()),
        Err(StartError::Refused(sentence)) => Err(sentence),
        Err(other) => panic!("{other}"),
    }
}

/// Everything that was started has been so for longer than a term.
async fn long_ago(world: &TestEnvironment) {
    sqlx::query("UPDATE environment_operator.installation SET started_at = now() - interval '1 min'")
        .execute(world.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_installation_does_not_start_on_a_living_one_s_namespaces_and_names_it() {
    let world = TestEnvironment::new().await;
    enter(&world, "here", "first", &["a", "b"]).await.unwrap();
    enter(&world, "here", "first", &["a", "b"]).await.unwrap(); // another replica
    enter(&world, "here", "second", &["c"]).await.unwrap();
    enter(&world, "there", "third", &[]).await.unwrap();
    for (namespaces, other, shared) in [
        (vec!["d", "b"], "first", "namespace b already"),
        (vec!["b", "a"], "first", "namespaces a, b already"),
        (vec!["c"], "second", "namespace c already"),
        (vec![], "first", "namespaces a, b already"),
    ] {
        let sentence = enter(&world, "here", "third", &namespaces).await.unwrap_err();
        let begin = format!("installation {other:?} of this cluster looks after {shared}: ");
        assert!(sentence.starts_with(&begin), "{sentence}");
    }
    let sentence = enter(&world, "there", "fourth", &[]).await.unwrap_err();
    assert!(sentence.contains("looks after all namespaces already"), "{sentence}");
    let refused = world.count("SELECT count(*) FROM environment_operator.installation WHERE installation = 'fourth'");
    assert_eq!(refused.await, 0, "who was refused is in nobody's way");
}

#[tokio::test]
async fn an_installation_lives_as_long_as_its_leader_s_term_and_at_its_start() {
    let world = TestEnvironment::new().await; // installation `default` of `cluster` leads
    enter(&world, "cluster", "default", &["a"]).await.unwrap();
    long_ago(&world).await;
    enter(&world, "cluster", "other", &["a"]).await.unwrap_err();
    sqlx::query("UPDATE environment_operator.lead SET expires_at = now()")
        .execute(world.pool())
        .await
        .unwrap();
    enter(&world, "cluster", "other", &["a"]).await.unwrap();
    enter(&world, "cluster", "default", &["a"]).await.unwrap_err();
    long_ago(&world).await;
    enter(&world, "cluster", "default", &["a"]).await.unwrap();
}

#[tokio::test]
async fn of_several_that_start_at_once_on_one_namespace_one_does() {
    let world = TestEnvironment::new().await;
    for round in 0..10 {
        let cluster = format!("cluster-{round}");
        let names: Vec<String> = (0..6).map(|number| format!("installation-{number}")).collect();
        let starts = names.iter().map(|name| enter(&world, &cluster, name, &["shared"]));
        let outcomes = futures::future::join_all(starts).await;
        assert_eq!(
            outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
            1,
            "{outcomes:?}"
        );
    }
}

#[tokio::test]
async fn an_installation_that_was_cut_off_does_not_lead_beside_the_one_that_has_taken_its_place() {
    let world = TestEnvironment::new().await;
    enter(&world, "cluster", "default", &["a"]).await.unwrap();
    long_ago(&world).await;
    lead::release(&world.store, &world.leader, HOLDER).await.unwrap();
    enter(&world, "cluster", "next", &["a"]).await.unwrap();
    let acquire = |installation| lead::acquire(&world.store, "cluster", installation, HOLDER);
    let outcome = acquire("default").await;
    let Err(StoreError::Unfit(sentence)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(sentence.starts_with("installation \"next\" of this cluster looks after namespace a already"));
    let next = acquire("next").await.unwrap().unwrap();
    long_ago(&world).await;
    acquire("default").await.unwrap_err();
    lead::release(&world.store, &next, HOLDER).await.unwrap();
    acquire("default").await.unwrap().unwrap();
}

#[tokio::test]
async fn of_two_installations_that_take_over_one_namespace_at_once_one_leads() {
    let world = TestEnvironment::new().await;
    enter(&world, "cluster", "default", &["a"]).await.unwrap();
    lead::release(&world.store, &world.leader, HOLDER).await.unwrap();
    long_ago(&world).await;
    enter(&world, "cluster", "next", &["a"]).await.unwrap();
    let next = lead::acquire(&world.store, "cluster", "next", HOLDER).await.unwrap();
    lead::release(&world.store, &next.unwrap(), HOLDER).await.unwrap();
    long_ago(&world).await;
    // A batch of the former leader is in flight, which holds up the takeover by `default` after its look at the others.
    let (mut batch, mut looking) = (world.connect().await, world.connect().await);
    sqlx::raw_sql("BEGIN; SELECT FROM environment_operator.lead WHERE installation = 'default' FOR KEY SHARE")
        .execute(&mut batch)
        .await
        .unwrap();
    let acquire = |installation: &'static str| {
        let store = world.store.clone();
        tokio::spawn(async move { lead::acquire(&store, "cluster", installation, HOLDER).await })
    };
    let mut waiting = async || -> i64 {
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        sqlx::query_scalar(waits).fetch_one(&mut looking).await.unwrap()
    };
    let first = acquire("default");
    eventually("the first waits", Duration::from_secs(4), async || {
        match waiting().await {
            1 => Ok(()),
            others => Err(others),
        }
    })
    .await;
    let second = acquire("next");
    eventually(
        "the second waits or is through",
        Duration::from_secs(4),
        async || match waiting().await {
            1 if !second.is_finished() => Err(1),
            _ => Ok(()),
        },
    )
    .await;
    sqlx::raw_sql("ROLLBACK").execute(&mut batch).await.unwrap();
    let outcomes = [first.await.unwrap(), second.await.unwrap()];
    let leading = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Some(_))));
    assert_eq!(leading.count(), 1, "{outcomes:?}");
    assert!(
        outcomes
            .iter()
            .any(|outcome| matches!(outcome, Err(StoreError::Unfit(_)))),
        "{outcomes:?}"
    );
}
