//! A namespace of a test's own.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, ServiceAccount};
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::wait::until;

/// A namespace with a name that no other test has. It goes with its control plane, or by [`Namespace::delete`].
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    uid: String,
}

impl Namespace {
    /// Makes a namespace whose name begins with `prefix`.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create(client: &kube::Client, prefix: &str) -> Result<Self> {
        Self::create_with_labels(client, prefix, []).await
    }

    /// Makes a namespace whose name begins with `prefix`, with labels.
    ///
    /// Returns once its default ServiceAccount is there, without which no Pod is admitted.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create_with_labels<const N: usize>(
        client: &kube::Client,
        prefix: &str,
        labels: [(&str, &str); N],
    ) -> Result<Self> {
        let name = format!("{prefix}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let labels: BTreeMap<_, _> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        let object = NamespaceObject {
            metadata,
            ..NamespaceObject::default()
        };
        let made = Api::<NamespaceObject>::all(client.clone())
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("make namespace {name}"))?;
        let uid = made
            .metadata
            .uid
            .with_context(|| format!("namespace {name} has no uid"))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
        until(Duration::from_secs(30), async || accounts.get("default").await)
            .await
            .map_err(|seen| anyhow::anyhow!("namespace {name} has no default ServiceAccount: {seen}"))?;
        Ok(Self { name, uid })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its uid, which is the company's id where no label names one.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Asks for its deletion; the controllers delete what is in it, in no order.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self, client: &kube::Client) -> Result<()> {
        let namespaces: Api<NamespaceObject> = Api::all(client.clone());
        namespaces
            .delete(&self.name, &DeleteParams::default())
            .await
            .with_context(|| format!("delete namespace {}", self.name))?;
        Ok(())
    }
}
