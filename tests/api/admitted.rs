//! Manifests that the API server admits: nothing of them is lost, and a null is as if it were absent.

use std::collections::BTreeSet;

use environment_operator::api::{self, Environment, EnvironmentLease};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use kube::api::{Api, ListParams};
use serde_json::{Map, Value, json};

use crate::manifests::{specs, statuses};
use crate::support::{Attempt, Kind, Namespaced, schema};

#[tokio::test]
async fn a_manifest_with_every_field_comes_back_identical() {
    let namespace = Namespaced::new("identical").await;
    for (name, kind, spec) in specs() {
        let stored = create(&namespace, kind, &spec)
            .await
            .unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(stored["spec"], spec, "{name}");
        assert_eq!(reencoded(kind, &stored)["spec"], spec, "{name}, through the types");
    }
    for (name, kind, status) in statuses() {
        let stored = report(&namespace, kind, &status)
            .await
            .unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(stored["status"], status, "{name}");
        assert_eq!(reencoded(kind, &stored)["status"], status, "{name}, through the types");
    }
}

#[test]
fn the_manifests_set_every_field_of_the_schema() {
    for kind in [Kind::Environment, Kind::Lease] {
        let mut definition = kind.definition();
        let properties = schema(&mut definition).properties.take().unwrap();
        for (part, manifests) in [("spec", specs()), ("status", statuses())] {
            let set: BTreeSet<_> = manifests
                .iter()
                .filter(|(_, of, _)| *of == kind)
                .flat_map(|(_, _, value)| paths(&properties[part], value).into_iter().map(|path| unindexed(&path)))
                .collect();
            let mut declared = BTreeSet::new();
            fields(&properties[part], "", &mut declared);
            assert_eq!(set, declared, "{} of {}", part, kind.name());
        }
    }
}

#[tokio::test]
async fn a_field_that_is_null_is_as_if_it_were_absent() {
    let namespace = Namespaced::new("null").await;
    let mut nulls = 0;
    for (part, manifests) in [("spec", specs()), ("status", statuses())] {
        for (name, kind, manifest) in manifests {
            let mut definition = kind.definition();
            let part_schema = schema(&mut definition).properties.take().unwrap().remove(part).unwrap();
            for path in paths(&part_schema, &manifest) {
                let (mut null, mut absent) = (manifest.clone(), manifest.clone());
                *null.pointer_mut(&path).unwrap() = Value::Null;
                remove(&mut absent, &path);
                let (with_null, without) = match part {
                    "spec" => (
                        create(&namespace, kind, &null).await,
                        create(&namespace, kind, &absent).await,
                    ),
                    _ => (
                        report(&namespace, kind, &null).await,
                        report(&namespace, kind, &absent).await,
                    ),
                };
                let part_of = |answer: Result<Value, String>| answer.map(|object| object[part].clone());
                assert_eq!(part_of(with_null), part_of(without), "{name}: {part}{path}");
                nulls += 1;
            }
        }
    }
    assert!(nulls > 80, "only {nulls} fields were posted as null");
}

#[tokio::test]
async fn defaults_are_written_out() {
    let namespace = Namespaced::new("defaults").await;
    let stored = create(&namespace, Kind::Lease, &json!({})).await.unwrap();
    assert_eq!(
        stored["spec"],
        json!({
            "policy": "Ephemeral",
            "ttlSeconds": 86400,
            "release": false,
            "acquireTimeoutSeconds": 600,
            "ttlSecondsAfterFinished": 3600,
        })
    );
    let ssh = json!({ "host": "::1", "username": "agent", "remoteWorkspacePath": "/work" });
    let stored = create(&namespace, Kind::Environment, &json!({ "driver": "SSH", "ssh": ssh }))
        .await
        .unwrap();
    assert_eq!(stored["spec"]["ssh"]["port"], 22);
    assert_eq!(stored["spec"]["ssh"]["strictHostKeyChecking"], true);
    let stored = create(&namespace, Kind::Environment, &json!({ "driver": "Local" }))
        .await
        .unwrap();
    assert_eq!(stored["spec"], json!({ "driver": "Local" }));
}

