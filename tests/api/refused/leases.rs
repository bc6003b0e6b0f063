//! Bad leases.

use serde_json::{Value, json};

use super::Case;
use crate::support::{Attempt, Kind};

const ID: &str = "0b0e0a9c-5a2c-4c41-9f5e-3b8d8b1e7a10";
const OTHER_ID: &str = "7d0e0a9c-5a2c-4c41-9f5e-3b8d8b1e7a11";

fn create(spec: Value, refusal: &'static str) -> Case {
    Case {
        kind: Kind::Lease,
        attempt: Attempt::Create(spec),
        refusal,
    }
}

/// Removing, adding and changing a field that cannot change.
fn fixed(field: &str, value: Value, other: Value, refusal: &'static str) -> [Case; 3] {
    let (without, with, changed) = (json!({}), json!({ field: value }), json!({ field: other }));
    [
        (with.clone(), without.clone()),
        (without, with.clone()),
        (with, changed),
    ]
    .map(|(before, after)| Case {
        kind: Kind::Lease,
        attempt: Attempt::Change(before, after),
        refusal,
    })
}

fn job(changes: Value) -> Value {
    let mut reference = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "build" });
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(reference.as_object_mut().unwrap().remove(key)),
            value => reference[key] = value.clone(),
        }
    }
    json!({ "run": { "objectRef": reference } })
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        // What is to be held.
        create(
            json!({ "environmentRef": {} }),
            "[spec.environmentRef.name: Required value, {unchecked}]",
        ),
        create(
            json!({ "environmentRef": { "name": "" } }),
            r#"spec.environmentRef.name: Invalid value: "": the name of an Environment has lower-case letters, digits, '-' and '.', as metadata.name has"#,
        ),
        create(
            json!({ "environmentRef": { "name": "Big_Box" } }),
            r#"spec.environmentRef.name: Invalid value: "Big_Box": the name of an Environment has lower-case letters, digits, '-' and '.', as metadata.name has"#,
        ),
        create(
            json!({ "environmentRef": "box" }),
            r#"[spec.environmentRef: Invalid value: "string": spec.environmentRef in body must be of type object: "string", {unchecked}]"#,
        ),
        // Who holds it.
        create(
            json!({ "run": {} }),
            "spec.run: Invalid value: a run is named by exactly one of heartbeatRunId and objectRef",
        ),
        create(
            json!({ "run": { "heartbeatRunId": ID, "objectRef": job(json!({}))["run"]["objectRef"] } }),
            "spec.run: Invalid value: a run is named by exactly one of heartbeatRunId and objectRef",
        ),
        create(
            json!({ "run": { "heartbeatRunId": "" } }),
            r#"spec.run.heartbeatRunId: Invalid value: "": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        create(
            json!({ "run": { "heartbeatRunId": ID.to_uppercase() } }),
            r#"spec.run.heartbeatRunId: Invalid value: "0B0E0A9C-5A2C-4C41-9F5E-3B8D8B1E7A10": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        create(
            json!({ "run": { "heartbeatRunId": ID.replace('-', "") } }),
            r#"spec.run.heartbeatRunId: Invalid value: "0b0e0a9c5a2c4c419f5e3b8d8b1e7a10": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        create(
            json!({ "run": { "heartbeatRunId": format!("{{{ID}}}") } }),
            r#"spec.run.heartbeatRunId: Invalid value: "{0b0e0a9c-5a2c-4c41-9f5e-3b8d8b1e7a10}": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        create(
            job(json!({ "apiVersion": null })),
            "[spec.run.objectRef.apiVersion: Required value, {unchecked}]",
        ),
        create(
            job(json!({ "apiVersion": "batch" })),
            r#"spec.run.objectRef.apiVersion: Invalid value: "batch": apiVersion is a group and a version, for instance batch/v1, or only a version for the core group: v1"#,
        ),
        create(
            job(json!({ "kind": "job" })),
            r#"spec.run.objectRef.kind: Invalid value: "job": kind begins with a capital letter, for instance Job"#,
        ),
        create(
            job(json!({ "kind": null })),
            "[spec.run.objectRef.kind: Required value, {unchecked}]",
        ),
        create(
            job(json!({ "name": "Build" })),
            r#"spec.run.objectRef.name: Invalid value: "Build": the name of the run's object has lower-case letters, digits, '-' and '.', as metadata.name has"#,
        ),
        create(
            job(json!({ "name": null })),
            "[spec.run.objectRef.name: Required value, {unchecked}]",
        ),
        create(
            job(json!({ "uid": "build" })),
            r#"spec.run.objectRef.uid: Invalid value: "build": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        create(
            json!({ "agentId": "agent-7" }),
            r#"spec.agentId: Invalid value: "agent-7": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        create(
            json!({ "issueId": "PAP-7" }),
            r#"spec.issueId: Invalid value: "PAP-7": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        create(
            json!({ "executionWorkspaceId": 7 }),
            r#"[spec.executionWorkspaceId: Invalid value: "integer": spec.executionWorkspaceId in body must be of type string: "integer", {unchecked}]"#,
        ),
        create(
            json!({ "executionWorkspaceId": ID.to_uppercase() }),
            r#"spec.executionWorkspaceId: Invalid value: "0B0E0A9C-5A2C-4C41-9F5E-3B8D8B1E7A10": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        // For how long.
        create(
            json!({ "policy": "ephemeral" }),
            r#"[spec.policy: Unsupported value: "ephemeral": supported values: "Ephemeral", "ReuseByEnvironment", "ReuseByExecutionWorkspace", "RetainOnFailure", {unchecked}]"#,
        ),
        create(
            json!({ "ttlSeconds": 0 }),
            "spec.ttlSeconds: Invalid value: 0: spec.ttlSeconds in body should be greater than or equal to 1",
        ),
        create(
            json!({ "ttlSeconds": 2_592_001 }),
            "spec.ttlSeconds: Invalid value: 2592001: spec.ttlSeconds in body should be less than or equal to 2592000",
        ),
        create(
            json!({ "ttlSeconds": "1h" }),
            r#"[spec.ttlSeconds: Invalid value: "string": spec.ttlSeconds in body must be of type integer: "string", {unchecked}]"#,
        ),
        create(
            json!({ "heartbeatTimeoutSeconds": 0 }),
            "spec.heartbeatTimeoutSeconds: Invalid value: 0: spec.heartbeatTimeoutSeconds in body should be greater than or equal to 1",
        ),
        create(
            json!({ "heartbeatTimeoutSeconds": 2_592_001 }),
            "spec.heartbeatTimeoutSeconds: Invalid value: 2592001: spec.heartbeatTimeoutSeconds in body should be less than or equal to 2592000",
        ),
        create(
            json!({ "acquireTimeoutSeconds": -1 }),
            "spec.acquireTimeoutSeconds: Invalid value: -1: spec.acquireTimeoutSeconds in body should be greater than or equal to 0",
        ),
        create(
            json!({ "acquireTimeoutSeconds": 2_592_001 }),
            "spec.acquireTimeoutSeconds: Invalid value: 2592001: spec.acquireTimeoutSeconds in body should be less than or equal to 2592000",
        ),
        create(
            json!({ "ttlSecondsAfterFinished": -1 }),
            "spec.ttlSecondsAfterFinished: Invalid value: -1: spec.ttlSecondsAfterFinished in body should be greater than or equal to 0",
        ),
        create(
            json!({ "ttlSecondsAfterFinished": 2_592_001 }),
            "spec.ttlSecondsAfterFinished: Invalid value: 2592001: spec.ttlSecondsAfterFinished in body should be less than or equal to 2592000",
        ),
        create(
            json!({ "release": "true" }),
            r#"[spec.release: Invalid value: "string": spec.release in body must be of type boolean: "string", {unchecked}]"#,
        ),
        create(
            json!({ "metadata": ["text"] }),
            r#"[spec.metadata: Invalid value: "array": spec.metadata in body must be of type object: "array", {unchecked}]"#,
        ),
        Case {
            kind: Kind::Lease,
            attempt: Attempt::Change(json!({ "release": true }), json!({ "release": false })),
            refusal: "spec.release: Invalid value: release cannot be taken back: create another lease",
        },
        Case {
            kind: Kind::Lease,
            attempt: Attempt::Change(json!({ "release": true }), json!({})),
            refusal: "spec.release: Invalid value: release cannot be taken back: create another lease",
        },
    ];
    cases.extend(fixed(
        "environmentRef",
        json!({ "name": "box" }),
        json!({ "name": "other" }),
        "spec.environmentRef: Invalid value: environmentRef cannot change: create another lease for another environment",
    ));
    cases.extend(fixed(
        "run",
        json!({ "heartbeatRunId": ID }),
        job(json!({}))["run"].clone(),
        "spec.run: Invalid value: run cannot change: create another lease for another run",
    ));
    cases.extend(fixed(
        "agentId",
        json!(ID),
        json!(OTHER_ID),
        "spec.agentId: Invalid value: agentId cannot change: create another lease for another agent",
    ));
    cases.extend(fixed(
        "issueId",
        json!(ID),
        json!(OTHER_ID),
        "spec.issueId: Invalid value: issueId cannot change: create another lease for another issue",
    ));
    cases.extend(fixed("executionWorkspaceId", json!(ID), json!(OTHER_ID), "spec.executionWorkspaceId: Invalid value: executionWorkspaceId cannot change: create another lease for another execution workspace"));
    cases.extend(fixed(
        "policy",
        json!("RetainOnFailure"),
        json!("ReuseByEnvironment"),
        "spec.policy: Invalid value: policy cannot change: create another lease with another policy",
    ));
    cases
}
