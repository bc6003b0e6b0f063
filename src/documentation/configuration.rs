//! `docs/configuration.md`: every value of the chart, from its schema (type), its values (default) and their comments (meaning).

use std::fmt::Write as _;

use serde_json::Value;

use super::{agrees, read};

const VALUES: &str = "charts/environment-operator/values.yaml";
const SCHEMA: &str = "charts/environment-operator/values.schema.json";
const DOCUMENT: &str = "docs/configuration.md";

/// Keys whose values are Kubernetes' own types: shown whole, not key by key.
const WHOLE: [&str; 4] = ["affinity", "deploymentStrategy", "dnsConfig", "resources"];

/// A key of `values.yaml` with what stands above it.
struct Entry {
    path: Vec<String>,
    comment: String,
}

/// The keys that the schema knows by name, in the order of the file. What lies within a list or a free map is part of its default.
fn entries(schema: &Value) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut comment = Vec::new();
    let values = read(VALUES);
    for line in values.lines() {
        let text = line.trim_start();
        let depth = (line.len() - text.len()) / 2;
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let above = std::mem::take(&mut comment).join(" ");
        let Some((key, _)) = text.split_once(':').filter(|_| !text.starts_with('-')) else {
            continue;
        };
        let parents = entries.last().map_or(&[][..], |last| &last.path[..]);
        let Some(parents) = parents.get(..depth) else { continue };
        let path: Vec<String> = parents.iter().cloned().chain([key.to_owned()]).collect();
        if find(schema, &path).is_some() {
            let comment = above.split("<!--").map(after_mark).collect::<String>();
            entries.push(Entry { path, comment });
        }
    }
    entries
}

/// What follows the mark of a generated part; a text without one, whole.
fn after_mark(text: &str) -> &str {
    text.split_once("-->").map_or(text, |(_, after)| after).trim()
}

/// What the schema says of a key, if it is one of the reference.
fn find<'a>(schema: &'a Value, path: &[String]) -> Option<&'a Value> {
    let (_, above) = path.split_last()?;
    let shown = !above.iter().any(|key| WHOLE.contains(&key.as_str()));
    let found = path
        .iter()
        .try_fold(schema, |schema, key| schema.get("properties")?.get(key));
    found.filter(|_| shown)
}

/// What a value may be, in a word or two.
fn type_of(schema: &Value) -> String {
    if let Some(choices) = schema["enum"].as_array() {
        let named = choices
            .iter()
            .filter_map(Value::as_str)
            .filter(|choice| !choice.is_empty());
        return named.map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
    }
    let is_duration = |pattern: &Value| pattern.as_str().is_some_and(|text| text.starts_with("^([0-9]+("));
    match &schema["type"] {
        Value::String(one) if one == "string" && is_duration(&schema["pattern"]) => "duration".to_owned(),
        Value::String(one) => one.clone(),
        Value::Array(several) => several
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "any".to_owned(),
    }
}

fn table() -> String {
    let schema: Value = serde_json::from_str(&read(SCHEMA)).unwrap();
    let values: Value = serde_saphyr::from_str(&read(VALUES)).unwrap();
    let mut table = String::from("| value | type | default | meaning |\n|---|---|---|---|\n");
    for Entry { path, comment } in entries(&schema) {
        let own = find(&schema, &path).unwrap();
        let meaning = if comment.is_empty() {
            own["description"].as_str().unwrap_or_default().to_owned()
        } else {
            comment
        };
        let value = path.iter().fold(&values, |values, key| &values[key]);
        let whole = path.last().is_some_and(|key| WHOLE.contains(&key.as_str()));
        let group = own.get("properties").is_some() && !whole;
        let default = match value {
            _ if group => String::new(),
            Value::String(text) if text.is_empty() => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let type_ = if group { String::new() } else { type_of(own) };
        let meaning = meaning.replace('|', "\\|").replace('<', "\\<");
        let line = format!("| `{}` | {type_} | {default} | {meaning} |", path.join("."));
        let _ = writeln!(table, "{line}");
    }
    table
}

#[test]
fn every_value_of_the_chart_stands_in_the_reference() {
    agrees(DOCUMENT, "values", &table());
}

#[test]
fn every_value_that_the_schema_knows_by_name_stands_in_the_values_with_its_default() {
    fn names(schema: &Value, path: &mut Vec<String>, found: &mut Vec<String>) {
        for (key, below) in schema["properties"].as_object().into_iter().flatten() {
            path.push(key.clone());
            found.push(path.join("."));
            if !WHOLE.contains(&key.as_str()) {
                names(below, path, found);
            }
            path.pop();
        }
    }
    let schema: Value = serde_json::from_str(&read(SCHEMA)).unwrap();
    let mut known = Vec::new();
    names(&schema, &mut Vec::new(), &mut known);
    let listed: Vec<String> = entries(&schema).iter().map(|entry| entry.path.join(".")).collect();
    // What a parent's condition reads: it says nothing here.
    known.retain(|name| name != "enabled" && !listed.contains(name));
    assert_eq!(
        known,
        Vec::<String>::new(),
        "the schema knows values that values.yaml does not show"
    );
}
