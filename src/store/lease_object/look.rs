//! What the database knows about leases, asked in one statement for many.

use std::collections::HashSet;

use serde::Deserialize;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::LeaseObjectRow;
use crate::lifecycle::RunStatus;
use crate::store::columns::bind_arrays;
use crate::store::environment_leases::LeaseRow;
use crate::store::environments::EnvironmentRow;
use crate::store::occupied::occupied;
use crate::store::references::Reference;
use crate::store::unreadable::{Row, UnreadableRows};
use crate::store::{Access, Leader, Request, Store, StoreError};

/// Which environment a claim chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentChoice {
    /// This Environment object, by uid.
    Object(Uuid),
    /// The company's Local.
    Local,
    /// The default environment of the claim's agent, else of the run's agent, else the company's Local.
    Default,
}

/// What is asked about one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseQuery {
    /// uid of the object.
    pub id: Uuid,
    pub namespace_uid: Option<Uuid>,
    /// Company by the Namespace's label or uid, used while none is recorded.
    pub company_id: Option<Uuid>,
    /// Which environment a claim chooses (a granted lease has its row's own).
    pub environment: EnvironmentChoice,
    pub agent_id: Option<Uuid>,
    /// `spec.run.heartbeatRunId` (a granted lease has the one of its grant).
    pub run_id: Option<Uuid>,
    pub issue_id: Option<Uuid>,
    pub execution_workspace_id: Option<Uuid>,
}

/// What the database knows of a heartbeat run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunLook {
    /// The lease names none.
    None,
    /// No such run in this company.
    Missing,
    /// It is there, with a status of which nothing is known here.
    Unknown,
    Found {
        status: RunStatus,
        agent_id: Uuid,
        /// When it ended, as far as its row tells.
        finished_at: Option<jiff::Timestamp>,
    },
}

/// What the database knows about one lease.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseSnapshot {
    /// uid of the object.
    pub id: Uuid,
    /// The database's clock.
    pub now: jiff::Timestamp,
    /// Whether the asking leader's term still runs.
    pub leading: bool,
    /// Company recorded for the Namespace.
    pub recorded_company: Option<Uuid>,
    /// Whether the company (recorded, else given) has its row.
    pub company_exists: bool,
    /// The lease's row.
    pub row: Option<LeaseRow>,
    /// What is remembered of the grant.
    pub object: Option<LeaseObjectRow>,
    /// The heartbeat run.
    pub run: RunLook,
    /// A granted lease's environment, else the one that the claim chooses, if it has a row.
    pub environment: Option<EnvironmentRow>,
    /// Whether every Environment object of that row was deleted (never said of a Local).
    pub environment_deleted: bool,
    /// The Local object that stands for the company's row in this cluster.
    pub local_object: Option<Uuid>,
    /// Whether `spec.agentId` is no agent of this company.
    pub agent_missing: bool,
    /// Whether `spec.issueId` is no issue of this company, as far as the database has issues.
    pub issue_missing: bool,
    /// Whether `spec.executionWorkspaceId` is no workspace of this company, as far as the database has workspaces.
    pub execution_workspace_missing: bool,
    /// How full the environment that a claim chooses is; none where it is not limited, and for a granted lease.
    pub capacity: Option<Capacity>,
}

/// How full a limited environment is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Capacity {
    /// How many leases it admits.
    pub limit: i64,
    /// How many are active, unmanaged ones among them.
    pub active: i64,
    /// The first three of them, in the order of their grants.
    pub holders: Vec<Holder>,
}

/// Who holds a lease, as far as a claim of the same company may know.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Holder {
    /// Id of the row, uid of its object.
    pub id: Uuid,
    /// Namespace of its object; none for the row of another writer or of another cluster.
    pub namespace: Option<String>,
    /// Name of its object.
    pub name: Option<String>,
}

/// Looks without locks: writes nothing, not even to the write-ahead log; a deposed replica may look (`leading` tells). The views
/// stand in the order of `looks`.
impl Request for LeaseQuery {
    type Outcome = LeaseSnapshot;

    const NAME: &'static str = "look_lease";

    const ACCESS: Access = Access::Read;

    fn key(&self) -> Uuid {
        self.id
    }

