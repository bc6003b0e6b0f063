//! The chart's alerts, their runbooks and the dashboard against the metrics, the settings and one another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::{agrees, files, read, table};

const DOCUMENT: &str = "docs/operations.md";
const RULES: &str = "charts/environment-operator/files/alerts.yaml";
const DASHBOARD: &str = "charts/environment-operator/files/dashboard.json";
const SCHEMA: &str = "charts/environment-operator/values.schema.json";
const RUNBOOKS: &str = "docs/runbooks";

/// What each page answers, in this order.
const QUESTIONS: [&str; 4] = ["## At risk", "## Look", "## Mend", "## Prevent"];

/// What Prometheus itself puts on a series.
const OF_THE_TARGET: [&str; 3] = ["namespace", "job", "instance"];

/// The alerts, in the order of their file.
fn rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&read(RULES)).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The pages, by the alert that each is called after.
fn pages() -> BTreeMap<String, String> {
    let page = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).unwrap())
    };
    files(RUNBOOKS, ".md").into_iter().map(page).collect()
}

/// What stands in a page's fenced blocks of one language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    let blocks = page.split(begin.as_str()).skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_table_of_alerts_is_the_rules() {
    let mut rows = "| alert | severity | after | it says |\n|---|---|---|---|\n".to_owned();
    for rule in rules() {
        let (name, summary) = (text(&rule, "alert"), text(&rule["annotations"], "summary"));
        let (severity, after) = (
            text(&rule["labels"], "severity"),
            rule["for"].as_str().unwrap_or("at once"),
        );
        let summary = summary.replace("{{ $labels.kind }}", "a kind");
        let _ = writeln!(
            rows,
            "| [{name}](runbooks/{name}.md) | {severity} | {after} | {summary} |"
        );
    }
    agrees(DOCUMENT, "alerts", &rows);
}

#[test]
fn each_alert_has_its_runbook_and_each_runbook_its_alert() {
    let rules = rules();
    let named: BTreeSet<&str> = rules.iter().map(|rule| text(rule, "alert")).collect();
    let pages = pages();
    assert_eq!(pages.keys().map(String::as_str).collect::<BTreeSet<_>>(), named);
    for rule in &rules {
        let name = text(rule, "alert");
        assert_eq!(
            text(&rule["annotations"], "runbook_url"),
            format!("{RUNBOOKS}/{name}.md")
        );
        let page = &pages[name];
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        let headings: Vec<&str> = page.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(headings, QUESTIONS, "{name}");
        assert!(page.contains("\n```"), "{name}: nothing to look at");
    }
}

#[test]
fn what_alerts_dashboard_and_runbooks_ask_for_is_there() {
    let metrics = metrics();
    for rule in rules() {
        check(&metrics, text(&rule, "alert"), text(&rule, "expr"), "");
    }
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            check(&metrics, text(panel, "title"), text(target, "expr"), legend);
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        check(&metrics, text(variable, "name"), &variable["query"].to_string(), "");
    }
    for (name, page) in pages() {
        for query in blocks(&page, "promql").into_iter().flat_map(str::lines) {
            check(&metrics, &name, query, "");
        }
        for code in page.split('`').skip(1).step_by(2) {
            check(&metrics, &name, code, "");
        }
    }
}

/// The labels of each metric, by its name.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let mut metrics = BTreeMap::new();
    for row in table(&read(DOCUMENT), "## Metrics") {
        let labels = row[2].split(", ").map(str::to_owned);
        let mut labels: BTreeSet<String> = labels.filter(|label| !label.is_empty()).collect();
        if row[1] == "histogram" {
            for suffix in ["sum", "count"] {
                metrics.insert(format!("{}_{suffix}", row[0]), labels.clone());
            }
            labels.insert("le".to_owned());
            metrics.insert(format!("{}_bucket", row[0]), labels);
        } else {
            metrics.insert(row[0].clone(), labels);
        }
    }
    metrics
}

/// That each metric which a query names is there and has the labels that the query selects, groups and shows by.
fn check(metrics: &BTreeMap<String, BTreeSet<String>>, place: &str, query: &str, legend: &str) {
    let mut known: BTreeSet<&str> = OF_THE_TARGET.into();
    let word = |text: &'_ str| {
        text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(text.len())
    };
    for (at, _) in query.match_indices("environment_operator_") {
        let (name, rest) = query[at..].split_at(word(&query[at..]));
        let labels = metrics.get(name).unwrap_or_else(|| panic!("{place}: no metric {name}"));
        known.extend(labels.iter().map(String::as_str));
        let selectors = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        for selector in selectors.into_iter().flat_map(|selectors| selectors.split(',')) {
            let label = &selector[..word(selector)];
            let is_there = labels.contains(label) || OF_THE_TARGET.contains(&label);
            assert!(is_there, "{place}: {name} has no label {label}");
        }
    }
    let grouped = ["by (", "on (", "ignoring ("].into_iter().flat_map(|clause| {
        let lists = query.split(clause).skip(1);
        lists.flat_map(|rest| rest.split(')').next().unwrap_or_default().split(", "))
    });
    let shown = legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    for label in grouped.chain(shown) {
        assert!(known.contains(label), "{place}: no label {label} in {query}");
    }
}

#[test]
fn each_word_that_a_runbook_looks_for_in_the_log_is_logged() {
    let sources = files("src/controller", ".rs").into_iter();
    let sources: String = sources.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let mut looked_for = 0;
    for (name, page) in pages() {
        let commands = blocks(&page, "sh").into_iter().flat_map(str::lines);
        for filter in commands.filter_map(|line| line.split_once(" | grep ")) {
            for word in filter.1.split('\'').skip(1).step_by(2) {
                assert!(sources.contains(word), "{name}: nobody logs {word:?}");
                looked_for += 1;
            }
        }
    }
    assert!(looked_for > 3);
}

#[test]
fn each_value_of_the_chart_that_a_runbook_names_is_there() {
    let schema: Value = serde_json::from_str(&read(SCHEMA)).unwrap();
    let top: BTreeSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
    let mut looked_at = 0;
    for (name, page) in pages() {
        for code in page.split('`').skip(1).step_by(2) {
            let value = code.split('=').next().unwrap_or_default();
            let Some((first, _)) = value.split_once('.') else {
                continue;
            };
            if !top.iter().any(|key| *key == first) {
                continue;
            }
            let pointer: String = value.split('.').map(|key| format!("/properties/{key}")).collect();
            // Below what Kubernetes defines, the schema names no keys.
            let is_there = schema.pointer(&pointer).is_some() || first == "resources";
            assert!(is_there, "{name}: no value {value}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 5);
}

#[test]
fn no_two_panels_of_the_dashboard_overlap_and_each_says_what_it_shows() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut taken: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = text(panel, "title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is taken");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for x in at("x")..at("x") + at("w") {
            assert!(x < 24, "{title} is too wide");
            for y in at("y")..at("y") + at("h") {
                let before = taken.insert((x, y), title);
                assert_eq!(before, None, "{title}");
            }
        }
        if panel["type"] != "row" {
            assert!(text(panel, "description").ends_with('.'), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        }
    }
}
