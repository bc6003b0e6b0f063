//! How the events of the watches reach the cache and the queue.

use std::sync::Arc;

use kube::core::GroupVersionKind;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::cache::object::{EnvironmentObject, LeaseObject, NamespaceObject, RunObject, Watched};
use crate::cache::{Cache, RunKey, RunKindState, Wakes};
use crate::controller::context::Context;
use crate::controller::outside::permissions::Permissions;
use crate::controller::watch::list_watch::{WatchError, WatchEvent};
use crate::lifecycle::ResourceVersion;
use crate::runtime::configuration::NoticeSource;
use crate::runtime::health::{Health, kind_of_watch};

/// Where the events of one watch go.
pub struct Sink {
    /// Whose cache and queue they go to.
    pub context: Arc<Context>,
    /// What readiness hears of.
    pub health: Health,
    /// What hears of permissions that are refused.
    pub permissions: Permissions,
    /// How many watches have been listed that reconciling has to wait for.
    pub listed: watch::Sender<usize>,
    /// Complete lists are a reason to look for what was deleted unseen.
    pub missed_deletions: Arc<Notify>,
    /// The name of the watch in readiness.
    pub name: String,
    /// The Namespace that it is limited to.
    pub scope: Option<String>,
}

impl Sink {
    /// Takes an event of the kind `T` in. `counted`: the watch has been listed before.
    pub fn take<T: Fed>(&self, counted: &mut bool, kind: &GroupVersionKind, event: WatchEvent<T>) {
        let seen = match &event {
            WatchEvent::Listed { objects, .. } => objects.as_slice(),
            WatchEvent::Applied(object) => std::slice::from_ref(object),
            WatchEvent::Deleted(_) | WatchEvent::Heard | WatchEvent::Broken(_) => &[],
        };
        for part in seen.iter().flat_map(Watched::unreadable) {
            let metrics = &self.context.metrics.cluster;
            metrics.object_unreadable(kind_of_watch(&self.name), part);
        }
        let version = match &event {
            WatchEvent::Listed { resource_version, .. } => {
                self.permissions.granted("list", &self.name);
                Some(resource_version.clone())
            }
            WatchEvent::Broken(error) => {
                self.tell_trouble::<T>(error);
                None
            }
            WatchEvent::Applied(_) | WatchEvent::Deleted(_) | WatchEvent::Heard => {
                self.permissions.granted("watch", &self.name);
                self.health.watch_heard(&self.name);
                None
            }
        };
        self.context.learn_from(T::NOTICED_BY, |cache| {
            T::take(cache, kind, self.scope.as_deref(), event)
        });
        let Some(version) = version else { return };
        if !self.context.queue.is_open() || self.context.has_lapsed() {
            // A follower never gets to what is gone, nor does a leader while the database is away. Whoever leads next asks the
            // rows for whatever a list no longer holds.
            self.context.learn(|cache| T::forget_gone(cache, &version));
        }
        self.health.watch_listed(&self.name);
        self.context.metrics.cluster.watch_listed(kind_of_watch(&self.name));
        if !std::mem::replace(counted, true) {
            self.listed.send_modify(|listed| *listed += 1);
        }
        self.missed_deletions.notify_one();
    }
}

impl Sink {
    fn tell_trouble<T: Fed>(&self, error: &WatchError) {
        if let WatchError::Forbidden(message) = error {
            let lists = !message.contains(" cannot watch ");
            self.permissions
                .refused(if lists { "list" } else { "watch" }, &self.name, message);
        }
        let not_served = matches!(error, WatchError::NotServed);
        if !(T::MAY_BE_MISSING && not_served) {
            self.health.watch_failed(&self.name, error.to_string());
            if not_served {
                tracing::warn!(kind = self.name, %error, "nothing is known of this kind: its definition has to be installed");
            }
        } else if self.health.watch_not_served(&self.name) {
            tracing::warn!(
                kind = self.name,
                "the API server does not serve this kind: leases of it wait or go on"
            );
        }
    }
}

