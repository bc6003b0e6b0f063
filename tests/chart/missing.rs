//! Values that are missing: a null stands for the default, and so does a key that an older chart did not have.

use futures::StreamExt;
use harness::guard;
use harness::objects;
use serde_json::Value;

use crate::installed::{helm, installed};
use crate::support::{LEAST, NAMESPACE, RELEASE, copy_chart, of_kind, path, read, run, template, template_of};

/// Below these stands what Kubernetes defines: there a null removes a key of the default, as Helm has it.
const WHOLE: &[&str] = &["labels", "resources", "podSecurityContext", "securityContext"];

/// The keys of all values, as in `image.tag`: of maps, of what lies in them, and of what is no map.
fn keys(values: &Value, above: &str, found: &mut Vec<String>) {
    for (key, value) in values.as_object().into_iter().flatten() {
        let key = if above.is_empty() {
            key.clone()
        } else {
            format!("{above}.{key}")
        };
        keys(value, &key, found);
        found.push(key);
    }
}

fn all_keys() -> Vec<String> {
    let mut found = Vec::new();
    let values: Value = serde_json::from_str(&read("charts/environment-operator/files/defaults.json")).unwrap();
    keys(&values, "", &mut found);
    assert!(found.len() > 130, "{}", found.len());
    found
}

/// Renders with values, and with more arguments after them.
async fn rendered(values: &str, arguments: &[&str]) -> Result<String, String> {
    template(&[&["--set", values], arguments].concat()).await
}

#[tokio::test]
async fn a_null_is_the_default_for_every_key() {
    // What has to be set to see what a key does, and the first part of the keys that are seen there.
    let cases = [
        ("database.secretName=database", ""),
        (
            "postgresql.embedded.enabled=true,postgresql.embedded.password=x",
            "postgresql",
        ),
        ("database.secretName=database,migration.mode=hook", "migration"),
        ("database.secretName=database,database.host=a.example", "database"),
        (
            "database.secretName=database,serviceMonitor.enabled=always,prometheusRule.enabled=always",
            "serviceMonitor",
        ),
    ];
    let mut tried = 0;
    for (values, part) in cases {
        let expected = rendered(values, &[]).await.unwrap();
        let mut keys = all_keys();
        keys.retain(|key| key.starts_with(part) && !values.contains(&format!("{key}=")));
        // Where a map goes, what was set in it goes too.
        keys.retain(|key| !values.contains(&format!("{key}.")));
        let outcomes = futures::stream::iter(keys).map(async |key| {
            let null = format!("{key}=null");
            let outcome = rendered(values, &["--set", &null]).await;
            (key, outcome)
        });
        let mut outcomes = outcomes.buffer_unordered(4);
        while let Some((key, outcome)) = outcomes.next().await {
            let text = outcome.unwrap_or_else(|said| panic!("{values}: {key}=null: {said}"));
            let whole = key.split('.').rev().skip(1).any(|part| WHOLE.contains(&part));
            assert!(whole || text == expected, "{values}: {key}=null is another chart");
            tried += 1;
        }
    }
    assert!(tried > 130, "{tried}");
}

#[tokio::test]
async fn where_a_null_takes_away_what_was_set_a_sentence_says_what_is_needed() {
    for null in ["database.secretName=null", "database=null"] {
        let said = rendered(LEAST[0], &["--set", null]).await.unwrap_err();
        assert!(said.contains("set database.secretName"), "{null}: {said}");
    }
}