#[tokio::test]
async fn whatever_may_change_can_change() {
    let namespace = Namespaced::new("change").await;
    let after = json!({
        "ttlSeconds": 120,
        "heartbeatTimeoutSeconds": 30,
        "release": true,
        "acquireTimeoutSeconds": 1,
        "ttlSecondsAfterFinished": 1,
        "metadata": { "a": 1 },
    });
    let lease = Attempt::Change(json!({}), after);
    lease
        .run(&namespace.client, api::GROUP, &namespace.name, Kind::Lease)
        .await
        .unwrap();
    let after = json!({ "driver": "Local", "displayName": "Here", "archived": true, "maxActiveLeases": 1 });
    let environment = Attempt::Change(json!({ "driver": "Local" }), after);
    environment
        .run(&namespace.client, api::GROUP, &namespace.name, Kind::Environment)
        .await
        .unwrap();
    let local = Attempt::CreateNamed("local", json!({ "driver": "Local" }));
    local
        .run(&namespace.client, api::GROUP, &namespace.name, Kind::Environment)
        .await
        .unwrap();
    for (before, after) in [
        (
            json!({ "phase": "Pending" }),
            json!({ "phase": "Active", "fencingToken": 1 }),
        ),
        (
            json!({ "phase": "Active", "fencingToken": 1 }),
            json!({ "phase": "Retained", "fencingToken": 1 }),
        ),
        (json!({ "phase": "Retained" }), json!({ "phase": "Released" })),
        (
            json!({ "phase": "Released" }),
            json!({ "phase": "Released", "message": "Another word." }),
        ),
    ] {
        let report = Attempt::Report(before, after);
        report
            .run(&namespace.client, api::GROUP, &namespace.name, Kind::Lease)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn one_object_of_absurd_depth_blinds_nobody_to_the_others() {
    let namespace = Namespaced::new("deep").await;
    create(&namespace, Kind::Lease, &json!({})).await.unwrap();
    let deep = lease_with_metadata(&format!("{}1{}", r#"{"a":"#.repeat(9_000), "}".repeat(9_000)));
    let url = format!(
        "/apis/paperclip.ing/v1alpha1/namespaces/{}/environmentleases",
        namespace.name
    );
    namespace
        .kubectl(&["create", "--raw", &url, "-f", "-"], &deep)
        .await
        .expect("the API server admits it");
    let leases: Api<EnvironmentLease> = Api::namespaced(namespace.client.clone(), &namespace.name);
    let listed = leases.list(&ListParams::default()).await.unwrap();
    let refused: Vec<_> = listed
        .items
        .iter()
        .filter_map(|lease| api::validate_lease(&lease.spec).err())
        .collect();
    assert_eq!(listed.items.len(), 2);
    assert_eq!(
        refused,
        ["spec.metadata is nested deeper than 64 levels: make it flatter"]
    );

    let large = lease_with_metadata(r#"{"a":1e400}"#);
    let refusal = namespace
        .kubectl(&["create", "--raw", &url, "-f", "-"], &large)
        .await
        .unwrap_err();
    assert!(
        refusal.contains("cannot unmarshal number 1e400 into Go value of type float64"),
        "{refusal}"
    );
}

fn lease_with_metadata(metadata: &str) -> String {
    format!(
        r#"{{"apiVersion":"paperclip.ing/v1alpha1","kind":"EnvironmentLease","metadata":{{"name":"deep"}},"spec":{{"metadata":{metadata}}}}}"#
    )
}

async fn create(namespace: &Namespaced, kind: Kind, spec: &Value) -> Result<Value, String> {
    Attempt::Create(spec.clone())
        .run(&namespace.client, api::GROUP, &namespace.name, kind)
        .await
}

async fn report(namespace: &Namespaced, kind: Kind, status: &Value) -> Result<Value, String> {
    Attempt::Report(Value::Null, status.clone())
        .run(&namespace.client, api::GROUP, &namespace.name, kind)
        .await
}

/// The object as the types read and write it.
fn reencoded(kind: Kind, object: &Value) -> Value {
    match kind {
        Kind::Environment => serde_json::to_value(serde_json::from_value::<Environment>(object.clone()).unwrap()),
        Kind::Lease => serde_json::to_value(serde_json::from_value::<EnvironmentLease>(object.clone()).unwrap()),
    }
    .unwrap()
}

/// JSON pointers to the fields of a value that its schema declares; free objects are fields, their members are not.
fn paths(schema: &JSONSchemaProps, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (name, property) in schema.properties.iter().flatten() {
        let Some(member) = value.get(name) else { continue };
        found.push(format!("/{name}"));
        found.extend(paths(property, member).into_iter().map(|path| format!("/{name}{path}")));
    }
    if let (Some(JSONSchemaPropsOrArray::Schema(items)), Value::Array(values)) = (&schema.items, value) {
        for (index, member) in values.iter().enumerate() {
            found.extend(paths(items, member).into_iter().map(|path| format!("/{index}{path}")));
        }
    }
    found
}

/// JSON pointers to every field that a schema declares, without the indexes of lists.
fn fields(schema: &JSONSchemaProps, path: &str, found: &mut BTreeSet<String>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}/{name}");
        fields(property, &path, found);
        found.insert(path);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        fields(items, path, found);
    }
}

fn unindexed(path: &str) -> String {
    path.split('/')
        .filter(|step| step.parse::<usize>().is_err())
        .collect::<Vec<_>>()
        .join("/")
}

fn remove(value: &mut Value, path: &str) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent: &mut Map<String, Value> = value.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.remove(name).unwrap();
}
