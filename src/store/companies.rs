//! `companies`: the tenants. Standalone the operator makes their rows; attached the Paperclip server does.

use std::collections::HashSet;

use uuid::Uuid;

use super::StoreError;
use super::session::Session;

/// Which of these companies have their row.
pub(crate) async fn existing(connection: &mut Session, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM public.companies WHERE id = ANY ($1)")
        .bind(ids)
        .fetch_all(connection)
        .await?;
    Ok(ids.into_iter().collect())
}

/// Which of these companies' rows no other transaction holds: they are locked for the foreign keys that refer to them, whose
/// checks would wait for whoever does.
pub(crate) async fn lock(connection: &mut Session, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT environment_operator.lock_referenced('companies', $1, $1)")
        .bind(ids)
        .fetch_all(connection)
        .await?;
    Ok(ids.into_iter().collect())
}

/// Makes the company's row, unless it is there.
///
/// Its issue prefix has to differ from that of every other company: it is the beginning of the id in letters, one letter
/// longer at each conflict. The longest is the whole id, which no other company has.
pub(crate) async fn ensure(connection: &mut Session, id: Uuid, name: &str) -> Result<(), StoreError> {
    for prefix in issue_prefixes(id) {
        // DO NOTHING waits for another transaction that makes the same company, and then finds its row.
        sqlx::query("INSERT INTO public.companies (id, name, issue_prefix) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(id)
            .bind(name)
            .bind(prefix)
            .execute(&mut *connection)
            .await?;
        if existing(connection, &[id]).await?.contains(&id) {
            return Ok(());
        }
    }
    Err(StoreError::Bug(format!("no issue prefix is free for company {id}")))
}

/// The candidates for a company's issue prefix: four letters from `A` to `P` (one per hexadecimal digit) and more.
fn issue_prefixes(id: Uuid) -> impl Iterator<Item = String> {
    let letters: String = id
        .as_bytes()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0x0f])
        .map(|digit| char::from(b'A' + digit))
        .collect();
    (4..=letters.len()).map(move |length| letters[..length].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_letters_and_the_last_is_the_whole_id() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0000_0000_0000_000f);
        let prefixes: Vec<String> = issue_prefixes(id).collect();
        assert_eq!(prefixes[0], "ABCD");
        assert_eq!(prefixes[1], "ABCDE");
        assert_eq!(prefixes.last().unwrap(), "ABCDEFGHIJKLMNOPAAAAAAAAAAAAAAAP");
    }
}
