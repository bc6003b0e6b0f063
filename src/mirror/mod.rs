//! The mirror: the group-commit writer. Requests of many reconciles become one transaction; each caller gets its own answer.
//!
//! Of all transactions that write, one runs at a time: then two batches of ours never wait for each other's rows, and no
//! sharding is needed. One connection carries more grants a second than a cluster's API server.

mod batcher;
mod housekeeping;
mod soundness;

use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use crate::api::Reason;
use crate::store::environment_leases::{
    self, End, EndOutcome, ForeignEnd, ForeignLeaseEnd, Grant, GrantOutcome, LeaseSync, SyncOutcome, Touch,
};
use crate::store::environment_object::{self, EnvironmentLook, EnvironmentView};
use crate::store::environments::{self, ArchiveOutcome, EnvironmentOutcome, EnvironmentSync};
use crate::store::lease_object::{self, LeaseLook, LeaseView};
use crate::store::local_intent::{self, LocalAnswer, LocalNeed};
use crate::store::{Leader, Refusal, Store, StoreError, local};

pub use batcher::Observe;
use batcher::{Batcher, Work};
pub use housekeeping::{Aside, SetAside};

/// Handle of the mirror; cheap to clone. Every method waits while the mirror is full (back pressure).
///
/// A request is bound to the leadership under which it was made: while there is none, or once it has changed, the answer is
/// [`StoreError::Deposed`].
#[derive(Clone, Debug)]
pub struct Mirror {
    leader: watch::Receiver<Option<Leader>>,
    store: Store,
    /// The turn of all transactions that write.
    write: Arc<Semaphore>,
    broken: watch::Receiver<Option<&'static str>>,
    lease_looks: Batcher<LeaseLook, LeaseView>,
    environment_looks: Batcher<EnvironmentLook, EnvironmentView>,
    grants: Batcher<Grant, GrantOutcome>,
    lease_syncs: Batcher<LeaseSync, SyncOutcome>,
    touches: Batcher<Touch, ()>,
    ends: Batcher<End, EndOutcome>,
    foreign_lease_ends: Batcher<ForeignLeaseEnd, EndOutcome>,
    foreign_ends: Batcher<ForeignEnd, ()>,
    environment_syncs: Batcher<EnvironmentSync, EnvironmentOutcome>,
    archives: Batcher<Uuid, ArchiveOutcome>,
    local_needs: Batcher<LocalNeed, LocalAnswer>,
    abandoned_locals: Batcher<Uuid, ()>,
    other_locals: Batcher<Uuid, Vec<Uuid>>,
    spare_locals: Batcher<Uuid, bool>,
    marks: Batcher<Uuid, ()>,
}

