//! `environment_operator.local`: which Local object of a cluster stands for its company's row.
//!
//! A user's object goes before one that the operator has made, then the oldest, then the one with the lowest uid. The choice
//! is made anew in every transaction that a Local object comes or goes with, under the lock of the company's row here.

use serde::Deserialize;
use uuid::Uuid;

use super::session::Session;
use super::{Access, Leader, Request, Store, StoreError, column};

/// The Local object that stands for its company's row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CanonicalLocal {
    /// uid of the object.
    pub id: Uuid,
    pub namespace: String,
    pub name: String,
    /// The generation whose fields were written to the row; none until they are.
    pub generation: Option<i64>,
}

/// Chooses the canonical Locals of companies, after their objects were written in the same transaction.
///
/// Two statements: the second one sees what whoever held the lock before has committed.
pub(crate) async fn choose(connection: &mut Session, leader: &Leader, companies: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO environment_operator.local (cluster, company_id)
         SELECT $1, company_id FROM unnest($2::uuid[]) AS t(company_id) ORDER BY company_id
         ON CONFLICT DO NOTHING",
    )
    .bind(&leader.cluster)
    .bind(companies)
    .execute(&mut *connection)
    .await?;
    // In one order, so that two installations of a cluster never wait for each other.
    sqlx::query(
        "SELECT FROM environment_operator.local WHERE cluster = $1 AND company_id = ANY ($2)
         ORDER BY company_id FOR NO KEY UPDATE",
    )
    .bind(&leader.cluster)
    .bind(companies)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "WITH chosen AS MATERIALIZED (
           SELECT l.company_id, (
             SELECT o.id FROM environment_operator.environment_object AS o
             WHERE o.cluster = l.cluster AND o.company_id = l.company_id AND o.driver = 'local' AND o.deleted_at IS NULL
             ORDER BY o.operator_made, o.created_at, o.id LIMIT 1
           ) AS object_id
           FROM environment_operator.local AS l WHERE l.cluster = $1 AND l.company_id = ANY ($2)
         )
         UPDATE environment_operator.local AS l SET object_id = chosen.object_id, generation = NULL
         FROM chosen
         WHERE l.cluster = $1 AND l.company_id = chosen.company_id AND l.object_id IS DISTINCT FROM chosen.object_id",
    )
    .bind(&leader.cluster)
    .bind(companies)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the fields of this object's generation are to be written to the row: it is canonical, and they were not yet. From
/// then on they count as written. `anew`: the generation was another one's, though its number may be the same.
pub(crate) async fn take_up(
    connection: &mut Session,
    leader: &Leader,
    company_id: Uuid,
    object: (Uuid, i64),
    anew: bool,
) -> Result<bool, StoreError> {
    let (id, generation) = object;
    let done = sqlx::query(
        "UPDATE environment_operator.local SET generation = $4
         WHERE cluster = $1 AND company_id = $2 AND object_id = $3 AND ($5 OR generation IS DISTINCT FROM $4)",
    )
    .bind(&leader.cluster)
    .bind(company_id)
    .bind(id)
    .bind(generation)
    .bind(anew)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The company's row is new: nothing that an object sets was written to it yet, in whichever cluster.
pub(crate) async fn forget_written(connection: &mut Session, company_id: Uuid) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE environment_operator.local SET generation = NULL WHERE company_id = $1 AND generation IS NOT NULL",
    )
    .bind(company_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Which other Local objects the company of this one (a uid) has in this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherLocals(pub Uuid);

/// The other Local objects that are there in the company and cluster of each of these objects, in the order of `objects`.
impl Request for OtherLocals {
    type Outcome = Vec<Uuid>;

    const NAME: &'static str = "other_locals";

    const ACCESS: Access = Access::Read;

    fn key(&self) -> Uuid {
        self.0
    }

    async fn carry_out(store: &Store, leader: &Leader, objects: &[Self]) -> Result<Vec<Vec<Uuid>>, StoreError> {
        let others = sqlx::query_scalar(
            "SELECT ARRAY (
               SELECT other.id FROM environment_operator.environment_object AS o
               JOIN environment_operator.environment_object AS other
                 ON other.cluster = o.cluster AND other.company_id = o.company_id AND other.id <> o.id
               WHERE o.id = i.id AND o.cluster = $1 AND other.driver = 'local' AND other.deleted_at IS NULL
             )
             FROM unnest($2::uuid[]) WITH ORDINALITY AS i(id, place) ORDER BY place",
        )
        .bind(&leader.cluster)
        .bind(column(objects, |object| object.0))
        .fetch_all(&store.pool)
        .await?;
        Ok(others)
    }
}

/// Whether the object of this uid is one of the operator's own that nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsSpareLocal(pub Uuid);

/// Whether these objects may be deleted, proven by the epoch: duplicates that the operator itself has made and nobody has
/// edited since. The answers stand in the order of `objects`.
impl Request for IsSpareLocal {
    type Outcome = bool;

    const NAME: &'static str = "is_spare_local";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.0
    }

    async fn carry_out(store: &Store, leader: &Leader, objects: &[Self]) -> Result<Vec<bool>, StoreError> {
        let mut transaction = store.pool.begin().await?;
        super::lead::prove(&mut transaction, leader).await?;
        let spare = sqlx::query_scalar(
            "SELECT EXISTS (
               SELECT FROM environment_operator.environment_object AS o
               JOIN environment_operator.local AS l ON l.cluster = o.cluster AND l.company_id = o.company_id
               WHERE o.id = i.id AND o.cluster = $1 AND o.driver = 'local' AND o.deleted_at IS NULL AND o.operator_made
                 AND o.generation = 1 AND l.object_id <> o.id
             )
             FROM unnest($2::uuid[]) WITH ORDINALITY AS i(id, place) ORDER BY place",
        )
        .bind(&leader.cluster)
        .bind(column(objects, |object| object.0))
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(spare)
    }
}
