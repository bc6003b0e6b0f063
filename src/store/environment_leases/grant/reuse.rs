//! What an earlier lease of the environment has left at its provider, for claims whose policy takes that over.
//!
//! The newest row that names a provider's lease tells what has become of it. It is taken over where that row has ended, nothing
//! has removed what it stands for, and no row that holds it, retained ones among them, names it too: a live lease is never
//! shared. Where the driver itself says what the provider's lease is (ssh), there is nothing to take over.

use std::collections::{HashMap, HashSet};

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::Grant;
use crate::api::LeasePolicy;
use crate::store::{StoreError, column};

/// A provider's lease.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct ProviderLease {
    /// Index of the claim that may take it over.
    #[sqlx(try_from = "i64")]
    claim: usize,
    pub(super) provider: Option<String>,
    pub(super) provider_lease_id: String,
}

/// Whether a claim takes over what an earlier lease has left.
pub(super) fn reuses(grant: &Grant) -> bool {
    let by_policy = match grant.policy {
        LeasePolicy::ReuseByEnvironment => true,
        LeasePolicy::ReuseByExecutionWorkspace => grant.execution_workspace_id.is_some(),
        LeasePolicy::Ephemeral | LeasePolicy::RetainOnFailure => false,
    };
    by_policy && grant.provider_lease_id.is_none()
}

/// What claims take over, by their ids, each provider's lease once. Their environments are locked, so that no other operator
/// takes the same.
pub(super) async fn find(
    connection: &mut PgConnection,
    grants: &[&Grant],
) -> Result<HashMap<Uuid, ProviderLease>, StoreError> {
    let claims: Vec<&Grant> = grants.iter().copied().filter(|grant| reuses(grant)).collect();
    if claims.is_empty() {
        return Ok(HashMap::new());
    }
    let left: Vec<ProviderLease> = sqlx::query_as(LEFT)
        .bind(column(&claims, |claim| claim.company_id))
        .bind(column(&claims, |claim| claim.environment_id))
        .bind(column(&claims, |claim| match claim.policy {
            LeasePolicy::ReuseByExecutionWorkspace => claim.execution_workspace_id,
            _ => None,
        }))
        .fetch_all(connection)
        .await?;
    let (mut found, mut taken) = (HashMap::new(), HashSet::new());
    for lease in left {
        let Some(claim) = claims.get(lease.claim) else {
            continue;
        };
        if !found.contains_key(&claim.id) && taken.insert(lease.provider_lease_id.clone()) {
            found.insert(claim.id, lease);
        }
    }
    Ok(found)
}

/// For each claim the newest that are left, as many as there are claims, for others of the batch may take some of them. Looked
/// for among the company's 10,000 rows that were used last: where no row names a provider's lease, all would be read.
const LEFT: &str = r#"
SELECT asked.place - 1 AS claim, ended.provider, ended.provider_lease_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) WITH ORDINALITY
  AS asked(company_id, environment_id, execution_workspace_id, place)
CROSS JOIN LATERAL (
  SELECT l.provider, l.provider_lease_id, l.last_used_at, l.id
  FROM (
    SELECT * FROM public.environment_leases AS recent WHERE recent.company_id = asked.company_id
    ORDER BY recent.last_used_at DESC LIMIT 10000
  ) AS l
  WHERE l.environment_id = asked.environment_id
    AND (asked.execution_workspace_id IS NULL OR l.execution_workspace_id = asked.execution_workspace_id)
    AND l.status IN ('released', 'expired', 'failed') AND l.provider_lease_id IS NOT NULL
    AND (l.cleanup_status IS NULL OR l.cleanup_status = 'failed')
    AND NOT EXISTS (
      SELECT FROM public.environment_leases AS other
      WHERE other.provider_lease_id = l.provider_lease_id
        AND (other.status NOT IN ('released', 'expired', 'failed') OR (other.last_used_at, other.id) > (l.last_used_at, l.id))
    )
  ORDER BY l.last_used_at DESC, l.id DESC
  LIMIT cardinality($1::uuid[])
) AS ended
ORDER BY asked.place, ended.last_used_at DESC, ended.id DESC
"#;