impl Mirror {
    /// Starts the mirror's tasks; they end when the last handle is dropped and all that was taken in is written.
    /// `observe` hears of each transaction.
    pub fn start(store: Store, leader: watch::Receiver<Option<Leader>>, observe: Observe) -> Self {
        let (broken, breaks) = watch::channel(None);
        let (read, write) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(1)));
        /// One batcher: its name, whose turn it shares, the key of a request, the store's function.
        macro_rules! batcher {
            ($name:literal, $turn:ident, $key:expr, $function:path $(, $answers:expr)?) => {{
                let store = store.clone();
                let work = Work {
                    name: $name,
                    key: $key,
                    turn: Arc::clone(&$turn),
                    observe: Arc::clone(&observe),
                    broken: broken.clone(),
                    flush: Box::new(move |leader, requests: Vec<_>| {
                        let store = store.clone();
                        async move {
                            let answers = $function(&store, &leader, &requests).await;
                            $(let answers = answers.map(|()| $answers(requests.len()));)?
                            answers
                        }
                        .boxed()
                    }),
                };
                Batcher::start(work, leader.clone())
            }};
        }
        let nothings = |count| vec![(); count];
        Self {
            lease_looks: batcher!("look_lease", read, |look: &LeaseLook| look.id, lease_object::look),
            environment_looks: batcher!(
                "look_environment",
                read,
                |look: &EnvironmentLook| look.id,
                environment_object::look
            ),
            grants: batcher!("grant", write, |grant: &Grant| grant.id, environment_leases::grant),
            lease_syncs: batcher!(
                "sync_lease",
                write,
                |sync: &LeaseSync| sync.id,
                environment_leases::sync
            ),
            touches: batcher!(
                "touch_lease",
                write,
                |touch: &Touch| touch.id,
                environment_leases::touch,
                nothings
            ),
            ends: batcher!("end", write, |end: &End| end.id, environment_leases::end),
            foreign_lease_ends: batcher!(
                "end_foreign",
                write,
                |end: &ForeignLeaseEnd| end.end.id,
                environment_leases::end_foreign
            ),
            foreign_ends: batcher!(
                "record_foreign_end",
                write,
                |end: &ForeignEnd| end.id,
                environment_leases::record_foreign_end,
                nothings
            ),
            environment_syncs: batcher!(
                "sync_environment",
                write,
                |sync: &EnvironmentSync| sync.id,
                environments::sync
            ),
            archives: batcher!(
                "archive_environment",
                write,
                |id: &Uuid| *id,
                environments::archive_deleted
            ),
            local_needs: batcher!(
                "intend_local",
                write,
                |need: &LocalNeed| need.lease_id,
                local_intent::intend
            ),
            abandoned_locals: batcher!(
                "abandon_local",
                write,
                |nonce: &Uuid| *nonce,
                local_intent::abandon,
                nothings
            ),
            other_locals: batcher!("other_locals", read, |id: &Uuid| *id, local::others),
            spare_locals: batcher!("is_spare_local", write, |id: &Uuid| *id, local::are_spare),
            marks: batcher!("mark_gone", write, |id: &Uuid| *id, lease_object::mark_gone, nothings),
            leader,
            store,
            write,
            broken: breaks,
        }
    }

    /// Waits until one of the mirror's tasks has panicked, and tells which; for ever where none does. From then on every
    /// request of its kind fails, so the process must not go on.
    pub fn broken(&self) -> impl Future<Output = &'static str> + Send + 'static {
        let mut broken = self.broken.clone();
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

    /// See [`crate::store::lease_object::look`].
    ///
    /// # Errors
    /// Any category; `Data` if a row holds a value outside its closed set.
    pub async fn look_lease(&self, look: LeaseLook) -> Result<LeaseView, StoreError> {
        self.lease_looks.ask(look).await
    }

    /// See [`crate::store::environment_object::look`].
    ///
    /// # Errors
    /// Any category; `Data` if a row holds a value outside its closed set.
    pub async fn look_environment(&self, look: EnvironmentLook) -> Result<EnvironmentView, StoreError> {
        self.environment_looks.ask(look).await
    }

    /// See [`crate::store::environment_leases::grant`]. What cannot be stored is refused as `InvalidSpec`, and
    /// what the database refuses for a reason of its own as `StoreUnavailable`.
    ///
    /// # Errors
    /// Any category but `Data` and `Refused`.
    pub async fn grant(&self, grant: Grant) -> Result<GrantOutcome, StoreError> {
        let outcome = match check_grant(&grant) {
            Ok(()) => self.grants.ask(grant).await,
            Err(error) => Err(error),
        };
        or_refused(outcome, GrantOutcome::Refused)
    }

    /// See [`crate::store::environment_leases::sync`].
    ///
    /// # Errors
    /// Any category; `Data` says what the object's author should change.
    pub async fn sync_lease(&self, sync: LeaseSync) -> Result<SyncOutcome, StoreError> {
        if let Some(metadata) = &sync.metadata {
            soundness::object("spec.metadata", metadata)?;
        }
        self.lease_syncs.ask(sync).await
    }

    /// See [`crate::store::environment_leases::touch`].
    ///
    /// # Errors
    /// Any category.
    pub async fn touch_lease(&self, touch: Touch) -> Result<(), StoreError> {
        self.touches.ask(touch).await
    }

    /// See [`crate::store::environment_leases::end`].
    ///
    /// # Errors
    /// Any category.
    pub async fn end(&self, end: End) -> Result<EndOutcome, StoreError> {
        self.ends.ask(end).await
    }

    /// See [`crate::store::environment_leases::end_foreign`].
    ///
    /// # Errors
    /// Any category.
    pub async fn end_foreign(&self, end: ForeignLeaseEnd) -> Result<EndOutcome, StoreError> {
        self.foreign_lease_ends.ask(end).await
    }

    /// See [`crate::store::environment_leases::record_foreign_end`].
    ///
    /// # Errors
    /// Any category.
    pub async fn record_foreign_end(&self, end: ForeignEnd) -> Result<(), StoreError> {
        self.foreign_ends.ask(end).await
    }

    /// See [`crate::store::environments::sync`]. What cannot be stored is refused as `InvalidSpec`, and
    /// what the database refuses for a reason of its own as `StoreUnavailable`.
    ///
    /// # Errors
    /// Any category but `Data` and `Refused`.
    pub async fn sync_environment(&self, sync: EnvironmentSync) -> Result<EnvironmentOutcome, StoreError> {
        let outcome = match check_environment(&sync) {
            Ok(()) => self.environment_syncs.ask(sync).await,
            Err(error) => Err(error),
        };
        or_refused(outcome, EnvironmentOutcome::Refused)
    }

    /// See [`crate::store::environments::archive_deleted`].
    ///
    /// # Errors
    /// Any category.
    pub async fn archive_environment(&self, id: Uuid) -> Result<ArchiveOutcome, StoreError> {
        self.archives.ask(id).await
    }

    /// See [`crate::store::local_intent::intend`].
    ///
    /// # Errors
    /// Any category.
    pub async fn intend_local(&self, need: LocalNeed) -> Result<LocalAnswer, StoreError> {
        self.local_needs.ask(need).await
    }

    /// See [`crate::store::local_intent::abandon`].
    ///
    /// # Errors
    /// Any category.
    pub async fn abandon_local(&self, nonce: Uuid) -> Result<(), StoreError> {
        self.abandoned_locals.ask(nonce).await
    }

    /// See [`crate::store::local::others`].
    ///
    /// # Errors
    /// Any category.
    pub async fn other_locals(&self, id: Uuid) -> Result<Vec<Uuid>, StoreError> {
        self.other_locals.ask(id).await
    }

    /// See [`crate::store::local::are_spare`].
    ///
    /// # Errors
    /// Any category.
    pub async fn is_spare_local(&self, id: Uuid) -> Result<bool, StoreError> {
        self.spare_locals.ask(id).await
    }

    /// See [`crate::store::lease_object::mark_gone`].
    ///
    /// # Errors
    /// Any category.
    pub async fn mark_gone(&self, id: Uuid) -> Result<(), StoreError> {
        self.marks.ask(id).await
    }
}

