//! Whether the server is still at work for a session that waits for it without a limit.

use std::time::Duration;

use sqlx::Connection as _;
use tokio::time::{sleep, timeout};

use super::unanswered;
use crate::store::address::Address;
use crate::store::connection::{ConnectError, Purpose, open};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(5);

/// Longest wait for what a look finds.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Looks in a row that may fail: as many as a short interruption takes.
const FAILURES: u32 = 3;

/// Ends once the server process is found to be gone, to wait for the client (its answer was lost on the way, or it waits
/// for a question that was), or not to be reached at all.
pub(in crate::store) async fn lost(address: &Address, process: i32) -> sqlx::Error {
    let (mut failures, mut waited_since) = (0, None);
    loop {
        sleep(PAUSE).await;
        match look(address, process).await {
            Ok(Found::AtWork) => (failures, waited_since) = (0, None),
            Ok(Found::Waiting(since)) if waited_since.as_ref() == Some(&since) => return unanswered(),
            Ok(Found::Waiting(since)) => (failures, waited_since) = (0, Some(since)),
            Ok(Found::Gone) => return unanswered(),
            Err(error) if failures + 1 >= FAILURES => return error.into(),
            Err(_) => failures += 1,
        }
    }
}

enum Found {
    AtWork,
    /// For the client, since then.
    Waiting(String),
    Gone,
}

async fn look(address: &Address, process: i32) -> Result<Found, ConnectError> {
    let mut connection = open(address, Purpose::Work).await?;
    let state = sqlx::query_as("SELECT state, state_change::text FROM pg_catalog.pg_stat_activity WHERE pid = $1")
        .bind(process)
        .fetch_optional(&mut connection);
    let found: Option<(Option<String>, Option<String>)> =
        timeout(LOOK_LIMIT, state).await.map_err(|_| unanswered())??;
    let _polite = timeout(LOOK_LIMIT, connection.close()).await;
    Ok(match found {
        None => Found::Gone,
        // Whose state is hidden counts as at work.
        Some((Some(state), Some(since))) if state.starts_with("idle") => Found::Waiting(since),
        Some(_) => Found::AtWork,
    })
}