    async fn carry_out(store: &Store, leader: &Leader, looks: &[Self]) -> Result<Vec<LeaseSnapshot>, StoreError> {
        let query = sqlx::query_as(LOOK)
            .bind(&leader.cluster)
            .bind(&leader.installation)
            .bind(leader.epoch);
        let query = bind_arrays!(query, LOOK, looks, |look| {
            id: look.id,
            namespace_uid: look.namespace_uid,
            company_id: look.company_id,
            object_id: match look.environment {
                EnvironmentChoice::Object(id) => Some(id),
                EnvironmentChoice::Local | EnvironmentChoice::Default => None,
            },
            use_default: look.environment == EnvironmentChoice::Default,
            agent_id: look.agent_id,
            run_id: look.run_id,
        });
        let rows: Vec<Looked> = query.fetch_all(&store.pool).await?;
        let pairs: Vec<(Looked, &LeaseQuery)> = rows.into_iter().zip(looks).collect();
        // Only a claim's own references matter: those of a granted lease were checked at its grant.
        let references = |of: fn(&LeaseQuery) -> Option<Uuid>| {
            pairs
                .iter()
                .filter(|(row, _)| row.lease.is_none())
                .filter_map(move |(row, look)| row.company_id.zip(of(look)))
        };
        let issues = store
            .references()
            .missing_issues(&store.pool, references(|look| look.issue_id))
            .await?;
        let workspaces = store
            .references()
            .missing_execution_workspaces(&store.pool, references(|look| look.execution_workspace_id))
            .await?;
        pairs
            .into_iter()
            .map(|(row, look)| {
                let is_in = |missing: &HashSet<Reference>, id: Option<Uuid>| {
                    row.company_id
                        .zip(id)
                        .is_some_and(|reference| missing.contains(&reference))
                };
                let issue_missing = is_in(&issues, look.issue_id);
                let execution_workspace_missing = is_in(&workspaces, look.execution_workspace_id);
                row.view(&store.unreadable, issue_missing, execution_workspace_missing)
            })
            .collect()
    }
}

/// What the statement says of one lease.
#[derive(FromRow)]
struct Looked {
    id: Uuid,
    #[sqlx(try_from = "jiff_sqlx::Timestamp")]
    now: jiff::Timestamp,
    leading: bool,
    recorded_company: Option<Uuid>,
    company_id: Option<Uuid>,
    company_exists: bool,
    lease: Option<Json<Row<LeaseRow>>>,
    object: Option<Json<LeaseObjectRow>>,
    run_id: Option<Uuid>,
    run_status: Option<String>,
    run_agent_id: Option<Uuid>,
    run_finished_at: Option<jiff_sqlx::Timestamp>,
    environment: Option<Json<Row<EnvironmentRow>>>,
    environment_deleted: bool,
    local_object: Option<Uuid>,
    agent_missing: bool,
    capacity: Option<Json<Capacity>>,
}

impl Looked {
    fn view(
        self,
        unreadable: &UnreadableRows,
        issue_missing: bool,
        execution_workspace_missing: bool,
    ) -> Result<LeaseSnapshot, StoreError> {
        let run = match (self.run_id, self.run_status, self.run_agent_id) {
            (None, _, _) => RunLook::None,
            (Some(run), Some(text), Some(agent_id)) => match text.parse() {
                Ok(status) => RunLook::Found {
                    status,
                    agent_id,
                    finished_at: self.run_finished_at.map(jiff_sqlx::Timestamp::to_jiff),
                },
                Err(_) => {
                    tracing::warn!(%run, status = text, "a run has a status of which nothing is known: it ends no lease");
                    RunLook::Unknown
                }
            },
            (Some(_), _, _) => RunLook::Missing,
        };
        // Of a lease whose row can't be read nothing can be decided; its neighbours are looked at without it.
        let row = self.lease.map(|Json(row)| row.needed()).transpose()?;
        let environment = self.environment.map(|Json(row)| unreadable.pass_over(row));
        Ok(LeaseSnapshot {
            id: self.id,
            now: self.now,
            leading: self.leading,
            recorded_company: self.recorded_company,
            company_exists: self.company_exists,
            row,
            object: self.object.map(|Json(row)| row),
            run,
            environment: environment.transpose()?.flatten(),
            environment_deleted: self.environment_deleted,
            local_object: self.local_object,
            agent_missing: self.agent_missing,
            issue_missing,
            execution_workspace_missing,
            capacity: self.capacity.map(|Json(capacity)| capacity),
        })
    }
}

