//! From held to ended, by the operator or, remembered only, by another writer.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::LeaseRow;
use crate::lifecycle::{Ending, LeaseState};
use crate::store::columns::{json_rows, moment};
use crate::store::{Access, Leader, Request, Store, StoreError, column};

/// A lease that is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Id of the row.
    pub id: Uuid,
    /// The status that was decided upon, active or retained: a row that is in another one is left alone.
    pub leaves: LeaseState,
    /// How it ends; for a row of ours that another writer has set back to active, the recorded ending.
    pub ending: Ending,
    /// End it only if `expires_at` has passed, judged in the UPDATE by the database's clock.
    pub only_if_expired: bool,
    /// When its run ended, where it has, to be remembered.
    pub run_ended_at: Option<jiff::Timestamp>,
}

/// An [`End`] of an unmanaged lease, which its maker may use meanwhile, and which may hold what nobody tears down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmanagedLeaseEnd {
    /// What is to end, and how.
    pub end: End,
    /// End it only if it has not been used for so long, judged in the UPDATE by the database's clock.
    pub only_if_unused_for: Option<Duration>,
    /// What it holds is not torn down by anybody: `cleanup_status` becomes `failed`.
    pub cleanup_failed: bool,
}

/// What became of an [`End`].
#[derive(Clone, Debug, PartialEq)]
pub enum EndOutcome {
    Ended(Box<LeaseRow>),
    /// It had ended before, by whomever: that ending stands.
    AlreadyEnded(Box<LeaseRow>),
    /// Its time has not passed yet.
    NotYetExpired(Box<LeaseRow>),
    /// It is held, and not in the status that was decided upon: look again.
    Moved(Box<LeaseRow>),
    /// Another transaction holds the row: retry alone.
    Busy,
    /// There is no such row.
    RowMissing,
}

/// Ends held leases and remembers why. The outcomes stand in the order of `ends`.
impl Request for End {
    type Outcome = EndOutcome;

    const NAME: &'static str = "end";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.id
    }

    async fn carry_out(store: &Store, leader: &Leader, ends: &[Self]) -> Result<Vec<EndOutcome>, StoreError> {
        let ends: Vec<UnmanagedLeaseEnd> = ends
            .iter()
            .map(|end| UnmanagedLeaseEnd {
                end: end.clone(),
                only_if_unused_for: None,
                cleanup_failed: false,
            })
            .collect();
        UnmanagedLeaseEnd::carry_out(store, leader, &ends).await
    }
}

/// Ends held unmanaged leases, of which nothing is remembered. The outcomes stand in the order of `ends`; `Busy` is also said of
/// one that was used meanwhile.
impl Request for UnmanagedLeaseEnd {
    type Outcome = EndOutcome;

    const NAME: &'static str = "end_unmanaged";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.end.id
    }

    async fn carry_out(store: &Store, leader: &Leader, ends: &[Self]) -> Result<Vec<EndOutcome>, StoreError> {
        let rows = json_rows!(END, ends, |end| {
            id: end.end.id,
            status: end.end.ending.state.into_str(),
            reason: end.end.ending.reason.into_str(),
            message: end.end.ending.message,
            only_if_expired: end.end.only_if_expired,
            only_if_unused_for: end.only_if_unused_for.map(|unused| unused.as_secs_f64()),
            cleanup_failed: end.cleanup_failed,
            leaves: end.end.leaves.into_str(),
            run_ended_at: end.end.run_ended_at.map(moment),
        });
        let rows: Vec<Ended> = sqlx::query_as(END)
            .bind(&leader.cluster)
            .bind(&leader.installation)
            .bind(leader.epoch)
            .bind(rows)
            .fetch_all(&store.pool)
            .await?;
        if !rows.iter().any(|row| row.id.is_none()) {
            return Err(StoreError::Deposed);
        }
        let mut outcomes: HashMap<Uuid, EndOutcome> = rows
            .into_iter()
            .filter_map(|row| Some((row.id?, EndOutcome::Ended(Box::new(row.lease?.0)))))
            .collect();
        let ends: Vec<&End> = ends.iter().map(|end| &end.end).collect();
        let unanswered: Vec<&End> = ends
            .iter()
            .copied()
            .filter(|end| !outcomes.contains_key(&end.id))
            .collect();
        outcomes.extend(explain(store, &unanswered).await?);
        Ok(ends
            .iter()
            .map(|end| outcomes.remove(&end.id).unwrap_or(EndOutcome::RowMissing))
            .collect())
    }
}

