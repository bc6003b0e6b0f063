//! An upgrade and a rollback while runners work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use environment_operator::api::LeasePhase;
use environment_operator::store::sweep::LEAKED;
use harness::namespace::Namespace;
use harness::wait::eventually;
use kube::api::{Api, PostParams};
use sqlx::PgPool;
use uuid::Uuid;

use super::load::{self, Held};
use super::release::Site;
use crate::installed::{LIMIT, lease};
use crate::support::RELEASE;

#[tokio::test]
async fn an_upgrade_and_a_rollback_under_load_lose_no_lease_and_leak_none() {
    let site = Site::prepare().await;
    site.install(&["settings.sweepInterval=1s"]).await;
    let first = site.names().await;
    let namespace = Namespace::create(&site.client, "load").await.unwrap();
    // Held over all of it; the first lease makes the company, too.
    let leases = Api::namespaced(site.client.clone(), namespace.name());
    leases.create(&PostParams::default(), &lease("steady")).await.unwrap();
    let steady = site.lease_in(namespace.name(), "steady", LeasePhase::Active).await;

    let pool = PgPool::connect(site.database.url()).await.unwrap();
    let company: Uuid = namespace.uid().parse().unwrap();
    let agent: Uuid = sqlx::query_scalar("INSERT INTO agents (company_id, name) VALUES ($1, 'Ada') RETURNING id")
        .bind(company)
        .fetch_one(&pool)
        .await
        .unwrap();
    let stop = AtomicBool::new(false);
    let story = async {
        site.upgrade(&["settings.sweepInterval=2s"]).await;
        let second = site.names().await;
        let answer = site.helm(&["rollback", RELEASE, "--wait", "--timeout", "120s"]).await;
        site.expect(answer).await;
        stop.store(true, Ordering::SeqCst);
        (second, site.names().await)
    };
    let runners = load::work(&site.client, namespace.name(), &pool, agent, &stop);
    let (held, (second, third)) = tokio::join!(runners, story);

    for (before, after) in [(&first, &second), (&second, &third)] {
        assert_eq!(after.len(), 2);
        assert!(after.iter().all(|name| !before.contains(name)), "both replicas are new");
    }
    each_was_granted_and_ended_once(&pool, company, &held).await;
    let still = site.lease_in(namespace.name(), "steady", LeasePhase::Active).await;
    assert_eq!(still.fencing_token, steady.fencing_token);
    // The gauge is as old as the last sweep, which may have caught a lease between its run's end and its own: the next one has not.
    eventually("no replica tells of a leak", LIMIT, async || {
        match site.metric("environment_operator_leaked_leases").await {
            0.0 => Ok(()),
            leaked => Err(leaked),
        }
    })
    .await;
    let (leaked, unmanaged): (i64, i64) = sqlx::query_as(LEAKED).fetch_one(&pool).await.unwrap();
    assert_eq!((leaked, unmanaged), (0, 0));
    let terms: i64 = sqlx::query_scalar("SELECT epoch FROM environment_operator.lead")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(terms >= 3, "each roll replaces the leader: {terms} terms");

    let longest = held.iter().map(|one| one.waited).max().unwrap();
    println!(
        "{} leases over two rolls, {terms} terms; the longest wait {longest:?}",
        held.len()
    );
    site.uninstall().await;
}

/// A lease as its rows tell.
#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Row {
    id: Uuid,
    reason: Option<String>,
    acquired: i64,
    released: i64,
}

/// Waits for the rows of deleted objects, which nobody could wait for by their objects; then all are compared.
async fn each_was_granted_and_ended_once(pool: &PgPool, company: Uuid, held: &[Held]) {
    eventually("all leases but one have ended", LIMIT, async || {
        let active = "SELECT count(*) FROM environment_leases WHERE status = 'active' AND company_id = $1";
        let active: i64 = sqlx::query_scalar(active)
            .bind(company)
            .fetch_one(pool)
            .await
            .map_err(|error| error.to_string())?;
        if active == 1 {
            Ok(())
        } else {
            Err(format!("{active} are active"))
        }
    })
    .await;
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT o.id, o.reason,
           count(*) FILTER (WHERE a.action = 'environment.lease_acquired') AS acquired,
           count(*) FILTER (WHERE a.action = 'environment.lease_released') AS released
         FROM environment_operator.lease_object AS o JOIN environment_leases AS l USING (id)
         LEFT JOIN activity_log AS a ON a.entity_id = o.id::text
         WHERE l.status <> 'active' AND l.company_id = $1 GROUP BY o.id",
    )
    .bind(company)
    .fetch_all(pool)
    .await
    .unwrap();
    let mut rows: HashMap<Uuid, Row> = rows.into_iter().map(|row| (row.id, row)).collect();
    for one in held {
        let expected = Row {
            id: one.uid,
            reason: Some(one.reason.to_owned()),
            acquired: 1,
            released: 1,
        };
        assert_eq!(rows.remove(&one.uid), Some(expected), "{one:?}");
    }
    assert!(rows.is_empty(), "nobody held these: {rows:?}");
    let shared: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM environment_leases AS one JOIN environment_leases AS other USING (environment_id)
         JOIN environments AS e ON e.id = environment_id
         WHERE e.name = 'exclusive' AND e.company_id = $1 AND one.id < other.id
           AND (one.acquired_at, one.released_at) OVERLAPS (other.acquired_at, other.released_at)",
    )
    .bind(company)
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(shared, 0, "two held what one may hold");
}
