//! A claim for a limited environment: its place in line, what it is told, and who is looked at when a lease gets free.

use tokio::time::Instant;
use uuid::Uuid;

use super::LeaseReconciler;
use crate::api::Reason;
use crate::cache::Limited;
use crate::cache::object::LeaseObject;
use crate::cache::wait_queue::Place;
use crate::controller::error::ReconcileError;
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::lifecycle::capacity::{self, Capacity};
use crate::lifecycle::lease::{Decision, Facts, decide};
use crate::projection::facts::Subject;
use crate::store::lease_object::{Holder, LeaseView};

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// Whether there is room for a claim. One that nothing else holds back stands in line from here on, any other aside.
    pub(super) fn room_for(&self, subject: &Subject, lease: &LeaseObject, view: &LeaseView, facts: &Facts) -> Capacity {
        let limited = view.capacity.as_ref().zip(view.environment.as_ref());
        let Some((limited, environment)) = limited.filter(|_| decide(facts) == Decision::Grant) else {
            self.context.stand_aside(subject.looked());
            return Capacity::Free;
        };
        let free = usize::try_from(limited.limit - limited.active).unwrap_or_default();
        let environment = Limited {
            row: environment.id,
            company: environment.company_id,
            free,
        };
        let mut place = Place::InDoubt;
        self.context.learn(|index| {
            let (found, wakes) = index.stand(subject.looked(), environment);
            place = found;
            wakes
        });
        match place {
            Place::Served => Capacity::Free,
            Place::InDoubt => Capacity::InDoubt,
            Place::Waits(place) => {
                let holders: Vec<String> = limited.holders.iter().map(|holder| name_of(holder, lease)).collect();
                Capacity::Full(capacity::full(limited.limit, limited.active, &holders, place))
            }
        }
    }

    /// A claim that could not be looked at for a reason of its own holds up nobody; its next look puts it back in its place.
    pub(super) fn stand_aside_after(&self, subject: &Subject, error: &ReconcileError) {
        if error.is_of_one_object() {
            self.context.stand_aside(subject.looked());
        }
    }

    /// It is no claim any more.
    pub(super) fn leave_line(&self, subject: &Subject) {
        self.context.learn(|index| index.leave_line(subject.looked()));
    }

    /// Whether a claim would be served if all leases of its environment ended now.
    pub(super) fn is_among_the_first(&self, id: Uuid, view: &LeaseView) -> bool {
        let limited = view.capacity.as_ref().zip(view.environment.as_ref());
        limited.is_some_and(|(limited, environment)| {
            let limit = usize::try_from(limited.limit).unwrap_or_default();
            self.context.index().line.first(environment.id, limit).contains(&id)
        })
    }

    /// The sentence that a waiting claim shows: that of its place in line is rewritten once a minute at most.
    pub(super) fn sentence(&self, lease: &LeaseObject, reason: Reason, message: String) -> String {
        if reason != Reason::CapacityFull {
            return message;
        }
        let shown = lease.status.as_ref().filter(|status| status.reason == Some(reason));
        let shown = shown.and_then(|status| status.message.clone());
        if shown.as_ref() == Some(&message) {
            return message;
        }
        let (id, told) = (lease.meta.uid, shown.is_some());
        let may_tell = self
            .context
            .index
            .note(|index| index.line.may_tell(id, told, Instant::now()));
        shown.filter(|_| !may_tell).unwrap_or(message)
    }
}

/// What a claim may know of who holds a lease: an object of its own cluster, and so of its own company, by name.
fn name_of(holder: &Holder, claim: &LeaseObject) -> String {
    match (&holder.namespace, &holder.name) {
        (Some(namespace), Some(name)) if *namespace == claim.meta.namespace => name.clone(),
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => "a lease of another writer".to_owned(),
    }
}
