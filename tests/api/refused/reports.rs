//! Bad statuses.

use serde_json::{Value, json};

use super::Case;
use crate::support::{Attempt, Kind};

const ID: &str = "0b0e0a9c-5a2c-4c41-9f5e-3b8d8b1e7a10";

fn report(kind: Kind, status: Value, refusal: &'static str) -> Case {
    Case {
        kind,
        attempt: Attempt::Report(Value::Null, status),
        refusal,
    }
}

fn change(before: Value, after: Value, refusal: &'static str) -> Case {
    Case {
        kind: Kind::Lease,
        attempt: Attempt::Report(before, after),
        refusal,
    }
}

fn condition(changes: Value) -> Value {
    let mut condition = json!({
        "type": "Mirrored",
        "status": "True",
        "reason": "Mirrored",
        "message": "The row agrees.",
        "lastTransitionTime": "2026-01-31T12:00:00.000Z",
    });
    condition
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    json!({ "conditions": [condition] })
}

fn moment(text: &str, refusal: &'static str) -> Case {
    report(Kind::Lease, json!({ "acquiredAt": text }), refusal)
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        // Ended stays ended.
        change(
            json!({ "phase": "Released" }),
            json!({ "phase": "Failed" }),
            "status.phase: Invalid value: an ended lease stays ended: create another lease instead of changing its phase",
        ),
        change(
            json!({ "phase": "Expired" }),
            json!({ "phase": "Active" }),
            "status.phase: Invalid value: an ended lease stays ended: create another lease instead of changing its phase",
        ),
        change(
            json!({ "phase": "Failed" }),
            json!({ "phase": "Pending" }),
            "status.phase: Invalid value: an ended lease stays ended: create another lease instead of changing its phase",
        ),
        change(
            json!({ "phase": "Released" }),
            json!({ "message": "without a phase" }),
            "status.phase: Invalid value: an ended lease stays ended: create another lease instead of changing its phase",
        ),
        change(
            json!({ "phase": "PendingCleanup" }),
            json!({ "phase": "Active" }),
            "status.phase: Invalid value: a lease whose cleanup is pending has ended: only its final phase follows, Released, Expired or Failed",
        ),
        change(
            json!({ "phase": "Released" }),
            Value::Null,
            "status: Invalid value: the status of a lease never vanishes: write its fields instead of removing it",
        ),
        change(
            json!({ "phase": "Pending" }),
            Value::Null,
            "status: Invalid value: the status of a lease never vanishes: write its fields instead of removing it",
        ),
        change(
            json!({ "fencingToken": 7 }),
            json!({ "fencingToken": 6 }),
            "status.fencingToken: Invalid value: fencingToken never falls: write one that is not below the present one",
        ),
        change(
            json!({ "fencingToken": 7 }),
            json!({ "phase": "Active" }),
            "status.fencingToken: Invalid value: fencingToken never falls: write one that is not below the present one",
        ),
        // Closed sets and numbers.
        report(
            Kind::Lease,
            json!({ "phase": "Gone" }),
            r#"[status.phase: Unsupported value: "Gone": supported values: "Pending", "Active", "Released", "Expired", "Failed", "Retained", "PendingCleanup", {unchecked}]"#,
        ),
        report(
            Kind::Lease,
            json!({ "reason": "Because" }),
            r#"[status.reason: Unsupported value: "Because": supported values: {reasons}, {unchecked}]"#,
        ),
        report(
            Kind::Lease,
            json!({ "fencingToken": -1 }),
            "status.fencingToken: Invalid value: -1: fencingToken in body should be greater than or equal to 0",
        ),
        report(
            Kind::Lease,
            json!({ "observedGeneration": 1e19 }),
            r#"[status.observedGeneration: Invalid value: "number": observedGeneration in body must be of type integer: "number", status: Invalid value: "": Checked value must be of type integer (default format) in observedGeneration, status.observedGeneration: Invalid value: 1e+19: observedGeneration in body should be less than or equal to 9.007199254740991e+15, {unchecked}]"#,
        ),
        report(
            Kind::Lease,
            json!({ "environment": { "name": "box", "id": ID, "driver": "ssh" } }),
            r#"[status.environment.driver: Unsupported value: "ssh": supported values: "Local", "SSH", "Sandbox", "Plugin", {unchecked}]"#,
        ),
        report(
            Kind::Lease,
            json!({ "run": {} }),
            "[status.run.display: Required value, {unchecked}]",
        ),
        report(
            Kind::Environment,
            json!({ "phase": "Gone" }),
            r#"[status.phase: Unsupported value: "Gone": supported values: "Pending", "Active", "Archived", "Duplicate", {unchecked}]"#,
        ),
        report(
            Kind::Environment,
            json!({ "activeLeases": -1 }),
            "status.activeLeases: Invalid value: -1: activeLeases in body should be greater than or equal to 0",
        ),
        report(
            Kind::Environment,
            condition(json!({ "type": "Fine" })),
            r#"[status.conditions[0].type: Unsupported value: "Fine": supported values: "Ready", "Accepting", "Mirrored", "Canonical", "Reachable", "Decided", "Active", "Finished", {unchecked}]"#,
        ),
        report(
            Kind::Environment,
            condition(json!({ "status": "Maybe" })),
            r#"[status.conditions[0].status: Unsupported value: "Maybe": supported values: "True", "False", "Unknown", {unchecked}]"#,
        ),
        report(
            Kind::Environment,
            condition(json!({ "reason": "Because" })),
            r#"[status.conditions[0].reason: Unsupported value: "Because": supported values: {reasons}, {unchecked}]"#,
        ),
        report(
            Kind::Environment,
            json!({ "conditions": [condition(json!({}))["conditions"][0], condition(json!({}))["conditions"][0]] }),
            r#"status.conditions[1]: Duplicate value: {"type":"Mirrored"}"#,
        ),
        // Ids.
        report(
            Kind::Lease,
            json!({ "leaseId": ID.to_uppercase() }),
            r#"status.leaseId: Invalid value: "0B0E0A9C-5A2C-4C41-9F5E-3B8D8B1E7A10": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        report(
            Kind::Lease,
            json!({ "companyId": ID.replace('-', "") }),
            r#"status.companyId: Invalid value: "0b0e0a9c5a2c4c419f5e3b8d8b1e7a10": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        report(
            Kind::Lease,
            json!({ "environment": { "name": "box", "id": "box", "driver": "SSH" } }),
            r#"status.environment.id: Invalid value: "box": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        report(
            Kind::Environment,
            json!({ "environmentId": ID.to_uppercase() }),
            r#"status.environmentId: Invalid value: "0B0E0A9C-5A2C-4C41-9F5E-3B8D8B1E7A10": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        report(
            Kind::Environment,
            json!({ "companyId": "company" }),
            r#"status.companyId: Invalid value: "company": a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef"#,
        ),
        // Times, wherever they stand.
        report(
            Kind::Lease,
            json!({ "expiresAt": "tomorrow" }),
            r#"status.expiresAt: Invalid value: "tomorrow": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#,
        ),
        report(
            Kind::Lease,
            json!({ "releasedAt": "2026-01-31" }),
            r#"status.releasedAt: Invalid value: "2026-01-31": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#,
        ),
        report(
            Kind::Lease,
            condition(json!({ "lastTransitionTime": "2026-01-31 12:00:00" })),
            r#"status.conditions[0].lastTransitionTime: Invalid value: "2026-01-31 12:00:00": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#,
        ),
        report(
            Kind::Environment,
            condition(json!({ "lastTransitionTime": "" })),
            r#"status.conditions[0].lastTransitionTime: Invalid value: "": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#,
        ),
        report(
            Kind::Environment,
            json!({ "lastProbe": { "ok": true, "summary": "Connected.", "at": "2026-01-31T12:00:00+01:00" } }),
            r#"status.lastProbe.at: Invalid value: "2026-01-31T12:00:00+01:00": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#,
        ),
    ];
    // Moments that are none, or are written otherwise.
    cases.extend([
        moment("2026-01-31T12:00:00Z", r#"status.acquiredAt: Invalid value: "2026-01-31T12:00:00Z": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#),
        moment("2026-13-01T12:00:00.000Z", r#"status.acquiredAt: Invalid value: "2026-13-01T12:00:00.000Z": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#),
        moment("2026-02-29T12:00:00.000Z", r#"status.acquiredAt: Invalid value: "2026-02-29T12:00:00.000Z": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#),
        moment("2100-02-29T12:00:00.000Z", r#"status.acquiredAt: Invalid value: "2100-02-29T12:00:00.000Z": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#),
        moment("2026-04-31T12:00:00.000Z", r#"status.acquiredAt: Invalid value: "2026-04-31T12:00:00.000Z": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#),
        moment("2026-01-31T24:00:00.000Z", r#"status.acquiredAt: Invalid value: "2026-01-31T24:00:00.000Z": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#),
        moment("2026-01-31T23:59:60.000Z", r#"status.acquiredAt: Invalid value: "2026-01-31T23:59:60.000Z": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#),
        moment("9999-12-31T23:59:59.999Z", r#"status.acquiredAt: Invalid value: "9999-12-31T23:59:59.999Z": a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z"#),
    ]);
    cases
}
