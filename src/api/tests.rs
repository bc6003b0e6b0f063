//! Whatever the schema admits decodes: specs and statuses made at random from the schema itself.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::{Environment, EnvironmentLease, crds};

/// Texts that every rule of the schema which bounds a text's spelling is tried on.
const RULED_TEXTS: [(&str, &[&str]); 2] = [
    (
        "self.matches('^[0-9a-f]{8}-",
        &[
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "0b0e0a9c-5a2c-4c41-9f5e-3b8d8b1e7a10",
        ],
    ),
    (
        "self.matches('^([12][0-9]{3}-",
        &[
            "1000-01-01T00:00:00.000Z",
            "2000-02-29T23:59:59.999Z",
            "2024-02-29T12:00:00.001Z",
            "2999-12-31T23:59:59.999Z",
        ],
    ),
];

fn any_json() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
    .boxed()
}

fn free_object() -> BoxedStrategy<Value> {
    btree_map(any::<String>(), any_json(), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
        .boxed()
}

fn text(schema: &JSONSchemaProps) -> BoxedStrategy<Value> {
    if let Some(words) = &schema.enum_ {
        return prop::sample::select(words.iter().map(|word| word.0.clone()).collect::<Vec<_>>()).boxed();
    }
    let rules = schema.x_kubernetes_validations.iter().flatten();
    for (rule, (start, texts)) in rules.flat_map(|rule| RULED_TEXTS.iter().map(move |known| (rule, known))) {
        if rule.rule.starts_with(start) {
            return prop::sample::select(texts.iter().map(|text| Value::from(*text)).collect::<Vec<_>>()).boxed();
        }
    }
    any::<String>().prop_map(Value::from).boxed()
}

fn integer(schema: &JSONSchemaProps) -> BoxedStrategy<Value> {
    let bound = |bound: Option<f64>| {
        bound
            .expect("an integer has both bounds")
            .to_string()
            .parse::<i64>()
            .unwrap()
    };
    let (least, most) = (bound(schema.minimum), bound(schema.maximum));
    prop_oneof![Just(least), Just(most), least..=most]
        .prop_map(Value::from)
        .boxed()
}

/// Anything that a schema admits, and perhaps a little more.
fn admitted(schema: &JSONSchemaProps) -> BoxedStrategy<Value> {
    match schema.type_.as_deref() {
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("integer") => integer(schema),
        Some("string") => text(schema),
        Some("array") => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => vec(admitted(items), 0..3).prop_map(Value::from).boxed(),
            other => panic!("items {other:?}"),
        },
        Some("object") if schema.x_kubernetes_preserve_unknown_fields == Some(true) => free_object(),
        Some("object") => {
            let required = schema.required.clone().unwrap_or_default();
            let members: Vec<_> = schema
                .properties
                .iter()
                .flatten()
                .map(|(name, property)| {
                    let (name, value) = (name.clone(), admitted(property));
                    let value = if required.contains(&name) {
                        value.prop_map(Some).boxed()
                    } else {
                        prop::option::of(value).boxed()
                    };
                    value.prop_map(move |value| value.map(|value| (name.clone(), value)))
                })
                .collect();
            members
                .prop_map(|members| Value::Object(members.into_iter().flatten().collect::<Map<_, _>>()))
                .boxed()
        }
        other => panic!("type {other:?}"),
    }
}

fn object(kind: &str) -> BoxedStrategy<Value> {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let schema = crd.spec.versions[0]
        .schema
        .as_ref()
        .unwrap()
        .open_api_v3_schema
        .as_ref()
        .unwrap();
    let properties = schema.properties.as_ref().unwrap();
    let kind = kind.to_owned();
    (admitted(&properties["spec"]), admitted(&properties["status"]))
        .prop_map(move |(spec, status)| {
            serde_json::json!({
                "apiVersion": "paperclip.ing/v1alpha1",
                "kind": kind,
                "metadata": { "name": "x" },
                "spec": spec,
                "status": status,
            })
        })
        .boxed()
}

proptest! {
    #[test]
    fn every_admitted_environment_decodes(object in object("Environment")) {
        let decoded: Environment = serde_json::from_str(&object.to_string()).unwrap();
        let again: Environment = serde_json::from_value(serde_json::to_value(&decoded).unwrap()).unwrap();
        prop_assert_eq!(again, decoded);
    }

    #[test]
    fn every_admitted_lease_decodes(object in object("EnvironmentLease")) {
        let decoded: EnvironmentLease = serde_json::from_str(&object.to_string()).unwrap();
        let again: EnvironmentLease = serde_json::from_value(serde_json::to_value(&decoded).unwrap()).unwrap();
        prop_assert_eq!(again, decoded);
    }
}

#[test]
fn no_optional_field_is_nullable_and_none_with_a_default_is_optional() {
    fn check(schema: &JSONSchemaProps, path: &str) {
        assert_eq!(schema.nullable, None, "{path}");
        assert_eq!(
            schema.format, None,
            "{path}: a format admits spellings that do not decode"
        );
        assert_eq!(schema.pattern, None, "{path}: a pattern is answered with the pattern");
        assert_ne!(
            schema.default.as_ref().map(|default| &default.0),
            Some(&Value::Null),
            "{path}"
        );
        for (name, property) in schema.properties.iter().flatten() {
            check(property, &format!("{path}.{name}"));
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            check(items, &format!("{path}[]"));
        }
    }
    for crd in crds() {
        let schema = crd.spec.versions[0]
            .schema
            .as_ref()
            .unwrap()
            .open_api_v3_schema
            .as_ref()
            .unwrap();
        check(schema, &crd.spec.names.kind);
    }
}
