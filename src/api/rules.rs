//! Validation rules (CEL) that several fields share. Each has one sentence that says what to write instead.
//!
//! Patterns stand in rules rather than in the schema's `pattern`: the API server answers a broken `pattern` with the pattern.

use kube::core::Rule;

/// A field that is always there (required, or with a default) and stays as it was created.
pub(super) fn immutable(field: &str, instead: &str) -> Rule {
    Rule::new(format!("self.{field} == oldSelf.{field}"))
        .message(format!("{field} cannot change: {instead}").as_str())
        .field_path(format!(".{field}"))
}

/// An optional field that stays as it was created. The rule stands at the spec: on the field itself it would be bypassed
/// by removing the field and adding it again.
pub(super) fn immutable_optional(field: &str, instead: &str) -> Rule {
    Rule::new(format!(
        "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    ))
    .message(format!("{field} cannot change: {instead}").as_str())
    .field_path(format!(".{field}"))
}

/// A member of an Environment's spec that is there for its driver and for no other.
pub(super) fn member_of_driver(member: &str, driver: &str) -> Rule {
    Rule::new(format!("has(self.{member}) == (self.driver == '{driver}')"))
        .message(
            format!("{member} belongs to driver {driver}: write it for driver {driver}, leave it out for any other")
                .as_str(),
        )
        .field_path(format!(".{member}"))
}

/// The name of an object, as the API server admits it (DNS subdomain).
pub(super) fn object_name(whose: &str) -> Rule {
    Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message(
        format!("the name of {whose} has lower-case letters, digits, '-' and '.', as metadata.name has").as_str(),
    )
}

/// A key of a Secret's data.
pub(super) fn secret_key() -> Rule {
    Rule::new("self.matches('^[-._a-zA-Z0-9]+$')").message("a key of a Secret has letters, digits, '-', '_' and '.'")
}

/// A sandbox's provider.
pub(super) fn provider_word() -> Rule {
    Rule::new("self.matches('^[A-Za-z0-9][A-Za-z0-9._/@-]*$')")
        .message("a provider is one word, for instance kubernetes: letters, digits, '.', '_', '/', '@' and '-'")
}

/// A plugin's key. It has no colon: the database joins the two keys by one.
pub(super) fn plugin_word(field: &str) -> Rule {
    Rule::new("self.matches('^[A-Za-z0-9@][A-Za-z0-9._/@-]*$')")
        .message(format!("{field} is one word: letters, digits, '.', '_', '/', '@' and '-'").as_str())
}

/// The group and version of an object.
pub(super) fn api_version() -> Rule {
    Rule::new("self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?$')")
        .message("apiVersion is a group and a version, for instance batch/v1, or only a version for the core group: v1")
}

/// The kind of an object.
pub(super) fn kind_name() -> Rule {
    Rule::new("self.matches('^[A-Z][A-Za-z0-9]*$')").message("kind begins with a capital letter, for instance Job")
}
