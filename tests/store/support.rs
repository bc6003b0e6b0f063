//! A world for one test: a database, a leader, a company with an agent, and builders for what happens in it.

use std::time::Duration;

use environment_operator::api::{FreeObject, LeasePolicy, Reason};
use environment_operator::lifecycle::{Ending, EnvironmentState, LeaseState, ResourceVersion};
use environment_operator::mirror::Examine;
pub use environment_operator::store::Request;
use environment_operator::store::environment_leases::{End, EndOutcome, Grant, GrantOutcome, LeaseRow};
use environment_operator::store::environments::{EnvironmentOutcome, EnvironmentSync};
use environment_operator::store::lease_object::{EnvironmentChoice, LeaseQuery, LeaseSnapshot};
use environment_operator::store::{
    Address, Leader, Mode, NamespaceBinding, ObjectVersion, Store, StoreError, cluster, lead, migrate,
};
use harness::postgres::{Database, Postgres};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, Executor, PgConnection, PgPool};
use uuid::Uuid;

/// The tables as a Paperclip server makes them.
pub const ORIGIN: &str = include_str!("../fixtures/origin.sql");

/// A database of the test's own.
pub async fn fresh_database() -> Database {
    Postgres::shared().await.database().await.unwrap()
}

/// What the operator remembers of leases (`$1`) whose objects it has granted.
const RECORD: &str = "
INSERT INTO environment_operator.lease_object (
  id, company_id, environment_id, cluster, installation, incarnation, namespace, name, rv, generation, epoch, fencing_token,
  context, metadata_keys, ttl_seconds_after_finished, ended_status, reason, message, ended_at
)
SELECT l.id, l.company_id, l.environment_id, 'cluster', 'default', 1, 'team', 'lease', '1', 1, 1, 1, '{}', '{}', 60,
  ended.status, CASE WHEN ended.status IS NOT NULL THEN 'RunFinished' END,
  CASE WHEN ended.status IS NOT NULL THEN 'so it was' END, CASE WHEN ended.status IS NOT NULL THEN now() END
FROM environment_leases AS l CROSS JOIN LATERAL (SELECT nullif(l.status, 'active') AS status) AS ended
WHERE l.id = ANY ($1)";

/// The address that a URL stands for.
pub fn address(url: &str) -> Address {
    url.parse().unwrap()
}

/// What every test begins with.
pub struct TestEnvironment {
    pub store: Store,
    pub leader: Leader,
    pub company: Uuid,
    pub agent: Uuid,
    pub namespace_uid: Uuid,
    pub database: Database,
    pool: PgPool,
}

pub const HOLDER: &str = "first";

impl TestEnvironment {
    pub async fn new() -> Self {
        Self::on(fresh_database().await).await
    }

    /// On a database of the caller's choice.
    pub async fn on(database: Database) -> Self {
        Self::in_mode(database, Mode::Standalone).await
    }

    async fn in_mode(database: Database, mode: Mode) -> Self {
        let way = address(database.url());
        migrate::migrate(&way, mode).await.unwrap();
        let store = Store::open(&way, mode, 8).await.unwrap();
        for name in ["cluster", "another cluster", "another-cluster"] {
            cluster::admit(&store, name, &[]).await.unwrap();
        }
        let leader = lead::acquire(&store, "cluster", "default", HOLDER)
            .await
            .unwrap()
            .unwrap();
        let (company, agent) = (Uuid::new_v4(), Uuid::new_v4());
        let world = Self::of(store, leader, company, agent, database);
        world.make_company(company, agent).await;
        world
    }

    /// On a database that is ready, with a company and an agent that have no rows yet.
    pub fn of(store: Store, leader: Leader, company: Uuid, agent: Uuid, database: Database) -> Self {
        Self {
            store,
            leader,
            company,
            agent,
            namespace_uid: company,
            pool: PgPoolOptions::new()
                .max_connections(8)
                .connect_lazy_with(database.options().unwrap()),
            database,
        }
    }

    /// On a database with a Paperclip server's tables and foreign keys.
    pub async fn attached() -> Self {
        let database = fresh_database().await;
        let mut owner = database.connect().await.unwrap();
        sqlx::raw_sql(ORIGIN).execute(&mut owner).await.unwrap();
        Self::in_mode(database, Mode::Attached).await
    }

    /// The company's and the agent's rows, as the Paperclip server makes them.
    pub async fn make_company(&self, company: Uuid, agent: Uuid) {
        sqlx::query("INSERT INTO companies (id, name, issue_prefix) VALUES ($1, 'Acme', $2)")
            .bind(company)
            .bind(company.to_string())
            .execute(self.pool())
            .await
            .unwrap();
        sqlx::query("INSERT INTO agents (id, company_id, name) VALUES ($1, $2, 'Ada')")
            .bind(agent)
            .bind(company)
            .execute(self.pool())
            .await
            .unwrap();
    }

