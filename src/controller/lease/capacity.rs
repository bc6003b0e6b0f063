//! A claim for a limited environment: its place in the wait queue, its message, and which claims are reconciled when a lease gets free.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::LeaseReconciler;
use super::put_off::QUIET_PAUSE;
use crate::api::Reason;
use crate::cache::object::LeaseObject;
use crate::cache::wait_queue::Position;
use crate::cache::{Cache, Limited};
use crate::controller::error::ReconcileError;
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::lifecycle::capacity::{self, Capacity};
use crate::projection::observed::ObservedLease;
use crate::store::lease_object::{Holder, LeaseSnapshot};

/// How often the sentence of one claim that waits for room is rewritten at most.
const RETELL_INTERVAL: Duration = Duration::from_secs(2);

/// The same where the sentence would call nobody by name who will have one in a moment.
const UNNAMED_INTERVAL: Duration = Duration::from_secs(10);

/// Whose grant is committed, and not shown yet. No name has a space.
const BEING_GRANTED: &str = "a lease that is being granted";

/// Whose object is gone, and whose row is about to end.
const DELETED: &str = "a deleted lease";

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// Whether there is room for a claim that nothing else holds back: it stands in the wait queue from here on, as far as its
    /// environment is limited.
    pub(super) fn room_for(&self, observed: &ObservedLease, lease: &LeaseObject, view: &LeaseSnapshot) -> Capacity {
        let Some((limited, environment)) = view.capacity.as_ref().zip(view.environment.as_ref()) else {
            self.context.stand_aside(observed.looked());
            return Capacity::Free;
        };
        let free = usize::try_from(limited.limit - limited.active).unwrap_or_default();
        let environment = Limited {
            row: environment.id,
            company: environment.company_id,
            free,
        };
        let mut place = Position::InDoubt;
        self.context.learn(|cache| {
            let (found, wakes) = cache.stand(observed.looked(), environment);
            place = found;
            wakes
        });
        match place {
            Position::Served => Capacity::Free,
            Position::InDoubt => Capacity::InDoubt,
            Position::Waits(place) => {
                let holders: Vec<String> = limited
                    .holders
                    .iter()
                    .map(|holder| self.name_of(holder, lease))
                    .collect();
                Capacity::Full(capacity::full(limited.limit, limited.active, &holders, place))
            }
        }
    }

    /// A claim that could not be looked at for a reason of its own holds up nobody; its next look puts it back in its place.
    pub(super) fn stand_aside_after(&self, observed: &ObservedLease, error: &ReconcileError) {
        if error.is_of_one_object() {
            self.context.stand_aside(observed.looked());
        }
    }

    /// It is no claim any more.
    pub(super) fn leave_wait_queue(&self, observed: &ObservedLease) {
        self.context.learn(|cache| cache.leave_wait_queue(observed.looked()));
    }

    /// What a claim may know of who holds a lease: an object of its own cluster, and so of its own company, by name. One that waits
    /// is not called a holder, whatever its name was before or will be: a grant is committed before it is shown, and an object may
    /// be made again under the name of one whose lease has yet to end.
    fn name_of(&self, holder: &Holder, claim: &LeaseObject) -> String {
        let (Some(namespace), Some(name)) = (&holder.namespace, &holder.name) else {
            return "a lease of another writer".to_owned();
        };
        let cache = self.context.cache();
        match cache.leases.get(holder.id) {
            Some(lease) if lease.shows_that_it_waits() => BEING_GRANTED.to_owned(),
            None if self.context.settings.looks_after(namespace) => DELETED.to_owned(),
            _ if *namespace == claim.meta.namespace => name.clone(),
            _ => format!("{namespace}/{name}"),
        }
    }

    /// Whether a claim would be served if all leases of its environment ended now.
    pub(super) fn is_among_the_first(&self, id: Uuid, view: &LeaseSnapshot) -> bool {
        let limited = view.capacity.as_ref().zip(view.environment.as_ref());
        limited.is_some_and(|(limited, environment)| {
            let limit = usize::try_from(limited.limit).unwrap_or_default();
            self.context
                .cache()
                .wait_queue
                .first(environment.id, limit)
                .contains(&id)
        })
    }

    /// The sentence that a waiting claim shows, and after how long it has to be looked at again where that is not the present one:
    /// that of its place in the wait queue is rewritten every few seconds at most. Whenever the status is written, it is the present
    /// one.
    pub(super) fn sentence(&self, lease: &LeaseObject, reason: Reason, message: String) -> (String, Option<Duration>) {
        let shown = lease.status.as_ref().filter(|status| {
            status.reason == Some(reason) && status.observed_generation == Some(lease.meta.generation)
        });
        let shown = shown.and_then(|status| status.message.clone());
        if reason != Reason::CapacityFull || shown.as_ref() == Some(&message) {
            return (message, None);
        }
        // Who is being granted a lease has a name in a moment, and nobody has to be told twice.
        let (interval, pause) = if message.contains(BEING_GRANTED) {
            (UNNAMED_INTERVAL, QUIET_PAUSE)
        } else {
            (RETELL_INTERVAL, RETELL_INTERVAL)
        };
        let (id, told) = (lease.meta.uid, shown.is_some());
        let may_tell = |cache: &mut Cache| cache.wait_queue.may_tell(id, told, interval, Instant::now());
        match shown {
            Some(shown) if !self.context.cache.note(may_tell) => (shown, Some(pause)),
            Some(_) => (message, None),
            None => {
                self.context.cache.note(may_tell);
                (message, None)
            }
        }
    }
}

#[cfg(test)]
mod tests;
