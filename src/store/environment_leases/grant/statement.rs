//! The grant's statement, what is bound to it, and what its rows mean.

use std::collections::HashMap;
use std::str::FromStr as _;

use sqlx::postgres::PgArguments;
use sqlx::types::Json;
use sqlx::{FromRow, Postgres};
use uuid::Uuid;

use super::reuse::ProviderLease;
use super::{Grant, GrantOutcome, refused};
use crate::api::{FreeObject, Reason};
use crate::lifecycle::lease_status::display_of_row;
use crate::lifecycle::{RunOutcome, RunStatus};
use crate::store::columns::json_rows;
use crate::store::environment_leases::LeaseRow;
use crate::store::occupied::occupied;
use crate::store::{Leader, StoreError, encoding};

/// One fact that the statement tells about one id.
#[derive(FromRow)]
pub(super) struct Tagged {
    pub(super) id: Option<Uuid>,
    pub(super) what: String,
    detail: Option<String>,
    lease: Option<Json<LeaseRow>>,
    fencing_token: Option<i64>,
    context: Option<Json<FreeObject>>,
    free: Option<i64>,
}

impl Tagged {
    pub(super) fn outcome(self, grant: &Grant) -> Result<GrantOutcome, StoreError> {
        let detail = self.detail.unwrap_or_default();
        let run = grant.run_id.map(display_of_row).unwrap_or_default();
        let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
        Ok(match self.what.as_str() {
            "granted" => match (self.lease, self.fencing_token, self.context) {
                (Some(Json(row)), Some(fencing_token), Some(Json(context))) => GrantOutcome::Granted {
                    row: Box::new(row),
                    fencing_token,
                    context,
                    free: self.free,
                },
                _ => return Err(StoreError::Bug("a grant came back without its row".to_owned())),
            },
            "held" => GrantOutcome::AlreadySo,
            "ended" => GrantOutcome::EndedMeanwhile,
            "Busy" => GrantOutcome::Busy,
            "CapacityFull" => GrantOutcome::Full,
            "EnvironmentNotFound" => refused(
                Reason::EnvironmentNotFound,
                "the environment does not exist in this company".to_owned(),
            ),
            "EnvironmentArchived" => refused(
                Reason::EnvironmentArchived,
                format!("Environment \"{detail}\" is not active."),
            ),
            "RunNotFound" => refused(
                Reason::RunNotFound,
                format!("run/{} does not exist in this company", id(grant.run_id)),
            ),
            // Of a status that nothing is known of it can't be said that the run is over: the next look tells.
            "RunAlreadyFinished" if RunStatus::from_str(&detail).is_err() => GrantOutcome::Busy,
            "RunAlreadyFinished" => {
                // In the words of the decision, which says the same where it sees the end before the statement does.
                let ended = RunStatus::from_str(&detail)
                    .ok()
                    .and_then(RunStatus::outcome)
                    .map_or("ended", RunOutcome::as_verb);
                let message = format!("{run} {ended} before the lease was granted");
                refused(Reason::RunAlreadyFinished, message)
            }
            "ReferenceNotFound" => refused(
                Reason::ReferenceNotFound,
                format!("spec.agentId {} names no agent of this company", id(grant.agent_id)),
            ),
            "AgentMismatch" => refused(
                Reason::AgentMismatch,
                format!("spec.agentId {} is not the agent of {run}", id(grant.agent_id)),
            ),
            what => return Err(StoreError::Bug(format!("a grant came back as {what:?}"))),
        })
    }
}

/// Binds grants in the order in which an environment's free leases go to them; `locked`: the environments that this
/// transaction has locked; `reused`: what claims take over instead of their own provision.
///
/// # Errors
/// `Bug`: a claim that cannot be written as JSON.
pub(super) fn bind<'q>(
    query: TaggedQuery<'q>,
    leader: &'q Leader,
    grants: &[&'q Grant],
    reused: &'q HashMap<Uuid, ProviderLease>,
    locked: &'q [Uuid],
) -> Result<TaggedQuery<'q>, StoreError> {
    let rows = json_rows!(GRANT, grants, |grant| {
        id: grant.id,
        company_id: grant.company_id,
        bound_uid: grant.binding.as_ref().map(|binding| binding.namespace_uid),
        environment_id: grant.environment_id,
        run_id: grant.run_id,
        agent_id: grant.agent_id,
        issue_id: grant.issue_id,
        execution_workspace_id: grant.execution_workspace_id,
        policy: encoding::policy(grant.policy),
        provider: match reused.get(&grant.id) {
            Some(reused) => reused.provider.as_deref(),
            None => grant.provider.as_deref(),
        },
        provider_lease_id: match reused.get(&grant.id) {
            Some(reused) => Some(reused.provider_lease_id.as_str()),
            None => grant.provider_lease_id.as_deref(),
        },
        ttl_seconds: grant.ttl_seconds,
        metadata: grant.metadata,
        context: grant.context,
        ttl_seconds_after_finished: grant.ttl_seconds_after_finished,
        namespace: grant.version.namespace,
        name: grant.version.name,
        rv: grant.version.resource_version.as_str(),
        generation: grant.version.generation,
        run_api_version: grant.run_object.as_ref().map(|object| object.api_version.as_str()),
        run_kind: grant.run_object.as_ref().map(|object| object.kind.as_str()),
        run_name: grant.run_object.as_ref().map(|object| object.name.as_str()),
        run_uid: grant.run_object.as_ref().and_then(|object| object.uid.as_deref()),
    });
    Ok(query
        .bind(&leader.cluster)
        .bind(&leader.installation)
        .bind(leader.epoch)
        .bind(leader.incarnation)
        .bind(rows)
        .bind(locked))
}

