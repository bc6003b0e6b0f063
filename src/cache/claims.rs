//! Claims: which environments each may be for, whose it is, and its place in the wait queue.
//!
//! What a reconcile of a former leadership has found out moves nobody, nor does what one has found out about a lease that is
//! not there any more.

use tokio::time::Instant;
use uuid::Uuid;

use super::{Cache, Key, LOCAL_NAME, Reference, Wakes, Wants};
use crate::api::{EnvironmentLeaseStatus, LeasePhase, Reason};
use crate::cache::object::{EnvironmentObject, LeaseObject};
use crate::cache::wait_queue::Position;
use crate::cache::{Class, Lane};
use crate::lifecycle::lease_status::shown_ending;

/// A claim that has been looked at, in which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The lease.
    pub id: Uuid,
    /// See [`Cache::term`].
    pub term: u64,
}

/// The row of a limited environment, as far as a line forms there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// The row.
    pub row: Uuid,
    /// Its company.
    pub company: Uuid,
    /// How many leases are free.
    pub free: usize,
}

impl Cache {
    /// Rises with each leadership of this replica.
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// A leadership begins: no claim has been looked at, and no silence from before it counts. Everybody is looked at.
    pub fn begin_term(&mut self, now: Instant) -> Wakes {
        self.term += 1;
        self.wait_queue.begin();
        self.begin_leadership(now);
        let leases = self.leases.known().into_iter().map(Key::Lease);
        let environments = self.environments.known().into_iter().map(Key::Environment);
        let there = |key: &Key| match key {
            Key::Lease(uid) => self.leases.get(*uid).is_some(),
            Key::Environment(uid) => self.environments.get(*uid).is_some(),
        };
        let (listed, gone): (Vec<Key>, Vec<Key>) = environments.chain(leases).partition(there);
        Wakes {
            listed,
            changed: self.missed_deletions.iter().copied().chain(gone).collect(),
        }
    }

    /// Whether what was found out about a claim still counts.
    fn counts(&self, of: Looked) -> bool {
        of.term == self.term && self.leases.get(of.id).is_some()
    }

    /// Nothing else holds the claim back: it stands in the wait queue of this environment. Its place, and who has to be looked at.
    pub fn stand(&mut self, of: Looked, environment: Limited) -> (Position, Wakes) {
        let Some(lease) = self.leases.get(of.id).filter(|_| self.counts(of)).cloned() else {
            return (Position::InDoubt, Wakes::none());
        };
        let wants = self.wants_of(&lease);
        self.wait_queue.arrive(of.id, lease.meta.created_at, wants);
        let woken = self.wait_queue.stand(of.id, environment.row);
        let wants = self.wants_of_row(environment.row, environment.company);
        let place = self.wait_queue.place(of.id, environment.row, environment.free, wants);
        (place, Wakes::of_leases(woken))
    }

    /// Something else holds the claim back; who has to be looked at.
    pub fn stand_aside(&mut self, of: Looked) -> Wakes {
        if !self.counts(of) {
            return Wakes::none();
        }
        Wakes::of_leases(self.wait_queue.stand_aside(of.id))
    }

    /// It is no claim any more; who has to be looked at.
    pub fn leave_wait_queue(&mut self, of: Looked) -> Wakes {
        if of.term != self.term {
            return Wakes::none();
        }
        Wakes::of_leases(self.wait_queue.leave(of.id))
    }

    /// A read has shown in which Namespace (uid) a claim is.
    pub fn note_namespace(&mut self, claim: Uuid, namespace: Uuid) {
        if self.leases.get(claim).is_some() {
            self.namespaces_of_claims.insert(claim, namespace);
        }
    }

    /// Whether it is news that the row of this lease was rewritten after its end.
    pub fn note_rewritten(&mut self, lease: Uuid) -> bool {
        self.leases.get(lease).is_some() && self.rewritten.insert(lease)
    }

