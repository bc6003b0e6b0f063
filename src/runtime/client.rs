//! The way to the cluster, and the cluster's name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt as _};
use tokio::time::timeout;
use tower::layer::layer_fn;

use super::metrics::Metrics;

mod requests;

use requests::Measured;

/// How long the one request that is made here may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no way to the cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The given file is no kubeconfig.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Neither a kubeconfig nor a service account was found.
    #[error("no cluster is configured: set KUBECONFIG or run in a Pod: {0}")]
    Infer(#[from] kube::config::InferConfigError),
    /// The configuration does not make a client.
    #[error("no client can be made of the configuration: {0}")]
    Client(#[source] kube::Error),
    /// The API server refused to name the cluster.
    #[error("the uid of namespace kube-system, which names the cluster, cannot be read: {0}")]
    ClusterId(#[source] kube::Error),
    /// The API server did not answer.
    #[error("the API server did not answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    /// The Namespace came back without a uid.
    #[error("namespace kube-system has no uid: set --cluster-id")]
    NoUid,
}

/// A client by the given kubeconfig, or by KUBECONFIG, `~/.kube/config` or the Pod's service account.
///
/// It sets no timeout for answers, because it watches too; whoever sends another request sets one. Its requests are counted.
///
/// # Errors
///
/// Where no configuration is found or it does not make a client. Nothing is asked of the API server.
pub async fn connect(kubeconfig: Option<&Path>, metrics: Arc<Metrics>) -> Result<Client, ClientError> {
    let config = match kubeconfig {
        Some(path) => {
            Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await?,
    };
    let builder = ClientBuilder::try_from(config).map_err(ClientError::Client)?;
    let measured = layer_fn(move |inner| Measured {
        inner,
        metrics: Arc::clone(&metrics),
    });
    Ok(builder.with_layer(&measured).build())
}

/// The uid of namespace `kube-system`: the same for as long as a cluster lives, another for each cluster.
///
/// # Errors
///
/// Where it cannot be read; worth another try.
pub async fn cluster_id(client: &Client) -> Result<String, ClientError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let asked = timeout(REQUEST_TIMEOUT, namespaces.get_metadata("kube-system")).await;
    let namespace = asked
        .map_err(|_| ClientError::Timeout)?
        .map_err(ClientError::ClusterId)?;
    namespace.uid().ok_or(ClientError::NoUid)
}
