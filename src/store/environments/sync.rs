//! The rows of Environment objects.

use std::collections::{BTreeMap, HashMap};

use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::local::sync_local_or_busy;
use super::{EnvironmentOutcome, EnvironmentRow, EnvironmentSync};
use crate::api::{Driver, Reason};
use crate::lifecycle::{EnvironmentState, ResourceVersion};
use crate::store::columns::{json_rows, moment};
use crate::store::environment_object::EnvironmentQuery;
use crate::store::session::Session;
use crate::store::{
    Access, Leader, Mode, NamespaceBinding, Refusal, Request, Store, StoreError, column, companies, encoding, lead,
    namespace, validation,
};

/// Inserts or updates the rows of Environment objects, fenced by their resourceVersion.
///
/// The outcomes stand in the order of `syncs`.
impl Request for EnvironmentSync {
    type Outcome = EnvironmentOutcome;

    const NAME: &'static str = "sync_environment";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.id
    }

    fn check(&self) -> Result<(), StoreError> {
        validation::indexed_text("spec.displayName", self.name.as_deref())?;
        validation::text("spec.description", self.description.as_deref())?;
        validation::value("the driver's configuration", &self.config)?;
        let metadata = self.metadata.as_ref();
        metadata.map_or(Ok(()), |metadata| validation::object("spec.metadata", metadata))
    }

    fn refused(refusal: Refusal) -> Option<EnvironmentOutcome> {
        Some(EnvironmentOutcome::Refused(refusal))
    }

    async fn carry_out(store: &Store, leader: &Leader, syncs: &[Self]) -> Result<Vec<EnvironmentOutcome>, StoreError> {
        let mut outcomes = unchanged(store, leader, syncs).await?;
        if outcomes.len() == syncs.len() {
            return Ok(syncs.iter().filter_map(|sync| outcomes.remove(&sync.id)).collect());
        }
        let mut transaction = store.pool.begin().await?;
        lead::prove(&mut transaction, leader).await?;
        outcomes.extend(binding(&mut transaction, store.mode, leader, syncs).await?);
        let (mut locals, others): (Vec<&EnvironmentSync>, Vec<&EnvironmentSync>) = syncs
            .iter()
            .filter(|sync| !outcomes.contains_key(&sync.id))
            .partition(|sync| sync.driver == Driver::Local);
        if !others.is_empty() {
            outcomes.extend(sync_others(&mut transaction, leader, &others).await?);
        }
        // In one order, so that two installations of a cluster never wait for each other's companies.
        locals.sort_by_key(|sync| sync.company_id);
        for sync in locals {
            outcomes.insert(sync.id, sync_local_or_busy(&mut transaction, leader, sync).await?);
        }
        transaction.commit().await?;
        // An id that does not come back has its row locked by another transaction.
        Ok(syncs
            .iter()
            .map(|sync| outcomes.remove(&sync.id).unwrap_or(EnvironmentOutcome::Busy))
            .collect())
    }
}

type Outcomes = HashMap<Uuid, EnvironmentOutcome>;

/// The objects that stand in the database as they are. Found without a lock, for the lock of leadership is a write as well.
async fn unchanged(store: &Store, leader: &Leader, syncs: &[EnvironmentSync]) -> Result<Outcomes, StoreError> {
    let looks: Vec<EnvironmentQuery> = syncs
        .iter()
        .map(|sync| EnvironmentQuery {
            id: sync.id,
            namespace_uid: None,
            company_id: Some(sync.company_id),
            driver: sync.driver,
        })
        .collect();
    let views = EnvironmentQuery::carry_out(store, leader, &looks).await?;
    let same = syncs.iter().zip(views).filter_map(|(sync, view)| {
        let is_chosen = view.is_chosen(sync.driver, sync.version.generation);
        let (object, row) = (view.object?, view.row?);
        let is_same = view.leading
            && sync.binding.is_none()
            && object.deleted_at.is_none()
            && object.incarnation == leader.incarnation
            && object.generation == sync.version.generation
            && ResourceVersion::parse(&object.rv).is_some_and(|seen| seen <= sync.version.resource_version)
            && object.environment_id == row.id
            && is_chosen
            && row.driver == sync.driver
            && (sync.driver == Driver::Local || sync.is_row(&row));
        is_same.then_some((sync.id, EnvironmentOutcome::AlreadySo(row)))
    });
    Ok(same.collect())
}