    /// Claims that may be helped by a change of this environment: those that name it, and those of its company that name none
    /// or a `local`.
    pub fn claims_for(&self, environment: &EnvironmentObject) -> Vec<Key> {
        let (namespace, named) = (&environment.meta.namespace, Wants::named(&environment.meta));
        [named, self.any_of(namespace), Wants::OfNamespace(namespace.clone())]
            .into_iter()
            .flat_map(|wants| self.leases_of(&Reference::Claim(wants)))
            .collect()
    }

    /// The leases that may hold this environment's row: they show that, or no grant yet (one is committed before it is shown)
    /// and may be for the row's object.
    pub fn leases_of_row(&self, row: Uuid, object: Option<&EnvironmentObject>) -> Vec<Key> {
        let claims = object.map(|object| self.claims_for(object));
        let mut leases = self.leases_of(&Reference::Row(row));
        leases.extend(claims.into_iter().flatten());
        leases
    }

    pub(super) fn wants_of(&self, claim: &LeaseObject) -> Wants {
        let reference = claim.spec.environment_ref.as_ref();
        match reference.filter(|reference| reference.name != LOCAL_NAME) {
            Some(reference) => Wants::Named(claim.meta.namespace.clone(), reference.name.clone()),
            None => self.any_of(&claim.meta.namespace),
        }
    }

    fn any_of(&self, namespace: &str) -> Wants {
        match self.company_of(namespace) {
            Some(company) => Wants::OfCompany(company),
            None => Wants::OfNamespace(namespace.to_owned()),
        }
    }

    /// The company of a Namespace as its label says; a malformed one names none, and the Namespace stands for itself.
    pub(super) fn company_of(&self, namespace: &str) -> Option<Uuid> {
        let namespace = self.namespaces.get(namespace)?;
        Some(namespace.company().unwrap_or(namespace.meta.uid))
    }

    /// Those that show nothing yet, or that the database could not be used for them.
    pub fn without_store(&self) -> Vec<Key> {
        let leases = self.leases.iter().filter(|lease| {
            let status = lease.status.as_ref();
            let says = |status: &EnvironmentLeaseStatus| status.reason == Some(Reason::StoreUnavailable);
            status.is_none_or(says) && !lease.meta.deleting
        });
        let environments = self.environments.iter().filter(|environment| {
            let ready = environment.status.as_ref().map(|status| status.conditions.first());
            ready.is_none_or(|ready| ready.is_some_and(|ready| ready.reason == Reason::StoreUnavailable))
        });
        let leases = leases.map(|lease| Key::Lease(lease.meta.uid));
        leases
            .chain(environments.map(|environment| Key::Environment(environment.meta.uid)))
            .collect()
    }

    /// Where a key waits.
    pub fn lane(&self, key: &Key) -> Lane {
        let (class, namespace) = match key {
            Key::Lease(uid) => match (self.leases.get(*uid), self.leases.gone(*uid)) {
                (Some(lease), _) => (class_of(lease), Some(&lease.meta.namespace)),
                (None, gone) => (Class::Ending, gone.map(|lease| &lease.meta.namespace)),
            },
            Key::Environment(uid) => match (self.environments.get(*uid), self.environments.gone(*uid)) {
                (Some(environment), _) => (Class::Grant, Some(&environment.meta.namespace)),
                (None, gone) => (Class::Ending, gone.map(|environment| &environment.meta.namespace)),
            },
        };
        let company = namespace.and_then(|namespace| self.company_of(namespace));
        Lane {
            class,
            company: company.unwrap_or_default(),
        }
    }
}

fn class_of(lease: &LeaseObject) -> Class {
    let status = lease.status.as_ref();
    match status.and_then(|status| status.phase) {
        Some(LeasePhase::Active | LeasePhase::Retained) => Class::Ending,
        _ if status.and_then(shown_ending).is_some() => Class::Resync,
        _ => Class::Grant,
    }
}
