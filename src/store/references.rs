//! The Paperclip server's tables that leases may refer to and that need not exist: issues and execution workspaces.

use std::collections::HashSet;

use uuid::Uuid;

use super::StoreError;
use super::pool::Pool;

/// Which of them exist in this database, as it was last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    issues: bool,
    execution_workspaces: bool,
}

/// A company and the id of something that is said to be its own.
pub(crate) type Reference = (Uuid, Uuid);

impl References {
    /// What was found.
    pub(super) const fn new(issues: bool, execution_workspaces: bool) -> Self {
        Self {
            issues,
            execution_workspaces,
        }
    }

    /// Those that are no issue of their company; none where the database has no issues.
    pub(crate) async fn missing_issues(
        self,
        pool: &Pool,
        references: impl Iterator<Item = Reference>,
    ) -> Result<HashSet<Reference>, StoreError> {
        let query = "SELECT t.company_id, t.id FROM unnest($1::uuid[], $2::uuid[]) AS t(company_id, id)
             WHERE NOT EXISTS (SELECT FROM public.issues r WHERE r.id = t.id AND r.company_id = t.company_id)";
        missing(pool, self.issues, query, references).await
    }

    /// Those that are no execution workspace of their company; none where the database has no execution workspaces.
    pub(crate) async fn missing_execution_workspaces(
        self,
        pool: &Pool,
        references: impl Iterator<Item = Reference>,
    ) -> Result<HashSet<Reference>, StoreError> {
        let query = "SELECT t.company_id, t.id FROM unnest($1::uuid[], $2::uuid[]) AS t(company_id, id)
             WHERE NOT EXISTS (
               SELECT FROM public.execution_workspaces r WHERE r.id = t.id AND r.company_id = t.company_id
             )";
        missing(pool, self.execution_workspaces, query, references).await
    }
}

async fn missing(
    pool: &Pool,
    exists: bool,
    query: &'static str,
    references: impl Iterator<Item = Reference>,
) -> Result<HashSet<Reference>, StoreError> {
    let (companies, ids): (Vec<Uuid>, Vec<Uuid>) = references.unzip();
    if !exists || ids.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<Reference> = sqlx::query_as(query).bind(companies).bind(ids).fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}
