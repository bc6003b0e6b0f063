//! The cache is synchronous: events in, keys out.

use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::*;
use crate::api::{Driver, EnvironmentPhase, LeasePhase, LeasePolicy, Reason};
use crate::cache::object::{RunObject, Watched};
use crate::cache::object_counts::LeasesBy;
use crate::lifecycle::{RunEnd, RunOutcome};

fn metadata(namespace: &str, name: &str, uid: u128, version: u64) -> Value {
    json!({
        "namespace": namespace, "name": name, "uid": Uuid::from_u128(uid), "resourceVersion": version.to_string(),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    })
}

fn lease(namespace: &str, name: &str, uid: u128, version: u64) -> LeaseObject {
    let reference = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "job" });
    let object =
        json!({ "metadata": metadata(namespace, name, uid, version), "spec": { "run": { "objectRef": reference } } });
    LeaseObject::decode("", "", object).unwrap()
}

fn job(uid: u128, version: u64, status: Value) -> RunObject {
    let object = json!({ "metadata": metadata("a", "job", uid, version), "status": status });
    RunObject::decode("batch", "Job", object).unwrap()
}

fn job_key() -> RunKey {
    RunKey {
        group: "batch".into(),
        kind: "Job".into(),
        namespace: "a".into(),
        name: "job".into(),
    }
}

fn job_kind() -> GroupVersionKind {
    GroupVersionKind::gvk("batch", "v1", "Job")
}

fn version(number: u64) -> ResourceVersion {
    ResourceVersion::parse(&number.to_string()).unwrap()
}

fn key(uid: u128) -> Key {
    Key::Lease(Uuid::from_u128(uid))
}

fn ended(outcome: RunOutcome) -> Option<RunEnd> {
    Some(RunEnd { outcome, at: None })
}

#[test]
fn an_older_version_of_an_object_changes_nothing() {
    let mut cache = Cache::default();
    assert_eq!(cache.apply_lease(lease("a", "x", 1, 10)), [key(1)]);
    assert_eq!(cache.apply_lease(lease("a", "x", 1, 10)), []);
    assert_eq!(cache.apply_lease(lease("a", "x", 1, 9)), []);
    let known = |cache: &Cache| {
        cache
            .leases
            .get(Uuid::from_u128(1))
            .unwrap()
            .meta
            .resource_version
            .clone()
    };
    assert_eq!(known(&cache), version(10));
    assert_eq!(
        cache.apply_lease(lease("a", "x", 1, 11)),
        [],
        "nothing that counts has changed"
    );
    assert_eq!(known(&cache), version(11));
}

#[test]
fn another_uid_under_the_same_name_is_another_object_and_the_older_one_is_gone() {
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("a", "x", 1, 10));
    let _ = cache.apply_lease(lease("a", "x", 2, 20));
    assert!(cache.leases.get(Uuid::from_u128(1)).is_none() && cache.leases.gone(Uuid::from_u128(1)).is_some());
    assert_eq!(cache.leases.named("a", "x").unwrap().meta.uid, Uuid::from_u128(2));
    // The late news of the first one's end does not touch the second.
    let _ = cache.delete_lease(lease("a", "x", 1, 15));
    assert!(cache.leases.named("a", "x").is_some());
}

#[test]
fn a_replaced_object_is_reconciled_too() {
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("a", "x", 1, 10));
    let keys = cache.apply_lease(lease("a", "x", 2, 20)).sorted();
    assert_eq!(keys, [key(1), key(2)]);
}

#[test]
fn a_complete_list_shows_what_is_gone_in_its_scope_and_not_beyond() {
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("a", "x", 1, 10));
    let _ = cache.apply_lease(lease("b", "x", 2, 10));
    let _ = cache.apply_lease(lease("a", "newer", 3, 40));
    let keys = cache
        .reset_leases(Some("a"), vec![lease("a", "y", 4, 20)], &version(30))
        .sorted();
    assert_eq!(keys, [key(1), key(4)]);
    assert!(cache.leases.gone(Uuid::from_u128(1)).is_some());
    assert!(cache.leases.get(Uuid::from_u128(2)).is_some(), "another namespace");
    assert!(cache.leases.get(Uuid::from_u128(3)).is_some(), "newer than the list");
}

