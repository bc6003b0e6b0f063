//! The chart's `settings` are the flags of `run`: their values, comments and schema are generated from the command line.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Args as _};
use serde_json::{Value, json};

use super::{agrees, read, settle};
use crate::runtime::configuration::{LogSettings, Settings};

const VALUES: &str = "charts/environment-operator/values.yaml";
const DEFAULTS: &str = "charts/environment-operator/files/defaults.json";
const SCHEMA: &str = "charts/environment-operator/values.schema.json";

/// Flags that are no settings of the chart's: the credentials, the way to the API server, the port.
const NOT_HERE: &[&str] = &["database-url", "kubeconfig", "listen"];

/// The one whose shape is the chart's own, for it brings rights: written by hand.
const BY_HAND: &str = "run-kinds";

/// What the chart sets that the operator would not; all else is left to the operator's own defaults.
const SET: &[(&str, &str)] = &[("log-format", "json")];

/// A level by itself, or targets with levels: a misspelt level is neither.
const LOG: &str = "^(([^,\\s]+=)?(off|error|warn|info|debug|trace)(,([^,\\s]+=)?(off|error|warn|info|debug|trace))*)?$";

/// What a flag takes.
enum Shape {
    Switch,
    /// Whole numbers, with the default: YAML has no empty one.
    Number(u64),
    /// Texts of a closed set; any, where it is empty.
    Text(Vec<String>),
    Duration,
    /// Several texts of a closed set; any, where it is empty.
    List(Vec<String>),
}

fn shape(flag: &Arg) -> Shape {
    if matches!(flag.get_action(), ArgAction::SetTrue) {
        return Shape::Switch;
    }
    let choices = flag
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    if flag.get_value_delimiter().is_some() {
        return Shape::List(choices);
    }
    let is_duration = |names: &[clap::builder::Str]| names.iter().any(|name| name == "DURATION");
    match default(flag).parse() {
        Ok(number) => Shape::Number(number),
        Err(_) if flag.get_value_names().is_some_and(is_duration) => Shape::Duration,
        Err(_) => Shape::Text(choices),
    }
}

/// What the operator does without the flag; empty where the flag has no such value.
fn default(flag: &Arg) -> String {
    let values: Vec<_> = flag
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    values.join(",")
}

/// The flags that are settings of the chart's, in the order of the command line.
fn flags() -> Vec<Arg> {
    let command = LogSettings::augment_args(Settings::augment_args(clap::Command::new("run")));
    command
        .get_arguments()
        .filter(|flag| !NOT_HERE.contains(&name(flag)))
        .cloned()
        .collect()
}

fn name(flag: &Arg) -> &str {
    flag.get_long().unwrap()
}

/// `unmanaged-grace` is `unmanagedGrace`.
fn key(flag: &Arg) -> String {
    let mut words = name(flag).split('-');
    let first = words.next().unwrap().to_owned();
    words.fold(first, |key, word| key + &word[..1].to_uppercase() + &word[1..])
}

fn set(flag: &Arg) -> Option<&'static str> {
    SET.iter().find(|(set, _)| *set == name(flag)).map(|(_, value)| *value)
}

fn help(flag: &Arg) -> String {
    let mut text = flag.get_help().unwrap().to_string();
    if let Shape::Text(choices) | Shape::List(choices) = shape(flag)
        && !choices.is_empty()
    {
        let _ = write!(text, " ({})", choices.join(", "));
    }
    text
}

/// What stands above the value: its meaning, and the default where the value itself is not it.
fn comment(flag: &Arg) -> String {
    const WIDTH: usize = 126;
    let mut text = help(flag);
    let default = default(flag);
    let stands_below = matches!(shape(flag), Shape::Switch | Shape::Number(_)) || set(flag).is_some();
    if !default.is_empty() && !stands_below {
        let _ = write!(text, " [default: {default}]");
    }
    let mut lines = String::from("  #");
    let mut width = lines.len();
    for word in text.split_whitespace() {
        if width + 1 + word.len() > WIDTH {
            lines.push_str("\n  #");
            width = 3;
        }
        let _ = write!(lines, " {word}");
        width += 1 + word.len();
    }
    lines
}

