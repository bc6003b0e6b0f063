//! What a statement's failure means where it may be the whole database's: only a check of the database shows that.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::store::StoreError;

type Look = dyn Fn(StoreError) -> BoxFuture<'static, StoreError> + Send + Sync;

/// Has the database looked at for a [`StoreError::Suspect`], and tells what it is: `Unfit` with the one sentence that all are
/// told, where the look refuses the database; `Refused` with the server's own words where it fits, so that the failure is one
/// object's; else why there was no answer.
#[derive(Clone)]
pub struct Examine(Arc<Look>);

impl Examine {
    /// By this look, which is only asked about what is suspect.
    pub fn by<Looked>(look: impl Fn(StoreError) -> Looked + Send + Sync + 'static) -> Self
    where
        Looked: Future<Output = StoreError> + Send + 'static,
    {
        Self(Arc::new(move |error| look(error).boxed()))
    }

    /// What has come of a statement, in which nothing is suspect any more.
    pub(super) async fn outcome<A>(&self, outcome: Result<A, StoreError>) -> Result<A, StoreError> {
        match outcome {
            Err(error) => Err(self.error(error).await),
            answer => answer,
        }
    }

    /// What an error is; of one that is not suspect nothing is to be asked.
    pub(super) async fn error(&self, error: StoreError) -> StoreError {
        if error.is_suspect() {
            (self.0)(error).await
        } else {
            error
        }
    }
}

impl Debug for Examine {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Examine")
    }
}
