//! The environment of a container, and `$(NAME)` in it, in its command and in its arguments.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Container, EnvVar};

use super::source::Source;

/// All variables of the container; `base` holds what the node adds, and any of it may be overwritten.
pub(super) async fn of(
    container: &Container,
    source: &Source<'_>,
    base: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let mut variables = base;
    for from in container.env_from.iter().flatten() {
        let mut entries = BTreeMap::new();
        if let Some(reference) = &from.secret_ref {
            entries = source.secret(&reference.name, reference.optional == Some(true)).await?;
        }
        if let Some(reference) = &from.config_map_ref {
            entries = source
                .config_map(&reference.name, reference.optional == Some(true))
                .await?;
        }
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in entries {
            variables.insert(format!("{prefix}{key}"), text(value)?);
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(variable, source, &variables).await? {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

/// The value of one variable; `None` where it comes from an optional entry that is missing.
async fn value(variable: &EnvVar, source: &Source<'_>, known: &BTreeMap<String, String>) -> Result<Option<String>> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), known)));
    };
    let (mut entries, kind, name, key, optional) = if let Some(selector) = &from.secret_key_ref {
        let optional = selector.optional == Some(true);
        (
            source.secret(&selector.name, optional).await?,
            "secret",
            &selector.name,
            &selector.key,
            optional,
        )
    } else if let Some(selector) = &from.config_map_key_ref {
        let optional = selector.optional == Some(true);
        (
            source.config_map(&selector.name, optional).await?,
            "configmap",
            &selector.name,
            &selector.key,
            optional,
        )
    } else {
        let field = from.field_ref.as_ref();
        let field =
            field.with_context(|| format!("variable {}: its source is not known to this node", variable.name))?;
        return source.field(&field.field_path).map(Some);
    };
    match entries.remove(key) {
        Some(value) => text(value).map(Some),
        None if optional => Ok(None),
        None => anyhow::bail!("couldn't find key {key} in {kind} {name}"),
    }
}

fn text(value: Vec<u8>) -> Result<String> {
    String::from_utf8(value).context("the value of a variable is no text")
}

/// Replaces each `$(NAME)` of a known variable; `$$` stands for `$`, and what is unknown stays as it is.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(place) = rest.find('$') {
        expanded.push_str(&rest[..place]);
        rest = &rest[place + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match variables.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_variable_is_expanded_and_all_else_stays() {
        let known = BTreeMap::from([("NAME".to_owned(), "value".to_owned())]);
        let cases = [
            ("a $(NAME) b", "a value b"),
            ("$(OTHER)", "$(OTHER)"),
            ("$$(NAME)", "$(NAME)"),
            ("$NAME ${NAME} $", "$NAME ${NAME} $"),
            ("$(NAME", "$(NAME"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }
}