#[test]
fn the_outcome_of_a_run_that_vanished_is_kept_while_a_lease_names_it() {
    let mut cache = Cache::default();
    let failed = json!({ "conditions": [{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded" }] });
    let _ = cache.apply_lease(lease("a", "x", 1, 10));
    assert_eq!(cache.apply_run(&job_key(), job(7, 11, json!({}))), [key(1)]);
    assert_eq!(cache.delete_run(&job_key(), &job(7, 12, failed)), [key(1)]);
    let pinned = Some(Uuid::from_u128(7));
    assert_eq!(
        cache.run(&job_key(), pinned),
        KnownRun::Vanished(ended(RunOutcome::Failed))
    );
    assert_eq!(cache.run(&job_key(), None), KnownRun::Unknown);
    // Another Job under the same name is another run.
    let _ = cache.apply_run(&job_key(), job(8, 13, json!({})));
    assert_eq!(
        cache.run(&job_key(), pinned),
        KnownRun::Vanished(ended(RunOutcome::Failed))
    );
    // With the last lease goes the memory.
    let _ = cache.delete_lease(lease("a", "x", 1, 14));
    let _ = cache.forget_lease(Uuid::from_u128(1));
    assert_eq!(cache.run(&job_key(), pinned), KnownRun::Unknown);
}

#[test]
fn a_run_that_vanished_unseen_is_found_by_the_next_list() {
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("a", "x", 1, 10));
    let _ = cache.apply_run(&job_key(), job(7, 11, json!({})));
    assert_eq!(cache.run_kind(&job_key()), None);
    let woken = cache.reset_runs(&job_kind(), None, Vec::new(), &version(20));
    assert_eq!(woken.sorted(), [key(1)]);
    assert_eq!(
        cache.run(&job_key(), Some(Uuid::from_u128(7))),
        KnownRun::Vanished(None)
    );
    assert_eq!(cache.run_kind(&job_key()), Some(RunKindState::Listed));
}

#[test]
fn a_namespace_concerns_what_is_in_it_only_when_its_label_or_its_end_comes() {
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("a", "x", 1, 10));
    let namespace = |version, labels: Value| {
        let mut metadata = metadata("", "a", 5, version);
        metadata["labels"] = labels;
        NamespaceObject::decode("", "Namespace", json!({ "metadata": metadata })).unwrap()
    };
    assert_eq!(cache.apply_namespace(namespace(1, json!({}))), [key(1)]);
    assert_eq!(cache.apply_namespace(namespace(2, json!({ "other": "label" }))), []);
    assert_eq!(
        cache.apply_namespace(namespace(3, json!({ "paperclip.ing/company-id": "c" }))),
        [key(1)]
    );
}

#[test]
fn a_namespace_that_a_list_does_not_hold_concerns_what_is_in_it_like_a_deletion() {
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("a", "x", 1, 10));
    let namespace = json!({ "metadata": metadata("", "a", 5, 1) });
    let namespace = NamespaceObject::decode("", "Namespace", namespace).unwrap();
    let _ = cache.apply_namespace(namespace.clone());
    assert_eq!(cache.reset_namespaces(None, Vec::new()), [key(1)]);
    let _ = cache.apply_namespace(namespace.clone());
    assert_eq!(cache.delete_namespace(&namespace), [key(1)]);
}

#[test]
fn a_lease_whose_run_a_list_does_not_hold_is_as_urgent_as_one_whose_run_was_told_of() {
    let mut held = lease("a", "x", 1, 10);
    held.status = serde_json::from_value(json!({ "phase": "Active" })).unwrap();
    let shared = SharedCache::default();
    let woken = |change: &dyn Fn(&mut Cache) -> Wakes| {
        let woken = shared.change(change, |_, _| true);
        woken.into_iter().map(|(_, lane)| lane.class).min()
    };
    woken(&|cache| cache.apply_lease(held.clone()));
    woken(&|cache| cache.apply_run(&job_key(), job(7, 11, json!({}))));
    let listed =
        |runs: Vec<RunObject>, at| woken(&|cache| cache.reset_runs(&job_kind(), None, runs.clone(), &version(at)));
    assert_eq!(
        listed(vec![job(7, 11, json!({}))], 20),
        Some(Class::Resync),
        "nothing new"
    );
    assert_eq!(listed(Vec::new(), 30), Some(Class::Ending));
}

#[test]
fn whichever_row_an_environment_shows_at_last_none_is_remembered_after_it() {
    let shows = |row: u128, version| {
        let status = json!({ "environmentId": Uuid::from_u128(row) });
        let object =
            json!({ "metadata": metadata("a", "x", 1, version), "spec": { "driver": "Local" }, "status": status });
        EnvironmentObject::decode("", "", object).unwrap()
    };
    let mut cache = Cache::default();
    let _ = cache.apply_environment(shows(100, 10));
    let _ = cache.delete_environment(shows(100, 20));
    let _ = cache.delete_environment(shows(200, 30));
    cache.forget_environment(Uuid::from_u128(1));
    assert!(cache.environments_by_row.is_empty(), "{:?}", cache.environments_by_row);
}

#[test]
fn what_is_gone_is_forgotten_with_a_list_that_is_newer() {
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("a", "x", 1, 10));
    let _ = cache.apply_lease(lease("a", "y", 2, 11));
    let _ = cache.delete_lease(lease("a", "x", 1, 20));
    let _ = cache.delete_lease(lease("a", "y", 2, 40));
    let _ = cache.forget_gone_leases(&version(30));
    assert!(cache.leases.gone(Uuid::from_u128(1)).is_none());
    assert!(cache.leases.gone(Uuid::from_u128(2)).is_some(), "newer than the list");
}

