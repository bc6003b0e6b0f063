//! The definitions themselves on a real API server: their budget, and what users see of them.

use harness::wait::eventually;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

use crate::support::{Kind, Namespaced, dynamic, schema, visit_rules};
use environment_operator::api;

/// How many times over each rule fits into the API server's budgets, for one rule and for all together.
const ROOM: usize = 100;

#[tokio::test]
async fn the_rules_cost_less_than_a_hundredth_of_their_budget() {
    let namespace = Namespaced::new("budget").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(namespace.client.clone());
    for kind in [Kind::Environment, Kind::Lease] {
        let mut definition = kind.definition();
        visit_rules(schema(&mut definition), "", &mut |_, rules| {
            for rule in rules {
                rule.rule = vec![format!("({})", rule.rule); ROOM].join(" && ");
            }
        });
        definition.spec.group = "budget.paperclip.ing".to_owned();
        definition.metadata.name = Some(format!("{}.budget.paperclip.ing", definition.spec.names.plural));
        let name = definition.metadata.name.as_deref().unwrap();
        let dry = PatchParams {
            dry_run: true,
            ..PatchParams::apply("test")
        };
        let admitted = definitions.patch(name, &dry, &Patch::Apply(&definition)).await;
        assert!(admitted.is_ok(), "{}: {}", kind.name(), admitted.unwrap_err());
    }
}

#[tokio::test]
async fn kubectl_get_shows_the_columns() {
    let namespace = Namespaced::new("columns").await;
    make(
        &namespace,
        Kind::Environment,
        json!({ "driver": "Local" }),
        json!({ "phase": "Active", "activeLeases": 2, "companyId": "0b0e0a9c-5a2c-4c41-9f5e-3b8d8b1e7a10" }),
    )
    .await;
    make(
        &namespace,
        Kind::Lease,
        json!({ "environmentRef": { "name": "asked" }, "metadata": { "environment": { "name": "data" } } }),
        json!({
            "phase": "Active",
            "environment": { "name": "box", "id": "0b0e0a9c-5a2c-4c41-9f5e-3b8d8b1e7a10", "driver": "SSH" },
            "run": { "display": "job/build" },
            "reason": "Granted",
            "expiresAt": "2999-01-31T12:00:00.000Z",
            "fencingToken": 7,
            "message": "holds",
        }),
    )
    .await;
    assert_eq!(
        table(&namespace, &["get", "penv"]).await,
        [
            ["NAME", "DRIVER", "PHASE", "LEASES", "COMPANY"].as_slice(),
            &[
                "subject",
                "Local",
                "Active",
                "2",
                "0b0e0a9c-5a2c-4c41-9f5e-3b8d8b1e7a10"
            ],
        ]
    );
    assert_eq!(
        table(&namespace, &["get", "envlease"]).await,
        [
            ["NAME", "PHASE", "ENVIRONMENT", "RUN", "REASON"].as_slice(),
            &["subject", "Active", "box", "job/build", "Granted"],
        ]
    );
    assert_eq!(
        table(&namespace, &["get", "envlease", "-o", "wide"]).await,
        [
            [
                "NAME",
                "PHASE",
                "ENVIRONMENT",
                "RUN",
                "REASON",
                "EXPIRES",
                "TOKEN",
                "MESSAGE"
            ]
            .as_slice(),
            &[
                "subject",
                "Active",
                "box",
                "job/build",
                "Granted",
                "2999-01-31T12:00:00.000Z",
                "7",
                "holds"
            ],
        ]
    );
    let category = namespace
        .kubectl(&["get", "paperclip", "-o", "name"], "")
        .await
        .unwrap();
    assert_eq!(
        category,
        "environmentlease.paperclip.ing/subject\nenvironment.paperclip.ing/subject\n"
    );
}

#[tokio::test]
async fn kubectl_get_shows_the_environment_that_a_claim_asks_for_until_one_is_held() {
    for (spec, environment) in [
        (json!({ "environmentRef": { "name": "asked" } }), Some("asked")),
        (json!({}), None),
    ] {
        let namespace = Namespaced::new("asked").await;
        // What the operator has not seen yet has no status at all.
        make(&namespace, Kind::Lease, spec, json!({})).await;
        let printed = namespace
            .kubectl(&["get", "envlease", "--no-headers"], "")
            .await
            .unwrap();
        let words: Vec<&str> = printed.split_whitespace().collect();
        let shown = words.contains(&"asked").then_some("asked");
        assert_eq!(shown, environment, "{printed}");
    }
}

