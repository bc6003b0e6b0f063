//! What an earlier lease of the environment has left at its provider, for claims whose policy takes that over.
//!
//! `environment_operator.provider_lease` has one row for each lease at a provider that leases of our own objects have named; the
//! schema's triggers keep it up to date with what is recorded of them (grant, ending by whomever, removal). It is an index of
//! candidates: what it offers is proven by the lease's own row, read by its primary key, and by the held rows of the company.
//! So a claim costs the same whatever has been before. What rows of other writers name is never taken over: whoever made them
//! may resume it. Where the driver itself says what the provider's lease is (ssh), there is nothing to take over.

use std::collections::{HashMap, HashSet};

use sqlx::FromRow;
use uuid::Uuid;

use super::Grant;
use crate::api::LeasePolicy;
use crate::store::StoreError;
use crate::store::columns::bind_arrays;
use crate::store::session::Session;

/// A provider's lease.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct ProviderLease {
    /// Cache of the [`Place`] that it was left in.
    #[sqlx(try_from = "i64")]
    place: usize,
    /// The lease that has left it.
    lease_id: Uuid,
    pub(super) provider: Option<String>,
    pub(super) provider_lease_id: String,
    /// Whether no row that was used later names it.
    certain: bool,
}

/// Where claims look for what was left: company, environment and, by the policy, execution workspace.
type Place = (Uuid, Uuid, Option<Uuid>);

/// Whether a claim takes over what an earlier lease has left.
pub(super) fn reuses(grant: &Grant) -> bool {
    let by_policy = match grant.policy {
        LeasePolicy::ReuseByEnvironment => true,
        LeasePolicy::ReuseByExecutionWorkspace => grant.execution_workspace_id.is_some(),
        LeasePolicy::Ephemeral | LeasePolicy::RetainOnFailure => false,
    };
    by_policy && grant.provider_lease_id.is_none()
}

fn place(grant: &Grant) -> Place {
    let workspace = match grant.policy {
        LeasePolicy::ReuseByExecutionWorkspace => grant.execution_workspace_id,
        _ => None,
    };
    (grant.company_id, grant.environment_id, workspace)
}

/// What claims take over, by their ids, each provider's lease once. Their environments are locked, so that no other operator
/// takes the same.
pub(super) async fn find(
    connection: &mut Session,
    grants: &[&Grant],
) -> Result<HashMap<Uuid, ProviderLease>, StoreError> {
    let claims: Vec<&Grant> = grants.iter().copied().filter(|grant| reuses(grant)).collect();
    if claims.is_empty() {
        return Ok(HashMap::new());
    }
    let mut places: Vec<Place> = claims.iter().map(|claim| place(claim)).collect();
    places.sort_unstable();
    places.dedup();
    // Other claims of the environment may take some of what one place has.
    let rivals = |place: &Place| {
        let same = claims.iter().filter(|claim| claim.environment_id == place.1);
        i64::try_from(same.count()).unwrap_or(i64::MAX)
    };
    let query = bind_arrays!(sqlx::query_as(LEFT), LEFT, &places, |place| {
        company_id: place.0,
        environment_id: place.1,
        execution_workspace_id: place.2,
        claims: rivals(place),
    });
    let mut left: Vec<ProviderLease> = query.fetch_all(&mut *connection).await?;
    loop {
        let found = share(&claims, &places, &left);
        let doubtful: Vec<(Uuid, ProviderLease)> = claims
            .iter()
            .filter_map(|claim| Some((claim.company_id, found.get(&claim.id)?.clone())))
            .filter(|(_, lease)| !lease.certain)
            .collect();
        if doubtful.is_empty() {
            return Ok(found);
        }
        // Each round bindings one at least, and none is asked about twice.
        let query = bind_arrays!(sqlx::query_scalar(SUPERSEDED), SUPERSEDED, &doubtful, |doubt| {
            company_id: doubt.0,
            provider_lease_id: doubt.1.provider_lease_id.as_str(),
            lease_id: doubt.1.lease_id,
        });
        let superseded = query.fetch_all(&mut *connection).await?;
        let superseded: HashSet<Uuid> = superseded.into_iter().collect();
        let asked: HashSet<Uuid> = doubtful.into_iter().map(|(_, lease)| lease.lease_id).collect();
        left.retain(|lease| !superseded.contains(&lease.lease_id));
        for lease in &mut left {
            lease.certain |= asked.contains(&lease.lease_id);
        }
    }
}