#[test]
fn the_last_outcome_that_was_seen_counts_where_the_last_state_of_a_run_tells_none() {
    let complete = || json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
    let pinned = Some(Uuid::from_u128(7));
    let vanished = KnownRun::Vanished(ended(RunOutcome::Succeeded));
    let seen = || {
        let mut cache = Cache::default();
        let _ = cache.apply_lease(lease("a", "x", 1, 10));
        let _ = cache.apply_run(&job_key(), job(7, 11, complete()));
        cache
    };
    let mut by_event = seen();
    let _ = by_event.delete_run(&job_key(), &job(7, 12, json!({})));
    assert_eq!(by_event.run(&job_key(), pinned), vanished);
    let mut by_list = seen();
    let _ = by_list.reset_runs(&job_kind(), None, Vec::new(), &version(20));
    assert_eq!(by_list.run(&job_key(), pinned), vanished);
    let mut by_replacement = seen();
    let _ = by_replacement.apply_run(&job_key(), job(8, 13, json!({})));
    assert_eq!(by_replacement.run(&job_key(), pinned), vanished);
}

#[test]
fn a_lease_outlives_its_run_object_from_its_end_on_until_it_shows_an_end_itself() {
    let lease = |name: &str, uid, version, phase: &str, run: u128| {
        let reference = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "job" });
        let run = json!({ "display": "job/job", "uid": Uuid::from_u128(run) });
        let status = json!({ "phase": phase, "acquiredAt": "2026-01-01T00:00:00Z", "run": run });
        let object = json!({
            "metadata": metadata("a", name, uid, version), "spec": { "run": { "objectRef": reference } }, "status": status,
        });
        LeaseObject::decode("", "", object).unwrap()
    };
    let outliving = |cache: &Cache| {
        let mut leases = cache.leases_that_outlive_their_run_object();
        leases.sort();
        leases
    };
    let [held, of_another] = [1, 2].map(Uuid::from_u128);
    let complete = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("held", 1, 10, "Active", 7));
    let _ = cache.apply_lease(lease("another", 2, 10, "Active", 6));
    assert!(
        outliving(&cache).is_empty(),
        "before the Jobs are listed nothing is known of them"
    );
    let _ = cache.reset_runs(&job_kind(), None, vec![job(7, 11, json!({}))], &version(11));
    assert_eq!(outliving(&cache), [of_another], "the Job of this name is another one");
    let _ = cache.apply_run(&job_key(), job(7, 12, complete.clone()));
    assert_eq!(outliving(&cache), [held, of_another]);
    let _ = cache.delete_run(&job_key(), &job(7, 13, complete));
    assert_eq!(outliving(&cache), [held, of_another]);
    let _ = cache.delete_lease(lease("another", 2, 14, "Active", 6));
    assert_eq!(outliving(&cache), [held, of_another], "its row is still to be ended");
    let _ = cache.apply_lease(lease("held", 1, 15, "Released", 7));
    assert_eq!(outliving(&cache), [of_another]);
}

