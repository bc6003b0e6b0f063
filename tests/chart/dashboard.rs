//! The dashboard as the chart ships it; what its panels show of a real run is seen in the cluster layer.

use harness::guard;
use harness::prometheus::promtool;
use serde_json::{Value, json};

use crate::support::{objects_with, of_kind, only, path, read};

#[tokio::test]
async fn the_config_map_holds_the_dashboard_and_the_labels_that_a_sidecar_looks_for() {
    let objects = objects_with(&["crds.install=false", "dashboard.annotations.grafana_folder=Agents"]).await;
    let map = only(&objects, "ConfigMap");
    assert_eq!(map.metadata.labels.as_ref().unwrap()["grafana_dashboard"], "1");
    assert_eq!(map.metadata.annotations.as_ref().unwrap()["grafana_folder"], "Agents");
    let dashboard = map.data["data"]["environment-operator.json"].as_str().unwrap();
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(
        parse(dashboard),
        parse(&read("charts/environment-operator/files/dashboard.json"))
    );
    let without = objects_with(&["crds.install=false", "dashboard.enabled=false"]).await;
    assert!(of_kind(&without, "ConfigMap").is_empty());
}

#[tokio::test]
async fn promtool_takes_every_query_of_the_dashboard_and_of_the_runbooks() {
    let dashboard: Value = serde_json::from_str(&read("charts/environment-operator/files/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let of_the_dashboard = targets.map(|target| {
        let query = target["expr"].as_str().unwrap();
        query.replace("$__rate_interval", "2m").replace("$job", "job")
    });
    let mut queries: Vec<String> = of_the_dashboard.collect();
    for entry in std::fs::read_dir(path("docs/runbooks")).unwrap() {
        let page = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for block in page.split("```promql\n").skip(1) {
            queries.extend(block.split("```").next().unwrap().lines().map(str::to_owned));
        }
    }
    assert!(queries.len() > 50, "only {} queries were found", queries.len());
    // A query is checked as what a recording rule records.
    let rules = queries.iter().enumerate();
    let rules: Vec<Value> = rules
        .map(|(number, query)| json!({ "record": format!("query_{number}"), "expr": query }))
        .collect();
    let file = guard::fresh_directory("queries").unwrap().join("rules.yaml");
    std::fs::write(
        &file,
        json!({ "groups": [{ "name": "queries", "rules": rules }] }).to_string(),
    )
    .unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()])
        .await
        .unwrap_or_else(|said| panic!("{said:#}"));
}
