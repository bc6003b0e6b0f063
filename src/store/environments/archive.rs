//! The end of an Environment object: its row stays, archived, so that history stays readable.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::store::{Access, Leader, Request, Store, StoreError, column, local};

/// The object of this uid was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archive(pub Uuid);

/// What became of an [`Archive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveOutcome {
    /// The object is remembered as deleted and its row is archived (a Local's row stays as it is).
    Archived,
    /// The object never was in the database.
    Unknown,
    /// Another transaction holds the row: retry alone.
    Busy,
}

/// Remembers Environment objects as deleted and archives their rows, except those of Local. Idempotent.
///
/// Where a Local's object goes, another one may stand for the company's row from then on.
///
/// The outcomes stand in the order of `objects`.
impl Request for Archive {
    type Outcome = ArchiveOutcome;

    const NAME: &'static str = "archive_environment";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.0
    }

    async fn carry_out(store: &Store, leader: &Leader, objects: &[Self]) -> Result<Vec<ArchiveOutcome>, StoreError> {
        let mut transaction = store.pool.begin().await?;
        let rows: Vec<(Option<Uuid>, Option<bool>, Option<Uuid>)> = sqlx::query_as(ARCHIVE)
            .bind(&leader.cluster)
            .bind(&leader.installation)
            .bind(leader.epoch)
            .bind(column(objects, |object| object.0))
            .fetch_all(&mut *transaction)
            .await?;
        if !rows.iter().any(|(id, ..)| id.is_none()) {
            return Err(StoreError::Deposed);
        }
        let companies: BTreeSet<Uuid> = rows.iter().filter_map(|(.., company_id)| *company_id).collect();
        if !companies.is_empty() {
            local::choose(&mut transaction, leader, &Vec::from_iter(companies)).await?;
        }
        transaction.commit().await?;
        let busy: HashMap<Uuid, bool> = rows
            .into_iter()
            .filter_map(|(id, busy, _)| Some((id?, busy?)))
            .collect();
        let outcome = |object: &Self| match busy.get(&object.0) {
            Some(false) => ArchiveOutcome::Archived,
            Some(true) => ArchiveOutcome::Busy,
            None => ArchiveOutcome::Unknown,
        };
        Ok(objects.iter().map(outcome).collect())
    }
}

const ARCHIVE: &str = r#"
WITH leader AS MATERIALIZED (
  SELECT epoch FROM environment_operator.lead
  WHERE cluster = $1 AND installation = $2 AND epoch = $3
  FOR KEY SHARE
),
asked AS MATERIALIZED (
  SELECT o.id, row.id AS environment_id,
    CASE WHEN o.driver = 'local' AND o.deleted_at IS NULL THEN o.company_id END AS chooses
  FROM leader CROSS JOIN environment_operator.environment_object AS o
  LEFT JOIN public.environments AS row
    ON row.id = o.environment_id AND row.status <> 'archived' AND o.driver <> 'local' AND o.deleted_at IS NULL
  WHERE o.id = ANY ($4)
),
free AS MATERIALIZED (
  SELECT id FROM public.environments
  WHERE id = ANY (ARRAY (SELECT environment_id FROM asked))
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
),
sound AS MATERIALIZED (
  SELECT id FROM asked WHERE environment_id IS NULL OR environment_id = ANY (ARRAY (SELECT id FROM free))
),
remembered AS (
  UPDATE environment_operator.environment_object AS o
  SET deleted_at = date_trunc('milliseconds', clock_timestamp()), epoch = $3
  WHERE o.id = ANY (ARRAY (SELECT id FROM sound)) AND o.deleted_at IS NULL
),
archived AS (
  UPDATE public.environments AS e
  SET status = 'archived', updated_at = date_trunc('milliseconds', clock_timestamp())
  WHERE e.id = ANY (ARRAY (SELECT id FROM free))
)
SELECT NULL::uuid, NULL::bool, NULL::uuid FROM leader
UNION ALL
SELECT id, NOT id = ANY (ARRAY (SELECT id FROM sound)), chooses FROM asked
"#;