#[test]
fn a_kind_that_is_not_served_takes_nothing_back_of_its_objects() {
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("a", "x", 1, 10));
    let _ = cache.reset_runs(&job_kind(), Some("a"), vec![job(7, 11, json!({}))], &version(20));
    cache.lose_run_kind(&job_kind(), Some("a"), RunKindState::Unreadable);
    assert_eq!(
        cache.run_kind(&job_key()),
        Some(RunKindState::Listed),
        "one failed list is no loss"
    );
    cache.lose_run_kind(&job_kind(), Some("a"), RunKindState::NotServed);
    assert_eq!(cache.run_kind(&job_key()), Some(RunKindState::NotServed));
    let pinned = Some(Uuid::from_u128(7));
    assert!(matches!(
        cache.run(&job_key(), pinned),
        KnownRun::Present { end: None, .. }
    ));
    // Served again, and without the object: now it is known to be gone.
    let woken = cache.reset_runs(&job_kind(), Some("a"), Vec::new(), &version(30));
    assert_eq!(woken.sorted(), [key(1)]);
    assert_eq!(cache.run(&job_key(), pinned), KnownRun::Vanished(None));
}

#[test]
fn a_list_of_a_run_kind_concerns_also_the_leases_whose_runs_it_does_not_hold() {
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("a", "x", 1, 10));
    let _ = cache.apply_lease(lease("b", "x", 2, 10));
    // The Job was gone before anybody looked: only now it is certain, and a look at the object itself will tell.
    assert_eq!(
        cache.reset_runs(&job_kind(), Some("a"), Vec::new(), &version(20)),
        [key(1)]
    );
    let tasks = GroupVersionKind::gvk("tekton.dev", "v1", "Task");
    assert_eq!(cache.reset_runs(&tasks, None, Vec::new(), &version(20)), []);
}

#[test]
fn of_a_run_object_little_is_kept_however_large_it_is() {
    let template = json!({ "spec": { "containers": [{ "name": "run", "env": vec![json!({ "name": "x" }); 1000] }] } });
    let mut object = json!({ "metadata": metadata("a", "job", 7, 11), "spec": { "template": template } });
    object["metadata"]["annotations"] = json!({ "long": "x".repeat(100_000) });
    let mut cache = Cache::default();
    let _ = cache.apply_run(&job_key(), RunObject::decode("batch", "Job", object).unwrap());
    let kept = format!("{:?}", cache.runs);
    assert!(kept.len() < 500, "{kept}");
}

#[test]
fn object_counts_count_what_is_there_by_what_it_shows() {
    let shows = |uid: u128, status: Value| {
        let mut object = lease("a", &uid.to_string(), uid, 1);
        object.status = serde_json::from_value(status).unwrap();
        object
    };
    let mut cache = Cache::default();
    let _ = cache.apply_lease(lease("a", "new", 1, 1));
    let _ = cache.apply_lease(shows(2, json!({ "phase": "Pending", "reason": "CapacityFull" })));
    let _ = cache.apply_lease(shows(3, json!({ "phase": "Pending", "reason": "CapacityFull" })));
    let environment = json!({ "name": "e", "id": Uuid::from_u128(9), "driver": "SSH" });
    let _ = cache.apply_lease(shows(4, json!({ "phase": "Active", "environment": environment })));
    let deleted = shows(5, json!({ "phase": "Active", "environment": environment }));
    let _ = cache.apply_lease(deleted.clone());
    let _ = cache.delete_lease(deleted);
    let local = json!({ "metadata": metadata("a", "local", 6, 1), "spec": { "driver": "Local" } });
    let _ = cache.apply_environment(EnvironmentObject::decode("", "", local).unwrap());

    let by = |phase, driver| LeasesBy {
        phase,
        policy: LeasePolicy::Ephemeral,
        driver,
    };
    let object_counts = cache.object_counts();
    assert_eq!(
        object_counts.leases,
        [
            (by(LeasePhase::Pending, None), 3),
            (by(LeasePhase::Active, Some(Driver::Ssh)), 1)
        ]
        .into()
    );
    assert_eq!(
        object_counts.pending,
        [(None, 1), (Some(Reason::CapacityFull), 2)].into()
    );
    assert_eq!(
        object_counts.environments,
        [((EnvironmentPhase::Pending, Driver::Local), 1)].into()
    );
}