fn value(flag: &Arg) -> String {
    if let Some(value) = set(flag) {
        return value.to_owned();
    }
    match shape(flag) {
        Shape::Switch => "false".to_owned(),
        Shape::Number(default) => default.to_string(),
        Shape::List(_) => "[]".to_owned(),
        Shape::Text(_) | Shape::Duration => "\"\"".to_owned(),
    }
}

fn schema(flag: &Arg) -> Value {
    let text = |mut choices: Vec<String>, may_be_empty: bool| {
        if choices.is_empty() {
            return json!({ "type": "string" });
        }
        choices.extend(may_be_empty.then(String::new));
        json!({ "enum": choices })
    };
    let written = |mut schema: Value| {
        if let (Some(pattern), None) = (pattern(flag), schema.get("enum")) {
            schema["pattern"] = json!(pattern);
        }
        schema
    };
    let mut schema = match shape(flag) {
        Shape::Switch => json!({ "type": "boolean" }),
        Shape::Number(_) => json!({ "type": "integer", "minimum": 0 }),
        Shape::Text(choices) => written(text(choices, true)),
        Shape::Duration => json!({ "type": "string", "pattern": format!("^([0-9]+({}))?$", units(flag).join("|")) }),
        Shape::List(choices) => json!({ "type": "array", "items": written(text(choices, false)), "uniqueItems": true }),
    };
    schema["description"] = json!(help(flag));
    schema
}

/// What a text may be where it is none of a closed set, as the flag's own parser has it; one that stands by itself may be empty.
fn pattern(flag: &Arg) -> Option<&'static str> {
    match name(flag) {
        "cluster-id" | "installation" => Some("^[-_.a-zA-Z0-9]{0,63}$"),
        "namespaces" => Some("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"),
        "otlp-endpoint" => Some("^(https?://[^/]+.*)?$"),
        "log" => Some(LOG),
        _ => None,
    }
}

/// The units that the flag of a duration takes, by its own parser.
fn units(flag: &Arg) -> Vec<&'static str> {
    let takes = |unit: &&str| {
        let line = ["run".to_owned(), format!("--{}=1{unit}", name(flag))];
        clap::Command::new("run")
            .arg(flag.clone())
            .try_get_matches_from(line)
            .is_ok()
    };
    ["ms", "s", "m", "h", "d"].into_iter().filter(takes).collect()
}

/// The schema of `runKinds`: a kind as the flag takes it, and its plural, which rights are written with.
fn run_kinds_schema() -> Value {
    json!({
        "type": "array",
        "description": "Kinds of run objects.",
        "minItems": 1,
        "uniqueItems": true,
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["apiVersion", "kind", "resource"],
            "properties": {
                "apiVersion": { "type": "string", "pattern": "^([a-z0-9][-.a-z0-9]*/)?v[a-z0-9]+$" },
                "kind": { "type": "string", "pattern": "^[A-Z][A-Za-z0-9]*$" },
                "resource": { "type": "string", "pattern": "^[a-z][-a-z0-9]*$" },
            },
        },
    })
}

#[test]
fn each_flag_of_run_is_a_value_of_the_chart_s() {
    let mut block = String::new();
    for flag in flags().iter().filter(|flag| name(flag) != BY_HAND) {
        let _ = writeln!(block, "{}\n  {}: {}", comment(flag), key(flag), value(flag));
    }
    // The closing mark is a comment of YAML's too.
    agrees(VALUES, "settings", &(block + "  # "));
    // What the templates take where a value is missing.
    let values: Value = serde_saphyr::from_str(&read(VALUES)).unwrap();
    let defaults = serde_json::to_string_pretty(&values).unwrap() + "\n";
    settle(DEFAULTS, &read(DEFAULTS), defaults);
}

#[test]
fn the_chart_s_schema_knows_each_flag_of_run_and_its_type() {
    let found = read(SCHEMA);
    let mut whole: Value = serde_json::from_str(&found).unwrap();
    let properties = flags().into_iter().map(|flag| {
        let schema = if name(&flag) == BY_HAND {
            run_kinds_schema()
        } else {
            schema(&flag)
        };
        (key(&flag), schema)
    });
    whole["properties"]["settings"]["properties"] = Value::Object(properties.collect());
    let expected = serde_json::to_string_pretty(&whole).unwrap() + "\n";
    settle(SCHEMA, &found, expected);
}