fn check_grant(grant: &Grant) -> Result<(), StoreError> {
    soundness::text("the environment's provider", grant.provider.as_deref())?;
    soundness::indexed_text("the provider's lease id", grant.provider_lease_id.as_deref())?;
    soundness::object("spec.metadata", &grant.metadata)?;
    soundness::object("the run's context", &grant.context)
}

fn check_environment(sync: &EnvironmentSync) -> Result<(), StoreError> {
    soundness::indexed_text("spec.displayName", sync.name.as_deref())?;
    soundness::text("spec.description", sync.description.as_deref())?;
    soundness::value("the driver's configuration", &sync.config)?;
    sync.metadata
        .as_ref()
        .map_or(Ok(()), |metadata| soundness::object("spec.metadata", metadata))
}

/// What the author has to change is refused; what the database refuses for reasons of its own waits, and so does what another
/// transaction was in the way of.
fn or_refused<A>(outcome: Result<A, StoreError>, refused: impl FnOnce(Refusal) -> A) -> Result<A, StoreError> {
    let (reason, message) = match outcome {
        Err(StoreError::Data { message }) => (Reason::InvalidSpec, message),
        Err(error) if !error.is_of_all() => (Reason::StoreUnavailable, error.to_string()),
        outcome => return outcome,
    };
    Ok(refused(Refusal { reason, message }))
}
