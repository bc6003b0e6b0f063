//! A term of leadership: how long it lasts, and whose runs.

use std::time::Duration;

use super::session::Session;
use super::{Store, StoreError};

/// Seconds that a term lasts without renewal.
pub const TERM_SECONDS: u32 = 15;

/// A term that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Who leads, as that process has named itself to [`super::lead::acquire`].
    pub holder: String,
    /// For how long yet, unless it is prolonged.
    pub left: Duration,
}

/// Who leads, by the database's clock. None while nobody's term runs.
///
/// # Errors
/// When the database cannot be asked.
pub async fn running(store: &Store, cluster: &str, installation: &str) -> Result<Option<Term>, StoreError> {
    let mut transaction = store.pool.begin().await?;
    let term = term(&mut transaction, cluster, installation).await?;
    transaction.commit().await?;
    Ok(term)
}

pub(super) async fn term(
    connection: &mut Session,
    cluster: &str,
    installation: &str,
) -> Result<Option<Term>, StoreError> {
    let term: Option<(String, f64)> = sqlx::query_as(
        "SELECT holder, extract(epoch FROM expires_at - moment.now)::float8
         FROM environment_operator.lead CROSS JOIN (SELECT clock_timestamp() AS now) AS moment
         WHERE cluster = $1 AND installation = $2 AND expires_at > moment.now",
    )
    .bind(cluster)
    .bind(installation)
    .fetch_optional(connection)
    .await?;
    Ok(term.map(|(holder, left)| Term {
        holder,
        left: Duration::try_from_secs_f64(left).unwrap_or_default(),
    }))
}