#[tokio::test]
async fn no_value_makes_a_rule_of_the_network_without_ports() {
    let empty = [
        "networkPolicy.databasePorts=[]",
        "networkPolicy.apiServerPorts=[]",
        "networkPolicy.metricsFrom=[{}]",
        "settings.runKinds=[]",
        "settings.namespaces=[\"\"]",
        "image.repository=\"\"",
        "postgresql.embedded.image=\"\"",
        "database.name=\"\"",
        "database.urlKey=\"\"",
        "settings.log=\"inof\"",
    ];
    for value in empty {
        let said = rendered(LEAST[0], &["--set-json", value]).await.unwrap_err();
        let key = value.split('=').next().unwrap().replace('.', "/");
        assert!(said.contains(&format!("at '/{key}")), "{value}: {said}");
    }
    for value in ["networkPolicy.collectorPorts=[]", "networkPolicy.metricsFrom=[]"] {
        let text = rendered(LEAST[0], &["--set-json", value]).await.unwrap();
        for policy in of_kind(&objects::parse(&text).unwrap(), "NetworkPolicy") {
            for rule in policy.data["spec"]["egress"].as_array().unwrap() {
                let ports = rule["ports"].as_array().map(Vec::len).unwrap_or_default();
                assert!(ports > 0, "{value}: {rule}");
            }
        }
    }
}

/// The values of released charts, by their versions.
fn released() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path("tests/chart/released")).unwrap() {
        let file = entry.unwrap().path();
        let version = file.file_stem().unwrap().to_string_lossy().into_owned();
        found.push((version, std::fs::read_to_string(&file).unwrap()));
    }
    assert!(!found.is_empty());
    found
}

/// The chart as `--reuse-values` has it rendered: with the values of an older one in place of its own.
fn with_older_values(version: &str, values: &str) -> std::path::PathBuf {
    let chart = guard::fresh_directory(&format!("older-{version}"))
        .unwrap()
        .join("chart");
    copy_chart(&chart);
    std::fs::write(chart.join("values.yaml"), values).unwrap();
    chart
}

#[tokio::test]
async fn with_the_values_of_every_released_chart_all_that_is_new_has_its_default() {
    for (version, values) in released() {
        let chart = with_older_values(&version, &values);
        let old = template_of(&chart, RELEASE, &["--set", LEAST[0]]).await;
        let old = old.unwrap_or_else(|said| panic!("{version}: {said}"));
        let count = |text: &str| objects::parse(text).unwrap().len();
        let new = template(&["--set", LEAST[0]]).await.unwrap();
        assert_eq!(count(&old), count(&new), "{version}");
    }
}

#[tokio::test]
async fn every_tagged_version_has_left_its_values() {
    let mut git = tokio::process::Command::new("git");
    git.args(["tag", "--list", "v*"]).current_dir(path("."));
    // Outside of the repository nothing is tagged.
    let tags = if path(".git").exists() {
        run(&mut git).await.unwrap()
    } else {
        String::new()
    };
    let known = released();
    for tag in tags.lines() {
        let version = tag.trim_start_matches('v');
        assert!(
            known.iter().any(|(name, _)| name == version),
            "{tag}: copy the chart's values.yaml of it to tests/chart/released/{version}.yaml"
        );
    }
}

#[tokio::test]
async fn a_release_of_every_older_chart_is_upgraded_with_reused_values() {
    let control_plane = installed().await;
    let apart = "crds.install=false,replicaCount=0,settings.unmanagedGrace=20m";
    for (number, (version, values)) in released().into_iter().enumerate() {
        let (older, release) = (
            with_older_values(&format!("{version}-installed"), &values),
            format!("aged-{number}"),
        );
        let install = [
            "install",
            &release,
            older.to_str().unwrap(),
            "--set",
            LEAST[0],
            "--set",
            apart,
        ];
        helm(control_plane, &install)
            .await
            .unwrap_or_else(|said| panic!("{version}: {said}"));
        let chart = crate::support::chart();
        let upgrade = ["upgrade", &release, chart.to_str().unwrap(), "--reuse-values"];
        helm(control_plane, &upgrade)
            .await
            .unwrap_or_else(|said| panic!("{version}: {said}"));
        let manifest = helm(control_plane, &["get", "manifest", &release]).await.unwrap();
        assert!(
            manifest.contains("value: \"20m\""),
            "what was set is kept in {NAMESPACE}"
        );
        helm(control_plane, &["uninstall", &release]).await.unwrap();
    }
}
