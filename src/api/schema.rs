//! The CustomResourceDefinitions of both kinds, finished from the derived ones.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::CustomResourceExt;

use super::{Environment, EnvironmentLease};

/// The most members of a free object. The operator bounds its size too, which a schema cannot.
pub(super) const FREE_OBJECT_MEMBERS: i64 = 64;

/// Bounds the cost of a text's rule, and leaves room for wrong spellings, which the rule answers better than a bound.
pub(super) const RULED_TEXT_LENGTH: i64 = 64;

/// The CustomResourceDefinitions of both kinds, as they are to be applied.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [Environment::crd(), EnvironmentLease::crd()]
        .into_iter()
        .map(finished)
        .collect()
}

/// [`crds`] as one YAML stream.
pub fn crds_yaml() -> String {
    crds().iter().map(|crd| format!("---\n{}", crd_yaml(crd))).collect()
}

/// One definition as a YAML document.
#[expect(clippy::unreachable, reason = "a definition has only keys that are texts")]
pub fn crd_yaml(crd: &CustomResourceDefinition) -> String {
    serde_saphyr::to_string(crd).unwrap_or_else(|error| unreachable!("{error}"))
}

fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            finish(schema);
        }
    }
    crd
}

/// Says what the derived schema cannot, in a schema and in all below it.
fn finish(schema: &mut JSONSchemaProps) {
    // An optional field is not nullable: then the API server prunes a null, as users expect of `field: null`, instead of
    // storing it.
    schema.nullable = None;
    schema.title = None; // the kind stands in the definition's names already
    // Paragraphs are wrapped by whoever shows them.
    schema.description = schema.description.take().map(|text| text.replace('\n', " "));
    match schema.format.as_deref() {
        Some("uuid") => canonical_uuid(schema),
        // The range says it; a format would be answered with a second message.
        Some("int32" | "int64") => schema.format = None,
        _ => {}
    }
    if matches!(schema.additional_properties, Some(JSONSchemaPropsOrBool::Bool(true))) {
        free_object(schema);
    }
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        finish(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        finish(items);
    }
}

/// The API server's own format `uuid` admits spellings that other readers do not (capitals, some hyphens missing).
fn canonical_uuid(schema: &mut JSONSchemaProps) {
    schema.format = None;
    schema.max_length = Some(RULED_TEXT_LENGTH);
    schema
        .x_kubernetes_validations
        .get_or_insert_default()
        .push(ValidationRule {
            rule: "self.matches('^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$')".to_owned(),
            message: Some(
                "a uuid is written in lower case with hyphens: 01234567-89ab-cdef-0123-456789abcdef".to_owned(),
            ),
            ..ValidationRule::default()
        });
}

/// A map of any values loses what is nested in them, unless unknown fields are preserved. It is one value: without
/// `atomic` the API server would keep an account of the owners of every member, as large and as deep as the object.
fn free_object(schema: &mut JSONSchemaProps) {
    schema.additional_properties = None;
    schema.x_kubernetes_preserve_unknown_fields = Some(true);
    schema.x_kubernetes_map_type = Some("atomic".to_owned());
    schema.max_properties = Some(FREE_OBJECT_MEMBERS);
}