/// Makes companies (standalone), records those of Namespaces, and answers the requests that cannot go on.
async fn binding(
    connection: &mut Session,
    mode: Mode,
    leader: &Leader,
    syncs: &[EnvironmentSync],
) -> Result<Outcomes, StoreError> {
    let bindings = || {
        syncs
            .iter()
            .filter_map(|sync| Some((sync.binding.as_ref()?, sync.company_id)))
    };
    if mode == Mode::Standalone {
        // A Namespace that is recorded meanwhile had its company's row then: if it is gone, somebody has deleted it.
        let namespaces: Vec<Uuid> = bindings().map(|(binding, _)| binding.namespace_uid).collect();
        let recorded = namespace::recorded(connection, leader, &namespaces).await?;
        let new: BTreeMap<Uuid, &str> = bindings()
            .filter(|(binding, _)| !recorded.contains_key(&binding.namespace_uid))
            .map(|(binding, company_id)| (company_id, binding.namespace.as_str()))
            .collect();
        for (company_id, name) in new {
            companies::ensure(connection, company_id, name).await?;
        }
    }
    let companies = companies::existing(connection, &column(syncs, |sync| sync.company_id)).await?;
    let free = companies::lock(connection, &Vec::from_iter(companies.iter().copied())).await?;
    let sound: Vec<(&NamespaceBinding, Uuid)> =
        bindings().filter(|(_, company_id)| free.contains(company_id)).collect();
    let recorded = namespace::binding(connection, leader, &sound).await?;
    let mut outcomes = Outcomes::new();
    for sync in syncs {
        let company_id = sync.company_id;
        let elsewhere = sync
            .binding
            .as_ref()
            .and_then(|binding| recorded.get(&binding.namespace_uid));
        if !companies.contains(&company_id) {
            outcomes.insert(
                sync.id,
                EnvironmentOutcome::Refused(Refusal {
                    reason: Reason::CompanyNotFound,
                    message: format!("company {company_id} does not exist"),
                }),
            );
        } else if !free.contains(&company_id) {
            outcomes.insert(sync.id, EnvironmentOutcome::Busy);
        } else if elsewhere.is_some_and(|recorded| *recorded != company_id) {
            outcomes.insert(sync.id, EnvironmentOutcome::Busy); // recorded meanwhile: look again
        }
    }
    Ok(outcomes)
}

async fn sync_others(
    connection: &mut Session,
    leader: &Leader,
    syncs: &[&EnvironmentSync],
) -> Result<Outcomes, StoreError> {
    let rows = json_rows!(SYNC, syncs, |sync| {
        id: sync.id,
        company_id: sync.company_id,
        driver: encoding::driver(sync.driver),
        name: sync.name.as_ref().unwrap_or(&sync.version.name),
        description: sync.description,
        status: sync.status.unwrap_or(EnvironmentState::Active).into_str(),
        config: sync.config,
        metadata: sync.metadata,
        namespace: sync.version.namespace,
        object_name: sync.version.name,
        rv: sync.version.resource_version.as_str(),
        generation: sync.version.generation,
        max_active_leases: sync.max_active_leases,
        created_at: moment(sync.created_at),
    });
    let rows: Vec<Tagged> = sqlx::query_as(SYNC)
        .bind(&leader.cluster)
        .bind(&leader.installation)
        .bind(leader.epoch)
        .bind(leader.incarnation)
        .bind(rows)
        .fetch_all(connection)
        .await?;
    let mut outcomes = Outcomes::new();
    for row in rows {
        let outcome = match (row.what.as_str(), row.environment) {
            ("older", _) => EnvironmentOutcome::Older,
            ("of_another", _) => EnvironmentOutcome::OfAnother,
            ("same", Some(Json(row))) => EnvironmentOutcome::AlreadySo(row),
            ("inserted", Some(Json(row))) => EnvironmentOutcome::Inserted(row),
            ("updated", Some(Json(row))) => EnvironmentOutcome::Updated(row),
            (what, _) => return Err(StoreError::Bug(format!("an environment came back as {what:?}"))),
        };
        outcomes.insert(row.id, outcome);
    }
    Ok(outcomes)
}

#[derive(FromRow)]
struct Tagged {
    id: Uuid,
    what: String,
    environment: Option<Json<EnvironmentRow>>,
}

