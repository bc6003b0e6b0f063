//! What the chart renders, over a handful of values files.

use environment_operator::api;
use harness::objects;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::support::{agrees, objects_with, of_kind, path, read, template, yaml};

/// The names of the values files in `tests/chart/values` and of their snapshots in `tests/chart/golden`.
pub const CASES: &[&str] = &[
    "least",
    "namespaced",
    "parts",
    "embedded",
    "hook",
    "everything",
    "given",
];

/// The rendered chart of a case, definitions and dashboard apart: those are files that are looked at elsewhere.
pub async fn case(name: &str) -> String {
    let values = path(&format!("tests/chart/values/{name}.yaml"));
    let apart = "crds.install=false,dashboard.enabled=false";
    let arguments = ["--values", values.to_str().unwrap(), "--set", apart];
    template(&arguments)
        .await
        .unwrap_or_else(|said| panic!("{name}: {said}"))
}

#[tokio::test]
async fn the_rendered_chart_is_as_it_was_looked_at() {
    for name in CASES {
        agrees(&format!("tests/chart/golden/{name}.yaml"), &case(name).await);
    }
}

#[tokio::test]
async fn nothing_is_rendered_twice_and_all_that_has_a_namespace_says_so() {
    for name in CASES {
        let mut seen = Vec::new();
        for object in objects::parse(&case(name).await).unwrap() {
            let kind = object.types.unwrap().kind;
            let clusterwide = kind.starts_with("Cluster") || kind.starts_with("ValidatingAdmissionPolicy");
            assert_eq!(object.metadata.namespace.is_none(), clusterwide, "{name}: {kind}");
            let identity = (kind, object.metadata.namespace, object.metadata.name);
            assert!(!seen.contains(&identity), "{name}: {identity:?}");
            seen.push(identity);
        }
    }
}

#[test]
fn chart_image_and_binary_have_one_version() {
    let chart = yaml(&read("charts/environment-operator/Chart.yaml"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_rendered_definitions_differ_from_the_generated_ones_in_metadata_alone() {
    let kept = json!({ "helm.sh/resource-policy": "keep" });
    for (value, annotations) in [("crds.keep=true", kept), ("crds.keep=false", Value::Null)] {
        let objects = objects_with(&[value]).await;
        let rendered = of_kind(&objects, "CustomResourceDefinition");
        assert_eq!(rendered.len(), api::crds().len());
        for crd in api::crds() {
            let same = |object: &&&DynamicObject| object.metadata.name == crd.metadata.name;
            let object = serde_json::to_value(rendered.iter().find(same).unwrap()).unwrap();
            let same = object["spec"] == yaml(&api::crd_yaml(&crd))["spec"];
            assert!(same, "{:?} is another one in the chart", crd.metadata.name);
            assert_eq!(
                object["metadata"].get("annotations").cloned().unwrap_or_default(),
                annotations
            );
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/instance"], "demo");
        }
    }
    let without = objects_with(&["crds.install=false"]).await;
    assert!(of_kind(&without, "CustomResourceDefinition").is_empty());
}

#[tokio::test]
async fn a_service_monitor_is_made_where_its_api_is_there() {
    let monitors = async |arguments: &[&str]| {
        let least = ["--set", "database.secretName=database", "--set", "crds.install=false"];
        let text = template(&[&least, arguments].concat()).await.unwrap();
        of_kind(&objects::parse(&text).unwrap(), "ServiceMonitor").len()
    };
    let there = ["--api-versions", "monitoring.coreos.com/v1/ServiceMonitor"];
    assert_eq!(monitors(&[]).await, 0);
    assert_eq!(monitors(&there).await, 1);
    assert_eq!(monitors(&["--set", "serviceMonitor.enabled=always"]).await, 1);
    assert_eq!(
        monitors(&[&there[..], &["--set", "serviceMonitor.enabled=never"]].concat()).await,
        0
    );
}
