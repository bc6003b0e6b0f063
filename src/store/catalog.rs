//! What is known of a database before anything is done to it: what its catalog says, and whether that fits.

use super::session::Session;
use super::{Mode, StoreError, error};

/// The columns of the Paperclip server's tables that statements name.
const COLUMNS: [(&str, &[&str]); 6] = [
    ("companies", &["id", "name", "issue_prefix"]),
    ("agents", &["id", "company_id", "default_environment_id"]),
    (
        "environments",
        &[
            "id",
            "company_id",
            "name",
            "description",
            "driver",
            "status",
            "config",
            "metadata",
            "created_at",
            "updated_at",
        ],
    ),
    (
        "heartbeat_runs",
        &[
            "id",
            "company_id",
            "agent_id",
            "status",
            "finished_at",
            "context_snapshot",
        ],
    ),
    (
        "environment_leases",
        &[
            "id",
            "company_id",
            "environment_id",
            "execution_workspace_id",
            "issue_id",
            "heartbeat_run_id",
            "status",
            "lease_policy",
            "provider",
            "provider_lease_id",
            "acquired_at",
            "last_used_at",
            "expires_at",
            "released_at",
            "failure_reason",
            "cleanup_status",
            "metadata",
            "updated_at",
        ],
    ),
    (
        "activity_log",
        &[
            "company_id",
            "actor_type",
            "actor_id",
            "action",
            "entity_type",
            "entity_id",
            "agent_id",
            "run_id",
            "details",
        ],
    ),
];

/// What is known of a database from its catalog alone, which anybody may read.
#[derive(sqlx::FromRow)]
pub(super) struct Found {
    encoding: String,
    environments: bool,
    company_scoped: bool,
    origin_migrations: bool,
    operator_migrations: bool,
    /// The Paperclip server's tables that exist.
    tables: Vec<String>,
    /// The columns of [`COLUMNS`] that do not.
    lacking: Vec<String>,
    /// The relations by those names that are no tables: nothing tells which rows a view leaves out.
    views: Vec<String>,
    /// The tables whose rows are not all shown to this role.
    hidden: Vec<String>,
    pub(super) issues: bool,
    pub(super) execution_workspaces: bool,
    pub(super) shape: Option<String>,
}

const FOUND: &str = "
WITH needed AS MATERIALIZED (
  SELECT t.name, t.field, to_regclass('public.' || t.name) AS relation
  FROM unnest($1::text[], $2::text[]) AS t(name, field)
),
relations AS MATERIALIZED (
  SELECT c.oid, c.relkind, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname) AS name
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND (
    n.nspname = 'environment_operator'
    OR n.nspname = 'public' AND c.relname = ANY (
      ARRAY(SELECT DISTINCT name FROM needed) || ARRAY['issues', 'execution_workspaces']
    )
  )
)
SELECT current_setting('server_encoding') AS encoding,
  to_regclass('public.environments') IS NOT NULL AS environments,
  EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = to_regclass('public.environments') AND attname = 'company_id' AND NOT attisdropped
  ) AS company_scoped,
  to_regclass('environment_operator.origin_migrations') IS NOT NULL AS origin_migrations,
  to_regclass('environment_operator.operator_migrations') IS NOT NULL AS operator_migrations,
  ARRAY(SELECT DISTINCT name FROM needed WHERE relation IS NOT NULL ORDER BY name) AS tables,
  ARRAY(
    SELECT format('public.%s.%s', name, field) FROM needed
    WHERE NOT EXISTS (
      SELECT FROM pg_attribute AS a
      WHERE a.attrelid = needed.relation AND a.attname = needed.field AND a.attnum > 0 AND NOT a.attisdropped
    )
    ORDER BY 1
  ) AS lacking,
  ARRAY(
    SELECT name FROM relations WHERE nspname = 'public' AND relkind NOT IN ('r', 'p') ORDER BY name
  ) AS views,
  ARRAY(SELECT name FROM relations WHERE row_security_active(oid) ORDER BY name) AS hidden,
  to_regclass('public.issues') IS NOT NULL AS issues,
  to_regclass('public.execution_workspaces') IS NOT NULL AS execution_workspaces,
  (
    SELECT md5(string_agg(concat_ws(' ', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attisdropped), ','
      ORDER BY a.attrelid, a.attnum))
    FROM relations JOIN pg_attribute AS a ON a.attrelid = relations.oid AND a.attnum > 0
  ) AS shape";

