//! Kubeconfigs: files that the operator, kubectl and helm read, and clients made from them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

/// Who a kubeconfig speaks as.
pub(super) enum Identity<'a> {
    /// The holder of a client certificate.
    Certificate { certificate: PathBuf, key: PathBuf },
    /// Any user and groups: the administrator speaks in their place, so no certificate per user is needed, rights are
    /// theirs, and the audit log names them.
    Impersonated {
        certificate: PathBuf,
        key: PathBuf,
        user: &'a str,
        groups: &'a [&'a str],
    },
    /// The holder of a token.
    Token(&'a str),
}

/// Writes a kubeconfig with one cluster, one user and one context.
pub(super) fn write(path: &Path, server: &str, authority: &Path, identity: &Identity<'_>) -> Result<()> {
    let user: Value = match identity {
        Identity::Certificate { certificate, key } => {
            json!({ "client-certificate": certificate, "client-key": key })
        }
        Identity::Impersonated {
            certificate,
            key,
            user,
            groups,
        } => {
            json!({ "client-certificate": certificate, "client-key": key, "as": user, "as-groups": groups })
        }
        Identity::Token(token) => json!({ "token": token }),
    };
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "harness", "cluster": { "server": server, "certificate-authority": authority } }],
        "users": [{ "name": "harness", "user": user }],
        "contexts": [{ "name": "harness", "context": { "cluster": "harness", "user": "harness" } }],
        "current-context": "harness",
    });
    // JSON is YAML, so every reader of kubeconfigs takes it.
    let text = serde_json::to_string_pretty(&document)?;
    // Written beside and renamed: a reader never sees half of it.
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text).with_context(|| format!("write {}", unfinished.display()))?;
    std::fs::rename(&unfinished, path).with_context(|| format!("write {}", path.display()))
}

/// A client that speaks as the kubeconfig says. It belongs to the runtime that it was made in.
///
/// # Errors
/// When the file cannot be read or names what is not there.
pub async fn client(path: &Path) -> Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("use {}", path.display()))?;
    // Far above what a loaded machine needs, so that a hanging request fails its test instead of the whole run.
    config.read_timeout = Some(Duration::from_secs(60));
    Ok(kube::Client::try_from(config)?)
}
