//! What a Pod's environment and volumes are made from: Secrets, ConfigMaps, the Pod itself, tokens.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::{Api, PostParams};

/// The address of the node, and of the API server as Pods know it.
pub(super) const NODE_ADDRESS: &str = "127.0.0.1";

/// Reads for one Pod, with the agent's rights.
pub(super) struct Source<'a> {
    pub(super) client: &'a kube::Client,
    pub(super) pod: &'a Pod,
    /// What the Pod's processes listen on.
    pub(super) address: Ipv4Addr,
}

impl Source<'_> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The entries of a Secret; none where it is missing and optional.
    pub(super) async fn secret(&self, name: &str, optional: bool) -> Result<BTreeMap<String, Vec<u8>>> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace());
        match secrets.get_opt(name).await? {
            Some(secret) => Ok(secret
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key, value.0))
                .collect()),
            None if optional => Ok(BTreeMap::new()),
            None => bail!("secret \"{name}\" not found"),
        }
    }

    /// The entries of a ConfigMap; none where it is missing and optional.
    pub(super) async fn config_map(&self, name: &str, optional: bool) -> Result<BTreeMap<String, Vec<u8>>> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.namespace());
        match maps.get_opt(name).await? {
            Some(map) => {
                let text = map
                    .data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, value)| (key, value.into_bytes()));
                let binary = map
                    .binary_data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, value)| (key, value.0));
                Ok(text.chain(binary).collect())
            }
            None if optional => Ok(BTreeMap::new()),
            None => bail!("configmap \"{name}\" not found"),
        }
    }

    /// A field of the Pod, as the downward API names it.
    pub(super) fn field(&self, path: &str) -> Result<String> {
        let (metadata, spec) = (&self.pod.metadata, self.pod.spec.as_ref());
        if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
            let entries = match map {
                "metadata.labels" => &metadata.labels,
                "metadata.annotations" => &metadata.annotations,
                _ => bail!("the field {path} is not known to this node"),
            };
            return Ok(entries
                .as_ref()
                .and_then(|entries| entries.get(key))
                .cloned()
                .unwrap_or_default());
        }
        let value = match path {
            "metadata.name" => metadata.name.clone(),
            "metadata.namespace" => metadata.namespace.clone(),
            "metadata.uid" => metadata.uid.clone(),
            "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
            // One that can be listened on; the API shows another.
            "status.podIP" => Some(self.address.to_string()),
            "status.hostIP" => Some(NODE_ADDRESS.to_owned()),
            _ => bail!("the field {path} is not known to this node"),
        };
        Ok(value.unwrap_or_default())
    }

    /// A token of the Pod's ServiceAccount, bound to the Pod: it ends with it. It lasts for an hour, unless the Pod asks for
    /// another time; see `volumes::token_age`.
    pub(super) async fn token(&self, projection: &ServiceAccountTokenProjection) -> Result<Vec<u8>> {
        let account = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.as_deref())
            .unwrap_or("default");
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: self.pod.metadata.name.clone(),
            uid: self.pod.metadata.uid.clone(),
        };
        let spec = TokenRequestSpec {
            audiences: projection.audience.iter().cloned().collect(),
            expiration_seconds: projection.expiration_seconds,
            bound_object_ref: Some(bound),
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), self.namespace());
        let request = TokenRequest {
            spec,
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await?;
        Ok(answer.status.context("the token has no status")?.token.into_bytes())
    }
}