#[tokio::test]
async fn leases_are_selected_by_environment_and_phase() {
    let namespace = Namespaced::new("selected").await;
    let spec = json!({ "environmentRef": { "name": "box" } });
    make(&namespace, Kind::Lease, spec, json!({ "phase": "Active" })).await;
    for (selector, found) in [
        (
            "spec.environmentRef.name=box,status.phase=Active",
            "environmentlease.paperclip.ing/subject\n",
        ),
        ("spec.environmentRef.name=other", ""),
        ("status.phase=Released", ""),
    ] {
        let selected = namespace
            .kubectl(&["get", "envlease", "-o", "name", "--field-selector", selector], "")
            .await;
        assert_eq!(selected.as_deref(), Ok(found), "{selector}");
    }
}

#[tokio::test]
async fn kubectl_explain_describes_every_field() {
    let namespace = Namespaced::new("explain").await;
    // The API server publishes the schema of new kinds a moment after it serves them.
    eventually("the schema is published", Duration::from_secs(60), async || {
        namespace.kubectl(&["explain", "environment.spec.ssh.port"], "").await?;
        namespace
            .kubectl(&["explain", "environmentlease.spec.ttlSeconds"], "")
            .await
    })
    .await;
    for kind in [Kind::Environment, Kind::Lease] {
        let resource = kind.name().to_lowercase();
        let explained = namespace
            .kubectl(&["explain", "--recursive", &resource], "")
            .await
            .unwrap();
        assert!(explained.contains("DESCRIPTION:\n    An Environment"), "{explained}");
        let mut definition = kind.definition();
        let described = serde_json::to_value(schema(&mut definition)).unwrap();
        assert_described(&described, kind.name());
    }
    let explained = namespace
        .kubectl(&["explain", "environmentlease.spec.policy"], "")
        .await
        .unwrap();
    for expected in [
        "FIELD: policy <string>",
        "ENUM:\n    Ephemeral\n    ReuseByEnvironment\n    ReuseByExecutionWorkspace\n    RetainOnFailure\n",
        "What is kept between runs: Ephemeral (nothing)",
    ] {
        assert!(explained.contains(expected), "{expected:?} is not in\n{explained}");
    }
}

/// Every property below a schema has a description that ends as a sentence does.
fn assert_described(schema: &Value, path: &str) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if ["apiVersion", "kind", "metadata"].contains(&name.as_str()) && !path.contains(".spec") {
            continue; // the API server's own
        }
        let description = property["description"].as_str().unwrap_or_default();
        assert!(
            description.ends_with('.') && description.len() > 15,
            "{path}: {description:?}"
        );
        assert_described(property, &path);
        assert_described(&property["items"], &path);
    }
}

/// What kubectl prints as a table, without the column AGE.
async fn table(namespace: &Namespaced, arguments: &[&str]) -> Vec<Vec<String>> {
    let printed = namespace.kubectl(arguments, "").await.unwrap();
    let mut rows: Vec<Vec<String>> = printed
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    let age = rows[0].iter().position(|column| column == "AGE").expect("a column AGE");
    for row in &mut rows {
        row.remove(age);
    }
    rows
}

/// Makes an object named `subject` with a status.
async fn make(namespace: &Namespaced, kind: Kind, spec: Value, status: Value) {
    let objects = dynamic(&namespace.client, api::GROUP, &namespace.name, kind);
    let object = json!({
        "apiVersion": format!("{}/{}", api::GROUP, api::VERSION),
        "kind": kind.name(),
        "metadata": { "name": "subject" },
        "spec": spec,
    });
    objects
        .create(
            &kube::api::PostParams::default(),
            &serde_json::from_value(object).unwrap(),
        )
        .await
        .unwrap();
    let patch = Patch::Merge(json!({ "status": status }));
    objects
        .patch_status("subject", &PatchParams::default(), &patch)
        .await
        .unwrap();
}
