//! Manifests in which every field is set: one for each driver, and for each kind of run.

use serde_json::{Value, json};

use crate::support::Kind;

const ID: &str = "0b0e0a9c-5a2c-4c41-9f5e-3b8d8b1e7a10";
const MOMENT: &str = "2026-01-31T12:00:00.000Z";

/// A free object of three nested levels, with what is easily lost: null, empty containers, large and broken numbers.
fn free() -> Value {
    json!({
        "text": "x",
        "none": null,
        "large": 9_007_199_254_740_993_i64,
        "broken": 0.25,
        "first": { "second": { "third": { "list": [1, null, "two", { "x": [[]] }], "empty": {} }, "none": null } },
    })
}

/// A name for the case, its kind and its spec.
pub fn specs() -> Vec<(&'static str, Kind, Value)> {
    let common = json!({
        "displayName": "The big box",
        "description": "For builds.",
        "archived": false,
        "maxActiveLeases": 3,
        "metadata": free(),
    });
    let environment = |driver: &str, member: Option<(&str, Value)>| {
        let mut spec = common.clone();
        spec["driver"] = json!(driver);
        if let Some((name, value)) = member {
            spec[name] = value;
        }
        spec
    };
    let ssh = json!({
        "host": "box.example",
        "port": 2222,
        "username": "agent",
        "remoteWorkspacePath": "/work",
        "privateKeySecretRef": { "name": "keys", "key": "id_ed25519" },
        "knownHosts": "box.example ssh-ed25519 AAAA\n",
        "strictHostKeyChecking": false,
    });
    let sandbox = json!({ "provider": "kubernetes", "config": free() });
    let plugin = json!({ "pluginKey": "acme.boxes", "driverKey": "box", "driverConfig": free() });
    let lease = |run: Value| {
        json!({
            "environmentRef": { "name": "box" },
            "run": run,
            "agentId": ID,
            "issueId": ID,
            "executionWorkspaceId": ID,
            "policy": "RetainOnFailure",
            "ttlSeconds": 60,
            "heartbeatTimeoutSeconds": 30,
            "release": true,
            "acquireTimeoutSeconds": 0,
            "ttlSecondsAfterFinished": 0,
            "metadata": free(),
        })
    };
    let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "build", "uid": ID });
    vec![
        ("Local", Kind::Environment, environment("Local", None)),
        ("SSH", Kind::Environment, environment("SSH", Some(("ssh", ssh)))),
        (
            "Sandbox",
            Kind::Environment,
            environment("Sandbox", Some(("sandbox", sandbox))),
        ),
        (
            "Plugin",
            Kind::Environment,
            environment("Plugin", Some(("plugin", plugin))),
        ),
        ("a lease of a row", Kind::Lease, lease(json!({ "heartbeatRunId": ID }))),
        ("a lease of an object", Kind::Lease, lease(json!({ "objectRef": job }))),
    ]
}

/// A status of each kind.
pub fn statuses() -> Vec<(&'static str, Kind, Value)> {
    let condition = |kind: &str, reason: &str| {
        json!({
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": "It is so.",
            "lastTransitionTime": MOMENT,
            "observedGeneration": 1,
        })
    };
    let environment = json!({
        "environmentId": ID,
        "companyId": ID,
        "name": "The big box",
        "phase": "Duplicate",
        "canonicalRef": { "namespace": "other", "name": "local" },
        "activeLeases": 2,
        "lastProbe": { "ok": true, "summary": "Connected.", "at": MOMENT },
        "observedGeneration": 1,
        "conditions": [condition("Ready", "Ready"), condition("Mirrored", "Mirrored")],
    });
    let lease = json!({
        "phase": "Released",
        "leaseId": ID,
        "companyId": ID,
        "environment": { "name": "box", "id": ID, "driver": "SSH" },
        "run": { "display": "job/build", "kind": "Job", "name": "build", "uid": ID },
        "acquiredAt": MOMENT,
        "expiresAt": "2028-02-29T23:59:59.999Z",
        "releasedAt": MOMENT,
        "reason": "RunFinished",
        "message": "The run succeeded.",
        "cleanupStatus": "success",
        "fencingToken": 9_007_199_254_740_991_i64,
        "context": free(),
        "observedGeneration": 1,
        "conditions": [condition("Active", "Granted"), condition("Finished", "RunFinished")],
    });
    vec![
        ("an Environment's", Kind::Environment, environment),
        ("a lease's", Kind::Lease, lease),
    ]
}
