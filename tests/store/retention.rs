//! The retention of rows: what ended long ago and has no object any more, in batches that wait for nobody.

use environment_operator::store::lease_object::MarkGone;
use std::time::Duration;

use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::StoreError;
use environment_operator::store::retention::{Removed, remove_ended};
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

use crate::support::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl TestEnvironment {
    async fn remove(&self) -> Removed {
        remove_ended(&self.store, &self.leader, DAY).await.unwrap()
    }

    /// A lease that ended so many hours ago and whose object is gone since.
    async fn gone(&self, hours: i32) -> Uuid {
        let lease = self.held().await;
        ended(self.end(lease.id, LeaseState::Released, Reason::RunFinished).await);
        MarkGone::carry_out(&self.store, &self.leader, &[MarkGone(lease.id)])
            .await
            .unwrap();
        self.aged(lease.id, hours).await;
        lease.id
    }

    async fn aged(&self, id: Uuid, hours: i32) {
        let statement = "UPDATE environment_operator.lease_object SET ended_at = ended_at - make_interval(hours => $2)
                         WHERE id = $1";
        sqlx::query(statement)
            .bind(id)
            .bind(hours)
            .execute(self.pool())
            .await
            .unwrap();
    }

    async fn execute(&self, statement: &str, id: Uuid) {
        let statement = statement.replace('$', &id.to_string());
        sqlx::query(AssertSqlSafe(statement))
            .execute(self.pool())
            .await
            .unwrap();
    }

    async fn leases(&self) -> Vec<Uuid> {
        sqlx::query_scalar("SELECT id FROM environment_leases ORDER BY id")
            .fetch_all(self.pool())
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn only_what_ended_long_ago_and_has_no_object_is_removed() {
    let world = TestEnvironment::new().await;
    let old = world.gone(25).await;
    let mut kept = vec![world.gone(23).await, world.held().await.id];
    // Its object is there.
    let shown = world.held().await.id;
    ended(world.end(shown, LeaseState::Failed, Reason::RunFailed).await);
    world.aged(shown, 25).await;
    // Set back to active by another writer; kept for inspection by another writer.
    let (revived, retained) = (world.gone(25).await, world.gone(25).await);
    world
        .execute(
            "UPDATE environment_leases SET status = 'active' WHERE id = '$'",
            revived,
        )
        .await;
    world
        .execute(
            "UPDATE environment_leases SET status = 'retained' WHERE id = '$'",
            retained,
        )
        .await;
    // Another installation's, another cluster's.
    let (other, elsewhere) = (world.gone(25).await, world.gone(25).await);
    world
        .execute(
            "UPDATE environment_operator.lease_object SET installation = 'other' WHERE id = '$'",
            other,
        )
        .await;
    world
        .execute(
            "UPDATE environment_operator.lease_object SET cluster = 'other' WHERE id = '$'",
            elsewhere,
        )
        .await;
    kept.extend([shown, revived, retained, other, elsewhere]);
    // It never had an object.
    let unmanaged: Uuid = sqlx::query_scalar(
        "INSERT INTO environment_leases (company_id, environment_id, status, released_at, last_used_at)
         SELECT company_id, environment_id, 'released', now() - interval '1 year', now() - interval '1 year'
         FROM environment_leases LIMIT 1 RETURNING id",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    kept.push(unmanaged);
    kept.sort();
    let activity = world.count("SELECT count(*) FROM activity_log").await;

    let removed = world.remove().await;
    assert_eq!((removed.leases, removed.records), (1, 1));
    assert_eq!(world.leases().await, kept);
    let records = world
        .rows("SELECT to_jsonb(id) FROM environment_operator.lease_object")
        .await;
    assert!(!records.contains(&serde_json::json!(old)));
    assert_eq!(world.count("SELECT count(*) FROM activity_log").await, activity);
    let removed = world.remove().await;
    assert_eq!((removed.leases, removed.records), (0, 0), "nothing is left");
    let now: f64 = sqlx::query_scalar("SELECT extract(epoch FROM now())::float8")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert!((now - removed.now).abs() < 60.0);
}

#[tokio::test]
async fn the_record_of_a_row_that_another_writer_has_deleted_goes_too() {
    let world = TestEnvironment::new().await;
    let lease = world.gone(25).await;
    world
        .execute("DELETE FROM environment_leases WHERE id = '$'", lease)
        .await;
    let removed = world.remove().await;
    assert_eq!((removed.leases, removed.records), (0, 1));
}

#[tokio::test]
async fn a_row_that_another_transaction_holds_is_passed_over_and_its_neighbours_go() {
    let world = TestEnvironment::new().await;
    let (held_row, held_record, free) = (world.gone(25).await, world.gone(25).await, world.gone(25).await);
    let mut other = world.connect().await;
    let mut transaction = other.begin().await.unwrap();
    for (table, id) in [
        ("environment_leases", held_row),
        ("environment_operator.lease_object", held_record),
    ] {
        let lock = format!("SELECT FROM {table} WHERE id = '{id}' FOR KEY SHARE");
        sqlx::query(AssertSqlSafe(lock))
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    let removed = tokio::time::timeout(Duration::from_secs(5), world.remove())
        .await
        .expect("it waits for nobody");
    assert_eq!((removed.leases, removed.records), (1, 1));
    assert!(!world.leases().await.contains(&free));
    transaction.rollback().await.unwrap();
    let removed = world.remove().await;
    assert_eq!((removed.leases, removed.records), (2, 2));
}

#[tokio::test]
async fn a_deposed_leader_removes_nothing() {
    let world = TestEnvironment::new().await;
    let lease = world.gone(25).await;
    world.depose().await;
    let refused = remove_ended(&world.store, &world.leader, DAY).await;
    assert!(matches!(refused, Err(StoreError::Deposed)), "{refused:?}");
    assert_eq!(world.leases().await, [lease]);
}

#[tokio::test]
async fn a_batch_is_a_thousand_the_longest_ended_first_and_found_by_the_index() {
    let world = TestEnvironment::new().await;
    let lease = world.gone(25).await;
    let mut connection = world.connect().await; // the table of copies is its own
    // Copies of one lease: 2,500 that ended long ago, one second after the other, among 20,000 that did not.
    for statement in [
        "CREATE TEMP TABLE copies AS SELECT gen_random_uuid() AS id, n FROM generate_series(1, 22500) AS n",
        "INSERT INTO environment_leases SELECT (jsonb_populate_record(l, jsonb_build_object('id', copies.id))).*
         FROM environment_leases AS l CROSS JOIN copies",
        "INSERT INTO environment_operator.lease_object
         SELECT (jsonb_populate_record(o, jsonb_build_object('id', copies.id, 'ended_at',
           CASE WHEN n <= 2500 THEN now() - interval '30 days' + make_interval(secs => n) ELSE now() END))).*
         FROM environment_operator.lease_object AS o CROSS JOIN copies",
        "ANALYZE",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    world
        .execute("DELETE FROM environment_leases WHERE id = '$'", lease)
        .await;
    world
        .execute("DELETE FROM environment_operator.lease_object WHERE id = '$'", lease)
        .await;
    let oldest = "SELECT extract(epoch FROM min(ended_at) - (now() - interval '30 days'))::int8
                  FROM environment_operator.lease_object WHERE ended_at < now() - interval '1 day'";
    for left in [1_500, 500] {
        assert_eq!(world.remove().await.leases, 1_000);
        let seconds = world.count(oldest).await;
        assert!((2_500 - left - 60..=2_500 - left + 1).contains(&seconds), "{seconds}");
    }
    assert_eq!(world.remove().await.leases, 500);
    assert_eq!(world.leases().await.len(), 20_000);
    let plan = world
        .rows(
            "EXPLAIN (FORMAT JSON) SELECT id FROM environment_operator.lease_object AS o
               WHERE o.cluster = 'cluster' AND o.installation = 'default' AND o.deleted_at IS NOT NULL
                 AND o.ended_at < now() - interval '1 day' ORDER BY o.ended_at LIMIT 1000",
        )
        .await;
    assert!(plan[0].to_string().contains("lease_object_gone_idx"), "{plan:?}");
}
