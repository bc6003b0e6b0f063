//! How many requests about the objects of one Namespace are under way at once: a tenant with thousands of objects that are due
//! does not keep the API server from the others.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many of one Namespace: enough for hundreds of requests a second of a quick API server, and few beside those of the others. Measured
/// in `docs/operations.md`; the reasons are in `docs/decisions/0034-a-namespace-has-four-requests-under-way.md`.
const AT_ONCE: usize = 4;

type Semaphores = Mutex<HashMap<String, Arc<Semaphore>>>;

/// The turns of all Namespaces; cheap to clone. A Namespace without a request takes no room.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Semaphores>);

/// A turn, until it is dropped.
pub(super) struct Turn {
    namespace: String,
    semaphores: Arc<Semaphores>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Waits for a turn of the Namespace, in the order of asking.
    pub(super) async fn take(&self, namespace: &str) -> Turn {
        let mut turn = Turn {
            namespace: namespace.to_owned(),
            semaphores: self.0.clone(),
            permit: None, // whoever stops waiting leaves nothing behind either
        };
        let semaphore = {
            let mut semaphores = self.0.lock();
            let new = || Arc::new(Semaphore::new(AT_ONCE));
            semaphores.entry(turn.namespace.clone()).or_insert_with(new).clone()
        };
        turn.permit = semaphore.acquire_owned().await.ok(); // never closed
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.permit = None;
        let mut semaphores = self.semaphores.lock();
        // The permits and those who wait for one hold the semaphore too.
        let is_last = |semaphore: &Arc<Semaphore>| Arc::strong_count(semaphore) == 1;
        if semaphores.get(&self.namespace).is_some_and(is_last) {
            semaphores.remove(&self.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_namespace_has_so_many_requests_under_way_and_no_other_waits_for_it() {
        let turns = Turns::default();
        let mut busy = Vec::new();
        for _ in 0..AT_ONCE {
            busy.push(turns.take("busy").await);
        }
        assert!(turns.take("busy").now_or_never().is_none(), "all turns are taken");
        assert!(turns.take("quiet").now_or_never().is_some(), "that is another's");
        busy.pop();
        assert!(turns.take("busy").now_or_never().is_some(), "one has come free");
    }

    #[tokio::test]
    async fn of_a_namespace_without_a_request_nothing_is_remembered() {
        let turns = Turns::default();
        let mut busy = Vec::new();
        for _ in 0..AT_ONCE {
            busy.push(turns.take("busy").await);
        }
        let mut waiting = Box::pin(turns.take("busy"));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(busy);
        drop(waiting); // it has got its turn or not: nobody waits any more
        assert!(turns.0.lock().is_empty());
    }
}
