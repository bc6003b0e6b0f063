//! How the events of the watches reach the cache and the queue.

use std::sync::Arc;

use kube::core::GroupVersionKind;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::cache::object::{EnvironmentObject, LeaseObject, NamespaceObject, RunObject, Watched};
use crate::cache::{Index, RunKey, RunKindState, Wakes};
use crate::controller::context::Context;
use crate::controller::outside::permissions::Rights;
use crate::controller::watch::list_watch::{FeedError, FeedEvent};
use crate::lifecycle::ResourceVersion;
use crate::runtime::configuration::NoticeSource;
use crate::runtime::health::{Health, kind_of_feed};

/// Where the events of one feed go.
pub struct Sink {
    /// Whose cache and queue they go to.
    pub context: Arc<Context>,
    /// What readiness hears of.
    pub health: Health,
    /// What hears of rights that are refused.
    pub rights: Rights,
    /// How many feeds have been listed that reconciling has to wait for.
    pub listed: watch::Sender<usize>,
    /// Complete lists are a reason to look for what was deleted unseen.
    pub tombstones: Arc<Notify>,
    /// The name of the feed in readiness.
    pub name: String,
    /// The Namespace that it is limited to.
    pub scope: Option<String>,
}

impl Sink {
    /// Takes an event of the kind `T` in. `counted`: the feed has been listed before.
    pub fn take<T: Fed>(&self, counted: &mut bool, kind: &GroupVersionKind, event: FeedEvent<T>) {
        let seen = match &event {
            FeedEvent::Listed { objects, .. } => objects.as_slice(),
            FeedEvent::Applied(object) => std::slice::from_ref(object),
            FeedEvent::Deleted(_) | FeedEvent::Heard | FeedEvent::Broken(_) => &[],
        };
        for part in seen.iter().flat_map(Watched::unreadable) {
            let metrics = &self.context.metrics.cluster;
            metrics.object_unreadable(kind_of_feed(&self.name), part);
        }
        let version = match &event {
            FeedEvent::Listed { resource_version, .. } => {
                self.rights.granted("list", &self.name);
                Some(resource_version.clone())
            }
            FeedEvent::Broken(error) => {
                self.tell_trouble::<T>(error);
                None
            }
            FeedEvent::Applied(_) | FeedEvent::Deleted(_) | FeedEvent::Heard => {
                self.rights.granted("watch", &self.name);
                self.health.feed_heard(&self.name);
                None
            }
        };
        self.context.learn_from(T::NOTICED_BY, |index| {
            T::take(index, kind, self.scope.as_deref(), event)
        });
        let Some(version) = version else { return };
        if !self.context.queue.is_open() || self.context.has_lapsed() {
            // A follower never gets to what is gone, nor does a leader while the database is away. Whoever leads next asks the
            // rows for whatever a list no longer holds.
            self.context.learn(|index| T::forget_gone(index, &version));
        }
        self.health.feed_listed(&self.name);
        self.context.metrics.cluster.feed_listed(kind_of_feed(&self.name));
        if !std::mem::replace(counted, true) {
            self.listed.send_modify(|listed| *listed += 1);
        }
        self.tombstones.notify_one();
    }
}

impl Sink {
    fn tell_trouble<T: Fed>(&self, error: &FeedError) {
        if let FeedError::Forbidden(message) = error {
            let lists = !message.contains(" cannot watch ");
            self.rights
                .refused(if lists { "list" } else { "watch" }, &self.name, message);
        }
        let not_served = matches!(error, FeedError::NotServed);
        if !(T::MAY_BE_MISSING && not_served) {
            self.health.feed_failed(&self.name, error.to_string());
            if not_served {
                tracing::warn!(kind = self.name, %error, "nothing is known of this kind: its definition has to be installed");
            }
        } else if self.health.feed_not_served(&self.name) {
            tracing::warn!(
                kind = self.name,
                "the API server does not serve this kind: leases of it wait or go on"
            );
        }
    }
}