/// Says why leases were not ended, by a look at their rows.
async fn explain(store: &Store, ends: &[&End]) -> Result<Vec<(Uuid, EndOutcome)>, StoreError> {
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Json<LeaseRow>, bool)> = sqlx::query_as(
        "SELECT to_jsonb(l), l.expires_at <= clock_timestamp() IS TRUE
         FROM public.environment_leases AS l
         WHERE l.id = ANY ($1)",
    )
    .bind(column(ends, |end| end.id))
    .fetch_all(&store.pool)
    .await?;
    let asked: HashMap<Uuid, &End> = ends.iter().map(|end| (end.id, *end)).collect();
    let outcomes = rows.into_iter().filter_map(|(Json(row), expired)| {
        let end = asked.get(&row.id)?;
        let outcome = match row.status {
            LeaseState::Retained if end.ending.state == LeaseState::Retained => EndOutcome::AlreadyEnded(Box::new(row)),
            LeaseState::Active | LeaseState::Retained if row.status != end.leaves => EndOutcome::Moved(Box::new(row)),
            LeaseState::Active | LeaseState::Retained if end.only_if_expired && !expired => {
                EndOutcome::NotYetExpired(Box::new(row))
            }
            LeaseState::Active | LeaseState::Retained => EndOutcome::Busy,
            LeaseState::Released | LeaseState::Expired | LeaseState::Failed | LeaseState::PendingCleanup => {
                EndOutcome::AlreadyEnded(Box::new(row))
            }
        };
        Some((end.id, outcome))
    });
    Ok(outcomes.collect())
}

/// One row of the statement: the leader's without an id, then the ended leases.
#[derive(FromRow)]
struct Ended {
    id: Option<Uuid>,
    lease: Option<Json<LeaseRow>>,
}

