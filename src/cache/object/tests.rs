//! What is kept of objects that are hostile, odd, or of another version.

use serde_json::{Value, json};

use super::*;
use crate::api::{ConditionType, Driver, LeasePhase, LeasePolicy, Reason, crds};
use crate::lifecycle::lease_status::shown_ending;

fn object(spec: Value, status: Value) -> Value {
    json!({
        "metadata": {
            "namespace": "team",
            "name": "x",
            "uid": Uuid::from_u128(1),
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": spec,
        "status": status,
    })
}

fn lease(spec: Value, status: Value) -> LeaseObject {
    LeaseObject::decode("", "", object(spec, status)).unwrap()
}

fn environment(spec: Value, status: Value) -> EnvironmentObject {
    EnvironmentObject::decode("", "", object(spec, status)).unwrap()
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    let at = "2026-01-01T00:00:00.000Z";
    json!({ "type": type_, "status": status, "reason": reason, "message": "m", "lastTransitionTime": at })
}

/// Gives every value of the schema's own that is one of a closed set another one, one at a time, and the path to it.
fn unknown_words(kind: &str, part: &str) -> Vec<(String, Value)> {
    fn walk(schema: &Value, path: &str, wrap: &dyn Fn(Value) -> Value, found: &mut Vec<(String, Value)>) {
        if schema.get("enum").is_some() {
            found.push((path.to_owned(), wrap(json!("OfTheFuture"))));
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let wrap = |value: Value| {
                let mut inner = sample(schema);
                inner[name] = value;
                wrap(inner)
            };
            walk(property, &format!("{path}.{name}"), &wrap, found);
        }
        if let Some(items) = schema.get("items") {
            walk(items, &format!("{path}[]"), &|value| wrap(json!([value])), found);
        }
    }

    /// The least that a schema admits.
    fn sample(schema: &Value) -> Value {
        match schema["type"].as_str() {
            Some("object") => {
                let required = schema["required"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str);
                let members = required.map(|name| (name.to_owned(), sample(&schema["properties"][name])));
                Value::Object(members.collect())
            }
            Some("string") => match schema["enum"].as_array() {
                Some(words) => words[0].clone(),
                None if schema["x-kubernetes-validations"].to_string().contains("[0-9a-f]{8}") => json!(Uuid::nil()),
                None if schema["x-kubernetes-validations"].to_string().contains("-02-29") => {
                    json!("2026-01-01T00:00:00.000Z")
                }
                None => json!("x"),
            },
            Some("integer") => json!(1),
            Some("boolean") => json!(true),
            Some("array") => json!([]),
            other => panic!("type {other:?}"),
        }
    }

    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
    let schema = &schema["openAPIV3Schema"]["properties"][part];
    let mut found = Vec::new();
    walk(schema, part, &|value| value, &mut found);
    found
}

#[test]
fn an_unknown_word_in_any_closed_set_costs_the_object_no_more_than_itself() {
    let mut seen = 0;
    for (path, spec) in unknown_words("EnvironmentLease", "spec") {
        let read = lease(spec, json!({ "phase": "Active" }));
        let fault = read.check().expect_err(&path);
        assert!(
            fault.starts_with(&format!("{path} can't be read")) && fault.contains("OfTheFuture"),
            "{fault}"
        );
        assert_eq!(read.status.unwrap().phase, Some(LeasePhase::Active));
        seen += 1;
    }
    for (path, spec) in unknown_words("Environment", "spec") {
        let read = environment(spec, json!({ "phase": "Active" }));
        assert!(read.check().expect_err(&path).contains("OfTheFuture"), "{path}");
        assert_ne!(
            read.spec.driver,
            Driver::Local,
            "a company's Local is not taken for what is not known"
        );
        seen += 1;
    }
    for (path, status) in unknown_words("EnvironmentLease", "status") {
        let mut status = status;
        status["message"] = json!("kept");
        let read = lease(json!({}), status);
        assert!(read.status_unreadable, "{path}");
        assert_eq!(read.check(), Ok(()));
        assert_eq!(read.status.unwrap().message.as_deref(), Some("kept"), "{path}");
        seen += 1;
    }
    for (path, status) in unknown_words("Environment", "status") {
        let mut status = status;
        status["activeLeases"] = json!(7);
        let read = environment(json!({ "driver": "Local" }), status);
        assert!(read.status_unreadable, "{path}");
        assert_eq!(read.check(), Ok(()));
        assert_eq!(read.status.unwrap().active_leases, Some(7), "{path}");
        seen += 1;
    }
    assert!(seen >= 11, "only {seen} closed sets were found");
}

#[test]
fn what_can_be_read_beside_what_can_not_is_kept() {
    let spec = json!({ "policy": "Forever", "ttlSeconds": 7, "release": true, "run": { "heartbeatRunId": 5 } });
    let read = lease(spec, json!(null));
    assert_eq!((read.spec.ttl_seconds, read.spec.release), (7, true));
    assert_eq!((read.spec.policy, &read.spec.run), (LeasePolicy::Ephemeral, &None));
    assert_eq!((&read.status, read.status_unreadable), (&None, false));
    let conditions = [
        condition("Active", "True", "Granted"),
        condition("Active", "True", "OfTheFuture"),
        json!(7),
    ];
    let read = lease(json!({}), json!({ "phase": "Active", "conditions": conditions }));
    let status = read.status.unwrap();
    assert_eq!(status.conditions.len(), 1);
    assert_eq!(status.conditions[0].type_, ConditionType::Active);
    assert!(read.status_unreadable);
}

#[test]
fn an_end_in_unknown_words_is_an_end() {
    for status in [
        json!({ "phase": "Failed", "reason": "OfTheFuture" }),
        json!({ "phase": "Revoked", "reason": "OfTheFuture", "conditions": [condition("Finished", "True", "OfTheFuture")] }),
        json!({ "phase": "Revoked", "releasedAt": "2026-01-01T00:00:00.000Z" }),
    ] {
        let read = lease(json!({}), status.clone());
        assert!(read.status_unreadable, "{status}");
        let shown = shown_ending(read.status.as_ref().unwrap());
        assert_eq!(
            shown.map(|shown| shown.reason),
            Some(Reason::EndedInDatabase),
            "{status}"
        );
    }
    for status in [
        json!({ "phase": "Suspended", "conditions": [condition("Finished", "False", "OfTheFuture")] }),
        json!({ "phase": "Active", "reason": "OfTheFuture" }),
    ] {
        let read = lease(json!({}), status.clone());
        assert_eq!(shown_ending(read.status.as_ref().unwrap()), None, "{status}");
    }
}

#[test]
fn a_status_that_is_none_counts_as_none_and_is_to_be_written_anew() {
    for odd in [json!("x"), json!([1]), json!(7)] {
        let read = lease(json!({}), odd.clone());
        assert!(read.status_unreadable, "{odd}");
        assert_eq!(read.status, Some(EnvironmentLeaseStatus::default()));
    }
    let huge = json!({ "phase": "Active", "message": "x".repeat(1_400_000), "fencingToken": 7 });
    let read = lease(json!({}), huge);
    let status = read.status.unwrap();
    assert_eq!(
        (status.phase, status.fencing_token, status.message),
        (Some(LeasePhase::Active), Some(7), None)
    );
    assert!(read.status_unreadable);
}

#[test]
fn a_long_heartbeat_is_kept_as_a_digest_that_changes_with_it() {
    let beat = |text: &str| {
        let mut object = object(json!({}), json!(null));
        object["metadata"]["annotations"] = json!({ "paperclip.ing/renew-time": text, "other": "y".repeat(100_000) });
        LeaseObject::decode("", "", object).unwrap().meta.renew_time.unwrap()
    };
    assert_eq!(beat("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00Z");
    let long = "x".repeat(200_000);
    let one = beat(&long);
    assert!(one.len() < 64, "{one}");
    assert_eq!(one, beat(&long));
    assert_ne!(one, beat(&format!("{long}y")));
    assert_ne!(one, beat(&long.replacen('x', "y", 1)));
}

#[test]
fn what_the_api_server_writes_itself_has_to_be_readable() {
    for (field, value) in [
        ("uid", json!("x")),
        ("resourceVersion", json!("0")),
        ("name", json!(null)),
    ] {
        let mut object = object(json!({}), json!(null));
        object["metadata"][field] = value;
        assert!(LeaseObject::decode("", "", object).is_err(), "{field}");
    }
    let mut object = object(json!({}), json!(null));
    object["metadata"]["labels"] = json!(null);
    object["metadata"]["annotations"] = json!(null);
    object["metadata"]["deletionTimestamp"] = json!("soon");
    assert!(LeaseObject::decode("", "", object).unwrap().meta.deleting);
}