/// A kind with its place in the index.
pub trait Fed: Watched {
    /// Which way of noticing its events are.
    const NOTICED_BY: NoticeSource;

    /// Whether the process is as it should be while the API server does not serve the kind.
    const MAY_BE_MISSING: bool = false;

    /// Takes an event of the feed of `kind`, limited to `scope`, in; whom it concerns.
    fn take(index: &mut Index, kind: &GroupVersionKind, scope: Option<&str>, event: FeedEvent<Self>) -> Wakes;

    /// Forgets what is gone and was no newer than a complete list.
    fn forget_gone(_: &mut Index, _: &ResourceVersion) -> Wakes {
        Wakes::none()
    }
}

impl Fed for LeaseObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Feeds;

    fn take(index: &mut Index, _: &GroupVersionKind, scope: Option<&str>, event: FeedEvent<Self>) -> Wakes {
        if let FeedEvent::Broken(_) = event {
            index.lose_leases(scope);
        } else {
            index.hear_leases(scope, Instant::now());
        }
        match event {
            FeedEvent::Applied(lease) => index.apply_lease(lease),
            FeedEvent::Deleted(lease) => index.delete_lease(lease),
            FeedEvent::Listed {
                objects,
                resource_version,
            } => index.reset_leases(scope, objects, &resource_version),
            FeedEvent::Heard | FeedEvent::Broken(_) => Wakes::none(),
        }
    }

    fn forget_gone(index: &mut Index, version: &ResourceVersion) -> Wakes {
        index.forget_gone_leases(version)
    }
}

impl Fed for EnvironmentObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Feeds;

    fn take(index: &mut Index, _: &GroupVersionKind, scope: Option<&str>, event: FeedEvent<Self>) -> Wakes {
        match event {
            FeedEvent::Applied(environment) => index.apply_environment(environment),
            FeedEvent::Deleted(environment) => index.delete_environment(environment),
            FeedEvent::Listed {
                objects,
                resource_version,
            } => index.reset_environments(scope, objects, &resource_version),
            FeedEvent::Heard | FeedEvent::Broken(_) => Wakes::none(),
        }
    }

    fn forget_gone(index: &mut Index, version: &ResourceVersion) -> Wakes {
        index.forget_gone_environments(version);
        Wakes::none()
    }
}

impl Fed for NamespaceObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Feeds;

    fn take(index: &mut Index, _: &GroupVersionKind, scope: Option<&str>, event: FeedEvent<Self>) -> Wakes {
        match event {
            FeedEvent::Applied(namespace) => index.apply_namespace(namespace),
            FeedEvent::Deleted(namespace) => index.delete_namespace(&namespace),
            FeedEvent::Listed { objects, .. } => index.reset_namespaces(scope, objects),
            FeedEvent::Heard | FeedEvent::Broken(_) => Wakes::none(),
        }
    }
}

impl Fed for RunObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Objects;
    const MAY_BE_MISSING: bool = true;

    fn take(index: &mut Index, kind: &GroupVersionKind, scope: Option<&str>, event: FeedEvent<Self>) -> Wakes {
        match event {
            FeedEvent::Applied(run) => index.apply_run(&RunKey::at(kind, &run.meta), run),
            FeedEvent::Deleted(run) => index.delete_run(&RunKey::at(kind, &run.meta), &run),
            FeedEvent::Listed {
                objects,
                resource_version,
            } => index.reset_runs(kind, scope, objects, &resource_version),
            FeedEvent::Broken(error) => {
                let state = match error {
                    FeedError::NotServed => RunKindState::NotServed,
                    FeedError::ClusterScoped => RunKindState::ClusterScoped,
                    _ => RunKindState::Unreadable,
                };
                index.lose_run_kind(kind, scope, state);
                Wakes::none() // claims of the kind ask again by themselves, and what is held goes on
            }
            FeedEvent::Heard => Wakes::none(),
        }
    }
}
