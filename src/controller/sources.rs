//! The feeds that are followed, and how their events reach the index and the queue.

use std::sync::Arc;

use kube::core::{ApiResource, GroupVersionKind};
use tokio::sync::{Notify, watch};

use super::feed::{FeedEvent, Source};
use super::index::{Index, Key, RunKey};
use super::object::{EnvironmentObject, LeaseObject, NamespaceObject, RunObject, Watched};
use super::reconcile::Reconciler;
use crate::api::{Environment, EnvironmentLease};
use crate::runtime::configuration::{NoticeSource, RunKind};
use crate::runtime::health::Health;

/// The source of a kind that is known beforehand.
pub fn known<K: kube::Resource<DynamicType = ()>>(namespace: Option<&str>) -> Source {
    let resource = ApiResource::erase::<K>(&());
    let kind = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
    Source {
        kind,
        resource: Some(resource),
        namespace: namespace.map(str::to_owned),
        name: None,
    }
}

/// The Environments of a Namespace, or all.
pub fn environments(namespace: Option<&str>) -> Source {
    known::<Environment>(namespace)
}

/// The leases of a Namespace, or all.
pub fn leases(namespace: Option<&str>) -> Source {
    known::<EnvironmentLease>(namespace)
}

/// All Namespaces, or the one of this name.
pub fn namespaces(name: Option<&str>) -> Source {
    Source {
        name: name.map(str::to_owned),
        ..known::<k8s_openapi::api::core::v1::Namespace>(None)
    }
}

/// The run objects of a configured kind.
pub fn runs(kind: &RunKind, namespace: Option<&str>) -> Source {
    let kind = GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind);
    Source {
        kind,
        resource: None,
        namespace: namespace.map(str::to_owned),
        name: None,
    }
}

/// Where the events of one feed go.
pub struct Sink<D, C> {
    /// Whose index and queue they go to.
    pub reconciler: Arc<Reconciler<D, C>>,
    /// What readiness hears of.
    pub health: Health,
    /// How many feeds have been listed that reconciling has to wait for.
    pub listed: watch::Sender<usize>,
    /// Complete lists are a reason to look for what was deleted unseen.
    pub tombstones: Arc<Notify>,
    /// The name of the feed in readiness and metrics.
    pub name: String,
    /// The Namespace that it is limited to.
    pub scope: Option<String>,
}

impl<D, C> Sink<D, C> {
    /// Takes an event of the kind `T` in.
    pub fn take<T: Fed>(&self, counted: &mut bool, kind: &GroupVersionKind, event: FeedEvent<T>) {
        let scope = self.scope.as_deref();
        let mut index = self.reconciler.index();
        let keys = match event {
            FeedEvent::Applied(object) => T::apply(&mut index, kind, object),
            FeedEvent::Deleted(object) => T::delete(&mut index, kind, object),
            FeedEvent::Listed {
                objects,
                resource_version,
            } => {
                let keys = T::reset(&mut index, kind, scope, objects, &resource_version);
                self.health.feed_listed(&self.name);
                self.reconciler.metrics.feed_listed(&self.name);
                if !std::mem::replace(counted, true) {
                    self.listed.send_modify(|listed| *listed += 1);
                }
                self.tombstones.notify_one();
                keys
            }
            FeedEvent::Heard => Vec::new(),
            FeedEvent::Broken(error) => {
                self.health.feed_failed(&self.name, error.to_string());
                return;
            }
        };
        drop(index);
        self.health.feed_heard(&self.name);
        self.reconciler.admit(T::NOTICED_BY, keys);
    }
}

impl<D, C> Reconciler<D, C> {
    /// Asks for keys that `source` has noticed. A source that may not end leases passes over those that are held.
    pub fn admit(&self, source: NoticeSource, mut keys: Vec<Key>) {
        if !self.settings.notice_by.contains(&source) {
            let index = self.index();
            keys.retain(|key| !index.is_held(key));
        }
        self.queue.extend(keys);
    }
}

/// A kind with its place in the index.
pub trait Fed: Watched {
    /// Which way of noticing its events are.
    const NOTICED_BY: NoticeSource;

    /// An object was made or has changed.
    fn apply(index: &mut Index, kind: &GroupVersionKind, object: Self) -> Vec<Key>;

    /// An object was deleted.
    fn delete(index: &mut Index, kind: &GroupVersionKind, object: Self) -> Vec<Key>;

    /// All objects of the scope were listed.
    fn reset(
        index: &mut Index,
        kind: &GroupVersionKind,
        scope: Option<&str>,
        objects: Vec<Self>,
        version: &crate::lifecycle::ResourceVersion,
    ) -> Vec<Key>;
}

impl Fed for LeaseObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Feeds;

    fn apply(index: &mut Index, _: &GroupVersionKind, object: Self) -> Vec<Key> {
        index.apply_lease(object)
    }

    fn delete(index: &mut Index, _: &GroupVersionKind, object: Self) -> Vec<Key> {
        index.delete_lease(object)
    }

    fn reset(
        index: &mut Index,
        _: &GroupVersionKind,
        scope: Option<&str>,
        objects: Vec<Self>,
        version: &crate::lifecycle::ResourceVersion,
    ) -> Vec<Key> {
        index.reset_leases(scope, objects, version)
    }
}

impl Fed for EnvironmentObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Feeds;

    fn apply(index: &mut Index, _: &GroupVersionKind, object: Self) -> Vec<Key> {
        index.apply_environment(object)
    }

    fn delete(index: &mut Index, _: &GroupVersionKind, object: Self) -> Vec<Key> {
        index.delete_environment(object)
    }

    fn reset(
        index: &mut Index,
        _: &GroupVersionKind,
        scope: Option<&str>,
        objects: Vec<Self>,
        version: &crate::lifecycle::ResourceVersion,
    ) -> Vec<Key> {
        index.reset_environments(scope, objects, version)
    }
}

impl Fed for NamespaceObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Feeds;

    fn apply(index: &mut Index, _: &GroupVersionKind, object: Self) -> Vec<Key> {
        index.apply_namespace(object)
    }

    fn delete(index: &mut Index, _: &GroupVersionKind, object: Self) -> Vec<Key> {
        index.delete_namespace(&object)
    }

    fn reset(
        index: &mut Index,
        _: &GroupVersionKind,
        scope: Option<&str>,
        objects: Vec<Self>,
        _: &crate::lifecycle::ResourceVersion,
    ) -> Vec<Key> {
        index.reset_namespaces(scope, objects)
    }
}

impl Fed for RunObject {
    const NOTICED_BY: NoticeSource = NoticeSource::Objects;

    fn apply(index: &mut Index, kind: &GroupVersionKind, object: Self) -> Vec<Key> {
        index.apply_run(run_key(kind, &object), object)
    }

    fn delete(index: &mut Index, kind: &GroupVersionKind, object: Self) -> Vec<Key> {
        index.delete_run(&run_key(kind, &object), &object)
    }

    fn reset(
        index: &mut Index,
        kind: &GroupVersionKind,
        scope: Option<&str>,
        objects: Vec<Self>,
        version: &crate::lifecycle::ResourceVersion,
    ) -> Vec<Key> {
        index.reset_runs(&kind.group, &kind.kind, scope, objects, version)
    }
}

fn run_key(kind: &GroupVersionKind, run: &RunObject) -> RunKey {
    RunKey {
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        namespace: run.meta.namespace.clone(),
        name: run.meta.name.clone(),
    }
}
