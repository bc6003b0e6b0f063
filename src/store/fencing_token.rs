//! `environment_operator.fencing_token`: the sequence that gives each grant a number above all earlier ones.
//!
//! A database that is restored from a backup has an older state of the sequence: it would give the numbers of forgotten grants
//! again, and a runner of one of those could not be distinguished from a newer one. No table shows how far it had come, and the
//! objects that would may be gone. But no sequence that rises by one for each grant overtakes the microseconds since 1970; so
//! at each takeover it is raised to them, which is above all that was given before.

use super::StoreError;
use super::session::Session;

/// Key of the advisory lock.
const RAISING: i64 = i64::from_be_bytes(*b"fencing_");

/// Raises the sequence to the present, in microseconds since 1970 by the database's clock; one that is beyond it stays. Below
/// 2^53, so exact as a JSON number, until the year 2255. In a transaction.
///
/// # Errors
/// When the database cannot be asked, or the role may not (`UPDATE` on the sequence).
pub(crate) async fn raise(connection: &mut Session) -> Result<(), StoreError> {
    // One at a time: else one that stands between its look and its act could set it back behind another one's numbers.
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(RAISING)
        .execute(&mut *connection)
        .await?;
    // Between the look and the act others may still take numbers: fewer than microseconds pass.
    sqlx::query(
        "SELECT setval('environment_operator.fencing_token', moment.microseconds)
         FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS microseconds) AS moment
         WHERE coalesce(pg_sequence_last_value('environment_operator.fencing_token'::regclass), 0) < moment.microseconds",
    )
    .execute(connection)
    .await?;
    Ok(())
}