/// A newer version is written; the same version repairs a row that another writer has changed or deleted. Company and driver
/// are never updated. What has nothing to change takes no lock.
const SYNC: &str = r#"
WITH asked AS MATERIALIZED (
  SELECT t.*, row.id IS NOT NULL AS row_exists, CASE
    WHEN object.deleted_at IS NOT NULL OR object.incarnation > $4 OR (object.incarnation = $4
      AND (length(t.rv), t.rv COLLATE "C") < (length(object.rv), object.rv)) THEN 'older'
    WHEN object.incarnation = $4 AND object.generation = t.generation AND row.id IS NOT NULL
      AND row.company_id = t.company_id AND row.driver = t.driver
      AND (row.name, row.description, row.status, row.config, row.metadata)
        IS NOT DISTINCT FROM (t.name, t.description, t.status, t.config, t.metadata) THEN 'same'
    WHEN row.company_id <> t.company_id OR row.driver <> t.driver THEN 'of_another'
  END AS answer
  FROM json_to_recordset($5::json) AS t(
    id uuid, company_id uuid, driver text, name text, description text, status text, config jsonb, metadata jsonb,
    namespace text, object_name text, rv text, generation int8, max_active_leases int4, created_at timestamptz
  )
  LEFT JOIN environment_operator.environment_object AS object ON object.id = t.id
  LEFT JOIN public.environments AS row ON row.id = t.id
),
free AS MATERIALIZED (
  SELECT id FROM public.environments
  WHERE id = ANY (ARRAY (SELECT id FROM asked WHERE answer IS NULL))
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
),
remembered AS (
  INSERT INTO environment_operator.environment_object AS o (
    id, environment_id, company_id, cluster, installation, incarnation, namespace, name, rv, generation, epoch, driver,
    max_active_leases, operator_made, created_at
  )
  SELECT id, id, company_id, $1, $2, $4, namespace, object_name, rv, generation, $3, driver, max_active_leases,
    false, created_at
  FROM asked
  WHERE answer IS NULL AND (NOT row_exists OR id = ANY (ARRAY (SELECT id FROM free)))
  ORDER BY id
  ON CONFLICT (id) DO UPDATE SET installation = EXCLUDED.installation, incarnation = EXCLUDED.incarnation,
    namespace = EXCLUDED.namespace, name = EXCLUDED.name, rv = EXCLUDED.rv, generation = EXCLUDED.generation,
    epoch = EXCLUDED.epoch, max_active_leases = EXCLUDED.max_active_leases
  WHERE o.deleted_at IS NULL AND (o.incarnation < $4 OR (o.incarnation = $4
    AND (length(EXCLUDED.rv), EXCLUDED.rv COLLATE "C") >= (length(o.rv), o.rv)))
  RETURNING id
),
moment AS MATERIALIZED (
  SELECT date_trunc('milliseconds', clock_timestamp()) AS now FROM (SELECT count(*) FROM free) AS after_the_locks
),
written AS (
  INSERT INTO public.environments AS e (
    id, company_id, name, description, driver, status, config, metadata, created_at, updated_at
  )
  SELECT id, company_id, name, description, driver, status, config, metadata, now, now
  FROM asked CROSS JOIN moment
  WHERE id = ANY (ARRAY (SELECT id FROM remembered))
  ORDER BY id
  ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, description = EXCLUDED.description, status = EXCLUDED.status,
    config = EXCLUDED.config, metadata = EXCLUDED.metadata, updated_at = EXCLUDED.updated_at
  WHERE e.company_id = EXCLUDED.company_id AND e.driver = EXCLUDED.driver
    AND (e.name, e.description, e.status, e.config, e.metadata)
      IS DISTINCT FROM (EXCLUDED.name, EXCLUDED.description, EXCLUDED.status, EXCLUDED.config, EXCLUDED.metadata)
  RETURNING e.*, (xmax = 0) AS inserted
)
SELECT asked.id, answer AS what, CASE answer WHEN 'same' THEN to_jsonb(row) END AS environment
FROM asked LEFT JOIN public.environments AS row ON row.id = asked.id
WHERE answer IS NOT NULL
UNION ALL
SELECT id, CASE WHEN inserted THEN 'inserted' ELSE 'updated' END, to_jsonb(written) FROM written
UNION ALL
SELECT row.id, 'same', to_jsonb(row) FROM public.environments AS row
WHERE row.id = ANY (ARRAY (SELECT id FROM remembered)) AND NOT row.id = ANY (ARRAY (SELECT id FROM written))
"#;
