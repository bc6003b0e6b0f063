//! A small cluster and a small database behind the traits of [`super::outside`], for tests of what happens between them. They keep what is
//! written, as the real ones do, and fail where a test asks for it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::context::{Context, ReconcileSettings};
use super::reconcile::Reconcilers;
use crate::cache::SharedCache;
use crate::cache::object::{EnvironmentObject, LeaseObject, NamespaceObject, Watched};
use crate::runtime::configuration::NoticeSource;
use crate::runtime::metrics::Metrics;
use crate::store::Mode;

mod cluster;
mod database;
mod rows;

pub use cluster::FakeCluster;
pub use database::{FakeDatabase, REFUSED};

/// When both begin, in seconds: the first of January 2026.
const EPOCH: i64 = 1_767_225_600;

/// A reconciler between the two.
pub type FakeReconcilers = Reconcilers<FakeDatabase, FakeCluster>;

/// A reconciler of an empty cluster and an empty database, with its queue open.
pub fn reconciler() -> Arc<FakeReconcilers> {
    reconciler_of(FakeCluster::default())
}

/// A reconciler of this cluster, of which it knows nothing yet, and an empty database, with its queue open.
pub fn reconciler_of(cluster: FakeCluster) -> Arc<FakeReconcilers> {
    let settings = ReconcileSettings {
        namespaces: Vec::new(),
        mode: Mode::Standalone,
        run_kinds: vec!["batch/v1/Job".parse().unwrap()],
        notice_by: [NoticeSource::Watches, NoticeSource::Objects].into(),
        unmanaged: None,
    };
    let context = Context::new(SharedCache::default(), Arc::new(Metrics::new()), settings);
    context.queue.open();
    let fake = Reconcilers::new(Arc::new(context), FakeDatabase::default(), cluster);
    Arc::new(fake)
}

/// The uid that a number stands for.
pub const fn uid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// A Namespace that is its own company.
pub fn namespace(name: &str, number: u128) -> Value {
    json!({ "metadata": { "name": name, "uid": uid(number) } })
}

/// An Environment that admits one lease at once.
pub fn environment(namespace: &str, name: &str, number: u128) -> Value {
    let sandbox = json!({ "driver": "Sandbox", "sandbox": { "provider": "kubernetes" }, "maxActiveLeases": 1 });
    json!({ "metadata": { "namespace": namespace, "name": name, "uid": uid(number) }, "spec": sandbox })
}

/// A claim for the environment of this name.
pub fn claim(namespace: &str, name: &str, number: u128, environment: &str) -> Value {
    json!({
        "metadata": { "namespace": namespace, "name": name, "uid": uid(number) },
        "spec": { "environmentRef": { "name": environment }, "acquireTimeoutSeconds": 60 },
    })
}

impl FakeReconcilers {
    /// Makes a Namespace, and its watch tells.
    pub fn make_namespace(&self, object: Value) {
        let namespace: NamespaceObject = self.cluster.make("namespaces", object);
        self.context.learn(|cache| cache.apply_namespace(namespace));
    }

    /// Makes an Environment, and its watch tells.
    pub fn make_environment(&self, object: Value) -> EnvironmentObject {
        let environment: EnvironmentObject = self.cluster.make("environments", object);
        let told = environment.clone();
        self.context.learn(|cache| cache.apply_environment(told));
        environment
    }

    /// Makes a lease, and its watch tells.
    pub fn make_lease(&self, object: Value) -> LeaseObject {
        let lease: LeaseObject = self.cluster.make("leases", object);
        let told = lease.clone();
        self.context.learn(|cache| cache.apply_lease(told));
        lease
    }

    /// Deletes a lease, and its watch tells.
    pub fn delete_lease_object(&self, namespace: &str, name: &str) {
        let lease: LeaseObject = self.cluster.remove("leases", namespace, name).unwrap();
        self.context.learn(|cache| cache.delete_lease(lease));
    }

    /// Reconciles whatever is ready, until for `limit` nothing becomes so, or a second has passed; how many keys that were.
    pub async fn settle(&self, limit: Duration) -> usize {
        let (mut count, begun) = (0, Instant::now());
        while begun.elapsed() < Duration::from_secs(1)
            && let Ok(key) = tokio::time::timeout(limit, self.context.queue.next()).await
        {
            count += 1;
            match crate::controller::workers::reconcile(self, key).await {
                Ok(()) => self.context.queue.done(key),
                Err(error) => {
                    crate::controller::workers::tell_of_failure(self, key, &error).await;
                    crate::controller::workers::put_back(&self.context, key);
                }
            }
        }
        count
    }

    /// What a lease shows: phase, reason and message.
    pub fn shown(&self, namespace: &str, name: &str) -> Option<[String; 3]> {
        let lease = self.cluster.get("leases", namespace, name)?;
        let status = lease.get("status")?.clone();
        Some(["phase", "reason", "message"].map(|field| status[field].as_str().unwrap_or_default().to_owned()))
    }
}

/// What a test has locked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

fn decode<T: Watched>(group: &str, kind: &str, object: Value) -> T {
    T::decode(group, kind, object).unwrap()
}
