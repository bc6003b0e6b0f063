//! From claim to lease: one statement that checks, locks, records, inserts and returns what came of it.
//!
//! What depends on an environment's other leases (how many are active, what they have left at the provider) needs its row
//! locked by a statement before: the snapshot of a statement is older than the locks that it takes, so that one which read
//! and locked at once would see too little.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::LeaseRow;
use crate::api::{FreeObject, LeasePolicy, ObjectRef, Reason};
use crate::lifecycle::Turn;
use crate::store::references::Reference;
use crate::store::session::Session;
use crate::store::{
    Access, Leader, NamespaceBinding, ObjectVersion, Refusal, Request, Store, StoreError, column, validation,
};

mod reuse;
mod statement;

pub use reuse::LEFT;

use statement::{GRANT, Tagged, bind};

/// A claim that is to become a lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// uid of the object: id of the row.
    pub id: Uuid,
    pub version: ObjectVersion,
    /// Company of its Namespace.
    pub company_id: Uuid,
    /// Given while the Namespace has no recorded company.
    pub binding: Option<NamespaceBinding>,
    /// Row of the environment.
    pub environment_id: Uuid,
    /// Heartbeat run.
    pub run_id: Option<Uuid>,
    /// Run object, its uid pinned.
    pub run_object: Option<ObjectRef>,
    pub agent_id: Option<Uuid>,
    pub issue_id: Option<Uuid>,
    pub execution_workspace_id: Option<Uuid>,
    pub policy: LeasePolicy,
    /// Provider: `local`, `ssh`, the sandbox's, `plugin:<pluginKey>:<driverKey>`.
    pub provider: Option<String>,
    /// For ssh `ssh://user@host:port<remoteCwd>`. Where it is none, a policy of reuse takes over what an earlier lease has left.
    pub provider_lease_id: Option<String>,
    /// Seconds from the grant to `expires_at`.
    pub ttl_seconds: i32,
    /// `spec.metadata`; the store adds `driver`.
    pub metadata: FreeObject,
    /// What the run's context holds beside id, name, driver and leaseId (for ssh remoteCwd, host, port, username).
    pub context: FreeObject,
    pub ttl_seconds_after_finished: i32,
    /// Its turn, where the environment has been seen to be limited: of one batch the first are granted.
    pub turn: Option<Turn>,
}

/// What became of a [`Grant`].
#[derive(Clone, Debug, PartialEq)]
pub enum GrantOutcome {
    /// The lease is held from now on.
    Granted {
        row: Box<LeaseRow>,
        /// Higher than that of every grant before.
        fencing_token: i64,
        /// What the run is told (`paperclipEnvironment`).
        context: FreeObject,
        /// How many more leases the environment admits now; none where it is not limited.
        free: Option<i64>,
    },
    /// The environment holds as many leases as it admits, unmanaged ones among them.
    Full,
    /// It was granted before and is held: look again.
    AlreadySo,
    /// It was granted before and has ended, or its row was deleted: it is never granted again.
    EndedMeanwhile,
    /// It can't be granted as things are.
    Refused(Refusal),
    /// Another transaction holds the environment or the run: retry alone.
    Busy,
}

/// Grants claims. The outcomes stand in the order of `grants`.
impl Request for Grant {
    type Outcome = GrantOutcome;