/// A granted lease's company, run and environment are those of its grant; a claim's are those that it names, each joined with
/// the claim's company, so that another company's looks as if it were not there.
const LOOK: &str = concat!(
    r#"
WITH term AS MATERIALIZED (
  SELECT moment.now, EXISTS (
    SELECT FROM environment_operator.lead
    WHERE cluster = $1 AND installation = $2 AND epoch = $3 AND expires_at > moment.now
  ) AS leading
  FROM (SELECT clock_timestamp() AS now) AS moment
),
asked AS MATERIALIZED (
  SELECT i.id, i.place, i.object_id, i.use_default, i.agent_id, namespace.company_id AS recorded_company,
    coalesce(lease.company_id, object.company_id, namespace.company_id, i.company_id) AS company_id,
    CASE WHEN object.id IS NOT NULL THEN object.run_id
         WHEN lease.id IS NOT NULL THEN lease.heartbeat_run_id
         ELSE i.run_id END AS run_id,
    coalesce(lease.environment_id, object.environment_id) AS environment_id
  FROM unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::bool[], $9::uuid[], $10::uuid[])
    WITH ORDINALITY AS i(id, namespace_uid, company_id, object_id, use_default, agent_id, run_id, place)
  LEFT JOIN environment_operator.namespace ON namespace.cluster = $1 AND namespace.uid = i.namespace_uid
  LEFT JOIN environment_operator.lease_object AS object ON object.id = i.id
  LEFT JOIN public.environment_leases AS lease ON lease.id = i.id
),
chosen AS MATERIALIZED (
  SELECT asked.*, run.status AS run_status, run.agent_id AS run_agent_id,
    CASE WHEN run.finished_at BETWEEN '0001-01-01Z' AND '9999-12-30Z' THEN run.finished_at END AS run_finished_at,
    asked.agent_id IS NOT NULL AND agent.id IS DISTINCT FROM asked.agent_id AS agent_missing,
    CASE WHEN asked.environment_id IS NOT NULL THEN asked.environment_id
         WHEN asked.object_id IS NOT NULL THEN named.environment_id
         WHEN asked.use_default THEN coalesce(standard.id, local.id)
         ELSE local.id END AS chosen_id
  FROM asked
  LEFT JOIN public.heartbeat_runs AS run ON run.id = asked.run_id AND run.company_id = asked.company_id
  LEFT JOIN public.agents AS agent
    ON agent.id = coalesce(asked.agent_id, run.agent_id) AND agent.company_id = asked.company_id
  LEFT JOIN public.environments AS standard
    ON standard.id = agent.default_environment_id AND standard.company_id = asked.company_id
  LEFT JOIN environment_operator.environment_object AS named ON named.id = asked.object_id
  LEFT JOIN public.environments AS local ON local.company_id = asked.company_id AND local.driver = 'local'
),
capacity AS MATERIALIZED (
  SELECT admitted.environment_id, claimed.company_id, jsonb_build_object(
    'limit', admitted.max_active_leases,
    'active', "#,
    occupied!("claimed.company_id", "admitted.environment_id"),
    r#",
    'holders', ARRAY (
      SELECT jsonb_build_object('id', l.id, 'namespace', o.namespace, 'name', o.name)
      FROM public.environment_leases AS l
      LEFT JOIN environment_operator.lease_object AS o ON o.id = l.id AND o.cluster = $1
      WHERE l.company_id = claimed.company_id AND l.environment_id = admitted.environment_id AND l.status = 'active'
      ORDER BY l.acquired_at, l.id LIMIT 3
    )
  ) AS capacity
  FROM (SELECT DISTINCT chosen_id, company_id FROM chosen WHERE environment_id IS NULL) AS claimed
  JOIN environment_operator.environment_limit AS admitted ON admitted.environment_id = claimed.chosen_id
)
SELECT chosen.id, term.now, term.leading, chosen.recorded_company, chosen.company_id,
  EXISTS (SELECT FROM public.companies WHERE companies.id = chosen.company_id) AS company_exists,
  to_jsonb(lease) AS lease, to_jsonb(object) AS object,
  chosen.run_id, chosen.run_status, chosen.run_agent_id, chosen.run_finished_at,
  to_jsonb(environment) AS environment,
  EXISTS (
    SELECT FROM environment_operator.environment_object AS o
    WHERE o.environment_id = chosen.chosen_id AND o.driver <> 'local' AND o.deleted_at IS NOT NULL
  ) AND NOT EXISTS (
    SELECT FROM environment_operator.environment_object AS o
    WHERE o.environment_id = chosen.chosen_id AND o.deleted_at IS NULL
  ) AS environment_deleted,
  (
    SELECT l.object_id FROM environment_operator.local AS l WHERE l.cluster = $1 AND l.company_id = chosen.company_id
  ) AS local_object,
  chosen.agent_missing, capacity.capacity
FROM chosen CROSS JOIN term
LEFT JOIN public.environment_leases AS lease ON lease.id = chosen.id
LEFT JOIN environment_operator.lease_object AS object ON object.id = chosen.id
LEFT JOIN public.environments AS environment
  ON environment.id = chosen.chosen_id AND environment.company_id = chosen.company_id
LEFT JOIN capacity ON chosen.environment_id IS NULL
  AND capacity.environment_id = environment.id AND capacity.company_id = chosen.company_id
ORDER BY chosen.place
"#
);