impl Found {
    /// Reads the catalog.
    pub(super) async fn read(connection: &mut Session) -> Result<Self, StoreError> {
        let (tables, columns): (Vec<&str>, Vec<&str>) = COLUMNS
            .iter()
            .flat_map(|(table, columns)| columns.iter().map(move |column| (*table, *column)))
            .unzip();
        let found = sqlx::query_as(FOUND)
            .bind(tables)
            .bind(columns)
            // It outlives every change of the tables, and is asked rarely.
            .persistent(false)
            .fetch_one(connection)
            .await?;
        Ok(found)
    }

    /// Refuses a database that cannot hold every text.
    pub(super) fn check_encoding(&self) -> Result<(), StoreError> {
        if self.encoding == "UTF8" {
            return Ok(());
        }
        unfit(format!(
            "the database's encoding is {}, which cannot hold every text of Kubernetes: make one with ENCODING 'UTF8'",
            self.encoding
        ))
    }

    /// Refuses the other mode's database, and one that nothing is known of.
    pub(super) async fn check_mode(&self, connection: &mut Session, mode: Mode) -> Result<(), StoreError> {
        let made_by_operator = self.origin_migrations && has_made_tables(connection).await?;
        let sentence = match (mode, self.environments, made_by_operator) {
            _ if self.environments && !self.company_scoped => {
                "the database is instance-scoped (environments.company_id is gone), and this version knows \
                 company-scoped ones only: use an older origin's database or a database of its own"
            }
            (Mode::Standalone, true, false) => {
                "the database belongs to a Paperclip server, and standalone mode would make its tables: use --mode attached"
            }
            (Mode::Attached, _, true) => {
                "the database's tables were made by this operator in standalone mode: use --mode standalone"
            }
            (Mode::Attached, false, false) => {
                "the database holds no environments of a Paperclip server: start that first, or use --mode standalone"
            }
            (Mode::Standalone, false, false) if !self.tables.is_empty() => {
                return unfit(format!(
                    "standalone mode makes its own tables, and {} is there already: give the operator a database of its own",
                    self.tables
                        .iter()
                        .map(|table| format!("public.{table}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ));
            }
            (Mode::Standalone, _, _) | (Mode::Attached, true, false) => return Ok(()),
        };
        unfit(sentence.to_owned())
    }

    /// Whether the schema with the record of its migrations is there: of the operator's own, of the Paperclip server's tables.
    pub(super) const fn records(&self) -> (bool, bool) {
        (self.operator_migrations, self.origin_migrations)
    }

    /// Refuses tables that are not as statements need them, and rows that are hidden.
    pub(super) fn check_tables(&self) -> Result<(), StoreError> {
        if !self.hidden.is_empty() {
            return unfit(error::hidden(&self.hidden.join(", ")));
        }
        if !self.views.is_empty() {
            return unfit(format!(
                "{} is no table, so that nothing tells which rows it leaves out: the operator needs the origin's tables \
                 themselves",
                self.views.join(", ")
            ));
        }
        if !self.lacking.is_empty() {
            return unfit(format!(
                "the database lacks {}, which this version needs: run versions of the Paperclip server and the operator that go together",
                self.lacking.join(", ")
            ));
        }
        Ok(())
    }
}

/// Whether the operator has made the Paperclip server's tables here. A record without an entry is what an older version's failed start
/// has left.
async fn has_made_tables(connection: &mut Session) -> Result<bool, StoreError> {
    let made = sqlx::query_scalar("SELECT EXISTS (SELECT FROM environment_operator.origin_migrations WHERE success)")
        .persistent(false)
        .fetch_one(connection)
        .await?;
    Ok(made)
}

pub(super) fn unfit<T>(sentence: String) -> Result<T, StoreError> {
    Err(StoreError::Unfit(sentence))
}
