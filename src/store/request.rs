//! What is asked of the database for one row, and carried out for many at once.

use uuid::Uuid;

use super::{Leader, Refusal, Store, StoreError};

/// Whether a kind of request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads only, without locks, and a deposed replica may do so.
    Read,
    /// It writes, or locks what others write, and proves the leadership in the same transaction. One of these runs at a time.
    Write,
}

/// A request for one row. Each kind is implemented beside its statement, which carries out many requests in one transaction.
pub trait Request: Sized + Send + Sync + 'static {
    /// What becomes of it.
    type Outcome: Send + 'static;

    /// What the kind is called in metrics, logs and traces.
    const NAME: &'static str;

    /// Whether it writes.
    const ACCESS: Access;

    /// The row that it is about: two requests of a kind for one row never meet in a batch.
    fn key(&self) -> Uuid;

    /// Says what to change of a request that no database can store, before it gets into a batch.
    ///
    /// # Errors
    /// `Data`.
    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The outcome of a request that failed for a reason of its own; for a kind without one the error is the answer. What its
    /// author has to change is refused as `InvalidSpec`, everything else as `StoreUnavailable`.
    fn refused(_refusal: Refusal) -> Option<Self::Outcome> {
        None
    }

    /// Carries out requests for different rows, all or none of them. The outcomes stand in the order of `requests`.
    ///
    /// # Errors
    /// Any category. Nothing is changed then.
    fn carry_out(
        store: &Store,
        leader: &Leader,
        requests: &[Self],
    ) -> impl Future<Output = Result<Vec<Self::Outcome>, StoreError>> + Send;
}
