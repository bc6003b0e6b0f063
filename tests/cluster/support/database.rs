//! Rows as they stand in the database, whole, as JSON: what a test does not name is still compared.

use harness::wait::eventually;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{LIMIT, TestEnvironment};

/// The moment that a row (or a status) tells as text; `None` for null.
pub fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str().map(|text| text.parse().unwrap())
}

impl TestEnvironment<'_> {
    /// The lease's row, if there is one.
    pub async fn lease_row(&self, id: Uuid) -> Option<Value> {
        self.rows("SELECT to_jsonb(l) FROM environment_leases AS l WHERE l.id = $1", id)
            .await
            .pop()
    }

    /// The run's row, if there is one.
    pub async fn run_row(&self, id: Uuid) -> Option<Value> {
        self.rows("SELECT to_jsonb(r) FROM heartbeat_runs AS r WHERE r.id = $1", id)
            .await
            .pop()
    }

    /// All lease rows of a company, by their ids.
    pub async fn lease_rows(&self, company: Uuid) -> Vec<Value> {
        self.rows(
            "SELECT to_jsonb(l) FROM environment_leases AS l WHERE company_id = $1 ORDER BY id",
            company,
        )
        .await
    }

    /// All environment rows of a company, by their ids.
    pub async fn environment_rows(&self, company: Uuid) -> Vec<Value> {
        self.rows(
            "SELECT to_jsonb(e) FROM environments AS e WHERE company_id = $1 ORDER BY id",
            company,
        )
        .await
    }

    /// The environment's row, if there is one.
    pub async fn environment_row(&self, id: Uuid) -> Option<Value> {
        self.rows("SELECT to_jsonb(e) FROM environments AS e WHERE id = $1", id)
            .await
            .pop()
    }

    /// The company's row, if there is one.
    pub async fn company_row(&self, id: Uuid) -> Option<Value> {
        self.rows("SELECT to_jsonb(c) FROM companies AS c WHERE id = $1", id)
            .await
            .pop()
    }

    /// Waits until the operator has recorded of every Environment object that it is gone. A lease that comes earlier is granted
    /// on the Local's row, and only the next one has its object made again.
    pub async fn environments_are_known_to_be_gone(&self) {
        eventually("the deletion is known", LIMIT, async || {
            let statement = "SELECT count(*) FROM environment_operator.environment_object WHERE deleted_at IS NULL";
            let live: i64 = sqlx::query_scalar(statement).fetch_one(&self.pool).await.unwrap();
            if live == 0 { Ok(()) } else { Err(live) }
        })
        .await;
    }

    /// What the activity log tells of a lease, oldest first.
    pub async fn activity(&self, lease: Uuid) -> Vec<Value> {
        let statement = "SELECT to_jsonb(a) FROM activity_log AS a
                         WHERE entity_type = 'environment_lease' AND entity_id = $1::text ORDER BY created_at, action";
        self.rows(statement, lease).await
    }

    /// What the operator remembers of a lease, if it was ever granted.
    pub async fn record(&self, lease: Uuid) -> Option<Value> {
        self.rows(
            "SELECT to_jsonb(o) FROM environment_operator.lease_object AS o WHERE o.id = $1",
            lease,
        )
        .await
        .pop()
    }

    async fn rows(&self, statement: &'static str, id: Uuid) -> Vec<Value> {
        sqlx::query_scalar(statement)
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}