/// The guard is the status that was decided upon: what any other writer has made of it since wins. The deadline is judged under
/// the row's lock by the database's clock. The first ending is remembered and stays, but for `retained` and
/// `pending_cleanup`, which another one follows. The activity refers to the run and to the agent only where their rows could be locked, for one that somebody holds,
/// or deletes, would hold up the batch. Who acted is told all the same. Its company it has to refer to: where that is taken, it
/// is `Busy`.
const END: &str = r#"
WITH leader AS MATERIALIZED (
  SELECT epoch FROM environment_operator.lead
  WHERE cluster = $1 AND installation = $2 AND epoch = $3
  FOR KEY SHARE
),
asked AS MATERIALIZED (
  SELECT t.*, leader.epoch, l.company_id, l.heartbeat_run_id FROM leader
  CROSS JOIN json_to_recordset($4::json) AS t(
    id uuid, status text, reason text, message text, only_if_expired bool, only_if_unused_for float8, cleanup_failed bool,
    leaves text, run_ended_at timestamptz
  )
  JOIN public.environment_leases AS l ON l.id = t.id
  WHERE l.status = t.leaves AND t.leaves IN ('active', 'retained') AND l.status <> t.status
    AND (NOT t.only_if_expired OR l.expires_at <= clock_timestamp())
    AND (t.only_if_unused_for IS NULL OR l.last_used_at <= clock_timestamp() - make_interval(secs => t.only_if_unused_for))
),
run AS MATERIALIZED (
  SELECT id, agent_id FROM public.heartbeat_runs
  WHERE id = ANY (ARRAY (SELECT heartbeat_run_id FROM asked))
  ORDER BY id FOR KEY SHARE SKIP LOCKED
),
locked_company AS MATERIALIZED (
  SELECT locked.id FROM (SELECT array_agg(DISTINCT company_id) AS ids FROM asked) AS named
  CROSS JOIN LATERAL environment_operator.lock_referenced('companies', named.ids, named.ids) AS locked(id)
),
acting AS MATERIALIZED (
  SELECT asked.id, agent.id AS agent_id, agent.company_id FROM asked
  LEFT JOIN run ON run.id = asked.heartbeat_run_id
  LEFT JOIN environment_operator.lease_object AS o ON o.id = asked.id
  JOIN public.agents AS agent ON agent.id = coalesce(run.agent_id, o.agent_id) AND agent.company_id = asked.company_id
),
locked_agent AS MATERIALIZED (
  SELECT locked.id FROM (
    SELECT array_agg(agent_id) AS ids, array_agg(company_id) AS company_ids FROM acting
  ) AS named
  CROSS JOIN LATERAL environment_operator.lock_referenced('agents', named.ids, named.company_ids) AS locked(id)
),
own AS MATERIALIZED (
  SELECT o.id
  FROM (SELECT count(*) FROM run) AS after_run, (SELECT count(*) FROM locked_company) AS after_company,
    (SELECT count(*) FROM locked_agent) AS after_agent, environment_operator.lease_object AS o
  WHERE o.id = ANY (ARRAY (SELECT id FROM asked))
  ORDER BY o.id FOR NO KEY UPDATE OF o
),
held AS MATERIALIZED (
  SELECT l.id FROM (SELECT count(*) FROM own) AS after_own, public.environment_leases AS l
  WHERE l.id = ANY (ARRAY (SELECT id FROM asked WHERE company_id = ANY (ARRAY (SELECT id FROM locked_company))))
    AND l.status IN ('active', 'retained')
  ORDER BY l.id FOR NO KEY UPDATE OF l SKIP LOCKED
),
moment AS MATERIALIZED (
  SELECT date_trunc('milliseconds', clock_timestamp()) AS now FROM (SELECT count(*) FROM held) AS after_the_locks
),
ended AS (
  UPDATE public.environment_leases AS l
  SET status = asked.status, released_at = CASE WHEN asked.status = 'retained' THEN NULL ELSE moment.now END,
    last_used_at = moment.now, updated_at = moment.now,
    cleanup_status = CASE WHEN asked.cleanup_failed THEN 'failed' ELSE l.cleanup_status END,
    failure_reason = CASE WHEN asked.status = 'released' THEN NULL ELSE asked.reason || ': ' || asked.message END
  FROM asked CROSS JOIN moment
  WHERE l.id = asked.id AND l.id = ANY (ARRAY (SELECT id FROM held))
    AND l.status = asked.leaves
    AND (NOT asked.only_if_expired OR l.expires_at <= moment.now)
    AND (asked.only_if_unused_for IS NULL
      OR l.last_used_at <= moment.now - make_interval(secs => asked.only_if_unused_for))
  RETURNING l.*
),
remembered AS (
  UPDATE environment_operator.lease_object AS o
  SET ended_status = asked.status, reason = asked.reason, message = asked.message, ended_at = moment.now,
    held_until = coalesce(o.held_until, moment.now), run_ended_at = coalesce(o.run_ended_at, asked.run_ended_at),
    epoch = asked.epoch
  FROM asked CROSS JOIN moment
  WHERE o.id = asked.id AND o.id = ANY (ARRAY (SELECT id FROM ended))
    AND (o.ended_status IS NULL OR o.ended_status IN ('retained', 'pending_cleanup'))
),
told AS (
  INSERT INTO public.activity_log (
    company_id, actor_type, actor_id, action, entity_type, entity_id, agent_id, run_id, details, created_at
  )
  SELECT ended.company_id, CASE WHEN acting.agent_id IS NULL THEN 'system' ELSE 'agent' END,
    coalesce(acting.agent_id::text, 'environment-operator'), 'environment.lease_released', 'environment_lease',
    ended.id::text,
    CASE WHEN acting.agent_id = ANY (ARRAY (SELECT id FROM locked_agent)) THEN acting.agent_id END, run.id,
    jsonb_build_object(
      'environmentId', ended.environment_id,
      'driver', coalesce(ended.metadata ->> 'driver', environment.driver), 'leasePolicy', ended.lease_policy,
      'provider', ended.provider, 'executionWorkspaceId', ended.execution_workspace_id, 'issueId', ended.issue_id,
      'status', ended.status, 'cleanupStatus', ended.cleanup_status, 'failureReason', ended.failure_reason,
      'reason', asked.reason
    ), moment.now
  FROM ended JOIN asked USING (id) CROSS JOIN moment
  LEFT JOIN run ON run.id = ended.heartbeat_run_id
  LEFT JOIN acting ON acting.id = ended.id
  LEFT JOIN public.environments AS environment ON environment.id = ended.environment_id
)
SELECT NULL::uuid AS id, NULL::jsonb AS lease FROM leader
UNION ALL
SELECT id, to_jsonb(ended) FROM ended
"#;