    const NAME: &'static str = "grant";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.id
    }

    fn check(&self) -> Result<(), StoreError> {
        validation::text("the environment's provider", self.provider.as_deref())?;
        validation::indexed_text("the provider's lease id", self.provider_lease_id.as_deref())?;
        validation::object("spec.metadata", &self.metadata)?;
        validation::object("the run's context", &self.context)
    }

    fn refused(refusal: Refusal) -> Option<GrantOutcome> {
        Some(GrantOutcome::Refused(refusal))
    }

    async fn carry_out(store: &Store, leader: &Leader, grants: &[Self]) -> Result<Vec<GrantOutcome>, StoreError> {
        let mut outcomes = refuse_missing_references(store, grants).await?;
        let mut sound: Vec<&Grant> = grants
            .iter()
            .filter(|grant| !outcomes.contains_key(&grant.id))
            .collect();
        sound.sort_by_key(|grant| grant.turn);
        let rows: Vec<Tagged> = if sound.iter().copied().any(needs_lock) {
            let mut transaction = store.pool.begin().await?;
            let locked = lock_environments(&mut transaction, leader, &sound).await?;
            // Those that another transaction holds are busy; the statement says so of limited ones itself.
            sound.retain(|grant| !reuse::reuses(grant) || locked.contains(&grant.environment_id));
            let reused = reuse::find(&mut transaction, &sound).await?;
            let rows = bind(sqlx::query_as(GRANT), leader, &sound, &reused, &locked)?
                .fetch_all(&mut *transaction)
                .await?;
            transaction.commit().await?;
            rows
        } else {
            bind(sqlx::query_as(GRANT), leader, &sound, &HashMap::new(), &[])?
                .fetch_all(&store.pool)
                .await?
        };
        if !rows.iter().any(|row| row.what == "leader") {
            return Err(StoreError::Deposed);
        }
        let asked: HashMap<Uuid, &Grant> = sound.iter().map(|grant| (grant.id, *grant)).collect();
        for row in rows {
            if let Some(grant) = row.id.and_then(|id| asked.get(&id)) {
                outcomes.insert(grant.id, row.outcome(grant)?);
            }
        }
        // An id that does not come back lost a race for its own row.
        Ok(grants
            .iter()
            .map(|grant| outcomes.remove(&grant.id).unwrap_or(GrantOutcome::Busy))
            .collect())
    }
}

async fn refuse_missing_references(store: &Store, grants: &[Grant]) -> Result<HashMap<Uuid, GrantOutcome>, StoreError> {
    let references = |of: fn(&Grant) -> Option<Uuid>| {
        grants
            .iter()
            .filter_map(move |grant| of(grant).map(|id| (grant.company_id, id)))
    };
    let issues = store
        .references()
        .missing_issues(&store.pool, references(|grant| grant.issue_id))
        .await?;
    let workspaces = store
        .references()
        .missing_execution_workspaces(&store.pool, references(|grant| grant.execution_workspace_id))
        .await?;
    let refused = grants.iter().filter_map(|grant| {
        let is_in = |missing: &HashSet<Reference>, id: Option<Uuid>| {
            id.is_some_and(|id| missing.contains(&(grant.company_id, id)))
        };
        let message = if let Some(id) = grant.issue_id.filter(|_| is_in(&issues, grant.issue_id)) {
            format!("spec.issueId {id} names no issue of this company")
        } else if let Some(id) = grant.execution_workspace_id.filter(|id| is_in(&workspaces, Some(*id))) {
            format!("spec.executionWorkspaceId {id} names no execution workspace of this company")
        } else {
            return None;
        };
        Some((grant.id, refused(Reason::ReferenceNotFound, message)))
    });
    Ok(refused.collect())
}

fn refused(reason: Reason, message: String) -> GrantOutcome {
    GrantOutcome::Refused(Refusal { reason, message })
}

/// Whether a grant depends on the environment's other leases.
fn needs_lock(grant: &Grant) -> bool {
    grant.turn.is_some() || reuse::reuses(grant)
}

/// Locks the environments of the claims that need it, so that nobody else grants there until the transaction ends, and
/// says which it could lock. The Paperclip server's inserts go on, for they take no more than a key share.
async fn lock_environments(
    connection: &mut Session,
    leader: &Leader,
    grants: &[&Grant],
) -> Result<Vec<Uuid>, StoreError> {
    let needed: Vec<&Grant> = grants.iter().copied().filter(|grant| needs_lock(grant)).collect();
    let locked = sqlx::query_scalar(
        "WITH leader AS MATERIALIZED (
           SELECT epoch FROM environment_operator.lead
           WHERE cluster = $1 AND installation = $2 AND epoch = $3
           FOR KEY SHARE
         )
         SELECT e.id FROM (SELECT count(*) FROM leader) AS after_leader, public.environments AS e
         WHERE e.id = ANY ($4) AND (e.id, e.company_id) IN (SELECT * FROM unnest($4::uuid[], $5::uuid[]))
           AND EXISTS (SELECT FROM leader)
         ORDER BY e.id FOR NO KEY UPDATE OF e SKIP LOCKED",
    )
    .bind(&leader.cluster)
    .bind(&leader.installation)
    .bind(leader.epoch)
    .bind(column(&needed, |grant| grant.environment_id))
    .bind(column(&needed, |grant| grant.company_id))
    .fetch_all(connection)
    .await?;
    Ok(locked)
}