    /// Connections of the test's own, not the store's.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub async fn connect(&self) -> PgConnection {
        self.database.connect().await.unwrap()
    }

    pub async fn run(&self, status: &str) -> Uuid {
        self.run_of(self.company, self.agent, status).await
    }

    pub async fn run_of(&self, company: Uuid, agent: Uuid, status: &str) -> Uuid {
        sqlx::query_scalar("INSERT INTO heartbeat_runs (company_id, agent_id, status) VALUES ($1, $2, $3) RETURNING id")
            .bind(company)
            .bind(agent)
            .bind(status)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    pub async fn set_run(&self, run: Uuid, status: &str) {
        sqlx::query("UPDATE heartbeat_runs SET status = $2 WHERE id = $1")
            .bind(run)
            .bind(status)
            .execute(self.pool())
            .await
            .unwrap();
    }

    /// An Environment object with its row.
    pub async fn environment(&self) -> Uuid {
        let sync = self.sandbox("box");
        match self.sync_environment(&sync).await {
            EnvironmentOutcome::Inserted(row) => row.id,
            other => panic!("{other:?}"),
        }
    }

    pub fn sandbox(&self, name: &str) -> EnvironmentSync {
        EnvironmentSync {
            id: Uuid::new_v4(),
            version: version(name, 10, 1),
            company_id: self.company,
            binding: Some(self.settle()),
            driver: environment_operator::api::Driver::Sandbox,
            name: Some(name.to_owned()),
            description: None,
            status: None,
            config: json!({"provider": "kubernetes"}),
            metadata: None,
            max_active_leases: None,
            created_at: moment(0),
            local_intent: None,
        }
    }

    pub fn local(&self) -> EnvironmentSync {
        EnvironmentSync {
            driver: environment_operator::api::Driver::Local,
            name: None,
            config: json!({}),
            ..self.sandbox("local")
        }
    }

    pub fn settle(&self) -> NamespaceBinding {
        NamespaceBinding {
            namespace_uid: self.namespace_uid,
            namespace: "team".to_owned(),
        }
    }

    pub fn claim(&self, environment_id: Uuid) -> Grant {
        Grant {
            id: Uuid::new_v4(),
            version: version("lease", 20, 1),
            company_id: self.company,
            binding: None,
            environment_id,
            run_id: None,
            run_object: None,
            agent_id: None,
            issue_id: None,
            execution_workspace_id: None,
            policy: LeasePolicy::Ephemeral,
            provider: Some("kubernetes".to_owned()),
            provider_lease_id: None,
            ttl_seconds: 3600,
            metadata: FreeObject::new(),
            context: FreeObject::new(),
            ttl_seconds_after_finished: 60,
            turn: None,
        }
    }

    pub async fn sync_environment(&self, sync: &EnvironmentSync) -> EnvironmentOutcome {
        EnvironmentSync::carry_out(&self.store, &self.leader, std::slice::from_ref(sync))
            .await
            .unwrap()
            .remove(0)
    }

    pub async fn grant(&self, grant: &Grant) -> GrantOutcome {
        self.try_grant(grant).await.unwrap()
    }

    pub async fn try_grant(&self, grant: &Grant) -> Result<GrantOutcome, StoreError> {
        let outcomes = Grant::carry_out(&self.store, &self.leader, std::slice::from_ref(grant)).await?;
        Ok(outcomes.into_iter().next().unwrap())
    }

    /// A lease that is held, for a run of its own.
    pub async fn held(&self) -> LeaseRow {
        let (environment, run) = (self.environment().await, self.run("running").await);
        let claim = Grant {
            run_id: Some(run),
            ..self.claim(environment)
        };
        granted(self.grant(&claim).await)
    }

    pub async fn end(&self, id: Uuid, state: LeaseState, reason: Reason) -> EndOutcome {
        let held = self.lease(id).await.map(|row| row.status);
        let end = End {
            id,
            leaves: held
                .filter(|state| *state == LeaseState::Retained)
                .unwrap_or(LeaseState::Active),
            ending: ending(state, reason),
            only_if_expired: false,
            run_ended_at: None,
        };
        End::carry_out(&self.store, &self.leader, &[end])
            .await
            .unwrap()
            .remove(0)
    }

    pub async fn look(&self, look: LeaseQuery) -> LeaseSnapshot {
        LeaseQuery::carry_out(&self.store, &self.leader, &[look])
            .await
            .unwrap()
            .remove(0)
    }

    pub async fn lease(&self, id: Uuid) -> Option<LeaseRow> {
        self.look(self.look_at(id)).await.row
    }

    pub fn look_at(&self, id: Uuid) -> LeaseQuery {
        LeaseQuery {
            id,
            namespace_uid: Some(self.namespace_uid),
            company_id: Some(self.company),
            environment: EnvironmentChoice::Default,
            agent_id: None,
            run_id: None,
            issue_id: None,
            execution_workspace_id: None,
        }
    }

    /// Rows of a table as JSON, in a stable order.
    pub async fn rows(&self, query: &'static str) -> Vec<Value> {
        sqlx::query_scalar(query).fetch_all(self.pool()).await.unwrap()
    }

    /// Leases of objects that have ended, whose rows are there: what the operator remembers of them.
    pub async fn record(&self, ids: &[Uuid]) {
        sqlx::query(RECORD).bind(ids).execute(self.pool()).await.unwrap();
    }

    /// So many ended leases of objects that all held the provider's lease `one`, and so many of other writers that held none.
    pub async fn history(&self, environment: Uuid, own: i32, unmanaged: i32) {
        for (count, name) in [(unmanaged, None), (own, Some("one"))] {
            // Each part in less than a statement's time.
            for first in (0..count).step_by(10_000) {
                let ids: Vec<Uuid> = sqlx::query_scalar(
                    "INSERT INTO environment_leases (
                       company_id, environment_id, status, provider, provider_lease_id, last_used_at
                     )
                     SELECT $1, $2, 'released', 'their-provider', $3, now() - make_interval(secs => 1 + number)
                     FROM generate_series($4, $5) AS number RETURNING id",
                )
                .bind(self.company)
                .bind(environment)
                .bind(name)
                .bind(first)
                .bind(count.min(first + 10_000) - 1)
                .fetch_all(self.pool())
                .await
                .unwrap();
                if name.is_some() {
                    self.record(&ids).await;
                }
            }
        }
    }

    /// So many other leases at the provider that were removed, as they are remembered.
    pub async fn remember_others(&self, environment: Uuid, first: i32, count: i32) {
        sqlx::query(
            "INSERT INTO environment_operator.provider_lease (
               company_id, provider_lease_id, lease_id, environment_id, last_used_at
             )
             SELECT $1, 'other-' || number, gen_random_uuid(), $2, now() FROM generate_series($3, $4) AS number",
        )
        .bind(self.company)
        .bind(environment)
        .bind(first)
        .bind(first + count - 1)
        .execute(self.pool())
        .await
        .unwrap();
    }

    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.pool()).await.unwrap()
    }

    /// Another replica takes over as if the term had passed.
    pub async fn depose(&self) -> Leader {
        sqlx::query("UPDATE environment_operator.lead SET expires_at = clock_timestamp()")
            .execute(self.pool())
            .await
            .unwrap();
        lead::acquire(&self.store, "cluster", "default", "second")
            .await
            .unwrap()
            .unwrap()
    }
}

