//! `environment_operator.environment_object`: what the operator remembers of each Environment object that it mirrors.

use serde::Deserialize;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::columns::bind_arrays;
use super::environment_row::EnvironmentRow;
use super::local::CanonicalLocal;
use super::unreadable::Row;
use super::{Access, Leader, Request, Store, StoreError, encoding};
use crate::api::Driver;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EnvironmentObjectRow {
    /// uid of the object.
    pub id: Uuid,
    /// Row in `environments`: the uid, except where an existing Local was adopted.
    pub environment_id: Uuid,
    /// Company of the row.
    pub company_id: Uuid,
    /// Cluster of the object.
    pub cluster: String,
    /// Installation that mirrors it.
    pub installation: String,
    /// Incarnation of the cluster when it was last written.
    pub incarnation: i64,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// resourceVersion that was last written.
    pub rv: String,
    /// Generation that was last written.
    pub generation: i64,
    /// Driver; immutable.
    #[serde(deserialize_with = "encoding::read_driver")]
    pub driver: Driver,
    pub max_active_leases: Option<i32>,
    /// Whether the operator itself made the object (a lazily made Local).
    pub operator_made: bool,
    /// When the object was made, in whole seconds.
    #[serde(deserialize_with = "encoding::read_moment")]
    pub created_at: jiff::Timestamp,
    /// When the object was seen to be deleted.
    #[serde(deserialize_with = "encoding::read_optional_moment")]
    pub deleted_at: Option<jiff::Timestamp>,
}

/// What is asked about one Environment object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentQuery {
    /// uid of the object.
    pub id: Uuid,
    pub namespace_uid: Option<Uuid>,
    /// Company by the Namespace's label or uid, used while none is recorded.
    pub company_id: Option<Uuid>,
    pub driver: Driver,
}

/// What the database knows about one Environment object.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentSnapshot {
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
    /// What is remembered of the object.
    pub object: Option<EnvironmentObjectRow>,
    /// Its row: by the remembered id; for a Local that is not remembered, the company's Local.
    pub row: Option<EnvironmentRow>,
    /// Why its row cannot be read, where there is one: then `row` is none, and is not gone.
    pub unreadable: Option<String>,
    /// Leases of that row that are active, whoever made them.
    pub active_leases: i64,
    /// For a Local: the object that stands for the company's row in this cluster.
    pub canonical: Option<CanonicalLocal>,
}

impl EnvironmentSnapshot {
    /// Whether it is settled which Local stands for the company's row, and whether the fields of the one that does were
    /// written as of `generation`, if that is this object. Always so for other drivers.
    pub fn is_chosen(&self, driver: Driver, generation: i64) -> bool {
        driver != Driver::Local
            || self
                .canonical
                .as_ref()
                .is_some_and(|canonical| canonical.id != self.id || canonical.generation == Some(generation))
    }
}

/// Looks without locks; a deposed replica may look (`leading` tells). The views stand in the order of `looks`.
impl Request for EnvironmentQuery {
    type Outcome = EnvironmentSnapshot;

    const NAME: &'static str = "look_environment";

    const ACCESS: Access = Access::Read;

    fn key(&self) -> Uuid {
        self.id
    }

    async fn carry_out(store: &Store, leader: &Leader, looks: &[Self]) -> Result<Vec<EnvironmentSnapshot>, StoreError> {
        let query = sqlx::query_as(LOOK)
            .bind(&leader.cluster)
            .bind(&leader.installation)
            .bind(leader.epoch);
        let query = bind_arrays!(query, LOOK, looks, |look| {
            id: look.id,
            namespace_uid: look.namespace_uid,
            company_id: look.company_id,
            local: look.driver == Driver::Local,
        });
        let rows: Vec<Looked> = query.fetch_all(&store.pool).await?;
        rows.into_iter().map(Looked::view).collect()
    }
}

#[derive(FromRow)]
struct Looked {
    id: Uuid,
    #[sqlx(try_from = "jiff_sqlx::Timestamp")]
    now: jiff::Timestamp,
    leading: bool,
    recorded_company: Option<Uuid>,
    company_exists: bool,
    object: Option<Json<EnvironmentObjectRow>>,
    environment: Option<Json<Row<EnvironmentRow>>>,
    active_leases: i64,
    canonical: Option<Json<CanonicalLocal>>,
}

impl Looked {
    fn view(self) -> Result<EnvironmentSnapshot, StoreError> {
        let read = self.environment.map(|Json(row)| row.known()).transpose()?;
        let (row, unreadable) = match read.transpose() {
            Ok(row) => (row, None),
            Err(unreadable) => (None, Some(unreadable.to_string())),
        };
        Ok(EnvironmentSnapshot {
            id: self.id,
            now: self.now,
            leading: self.leading,
            recorded_company: self.recorded_company,
            company_exists: self.company_exists,
            object: self.object.map(|Json(row)| row),
            row,
            unreadable,
            active_leases: self.active_leases,
            canonical: self.canonical.map(|Json(canonical)| canonical),
        })
    }
}

/// The row is the remembered one; a Local that is not remembered, or whose row went, has its company's.
const LOOK: &str = r#"
WITH term AS MATERIALIZED (
  SELECT moment.now, EXISTS (
    SELECT FROM environment_operator.lead
    WHERE cluster = $1 AND installation = $2 AND epoch = $3 AND expires_at > moment.now
  ) AS leading
  FROM (SELECT clock_timestamp() AS now) AS moment
),
asked AS MATERIALIZED (
  SELECT i.id, i.place, i.local, namespace.company_id AS recorded_company,
    coalesce(object.company_id, namespace.company_id, i.company_id) AS company_id,
    coalesce(remembered.id, local.id) AS environment_id
  FROM unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::bool[])
    WITH ORDINALITY AS i(id, namespace_uid, company_id, local, place)
  LEFT JOIN environment_operator.namespace ON namespace.cluster = $1 AND namespace.uid = i.namespace_uid
  LEFT JOIN environment_operator.environment_object AS object ON object.id = i.id
  LEFT JOIN public.environments AS remembered ON remembered.id = coalesce(object.environment_id, i.id)
    AND remembered.company_id = coalesce(object.company_id, namespace.company_id, i.company_id)
  LEFT JOIN public.environments AS local
    ON i.local AND local.driver = 'local'
    AND local.company_id = coalesce(object.company_id, namespace.company_id, i.company_id)
)
SELECT asked.id, term.now, term.leading, asked.recorded_company,
  EXISTS (SELECT FROM public.companies WHERE companies.id = asked.company_id) AS company_exists,
  to_jsonb(object) AS object, to_jsonb(environment) AS environment,
  (
    SELECT count(*) FROM public.environment_leases AS l
    WHERE l.company_id = asked.company_id AND l.environment_id = asked.environment_id AND l.status = 'active'
  ) AS active_leases,
  to_jsonb(canonical) AS canonical
FROM asked CROSS JOIN term
LEFT JOIN environment_operator.environment_object AS object ON object.id = asked.id
LEFT JOIN LATERAL (
  SELECT o.id, o.namespace, o.name, l.generation
  FROM environment_operator.local AS l JOIN environment_operator.environment_object AS o ON o.id = l.object_id
  WHERE asked.local AND l.cluster = $1 AND l.company_id = asked.company_id
) AS canonical ON true
LEFT JOIN public.environments AS environment ON environment.id = asked.environment_id
ORDER BY asked.place
"#;
