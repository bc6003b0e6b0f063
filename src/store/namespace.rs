//! `environment_operator.namespace`: which company a Namespace (by its uid) belongs to, decided once.

use std::collections::HashMap;

use uuid::Uuid;

use super::columns::bind_arrays;
use super::session::Session;
use super::{Leader, StoreError, column};

/// Records a Namespace's company in the transaction that writes the Namespace's first row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceBinding {
    pub namespace_uid: Uuid,
    /// Name of the Namespace.
    pub namespace: String,
}

/// Records the companies of Namespaces, each once, and says which Namespace (uid) has which company from then on.
///
/// A company that another one has recorded meanwhile stays.
pub(crate) async fn binding(
    connection: &mut Session,
    leader: &Leader,
    bindings: &[(&NamespaceBinding, Uuid)],
) -> Result<HashMap<Uuid, Uuid>, StoreError> {
    if bindings.is_empty() {
        return Ok(HashMap::new());
    }
    let query = bind_arrays!(sqlx::query(SETTLE).bind(&leader.cluster), SETTLE, bindings, |settled| {
        uid: settled.0.namespace_uid,
        name: settled.0.namespace.as_str(),
        company_id: settled.1,
    });
    query.execute(&mut *connection).await?;
    recorded(
        connection,
        leader,
        &column(bindings, |(binding, _)| binding.namespace_uid),
    )
    .await
}

const SETTLE: &str = r#"
INSERT INTO environment_operator.namespace (cluster, uid, name, company_id)
SELECT $1, t.uid, t.name, t.company_id
FROM unnest($2::uuid[], $3::text[], $4::uuid[]) AS t(uid, name, company_id)
ORDER BY t.uid
ON CONFLICT DO NOTHING
"#;

/// Which of these Namespaces (uids) have which company recorded.
pub(crate) async fn recorded(
    connection: &mut Session,
    leader: &Leader,
    namespaces: &[Uuid],
) -> Result<HashMap<Uuid, Uuid>, StoreError> {
    let recorded: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "SELECT uid, company_id FROM environment_operator.namespace WHERE cluster = $1 AND uid = ANY ($2)",
    )
    .bind(&leader.cluster)
    .bind(namespaces)
    .fetch_all(connection)
    .await?;
    Ok(recorded.into_iter().collect())
}
