//! The three processes of a control plane and what they are started with.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::audit::AuditLog;
use super::certificates::Certificates;
use super::{Address, binaries};
use crate::process::Process;

/// Everything that a component's arguments are made of.
pub(super) struct Setting<'a> {
    pub(super) directory: &'a Path,
    pub(super) certificates: &'a Certificates,
    pub(super) address: &'a Address,
}

/// etcd, the only part with state.
pub(super) async fn etcd(setting: &Setting<'_>) -> Result<Process> {
    let Address { etcd, etcd_peer, .. } = setting.address;
    let (client, peer) = (
        format!("http://127.0.0.1:{}", etcd.number()),
        format!("http://127.0.0.1:{}", etcd_peer.number()),
    );
    let mut command = command("etcd").await?;
    command
        .arg("--name=harness")
        .arg(format!("--data-dir={}", setting.directory.join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=harness={peer}"))
        // Its data outlives a killed process all the same; it would not outlive a power cut.
        .arg("--unsafe-no-fsync")
        .arg("--log-level=warn");
    start(setting, "etcd", command)
}

/// The API server, with RBAC and the audit log.
pub(super) async fn api_server(setting: &Setting<'_>) -> Result<Process> {
    let Setting {
        directory,
        certificates,
        address,
    } = setting;
    let policy = directory.join("audit-policy.yaml");
    let audit_rules =
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";
    std::fs::write(&policy, audit_rules).with_context(|| format!("write {}", policy.display()))?;
    let mut command = command("kube-apiserver").await?;
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{}", address.etcd.number()))
        .arg(format!("--secure-port={}", address.api_server.number()))
        .args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
        ])
        .args([
            "--service-cluster-ip-range=10.96.0.0/24",
            "--authorization-mode=Node,RBAC",
        ])
        .arg(format!(
            "--client-ca-file={}",
            certificates.authority_certificate().display()
        ))
        .arg(format!(
            "--tls-cert-file={}",
            certificates.certificate("apiserver").display()
        ))
        .arg(format!(
            "--tls-private-key-file={}",
            certificates.key("apiserver").display()
        ))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!(
            "--service-account-signing-key-file={}",
            certificates.key("service-accounts").display()
        ))
        .arg(format!(
            "--service-account-key-file={}",
            certificates.service_account_public_key().display()
        ))
        .arg(format!(
            "--requestheader-client-ca-file={}",
            certificates.certificate("front-proxy-ca").display()
        ))
        .arg("--requestheader-allowed-names=front-proxy-client")
        .args([
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
        ])
        .arg("--requestheader-extra-headers-prefix=X-Remote-Extra-")
        .arg(format!(
            "--proxy-client-cert-file={}",
            certificates.certificate("front-proxy-client").display()
        ))
        .arg(format!(
            "--proxy-client-key-file={}",
            certificates.key("front-proxy-client").display()
        ))
        .arg(format!("--audit-policy-file={}", policy.display()))
        .arg(format!("--audit-log-path={}", AuditLog::of(directory).path().display()))
        // One file, never rotated: a test reads from its mark to the end. Blocking: answered means written.
        .args([
            "--audit-log-mode=blocking",
            "--audit-log-format=json",
            "--audit-log-maxsize=100000",
        ]);
    start(setting, "kube-apiserver", command)
}

/// The controllers: Jobs, garbage collection, namespaces, ServiceAccounts and the rest.
pub(super) async fn controller_manager(setting: &Setting<'_>, kubeconfig: &Path) -> Result<Process> {
    let Setting {
        certificates, address, ..
    } = setting;
    let mut command = command("kube-controller-manager").await?;
    command
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--authentication-kubeconfig={}", kubeconfig.display()))
        .arg(format!("--authorization-kubeconfig={}", kubeconfig.display()))
        .arg(format!("--secure-port={}", address.controller_manager.number()))
        .args([
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
        ])
        .arg(format!(
            "--root-ca-file={}",
            certificates.authority_certificate().display()
        ))
        .arg(format!(
            "--service-account-private-key-file={}",
            certificates.key("service-accounts").display()
        ))
        // It would evict every Pod of a node that was silent for five minutes: a paused test is no broken node.
        .arg("--controllers=*,-node-lifecycle-controller")
        // Its own limit of 20 requests a second is the slowest part of a test with many Jobs.
        .args(["--kube-api-qps=300", "--kube-api-burst=600"]);
    start(setting, "kube-controller-manager", command)
}

async fn command(name: &str) -> Result<Command> {
    let mut command = Process::command(binaries::find(name).await?);
    // Proxies and kubeconfigs of the caller's are none of the control plane's business.
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent");
    Ok(command)
}

fn start(setting: &Setting<'_>, name: &str, command: Command) -> Result<Process> {
    Process::start(name, command, &setting.directory.join(format!("{name}.log")))
}
