//! What the status shows of a held lease whose row does not say what its object says.

use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::api::{EnvironmentLeaseStatus, LeasePhase};
use crate::cache::object::Watched;
use crate::lifecycle::lease_status::{StatusUpdate, lease_status};
use crate::store::lease_object::RunLook;

fn lease(spec: Value) -> LeaseObject {
    let metadata = json!({
        "namespace": "a", "name": "x", "uid": Uuid::from_u128(1), "resourceVersion": "1", "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    LeaseObject::decode("", "", json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn row(changes: &Value) -> LeaseRow {
    let mut row = json!({
        "id": Uuid::from_u128(1), "company_id": Uuid::from_u128(2), "environment_id": Uuid::from_u128(3),
        "execution_workspace_id": null, "issue_id": null, "heartbeat_run_id": Uuid::from_u128(4), "status": "active",
        "lease_policy": "ephemeral", "provider": null, "provider_lease_id": null,
        "acquired_at": "2026-01-01T00:00:00.123456Z", "last_used_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-02T00:00:00.123456Z", "released_at": null, "failure_reason": null,
        "cleanup_status": null, "metadata": { "mine": 1, "driver": "ssh" }, "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    });
    let changes = changes.as_object().unwrap().clone();
    row.as_object_mut().unwrap().extend(changes);
    serde_json::from_value(row).unwrap()
}

fn view(changes: &Value) -> LeaseSnapshot {
    let object = json!({
        "id": Uuid::from_u128(1), "company_id": Uuid::from_u128(2), "environment_id": Uuid::from_u128(3),
        "cluster": "c", "installation": "i", "incarnation": 1, "namespace": "a", "name": "x", "rv": "1", "generation": 2,
        "run_id": Uuid::from_u128(4), "run_api_version": null, "run_kind": null, "run_name": null, "run_uid": null,
        "fencing_token": 1, "context": {}, "metadata_keys": ["mine"], "ttl_seconds_after_finished": 60,
        "ended_status": null, "reason": null, "message": null, "ended_at": null, "deleted_at": null,
    });
    LeaseSnapshot {
        id: Uuid::from_u128(1),
        now: jiff::Timestamp::UNIX_EPOCH,
        leading: true,
        recorded_company: None,
        company_exists: true,
        row: Some(row(changes)),
        object: Some(serde_json::from_value(object).unwrap()),
        run: RunLook::None,
        environment: None,
        environment_deleted: false,
        local_object: None,
        agent_missing: false,
        issue_missing: false,
        execution_workspace_missing: false,
        capacity: None,
    }
}

#[test]
fn a_row_that_says_what_the_spec_says_has_no_fault_whatever_others_write_beside_it() {
    let spec = json!({ "metadata": { "mine": 1 } });
    for changes in [
        json!({}),
        json!({ "metadata": { "mine": 1, "theirs": 2 } }),
        json!({ "provider": "theirs", "provider_lease_id": "theirs", "last_used_at": "2026-01-01T01:00:00Z" }),
        json!({ "heartbeat_run_id": null }),
        json!({ "issue_id": Uuid::from_u128(9), "execution_workspace_id": Uuid::from_u128(9) }),
    ] {
        let view = view(&changes);
        assert_eq!(fault(&lease(spec.clone()), &view), None, "{changes}");
        assert!(in_step(&lease(spec.clone()), &view), "{changes}");
    }
}

#[test]
fn every_column_that_is_written_once_and_says_something_else_now_is_named() {
    let other = Uuid::from_u128(99);
    let spec = json!({
        "metadata": { "mine": 1 }, "issueId": Uuid::from_u128(5), "executionWorkspaceId": Uuid::from_u128(6),
    });
    let as_granted = json!({ "issue_id": Uuid::from_u128(5), "execution_workspace_id": Uuid::from_u128(6) });
    assert_eq!(fault(&lease(spec.clone()), &view(&as_granted)), None);
    for (column, value) in [
        ("company_id", json!(other)),
        ("environment_id", json!(other)),
        ("heartbeat_run_id", json!(other)),
        ("lease_policy", json!("retain_on_failure")),
        ("issue_id", json!(other)),
        ("execution_workspace_id", json!(null)),
        ("expires_at", json!(null)),
        ("metadata", json!({ "driver": "ssh" })),
    ] {
        let mut changes = as_granted.clone();
        changes[column] = value;
        let (reason, message) = fault(&lease(spec.clone()), &view(&changes)).unwrap();
        assert_eq!(reason, Reason::ChangedInDatabase);
        let mend = if ["expires_at", "metadata"].contains(&column) {
            "the next edit of the spec writes it again"
        } else {
            "nothing is written to it again: restore the row, or end the lease and create another one"
        };
        assert_eq!(
            message,
            format!("the row in the database differs from this lease in {column}: {mend}")
        );
        assert!(
            !message.contains(&other.to_string()),
            "what is another's is not told: {message}"
        );
        let row = row(&changes);
        let granted = !["company_id", "environment_id"].contains(&column);
        assert_eq!(
            is_granted_row(&row, view(&changes).object.as_ref().unwrap()),
            granted,
            "{column}"
        );
    }
}

#[test]
fn what_cannot_be_stored_is_told_and_holds_up_nothing_else() {
    let deep = (0..75).fold(json!(1), |inner, _| json!({ "a": inner }));
    for metadata in [json!({ "n": "\0" }), deep, json!({ "n": "x".repeat(40_000) })] {
        let lease = lease(json!({ "metadata": metadata, "ttlSeconds": 86_400 }));
        let view = view(&json!({}));
        let (reason, message) = fault(&lease, &view).unwrap();
        assert_eq!(reason, Reason::InvalidSpec);
        assert!(message.starts_with("spec.metadata "), "{message}");
        assert!(
            in_step(&lease, &view),
            "what cannot be stored is not tried again and again"
        );
    }
    let lease = lease(json!({ "metadata": { "n": "\0" }, "ttlSeconds": 5 }));
    assert!(!in_step(&lease, &view(&json!({}))), "the time is written all the same");
}

/// The lease, as it shows since its grant that it was granted then.
fn shown(spec: Value) -> LeaseObject {
    let mut lease = lease(spec);
    lease.status = Some(EnvironmentLeaseStatus {
        phase: Some(LeasePhase::Active),
        lease_id: Some(Uuid::from_u128(1)),
        acquired_at: Some(Timestamp::cut("2026-01-01T00:00:00.123Z".parse().unwrap())),
        ..EnvironmentLeaseStatus::default()
    });
    lease
}

#[test]
fn each_column_that_differs_is_named_with_what_mends_it_and_no_other_is() {
    let lease = shown(json!({ "metadata": { "mine": 1 } }));
    let earlier = "2025-12-31T23:00:00.123456Z";
    let says = |changes: Value| fault(&lease, &view(&changes)).map(|(_, message)| message);
    assert_eq!(says(json!({})), None);
    let restore = |what: &str| {
        format!("nothing is written to {what} again: restore the row, or end the lease and create another one")
    };
    let differs = "the row in the database differs from this lease in";
    assert_eq!(
        says(json!({ "acquired_at": earlier })),
        Some(format!("{differs} acquired_at: {}", restore("it")))
    );
    // What the next edit writes then: the time that the row says, and more.
    assert_eq!(
        says(json!({ "acquired_at": earlier, "expires_at": "2026-01-01T23:00:00.123456Z" })),
        Some(format!("{differs} acquired_at: {}", restore("it")))
    );
    assert_eq!(
        says(
            json!({ "acquired_at": earlier, "expires_at": null, "lease_policy": "retain_on_failure", "metadata": null })
        ),
        Some(format!(
            "{differs} lease_policy, acquired_at, expires_at, metadata: {}; the next edit of the spec writes expires_at, metadata",
            restore("lease_policy, acquired_at")
        ))
    );
}

#[test]
fn at_the_end_nothing_is_called_mirrored_that_is_not_in_the_row() {
    let edited = |spec: Value| {
        let mut lease = shown(spec);
        lease.meta.generation = 3;
        lease
    };
    let at_end = |lease: &LeaseObject, changes: Value| fault_at_end(lease, &view(&changes));
    let mine = json!({ "metadata": { "mine": 1 } });
    assert_eq!(at_end(&edited(mine.clone()), json!({})), None);
    let past = json!({ "acquired_at": "2025-01-01T00:00:00Z", "expires_at": "2025-01-01T00:00:00Z" });
    assert_eq!(at_end(&edited(mine.clone()), past), None, "it is past");

    let (reason, message) = at_end(&edited(json!({ "metadata": { "n": "\0" } })), json!({})).unwrap();
    assert_eq!(reason, Reason::InvalidSpec);
    assert!(message.starts_with("spec.metadata "), "{message}");

    let (_, message) = at_end(&edited(json!({ "metadata": { "mine": 2 } })), json!({})).unwrap();
    assert!(
        message.contains("before the last edit of spec.metadata could be written"),
        "{message}"
    );
    let (reason, message) = at_end(&shown(mine.clone()), json!({ "metadata": null })).unwrap();
    assert_eq!(reason, Reason::ChangedInDatabase);
    assert!(message.contains("in metadata, and is left as it is"), "{message}");

    // What the database itself has refused while the lease was held.
    let refused = (Reason::InvalidSpec, "shorten the text: too long".to_owned());
    let mut lease = shown(json!({ "metadata": { "mine": 2 } }));
    let held = StatusUpdate::Held {
        grant: None,
        fault: Some(refused.clone()),
    };
    lease.status = Some(lease_status(
        lease.status.as_ref(),
        2,
        None,
        &held,
        Timestamp::cut(jiff::Timestamp::UNIX_EPOCH),
    ));
    assert_eq!(at_end(&lease, json!({})), Some(refused));
}

#[test]
fn metadata_that_comes_with_the_end_is_still_to_be_written_unless_it_can_not_be() {
    let unwritten = |spec: Value, generation: i64| {
        let mut lease = shown(spec);
        lease.meta.generation = generation;
        has_unwritten_metadata(&lease, &view(&json!({})))
    };
    assert!(unwritten(json!({ "metadata": { "mine": 2 }, "release": true }), 3));
    assert!(unwritten(json!({ "release": true }), 3), "a key was removed");
    assert!(
        !unwritten(json!({ "metadata": { "mine": 1 }, "release": true }), 3),
        "nothing of it was edited"
    );
    assert!(
        !unwritten(json!({ "metadata": { "mine": 2 } }), 2),
        "another writer's change"
    );
    assert!(!unwritten(json!({ "metadata": { "mine": "\0" } }), 3));
}

#[test]
fn an_edit_that_gives_a_lease_more_time_counts_though_the_old_one_passed_before_it_was_seen() {
    let passed = LeaseSnapshot {
        now: "2026-01-02T00:00:01Z".parse().unwrap(),
        ..view(&json!({}))
    };
    let mut written_before = passed.clone();
    written_before.object.as_mut().unwrap().generation = 1;
    let asks = |seconds: i32| lease(json!({ "ttlSeconds": seconds }));
    assert!(
        !expired(&view(&json!({})), Some(&asks(1))),
        "a shorter time is written first"
    );
    for (view, seconds, expected) in [
        (&written_before, 86_410, false),
        (&written_before, 86_400, true),
        (&written_before, 60, true),
        // It was written: that the row says something else is another writer's doing.
        (&passed, 86_410, true),
    ] {
        assert_eq!(expired(view, Some(&asks(seconds))), expected, "{seconds} s");
    }
    assert!(expired(&written_before, None));
    let unreadable = lease(json!({ "ttlSeconds": 86_410, "policy": "Eternal" }));
    assert!(expired(&written_before, Some(&unreadable)), "nobody's wish");
}
