//! A day of coming and going: whatever is remembered is forgotten again.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::core::GroupVersionKind;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::*;
use crate::cache::RunKey;
use crate::cache::object::{EnvironmentObject, LeaseObject, Meta, NamespaceObject, RunObject, Watched};
use crate::controller::fake::{FakeReconcilers, claim, environment, namespace, reconciler, uid};
use crate::controller::outside::permissions::Permissions;
use crate::controller::watch::list_watch::WatchEvent;
use crate::controller::watch::sink::{Fed, Sink};
use crate::runtime::health::Health;

const REST: Duration = Duration::from_millis(400);

const MINUTES: u64 = 24 * 60;

/// A world whose objects come and go, and watches that list it all at an interval.
struct Day {
    world: Arc<FakeReconcilers>,
    health: Health,
    number: u128,
    largest: BTreeMap<&'static str, usize>,
}

impl Day {
    fn next(&mut self) -> u128 {
        self.number += 1;
        self.number
    }

    /// A watch has listed all objects of a kind.
    fn list<T: Fed>(&self, kind: &GroupVersionKind, plural: &'static str) {
        let sink: Sink = Sink {
            context: self.world.context.clone(),
            health: self.health.clone(),
            permissions: Permissions::new(self.health.clone()),
            listed: watch::Sender::new(0),
            missed_deletions: Arc::new(Notify::new()),
            name: plural.to_owned(),
            scope: None,
        };
        let (objects, resource_version) = self.world.cluster.list(plural);
        sink.take::<T>(
            &mut false,
            kind,
            WatchEvent::Listed {
                objects,
                resource_version,
            },
        );
    }

    fn list_all(&self) {
        let kind = |kind| GroupVersionKind::gvk("paperclip.ing", "v1alpha1", kind);
        self.list::<NamespaceObject>(&kind("Namespace"), "namespaces");
        self.list::<EnvironmentObject>(&kind("Environment"), "environments");
        self.list::<LeaseObject>(&kind("EnvironmentLease"), "leases");
    }

    fn job(&mut self, minute: u64) {
        let key = RunKey {
            group: "batch".to_owned(),
            kind: "Job".to_owned(),
            namespace: "team".to_owned(),
            name: "build".to_owned(),
        };
        let uid = uid(self.next());
        let status = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
        let version = (1_000_000 + minute).to_string();
        let created = "2026-01-01T00:00:00Z";
        let metadata = json!({ "namespace": "team", "name": "build", "uid": uid, "resourceVersion": version, "creationTimestamp": created });
        let run = RunObject::decode("batch", "Job", json!({ "metadata": metadata, "status": status })).unwrap();
        self.world.context.learn(|cache| cache.apply_run(&key, run));
    }

    /// What comes and goes within a minute.
    fn come_and_go(&mut self, minute: u64) {
        let world = self.world.clone();
        // A lease under one of a few names: deleted with an event, or replaced without one.
        let name = format!("lease-{}", minute % 7);
        if minute.is_multiple_of(3) && world.cluster.get("leases", "team", &name).is_some() {
            world.delete_lease_object("team", &name);
        }
        let mut lease = claim("team", &name, self.next(), "box");
        lease["spec"]["heartbeatTimeoutSeconds"] = json!(3_600);
        if minute.is_multiple_of(5) {
            let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "build" });
            lease["spec"]["run"] = json!({ "objectRef": job });
        }
        world.make_lease(lease);
        if minute.is_multiple_of(2) {
            self.job(minute);
        }
        if minute.is_multiple_of(10) {
            world.make_environment(environment("team", "other", self.next()));
            let claim = claim("team", "for-other", self.next(), "other");
            world.make_lease(claim);
        }
        if minute.is_multiple_of(60) {
            let name = format!("team-{minute}");
            world.make_namespace(namespace(&name, self.next()));
            world.make_environment(environment(&name, "box", self.next()));
            world.make_lease(claim(&name, "x", self.next(), "box"));
            if let Some(before) = minute.checked_sub(60) {
                self.delete_everything_in(&format!("team-{before}"));
            }
        }
    }

    fn delete_everything_in(&self, namespace: &str) {
        let cluster = &self.world.cluster;
        let here = |meta: &Meta| meta.namespace == namespace;
        let (leases, _) = cluster.list::<LeaseObject>("leases");
        for lease in leases.iter().filter(|lease| here(&lease.meta)) {
            self.world.delete_lease_object(namespace, &lease.meta.name);
        }
        let (environments, _) = cluster.list::<EnvironmentObject>("environments");
        for environment in environments.iter().filter(|environment| here(&environment.meta)) {
            let gone = cluster
                .remove("environments", namespace, &environment.meta.name)
                .unwrap();
            self.world.context.learn(|cache| cache.delete_environment(gone));
        }
        if let Some(gone) = cluster.remove("namespaces", "", namespace) {
            self.world.context.learn(|cache| cache.delete_namespace(&gone));
        }
    }

    /// The database goes for half an hour, and the term with it; leadership goes elsewhere and comes back.
    fn fail_over(&self, minute: u64) {
        match minute % 180 {
            60 => {
                self.world.database.set_away(true);
                self.world.context.note_lapse(true);
            }
            90 => {
                self.world.database.set_away(false);
                self.world.context.note_lapse(false);
                self.world.context.learn(|cache| cache.begin_term(Instant::now()));
            }
            120 => self.world.context.queue.close(),
            130 => {
                self.world.context.queue.open();
                self.world.context.learn(|cache| cache.begin_term(Instant::now()));
            }
            _ => {}
        }
    }

    fn sizes(&self) -> BTreeMap<&'static str, usize> {
        let cache = self.world.context.cache().sizes();
        cache.into_iter().chain(self.world.context.queue.sizes()).collect()
    }

    fn measure(&mut self) {
        for (name, size) in self.sizes() {
            let largest = self.largest.entry(name).or_default();
            *largest = size.max(*largest);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_day_of_churn_as_much_is_remembered_as_before_it() {
    let world = reconciler();
    let mut day = Day {
        world: world.clone(),
        health: Health::new(Duration::from_secs(60)),
        number: 1_000,
        largest: BTreeMap::new(),
    };
    day.list_all();
    let before = day.sizes();
    world.make_namespace(namespace("team", 1));
    world.make_environment(environment("team", "box", 2));
    for minute in 0..MINUTES {
        day.fail_over(minute);
        day.come_and_go(minute);
        if minute.is_multiple_of(10) {
            day.list_all();
        }
        world.settle(REST).await;
        day.measure();
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    assert!(day.number > 2_500, "much has come and gone");
    for (name, size) in &day.largest {
        assert!(*size < 200, "{name}: {size} at once");
    }
    for namespace in ["team".to_owned(), format!("team-{}", MINUTES - 60)] {
        day.delete_everything_in(&namespace);
    }
    day.list_all();
    for _ in 0..10 {
        world.settle(REST).await;
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    let runs = day.world.context.cache().sizes();
    assert!(
        runs.iter()
            .any(|(name, size)| *name == "cache: run objects" && *size == 1),
        "the last Job is there"
    );
    let mut after = day.sizes();
    after.insert("cache: run objects", 0);
    assert_eq!(after, before);
}
