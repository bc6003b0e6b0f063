//! `docs/api-reference.md`, written from the definitions.

use std::fmt::Write;

use environment_operator::api::{self, ConditionType, EnvironmentPhase, LeasePhase, Reason};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use schemars::JsonSchema;

use crate::support::{Kind, schema};

/// The whole document.
pub fn document() -> String {
    let mut text = format!(
        "# API reference\n\n\
         Group `{}`, version `{}`. Generated from the types in `src/api` (`UPDATE=1 cargo test --test api generated`).\n\n\
         A field without a default is optional unless it is marked as required. A null is as if the field were absent. What \
         the API server refuses, it refuses with the sentences under *Rules*; what a schema cannot say (free objects of more \
         than {} bytes as JSON or nested deeper than {} levels, the character `\\u0000`, texts of more than {} bytes that are \
         indexed in the database) the operator refuses with the reason `InvalidSpec` and a message that says what to change.\n",
        api::GROUP,
        api::VERSION,
        api::FREE_OBJECT_BYTES,
        api::FREE_OBJECT_DEPTH,
        api::INDEXED_TEXT_BYTES,
    );
    for kind in [Kind::Environment, Kind::Lease] {
        write_kind(&mut text, kind.definition());
    }
    text.push_str("\n## Closed sets\n");
    write_set::<EnvironmentPhase>(&mut text, "Phases of an Environment");
    write_set::<LeasePhase>(&mut text, "Phases of a lease");
    write_set::<ConditionType>(&mut text, "Conditions");
    text.push_str("\nA condition is `True`, `False` or `Unknown`, and its reason is one of the following.\n");
    write_set::<Reason>(&mut text, "Reasons");
    text
}

fn write_kind(text: &mut String, mut definition: CustomResourceDefinition) {
    let names = definition.spec.names.clone();
    let version = definition.spec.versions[0].clone();
    let schema = schema(&mut definition);
    let listed = |words: Option<Vec<String>>| words.unwrap_or_default().join("`, `");
    let description = schema.description.as_deref().unwrap();
    write!(
        text,
        "\n## {}\n\n{description}\n\nPlural `{}`, short name `{}`, category `{}`, namespaced.",
        names.kind,
        names.plural,
        listed(names.short_names),
        listed(names.categories),
    )
    .unwrap();
    let selectable: Vec<_> = version
        .selectable_fields
        .iter()
        .flatten()
        .map(|field| &field.json_path[1..])
        .collect();
    write!(text, " Field selectors: `{}`.\n\n", selectable.join("`, `")).unwrap();
    text.push_str("| column | shows | where |\n|---|---|---|\n");
    for column in version.additional_printer_columns.iter().flatten() {
        let wide = if column.priority == Some(1) {
            "`-o wide`"
        } else {
            "always"
        };
        writeln!(text, "| {} | `{}` | {wide} |", column.name, column.json_path).unwrap();
    }
    for part in ["spec", "status"] {
        let fields = &schema.properties.as_ref().unwrap()[part];
        write!(
            text,
            "\n### {} {part}\n\n{}\n\n",
            names.kind,
            fields.description.as_deref().unwrap()
        )
        .unwrap();
        text.push_str("| field | type | description |\n|---|---|---|\n");
        write_fields(text, fields, part);
    }
    write!(
        text,
        "\n### {} rules\n\n| at | what the API server says |\n|---|---|\n",
        names.kind
    )
    .unwrap();
    write_rules(text, schema, "");
}

fn write_fields(text: &mut String, schema: &JSONSchemaProps, path: &str) {
    let required = schema.required.clone().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let mut remarks = Vec::new();
        if required.contains(name) {
            remarks.push("Required.".to_owned());
        }
        if let Some(default) = &field.default {
            remarks.push(format!("Default: `{}`.", default.0));
        }
        remarks.push(field.description.clone().unwrap());
        writeln!(text, "| `{path}` | {} | {} |", type_name(field), remarks.join(" ")).unwrap();
        write_fields(text, field, &path);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &field.items {
            write_fields(text, items, &format!("{path}[]"));
        }
    }
}

fn type_name(field: &JSONSchemaProps) -> String {
    if let Some(words) = &field.enum_ {
        let words: Vec<_> = words
            .iter()
            .map(|word| format!("`{}`", word.0.as_str().unwrap()))
            .collect();
        // The reasons have a table of their own.
        return if words.len() > 10 {
            "a word of a closed set".to_owned()
        } else {
            words.join(", ")
        };
    }
    let name = field.type_.as_deref().unwrap();
    match (field.minimum, field.maximum) {
        _ if field.x_kubernetes_preserve_unknown_fields == Some(true) => "free object".to_owned(),
        (Some(least), Some(most)) => format!("{name}, {least} to {most}"),
        _ => name.to_owned(),
    }
}

fn write_rules(text: &mut String, schema: &JSONSchemaProps, path: &str) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let at = format!("{path}{}", rule.field_path.as_deref().unwrap_or_default());
        writeln!(
            text,
            "| `{}` | {} |",
            at.trim_start_matches('.'),
            rule.message.as_deref().unwrap()
        )
        .unwrap();
    }
    for (name, property) in schema.properties.iter().flatten() {
        write_rules(text, property, &format!("{path}.{name}"));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        write_rules(text, items, &format!("{path}[]"));
    }
}

/// A closed set with the documentation of its members.
fn write_set<T: JsonSchema>(text: &mut String, title: &str) {
    write!(text, "\n### {title}\n\n| word | meaning |\n|---|---|\n").unwrap();
    let set = schemars::schema_for!(T).to_value();
    for member in set["oneOf"].as_array().unwrap() {
        let meaning = member["description"].as_str().unwrap().replace('\n', " ");
        writeln!(text, "| `{}` | {meaning} |", member["const"].as_str().unwrap()).unwrap();
    }
}
