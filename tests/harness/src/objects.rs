//! Objects of any kind, from YAML as a user would write it.
//!
//! Kinds are looked up at the server, so these work for custom resources without their types.

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use serde_json::Value;

/// The field manager of what [`apply`] writes.
pub const FIELD_MANAGER: &str = "harness";

/// Applies every document of a YAML text (server-side, by force), in its order; those that name no namespace go to
/// `namespace`.
///
/// # Errors
/// When a document is no object, its kind is unknown or the server refuses it; those before it are applied then.
pub async fn apply(client: &kube::Client, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for object in parse(yaml)? {
        let name = object
            .metadata
            .name
            .clone()
            .context("an object to apply needs a name")?;
        let api = api_of(client, namespace, &object).await?;
        let result = api
            .patch(
                &name,
                &PatchParams::apply(FIELD_MANAGER).force(),
                &Patch::Apply(&object),
            )
            .await;
        applied.push(result.with_context(|| format!("apply {name}"))?);
    }
    Ok(applied)
}

/// Creates the only document of a YAML text; `generateName` works.
///
/// # Errors
/// When the text is not one object or its kind is unknown; the server's refusal is the inner `Err`, for tests that look
/// at its words.
pub async fn create(client: &kube::Client, namespace: &str, yaml: &str) -> Result<kube::Result<DynamicObject>> {
    let mut objects = parse(yaml)?;
    anyhow::ensure!(objects.len() == 1, "{} objects where one was expected", objects.len());
    let object = objects.remove(0);
    Ok(api_of(client, namespace, &object)
        .await?
        .create(&PostParams::default(), &object)
        .await)
}

/// The API of a kind in a namespace, by its version and name: `api(client, "demo", "batch/v1", "Job")`. The namespace does
/// not count for a kind that has none.
///
/// # Errors
/// When the server does not know the kind.
pub async fn api(client: &kube::Client, namespace: &str, api_version: &str, kind: &str) -> Result<Api<DynamicObject>> {
    let types = TypeMeta {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    };
    let kind = GroupVersionKind::try_from(&types)?;
    let (resource, scope): (ApiResource, Scope) = {
        let (resource, capabilities) = pinned_kind(client, &kind)
            .await
            .with_context(|| format!("look up {} {}", types.api_version, types.kind))?;
        (resource, capabilities.scope)
    };
    Ok(match scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    })
}

/// The documents of a YAML text; empty ones are left out.
///
/// # Errors
/// When the text is no YAML or a document is no Kubernetes object.
pub fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("read the YAML")?;
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|document| serde_json::from_value(document).context("a document is no Kubernetes object"))
        .collect()
}

async fn api_of(client: &kube::Client, namespace: &str, object: &DynamicObject) -> Result<Api<DynamicObject>> {
    let types = object.types.as_ref().context("an object needs apiVersion and kind")?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
    api(client, namespace, &types.api_version, &types.kind).await
}