/// A kind with its place in the cache.
pub trait Fed: Watched {
    /// Which way of noticing its events are.
    const NOTICED_BY: NoticeSource;

    /// Whether the process is as it should be while the API server does not serve the kind.
    const MAY_BE_MISSING: bool = false;

    /// Takes an event of the watch of `kind`, limited to `scope`, in; whom it concerns.
    fn take(cache: &mut Cache, kind: &GroupVersionKind, scope: Option<&str>, event: WatchEvent<Self>) -> Wakes;

    /// Forgets what is gone and was no newer than a complete list.
    fn forget_gone(_: &mut Cache, _: &ResourceVersion) -> Wakes {
        Wakes::none()
    }
}

impl Fed for LeaseObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Watches;

    fn take(cache: &mut Cache, _: &GroupVersionKind, scope: Option<&str>, event: WatchEvent<Self>) -> Wakes {
        if let WatchEvent::Broken(_) = event {
            cache.lose_leases(scope);
        } else {
            cache.hear_leases(scope, Instant::now());
        }
        match event {
            WatchEvent::Applied(lease) => cache.apply_lease(lease),
            WatchEvent::Deleted(lease) => cache.delete_lease(lease),
            WatchEvent::Listed {
                objects,
                resource_version,
            } => cache.reset_leases(scope, objects, &resource_version),
            WatchEvent::Heard | WatchEvent::Broken(_) => Wakes::none(),
        }
    }

    fn forget_gone(cache: &mut Cache, version: &ResourceVersion) -> Wakes {
        cache.forget_gone_leases(version)
    }
}

impl Fed for EnvironmentObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Watches;

    fn take(cache: &mut Cache, _: &GroupVersionKind, scope: Option<&str>, event: WatchEvent<Self>) -> Wakes {
        match event {
            WatchEvent::Applied(environment) => cache.apply_environment(environment),
            WatchEvent::Deleted(environment) => cache.delete_environment(environment),
            WatchEvent::Listed {
                objects,
                resource_version,
            } => cache.reset_environments(scope, objects, &resource_version),
            WatchEvent::Heard | WatchEvent::Broken(_) => Wakes::none(),
        }
    }

    fn forget_gone(cache: &mut Cache, version: &ResourceVersion) -> Wakes {
        cache.forget_gone_environments(version);
        Wakes::none()
    }
}

impl Fed for NamespaceObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Watches;

    fn take(cache: &mut Cache, _: &GroupVersionKind, scope: Option<&str>, event: WatchEvent<Self>) -> Wakes {
        match event {
            WatchEvent::Applied(namespace) => cache.apply_namespace(namespace),
            WatchEvent::Deleted(namespace) => cache.delete_namespace(&namespace),
            WatchEvent::Listed { objects, .. } => cache.reset_namespaces(scope, objects),
            WatchEvent::Heard | WatchEvent::Broken(_) => Wakes::none(),
        }
    }
}

impl Fed for RunObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Objects;
    const MAY_BE_MISSING: bool = true;

    fn take(cache: &mut Cache, kind: &GroupVersionKind, scope: Option<&str>, event: WatchEvent<Self>) -> Wakes {
        match event {
            WatchEvent::Applied(run) => cache.apply_run(&RunKey::at(kind, &run.meta), run),
            WatchEvent::Deleted(run) => cache.delete_run(&RunKey::at(kind, &run.meta), &run),
            WatchEvent::Listed {
                objects,
                resource_version,
            } => cache.reset_runs(kind, scope, objects, &resource_version),
            WatchEvent::Broken(error) => {
                let state = match error {
                    WatchError::NotServed => RunKindState::NotServed,
                    WatchError::ClusterScoped => RunKindState::ClusterScoped,
                    _ => RunKindState::Unreadable,
                };
                cache.lose_run_kind(kind, scope, state);
                Wakes::none() // claims of the kind ask again by themselves, and what is held goes on
            }
            WatchEvent::Heard => Wakes::none(),
        }
    }
}
