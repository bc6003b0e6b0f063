//! A real control plane: etcd, kube-apiserver and kube-controller-manager, each a process of its own on the loopback
//! address, with RBAC and an audit log. There is no scheduler and no kubelet: see the node agent.
//!
//! [`ControlPlane::shared`] is what most tests want; a test that harms the API server starts one of its own with
//! [`ControlPlane::start`]. Measured on two cores: nine seconds to its start, 550 MiB resident.

pub mod audit;
pub mod binaries;
mod certificates;
mod component;
pub mod kubeconfig;
mod tokens;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, GetParams};
use kube::core::Request;
use nix::sys::signal::Signal;
use tokio::sync::{Mutex, OnceCell};

use crate::guard;
use crate::ports::Port;
use crate::process::Process;
use crate::wait::until;
use audit::AuditLog;
use certificates::Certificates;
use component::Setting;
use kubeconfig::Identity;

/// How long a start may take before it counts as failed: six times of what a busy machine needs.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long the API server may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// The ports of one control plane, its own for as long as it lives.
#[derive(Debug)]
struct Address {
    etcd: Port,
    etcd_peer: Port,
    api_server: Port,
    controller_manager: Port,
}

/// A running control plane. Its processes end with this value, or with this process.
#[derive(Debug)]
pub struct ControlPlane {
    directory: PathBuf,
    certificates: Certificates,
    address: Address,
    etcd: Mutex<Process>,
    api_server: Mutex<Process>,
    /// Absent until the API server is ready.
    controller_manager: Mutex<Option<Process>>,
}

