//! The Paperclip server's server, played by plain SQL: companies, agents, runs, and the statements that it ends them with.

use environment_operator::api::{LeasePhase, Reason};
use environment_operator::store::{Mode, migrate};
use harness::wait::eventually;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{LIMIT, TestEnvironment, lease};

impl TestEnvironment<'_> {
    /// Ends one run and deletes another, with leases that nothing but these rows can tell of, and waits for the leases' ends.
    pub async fn notices_runs(&self) {
        let (ends, vanishes) = (self.insert_run().await, self.insert_run().await);
        self.granted(lease("ends").heartbeat_run(ends)).await;
        self.granted(lease("vanishes").heartbeat_run(vanishes)).await;
        self.set_run_status(&[ends], "failed").await;
        self.lease_because("ends", LeasePhase::Failed, Reason::RunFailed).await;
        self.delete_run(vanishes).await;
        self.lease_because("vanishes", LeasePhase::Expired, Reason::RunGone)
            .await;
    }

    /// Makes a company, if the operator has not made it.
    pub async fn insert_company(&self, company: Uuid) {
        sqlx::query("INSERT INTO companies (id, name, issue_prefix) VALUES ($1, 'Acme', $2) ON CONFLICT DO NOTHING")
            .bind(company)
            .bind(company.to_string())
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Makes an agent and, if it is not there, its company.
    pub async fn insert_agent(&self, company: Uuid) -> Uuid {
        self.insert_company(company).await;
        sqlx::query_scalar("INSERT INTO agents (company_id, name) VALUES ($1, 'Ada') RETURNING id")
            .bind(company)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Sets the environment that an agent's claims get where they name none.
    pub async fn set_default_environment(&self, agent: Uuid, environment: Uuid) {
        let done = sqlx::query("UPDATE agents SET default_environment_id = $2 WHERE id = $1")
            .bind(agent)
            .bind(environment)
            .execute(&self.pool)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    /// Makes the tables that only a Paperclip server has, in a database that no operator has seen yet.
    pub async fn make_origin_s_own_tables(&self) {
        migrate::migrate(&self.database.url().parse().unwrap(), Mode::Standalone)
            .await
            .unwrap();
        for statement in [
            "CREATE TABLE issues (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), company_id uuid NOT NULL)",
            "CREATE TABLE execution_workspaces (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), company_id uuid NOT NULL)",
        ] {
            sqlx::query(statement).execute(&self.pool).await.unwrap();
        }
    }

    /// Makes an issue of a company.
    pub async fn insert_issue(&self, company: Uuid) -> Uuid {
        sqlx::query_scalar("INSERT INTO issues (company_id) VALUES ($1) RETURNING id")
            .bind(company)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Makes an execution workspace of a company.
    pub async fn insert_execution_workspace(&self, company: Uuid) -> Uuid {
        sqlx::query_scalar("INSERT INTO execution_workspaces (company_id) VALUES ($1) RETURNING id")
            .bind(company)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// A running heartbeat run of a new agent, in the company of the world's namespace.
    pub async fn insert_run(&self) -> Uuid {
        let company = self.company();
        let agent = self.insert_agent(company).await;
        self.insert_run_of(
            company,
            agent,
            "running",
            json!({ "issueId": "kept", "nested": { "also": ["kept"] } }),
        )
        .await
    }

    /// A heartbeat run with all that a test may want to choose.
    pub async fn insert_run_of(&self, company: Uuid, agent: Uuid, status: &str, context: Value) -> Uuid {
        let statement = "INSERT INTO heartbeat_runs (company_id, agent_id, status, started_at, context_snapshot)
                         VALUES ($1, $2, $3, now(), $4) RETURNING id";
        sqlx::query_scalar(statement)
            .bind(company)
            .bind(agent)
            .bind(status)
            .bind(context)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Sets the status of runs in one statement.
    pub async fn set_run_status(&self, runs: &[Uuid], status: &str) {
        let statement =
            "UPDATE heartbeat_runs SET status = $2, finished_at = now(), updated_at = now() WHERE id = ANY ($1)";
        let done = sqlx::query(statement)
            .bind(runs)
            .bind(status)
            .execute(&self.pool)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), runs.len() as u64);
    }

    /// Deletes a run as the Paperclip server does: its activity first, in one transaction; again where a grant has added some meanwhile.
    pub async fn delete_run(&self, run: Uuid) {
        eventually("the run is deleted", LIMIT, async || self.try_to_delete_run(run).await).await;
    }

    async fn try_to_delete_run(&self, run: Uuid) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for statement in [
            "DELETE FROM activity_log WHERE run_id = $1",
            "DELETE FROM heartbeat_runs WHERE id = $1",
        ] {
            sqlx::query(statement).bind(run).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// An environment as the Paperclip server makes one, in the company of the world's namespace.
    pub async fn insert_environment(&self, name: &str, driver: &str) -> Uuid {
        let statement = "INSERT INTO environments (company_id, name, driver) VALUES ($1, $2, $3) RETURNING id";
        sqlx::query_scalar(statement)
            .bind(self.company())
            .bind(name)
            .bind(driver)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// An active lease as the Paperclip server makes one, acquired and last used two hours ago; `columns` go over that.
    pub async fn insert_unmanaged_lease(&self, environment: Uuid, columns: Value) -> Uuid {
        let statement = "WITH long_ago AS (SELECT now() - interval '2 hours' AS moment)
             INSERT INTO environment_leases
             SELECT lease.* FROM long_ago, jsonb_populate_record(NULL::environment_leases, jsonb_build_object(
               'id', gen_random_uuid(), 'company_id', $1::uuid, 'environment_id', $2::uuid, 'status', 'active',
               'lease_policy', 'ephemeral', 'provider', 'theirs', 'provider_lease_id', 'theirs-1',
               'metadata', jsonb_build_object('theirs', true),
               'acquired_at', moment, 'last_used_at', moment, 'created_at', moment, 'updated_at', moment
             ) || $3) AS lease
             RETURNING id";
        sqlx::query_scalar(statement)
            .bind(self.company())
            .bind(environment)
            .bind(columns)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// A run that came to this end so long ago, as Postgres writes intervals.
    pub async fn insert_past_run(&self, status: &str, ago: &str) -> Uuid {
        let company = self.company();
        let agent = self.insert_agent(company).await;
        let run = self.insert_run_of(company, agent, status, json!({})).await;
        let statement = "UPDATE heartbeat_runs SET finished_at = now() - $2::interval WHERE id = $1";
        sqlx::query(statement)
            .bind(run)
            .bind(ago)
            .execute(&self.pool)
            .await
            .unwrap();
        run
    }

    /// Ends a lease's row as the Paperclip server's release does: without looking at what it was.
    pub async fn set_lease_status(&self, lease: Uuid, status: &str) {
        let statement = "UPDATE environment_leases
                         SET status = $2, released_at = now(), last_used_at = now(), updated_at = now() WHERE id = $1";
        let done = sqlx::query(statement)
            .bind(lease)
            .bind(status)
            .execute(&self.pool)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    /// Makes a lease's row as if it had been granted a day earlier, which is the usual time to live.
    pub async fn let_a_day_pass(&self, lease: Uuid) {
        let statement = "UPDATE environment_leases
                         SET acquired_at = acquired_at - interval '1 day', expires_at = expires_at - interval '1 day'
                         WHERE id = $1";
        let done = sqlx::query(statement).bind(lease).execute(&self.pool).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    /// Deletes a lease's row.
    pub async fn delete_lease_row(&self, lease: Uuid) {
        let statement = "DELETE FROM environment_leases WHERE id = $1";
        let done = sqlx::query(statement).bind(lease).execute(&self.pool).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }
}
