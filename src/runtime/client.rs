//! The way to the cluster, and the cluster's name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::client::ClientBuilder;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config, ResourceExt as _};
use tokio::time::timeout;
use tower::layer::layer_fn;

use super::metrics::Metrics;

mod cause;
mod requests;

pub use cause::cause;
use requests::Measured;

/// How long the one request that is made here may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no way to the cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The given file is no kubeconfig.
    #[error("the kubeconfig {} cannot be used: {}", path.display(), cause::kubeconfig(error))]
    Kubeconfig {
        /// The file that was named.
        path: PathBuf,
        /// What is wrong with it.
        error: KubeconfigError,
    },
    /// Neither a kubeconfig nor a service account was found.
    #[error(
        "no cluster is configured: name a kubeconfig by --kubeconfig or KUBECONFIG ({}), or run in a Pod: {}",
        cause::kubeconfig(kubeconfig),
        cause::in_cluster(in_cluster)
    )]
    Nowhere {
        /// What is wrong with the kubeconfig at its usual place.
        kubeconfig: KubeconfigError,
        /// Why this is not a Pod.
        in_cluster: InClusterError,
    },
    /// The configuration does not make a client.
    #[error("the API server at {server} cannot be asked: {}", cause(error))]
    Client {
        /// URL of the API server.
        server: String,
        /// What is wrong with the configuration.
        error: kube::Error,
    },
    /// The API server refused to name the cluster.
    #[error(
        "the uid of namespace kube-system, which names the cluster, cannot be read from the API server at {server}: {}",
        cause(error)
    )]
    ClusterId {
        /// URL of the API server.
        server: String,
        /// What came of the request.
        error: kube::Error,
    },
    /// The API server did not answer.
    #[error("the API server at {server} did not answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// URL of the API server.
        server: String,
    },
    /// The Namespace came back without a uid.
    #[error("namespace kube-system has no uid: set --cluster-id")]
    NoUid,
}

/// A client, and where it leads.
#[derive(Clone)]
pub struct Connection {
    /// Sends requests.
    pub client: Client,
    /// URL of the API server.
    server: String,
}

/// A client by the given kubeconfig, or by KUBECONFIG, `~/.kube/config` or the Pod's service account.
///
/// It sets no timeout for answers, because it watches too; whoever sends another request sets one. Its requests are counted.
///
/// # Errors
///
/// Where no configuration is found or it does not make a client. Nothing is asked of the API server.
pub async fn connect(kubeconfig: Option<&Path>, metrics: Arc<Metrics>) -> Result<Connection, ClientError> {
    let config = configuration(kubeconfig).await?;
    let server = place(&config.cluster_url);
    let builder = match ClientBuilder::try_from(config) {
        Ok(builder) => builder,
        Err(error) => return Err(ClientError::Client { server, error }),
    };
    let measured = layer_fn(move |inner| Measured {
        inner,
        metrics: Arc::clone(&metrics),
    });
    Ok(Connection {
        client: builder.with_layer(&measured).build(),
        server,
    })
}

/// A URL without the credentials that may stand in it.
fn place(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("http");
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{}{port}", url.host().unwrap_or_default())
}

/// The given kubeconfig; else the one of KUBECONFIG or `~/.kube/config`; else the Pod's own.
async fn configuration(kubeconfig: Option<&Path>) -> Result<Config, ClientError> {
    let options = KubeConfigOptions::default();
    if let Some(path) = kubeconfig {
        let configuration = async { Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await };
        return configuration.await.map_err(|error| ClientError::Kubeconfig {
            path: path.to_owned(),
            error,
        });
    }
    match Config::from_kubeconfig(&options).await {
        Ok(configuration) => Ok(configuration),
        Err(kubeconfig) => Config::incluster().map_err(|in_cluster| ClientError::Nowhere { kubeconfig, in_cluster }),
    }
}

/// The uid of namespace `kube-system`: the same for as long as a cluster lives, another for each cluster.
///
/// # Errors
///
/// Where it cannot be read; worth another try.
pub async fn cluster_id(connection: &Connection) -> Result<String, ClientError> {
    let server = || connection.server.clone();
    let namespaces: Api<Namespace> = Api::all(connection.client.clone());
    let asked = timeout(REQUEST_TIMEOUT, namespaces.get_metadata("kube-system")).await;
    let namespace = asked
        .map_err(|_| ClientError::Timeout { server: server() })?
        .map_err(|error| ClientError::ClusterId {
            server: server(),
            error,
        })?;
    namespace.uid().ok_or(ClientError::NoUid)
}