/// Which claim takes over what of all that is left, the last used first.
fn share(claims: &[&Grant], places: &[Place], left: &[ProviderLease]) -> HashMap<Uuid, ProviderLease> {
    let mut by_place: HashMap<Place, Vec<&ProviderLease>> = HashMap::new();
    for lease in left.iter().rev() {
        if let Some(place) = places.get(lease.place) {
            by_place.entry(*place).or_default().push(lease);
        }
    }
    let (mut found, mut taken) = (HashMap::new(), HashSet::new());
    for claim in claims {
        let Some(left) = by_place.get_mut(&place(claim)) else {
            continue;
        };
        while let Some(lease) = left.pop() {
            if taken.insert((claim.company_id, &lease.provider_lease_id)) {
                found.insert(claim.id, lease.clone());
                break;
            }
        }
    }
    found
}

/// What is left in each place (`$1` company, `$2` environment, `$3` execution workspace or null) for `$4` claims, the last used
/// first.
///
/// - Up to 64 more candidates are read than there are claims. Those that turn out to be gone are read once and never again; those
///   that are held, or are being removed, are read again after a minute.
/// - `held` reads the held rows of the company by the Paperclip server's index; `OFFSET 0` and one literal status each keep the planner to
///   that: a list of them, or a variable, it may take for most of the rows and read all.
/// - `newer` sees a row that was used after the one that is known, such as another writer's that has removed what was left;
///   the 1,000 that were used last are looked at. Of a row that was used before all of them it is not `certain` that no other
///   names the same: [`SUPERSEDED`] tells.
/// - `put_off` reads what it writes by the index of `lease_id`: as a mere join it may be over the whole table.
/// - `(… IN (…)) IS TRUE` is looked up in a hash: as a join it may be a loop over both.
pub const LEFT: &str = r#"
WITH asked AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int8[]) WITH ORDINALITY
    AS t(company_id, environment_id, execution_workspace_id, claims, place)
),
candidate AS MATERIALIZED (
  SELECT asked.place, known.* FROM asked CROSS JOIN LATERAL (
    SELECT k.* FROM environment_operator.provider_lease AS k
    WHERE asked.execution_workspace_id IS NULL AND k.company_id = asked.company_id
      AND k.environment_id = asked.environment_id AND k.look_after <= clock_timestamp()
    ORDER BY k.last_used_at DESC, k.lease_id DESC LIMIT asked.claims + 64
  ) AS known
  UNION ALL
  SELECT asked.place, known.* FROM asked CROSS JOIN LATERAL (
    SELECT k.* FROM environment_operator.provider_lease AS k
    WHERE k.company_id = asked.company_id AND k.environment_id = asked.environment_id
      AND k.execution_workspace_id = asked.execution_workspace_id AND k.look_after <= clock_timestamp()
    ORDER BY k.last_used_at DESC, k.lease_id DESC LIMIT asked.claims + 64
  ) AS known
),
held AS MATERIALIZED (
  SELECT l.company_id, l.provider_lease_id FROM (SELECT DISTINCT company_id FROM candidate) AS c
  JOIN public.environments AS e ON e.company_id = c.company_id
  CROSS JOIN LATERAL (
    (SELECT company_id, provider_lease_id FROM public.environment_leases
     WHERE company_id = e.company_id AND environment_id = e.id AND status = 'active' OFFSET 0)
    UNION ALL
    (SELECT company_id, provider_lease_id FROM public.environment_leases
     WHERE company_id = e.company_id AND environment_id = e.id AND status = 'retained' OFFSET 0)
    UNION ALL
    (SELECT company_id, provider_lease_id FROM public.environment_leases
     WHERE company_id = e.company_id AND environment_id = e.id AND status = 'pending_cleanup' OFFSET 0)
  ) AS l
  WHERE (l.provider_lease_id IN (SELECT provider_lease_id FROM candidate)) IS TRUE
),
recent AS MATERIALIZED (
  SELECT l.*, c.since FROM (SELECT company_id, min(last_used_at) AS since FROM candidate GROUP BY company_id) AS c
  CROSS JOIN LATERAL (
    SELECT l.company_id, l.provider_lease_id, l.id, l.last_used_at FROM public.environment_leases AS l
    WHERE l.company_id = c.company_id AND l.last_used_at >= c.since
    ORDER BY l.last_used_at DESC LIMIT 1000
  ) AS l
),
unseen AS MATERIALIZED (
  SELECT company_id, CASE WHEN count(*) < 1000 THEN min(since) - interval '1 us' ELSE min(last_used_at) END AS until
  FROM recent GROUP BY company_id
),
newer AS MATERIALIZED (
  SELECT * FROM recent WHERE (provider_lease_id IN (SELECT provider_lease_id FROM candidate)) IS TRUE
),
judged AS MATERIALIZED (
  SELECT candidate.*, l.provider, l.last_used_at > coalesce(
    (SELECT until FROM unseen WHERE unseen.company_id = candidate.company_id), 'infinity'
  ) AS certain, CASE
    WHEN l.id IS NULL OR (l.company_id, l.environment_id, l.execution_workspace_id, l.provider_lease_id) IS DISTINCT FROM (
      candidate.company_id, candidate.environment_id, candidate.execution_workspace_id, candidate.provider_lease_id
    ) THEN 'gone'
    WHEN l.status NOT IN ('released', 'expired', 'failed') OR l.cleanup_status = 'pending' OR EXISTS (
      SELECT FROM held
      WHERE held.company_id = candidate.company_id AND held.provider_lease_id = candidate.provider_lease_id
    ) THEN 'held'
    WHEN l.cleanup_status <> 'failed' OR EXISTS (
      SELECT FROM newer
      WHERE newer.company_id = candidate.company_id AND newer.provider_lease_id = candidate.provider_lease_id
        AND (newer.last_used_at, newer.id) > (l.last_used_at, l.id)
    ) THEN 'gone'
    ELSE 'left'
  END AS state
  FROM candidate LEFT JOIN LATERAL (
    SELECT * FROM public.environment_leases AS l WHERE l.id = candidate.lease_id OFFSET 0
  ) AS l ON true
),
known AS MATERIALIZED (
  SELECT k.lease_id, judged.state FROM judged CROSS JOIN LATERAL (
    SELECT k.lease_id FROM environment_operator.provider_lease AS k
    WHERE k.company_id = judged.company_id AND k.provider_lease_id = judged.provider_lease_id
      AND k.lease_id = judged.lease_id
    FOR NO KEY UPDATE OF k SKIP LOCKED
  ) AS k
  WHERE judged.state <> 'left'
),
put_off AS (
  UPDATE environment_operator.provider_lease AS k
  SET look_after = CASE known.state WHEN 'held' THEN clock_timestamp() + interval '1 min' END
  FROM known WHERE k.lease_id = ANY (ARRAY (SELECT lease_id FROM known)) AND k.lease_id = known.lease_id
)
SELECT place - 1 AS place, lease_id, provider, provider_lease_id, certain FROM judged WHERE state = 'left'
ORDER BY place, last_used_at DESC, lease_id DESC
"#;