type TaggedQuery<'q> = sqlx::query::QueryAs<'q, Postgres, Tagged, PgArguments>;

/// Proves the epoch, checks tenancy, locks, guards, remembers, inserts, tells activity log and run; one row per answer.
///
/// - `run` locks the run's row and `checked` reads the status under that lock: a run that ends meanwhile waits, and its
///   notification comes after the grant.
/// - What foreign keys refer to is locked as well, for their checks would wait for whoever holds it: a claim whose company,
///   agent, issue or execution workspace is taken is `Busy`, and its neighbours are granted.
/// - What is another company's is not even locked: its own transactions must neither wait for ours nor be told of.
/// - `settled` returns the Namespaces whose recorded company is the claim's, whoever recorded it first.
/// - `= ANY (ARRAY (SELECT …))`: a generic plan guesses ten rows an array and would join the sets row by row.
/// - `capacity` counts under the lock of the environment's row, which a statement before this one has taken; an environment
///   that has been limited since is `Busy`, and a limit that is changed meanwhile counts from the next grant on.
/// - Fencing tokens rise in the order of the claims.
/// - The run's context is merged with what is there now; anything but an object is replaced, for it has no keys to keep. A run
///   that another writer has given its environment keeps that: only what an object's lease has told it before is replaced.
pub(super) const GRANT: &str = concat!(
    r#"
WITH leader AS MATERIALIZED (
  SELECT epoch FROM environment_operator.lead
  WHERE cluster = $1 AND installation = $2 AND epoch = $3
  FOR KEY SHARE
),
asked AS MATERIALIZED (
  SELECT t.*, leader.epoch, object.id IS NOT NULL OR lease.id IS NOT NULL AS known, lease.status AS lease_status
  FROM leader CROSS JOIN ROWS FROM (json_to_recordset($5::json) AS (
    id uuid, company_id uuid, bound_uid uuid, environment_id uuid, run_id uuid, agent_id uuid, issue_id uuid,
    execution_workspace_id uuid, policy text, provider text, provider_lease_id text, ttl_seconds int4, metadata jsonb,
    context jsonb, ttl_seconds_after_finished int4, namespace text, name text, rv text, generation int8,
    run_api_version text, run_kind text, run_name text, run_uid text
  )) WITH ORDINALITY AS t
  LEFT JOIN environment_operator.lease_object AS object ON object.id = t.id
  LEFT JOIN public.environment_leases AS lease ON lease.id = t.id
),
environment AS MATERIALIZED (
  SELECT id, company_id, name, driver, status FROM public.environments
  WHERE id = ANY (ARRAY (SELECT environment_id FROM asked WHERE NOT known))
    AND (id, company_id) IN (SELECT environment_id, company_id FROM asked)
  ORDER BY id FOR KEY SHARE SKIP LOCKED
),
run AS MATERIALIZED (
  SELECT id, company_id, status, agent_id FROM public.heartbeat_runs
  WHERE id = ANY (ARRAY (SELECT run_id FROM asked WHERE NOT known))
    AND (id, company_id) IN (SELECT run_id, company_id FROM asked)
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
),
locked_company AS MATERIALIZED (
  SELECT locked.id FROM (SELECT array_agg(DISTINCT company_id) AS ids FROM asked WHERE NOT known) AS named
  CROSS JOIN LATERAL environment_operator.lock_referenced('companies', named.ids, named.ids) AS locked(id)
),
locked_agent AS MATERIALIZED (
  SELECT locked.id FROM (
    SELECT array_agg(each.id) AS ids, array_agg(each.company_id) AS company_ids FROM (
      SELECT agent_id AS id, company_id FROM run
      UNION
      SELECT agent_id, company_id FROM asked WHERE NOT known AND agent_id IS NOT NULL
    ) AS each
  ) AS named
  CROSS JOIN LATERAL environment_operator.lock_referenced('agents', named.ids, named.company_ids) AS locked(id)
),
locked_issue AS MATERIALIZED (
  SELECT locked.id FROM (
    SELECT array_agg(issue_id) AS ids, array_agg(company_id) AS company_ids FROM asked
    WHERE NOT known AND issue_id IS NOT NULL
  ) AS named
  CROSS JOIN LATERAL environment_operator.lock_referenced('issues', named.ids, named.company_ids) AS locked(id)
),
locked_workspace AS MATERIALIZED (
  SELECT locked.id FROM (
    SELECT array_agg(execution_workspace_id) AS ids, array_agg(company_id) AS company_ids FROM asked
    WHERE NOT known AND execution_workspace_id IS NOT NULL
  ) AS named
  CROSS JOIN LATERAL environment_operator.lock_referenced(
    'execution_workspaces', named.ids, named.company_ids
  ) AS locked(id)
),
capacity AS MATERIALIZED (
  SELECT admitted.environment_id, environment.id = ANY ($6) AS counted, admitted.max_active_leases - ("#,
    occupied!("environment.company_id", "environment.id"),
    r#") AS free
  FROM environment JOIN environment_operator.environment_limit AS admitted ON admitted.environment_id = environment.id
),
sound AS MATERIALIZED (
  SELECT asked.*, environment.name AS environment_name, environment.driver, run.status AS run_status,
    coalesce(run.agent_id, asked.agent_id) AS acting_agent_id, acting.id AS told_agent_id,
    jsonb_build_object(
      'id', asked.environment_id, 'name', environment.name, 'driver', environment.driver, 'leaseId', asked.id
    ) || asked.context AS full_context,
    CASE
      WHEN environment.id IS NULL THEN CASE WHEN EXISTS (
        SELECT FROM public.environments AS e WHERE e.id = asked.environment_id AND e.company_id = asked.company_id
      ) THEN 'Busy' ELSE 'EnvironmentNotFound' END
      WHEN environment.status <> 'active' THEN 'EnvironmentArchived'
      WHEN asked.agent_id IS NOT NULL AND agent.id IS NULL THEN 'ReferenceNotFound'
      WHEN asked.run_id IS NOT NULL AND run.id IS NULL THEN CASE WHEN EXISTS (
        SELECT FROM public.heartbeat_runs AS r WHERE r.id = asked.run_id AND r.company_id = asked.company_id
      ) THEN 'Busy' ELSE 'RunNotFound' END
      WHEN run.agent_id <> asked.agent_id THEN 'AgentMismatch'
      WHEN run.status NOT IN ('queued', 'scheduled_retry', 'running') THEN 'RunAlreadyFinished'
      WHEN NOT capacity.counted
        OR NOT asked.company_id = ANY (ARRAY (SELECT id FROM locked_company))
        OR (acting.id IS NOT NULL AND NOT acting.id = ANY (ARRAY (SELECT id FROM locked_agent)))
        OR (asked.issue_id IS NOT NULL AND NOT asked.issue_id = ANY (ARRAY (SELECT id FROM locked_issue)))
        OR (asked.execution_workspace_id IS NOT NULL
          AND NOT asked.execution_workspace_id = ANY (ARRAY (SELECT id FROM locked_workspace))) THEN 'Busy'
    END AS fault
  FROM asked
  LEFT JOIN capacity USING (environment_id)
  LEFT JOIN environment ON environment.id = asked.environment_id AND environment.company_id = asked.company_id
  LEFT JOIN run ON run.id = asked.run_id AND run.company_id = asked.company_id
  LEFT JOIN public.agents AS agent ON agent.id = asked.agent_id AND agent.company_id = asked.company_id
  LEFT JOIN public.agents AS acting
    ON acting.id = coalesce(run.agent_id, asked.agent_id) AND acting.company_id = asked.company_id
  WHERE NOT asked.known
),
checked AS MATERIALIZED (
  SELECT sound.*, CASE
    WHEN fault IS NOT NULL THEN fault
    WHEN row_number() OVER (PARTITION BY environment_id, fault IS NULL ORDER BY ordinality) > capacity.free THEN 'CapacityFull'
  END AS refusal
  FROM sound LEFT JOIN capacity USING (environment_id)
),
settled AS (
  INSERT INTO environment_operator.namespace AS n (cluster, uid, name, company_id)
  SELECT DISTINCT ON (bound_uid) $1, bound_uid, namespace, company_id FROM checked
  WHERE refusal IS NULL AND bound_uid IS NOT NULL
  ORDER BY bound_uid, id
  ON CONFLICT (cluster, uid) DO UPDATE SET name = EXCLUDED.name WHERE n.company_id = EXCLUDED.company_id
  RETURNING uid, company_id
),
moment AS MATERIALIZED (
  SELECT date_trunc('milliseconds', clock_timestamp()) AS now FROM (SELECT count(*) FROM checked) AS after_the_locks
),
remembered AS (
  INSERT INTO environment_operator.lease_object (
    id, company_id, environment_id, cluster, installation, incarnation, namespace, name, rv, generation, epoch,
    agent_id, run_id, run_api_version, run_kind, run_name, run_uid, fencing_token, context, metadata_keys,
    ttl_seconds_after_finished
  )
  SELECT id, company_id, environment_id, $1, $2, $4, namespace, name, rv, generation, epoch,
    acting_agent_id, run_id, run_api_version, run_kind, run_name, run_uid,
    nextval('environment_operator.fencing_token'), full_context, ARRAY (SELECT jsonb_object_keys(metadata)),
    ttl_seconds_after_finished
  FROM checked
  WHERE refusal IS NULL AND (
    bound_uid IS NULL
    OR EXISTS (SELECT FROM settled WHERE settled.uid = bound_uid AND settled.company_id = checked.company_id)
  )
  ORDER BY ordinality
  ON CONFLICT DO NOTHING
  RETURNING id, fencing_token, context
),
granted AS (
  INSERT INTO public.environment_leases (
    id, company_id, environment_id, execution_workspace_id, issue_id, heartbeat_run_id, lease_policy, provider,
    provider_lease_id, acquired_at, last_used_at, expires_at, metadata, created_at, updated_at
  )
  SELECT id, company_id, environment_id, execution_workspace_id, issue_id, run_id, policy, provider,
    provider_lease_id, now, now, now + make_interval(secs => ttl_seconds),
    metadata || jsonb_build_object('driver', driver), now, now
  FROM checked CROSS JOIN moment
  WHERE id = ANY (ARRAY (SELECT id FROM remembered))
  ORDER BY id
  RETURNING *
),
told AS (
  INSERT INTO public.activity_log (
    company_id, actor_type, actor_id, action, entity_type, entity_id, agent_id, run_id, details, created_at
  )
  SELECT company_id, CASE WHEN acting_agent_id IS NULL THEN 'system' ELSE 'agent' END,
    coalesce(acting_agent_id::text, 'environment-operator'), 'environment.lease_acquired', 'environment_lease',
    id::text, told_agent_id, run_id,
    jsonb_build_object(
      'environmentId', environment_id, 'driver', driver, 'leasePolicy', policy, 'provider', provider,
      'executionWorkspaceId', execution_workspace_id, 'issueId', issue_id
    ), now
  FROM checked CROSS JOIN moment
  WHERE id = ANY (ARRAY (SELECT id FROM granted))
),
context AS (
  UPDATE public.heartbeat_runs AS r
  SET context_snapshot =
    CASE WHEN jsonb_typeof(r.context_snapshot) = 'object' THEN r.context_snapshot ELSE '{}' END
    || jsonb_build_object('paperclipEnvironment', checked.full_context)
  FROM checked
  WHERE r.id = checked.run_id AND checked.id = ANY (ARRAY (SELECT id FROM granted)) AND (
    coalesce(jsonb_typeof(r.context_snapshot -> 'paperclipEnvironment'), 'null') = 'null'
    OR EXISTS (
      SELECT FROM public.environment_leases AS l JOIN environment_operator.lease_object AS o ON o.id = l.id
      WHERE l.heartbeat_run_id = r.id AND l.id::text = r.context_snapshot -> 'paperclipEnvironment' ->> 'leaseId'
    )
  )
)
SELECT NULL::uuid AS id, 'leader' AS what, NULL::text AS detail, NULL::jsonb AS lease, NULL::int8 AS fencing_token,
  NULL::jsonb AS context, NULL::int8 AS free
FROM leader
UNION ALL
SELECT id, CASE WHEN lease_status IN ('active', 'retained') THEN 'held' ELSE 'ended' END, NULL, NULL, NULL, NULL, NULL
FROM asked WHERE known
UNION ALL
SELECT id, refusal, CASE refusal WHEN 'EnvironmentArchived' THEN environment_name ELSE run_status END, NULL, NULL, NULL,
  NULL
FROM checked WHERE refusal IS NOT NULL
UNION ALL
SELECT granted.id, 'granted', NULL, to_jsonb(granted), remembered.fencing_token, remembered.context,
  capacity.free - count(*) OVER (PARTITION BY granted.environment_id)
FROM granted JOIN remembered USING (id) LEFT JOIN capacity USING (environment_id)
"#
);
