//! The alerts: what the chart renders, held against their stories by `promtool`.

use std::collections::{BTreeMap, BTreeSet};

use harness::guard;
use harness::objects;
use harness::prometheus::promtool;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{LEAST, NAMESPACE, of_kind, only, path, read, template, yaml};

/// The labels of every series of the rendered release.
const RELEASE: &str = r#"job="demo-environment-operator",namespace="operators""#;

/// `tests/chart/alerts/stories.yaml`.
#[derive(Deserialize)]
struct Stories {
    /// Series and their values.
    healthy: BTreeMap<String, String>,
    stories: Vec<Story>,
}

#[derive(Deserialize)]
struct Story {
    story: String,
    /// What is otherwise than on a healthy day.
    series: BTreeMap<String, String>,
    /// When no alert fires.
    silent: Vec<String>,
    /// None: no alert ever.
    fires: Option<Fires>,
}

#[derive(Deserialize)]
struct Fires {
    at: String,
    /// This one, and no other.
    alert: String,
    /// What it carries beyond the release's labels and its severity.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Stories {
    fn read() -> Self {
        serde_saphyr::from_str(&read("tests/chart/alerts/stories.yaml")).unwrap()
    }

    /// A story as promtool takes it.
    fn test(&self, story: &Story, severities: &BTreeMap<String, String>) -> Value {
        let mut series = self.healthy.clone();
        series.extend(story.series.clone());
        let silent = story.silent.iter().map(|at| firing(at, None));
        let fires = story.fires.iter().map(|fires| {
            let labels = fires.labels.iter().map(|(name, value)| format!("{name}={value:?},"));
            let alert = format!(
                r#"ALERTS{{alertname="{}",alertstate="firing",{}severity="{}",{RELEASE}}}"#,
                fires.alert,
                labels.collect::<String>(),
                severities[&fires.alert],
            );
            firing(&fires.at, Some(alert))
        });
        json!({
            "name": story.story,
            "interval": "1m",
            "input_series": series
                .iter()
                .map(|(series, values)| json!({ "series": series.replace('}', &format!(",{RELEASE}}}")), "values": values }))
                .collect::<Vec<_>>(),
            "promql_expr_test": silent.chain(fires).collect::<Vec<_>>(),
        })
    }
}

