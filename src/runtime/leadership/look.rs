//! Checks of the database that a failed statement asks for: the loop checks it before each term and each renewal anyway.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Leadership;
use crate::store::StoreError;

/// Longest wait for a look: one that was under way, one that begins then, and the pause between them.
const LIMIT: Duration = Duration::from_secs(15);

/// The looks so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    begun: u64,
    ended: u64,
    outcome: Option<Result<(), StoreError>>,
}

impl Look {
    pub(super) fn begin(&mut self) {
        self.begun += 1;
    }

    pub(super) fn end(&mut self, outcome: Result<(), StoreError>) {
        self.ended = self.begun;
        self.outcome = Some(outcome);
    }
}

impl Leadership {
    /// Has the database looked at at once, about a statement that has failed as one does where the database does not fit, and
    /// tells what that was: `Unfit` with the look's sentence where it is refused, `Refused` with the statement's own where it
    /// fits, so that the failure is of what was asked for alone. Whoever asks meanwhile shares the look. Where a look is
    /// refused, the term has lapsed before this returns.
    pub async fn examine(&self, error: StoreError) -> StoreError {
        let StoreError::Suspect(message) = error else {
            return error;
        };
        let mut looks = self.looks.clone();
        let wanted = looks.borrow().begun + 1; // one under way may have seen what was there before
        self.look_now.notify_one();
        let look = timeout(LIMIT, looks.wait_for(|look| look.ended >= wanted)).await;
        match look.map(|look| look.map(|look| look.outcome.clone())) {
            Ok(Ok(Some(Ok(())))) => StoreError::Refused { message },
            Ok(Ok(Some(Err(StoreError::Unfit(sentence) | StoreError::Suspect(sentence))))) => {
                StoreError::Unfit(sentence)
            }
            Ok(Ok(Some(Err(error)))) => error,
            // The loop has ended, or has got no answer for very long.
            Ok(Ok(None) | Err(_)) | Err(_) => no_answer(),
        }
    }
}

/// The database has not answered in time.
pub(super) fn no_answer() -> StoreError {
    StoreError::Unavailable(Arc::new(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}