/// Which of the leases `$3`, which named `$2` in the companies `$1`, are not the last that did: no claim looks at these again.
///
/// Read are the rows of each name, by its index: a range that holds one name keeps the planner to that, which takes an equal name
/// for that of most rows where there are few names; and so does `OFFSET 0`.
const SUPERSEDED: &str = r#"
WITH asked AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS t(company_id, provider_lease_id, lease_id)
),
superseded AS MATERIALIZED (
  SELECT asked.* FROM asked CROSS JOIN LATERAL (
    SELECT l.last_used_at, l.id FROM public.environment_leases AS l WHERE l.id = asked.lease_id OFFSET 0
  ) AS l
  WHERE (
    SELECT count(*) FROM (
      SELECT n.company_id, n.last_used_at, n.id FROM public.environment_leases AS n
      WHERE n.provider_lease_id BETWEEN asked.provider_lease_id AND asked.provider_lease_id OFFSET 0
    ) AS newer
    WHERE newer.company_id = asked.company_id AND (newer.last_used_at, newer.id) > (l.last_used_at, l.id)
  ) > 0
),
known AS MATERIALIZED (
  SELECT k.lease_id FROM superseded CROSS JOIN LATERAL (
    SELECT k.lease_id FROM environment_operator.provider_lease AS k
    WHERE k.company_id = superseded.company_id AND k.provider_lease_id = superseded.provider_lease_id
      AND k.lease_id = superseded.lease_id
    FOR NO KEY UPDATE OF k SKIP LOCKED
  ) AS k
),
put_off AS (
  UPDATE environment_operator.provider_lease AS k SET look_after = NULL
  WHERE k.lease_id = ANY (ARRAY (SELECT lease_id FROM known))
)
SELECT lease_id FROM superseded
"#;
