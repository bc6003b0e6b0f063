//! `environment_operator.local_intent`: Local objects that the operator makes, written down before it makes them.
//!
//! Of each company one intent at most stands in an installation, neither fulfilled nor abandoned. So all claims that need the
//! company's Local make the same object, whichever of them comes first, and what a crash has left undone the next claim does.
//! An object is the operator's own if it carries the nonce of an intent for its company and namespace that no other object
//! has fulfilled: the evidence is here, the annotation only leads to it.

use sqlx::FromRow;
use uuid::Uuid;

use super::columns::bind_arrays;
use super::session::Session;
use super::{Access, Leader, Request, Store, StoreError, column, lead};

/// A claim that needs its company's Local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalNeed {
    /// uid of the lease object.
    pub lease_id: Uuid,
    /// Company of its Namespace.
    pub company_id: Uuid,
    /// Name of the Namespace.
    pub namespace: String,
    pub namespace_uid: Uuid,
}

/// A Local object that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct LocalIntent {
    /// What the object's annotation says.
    pub nonce: Uuid,
    /// Where it is to be made.
    pub namespace: String,
    /// uid of that Namespace when it was intended.
    pub namespace_uid: Uuid,
}

/// What the company's Local needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAnswer {
    /// Nothing: the company has a Local object in this cluster.
    Present,
    /// This object, which may be there already.
    Make(LocalIntent),
}

/// Intends a Local object for each company that has none in this cluster; the answers stand in the order of `needs`.
impl Request for LocalNeed {
    type Outcome = LocalAnswer;

    const NAME: &'static str = "intend_local";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.lease_id
    }

    async fn carry_out(store: &Store, leader: &Leader, needs: &[Self]) -> Result<Vec<LocalAnswer>, StoreError> {
        let mut transaction = store.pool.begin().await?;
        lead::prove(&mut transaction, leader).await?;
        // No other transaction of this installation writes here before the leader is overtaken, and that waits for this one.
        let query = sqlx::query(INTEND).bind(&leader.cluster).bind(&leader.installation);
        let query = bind_arrays!(query, INTEND, needs, |need| {
            company_id: need.company_id,
            namespace: need.namespace.as_str(),
            namespace_uid: need.namespace_uid,
        });
        query.execute(&mut *transaction).await?;
        let answers: Vec<Answer> = sqlx::query_as(
            "SELECT EXISTS (
               SELECT FROM environment_operator.environment_object AS o
               WHERE o.cluster = $1 AND o.company_id = i.company_id AND o.driver = 'local' AND o.deleted_at IS NULL
             ) AS present, standing.nonce, standing.namespace, standing.namespace_uid
             FROM unnest($3::uuid[]) WITH ORDINALITY AS i(company_id, place)
             LEFT JOIN environment_operator.local_intent AS standing
               ON standing.cluster = $1 AND standing.installation = $2 AND standing.company_id = i.company_id
               AND standing.object_id IS NULL AND standing.abandoned_at IS NULL
             ORDER BY i.place",
        )
        .bind(&leader.cluster)
        .bind(&leader.installation)
        .bind(column(needs, |need| need.company_id))
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        answers.into_iter().map(LocalAnswer::try_from).collect()
    }
}

const INTEND: &str = r#"
INSERT INTO environment_operator.local_intent (cluster, installation, company_id, namespace, namespace_uid)
SELECT DISTINCT ON (i.company_id) $1, $2, i.company_id, i.namespace, i.namespace_uid
FROM unnest($3::uuid[], $4::text[], $5::uuid[]) WITH ORDINALITY AS i(company_id, namespace, namespace_uid, place)
WHERE NOT EXISTS (
  SELECT FROM environment_operator.environment_object AS o
  WHERE o.cluster = $1 AND o.company_id = i.company_id AND o.driver = 'local' AND o.deleted_at IS NULL
) AND NOT EXISTS (
  SELECT FROM environment_operator.local_intent AS standing
  WHERE standing.cluster = $1 AND standing.installation = $2 AND standing.company_id = i.company_id
    AND standing.object_id IS NULL AND standing.abandoned_at IS NULL
)
ORDER BY i.company_id, i.place
ON CONFLICT (cluster, installation, company_id, namespace_uid) WHERE object_id IS NULL
DO UPDATE SET abandoned_at = NULL
"#;

#[derive(FromRow)]
struct Answer {
    present: bool,
    nonce: Option<Uuid>,
    namespace: Option<String>,
    namespace_uid: Option<Uuid>,
}

impl TryFrom<Answer> for LocalAnswer {
    type Error = StoreError;

    fn try_from(answer: Answer) -> Result<Self, StoreError> {
        match answer {
            Answer { present: true, .. } => Ok(Self::Present),
            Answer {
                nonce: Some(nonce),
                namespace: Some(namespace),
                namespace_uid: Some(namespace_uid),
                ..
            } => Ok(Self::Make(LocalIntent {
                nonce,
                namespace,
                namespace_uid,
            })),
            Answer { .. } => Err(StoreError::Bug("a needed Local was not intended".to_owned())),
        }
    }
}

/// The object that was intended with this nonce is not to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbandonLocal(pub Uuid);

/// Abandons intents whose objects the API server would not have: the next claim intends one in its own namespace.
impl Request for AbandonLocal {
    type Outcome = ();

    const NAME: &'static str = "abandon_local";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.0
    }

    async fn carry_out(store: &Store, leader: &Leader, intents: &[Self]) -> Result<Vec<()>, StoreError> {
        let mut transaction = store.pool.begin().await?;
        lead::prove(&mut transaction, leader).await?;
        // One that is fulfilled or abandoned already stays as it is, and that is as good.
        sqlx::query(
            "UPDATE environment_operator.local_intent SET abandoned_at = date_trunc('milliseconds', clock_timestamp())
             WHERE nonce = ANY ($1) AND object_id IS NULL AND abandoned_at IS NULL",
        )
        .bind(column(intents, |intent| intent.0))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(vec![(); intents.len()])
    }
}

/// A Local object that says that the operator has made it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimedLocal<'a> {
    /// uid of the object.
    pub(crate) id: Uuid,
    /// Where it is.
    pub(crate) namespace: &'a str,
    /// Company of that Namespace.
    pub(crate) company_id: Uuid,
    /// What its annotation says.
    pub(crate) nonce: Uuid,
}

/// Whether this object fulfils an intent. An abandoned one too: a request that timed out may arrive late.
pub(crate) async fn fulfil(
    connection: &mut Session,
    leader: &Leader,
    object: ClaimedLocal<'_>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE environment_operator.local_intent SET object_id = $6
         WHERE nonce = $5 AND cluster = $1 AND installation = $2 AND company_id = $3 AND namespace = $4
           AND (object_id IS NULL OR object_id = $6)",
    )
    .bind(&leader.cluster)
    .bind(&leader.installation)
    .bind(object.company_id)
    .bind(object.namespace)
    .bind(object.nonce)
    .bind(object.id)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}
