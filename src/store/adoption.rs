//! What an installation remembers of objects whose namespaces another one looks after now: a namespace was moved from one to the
//! other, or an installation was given another name.
//!
//! Whoever looks after a namespace takes over what is remembered of it, when its term begins. No two installations that live look
//! after one namespace ([`super::installation`]), so nobody takes from one that lives, and nobody takes back.

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{Leader, Store, StoreError, lead};

/// How many rows of a table one transaction takes over at most.
const BATCH: i64 = 1_000;

/// The installations that have ever led in this cluster, but for the asking one.
macro_rules! others {
    () => {
        "WITH others AS MATERIALIZED (
           SELECT installation FROM environment_operator.lead WHERE cluster = $1 AND installation <> $2
         ),"
    };
}

/// Takes over from one of the two tables of objects. Each part of the search follows an index of its own.
macro_rules! adopt_from {
    ($table:literal) => {
        concat!(
            others!(),
            "strays AS MATERIALIZED (
               SELECT stray.id FROM others CROSS JOIN LATERAL (
                 SELECT o.id FROM environment_operator.",
            $table,
            " AS o
                 WHERE o.cluster = $1 AND o.installation = others.installation AND o.deleted_at IS NULL
                   AND ($3 = '{}' OR o.namespace = ANY ($3))
                 UNION ALL
                 SELECT o.id FROM environment_operator.",
            $table,
            " AS o
                 WHERE o.cluster = $1 AND o.installation = others.installation AND o.deleted_at IS NOT NULL
                   AND ($3 = '{}' OR o.namespace = ANY ($3))
               ) AS stray LIMIT $4
             ),
             locked AS MATERIALIZED (
               SELECT o.id FROM environment_operator.",
            $table,
            " AS o
               WHERE o.id = ANY (ARRAY (SELECT id FROM strays)) ORDER BY o.id FOR NO KEY UPDATE OF o
             )
             UPDATE environment_operator.",
            $table,
            " AS o SET installation = $2, epoch = $5
             WHERE o.id = ANY (ARRAY (SELECT id FROM locked)) AND o.cluster = $1 AND o.installation <> $2
             RETURNING o.id"
        )
    };
}

/// Takes over the intents of Locals that are not made yet, one of a company and Namespace, where this installation has none.
const INTENTS: &str = concat!(
    others!(),
    "strays AS MATERIALIZED (
       SELECT DISTINCT ON (i.company_id) i.nonce FROM others
       JOIN environment_operator.local_intent AS i ON i.cluster = $1 AND i.installation = others.installation
       WHERE i.object_id IS NULL AND ($3 = '{}' OR i.namespace = ANY ($3)) AND NOT EXISTS (
         SELECT FROM environment_operator.local_intent AS own
         WHERE own.cluster = $1 AND own.installation = $2 AND own.company_id = i.company_id AND own.object_id IS NULL
       )
       ORDER BY i.company_id, i.nonce LIMIT $4
     )
     UPDATE environment_operator.local_intent AS i SET installation = $2
     WHERE i.nonce = ANY (ARRAY (SELECT nonce FROM strays)) AND i.object_id IS NULL AND $5 IS NOT NULL
     RETURNING i.nonce"
);

/// Takes over what other installations of the cluster remember of objects in `namespaces` (none: in all). How many objects'
/// records that were. Each batch takes its `turn`, and gives it up before the next.
///
/// # Errors
/// Any category. What was taken over before stays.
pub async fn adopt(
    store: &Store,
    leader: &Leader,
    namespaces: &[String],
    turn: &Semaphore,
) -> Result<usize, StoreError> {
    let mut all = 0;
    for statement in [INTENTS, adopt_from!("environment_object"), adopt_from!("lease_object")] {
        loop {
            // The semaphore is never closed, so the error cannot come; it would only mean no turn to wait for.
            let _turn = turn.acquire().await.ok();
            let mut transaction = store.pool.begin().await?;
            lead::prove(&mut transaction, leader).await?;
            let adopted: Vec<Uuid> = sqlx::query_scalar(statement)
                .bind(&leader.cluster)
                .bind(&leader.installation)
                .bind(namespaces)
                .bind(BATCH)
                .bind(leader.epoch)
                .fetch_all(&mut *transaction)
                .await?;
            transaction.commit().await?;
            if adopted.is_empty() {
                break;
            }
            all += adopted.len();
        }
    }
    Ok(all)
}
