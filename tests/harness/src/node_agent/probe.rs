//! The probes of a container, asked as a kubelet asks them: startup first, then readiness and liveness.
//!
//! `httpGet` without headers and without TLS, and `tcpSocket`; a container with another kind is not started.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::http;

/// What the probes say of a running container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Health {
    /// The startup probe has succeeded, or there is none.
    pub(super) started: bool,
    /// The readiness probe holds, or there is none.
    pub(super) ready: bool,
    /// The startup or the liveness probe has failed: the container is to be ended.
    pub(super) failed: bool,
}

impl Health {
    /// That of a container without probes.
    pub(super) const GOOD: Self = Self {
        started: true,
        ready: true,
        failed: false,
    };
}

/// The probes of one running container; they end with this value.
pub(super) struct Probing {
    health: watch::Receiver<Health>,
    task: JoinHandle<()>,
}

impl Probing {
    /// Begins to ask.
    pub(super) fn start(checks: Checks) -> Self {
        let health = Health {
            started: checks.startup.is_none(),
            ready: checks.startup.is_none() && checks.readiness.is_none(),
            failed: false,
        };
        let (sender, receiver) = watch::channel(health);
        Self {
            health: receiver,
            task: tokio::spawn(checks.follow(sender)),
        }
    }

    /// What they say now.
    pub(super) fn health(&self) -> Health {
        *self.health.borrow()
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The probes of one container, understood.
#[derive(Clone, Debug)]
pub(super) struct Checks {
    startup: Option<Check>,
    readiness: Option<Check>,
    liveness: Option<Check>,
}

impl Checks {
    /// Those of `container`, whose Pod listens on `address`. An error names a probe that is not known here.
    pub(super) fn of(container: &Container, address: Ipv4Addr) -> Result<Self> {
        let check = |name: &str, probe: &Option<Probe>| {
            let understood = probe.as_ref().map(|probe| Check::of(probe, container, address));
            understood.transpose().with_context(|| format!("the {name} probe"))
        };
        Ok(Self {
            startup: check("startup", &container.startup_probe)?,
            readiness: check("readiness", &container.readiness_probe)?,
            liveness: check("liveness", &container.liveness_probe)?,
        })
    }

    async fn follow(self, health: watch::Sender<Health>) {
        if let Some(startup) = self.startup {
            let passed = startup.until(|_| true).await;
            health.send_modify(|health| {
                health.started = passed;
                health.ready = passed && self.readiness.is_none();
                health.failed = !passed;
            });
            if !passed {
                return;
            }
        }
        let readiness = async {
            if let Some(check) = self.readiness {
                let tell = |ready| {
                    health.send_if_modified(|health| std::mem::replace(&mut health.ready, ready) != ready);
                    false
                };
                check.until(tell).await;
            }
        };
        let liveness = async {
            if let Some(check) = self.liveness {
                check.until(|alive| !alive).await;
                health.send_modify(|health| health.failed = true);
            }
        };
        tokio::join!(readiness, liveness);
    }
}

/// One probe.
#[derive(Clone, Debug)]
struct Check {
    target: Target,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

/// What is asked.
#[derive(Clone, Debug)]
enum Target {
    Http { address: (Ipv4Addr, u16), path: String },
    Tcp { address: (Ipv4Addr, u16) },
}

impl Check {
    fn of(probe: &Probe, container: &Container, address: Ipv4Addr) -> Result<Self> {
        let target = if let Some(http) = &probe.http_get {
            let plain = http.scheme.as_deref().is_none_or(|scheme| scheme == "HTTP");
            let bare = http.host.is_none() && http.http_headers.as_deref().unwrap_or_default().is_empty();
            ensure!(plain && bare, "its scheme, host or headers are not known to this node");
            Target::Http {
                address: (address, port(&http.port, container)?),
                path: http.path.clone().unwrap_or_else(|| "/".to_owned()),
            }
        } else if let Some(tcp) = &probe.tcp_socket {
            ensure!(tcp.host.is_none(), "its host is not known to this node");
            Target::Tcp {
                address: (address, port(&tcp.port, container)?),
            }
        } else {
            bail!("its kind is not known to this node")
        };
        // The API server has put its defaults in; they stand here for a Pod that it has not seen.
        let number =
            |value: Option<i32>, default: u32| value.and_then(|value| value.try_into().ok()).unwrap_or(default);
        let seconds = |value, default| Duration::from_secs(number(value, default).into());
        Ok(Self {
            target,
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: number(probe.success_threshold, 1),
            failures: number(probe.failure_threshold, 3),
        })
    }

    /// Asks on and on, and hands each verdict to `is_enough`; ends with the one that is.
    async fn until(&self, mut is_enough: impl FnMut(bool) -> bool) -> bool {
        sleep(self.delay).await;
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut streak = Streak::default();
        loop {
            ticks.tick().await;
            let success = timeout(self.timeout, self.target.ask()).await.unwrap_or(false);
            if let Some(verdict) = streak.take(success, self.successes, self.failures)
                && is_enough(verdict)
            {
                return verdict;
            }
        }
    }
}

impl Target {
    /// Whether it succeeds.
    async fn ask(&self) -> bool {
        match self {
            Self::Http { address, path } => http::get(*address, path)
                .await
                .is_ok_and(|answer| (200..400).contains(&answer.status)),
            Self::Tcp { address } => TcpStream::connect(address).await.is_ok(),
        }
    }
}

/// Equal answers in a row.
#[derive(Debug, Default)]
struct Streak {
    last: Option<bool>,
    length: u32,
}

impl Streak {
    /// Takes an answer; a verdict where there were enough of its kind in a row.
    fn take(&mut self, success: bool, successes: u32, failures: u32) -> Option<bool> {
        self.length = if self.last == Some(success) { self.length + 1 } else { 1 };
        self.last = Some(success);
        let enough = if success { successes } else { failures };
        (self.length >= enough).then_some(success)
    }
}

/// A port by its number or by its name among the container's.
fn port(port: &IntOrString, container: &Container) -> Result<u16> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_ref() == Some(name))
            .map(|port| port.container_port),
    };
    let number = number.with_context(|| format!("no port of the container is named {port:?}"))?;
    number.try_into().with_context(|| format!("{number} is no port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_enough_equal_answers_in_a_row() {
        let mut streak = Streak::default();
        let answers = [true, false, false, true, false, false, false, true];
        let verdicts = answers.map(|answer| streak.take(answer, 1, 3));
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(verdicts, [yes, None, None, yes, None, None, no, yes]);
    }

    #[test]
    fn a_port_is_found_by_its_name() {
        let container: Container = serde_json::from_value(
            serde_json::json!({ "name": "main", "ports": [{ "name": "http", "containerPort": 8080 }] }),
        )
        .unwrap();
        let found = |name: IntOrString| port(&name, &container).ok();
        assert_eq!(found(IntOrString::String("http".into())), Some(8080));
        assert_eq!(found(IntOrString::Int(9)), Some(9));
        assert_eq!(found(IntOrString::String("other".into())), None);
    }
}
