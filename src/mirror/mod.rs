//! The mirror: the group-commit writer. Requests of many reconciles become one transaction; each caller gets its own answer.
//!
//! Of all transactions that write, one runs at a time: then two batches of ours never wait for each other's rows, and no
//! sharding is needed. One connection carries more grants a second than a cluster's API server.

mod batcher;
mod housekeeping;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use crate::api::Reason;
use crate::store::{Access, Leader, Refusal, Request, Store, StoreError};

pub use batcher::Observe;
use batcher::{Answer, Batcher, Work};
pub use housekeeping::{Aside, SetAside};

/// Handle of the mirror; cheap to clone.
#[derive(Clone)]
pub struct Mirror {
    leader: watch::Receiver<Option<Leader>>,
    store: Store,
    observe: Observe,
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
    /// was taken in is written. `observe` hears of each transaction.
    pub fn start(store: Store, leader: watch::Receiver<Option<Leader>>, observe: Observe) -> Self {
        Self {
            leader,
            store,
            observe,
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
    /// Any category; of a kind that can be refused only what speaks of the whole connection, database or leadership.
    pub async fn ask<R: Request>(&self, request: R) -> Result<R::Outcome, StoreError> {
        let answer = match request.check() {
            Ok(()) => self.batcher().ask(request).await,
            Err(error) => Err(error),
        };
        or_refused::<R>(answer)
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
        let mut batchers = self.batchers.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// The store behind it, for reads.
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