/// An ending by another writer that is to be remembered; the row is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalEnding {
    /// Id of the lease.
    pub id: Uuid,
    /// The row's own status (or `expired` for a deleted row), with the reason that the object shows.
    pub ending: Ending,
    /// When its run ended, where it has, to be remembered.
    pub run_ended_at: Option<jiff::Timestamp>,
}

/// Remembers endings of other writers, each once: what is recorded already stays, but for `retained` and
/// `pending_cleanup`.
impl Request for ExternalEnding {
    type Outcome = ();

    const NAME: &'static str = "record_external_ending";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.id
    }

    async fn carry_out(store: &Store, leader: &Leader, ends: &[Self]) -> Result<Vec<()>, StoreError> {
        let rows = json_rows!(RECORD, ends, |end| {
            id: end.id,
            status: end.ending.state.into_str(),
            reason: end.ending.reason.into_str(),
            message: end.ending.message,
            run_ended_at: end.run_ended_at.map(moment),
        });
        let led: bool = sqlx::query_scalar(RECORD)
            .bind(&leader.cluster)
            .bind(&leader.installation)
            .bind(leader.epoch)
            .bind(rows)
            .fetch_one(&store.pool)
            .await?;
        if led {
            Ok(vec![(); ends.len()])
        } else {
            Err(StoreError::Deposed)
        }
    }
}

const RECORD: &str = r#"
WITH leader AS MATERIALIZED (
  SELECT epoch FROM environment_operator.lead
  WHERE cluster = $1 AND installation = $2 AND epoch = $3
  FOR KEY SHARE
),
asked AS MATERIALIZED (
  SELECT * FROM json_to_recordset($4::json) AS t(id uuid, status text, reason text, message text, run_ended_at timestamptz)
),
own AS MATERIALIZED (
  SELECT o.id FROM leader CROSS JOIN environment_operator.lease_object AS o
  WHERE o.id = ANY (ARRAY (SELECT id FROM asked))
    AND (o.ended_status IS NULL OR o.ended_status IN ('retained', 'pending_cleanup'))
  ORDER BY o.id FOR NO KEY UPDATE OF o
),
remembered AS (
  UPDATE environment_operator.lease_object AS o
  SET ended_status = t.status, reason = t.reason, message = t.message,
    ended_at = moment.now, run_ended_at = coalesce(o.run_ended_at, t.run_ended_at),
    held_until = coalesce(o.held_until, least(t.released_at, moment.now))
  FROM (SELECT date_trunc('milliseconds', clock_timestamp()) AS now) AS moment
  CROSS JOIN (
    SELECT i.*, l.released_at
    FROM asked AS i
    LEFT JOIN public.environment_leases AS l ON l.id = i.id
  ) AS t
  WHERE o.id = t.id AND o.id = ANY (ARRAY (SELECT id FROM own))
    AND (o.ended_status IS NULL OR o.ended_status IN ('retained', 'pending_cleanup'))
)
SELECT EXISTS (SELECT FROM leader)
"#;
