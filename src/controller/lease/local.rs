//! Makes the company's default Local where a claim needs it: intended in the database first, then made once, wherever the
//! claim that came first is.

use uuid::Uuid;

use super::LeaseReconciler;
use super::observation::Observation;
use super::put_off::{COMING, QUIET_PAUSE, is_in_grace};
use super::{Step, refuse};
use crate::cache::object::NamespaceObject;
use crate::cache::{Key, LOCAL_NAME, SharedCache, Wakes};
use crate::controller::error::{At as _, READ_NAMESPACE, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::work::requeue::Requeue;
use crate::lifecycle::lease::{Decision, local_refused};
use crate::projection::choice::fault;
use crate::projection::observed::ObservedLease;
use crate::store::Request as _;
use crate::store::local_intent::{AbandonLocal, LocalAnswer, LocalIntent, LocalNeed};

/// A Local that is being made: by one at a time, and however that ends, the next may try.
struct Making<'i> {
    cache: &'i SharedCache,
    nonce: Uuid,
}

impl<'i> Making<'i> {
    fn begin(cache: &'i SharedCache, nonce: Uuid) -> Option<Self> {
        // Lazily: a value that is made and dropped again would end what another one has begun.
        cache
            .note(|cache| cache.begin_local(nonce))
            .then(|| Self { cache, nonce })
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.cache.note(|cache| cache.end_local(self.nonce));
    }
}

/// What has come of the need for a Local.
enum Made {
    /// The object is there, or on its way; its own reconcile makes the row and wakes the claims that wait.
    Coming,
    /// Something has changed: look again.
    Again,
    /// The claim's own Namespace would not have the object.
    Refused(String),
}

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// Makes the company's Local and waits for its row.
    pub(super) async fn wait_for_local(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
    ) -> Result<Step, ReconcileError> {
        let message = match self.make_local(observed, observation).await? {
            Made::Again => return Ok(Step::Again),
            Made::Coming if is_in_grace(observed, observation) => {
                return Ok(Step::Done(Some(Requeue::look(QUIET_PAUSE))));
            }
            Made::Coming => return Ok(self.put_off(observed, observation, COMING)),
            Made::Refused(message) => message,
        };
        Ok(match local_refused(&observation.facts, &message) {
            Decision::Wait(reason, message) => self.wait(observed, observation, reason, message),
            Decision::Refuse(reason, message) => refuse(observed, reason, message),
            _ => Step::Again,
        })
    }

    /// The row is there, made by the Paperclip server or left by a deleted object: it gets an object. The grant does not depend on that.
    pub(super) async fn give_row_its_local(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
    ) -> Result<(), ReconcileError> {
        match self.make_local(observed, observation).await {
            Ok(Made::Coming | Made::Again) => {}
            Ok(Made::Refused(message)) => {
                tracing::info!(lease = %observed.id, why = message, "no object local was made")
            }
            Err(error) if error.is_deposed() => return Err(error),
            Err(error) => tracing::warn!(lease = %observed.id, %error, "no object local could be made"),
        }
        Ok(())
    }

    async fn make_local(&self, observed: &ObservedLease, observation: &Observation) -> Result<Made, ReconcileError> {
        let (Some(lease), Some((company_id, _))) = (observed.present(), &observation.company) else {
            return Ok(Made::Coming); // the facts said otherwise: they will again when they are whole
        };
        // Live, as whatever is going to be written there: the cache may not have heard that it was made again.
        let Some(own) = self
            .cluster
            .read_namespace(&lease.meta.namespace)
            .await
            .at(READ_NAMESPACE)?
        else {
            return Ok(Made::Coming); // it is gone, and the claim with it
        };
        let need = LocalNeed {
            lease_id: observed.id,
            company_id: *company_id,
            namespace: own.meta.name.clone(),
            namespace_uid: own.meta.uid,
        };
        let intent = match self.database.ask(need).await.at(LocalNeed::NAME)? {
            LocalAnswer::Present => return Ok(Made::Again),
            LocalAnswer::Make(intent) => intent,
        };
        let own_uid = own.meta.uid;
        let home = if intent.namespace == own.meta.name {
            Some(own)
        } else {
            self.cluster
                .read_namespace(&intent.namespace)
                .await
                .at(READ_NAMESPACE)?
        };
        let refused = if self.is_home(&intent, home.as_ref(), *company_id) {
            self.make_intended(&intent).await?
        } else {
            Some("the namespace is not there as it was".to_owned())
        };
        let Some(message) = refused else {
            return Ok(Made::Coming);
        };
        self.database
            .ask(AbandonLocal(intent.nonce))
            .await
            .at(AbandonLocal::NAME)?;
        Ok(if intent.namespace_uid == own_uid {
            Made::Refused(message)
        } else {
            Made::Again // the next intent is for this claim's own Namespace
        })
    }

    /// Whether the Namespace of an intent is still there, looked after, and the company's.
    fn is_home(&self, intent: &LocalIntent, home: Option<&NamespaceObject>, company_id: Uuid) -> bool {
        let same = |home: &NamespaceObject| home.meta.uid == intent.namespace_uid && !home.meta.deleting;
        let whole = |home: &NamespaceObject| same(home) && home.company() == Ok(company_id);
        self.context.settings.looks_after(&intent.namespace) && home.is_some_and(whole)
    }

    /// Makes the object, unless it is there or being made; why that is of no use, where it is not.
    async fn make_intended(&self, intent: &LocalIntent) -> Result<Option<String>, ReconcileError> {
        // Held until the answer is in the cache: whoever may begin after this one finds the object there.
        let Some(_making) = Making::begin(&self.context.cache, intent.nonce) else {
            return Ok(None);
        };
        let known = self
            .context
            .cache()
            .environments
            .named(&intent.namespace, LOCAL_NAME)
            .cloned();
        if let Some(local) = known {
            self.context.wake([Key::Environment(local.meta.uid)]);
            return Ok(fault(&local));
        }
        match self.cluster.create_local(intent).await {
            Ok(local) => {
                let (key, fault) = (Key::Environment(local.meta.uid), fault(&local));
                self.context
                    .learn(|cache| cache.read_environment(local).and(Wakes::of([key])));
                Ok(fault)
            }
            Err(error) => match error.refusal() {
                Some(message) => Ok(Some(message)),
                None => Err(error).at("create Local"),
            },
        }
    }
}