/// Waits until `count` sessions of the database wait for a lock.
pub async fn until_waiting(world: &TestEnvironment, count: i64) {
    let waiting = async {
        let query = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while world.count(query).await < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), waiting)
        .await
        .expect("somebody waits");
}

/// Has another writer commit `others` after the first statement of `ours` has begun and before it locks a row: ours still
/// sees the rows as they were before, and locks them as they are then.
pub async fn overtake<T: Send + 'static>(
    world: &TestEnvironment,
    others: &'static str,
    ours: impl Future<Output = T> + Send + 'static,
) -> T {
    let mut connection = world.connect().await;
    let mut other = connection.begin().await.unwrap();
    other
        .execute("SELECT FROM environment_operator.lead FOR UPDATE")
        .await
        .unwrap();
    other.execute(others).await.unwrap();
    let ours = tokio::spawn(ours);
    until_waiting(world, 1).await;
    other.commit().await.unwrap();
    ours.await.unwrap()
}

pub fn version(name: &str, resource_version: u64, generation: i64) -> ObjectVersion {
    ObjectVersion {
        namespace: "team".to_owned(),
        name: name.to_owned(),
        resource_version: ResourceVersion::parse(&resource_version.to_string()).unwrap(),
        generation,
    }
}

/// A moment so many seconds after an arbitrary one.
pub fn moment(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub fn ending(state: LeaseState, reason: Reason) -> Ending {
    Ending {
        state,
        reason,
        message: "so it was".to_owned(),
    }
}

#[track_caller]
pub fn granted(outcome: GrantOutcome) -> LeaseRow {
    match outcome {
        GrantOutcome::Granted { row, .. } => *row,
        other => panic!("not granted: {other:?}"),
    }
}

#[track_caller]
pub fn ended(outcome: EndOutcome) -> LeaseRow {
    match outcome {
        EndOutcome::Ended(row) => *row,
        other => panic!("not ended: {other:?}"),
    }
}

#[track_caller]
pub fn refusal(outcome: GrantOutcome) -> (Reason, String) {
    match outcome {
        GrantOutcome::Refused(refusal) => (refusal.reason, refusal.message),
        other => panic!("not refused: {other:?}"),
    }
}

pub fn object(value: Value) -> FreeObject {
    match value {
        Value::Object(object) => object,
        other => panic!("no object: {other}"),
    }
}

pub const ARCHIVED: Option<EnvironmentState> = Some(EnvironmentState::Archived);

/// A look at the database as the leadership has it done, for a mirror without one.
pub fn examine(store: &Store) -> Examine {
    let store = store.clone();
    Examine::by(move |error| {
        let store = store.clone();
        async move {
            match (store.examine().await, error) {
                (Err(StoreError::Unfit(sentence)), _) => StoreError::Unfit(sentence),
                (Ok(()), StoreError::Suspect(message)) => StoreError::Refused { message },
                (outcome, error) => panic!("{outcome:?} after {error}"),
            }
        }
    })
}
