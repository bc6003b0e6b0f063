//! The client's errors in words for people. The client's own text shows structures of its source code, and what a kubeconfig or
//! a plugin for credentials holds.

use std::error::Error as StdError;

use kube::client::AuthError;
use kube::config::{InClusterError, KubeconfigError, LoadDataError};

/// What the API server, the way to it or the client says, in one sentence; the only way in which the client's errors are
/// printed.
pub fn cause(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => {
            format!(
                "it answers {} and not as an API server does: look at its address",
                status.code
            )
        }
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::Service(error) => transport(error.as_ref()),
        kube::Error::HyperError(error) => transport(error),
        kube::Error::SerdeError(error) => format!("its answer is not that of an API server: {error}"),
        kube::Error::InferKubeconfig(error) => kubeconfig(error),
        kube::Error::Auth(error) => credentials(error),
        kube::Error::ProxyProtocolUnsupported { proxy_url } | kube::Error::ProxyProtocolDisabled { proxy_url, .. } => {
            format!(
                "a proxy of the kind {} cannot be used: take proxy-url and the variables HTTPS_PROXY and HTTP_PROXY away",
                proxy_url.scheme_str().unwrap_or("unknown")
            )
        }
        error => error.to_string(),
    }
}

/// What has kept a request from being sent or answered: the last cause, which the others only wrap.
fn transport(error: &(dyn StdError + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<kube::Error>() {
        return cause(error);
    }
    if let Some(error) = error.downcast_ref::<AuthError>() {
        return credentials(error);
    }
    match error.source() {
        Some(source) => transport(source),
        None => error.to_string(),
    }
}

/// What is wrong with a kubeconfig.
pub(super) fn kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => "it names no current-context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("its current-context, {name}, is none of its contexts"),
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the cluster of its current-context, {name}, is none of its clusters")
        }
        KubeconfigError::FindPath => "there is no home folder to look for .kube/config in".to_owned(),
        KubeconfigError::ReadConfig(error, path) => format!("{} cannot be read: {error}", path.display()),
        // With a snippet it would show what stands around the place, which may be a token.
        KubeconfigError::Parse(error) => format!("it is no YAML of a kubeconfig: {}", error.without_snippet()),
        KubeconfigError::MissingClusterUrl => "its cluster has no server".to_owned(),
        KubeconfigError::ParseClusterUrl(error) => format!("the server of its cluster is no URL: {error}"),
        KubeconfigError::ParseProxyUrl(error) => format!("the proxy-url of its cluster is no URL: {error}"),
        KubeconfigError::LoadCertificateAuthority(error) => data("certificate-authority", error),
        KubeconfigError::LoadClientCertificate(error) => data("client-certificate", error),
        KubeconfigError::LoadClientKey(error) => data("client-key", error),
        KubeconfigError::ParseCertificates(error) => format!("its certificate-authority is no PEM: {error}"),
        error => error.to_string(),
    }
}

fn data(field: &str, error: &LoadDataError) -> String {
    match error {
        LoadDataError::DecodeBase64(error) => format!("its {field}-data is no base64: {error}"),
        LoadDataError::ReadFile(error, path) => {
            format!("{}, which {field} names, cannot be read: {error}", path.display())
        }
        LoadDataError::NoBase64DataOrFile => format!("its {field} is missing"),
    }
}

/// Why there are no credentials; nothing that a plugin has printed.
fn credentials(error: &AuthError) -> String {
    let why = match error {
        AuthError::ReadTokenFile(error, path) => {
            format!("{}, which tokenFile names, cannot be read: {error}", path.display())
        }
        AuthError::AuthExecStart(error) => format!("the command of its user's exec cannot be started: {error}"),
        AuthError::AuthExecRun { out, .. } => format!("the command of its user's exec has failed: {}", out.status),
        AuthError::AuthExecParse(error) => format!(
            "the command of its user's exec does not print an ExecCredential: {}",
            error.without_snippet()
        ),
        error => error.to_string(),
    };
    format!("there are no credentials for the API server: {why}")
}

/// Why this is not taken for a Pod.
pub(super) fn in_cluster(error: &InClusterError) -> String {
    match error {
        InClusterError::ReadEnvironmentVariable(_) => {
            "this is no Pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set)".to_owned()
        }
        InClusterError::ReadDefaultNamespace(error) => {
            format!("the Pod has no token of a ServiceAccount (automountServiceAccountToken): {error}")
        }
        InClusterError::ReadCertificateBundle(error) => {
            format!("the Pod has no certificate of the API server's authority (automountServiceAccountToken): {error}")
        }
        error => error.to_string(),
    }
}