impl ControlPlane {
    /// The one that all tests of this process share; the first caller starts it.
    ///
    /// # Panics
    /// When it does not start: no test of this process can go on then.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        let start = async || Self::start(&guard::fresh_directory("cluster")?).await;
        SHARED
            .get_or_try_init(start)
            .await
            .unwrap_or_else(|error| panic!("the shared control plane did not start: {error:?}"))
    }

    /// Starts a control plane whose state lies in `directory`; what an earlier one left there is taken up again.
    ///
    /// Returns once the API server is ready and Pods can be made in the namespace `default`.
    ///
    /// # Errors
    /// When a component ends or is not ready in time; the end of its log is part of the message.
    pub async fn start(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let certificates = Certificates::prepare(&directory.join("certificates"))?;
        let address = Address {
            etcd: Port::free()?,
            etcd_peer: Port::free()?,
            api_server: Port::free()?,
            controller_manager: Port::free()?,
        };
        let server = server_url(&address);
        for (name, file) in [("admin", "admin"), ("controller-manager", "controller-manager")] {
            let identity = Identity::Certificate {
                certificate: certificates.certificate(name),
                key: certificates.key(name),
            };
            let path = directory.join(format!("{file}.kubeconfig"));
            kubeconfig::write(&path, &server, &certificates.authority_certificate(), &identity)?;
        }
        let setting = Setting {
            directory,
            certificates: &certificates,
            address: &address,
        };
        let etcd = component::etcd(&setting).await?;
        let api_server = component::api_server(&setting).await?;
        let control_plane = Self {
            directory: directory.to_owned(),
            certificates,
            address,
            etcd: Mutex::new(etcd),
            api_server: Mutex::new(api_server),
            controller_manager: Mutex::new(None),
        };
        control_plane.wait_for_api_server().await?;
        control_plane.ensure_controller_manager().await?;
        Ok(control_plane)
    }

    /// Waits until the API server says that it is ready, its own roles and bindings included.
    async fn wait_for_api_server(&self) -> Result<()> {
        let client = self.client().await?;
        let answered = until(START_LIMIT, async || {
            if let Err(ended) = self.check_processes().await {
                return Ok(Err(ended));
            }
            let request = Request::new("")
                .get("readyz", &GetParams::default())
                .map_err(|error| error.to_string())?;
            client
                .request_text(request)
                .await
                .map(Ok)
                .map_err(|error| error.to_string())
        });
        match answered.await {
            Ok(answer) => answer.map(drop),
            Err(seen) => anyhow::bail!("the API server is not ready: {seen}"),
        }
    }

    /// Starts the controller manager where it does not run, and waits until it works: until the namespace `default` has a
    /// ServiceAccount. It needs a ready API server (it ends itself without its rights), and ends itself when it cannot
    /// reach one for a while.
    async fn ensure_controller_manager(&self) -> Result<()> {
        let mut controller_manager = self.controller_manager.lock().await;
        if !controller_manager.as_mut().is_some_and(Process::is_running) {
            let Self {
                directory,
                certificates,
                address,
                ..
            } = self;
            let kubeconfig = directory.join("controller-manager.kubeconfig");
            let setting = Setting {
                directory,
                certificates,
                address,
            };
            *controller_manager = Some(component::controller_manager(&setting, &kubeconfig).await?);
        }
        drop(controller_manager);
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
        let made = until(START_LIMIT, async || match self.check_processes().await {
            Ok(()) => accounts.get("default").await.map(Ok),
            Err(ended) => Ok(Err(ended)),
        });
        match made.await {
            Ok(account) => account.map(drop),
            Err(seen) => anyhow::bail!("the controllers made no default ServiceAccount: {seen}"),
        }
    }

    /// Fails if one of the processes has ended; the end of its log is part of the message.
    async fn check_processes(&self) -> Result<()> {
        fn check(name: &str, process: &mut Process) -> Result<()> {
            let status = process.try_wait();
            ensure!(
                status.is_none(),
                "{name} has ended ({status:?}):\n{}",
                process.last_lines(20)
            );
            Ok(())
        }
        check("etcd", &mut *self.etcd.lock().await)?;
        check("the API server", &mut *self.api_server.lock().await)?;
        self.controller_manager
            .lock()
            .await
            .as_mut()
            .map_or(Ok(()), |process| check("the controller manager", process))
    }

    /// The folder of its state and its logs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The URL of the API server: `https://127.0.0.1:<port>`.
    pub fn server_url(&self) -> String {
        server_url(&self.address)
    }

    /// The port of the API server on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.api_server.number()
    }

    /// The certificate that the API server's is signed with (PEM).
    pub fn authority_certificate(&self) -> PathBuf {
        self.certificates.authority_certificate()
    }

    /// The kubeconfig of a user who may do everything.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    /// A client of a user who may do everything. It belongs to the runtime that it was made in, so each test makes its own.
    ///
    /// # Errors
    /// When the client cannot be made; nothing is asked of the server.
    pub async fn client(&self) -> Result<kube::Client> {
        kubeconfig::client(&self.admin_kubeconfig()).await
    }

    /// Writes a kubeconfig that speaks as any user with any groups (`system:authenticated` comes with them).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let (certificate, key) = (self.certificates.certificate("admin"), self.certificates.key("admin"));
        self.write_kubeconfig(&Identity::Impersonated {
            certificate,
            key,
            user,
            groups,
        })
    }

    fn write_kubeconfig(&self, identity: &Identity<'_>) -> Result<PathBuf> {
        let path = self
            .directory
            .join(format!("{}.kubeconfig", uuid::Uuid::new_v4().simple()));
        kubeconfig::write(&path, &self.server_url(), &self.authority_certificate(), identity)?;
        Ok(path)
    }

    /// The audit log of the API server.
    pub fn audit(&self) -> AuditLog {
        AuditLog::of(&self.directory)
    }

    /// kubectl as the administrator; add arguments and run it.
    ///
    /// # Errors
    /// When the control plane's programs cannot be built.
    pub async fn kubectl(&self) -> Result<tokio::process::Command> {
        self.tool("kubectl").await
    }

    /// helm as the administrator; add arguments and run it.
    ///
    /// # Errors
    /// When the control plane's programs cannot be built.
    pub async fn helm(&self) -> Result<tokio::process::Command> {
        self.tool("helm").await
    }

    async fn tool(&self, name: &str) -> Result<tokio::process::Command> {
        let mut command = tokio::process::Command::new(binaries::find(name).await?);
        // Caches and settings of the caller's stay out of the test, and the test's out of them.
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.directory.join("home"));
        command
            .env("KUBECONFIG", self.admin_kubeconfig())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Kills the API server (SIGKILL); etcd keeps all state.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill_api_server(&self) -> Result<()> {
        self.api_server.lock().await.kill().map(drop)
    }

    /// Ends the API server in good order (SIGTERM); etcd keeps all state.
    ///
    /// # Errors
    /// When it had ended before.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.api_server.lock().await.stop(STOP_GRACE).await.map(drop)
    }

    /// Starts the API server again, on the same state and the same port; returns once it is ready.
    ///
    /// # Errors
    /// When it runs already, or is not ready in time.
    pub async fn start_api_server(&self) -> Result<()> {
        let mut api_server = self.api_server.lock().await;
        ensure!(!api_server.is_running(), "the API server runs already");
        let Self {
            directory,
            certificates,
            address,
            ..
        } = self;
        *api_server = component::api_server(&Setting {
            directory,
            certificates,
            address,
        })
        .await?;
        drop(api_server);
        self.wait_for_api_server().await?;
        self.ensure_controller_manager().await
    }

    /// Halts the controller manager (SIGSTOP): what is deleted stays until somebody else deletes it.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn pause_controller_manager(&self) -> Result<()> {
        self.signal_controller_manager(Signal::SIGSTOP).await
    }

    /// Lets a halted controller manager go on (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub async fn resume_controller_manager(&self) -> Result<()> {
        self.signal_controller_manager(Signal::SIGCONT).await
    }

    async fn signal_controller_manager(&self, signal: Signal) -> Result<()> {
        let mut controller_manager = self.controller_manager.lock().await;
        let process = controller_manager.as_mut().context("there is no controller manager")?;
        process.signal(signal)
    }

    /// Halts the API server (SIGSTOP): connections stay open, nothing is answered.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn pause_api_server(&self) -> Result<()> {
        self.api_server.lock().await.signal(Signal::SIGSTOP)
    }

    /// Lets a halted API server go on (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub async fn resume_api_server(&self) -> Result<()> {
        self.api_server.lock().await.signal(Signal::SIGCONT)
    }
}

fn server_url(address: &Address) -> String {
    format!("https://127.0.0.1:{}", address.api_server.number())
}
