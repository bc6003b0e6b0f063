//! What is done to many rows for nobody who waits: it takes its turn among the other transactions that write, one by one.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Mirror;
use super::batcher::{SLOW, SLOW_FAILURES};
use crate::store::retention::{self, Removed};
use crate::store::{Leader, StoreError, adoption};

/// What is passed over in one round of the retention.
#[derive(Clone, Debug, Default)]
pub struct Aside {
    /// Leases that could not be removed, in the order in which they were found.
    pub leases: Vec<SetAside>,
    /// Failures that the server took long for: it waited for a lock or broke off a statement.
    slow: usize,
}

/// A lease that could not be removed.
#[derive(Clone, Debug)]
pub struct SetAside {
    pub id: Uuid,
    /// What the database answered.
    pub error: StoreError,
}

impl Aside {
    /// Whether the round has had as many slow failures as it may: each of them holds up all others that write.
    pub const fn is_too_slow(&self) -> bool {
        self.slow >= SLOW_FAILURES
    }

    /// What becomes of a part whose removal has failed for itself: the two halves of it that are to be tried, or none.
    fn failed(&mut self, mut part: Vec<Uuid>, error: &StoreError, took: Duration) -> Vec<Vec<Uuid>> {
        self.slow += usize::from(took > SLOW);
        if part.len() > 1 && !self.is_too_slow() {
            let second = part.split_off(part.len() / 2);
            return vec![second, part];
        }
        self.leases.extend(part.into_iter().map(|id| SetAside {
            id,
            error: error.clone(),
        }));
        Vec::new()
    }
}

impl Mirror {
    /// See [`crate::store::adoption::adopt`]. Each batch takes its turn among the other transactions that write.
    ///
    /// # Errors
    /// Any category.
    pub async fn adopt(&self, leader: &Leader, namespaces: &[String]) -> Result<usize, StoreError> {
        let adopted = adoption::adopt(&self.store, leader, namespaces, &self.write).await;
        self.examined(adopted).await
    }

    /// See [`crate::store::retention::remove_ended`]. Each part takes its turn among the other transactions that write. A lease
    /// that the database does not let go is found by halving and goes into `aside`, and is left there until the caller takes it
    /// out. Once `aside` [is too slow](Aside::is_too_slow) nothing is halved any more: what is left is tried as it is, and a part
    /// that fails goes into `aside` as a whole; the caller ends its round then.
    ///
    /// # Errors
    /// Only what speaks of the whole connection, database or leadership.
    pub async fn remove_ended(&self, kept: Duration, aside: &mut Aside) -> Result<Removed, StoreError> {
        let leader = self.leader().ok_or(StoreError::Deposed)?;
        let left: Vec<Uuid> = aside.leases.iter().map(|lease| lease.id).collect();
        let candidates = retention::candidates(&self.store, &leader, kept, &left).await;
        let mut parts = vec![self.examined(candidates).await?];
        let mut examined = false;
        let mut removed = Removed::default();
        // One session: the server tells of a failure before it gives up the locks, but answers nothing more before it has.
        let mut session = self.store.pool().session().await.map_err(StoreError::from)?;
        while let Some(part) = parts.pop() {
            let (outcome, took) = {
                // The semaphore is never closed, so the error cannot come; it would only mean no turn to wait for.
                let _turn = self.write.acquire().await.ok();
                let began = Instant::now();
                let outcome = retention::remove_ended_of(&mut session, &leader, kept, &part).await;
                (outcome, began.elapsed())
            };
            match outcome {
                Ok(done) => removed.add(done),
                Err(error) => {
                    // One look for all: a lease that fails by itself fails again in each half.
                    let error = if error.is_suspect() && !std::mem::replace(&mut examined, true) {
                        self.examine.error(error).await
                    } else {
                        error
                    };
                    if error.is_of_all() {
                        return Err(error);
                    }
                    parts.extend(aside.failed(part, &error, took));
                }
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removes a thousand leases of which these make each part fail that holds one of them: how many tries that took, and how
    /// many leases were removed.
    fn remove(culprits: &[u128], took: Duration, aside: &mut Aside) -> (usize, usize) {
        let (mut tries, mut removed) = (0, 0);
        let mut parts = vec![(0..1_000).map(Uuid::from_u128).collect::<Vec<_>>()];
        let error = StoreError::Refused {
            message: "canceling statement due to statement timeout".to_owned(),
        };
        while let Some(part) = parts.pop() {
            tries += 1;
            if part.iter().any(|id| culprits.contains(&id.as_u128())) {
                parts.extend(aside.failed(part, &error, took));
            } else {
                removed += part.len();
            }
        }
        (tries, removed)
    }

    #[test]
    fn the_search_for_leases_that_fail_slowly_has_an_end_and_their_neighbours_are_removed() {
        let mut aside = Aside::default();
        let all: Vec<u128> = (0..1_000).collect();
        let (tries, removed) = remove(&all, Duration::from_secs(10), &mut aside);
        assert!(tries <= 2 * SLOW_FAILURES, "{tries} of ten seconds each");
        assert_eq!((removed, aside.leases.len()), (0, 1_000));
        assert!(aside.is_too_slow());
        // One that fails slowly costs few of its neighbours.
        for culprit in [0, 500, 999] {
            let mut aside = Aside::default();
            let (_, removed) = remove(&[culprit], Duration::from_secs(10), &mut aside);
            assert!(removed >= 998, "{removed}");
            assert!(aside.leases.iter().any(|lease| lease.id.as_u128() == culprit));
        }
    }

    #[test]
    fn every_lease_that_fails_at_once_is_found() {
        let mut aside = Aside::default();
        let culprits: Vec<u128> = (0..1_000).step_by(7).collect();
        let (_, removed) = remove(&culprits, Duration::from_millis(10), &mut aside);
        assert_eq!(removed, 1_000 - culprits.len());
        assert_eq!(aside.leases.len(), culprits.len());
        assert!(!aside.is_too_slow());
    }
}
