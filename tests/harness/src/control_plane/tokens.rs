//! Who a Pod is to the API server: tokens of ServiceAccounts.

use std::path::PathBuf;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::ControlPlane;
use super::kubeconfig::Identity;

impl ControlPlane {
    /// Writes a kubeconfig with a token of the ServiceAccount, valid for a day: exactly the rights of a Pod of that
    /// account.
    ///
    /// # Errors
    /// When the account does not exist or the file cannot be written.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        self.token_kubeconfig(namespace, name, None).await
    }

    /// Makes a Pod of this name that no node takes, and writes a kubeconfig with a token of its ServiceAccount, bound to it
    /// and valid for a day: what a container of the Pod would find, and the audit log names the Pod.
    ///
    /// # Errors
    /// When the account does not exist, there is such a Pod, or the file cannot be written.
    pub async fn pod_kubeconfig(&self, namespace: &str, account: &str, pod: &str) -> Result<PathBuf> {
        let pods: Api<Pod> = Api::namespaced(self.client().await?, namespace);
        let object = json!({
            "metadata": { "name": pod },
            "spec": {
                "serviceAccountName": account,
                "automountServiceAccountToken": false,
                "schedulerName": "by-hand",
                "containers": [{ "name": "operator", "image": "operator" }],
            },
        });
        let made = pods
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await
            .with_context(|| format!("make Pod {namespace}/{pod}"))?;
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(made.name_any()),
            uid: made.uid(),
        };
        self.token_kubeconfig(namespace, account, Some(bound)).await
    }

    async fn token_kubeconfig(
        &self,
        namespace: &str,
        account: &str,
        bound: Option<BoundObjectReference>,
    ) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(86_400),
            bound_object_ref: bound,
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec,
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("ask for a token of ServiceAccount {namespace}/{account}"))?;
        let status = answer
            .status
            .with_context(|| format!("the token of {namespace}/{account} has no status"))?;
        self.write_kubeconfig(&Identity::Token(&status.token))
    }
}
