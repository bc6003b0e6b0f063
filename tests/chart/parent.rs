//! The chart as a part of another one.

use std::path::{Path, PathBuf};

use harness::{guard, objects};

use crate::support::{RELEASE, copy_chart, only, template_of};

/// A chart that has this one as a dependency, with a condition as Helm's documentation has it, and other keys beside.
fn parent(name: &str) -> PathBuf {
    let folder = guard::fresh_directory(name).unwrap();
    std::fs::create_dir(folder.join("charts")).unwrap();
    copy_chart(&folder.join("charts/environment-operator"));
    let write = |file: &str, text: &str| std::fs::write(folder.join(file), text).unwrap();
    let dependency =
        "{ name: environment-operator, version: 0.1.0, condition: environment-operator.enabled, tags: [operators] }";
    let chart = format!("apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n  - {dependency}\n");
    write("Chart.yaml", &chart);
    write(
        "values.yaml",
        "global: { storageClass: fast, imageRegistry: mirror.example, labels: { a: b } }\ntags: { operators: true }\n\
         environment-operator: { enabled: true, database: { secretName: database }, crds: { install: false } }\n",
    );
    folder
}

async fn rendered(parent: &Path, values: &str) -> String {
    template_of(parent, RELEASE, &["--set", values])
        .await
        .unwrap_or_else(|said| panic!("{values}: {said}"))
}

#[tokio::test]
async fn a_parent_chart_s_condition_and_what_it_shares_are_taken() {
    let parent = parent("parent");
    let text = rendered(&parent, "environment-operator.enabled=true").await;
    let objects = objects::parse(&text).unwrap();
    let image = &only(&objects, "Deployment").data["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "mirror.example/environment-operator:0.1.0");
    let without = rendered(&parent, "environment-operator.enabled=false").await;
    assert!(objects::parse(&without).unwrap().is_empty(), "{without}");
}

#[tokio::test]
async fn a_null_in_a_parent_chart_is_the_default_too() {
    let parent = parent("parent-null");
    let expected = rendered(&parent, "environment-operator.enabled=true").await;
    for key in [
        "networkPolicy.databasePorts",
        "settings",
        "settings.runKinds",
        "podDisruptionBudget",
        "database.tls",
    ] {
        let text = rendered(&parent, &format!("environment-operator.{key}=null")).await;
        assert_eq!(text, expected, "{key}");
    }
}
