//! `environment_operator.installation`: which namespaces each installation of a cluster looks after. Two that looked after one
//! namespace would grant and end the same objects' leases, each with an epoch of its own.

use super::session::Session;
use super::term::TERM_SECONDS;
use super::{StartError, Store, StoreError};

/// Records that a replica of this installation starts, with its namespaces (none: all).
///
/// # Errors
/// `Refused` while another installation of this cluster lives that looks after some of them: one whose leader's term runs, or
/// that was started less than a term ago and may not lead yet.
pub async fn enter(store: &Store, cluster: &str, installation: &str, namespaces: &[String]) -> Result<(), StartError> {
    let mut transaction = store.pool.begin().await?;
    // One start at a time: of two that overlap, the second sees the first.
    sqlx::query("LOCK TABLE environment_operator.installation IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    check(&mut transaction, cluster, installation, namespaces).await?;
    sqlx::query(
        "INSERT INTO environment_operator.installation (cluster, installation, namespaces, started_at)
         VALUES ($1, $2, $3, clock_timestamp())
         ON CONFLICT (cluster, installation) DO UPDATE
         SET namespaces = EXCLUDED.namespaces, started_at = EXCLUDED.started_at",
    )
    .bind(cluster)
    .bind(installation)
    .bind(namespaces)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Refuses a takeover while another installation lives that looks after some of this one's namespaces: one that was cut off from the
/// database for longer than its term may find that another one has taken its place. In a transaction.
///
/// # Errors
/// `Unfit` with the sentence that [`enter`] refuses with.
pub(super) async fn stand_alone(connection: &mut Session, cluster: &str, installation: &str) -> Result<(), StoreError> {
    // Nobody enters until this is committed.
    sqlx::query("LOCK TABLE environment_operator.installation IN ROW EXCLUSIVE MODE")
        .execute(&mut *connection)
        .await?;
    let namespaces: Option<Vec<String>> = sqlx::query_scalar(
        "SELECT namespaces FROM environment_operator.installation WHERE cluster = $1 AND installation = $2",
    )
    .bind(cluster)
    .bind(installation)
    .fetch_optional(&mut *connection)
    .await?;
    match namespaces {
        Some(namespaces) => check(connection, cluster, installation, &namespaces).await,
        None => Ok(()),
    }
}

/// Refuses while another installation lives that looks after some of these namespaces.
async fn check(
    connection: &mut Session,
    cluster: &str,
    installation: &str,
    namespaces: &[String],
) -> Result<(), StoreError> {
    let other: Option<(String, Vec<String>)> = sqlx::query_as(
        "SELECT other.installation, other.namespaces
         FROM environment_operator.installation AS other
         LEFT JOIN environment_operator.lead USING (cluster, installation)
         WHERE other.cluster = $1 AND other.installation <> $2
           AND (other.namespaces = '{}' OR $3::text[] = '{}' OR other.namespaces && $3)
           AND (
             lead.expires_at > clock_timestamp()
             OR other.started_at > clock_timestamp() - make_interval(secs => $4)
           )
         ORDER BY other.installation
         LIMIT 1",
    )
    .bind(cluster)
    .bind(installation)
    .bind(namespaces)
    .bind(f64::from(TERM_SECONDS))
    .fetch_optional(connection)
    .await?;
    match other {
        Some((other, theirs)) => Err(StoreError::Unfit(overlap(&other, &theirs, namespaces))),
        None => Ok(()),
    }
}

/// The sentence that names the other installation, and what both look after.
fn overlap(other: &str, theirs: &[String], ours: &[String]) -> String {
    let (both, all) = match (theirs, ours) {
        ([], []) => (Vec::new(), true),
        ([], named) | (named, []) => (named.to_vec(), false),
        _ => (
            theirs.iter().filter(|name| ours.contains(name)).cloned().collect(),
            false,
        ),
    };
    let shared = match both.as_slice() {
        _ if all => "all namespaces".to_owned(),
        [one] => format!("namespace {one}"),
        several => format!("namespaces {}", several.join(", ")),
    };
    format!(
        "installation {other:?} of this cluster looks after {shared} already: start this one with the same --installation to be a \
         replica of that one, give each namespaces of its own (--namespaces), or stop that one and wait {TERM_SECONDS} s"
    )
}
