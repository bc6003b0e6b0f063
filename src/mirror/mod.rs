//! The mirror: the group-commit writer. Requests of many reconciles become one transaction; each caller gets its own answer.
//!
//! Of all transactions that write, one runs at a time: then two batches of ours never wait for each other's rows, and no
//! sharding is needed. One connection carries more grants a second than a cluster's API server.

mod batcher;
mod examine;
mod housekeeping;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::api::Reason;
use crate::store::{Access, Leader, Refusal, Request, Store, StoreError};

pub use batcher::Observe;
use batcher::{Answer, Batcher, Work};
pub use examine::Examine;
pub use housekeeping::{Aside, SetAside};

/// Handle of the mirror; cheap to clone.
#[derive(Clone)]
pub struct Mirror {
    leader: watch::Receiver<Option<Leader>>,
    store: Store,
    observe: Observe,
    examine: Examine,
    /// The turns of the transactions that read.
    read: Arc<Semaphore>,
    /// The turn of all transactions that write.
    write: Arc<Semaphore>,
    broken: watch::Sender<Option<&'static str>>,
    batchers: Arc<Mutex<Batchers>>,
}

/// The batcher of each kind of request that was made, by the kind's type.
type Batchers = HashMap<TypeId, Box<dyn Any + Send>>;

impl Mirror {
    /// Starts the mirror. Its tasks, one for each kind of request that is made, end when the last handle is dropped and all that
    /// was taken in is written. `observe` hears of each transaction, `examine` looks at the database where a failure may be all
    /// requests'.
    pub fn start(store: Store, leader: watch::Receiver<Option<Leader>>, observe: Observe, examine: Examine) -> Self {
        Self {
            leader,
            store,
            observe,
            examine,
            read: Arc::new(Semaphore::new(2)),
            write: Arc::new(Semaphore::new(1)),
            broken: watch::Sender::new(None),
            batchers: Arc::default(),
        }
    }

    /// Hands in a request and waits for its outcome; waits before that while too many of its kind are in (back pressure).
    ///
    /// A request is bound to the leadership under which it was made: while there is none, or once it has changed, the answer is
    /// [`StoreError::Deposed`]. What cannot be stored, or fails for a reason of its own, is [refused](Request::refused) where the
    /// kind has such an outcome.
    ///
    /// # Errors
    /// Any category, but nothing that is suspect; of a kind that can be refused only what speaks of the whole connection,
    /// database or leadership.
    pub async fn ask<R: Request>(&self, request: R) -> Result<R::Outcome, StoreError> {
        let answer = match request.check() {
            Ok(()) => self.batcher().ask(request).await,
            Err(error) => Err(error),
        };
        // By who has asked, so that no other request waits for the look.
        or_refused::<R>(self.examined(answer).await)
    }

    /// The batcher of a kind of request, which starts with the first of them.
    #[expect(clippy::expect_used, reason = "a batcher is kept under the type of its requests")]
    fn batcher<R: Request>(&self) -> Batcher<R> {
        let start = || -> Box<dyn Any + Send> {
            let turn = match R::ACCESS {
                Access::Read => &self.read,
                Access::Write => &self.write,
            };
            let work = Work {
                store: self.store.clone(),
                turn: Arc::clone(turn),
                observe: Arc::clone(&self.observe),
                broken: self.broken.clone(),
            };
            Box::new(Batcher::<R>::start(work, self.leader.clone()))
        };
        let mut batchers = self.batchers.lock();
        let batcher = batchers.entry(TypeId::of::<R>()).or_insert_with(start);
        let batcher: Option<&Batcher<R>> = batcher.downcast_ref();
        batcher.expect("of that type").clone()
    }

    /// Waits until one of the mirror's tasks has panicked, and tells which; for ever where none does. From then on every
    /// request of its kind fails, so the process must not go on.
    pub fn broken(&self) -> impl Future<Output = &'static str> + Send + 'static {
        let mut broken = self.broken.subscribe();
        async move {
            let name = broken.wait_for(Option::is_some).await.ok().and_then(|name| *name);
            match name {
                Some(name) => name,
                None => std::future::pending().await, // all tasks have ended in order
            }
        }
    }

    /// What has come of statements that were run on [`Self::store`]: whoever runs some asks here, before it tells anybody that
    /// they failed.
    ///
    /// # Errors
    /// Any category, but nothing that is suspect.
    pub async fn examined<A>(&self, outcome: Result<A, StoreError>) -> Result<A, StoreError> {
        self.examine.outcome(outcome).await
    }

    /// The store behind it, for reads. What fails there is for [`Self::examined`].
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The leadership under which a request made now would be bound.
    pub fn leader(&self) -> Option<Leader> {
        self.leader.borrow().clone()
    }
}

/// What the author has to change is refused; what the database refuses for reasons of its own waits, and so does what another
/// transaction was in the way of.
fn or_refused<R: Request>(answer: Answer<R>) -> Answer<R> {
    let (reason, message) = match &answer {
        Err(StoreError::Data { message }) => (Reason::InvalidSpec, message.clone()),
        Err(error) if !error.is_of_all() => (Reason::StoreUnavailable, error.to_string()),
        Ok(_) | Err(_) => return answer,
    };
    R::refused(Refusal { reason, message }).map_or(answer, Ok)
}

#[cfg(test)]
mod tests;