/// That of all alerts just this one fires at a moment, or none.
fn firing(at: &str, alert: Option<String>) -> Value {
    let samples: Vec<Value> = alert
        .into_iter()
        .map(|labels| json!({ "labels": labels, "value": 1 }))
        .collect();
    json!({ "expr": r#"ALERTS{alertstate="firing"}"#, "eval_time": at, "exp_samples": samples })
}

/// The groups of the rendered rules; JSON is YAML.
async fn groups(values: &[&str]) -> Value {
    let least = [LEAST[0], "crds.install=false", "prometheusRule.enabled=always"];
    let arguments: Vec<&str> = least.iter().chain(values).flat_map(|value| ["--set", *value]).collect();
    let rendered = objects::parse(&template(&arguments).await.unwrap()).unwrap();
    let rule = only(&rendered, "PrometheusRule");
    assert_eq!(rule.metadata.namespace.as_deref(), Some(NAMESPACE));
    rule.data["spec"].clone()
}

fn rules(groups: &Value) -> Vec<Value> {
    let groups = groups["groups"].as_array().unwrap();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

fn text<'a>(rule: &'a Value, key: &str) -> &'a str {
    rule[key].as_str().unwrap_or_else(|| panic!("no {key} in {rule}"))
}

#[tokio::test]
async fn promtool_takes_the_rules_as_they_are_and_as_they_are_rendered() {
    let plain = path("charts/environment-operator/files/alerts.yaml");
    promtool(&["check", "rules", plain.to_str().unwrap()]).await.unwrap();
    let rendered = guard::fresh_directory("rules").unwrap().join("rules.yaml");
    std::fs::write(&rendered, groups(&[]).await.to_string()).unwrap();
    promtool(&["check", "rules", rendered.to_str().unwrap()]).await.unwrap();
}

#[tokio::test]
async fn each_alert_fires_in_its_story_and_none_on_a_healthy_day() {
    let directory = guard::fresh_directory("stories").unwrap();
    let groups = groups(&[]).await;
    let severity = |rule: &Value| {
        (
            text(rule, "alert").to_owned(),
            text(&rule["labels"], "severity").to_owned(),
        )
    };
    let severities = rules(&groups).iter().map(severity).collect();
    let stories = Stories::read();
    let healthy = Story {
        story: "a healthy day".to_owned(),
        series: BTreeMap::new(),
        silent: (1..18).map(|tens| format!("{tens}0m")).collect(),
        fires: None,
    };
    let all = stories.stories.iter().chain([&healthy]);
    let tests: Vec<Value> = all.map(|story| stories.test(story, &severities)).collect();
    std::fs::write(directory.join("rules.yaml"), groups.to_string()).unwrap();
    let file = directory.join("tests.yaml");
    let content = json!({ "rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests });
    std::fs::write(&file, content.to_string()).unwrap();
    promtool(&["test", "rules", file.to_str().unwrap()])
        .await
        .unwrap_or_else(|said| panic!("{said:#}"));
}

#[tokio::test]
async fn each_alert_has_a_story_and_says_what_it_knows() {
    let stories = Stories::read();
    let told: BTreeMap<&str, &Fires> = stories
        .stories
        .iter()
        .filter_map(|story| story.fires.as_ref())
        .map(|fires| (fires.alert.as_str(), fires))
        .collect();
    let rules = rules(&groups(&[]).await);
    let named: BTreeSet<&str> = rules.iter().map(|rule| text(rule, "alert")).collect();
    assert_eq!(told.keys().copied().collect::<BTreeSet<_>>(), named);
    for rule in &rules {
        let (name, annotations) = (text(rule, "alert"), &rule["annotations"]);
        for key in ["summary", "description"] {
            // A label that the alert does not carry would be an empty word.
            for label in text(annotations, key).split("$labels.").skip(1) {
                let label = label.split(' ').next().unwrap_or_default();
                assert!(told[name].labels.contains_key(label), "{name}: {key} names {label}");
            }
        }
        assert!(
            ["warning", "critical"].contains(&text(&rule["labels"], "severity")),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_rules_are_those_of_the_release_and_link_to_where_the_runbooks_are() {
    let rules = rules(
        &groups(&[
            "prometheusRule.runbooks=https://git.example/runbooks/",
            "prometheusRule.disabled={EnvironmentOperatorCapacityExhausted}",
        ])
        .await,
    );
    for rule in &rules {
        let (name, expression) = (text(rule, "alert"), text(rule, "expr"));
        assert!(expression.contains(RELEASE), "{name}: {expression}");
        assert!(
            !expression.contains(r#"job="environment-operator""#),
            "{name}: {expression}"
        );
        assert_eq!(
            text(&rule["annotations"], "runbook_url"),
            format!("https://git.example/runbooks/{name}.md")
        );
    }
    assert!(rules.len() > 10);
    let left_out = |rule: &Value| text(rule, "alert") == "EnvironmentOperatorCapacityExhausted";
    assert!(!rules.iter().any(left_out));
}

#[tokio::test]
async fn the_schema_knows_each_alert_by_its_name() {
    let plain = yaml(&read("charts/environment-operator/files/alerts.yaml"));
    let schema: Value = serde_json::from_str(&read("charts/environment-operator/values.schema.json")).unwrap();
    let known = &schema["properties"]["prometheusRule"]["properties"]["disabled"]["items"]["enum"];
    let names: Vec<Value> = rules(&plain).iter().map(|rule| rule["alert"].clone()).collect();
    assert_eq!(known, &Value::Array(names));
}

#[tokio::test]
async fn rules_are_made_where_their_api_is_there() {
    let made = async |arguments: &[&str]| {
        let least = ["--set", LEAST[0], "--set", "crds.install=false"];
        let rendered = template(&[&least, arguments].concat()).await.unwrap();
        of_kind(&objects::parse(&rendered).unwrap(), "PrometheusRule").len()
    };
    let there = ["--api-versions", "monitoring.coreos.com/v1/PrometheusRule"];
    assert_eq!(made(&[]).await, 0);
    assert_eq!(made(&there).await, 1);
    assert_eq!(
        made(&[&there[..], &["--set", "prometheusRule.enabled=never"]].concat()).await,
        0
    );
}
